"""Network facts of a preset: layers, parameters, FLOP, memory of a training step. No torch.

Only torch can compute them, and this process must not import it. So those of the shipped presets are shipped
(presets/facts.json, made by `python -m docs.facts`), those computed before are in the user's cache folder, and
the rest is computed in a child process with torch, which takes seconds.
"""

import hashlib
import os
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct
from msgspec.structs import asdict, replace

from engine import files
from engine.journal.events import LayerRow
from engine.shared.step_memory import StepMemory
from presets.errors import CifartuiError
from presets.plan import plan
from presets.schema import Optimizer, Preset

SHIPPED = Path(__file__).parents[2] / "presets" / "facts.json"
_NUM_CLASSES = {
    "cifar100": 100, "cifar10": 10, "mnist": 10, "fashion-mnist": 10, "flowers102": 102, "oxford-pets": 37,
    "shapes100": 100, "cub200": 200,
}  # fmt: skip
_ASSUMED_NUM_CLASSES = 100
_FORMAT = 2
"""Raised when an estimate counts something else than before: facts that were kept are computed again."""


class LayerFacts(Struct, frozen=True, array_like=True):
    """A row of the layer table; sizes are pixels, None for vectors and for layers without a kernel."""

    kind: str
    kernel: int | None
    in_size: int | None
    out_size: int | None
    in_channels: int
    out_channels: int
    num_parameters: int


class NetworkFacts(Struct, frozen=True, kw_only=True):
    """A network, for a data set of `num_classes`; FLOP = 2 × MAC, forward, one image."""

    network: str
    num_classes: int
    layers: tuple[LayerFacts, ...]
    num_parameters: int
    num_trainable: int
    flops_per_image: int
    memory: StepMemory
    """Of a step in fp32."""
    memory_half: StepMemory
    """Of a step in bf16 or fp16."""

    def step_memory(self, precision: str, *, on_gpu: bool) -> StepMemory:
        """Return the memory of a step in the preset's precision; "auto" is a half on a GPU, as in training."""
        is_half = on_gpu if precision == "auto" else precision in {"bf16", "fp16"}
        return self.memory_half if is_half else self.memory

    def layer_table(self) -> tuple[LayerRow, ...]:
        """Return the rows as the run directory has them, numbered."""
        return tuple(LayerRow(number=number, **asdict(row)) for number, row in enumerate(self.layers, start=1))


class _Description(Struct, frozen=True):
    """The fields used of `engine.models.describe.Description`."""

    network: str
    layers: tuple[LayerRow, ...]
    num_parameters: int
    num_trainable: int
    flops_per_image: int
    memory: StepMemory


class _Answer(Struct, frozen=True):
    description: _Description | None
    problem: str


def num_classes(preset: Preset, data_dir: str | None) -> tuple[int, bool]:
    """Return the data set's number of classes, and whether that is assumed because its folders are not found."""
    known_number = _NUM_CLASSES.get(preset.data.dataset)
    if known_number is None:
        from engine.shared.data_locations import locate

        known_number = locate(preset.data, data_dir).num_classes
    return known_number or _ASSUMED_NUM_CLASSES, not known_number


def key_of(preset: Preset, classes: int) -> str:
    """Return a name for everything that the facts of a preset depend on, and for nothing else."""
    model = preset.model
    if getattr(model, "weights", None) is not None:
        model = replace(model, weights=None)
    optimizers = {_kept_by(stage.optimizer) for stage in plan(preset)}
    parts = (_FORMAT, model, preset.data.image_size, preset.train.batch_size, sorted(optimizers), classes)
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()[:32]


def _kept_by(optimizer: Optimizer) -> tuple[str, bool]:
    """Return what decides how much an optimizer keeps for every number that it trains."""
    return str(optimizer.__struct_config__.tag), bool(getattr(optimizer, "momentum", 0))


def shipped() -> dict[str, NetworkFacts]:
    """Return the facts that come with the program, by key; none where the file is damaged or of another version."""
    try:
        return msgspec.json.decode(SHIPPED.read_bytes(), type=dict[str, NetworkFacts])
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return {}


def cache_folder() -> Path:
    """Return where answers are kept; need not exist."""
    import platformdirs

    named = os.environ.get("CIFARTUI_CACHE")
    return (files.expanded(named) if named else platformdirs.user_cache_path("cifartui")) / "facts"


def known(
    preset: Preset, data_dir: str | None, shipped_facts: Mapping[str, NetworkFacts] | None = None
) -> NetworkFacts | None:
    """Return the facts of a preset if they are shipped or were computed before. Reads small files; imports nothing big.

    Args:
        preset: any valid one.
        data_dir: searched first for class folders, which are counted.
        shipped_facts: what `shipped` returned, for who asks often.
    """
    classes, _ = num_classes(preset, data_dir)
    key = key_of(preset, classes)
    found = (shipped() if shipped_facts is None else shipped_facts).get(key)
    if found is not None:
        return found
    try:
        return msgspec.json.decode(files.read(_cache_file(key)), type=NetworkFacts)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return None  # never computed, or damaged: computed (again)


def compute(preset: Preset, data_dir: str | None) -> NetworkFacts:
    """Return the facts of a preset, computed in a process with torch; takes seconds, and fills the cache.

    Raises:
        CifartuiError: the network cannot be built for these images, or not be trained on them.
    """
    (found,) = compute_all([preset], data_dir)
    if isinstance(found, str):
        raise CifartuiError(found)
    return found


def compute_all(
    presets: Sequence[Preset], data_dir: str | None, stop: threading.Event | None = None
) -> list[NetworkFacts | str]:
    """Return the facts of presets, or why there are none, computed in one process; fills the cache.

    Args:
        presets: any valid ones.
        data_dir: searched first for class folders, which are counted.
        stop: ends the process once this is set; it then has the lowest priority.

    Raises:
        CifartuiError: the process failed, or was stopped.
    """
    wanted = [(preset, num_classes(preset, data_dir)[0]) for preset in presets]
    keys = [key_of(*each) for each in wanted]
    each_once = dict(zip(keys, wanted, strict=True))
    found = dict(zip(each_once, compute_many(list(each_once.values()), stop), strict=True))
    for key, answer in found.items():
        if isinstance(answer, NetworkFacts):
            _keep(key, answer)
    return [found[key] for key in keys]


def compute_many(wanted: Sequence[tuple[Preset, int]], stop: threading.Event | None = None) -> list[NetworkFacts | str]:
    """Return the facts of several presets, or why there are none, computed in one process."""
    from tui.data.torch_process import run_module

    questions = [
        {"preset": _in_precision(preset, precision), "num_classes": classes}
        for preset, classes in wanted
        for precision in ("fp32", "bf16")
    ]
    printed = run_module(
        "engine.models.describe", stdin=msgspec.json.encode(questions), stop=stop, in_background=stop is not None
    )
    answers = msgspec.json.decode(printed, type=list[_Answer])
    pairs = zip(answers[::2], answers[1::2], strict=True)
    return [_facts(*pair, classes) for pair, (_, classes) in zip(pairs, wanted, strict=True)]


def _in_precision(preset: Preset, precision: Literal["fp32", "bf16"]) -> Preset:
    return replace(preset, train=replace(preset.train, precision=precision))


def _facts(full: _Answer, half: _Answer, classes: int) -> NetworkFacts | str:
    if full.description is None or half.description is None:
        return full.problem or half.problem
    described = full.description
    rows = (asdict(layer) for layer in described.layers)
    return NetworkFacts(
        network=described.network,
        num_classes=classes,
        layers=tuple(LayerFacts(**{name: row[name] for name in LayerFacts.__struct_fields__}) for row in rows),
        num_parameters=described.num_parameters,
        num_trainable=described.num_trainable,
        flops_per_image=described.flops_per_image,
        memory=described.memory,
        memory_half=half.description.memory,
    )


def _cache_file(key: str) -> Path:
    from cifartui import __version__

    return cache_folder() / f"{__version__}-{key}.json"


def _keep(key: str, found: NetworkFacts) -> None:
    from engine.files import make_folders
    from engine.runs.run_dir import write_atomically

    path = _cache_file(key)
    with suppress(OSError):  # a cache that cannot be written costs time, not the answer
        make_folders(path.parent)
        write_atomically(path, msgspec.json.encode(found))
