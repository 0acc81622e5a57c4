"""Whose turn it is in a queue: what living runs hold, which GPUs are free, and that two never get the same."""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch

from engine.journal.events import GpuSample
from engine.queue.allocation import held_devices, mark_devices, others_of, queue_positions, taken_devices
from engine.runs import run_dir as runs
from engine.runs import start
from engine.runs.run_dir import RunDir
from engine.runs.run_options import RunOptions
from engine.runs.worker_mark import sign_lock
from engine.shared.device_reader import DeviceReader
from engine.shared.gpus import on_machine
from engine.training.device import choose_device
from presets import catalog

GB = 10**9


def gpu(index: int, used_gb: float = 0.5) -> GpuSample:
    return GpuSample(index=index, name="GPU", memory_used_bytes=int(used_gb * GB), memory_total_bytes=80 * GB)


FOUR = [gpu(0), gpu(1), gpu(2), gpu(3)]


class Machine:
    """Runs whose lock is held here, as if their worker lived."""

    def __init__(self, runs_dir: Path, stack: ExitStack) -> None:
        self.runs_dir, self._stack = runs_dir, stack

    def run(self, device: str = "auto", *chosen: str, devices: int = 1) -> RunDir:
        """Have a run live that was asked to train on `device`, and has chosen `chosen` if that is not empty."""
        preset = catalog.load("demo")
        info = {"overrides": (), "seed": 0, "argv": (), "versions": {}, "data_dir": None}
        run = runs.create(self.runs_dir, "demo", preset=preset, device=device, devices=devices, **info)
        lock_fd = start.take_lock(run)
        self._stack.callback(os.close, lock_fd)
        sign_lock(lock_fd, os.getpid(), chosen)
        return run

    def states(self, *asked: str | tuple[str, int], gpus: list[GpuSample] | None) -> list[str]:
        """The turns of entries that ask for these devices, in words."""
        entries = [
            RunOptions(device=one) if isinstance(one, str) else RunOptions(device=one[0], devices=one[1])
            for one in asked
        ]
        held = held_devices(runs.list_runs(self.runs_dir), gpus)
        found = queue_positions(entries, held, gpus)
        return [f"after {turn.after}" if turn.after else f"{len(turn.waits_for)} runs" for turn in found]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with ExitStack() as stack:
        yield Machine(tmp_path / "runs", stack)


NEXT, ONE_RUN = "0 runs", "1 runs"


def test_without_gpus_one_trains_at_a_time_however_it_was_asked_for(machine: Machine) -> None:
    assert machine.states("auto", "auto", "cpu", gpus=[]) == [NEXT, "after 1", "after 2"]
    assert machine.states("cpu", "auto", "cpu", gpus=[]) == [NEXT, "after 1", "after 2"]
    machine.run("auto", "cpu")
    assert machine.states("auto", "cpu", "cuda:0", gpus=[]) == [ONE_RUN, "after 1", "after 1"]


def test_each_is_given_a_gpu_of_its_own_once_the_one_before_has_chosen(machine: Machine) -> None:
    assert machine.states("auto", "auto", gpus=FOUR) == [NEXT, "after 1"]
    machine.run()
    assert machine.states("auto", "auto", gpus=FOUR) == [ONE_RUN, "after 1"]  # still choosing


def test_what_has_chosen_leaves_the_others(machine: Machine) -> None:
    for number in (2, 0, 3):
        machine.run("auto", f"cuda:{number}")
        assert machine.states("auto", "auto", gpus=FOUR) == [NEXT, "after 1"]
    machine.run("cuda:1")  # was told, and need not say
    assert machine.states("auto", "auto", "cpu", gpus=FOUR) == ["4 runs", "after 1", NEXT]


def test_a_gpu_that_somebody_else_uses_is_left_alone_unless_no_run_has_any(machine: Machine) -> None:
    in_use = [gpu(0, 30), gpu(1, 20)]
    assert machine.states("auto", gpus=in_use) == [NEXT]
    machine.run("auto", "cuda:1")
    assert machine.states("auto", "cuda:0", gpus=in_use) == [ONE_RUN, "after 1"]
    assert machine.states("cuda:0", gpus=in_use) == [NEXT]
    assert machine.states("auto", gpus=[gpu(0, 7), gpu(1, 20)]) == [NEXT]


def test_a_device_that_is_named_is_waited_for_alone(machine: Machine) -> None:
    machine.run("auto", "cuda:1")
    asked = ("cuda:1", "cuda:0", "cuda:1", "cuda", "cpu")
    assert machine.states(*asked, gpus=FOUR) == [ONE_RUN, NEXT, "after 1", "after 2", NEXT]


def test_several_gpus_are_not_taken_one_by_one_from_the_run_that_waits_for_all(machine: Machine) -> None:
    machine.run("cuda:1", "cuda:1")
    assert machine.states(("auto", 2), "cuda:0", "cuda:3", gpus=FOUR) == [ONE_RUN, "after 1", NEXT]
    assert machine.states("cuda:0", ("cuda", 4), gpus=FOUR) == [NEXT, "after 1"]
    machine.run("auto", "cuda:2", "cuda:3", devices=2)
    assert machine.states("cuda:3", "cuda:0", gpus=FOUR) == [ONE_RUN, NEXT]


def test_where_torch_sees_no_gpu_they_are_not_all_started_on_the_processor(machine: Machine) -> None:
    machine.run("auto", "cpu")
    assert machine.states("auto", "auto", "cuda:0", gpus=FOUR) == [ONE_RUN, "after 1", "after 2"]


def test_where_gpus_are_named_in_another_way_one_at_a_time_has_to_do(machine: Machine) -> None:
    assert machine.states("auto", "auto", gpus=None) == [NEXT, "after 1"]
    machine.run("auto", "cuda:0")
    assert machine.states("auto", "auto", gpus=None) == [ONE_RUN, "after 1"]


def test_gpus_are_told_apart_by_the_machines_numbers(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.run("cuda:0", on_machine("cuda:0", "3,1"))
    assert machine.states("cuda:0", "cuda:3", gpus=FOUR) == [NEXT, ONE_RUN]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,1")
    assert machine.states("cuda:0", "cuda:1", gpus=[FOUR[3], FOUR[1]]) == [ONE_RUN, NEXT]
    assert [on_machine(name, "GPU-8a3f") for name in ("cpu", "mps", "cuda", "cuda:2")] == [
        "cpu", "mps", "cuda:0", "cuda:2",
    ]  # fmt: skip


def test_a_worker_that_chooses_avoids_what_other_runs_have(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(DeviceReader, "sample", lambda _reader: (tuple(FOUR), ""))
    monkeypatch.setitem(os.environ, "CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    mine = machine.run()
    machine.run("auto", "cuda:0")
    machine.run("cuda:1")
    machine.run()  # still choosing
    assert taken_devices(others_of(mine)) == {"cuda:0", "cuda:1"}
    assert choose_device("auto", lambda: taken_devices(others_of(mine))) == torch.device("cuda", 2)
    assert choose_device("auto", lambda: {f"cuda:{number}" for number in range(4)}) == torch.device("cuda", 0)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,0")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device("auto", lambda: {"cuda:2"}) == torch.device("cuda", 1)


def test_what_a_worker_has_chosen_stands_in_its_lock_and_goes_with_it(machine: Machine) -> None:
    run = machine.run()
    mark_devices(run, ["cuda:3"])
    mark = run.read_mark()
    assert mark is not None
    assert (mark.pid, mark.holds) == (os.getpid(), ("cuda:3",))
    assert run.worker_lives()
