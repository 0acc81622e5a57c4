"""Options with which a run is started besides its preset. Passed on by command line, dashboard and queue."""

from typing import Annotated

from msgspec import Meta, Struct

from engine.runs.notify_settings import NOBODY, Notify
from engine.shared.device_names import MOST_DEVICES

SEED_BELOW = 2**31


class StoredOptions(Struct, frozen=True, kw_only=True):
    """Options of a run that a file may keep: they hold no command."""

    overrides: tuple[str, ...] = ()
    """`key.path=value`, one a string."""
    seed: Annotated[int, Meta(ge=0, lt=SEED_BELOW)] = 0
    """Seed of all random numbers of the run."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:N or mps."""
    devices: Annotated[int, Meta(ge=1, le=MOST_DEVICES)] = 1
    """Number of devices on this machine."""
    data_dir: str | None = None
    """Searched first for data sets; without it, CIFARTUI_DATA as it is when the options are made."""
    group: str = ""
    """Id that runs of several seeds, or of a search, share (`engine.runs.seed_groups`); empty for a run alone."""


class RunOptions(StoredOptions, frozen=True, kw_only=True):
    """Options of one run, or of several that are started together, with commands and addresses that stay in memory."""

    notify: Notify = NOBODY
    """Whom its watcher tells of it (`engine.runs.watcher`)."""
    seeds: tuple[int, ...] = ()
    """Seeds of several runs, in place of `seed` (`engine.runs.seed_groups.each_seed`); empty for one run."""


DEFAULT_OPTIONS = RunOptions()
