"""Settings of a run as a viewer shows them: also those that a newer version wrote, as far as they are understood.

Whatever trains goes by `RunDir.read_info`, which refuses what it does not understand whole.
"""

from typing import Any

import msgspec

from engine import files
from engine.files import DAMAGED
from engine.runs.run_dir import RunDir, RunInfo
from presets.errors import CifartuiError
from presets.problems import is_unknown, printable, without_unknown

_STAND_INS: dict[str, Any] = {
    "preset.data.dataset": "class-folders",
    "preset.model": {"network": "basenet"},
    "preset.optimizer": {"name": "sgd", "lr": 0.1},
}
"""So that a preset can be made of the rest. `NewerRunInfo.not_understood` has what stands in the file instead."""


class NewerRunInfo(RunInfo, frozen=True, kw_only=True):
    """Settings of a run that a newer version wrote: to be shown, not to be trained by."""

    not_understood: dict[str, str]
    """By key, dotted, the text of what this version does not know."""


def read_shown(run: RunDir) -> RunInfo:
    """Return a run's settings; a NewerRunInfo where some of them are not understood.

    Raises:
        CifartuiError: they cannot be read, or are damaged.
    """
    try:
        return run.read_info()
    except CifartuiError as error:
        if not isinstance(error.__cause__, Exception) or not is_unknown(error.__cause__):
            raise
        refused = error
    try:
        return _understood(files.read(run.info_file()), run.id)
    except (OSError, *DAMAGED):
        raise refused from refused.__cause__


def decode_shown(content: bytes | msgspec.Raw, run_id: str) -> RunInfo:
    """Return the settings of the run `run_id` in the content of a run.json, as `read_shown` does.

    Raises:
        msgspec.MsgspecError, UnicodeDecodeError, RecursionError: they are damaged.
    """
    try:
        return msgspec.structs.replace(msgspec.json.decode(content, type=RunInfo), id=run_id)
    except msgspec.ValidationError as error:
        if not is_unknown(error):
            raise
    return _understood(content, run_id)


def _understood(content: bytes | msgspec.Raw, run_id: str) -> NewerRunInfo:
    info, unknown = without_unknown(msgspec.json.decode(content), RunInfo, _STAND_INS)
    texts = {key: printable(value if isinstance(value, str) else _text(value)) for key, value in unknown.items()}
    fields = {name: getattr(info, name) for name in RunInfo.__struct_fields__}
    return NewerRunInfo(**{**fields, "id": run_id}, not_understood=texts)


def _text(value: object) -> str:
    return msgspec.json.encode(value).decode()


def not_understood(info: RunInfo) -> dict[str, str]:
    """Return what a run's settings hold that this version does not know, by key; empty for all but a newer one's."""
    return info.not_understood if isinstance(info, NewerRunInfo) else {}
