"""Settings of what goes on beside a worker: messages about its run, and copies of its curves. No files, no network.

They come from the configuration of whoever starts a process, and are handed on in its environment. Nothing in a run
directory or a queue adds to them or changes them.
"""

import re
from typing import Annotated, Literal, TypeAlias, get_args

import msgspec
from msgspec import Meta, Struct

from presets.problems import printable

Kind: TypeAlias = Literal["end", "failure", "stall", "nan", "plateau", "lost"]
LogService: TypeAlias = Literal["tensorboard", "wandb", "mlflow", "trackio"]
LOG_SERVICES: tuple[LogService, ...] = get_args(LogService)
VARIABLE = "CIFARTUI_NOTIFY"
"""The variable of a process that holds the settings."""
KINDS: tuple[Kind, ...] = get_args(Kind)
_MOST_TARGETS = 20
_TOPIC = re.compile(r"https?://(?:[^\s/?#@]*@)?([^\s/?#@]+)/(?:[^\s/?#]+/)*[-_A-Za-z0-9]{1,64}", re.ASCII)
_SERVICE = re.compile(r"([a-z][a-z0-9+.-]*)://\S+", re.ASCII | re.IGNORECASE)
_Address: TypeAlias = Annotated[str, Meta(max_length=2000)]


class Target(Struct, frozen=True):
    """One of those who are told."""

    by: Literal["command", "ntfy", "apprise"]
    address: str
    """A shell command, or a URL. It may hold a password, and is shown to nobody."""
    name: str
    """The same for a log: without what may be secret in it."""


class NotifyTable(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The table `[notify]` of the configuration. Explained in docs/notify.md."""

    on: tuple[Kind, ...] = KINDS
    command: str = ""
    ntfy: tuple[_Address, ...] = ()
    """URLs of topics, as https://ntfy.sh/TOPIC."""
    apprise: tuple[_Address, ...] = ()
    """URLs as Apprise has them."""

    @property
    def targets(self) -> tuple[Target, ...]:
        """All targets, in order; empty if nobody is told."""
        command = [Target("command", self.command, "the notify command")] if self.command else []
        ntfy = [Target("ntfy", url, f"ntfy {number} ({_part(_TOPIC, url)})") for number, url in enumerate(self.ntfy, 1)]
        apprise = [
            Target("apprise", url, f"apprise {number} ({_part(_SERVICE, url)})")
            for number, url in enumerate(self.apprise, 1)
        ]
        return (*command, *ntfy, *apprise)


class Notify(NotifyTable, frozen=True, kw_only=True, omit_defaults=True):
    """The table, and where every run is logged: all that goes on beside a worker."""

    log: tuple[LogService, ...] = ()
    """Services (`engine.trackers`)."""


NOBODY = Notify()
"""Nobody is told, and nothing is logged."""


def of_command(command: str) -> Notify:
    """Return what `notify = "COMMAND"` means, which was all before there was a table: the command, at a run's end."""
    return Notify(on=("end", "failure"), command=command)


def problem(notify: NotifyTable) -> str:
    """Return what is wrong with the addresses, as a sentence that names the key; empty if nothing is."""
    if len(notify.targets) > _MOST_TARGETS:
        return f"notify has {len(notify.targets)} targets; name {_MOST_TARGETS} at most."
    for number, url in enumerate(notify.ntfy):
        if not _TOPIC.fullmatch(url):
            return (
                f"notify.ntfy[{number}] must be the URL of a topic such as https://ntfy.sh/my-topic, "
                f'not "{printable(url, longest=40)}".'
            )
    for number, url in enumerate(notify.apprise):
        if not _SERVICE.fullmatch(url):
            return (
                f"notify.apprise[{number}] must be a URL that Apprise knows, such as mailto://…, "
                f'not "{printable(url, longest=40)}".'
            )
    return ""


def encoded(notify: Notify) -> str:
    """Return the settings as a variable of a process holds them; empty if nobody is told and nothing is logged."""
    return msgspec.json.encode(notify).decode() if notify.targets or notify.log else ""


def decoded(text: str) -> Notify:
    """Return the settings that a variable holds; NOBODY if it is empty, or was not written by `encoded`."""
    try:
        return msgspec.json.decode(text, type=Notify) if text else NOBODY
    except msgspec.MsgspecError:
        return NOBODY


def _part(pattern: "re.Pattern[str]", url: str) -> str:
    """Return the host or the scheme of a URL: what is no secret in it."""
    found = pattern.fullmatch(url)
    return found[1] if found else "?"
