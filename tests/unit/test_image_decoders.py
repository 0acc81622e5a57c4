"""Decoding by processes: the same pixels as by threads, and an end in a sentence, or at once, whatever happens."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import psutil
import pytest

from engine.data import image_decoders
from engine.data.image_cache import ImageCache
from engine.journal.events import DataProgressed
from engine.shared.image_formats import Fault
from presets.errors import CifartuiError
from tests.bird_files import save
from tests.waiting import wait_for

NUM_IMAGES = 60
ROWS = np.arange(NUM_IMAGES)
DAMAGED, ABSENT = 7, 23
Report = Callable[[DataProgressed], None]

pytestmark = pytest.mark.slow


@pytest.fixture
def names(tmp_path: Path) -> list[str]:
    """Images of a colour each; one is damaged, one a link to nothing, and one has a name that is no UTF-8."""
    names = [f"{number:02}.png" for number in ROWS]
    names[3] = os.fsdecode(b"caf\xe9 \n.png")
    for number, name in enumerate(names):
        save(tmp_path / name, (number, 2 * number, 255 - number), (20, 16))
    whole = (tmp_path / names[DAMAGED]).read_bytes()
    (tmp_path / names[DAMAGED]).write_bytes(whole[:-30])
    (tmp_path / names[ABSENT]).unlink()
    (tmp_path / names[ABSENT]).symlink_to("gone.png")
    return names


@pytest.fixture(autouse=True)
def by_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_decoders, "_WORTH_PROCESSES", 1)
    monkeypatch.setattr(image_decoders, "usable_cpus", lambda: 2)
    monkeypatch.setattr("engine.data.progress._INTERVAL_S", 0.0)


def decoders() -> list[psutil.Process]:
    children = psutil.Process().children()
    return [child for child in children if "engine.data.image_decoders" in child.cmdline()]


def decoded(root: Path, names: list[str], report: Report = lambda event: None) -> ImageCache:
    cache = ImageCache(root, names, 8)
    cache.decode(ROWS, report)
    return cache


def test_processes_give_what_threads_give(
    tmp_path: Path, names: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    seen: set[int] = set()
    by_processes = decoded(tmp_path, names, lambda event: seen.update(child.pid for child in decoders()))
    assert len(seen) == 2
    assert decoders() == []
    monkeypatch.setattr(image_decoders, "_WORTH_PROCESSES", NUM_IMAGES + 1)
    monkeypatch.setenv("CIFARTUI_CACHE", str(tmp_path_factory.mktemp("other")))
    by_threads = decoded(tmp_path, names)
    pixels: npt.NDArray[np.uint8] = by_processes.pixels()
    assert np.array_equal(pixels, by_threads.pixels())
    assert pixels[3, :, 0, 0].tolist() == [3, 6, 252]
    assert by_processes.faults(ROWS) == by_threads.faults(ROWS)
    assert by_processes.faults(ROWS) == {names[DAMAGED]: Fault.DAMAGED, names[ABSENT]: Fault.ABSENT}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_decoder_that_is_killed_ends_in_a_sentence(tmp_path: Path, names: list[str], number: signal.Signals) -> None:
    def kill(event: DataProgressed) -> None:
        for child in decoders():
            child.send_signal(number)

    with pytest.raises(CifartuiError, match=rf"ended \({number.name}\) while it read {tmp_path}/.*is kept\.$") as error:
        decoded(tmp_path, names, kill)
    assert "\n" not in str(error.value)
    assert decoders() == []
    assert len(decoded(tmp_path, names).faults(ROWS)) == 2


def test_a_stop_ends_the_decoders_at_once_and_keeps_what_is_done(tmp_path: Path, names: list[str]) -> None:
    seen: list[int] = []

    def stop(event: DataProgressed) -> None:
        seen.extend(child.pid for child in decoders())
        if seen:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        decoded(tmp_path, names, stop)
    assert seen
    assert not any(map(psutil.pid_exists, seen))


def test_signals_to_the_group_are_for_the_process_that_started_them(tmp_path: Path, names: list[str]) -> None:
    asked: set[int] = set()

    def disturb(event: DataProgressed) -> None:
        for child in decoders():  # from the start on, when they have not yet imported anything
            asked.add(child.pid)
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                child.send_signal(number)

    assert len(decoded(tmp_path, names, disturb).faults(ROWS)) == 2
    assert len(asked) == 2


def test_they_work_in_no_folder_of_anybodys(tmp_path: Path, names: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "PIL.py").write_text("raise SystemExit('it ran')")
    monkeypatch.chdir(tmp_path)
    folders: set[str] = set()
    decoded(tmp_path, names, lambda event: folders.update(child.cwd() for child in decoders()))
    assert folders == {"/"}


def test_they_end_with_the_process_that_started_them(tmp_path: Path, names: list[str]) -> None:
    script = (
        "import numpy as np\n"
        "from pathlib import Path\n"
        "from engine.data import image_decoders\n"
        "from engine.data.image_cache import ImageCache\n"
        "image_decoders._WORTH_PROCESSES = 1\n"
        "image_decoders.usable_cpus = lambda: 2\n"
        f"names = {names!r} * 200\n"
        f"ImageCache(Path({str(tmp_path)!r}), names, 256).decode(np.arange(len(names)), lambda event: None)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script])
    children = wait_for(lambda: psutil.Process(parent.pid).children() or parent.poll(), "its children")
    parent.kill()
    parent.wait()
    wait_for(lambda: not any(child.is_running() for child in children), "the end of its children", patience_s=20)


@pytest.mark.parametrize(("text", "num_cpus"), [("150000 100000", 2), ("max 100000", 64), ("50000 100000", 1)])
def test_a_containers_share_of_the_cpus_counts(text: str, num_cpus: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(64))
    monkeypatch.setattr(Path, "read_text", lambda path, encoding: text)
    assert image_decoders.usable_cpus() == num_cpus


@pytest.mark.parametrize("num_images", [1, NUM_IMAGES + 1])
def test_a_disk_that_takes_no_pixels_is_no_fault_of_an_image(
    tmp_path: Path, names: list[str], monkeypatch: pytest.MonkeyPatch, num_images: int
) -> None:
    """By processes, and by threads."""
    monkeypatch.setattr(image_decoders, "_WORTH_PROCESSES", num_images)
    job = image_decoders.Job(tmp_path, names, Path("/dev/full"), 8, (0, 0, 0))
    with pytest.raises(OSError, match="No space left on device"):
        list(image_decoders.decode(job, ROWS.tolist()))
    assert decoders() == []
