"""The user's own ssh: its command line for the relay of a host, and sentences for the ways in which it ends.

Their configuration, agent, jump hosts and ControlMaster hold. Nothing is asked: a host that wants a password or whose
key is not known is a sentence.
"""

import re
import shlex
from collections.abc import Mapping, Sequence

from msgspec import Struct

from presets.errors import CifartuiError
from presets.problems import printable
from tui.display import HostEntry

CONNECTS_WITHIN_S = 10
_OPTIONS = (
    "-T", "-a", "-x", "-oBatchMode=yes", f"-oConnectTimeout={CONNECTS_WITHIN_S}", "-oServerAliveInterval=10",
    "-oServerAliveCountMax=3", "-oClearAllForwardings=yes", "-oRemoteCommand=none", "-oPermitLocalCommand=no",
)  # fmt: skip
"""Of a connection that nobody sees: no terminal, no forwarding, nothing asked, noticed when it is dead."""
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
_DESTINATION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@:%\[\]-]{0,254}")


class Host(Struct, frozen=True):
    """A host by its name here, and the program that speaks with its relay."""

    name: str
    arguments: tuple[str, ...]


def check_host_name(name: str) -> None:
    """Raise CifartuiError if a name is none that can stand before a run: gpu1, gpu-2.example.org."""
    if not _NAME.fullmatch(name):
        raise CifartuiError(
            f'"{printable(name, 100)}" is no name of a host: letters, digits, dots, dashes and underscores, and no '
            "dash first; give it a short name in the configuration: [hosts.gpu1] ssh = …"
        )


def problem_of(entry: HostEntry, name: str) -> str:
    """Return what is wrong with a host of the configuration, as a sentence; nothing if it can be used."""
    try:
        check_host_name(name)
    except CifartuiError as error:
        return str(error)
    if entry.ssh and not _DESTINATION.fullmatch(entry.ssh):
        return (
            f'hosts.{name}.ssh cannot be "{printable(entry.ssh, 100)}"; name a destination as ssh takes it, such as '
            "gpu1 or me@gpu1.example.org."
        )
    if not entry.command.strip():
        return f"hosts.{name}.command is empty; name the command there, such as ~/venv/bin/cifartui, or leave it out."
    return ""


def ssh_host(name: str, entry: HostEntry) -> Host:
    """Return a host that is reached by ssh.

    Raises:
        CifartuiError: its name or destination cannot be used.
    """
    if problem := problem_of(entry, name):
        raise CifartuiError(problem)
    command = f"{entry.command} relay"
    for option, value in (("--runs-dir", entry.runs_dir), ("--data-dir", entry.data_dir)):
        command += f" {option} {_quoted(value)}" if value else ""
    return Host(name, ("ssh", *_OPTIONS, "--", entry.ssh or name, command))


def _quoted(path: str) -> str:
    """Return a path as one word for a shell, which may still replace a leading ~/ by the home there."""
    return f"~/{shlex.quote(path[2:])}" if path.startswith("~/") and path[2:] else shlex.quote(path)


def chosen_hosts(named: str, entries: Mapping[str, HostEntry]) -> list[Host]:
    """Return the hosts that a list of names such as "gpu1,gpu2" means; "all" those of the configuration.

    Raises:
        CifartuiError: a name cannot be used, or "all" means none.
    """
    names = [name.strip() for name in named.split(",") if name.strip()]
    if names == ["all"]:
        names = list(entries)
    if not names:
        raise CifartuiError("No host is named: write --hosts gpu1,gpu2, or [hosts.gpu1] into the configuration.")
    return [ssh_host(name, entries.get(name, HostEntry())) for name in dict.fromkeys(names)]


_COMPLAINTS: Sequence[tuple[str, str]] = (
    ("Host key verification failed", "its key is not known here; connect once by hand: ssh {host}"),
    ("REMOTE HOST IDENTIFICATION HAS CHANGED", "its key has changed; find out why, then: ssh {host}"),
    ("Permission denied", "it refused the key (no password is asked here); see that this works: ssh {host} true"),
    ("Too many authentication failures", "it refused the keys; see that this works: ssh {host} true"),
    ("Could not resolve hostname", "there is no host of that name; name it in ~/.ssh/config or [hosts.{name}] ssh"),
    ("Connection refused", "it refused the connection; is its ssh server running?"),
    ("No route to host", "there is no way to it from here (No route to host)"),
    ("Network is unreachable", "there is no way to it from here (Network is unreachable)"),
    ("timed out", "it did not answer; is it up?"),
)
_NOT_FOUND = 127
_SSH_FAILED = 255


def why_ended(host: Host, exit_code: int | None, complaint: str) -> str:
    """Return why the program that speaks with a relay ended before the relay had said anything, as a clause.

    Args:
        host: the host.
        exit_code: of the program; None if it was ended here.
        complaint: the end of its standard error, whoever wrote it.
    """
    destination = host.arguments[-2] if host.arguments[0] == "ssh" else host.name
    if exit_code == _SSH_FAILED:
        for words, clause in _COMPLAINTS:
            if words.lower() in complaint.lower():
                return clause.format(host=destination, name=host.name)
    if exit_code == _NOT_FOUND or "command not found" in complaint:
        return (
            f"there is no cifartui where its shell looks; install it there, or name it in the configuration: "
            f'[hosts.{host.name}] command = "~/venv/bin/cifartui"'
        )
    if 'no command "relay"' in complaint or "No such command 'relay'" in complaint:
        return "its cifartui is too old to be asked from here; install this version there"
    last = complaint.strip().splitlines()[-1:] or ["it said nothing"]
    return f"its relay ended ({printable(last[0], 200)})"
