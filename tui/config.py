"""User configuration, `config.toml`: its fields, its path, reading and checking it. No Textual."""

import os
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct, field

from engine import files
from engine.runs.notify_settings import LogService, Notify, NotifyTable, of_command, problem
from presets.config_layers import read_table
from presets.errors import CifartuiError
from presets.problems import explain, printable, shown
from tui.display import HostEntry, Theme

_VARIABLE = "CIFARTUI_CONFIG"


class Config(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Fields of the file; "auto" leaves a choice to the terminal. Explained in docs/terminals.md."""

    theme: Theme = "dark"
    plots: Literal["auto", "braille", "blocks", "ascii"] = "auto"
    colors: Literal["auto", "truecolor", "256", "16", "none"] = "auto"
    low_bandwidth: bool = False
    bell: bool = True
    notify: NotifyTable = NotifyTable()
    log: tuple[LogService, ...] = ()
    keys: dict[str, str] = field(default_factory=dict)
    hosts: dict[str, HostEntry] = field(default_factory=dict)

    @property
    def beside(self) -> Notify:
        """All that goes on beside the worker of a run: who is told of it, and where it is logged."""
        return Notify(**msgspec.structs.asdict(self.notify), log=self.log)


def config_path() -> Path:
    """Return the path of the configuration file, which need not exist."""
    named = os.environ.get(_VARIABLE)
    if named:
        return files.expanded(named)
    import platformdirs

    return platformdirs.user_config_path("cifartui") / "config.toml"


def read_config() -> Config:
    """Return the user's configuration; the defaults if there is no file.

    Raises:
        CifartuiError: the file cannot be read, or has an unknown field or a wrong value.
    """
    path = config_path()
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        if os.environ.get(_VARIABLE):
            raise CifartuiError(f"{printable(str(path))} does not exist; write it, or unset {_VARIABLE}.") from None
        return Config()
    except (OSError, ValueError):  # `read_table` says why
        pass
    table = read_table(path, f"a configuration ({_VARIABLE})" if os.environ.get(_VARIABLE) else "a configuration")
    _check_key_texts(table, path)
    if isinstance(command := table.get("notify"), str):
        table["notify"] = msgspec.to_builtins(of_command(command))
    elif isinstance(command, dict) and "log" in command:
        raise CifartuiError(
            f'{printable(str(path))}: log is a key of its own: put log = ["tensorboard"] above [notify].'
        )
    _check_hosts(table.get("hosts"), path)
    try:
        config = msgspec.convert(table, Config)
    except msgspec.ValidationError as error:
        fault = explain(error, table, Config, "the configuration")
        raise CifartuiError(f"{printable(str(path))}: {fault.text}") from None
    if wrong := problem(config.notify):
        raise CifartuiError(f"{printable(str(path))}: {wrong}")
    if config.hosts:
        from tui.hosts.ssh import problem_of

        for name, entry in config.hosts.items():
            if wrong := problem_of(entry, name):
                raise CifartuiError(f"{printable(str(path))}: {wrong}")
    return config


def _check_hosts(hosts: object, path: Path) -> None:
    """Refuse a host by its name, which a key path in msgspec's words would not show."""
    for name, entry in hosts.items() if isinstance(hosts, dict) else ():
        try:
            msgspec.convert(entry, HostEntry)
        except msgspec.ValidationError as error:
            place = f"[hosts.{printable(name)}]"
            wrong = f"is not a table; write {place}." if not isinstance(entry, dict) else ""
            fault = f"hosts.{printable(name)} {wrong}" if wrong else explain(error, entry, HostEntry, place).text
            raise CifartuiError(f"{printable(str(path))}: {fault}") from None


def _check_key_texts(table: dict[str, Any], path: Path) -> None:
    """Refuse keys that are no text here: the ids hold dots, which a key path in msgspec's words would not show."""
    keys = table.get("keys")
    for name, value in keys.items() if isinstance(keys, dict) else ():
        if isinstance(value, dict):
            within = next(iter(value), "…")
            raise CifartuiError(
                f"{printable(str(path))}: {printable(name)} is a table; put the whole id in quotes: "
                f'"{printable(name)}.{printable(within)}" = "ctrl+s".'
            )
        if not isinstance(value, str):
            raise CifartuiError(
                f'{printable(str(path))}: keys."{printable(name)}" must be a key such as "ctrl+s", not {shown(value)}.'
            )
