"""Options with which a run is started besides its preset. Passed on by command line, dashboard and queue."""

from typing import TYPE_CHECKING, Annotated

from msgspec import Meta, Struct

from engine.runs.notify_settings import NOBODY, Notify
from engine.shared.device_names import MOST_DEVICES

if TYPE_CHECKING:
    from engine.runs.run_dir import RunInfo

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


def words_to_start(info: "RunInfo") -> list[str]:
    """Return the command that starts a run anew, with all that it was started with, word by word."""
    from presets.range_test import DEFAULT_SWEEP, is_range_test_name, sweep_of

    is_test = is_range_test_name(info.preset_name)
    words = ["cifartui", "lr-find" if is_test else "train", info.preset_source]
    for change in info.overrides:
        words += ["--set", change]
    sweep = sweep_of(info.preset) if is_test else DEFAULT_SWEEP
    options: tuple[tuple[str, object, object], ...] = (
        ("--from", sweep.first_lr, None),
        ("--to", sweep.last_lr, None),
        ("--steps", sweep.steps, DEFAULT_SWEEP.steps),
        ("--seed", info.seed, 0),
        ("--device", info.device, "auto"),
        ("--devices", info.devices, 1),
        ("--data-dir", info.data_dir, None),
    )
    for name, value, usual in options:
        words += [name, str(value)] if value != usual else []
    return words
