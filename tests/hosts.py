"""Other hosts for tests: folders of this machine, reached by a plain child, by a pretended ssh or by a real sshd."""

import getpass
import os
import shutil
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from engine.shared import child_process
from tests.waiting import wait_for
from tui.hosts.connection import Connection
from tui.hosts.ssh import Host

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


def relay_command(runs_dir: Path) -> list[str]:
    """Return the command line of the relay of a pretended host, whose runs are in a folder."""
    return child_process.command("cifartui.__main__", ["relay", "--runs-dir", str(runs_dir)])


def plain_host(name: str, runs_dir: Path) -> Host:
    return Host(name, tuple(relay_command(runs_dir)))


def script_host(name: str, code: str, *arguments: str) -> Host:
    """Return a host whose relay is a Python program."""
    return Host(name, (sys.executable, "-c", code, *arguments))


@contextmanager
def line_to(host: Host, **options: Any) -> Iterator[Connection]:
    """A connection that tries again soon."""
    connection = Connection(host, **{"pauses": (0.05, 0.2), **options}).open()
    try:
        yield connection
    finally:
        connection.close()


@contextmanager
def followed(connection: Connection, run_id: str) -> Iterator[list[Any]]:
    """The messages of a run that is followed, in a thread as the Monitor's."""
    from tui.hosts.remote_run import RemoteRun

    posted: list[Any] = []
    stop = threading.Event()
    run = RemoteRun(connection, run_id)
    thread = threading.Thread(target=run.follow, args=(posted.append, stop))
    thread.start()
    try:
        yield posted
    finally:
        stop.set()
        thread.join()


def executable(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def pretended_ssh(folder: Path, hosts: Path) -> str:
    """Return a PATH on which ssh runs commands here; the runs of a host are in a folder of its name in `hosts`."""
    executable(
        folder / "ssh",
        '#!/bin/sh\nwhile [ "$1" != -- ]; do shift; done\nhost=$2; shift 2\n'
        f'case $host in\n  nowhere*) echo "ssh: Could not resolve hostname $host" >&2; exit 255;;\nesac\n'
        f'CIFARTUI_RUNS="{hosts}/$host" exec sh -c "$*"\n',
    )
    executable(folder / "cifartui", f'#!/bin/sh\nexec {" ".join(child_process.command("cifartui.__main__"))} "$@"\n')
    return f"{folder}:{os.environ['PATH']}"


class Sshd:
    """A real sshd on the loopback, with keys, a port and a configuration of its own."""

    def __init__(self, folder: Path) -> None:
        assert SSHD is not None
        self.folder, self.port = folder, _free_port()
        folder.mkdir(mode=0o700)
        for name in ("host_key", "own_key"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
        shutil.copy(folder / "own_key.pub", folder / "authorized")
        (folder / "sshd_config").write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {folder}/host_key\n"
            f"AuthorizedKeysFile {folder}/authorized\nStrictModes no\nUsePAM no\nPidFile none\n"
            "PasswordAuthentication no\nKbdInteractiveAuthentication no\n"
        )
        with suppress(OSError):  # where nothing has started sshd before
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        self.log = (folder / "log").open("wb")
        self.process = subprocess.Popen(
            [SSHD, "-D", "-e", "-f", folder / "sshd_config"], stdin=subprocess.DEVNULL, stderr=self.log
        )
        self.knows_host(known=True)

    def knows_host(self, *, known: bool) -> None:
        """Write the user's configuration, in which the host's key is known or not."""
        key = (self.folder / "host_key.pub").read_text()
        (self.folder / "known").write_text(f"[127.0.0.1]:{self.port} {key}" if known else "")
        (self.folder / "config").write_text(
            f"Host gpu*\n  HostName 127.0.0.1\n  Port {self.port}\n  User {getpass.getuser()}\n"
            f"  IdentityFile {self.folder}/own_key\n  IdentitiesOnly yes\n  UserKnownHostsFile {self.folder}/known\n"
            "  GlobalKnownHostsFile none\n"
        )

    def path(self, hosts: Path) -> str:
        """Return a PATH whose ssh has that configuration, and a folder with the runs of each host behind sshd."""
        ssh = shutil.which("ssh")
        executable(self.folder / "bin" / "ssh", f'#!/bin/sh\nexec {ssh} -F {self.folder}/config "$@"\n')
        return f"{self.folder}/bin:{os.environ['PATH']}"

    def answers(self) -> bool:
        if self.process.poll() is not None:
            return False
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", self.port)) == 0

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.log.close()


def _free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port: int = server.getsockname()[1]
        return port


def wait_until(condition: Callable[[], Any], what: str) -> Any:
    return wait_for(condition, what, 60.0)
