"""Client of a fork server (`tests.fork_server`); run as a script, `cifartui` whose workers and runners are forked."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[1])  # in the place of the folder of this file

from engine.shared import child_process
from tests import forks
from tests.waiting import PATIENCE_S

LARGEST_ORDER = 1 << 18
"""Bytes."""
ADDRESS = "PYTEST_FORK_SERVER"
"""The variable that tells the script the name of the server's socket."""


class ForkServer:
    """A process that has imported torch and forks on demand, and the name of the socket at which it listens."""

    def __init__(self, address: str) -> None:
        self.variables = {ADDRESS: address}
        self._address = address

    @staticmethod
    def command(*arguments: str) -> list[str]:
        """Return a command line of `cifartui` that starts forked workers if `variables` are among its own."""
        return [sys.executable, __file__, *arguments]

    def fork(self, order: Mapping[str, object], descriptors: Sequence[int] = ()) -> int:
        """Have an order carried out, see `tests.fork_server.serve`; return the process id."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
            connection.settimeout(PATIENCE_S)
            connection.connect(f"\0{self._address}")
            socket.send_fds(connection, [json.dumps(order).encode()], descriptors)
            return int(connection.recv(LARGEST_ORDER))

    def program(self, numbers: Sequence[int], descriptors: Sequence[int], **order: object) -> int:
        """Have a program run with these descriptors under these numbers; return the process id."""
        blocked = [int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, ())]
        return self.fork({"numbers": numbers, "blocked": blocked, "has_session": False, **order}, descriptors)

    def popen(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: str,
        pass_fds: Sequence[int] = (),
        **options: Any,
    ) -> Any:
        """Start one of our modules as subprocess.Popen does; what is returned has only the process id.

        A new interpreter has what cannot be forked, or is read from or written to.
        """
        streams = [options.get(name) for name in ("stdin", "stdout", "stderr")]
        is_file = all(isinstance(stream, int) and stream != subprocess.PIPE for stream in streams)
        if not is_file or not forks.is_forked(command):
            return subprocess.Popen(command, env=env, cwd=cwd, pass_fds=pass_fds, **options)
        with Path(os.devnull).open() as nothing:
            given = [nothing.fileno() if stream == subprocess.DEVNULL else stream for stream in streams]
            pid = self.program(
                (0, 1, 2, *pass_fds), [*given, *pass_fds], command=command, environment=dict(env),
                working_directory=cwd, has_session=options["start_new_session"],
            )  # fmt: skip
        return SimpleNamespace(pid=pid)


def main() -> None:
    """Be `python -m cifartui`, with the workers and runners that it starts forked by the server that a variable names.

    They are what they would be without it, but for the seconds in which a new interpreter imports torch.
    """
    server = ForkServer(os.environ.pop(ADDRESS))
    child_process.subprocess = SimpleNamespace(Popen=server.popen)  # type: ignore[attr-defined]

    import cifartui

    cifartui.main()


if __name__ == "__main__":
    main()
