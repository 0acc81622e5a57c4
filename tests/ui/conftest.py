"""A terminal, a clock, a machine and a catalogue that are the same everywhere."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from textual.pilot import Pilot

from engine.locate import Location
from engine.runs.events import GpuSample
from presets.catalog import Listed
from presets.errors import CifartuiError
from presets.schema import Data, Preset, Report, Train, Vgg
from tests.ui.sample_run import HOST, NOW, preset
from tui.surroundings import GpuReadings, Surroundings

NO_GPU = GpuReadings((), "no NVIDIA driver on this machine", 8)
ONE_GPU = GpuReadings(
    (
        GpuSample(
            index=0, name="NVIDIA A100-SXM4-40GB", memory_used_bytes=36_300_000_000, utilization=0.97,
            memory_total_bytes=42_949_672_960, temperature_c=61.0, power_w=312.0,
        ),
    ),
    "",
    64,
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
    """Understands train.epochs=N only."""
    found = next(listed.preset for listed in presets() if listed.name == name)
    assert found is not None
    for override in overrides:
        key, _, value = override.partition("=")
        if key != "train.epochs" or not value.isdigit():
            raise CifartuiError(f"--set {override}: no preset has {key}.")
        found = preset(found.title, train=Train(epochs=int(value), batch_size=32))
    return found


def locate(data: Data, data_dir: str | None) -> Location:
    """CIFAR-100 is absent; shapes need no data."""
    if data.dataset == "shapes100":
        return Location(dataset=data.dataset, kind="generated", text="generated at start, nothing to download")
    return Location(
        dataset=data.dataset, kind="absent", text="not found.", advice="It is downloaded at start (169 MB)."
    )


def surroundings(gpus: GpuReadings = NO_GPU, now: Callable[[], float] = lambda: NOW) -> Surroundings:
    """A machine of our own."""
    return Surroundings(now=now, host=HOST, presets=presets, load=load, locate=locate, gpu_reader=lambda: lambda: gpus)


async def until(pilot: Pilot[None], condition: Callable[[], object], what: str) -> None:
    """Let the app work until `condition` holds; fail with `what` where it never does."""
    deadline = time.monotonic() + 20
    while not condition():
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
