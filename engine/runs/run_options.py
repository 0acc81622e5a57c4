"""What a run is started with besides its preset, as the command line, the dashboard and the queue pass it on."""

from typing import Annotated

from msgspec import Meta, Struct

from engine.shared.device_names import MOST_DEVICES

SEED_BELOW = 2**31


class StoredOptions(Struct, frozen=True, kw_only=True):
    """What a run, or every one of several, is started with, as a file may keep it: no command is among it."""

    overrides: tuple[str, ...] = ()
    """`key.path=value`, one a string."""
    seed: Annotated[int, Meta(ge=0, lt=SEED_BELOW)] = 0
    """Of every random number of the run."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:N or mps."""
    devices: Annotated[int, Meta(ge=1, le=MOST_DEVICES)] = 1
    """How many of them on this machine."""
    data_dir: str | None = None
    """Searched first for data sets; without it, CIFARTUI_DATA as it is when the order is given."""


class RunOptions(StoredOptions, frozen=True, kw_only=True):
    """The options, and the command of whoever gives the order; it is passed on in memory only."""

    notify: str = ""
    """A shell command for when the run has ended (`engine.runs.notify`)."""


DEFAULT_OPTIONS = RunOptions()
