"""The user's configuration, `config.toml`: what it may say, and where it lies. Knows no terminals and no widgets."""

import os
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct, field

from presets.config_layers import read_table
from presets.errors import CifartuiError
from presets.problems import explain, printable, shown
from tui.display import Theme

_VARIABLE = "CIFARTUI_CONFIG"


class Config(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the file may say; "auto" leaves it to the terminal. Explained in docs/terminals.md."""

    theme: Theme = "dark"
    plots: Literal["auto", "braille", "blocks", "ascii"] = "auto"
    colors: Literal["auto", "truecolor", "256", "16", "none"] = "auto"
    low_bandwidth: bool = False
    bell: bool = True
    notify: str = ""
    keys: dict[str, str] = field(default_factory=dict)


def config_path() -> Path:
    """Return where the configuration is read from; it need not exist."""
    named = os.environ.get(_VARIABLE)
    if named:
        return Path(os.path.expanduser(named))  # noqa: PTH111 (Path.expanduser raises where there is no home)
    import platformdirs

    return platformdirs.user_config_path("cifartui") / "config.toml"


def read_config() -> Config:
    """Return the user's configuration; the defaults where there is no file.

    Raises:
        CifartuiError: the file cannot be read, or says something that it may not.
    """
    path = config_path()
    if not path.exists():
        if os.environ.get(_VARIABLE):
            raise CifartuiError(f"{printable(str(path))} does not exist; write it, or unset {_VARIABLE}.")
        return Config()
    table = read_table(path, "a configuration")
    _check_key_texts(table, path)
    try:
        return msgspec.convert(table, Config)
    except msgspec.ValidationError as error:
        fault = explain(error, table, Config, "the configuration")
        raise CifartuiError(f"{printable(str(path))}: {fault.text}") from None


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
