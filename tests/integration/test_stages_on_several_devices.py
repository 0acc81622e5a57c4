"""Two processes and one train every sequence of stages alike: nothing made for a stage is used in the next one."""

import gc
import os
import socket
import sys
import weakref
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from msgspec.structs import replace
from torch import Tensor, nn

from engine.journal.jsonl import EventWriter
from engine.runs.run_dir import RunDir
from engine.training import muon
from engine.training.controls import Controls
from engine.training.distributed.controls import SharedControls, SilentJournal
from engine.training.distributed.heartbeat import Heartbeat
from engine.training.distributed.process_group import ProcessGroup, place_from_environment
from engine.training.setup import Setup
from engine.training.trainer import Trainer
from presets import schema
from tests.fork_client import ForkServer
from tests.tiny_trainer import PRESET, make_folder, make_setup
from tests.workers import Program

pytestmark = pytest.mark.xdist_group("together")  # one process of tests has the two ranks, for all cases
FLIP = (schema.HorizontalFlip(),)
KINDS = {
    "frozen": schema.Stage(name="frozen", epochs=2, frozen=True, augment=FLIP),
    "cached features": schema.Stage(name="cached features", epochs=2, frozen=True),
    "whole network": schema.Stage(name="whole network", epochs=2, augment=FLIP),
}
Case = tuple[str, str]
PAIRS: list[Case] = list(product(KINDS, KINDS))
MUON: Case = ("whole network", "whole network")
Weights = dict[str, Tensor]


class Small(nn.Module):
    """A network that can be frozen as ResNets can; without BatchNorm, two processes and one train it alike."""

    def __init__(self, *, batch_norm: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        norm = nn.BatchNorm2d(8) if batch_norm else nn.Identity()
        self.backbone = nn.Sequential(nn.Conv2d(3, 8, 5, stride=3), norm, nn.ReLU(), nn.Flatten(), nn.Linear(800, 16))
        self.fc = nn.Linear(16, 100)
        self._is_frozen = False

    def freeze(self, is_frozen: bool) -> None:
        self._is_frozen = is_frozen
        self.backbone.requires_grad_(not is_frozen)
        self.train(self.training)

    def train(self, mode: bool = True) -> "Small":
        super().train(mode)
        self.backbone.train(mode and not self._is_frozen)
        return self

    def features(self, images: Tensor) -> Tensor:
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self._is_frozen):
            return self.backbone(images)  # type: ignore[no-any-return]

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.features(images))  # type: ignore[no-any-return]


class Trained(NamedTuple):
    """State of a process after every stage, and at its end: weights, buffers and those of the average."""

    stages: list[Weights]
    test_loss: float


def staged(names: Case, **train: Any) -> schema.Preset:
    plan = tuple(replace(KINDS[name], name=f"{name} {number}") for number, name in enumerate(names))
    table = replace(PRESET.train, epochs=None, augment=(), batch_size=9, **train)
    return replace(PRESET, train=table, stages=plan, optimizer=schema.Sgd(lr=0.05, momentum=0.9))


def setup_of(names: Case) -> Setup:
    return make_setup(staged(names), 40, network=Small())


def setup_with_batch_norm(names: Case) -> Setup:
    return make_setup(staged(names, ema_decay=0.9), 40, network=Small(batch_norm=True))


def setup_with_muon(names: Case) -> Setup:
    """Return a setup with filters of which there is no equal share, and one shape three times."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 5, stride=3), *(nn.Conv2d(8, 8, 3, padding=1) for _ in range(3)), nn.Conv2d(8, 4, 1)]
    filters = [each for layer in layers for each in (layer, nn.ReLU())]
    network = nn.Sequential(*filters, nn.Flatten(), nn.Linear(400, 100))
    table = replace(staged(names), optimizer=schema.Muon(lr=0.01, other_lr=0.02))
    return make_setup(table, 40, network=network)


def train(trainer: Trainer) -> Trained:
    """Train to the end and return what there was after every stage."""
    stages: list[Weights] = []
    complete, learner = trainer._complete_stage, trainer._train_state

    def completing() -> None:
        state = {name: value.clone() for name, value in trainer._setup.network.state_dict().items()}
        if learner.ema is not None:
            state |= {f"ema.{name}": value.clone() for name, value in learner.ema.network.state_dict().items()}
        stages.append(state)
        complete()

    trainer._complete_stage = completing  # type: ignore[method-assign]
    finished = trainer.run()
    assert finished.outcome == "completed", finished.reason
    assert finished.test_loss is not None
    return Trained(stages, finished.test_loss)


def be_a_rank(rank: int, port: int, where: Path) -> None:
    """Train every case as one of two ranks, and leave in `where` what came of it."""
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port)
    )
    torch.set_num_threads(1)
    place = place_from_environment()
    group = ProcessGroup(place, torch.device("cpu"))
    heartbeat = Heartbeat(place, lambda _lost: os._exit(1))
    heartbeat.meet(group.barrier)

    wrap, wrapped = group.wrap, list["weakref.ref[nn.Module]"]()

    def wrap_and_watch(network: nn.Module) -> nn.Module:
        wrapper = wrap(network)
        gc.collect()
        assert all(before() is None for before in wrapped)
        wrapped[:] = [weakref.ref(wrapper)]
        return wrapper

    group.wrap = wrap_and_watch  # type: ignore[method-assign]

    def trained(folder: RunDir, setup: Setup) -> Trained:
        journal = EventWriter(folder.events) if place.is_first else SilentJournal()
        controls = SharedControls(folder, journal, place)
        controls.connect(group, heartbeat)
        return train(Trainer(group.prepare(setup), folder, journal, controls, parallel=group))

    cases = [(pair, "alike", setup_of) for pair in PAIRS] + [(pair, "norm", setup_with_batch_norm) for pair in PAIRS]
    for pair, kind, make in [*cases, (MUON, "muon", setup_with_muon), (MUON, "halved", setup_with_muon)]:
        muon.has_bf16 = lambda _device, kind=kind: kind == "halved"
        folder = make_folder(where / name_of(kind, pair))
        group.barrier()
        torch.save(tuple(trained(folder, make(pair))), folder.path / f"rank{rank}.pt")
    heartbeat.leave()
    group.close()


def main() -> None:
    """Be the rank that the arguments name."""
    rank, port, where = sys.argv[1:]
    be_a_rank(int(rank), int(port), Path(where))


def name_of(kind: str, pair: Case) -> str:
    return f"{kind} {pair[0]}, {pair[1]}"


@pytest.fixture(scope="module")
def together(
    tmp_path_factory: pytest.TempPathFactory, fork_server: ForkServer
) -> Callable[[str, Case], tuple[Trained, Trained]]:
    """Train all cases in two forked processes; return what both had."""
    where = tmp_path_factory.mktemp("ranks")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with (where / "log").open("ab") as log, Path(os.devnull).open() as nothing:
        streams = [nothing.fileno(), log.fileno(), log.fileno()]
        commands = [
            [sys.executable, "-m", "tests.integration.test_stages_on_several_devices", str(rank), str(port), str(where)]
            for rank in range(2)
        ]
        ranks = [Program(fork_server, streams, os.environ, command=command) for command in commands]
    assert [rank.wait() for rank in ranks] == [0, 0], (where / "log").read_text()

    def found(kind: str, pair: Case) -> tuple[Trained, Trained]:
        ours, theirs = (torch.load(where / name_of(kind, pair) / f"rank{rank}.pt") for rank in range(2))
        return Trained(*ours), Trained(*theirs)

    return found


Together = Callable[[str, Case], tuple[Trained, Trained]]


def assert_agree(ours: Trained, theirs: Trained) -> None:
    """Assert that two ranks have the same bits after every stage."""
    assert len(ours.stages) == len(theirs.stages) == 2
    for some, others in zip(ours.stages, theirs.stages, strict=True):
        assert [name for name, value in some.items() if not torch.equal(value, others[name])] == []


@pytest.mark.parametrize("pair", PAIRS, ids=" then ".join)
def test_two_processes_train_stages_as_one(pair: Case, together: Together, tmp_path: Path) -> None:
    folder = make_folder(tmp_path)
    journal = EventWriter(folder.events)
    alone = train(Trainer(setup_of(pair), folder, journal, Controls(folder, journal)))
    ours, theirs = together("alike", pair)
    assert_agree(ours, theirs)
    before = Small().state_dict()
    for name, expected, found in zip(pair, alone.stages, ours.stages, strict=True):
        moved = any(not torch.equal(expected[key], before[key]) for key in before if key.startswith("backbone"))
        assert moved == (name == "whole network")
        for key, value in expected.items():
            torch.testing.assert_close(found[key], value, rtol=1e-5, atol=1e-6)
        before = expected
    assert ours.test_loss == pytest.approx(alone.test_loss, rel=1e-5)


def test_two_processes_share_the_filters_of_muon_and_train_as_one(
    together: Together, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_folder(tmp_path)
    journal = EventWriter(folder.events)
    monkeypatch.setattr(muon, "has_bf16", lambda _device: False)
    alone = train(Trainer(setup_with_muon(MUON), folder, journal, Controls(folder, journal)))
    ours, theirs = together("muon", MUON)
    assert_agree(ours, theirs)
    for expected, found in zip(alone.stages, ours.stages, strict=True):
        for key, value in expected.items():
            torch.testing.assert_close(found[key], value, rtol=1e-4, atol=1e-5)
    assert ours.test_loss == pytest.approx(alone.test_loss, rel=1e-4)
    assert_agree(*together("halved", MUON))  # in bf16, in which the last digits are the third


@pytest.mark.parametrize("pair", PAIRS, ids=" then ".join)
def test_ranks_agree_on_batch_norm_and_on_averages(pair: Case, together: Together) -> None:
    assert_agree(*together("norm", pair))
