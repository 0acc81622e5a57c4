"""Relay of a host: its answers, of which nothing is done twice, and a wrong ask does nothing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine.journal import commands
from engine.journal import events as ev
from engine.journal.jsonl import command_reader
from engine.journal.state import fold
from engine.runs.notify_settings import NOBODY
from tests.hostile_run import hostile_run
from tests.ui.sample_run import SampleRun, training
from tui.data.summary import Summary
from tui.hosts import followed, wire
from tui.hosts.followed import thinned
from tui.hosts.history import MOST_POINTS, decode_history
from tui.hosts.relay import Relay
from tui.hosts.remote_run import events_of


class Far:
    """A relay in this process, and the answers that it gave."""

    def __init__(self, runs_dir: Path) -> None:
        self.lines: list[bytes] = []
        self._unpacker, self._number = wire.Unpacker(), 1
        self.relay = Relay(runs_dir, None, lambda: NOBODY, self.lines.append)

    def heard(self) -> list[Any]:
        """Return what came since the last call."""
        lines, self.lines[:] = self.lines[:], []
        return [self._unpacker.answer(line) for line in lines]

    def ask(self, kind: Callable[..., Any], **fields: Any) -> list[Any]:
        self._number += 1
        self.relay.take(wire.encode_ask(kind(id=self._number, **fields)).rstrip())
        return self.heard()

    def ticks(self, number: int = 1) -> list[Any]:
        for _ in range(number):
            self.relay.tick()
        return self.heard()


@pytest.fixture
def far(tmp_path: Path) -> Far:
    return Far(tmp_path)


def test_a_run_that_is_followed_adds_up_to_what_its_journal_does(far: Far, tmp_path: Path) -> None:
    with training(tmp_path) as run:
        (history,) = far.ask(wire.FollowRun, run="latest")
        state = decode_history(history.state)
        run.train_epoch(9).telemetry()
        answers = far.ticks(2)
        for progress in answers:
            fold(events_of(progress), state)
        whole = run.folder.read_state()
        assert [point.global_step for point in state.epochs] == [point.global_step for point in whole.epochs]
        assert state.best == whole.best
        assert (state.epoch, state.step, state.global_step) == (whole.epoch, whole.step, whole.global_step)
        assert sum(point.num_images for point in state.steps) == sum(point.num_images for point in whole.steps)
        assert (state.steps[0].lr, state.steps[-1].lr) == (0.005, 0.005)
        assert state.steps[0].grad_norm == pytest.approx(whole.steps[0].grad_norm, rel=1e-4)
        assert answers[-1].offset == run.folder.events.stat().st_size
        assert answers[-1].lives is True


def test_after_a_drop_only_what_is_new_is_sent_and_after_a_long_one_the_history(far: Far, tmp_path: Path) -> None:
    with training(tmp_path) as run:
        (history,) = far.ask(wire.FollowRun, run=run.folder.id)
        run.write(ev.Alerted(severity="notice", kind="test", text="new"))
        assert far.ask(wire.FollowRun, run=run.folder.id, since=history.offset) == []
        (_, progress) = far.ticks()  # to the first ask, which was not left, and to the second
        assert [type(event).__name__ for event in events_of(progress)] == ["Alerted"]
        (again,) = far.ask(wire.FollowRun, run=run.folder.id, since=history.offset - 1)  # within a line
        assert isinstance(again, wire.History)


def test_a_run_takes_no_more_of_a_line_than_it_may(far: Far, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(followed.time, "monotonic", lambda: now)
    many = tuple(
        ev.GpuSample(index=number, name="NVIDIA H200", memory_used_bytes=number * 12_345_678_901) for number in range(8)
    )
    with training(tmp_path) as run:
        follow = followed.Followed(wire.FollowRun(id=1, run="x"), run.folder, far.relay._send, lambda: now)
        follow.open()
        far.heard()
        host = ev.HostSample(memory_used_bytes=1, memory_total_bytes=2, process_rss_bytes=1)
        for tenth in range(600):
            now = tenth / 10
            step = 1407 * 20 + tenth
            run.write(
                ev.StepsTrained(
                    epoch=20, step=tenth, global_step=step, num_steps=1, num_images=32, loss=2.0 + tenth * 1e-3,
                    top1=0.1 + tenth * 1e-5, lr=0.1, images_per_s=1e3 + tenth,
                ),
                0.1,
            )  # fmt: skip
            if tenth % 20 == 0:
                run.write(ev.DeviceSampled(host=host, gpus=many, worker_s=tenth / 10))
            if tenth % 3 == 0:
                assert follow.tick()
        seconds = 60
        sent = sum(map(len, far.lines))
        assert 30 * seconds < sent < followed.BYTES_A_SECOND * seconds
        reports = [event for answer in far.heard() for event in events_of(answer) if isinstance(event, ev.StepsTrained)]
        assert 50 <= len(reports) <= 130
        assert sum(report.num_images for report in reports) >= 580 * 32


def test_reports_are_merged_into_means_of_their_images_and_nothing_rare_is_left_out() -> None:
    def report(step: int, time: float, num_images: int, loss: float, norm: float | None = None) -> ev.StepsTrained:
        return ev.StepsTrained(
            seq=step, time=time, epoch=1, step=step, global_step=step, num_steps=1, num_images=num_images, loss=loss,
            top1=0.5, lr=0.1, images_per_s=100.0, grad_norm=norm, clipped=0.0 if norm is None else 1.0,
        )  # fmt: skip

    alert = ev.Alerted(seq=3, time=10.3, severity="notice", kind="test", text="between")
    found = thinned([report(1, 10.1, 30, 1.0), report(2, 10.2, 10, 3.0), alert, report(4, 10.4, 7, 2.0)])
    assert [(event.seq, getattr(event, "loss", None), getattr(event, "num_images", None)) for event in found] == [
        (2, 1.5, 40), (3, None, None), (4, 2.0, 7),
    ]  # fmt: skip
    assert thinned(found) == found
    (merged,) = thinned([report(1, 10.1, 30, 1.0, 2.0), report(2, 10.2, 10, 3.0, 6.0), report(3, 10.3, 40, 1.0)])
    assert isinstance(merged, ev.StepsTrained)
    assert (merged.grad_norm, merged.clipped) == (3.0, 0.5)


def test_a_long_history_is_cut_to_what_a_screen_shows(far: Far, tmp_path: Path) -> None:
    with SampleRun(tmp_path).live().begin().prepare() as run:
        for epoch in range(1, 121):
            run.train_epoch(epoch)
        (history,) = far.ask(wire.FollowRun, run="latest")
        state, whole = decode_history(history.state), run.folder.read_state()
        assert len(whole.steps) > 2 * MOST_POINTS - 1 > len(state.steps) > 500
        assert state.steps.num_reports == whole.steps.num_reports
        assert [point.score for point in state.epochs] == [point.score for point in whole.epochs]
        assert state.log == whole.log[-200:] or state.log[-100:] == whole.log[-100:]


def test_a_command_is_written_once_however_often_it_is_given(far: Far, tmp_path: Path) -> None:
    with training(tmp_path) as run:
        stop = commands.Stop(id="abcd1234")
        (absent,) = far.ask(wire.SendCommand, run="latest", command=stop, look_only=True)
        assert not absent.is_written
        assert not run.folder.commands.exists()
        for _ in range(2):
            (given,) = far.ask(wire.SendCommand, run="latest", command=stop)
            assert (given.is_written, given.is_answered) == (True, False)
        assert [each.id for each in command_reader(run.folder.commands).read()] == ["abcd1234"]
        answer = ev.CommandApplied(
            command_id="abcd1234", command="Stop", accepted=True, effect="stops", epoch=9, global_step=77
        )
        run.write(answer)
        told = far.ticks()
        assert [(each.is_answered, each.is_accepted, each.effect, each.global_step) for each in told] == [
            (True, True, "stops", 77)
        ] * 2
        assert far.ticks() == []
        for look_only in (True, False):
            (known,) = far.ask(wire.SendCommand, run="latest", command=stop, look_only=look_only)
            assert (known.is_written, known.is_answered, known.effect) == (True, True, "stops")
        assert len(command_reader(run.folder.commands).read()) == 1


def test_a_run_without_a_worker_takes_no_command(far: Far, tmp_path: Path) -> None:
    with SampleRun(tmp_path).begin().prepare().train_epoch(1).save().finish() as run:
        (refused,) = far.ask(wire.SendCommand, run="latest", command=commands.Pause())
        assert "has no worker (completed)" in refused.problem
        assert not run.folder.commands.exists()


@pytest.mark.parametrize(
    "line",
    [
        b"", b"rm -rf /", b"{}", b'{"type":"Stop","id":3}', b'{"type":"SendCommand","id":3,"run":"latest"}',
        b'{"type":"SendCommand","id":3,"run":"latest","command":{"type":"Stop","after":"never"}}',
        b'{"type":"SendCommand","id":3,"run":"latest","command":{"type":"Stop"},"sudo":true}',
        b'{"type":"SendCommand","id":3,"run":"../x","command":{"type":"Stop"}}',
        b'{"type":"FollowRun","id":3,"run":"../../etc"}', b'{"type":"FollowRun","id":3,"run":"latest","since":-1}',
        b'{"type":"StartPreset","id":3,"preset":"demo","notify":"rm"}', b"[" * 10_000, b"\xff\x00", None,
        b'{"type":"StartPreset","id":3,"preset":"no-such-preset"}',
        b'{"type":"StartPreset","id":3,"preset":"demo","overrides":["optimizer.lr=fast"]}',
        b'{"type":"ResumeRun","id":3,"run":"nobody"}', b'{"type":"ListRuns","id":0}',
    ],
)  # fmt: skip
def test_a_wrong_ask_is_answered_by_a_sentence_and_nothing_else_happens(
    far: Far, tmp_path: Path, line: bytes | None
) -> None:
    with training(tmp_path) as run:
        before = sorted((path, path.stat().st_mtime_ns) for path in tmp_path.rglob("*"))
        far.relay.take(line)
        (refused,) = far.heard()
        assert isinstance(refused, wire.Refused)
        assert refused.problem.endswith(".")
        assert sorted((path, path.stat().st_mtime_ns) for path in tmp_path.rglob("*")) == before
        assert far.relay.is_waiting
        assert run.folder.worker_lives()


def test_what_a_preset_lacks_there_is_said(far: Far, tmp_path: Path) -> None:
    (refused,) = far.ask(wire.StartPreset, preset="basenet", overrides=('data.path="/no/such/folder"',))
    assert "/no/such/folder" in refused.problem
    assert list(tmp_path.iterdir()) == []


def test_of_listed_runs_only_changes_are_sent(far: Far, tmp_path: Path) -> None:
    def ids(answers: list[Any]) -> list[str]:
        return [msgspec.json.decode(each, type=Summary).id for answer in answers for each in answer.runs]

    with training(tmp_path) as live, SampleRun(tmp_path, "basenet-b1b1").begin().prepare().finish() as ended:
        far.ask(wire.ListRuns)
        assert sorted(ids(far.ticks(2))) == sorted([live.folder.id, ended.folder.id])
        listed = next(iter(far.relay._open.values()))
        live.train_epoch(9)
        listed._due_at = 0.0  # type: ignore[attr-defined]
        assert ids(far.ticks(2)) == [live.folder.id]
        for path in sorted(ended.folder.path.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        ended.folder.path.rmdir()
        listed._due_at = 0.0  # type: ignore[attr-defined]
        (gone,) = [answer for answer in far.ticks(2) if answer.gone]
        assert (gone.gone, gone.num_all) == ((ended.folder.id,), 1)


def test_the_machine_and_its_presets_are_told(far: Far, tmp_path: Path) -> None:
    (machine,) = far.ask(wire.ReadMachine)
    assert machine.queue == ()
    (presets,) = far.ask(wire.ListPresets)
    assert "demo" in presets.names
    assert far.ask(wire.Ping) == [wire.Pong(id=4)]


def test_a_hostile_run_is_carried_as_it_is_and_bounded(far: Far, tmp_path: Path) -> None:
    with hostile_run(tmp_path):
        (history,) = far.ask(wire.FollowRun, run="latest")
        assert decode_history(history.state).log
        assert sum(map(len, far.lines)) == 0


EPOCH = (
    b'{"global_step":%d,"epoch":1,"time":1,"train_loss":1,"train_top1":1,"val_loss":1,"val_top1":1,"lr":1,"seconds":1,'
    b'"partial":false}'
)


def test_what_unpacks_to_more_than_can_be_shown_is_refused() -> None:
    packer, unpacker = wire.Packer(), wire.Unpacker()
    line = packer.line(wire.Refused(problem="x" * (wire.MOST_UNPACKED_BYTES + 1)))
    assert len(line) < 100_000
    with pytest.raises(wire.HostileError):
        unpacker.answer(line)


def test_the_curve_of_a_host_of_a_version_before_has_rates_and_norms_that_nobody_knows() -> None:
    steps = {name: [1, 2] for name in ("global_step", "epoch", "time", "loss", "top1", "num_images")}
    steps |= {"num_reports": 2, "num_thinned": 0, "slot_steps": 1}
    state = decode_history(msgspec.Raw(msgspec.json.encode({"steps": steps})))
    assert [(point.loss, point.lr, point.grad_norm, point.clipped) for point in state.steps] == [
        (1.0, None, None, 0.0), (2.0, None, None, 0.0),
    ]  # fmt: skip
    steps["lr"] = [0.1]
    with pytest.raises((msgspec.MsgspecError, ValueError)):
        decode_history(msgspec.Raw(msgspec.json.encode({"steps": steps})))


@pytest.mark.parametrize(
    "state",
    [
        b"{}x", b"[]", b'{"epochs":[{"epoch":1e308}]}', b'{"lr":1e300}', b'{"steps":{}}',
        b'{"steps":{"global_step":[1],"epoch":[],"time":[],"loss":[],"top1":[],"num_images":[],"num_reports":1,'
        b'"num_thinned":0,"slot_steps":1}}',
        b'{"steps":{"global_step":[2,1],"epoch":[1,1],"time":[1,1],"loss":[1,1],"top1":[1,1],"num_images":[1,1],'
        b'"num_reports":2,"num_thinned":0,"slot_steps":1}}',
        b'{"epochs":[' + EPOCH % 2 + b"," + EPOCH % 1 + b"]}",
        b'{"rates":[[1,1e300]]}', b'{"epoch":-5}', b'{"device_history":[3]}',
    ],
)  # fmt: skip
def test_a_state_that_no_run_has_is_refused(state: bytes) -> None:
    with pytest.raises((msgspec.MsgspecError, ValueError)):
        decode_history(msgspec.Raw(state))


def test_lines_that_are_too_long_are_dropped_and_the_next_is_read() -> None:
    lines = wire.Lines(10)
    assert list(lines.feed(b"a\nbb")) == [b"a"]
    assert list(lines.feed(b"b" * 100)) == []
    assert list(lines.feed(b"b\nccc\n" + b"d" * 11 + b"\n")) == [None, b"ccc", None]
