"""Other hosts: the form of the lines, the relay on the far side, and the connection to it on the near side."""
