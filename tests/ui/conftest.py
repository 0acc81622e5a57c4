"""A terminal, a clock, a machine and a catalogue that are the same everywhere."""

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from textual.css.query import NoMatches
from textual.pilot import Pilot

from engine.journal.events import GpuSample
from engine.shared.data_locations import Location
from engine.shared.step_memory import StepMemory
from presets.catalog import Listed
from presets.errors import CifartuiError
from presets.schema import Data, Preset, Report, Vgg
from tests.ui.sample_run import HOST, NOW, SampleRun, preset
from tui.data.environment import Environment, GpuReadings, Queued
from tui.data.network_facts import LayerFacts, NetworkFacts
from tui.display import Display

NO_GPU = GpuReadings((), "no NVIDIA driver on this machine", 8, 12_000_000_000)
ONE_GPU = GpuReadings(
    (
        GpuSample(
            index=0, name="NVIDIA A100-SXM4-40GB", memory_used_bytes=36_300_000_000, utilization=0.97,
            memory_total_bytes=42_949_672_960, temperature_c=61.0, power_w=312.0,
        ),
    ),
    "",
    64,
    200_000_000_000,
)  # fmt: skip
FACTS = NetworkFacts(
    network="vgg", num_classes=100, num_parameters=28_022, num_trainable=28_022, flops_per_image=1_235_600,
    layers=(LayerFacts("conv", 5, 32, 28, 3, 6, 456), LayerFacts("linear", None, None, None, 84, 100, 8500)) * 15,
    memory=StepMemory(parameters=1, gradients=1, optimizer_state=1, activations=2_000_000_000, working=0),
    memory_half=StepMemory(parameters=1, gradients=1, optimizer_state=1, activations=1_000_000_000, working=0),
)  # fmt: skip


def presets() -> list[Listed]:
    """Four presets, the last one broken."""
    demo = preset(
        "Demo", 6, group="demo", report=Report(), summary="100 shapes that the program generates: nothing to download",
        data=Data(dataset="shapes100"), model=Vgg(blocks=((16,), (32,), (64,)), pools=("max", "max", "avg")),
    )  # fmt: skip
    custom = preset("Custom VGG", 30, report=Report(val_top1=0.77, test_top1=0.782))
    return [
        Listed("demo", Path("demo.toml"), demo, ""),
        Listed("basenet", Path("basenet.toml"), preset(), ""),
        Listed("vgg-custom", Path("vgg-custom.toml"), custom, ""),
        Listed("mine", Path("mine.toml"), None, "mine.toml line 3: optimizer.lr must be greater than 0."),
    ]


def load(name: str, overrides: Sequence[str]) -> Preset:
    """Understands whole numbers for train.epochs, train.batch_size and data.image_size, and optimizer.lr."""
    found = next(listed.preset for listed in presets() if listed.name == name)
    assert found is not None
    for override in overrides:
        key, _, value = override.partition("=")
        table, _, field = key.partition(".")
        if key == "optimizer.lr":
            found = replace(found, optimizer=replace(found.optimizer, lr=float(value)))
        elif key not in {"train.epochs", "train.batch_size", "data.image_size"}:
            raise CifartuiError(f"--set {override}: no preset has {key}.")
        elif not value.isdigit():
            raise CifartuiError(f'--set {override}: {key} must be a whole number, not "{value}".')
        else:
            found = replace(found, **{table: replace(getattr(found, table), **{field: int(value)})})
    return found


def locate(data: Data, data_dir: str | None) -> Location:
    """CIFAR-100 is absent; shapes need no data."""
    if data.dataset == "shapes100":
        return Location(dataset=data.dataset, kind="generated", text="generated at start, nothing to download")
    return Location(
        dataset=data.dataset, kind="absent", text="not found.", advice="It is downloaded at start (169 MB)."
    )


def known_facts(presets: Sequence[Preset], data_dir: str | None) -> list[NetworkFacts | None]:
    """Everything is known; memory goes with the batch size."""
    return [facts_for(preset) for preset in presets]


def facts_for(preset: Preset) -> NetworkFacts:
    """The same network for all, its memory for the preset's batch size (32 for `FACTS`)."""
    activations = FACTS.memory.activations * preset.train.batch_size // 32
    memory = replace(FACTS.memory, activations=activations)
    return replace(FACTS, memory=memory, memory_half=replace(memory, activations=activations // 2))


def environment(gpus: GpuReadings = NO_GPU, now: Callable[[], float] = lambda: NOW, **ways: Any) -> Environment:
    """A machine of our own, with an empty queue; `ways` are other ways to ask."""
    defaults: dict[str, Any] = {
        "now": now, "host": HOST, "presets": presets, "loader": lambda: load, "locate": locate, "visible_gpus": None,
        "gpu_reader": lambda: lambda: gpus, "known_facts": known_facts, "queued": lambda runs_dir: Queued(),
        "torch_gpus": lambda runs, host: 1,
    }  # fmt: skip
    return Environment(**{**defaults, **ways})


@pytest.fixture(params=["truecolor", "16"])
def display(request: pytest.FixtureRequest) -> Display:
    """Many colours, and few: every picture is taken in both."""
    return Display(colors=request.param)


async def until(pilot: Pilot[None], condition: Callable[[], object], what: str) -> None:
    """Let the app work until `condition` holds; fail with `what` where it never does."""
    deadline = time.monotonic() + 20

    def holds() -> object:
        try:
            return condition()
        except NoMatches:  # what it looks at is not there yet
            return False

    while not holds():
        assert time.monotonic() < deadline, f"waited in vain for: {what}"
        await pilot.pause(0.02)
    await pilot.pause()


@pytest.fixture(autouse=True)
def plain_world(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    time.tzset()


@pytest.fixture
def runs_dir(tmp_path: Path) -> Path:
    return tmp_path / "runs"


@pytest.fixture
def run(runs_dir: Path) -> Iterator[SampleRun]:
    """A run that completed after three epochs."""
    with SampleRun(runs_dir).begin().prepare() as made:
        for epoch in (1, 2, 3):
            made.train_epoch(epoch)
        made.finish()
        yield made
