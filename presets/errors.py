"""Error for users: one plain sentence. Every layer raises it; only the command line prints it."""


class CifartuiError(Exception):
    """Something the user can put right.

    The message is one plain sentence (two at most): what is wrong, where, and what to do next.
    """
