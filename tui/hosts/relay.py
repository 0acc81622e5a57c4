"""Relay: the far side of a line between two hosts. It answers asks from the run directories of its own host.

It reads and writes these as the local program does. One thread does all, so that answers come in order; it ends with
its input, or when nobody has spoken for a minute.
"""

import os
import select
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Protocol

import msgspec
from msgspec import Raw

from engine import files
from engine.files import DAMAGED
from engine.journal.events import AnyEvent, CommandApplied
from engine.journal.jsonl import LineReader, append_command, command_reader, event_reader
from engine.queue import queue_file, runner_process
from engine.queue.allocation import held_devices, queue_positions
from engine.runs.find_run import find_run
from engine.runs.needed_files import check_needed
from engine.runs.newer_info import read_shown
from engine.runs.notify_settings import Notify
from engine.runs.resume import resume_run
from engine.runs.run_dir import RunDir, list_runs
from engine.runs.run_options import RunOptions
from engine.runs.start import start_run
from engine.shared.gpus import visible_gpus
from presets import catalog
from presets.errors import CifartuiError
from presets.problems import printable
from tui.data.environment import Environment, GpuReadings
from tui.data.run_detail import detail_and_state
from tui.data.run_list import RunLister, RunsListed
from tui.hosts import wire
from tui.hosts.followed import Followed
from tui.hosts.history import encode_history
from tui.hosts.wire import AnyAnswer, AnyAsk
from tui.text import queue_text, run_text

QUIET_S = 60.0
"""The near side pings every few seconds: one that is silent for so long is gone."""
_TICK_S = 0.25
_LIST_EVERY_S = 2.0
_MACHINE_EVERY_S = 3.0
_RUNS_A_LINE = 100
_COMMAND_S = 60.0
"""For so long the answer to a command is waited for."""
_MOST_OPEN = 32
"""Asks at once whose answers go on."""


class LineClosedError(Exception):
    """The near side reads no more."""


class _Open(Protocol):
    """An ask whose answers go on."""

    def tick(self) -> bool:
        """Send what is new; return False once there will be no more."""


class Relay:
    """Answers to the asks of one line."""

    def __init__(
        self,
        runs_dir: Path,
        data_dir: str | None,
        notify: Callable[[], Notify],
        write: Callable[[bytes], object],
        environment: Environment | None = None,
    ) -> None:
        """Answer for the runs of `runs_dir`.

        Args:
            runs_dir: need not exist.
            data_dir: searched first for data, and passed to the runs started.
            notify: returns who is told of runs that are started here; may raise CifartuiError.
            write: writes a line to the near side.
            environment: GPUs and clock, for tests.
        """
        self._runs_dir, self._data_dir, self._notify = runs_dir, data_dir, notify
        self._write, self._packer = write, wire.Packer()
        self._environment = environment or Environment()
        self._read_gpus: Callable[[], GpuReadings] | None = None
        self._open: dict[int, _Open] = {}

    def greet(self) -> None:
        """Say what this is."""
        self._send(
            wire.Hello(protocol=wire.PROTOCOL, version=metadata.version("cifartui"), host=self._environment.host)
        )

    @property
    def is_waiting(self) -> bool:
        """True if nothing is to be sent but the answer to a next ask."""
        return not self._open

    def take(self, line: bytes | None) -> None:
        """Answer an ask; None stands for a line that was too long."""
        ask_id = 0
        try:
            if line is None:
                raise CifartuiError(f"An ask is at most {wire.LONGEST_ASK_BYTES // 1024} kB long.")
            ask_id = wire.id_in(line)
            try:
                ask = wire.decode_ask(line)
            except DAMAGED as error:
                raise CifartuiError(f"This is no ask that this version knows: {printable(str(error))}.") from None
            self._answer(ask)
        except LineClosedError:
            raise
        except Exception as error:  # whatever is in one run's files, the others are answered for
            self._send(wire.Refused(id=ask_id, problem=_sentence(error)))

    def tick(self) -> None:
        """Send what is new to those who asked for it."""
        for ask_id, each in list(self._open.items()):
            try:
                goes_on = each.tick()
            except LineClosedError:
                raise
            except Exception as error:  # as above
                self._send(wire.Refused(id=ask_id, problem=_sentence(error)))
                goes_on = False
            if not goes_on:
                self._open.pop(ask_id, None)

    def _send(self, answer: AnyAnswer) -> int:
        line = self._packer.line(answer)
        self._write(line)
        return len(line)

    def _answer(self, ask: AnyAsk) -> None:
        match ask:
            case wire.Ping():
                self._send(wire.Pong(id=ask.id))
            case wire.Leave():
                self._open.pop(ask.left, None)
            case wire.ListRuns():
                self._keep_open(ask.id, _Listed(ask, RunLister(self._runs_dir, time.time, limit=ask.limit), self._send))
            case wire.FollowRun():
                followed = Followed(ask, self._run(ask.run), self._send)
                followed.open()
                self._keep_open(ask.id, followed)
            case wire.SendCommand():
                self._command(ask)
            case wire.ReadMachine():
                machine = _Machine(ask.id, self._machine, self._send)
                machine.tick()
                if ask.goes_on:
                    self._keep_open(ask.id, machine)
            case wire.ShowRun():
                run = self._run(ask.run)
                detail, state = detail_and_state(run, time.time(), ask.most_steps)
                self._send(wire.RunPage(id=ask.id, detail=_raw(detail), state=encode_history(state)))
            case wire.ListPresets():
                self._send(wire.PresetNames(id=ask.id, names=tuple(catalog.names())))
            case wire.StartPreset():
                self._start(ask)
            case wire.ResumeRun():
                run = self._run(ask.run)
                resume_run(run, ask.changes, self._notify())
                self._send(wire.Started(id=ask.id, run=run.id))

    def _keep_open(self, ask_id: int, opened: _Open) -> None:
        if len(self._open) >= _MOST_OPEN:
            raise CifartuiError(f"At most {_MOST_OPEN} asks are answered at once; leave one.")
        self._open[ask_id] = opened

    def _run(self, name: str) -> RunDir:
        return find_run(self._runs_dir, name)

    # --- commands ----------------------------------------------------------------------------------

    def _command(self, ask: wire.SendCommand) -> None:
        """Write a command, unless one of its id is there, and let its answer follow."""
        run, command = self._run(ask.run), ask.command
        journal = event_reader(run.events)
        journal.skip_to_end()  # first of all: no answer comes between what is read here and what follows
        is_written = any(each.id == command.id for each in command_reader(run.commands).read())
        if is_written or ask.look_only:
            told = run.read_state().commands.get(command.id)
            self._send(_given(ask.id, command.id, told, is_written=is_written or told is not None))
            if told is None and is_written:
                self._keep_open(ask.id, _Commanded(ask, run, journal, self._send))
            return
        if run.worker_lives() is False:
            raise CifartuiError(run_text.no_worker(read_shown(run), run.read_state()))
        append_command(run.commands, command)
        self._send(_given(ask.id, command.id, None, is_written=True))
        self._keep_open(ask.id, _Commanded(ask, run, journal, self._send))

    # --- the machine, its queue, its presets -------------------------------------------------------

    def _machine(self, ask_id: int) -> wire.MachineState:
        if self._read_gpus is None:
            self._read_gpus = self._environment.gpu_reader()
        readings = self._read_gpus()
        if len(readings.gpus) > 1:
            readings = msgspec.structs.replace(readings, taken=self._environment.taken(self._runs_dir))
        rows, problem, runner, is_worked_on = list[queue_text.Row](), "", "", True
        visible = self._environment.visible_gpus
        try:
            if entries := queue_file.entries(self._runs_dir):
                gpus = visible_gpus(readings.gpus, visible)
                held = held_devices(list_runs(self._runs_dir), gpus)
                rows = queue_text.rows_of(entries, queue_positions(entries, held, gpus))
                is_worked_on = bool(queue_file.runner_lives(self._runs_dir))
                mark = runner_process.runner_mark(self._runs_dir) if is_worked_on else None
                runner = queue_text.runner(is_worked_on, mark)
        except CifartuiError as error:
            problem = str(error)
        return wire.MachineState(
            id=ask_id, gpus=_raw(readings), queue=tuple(map(_raw, rows)), queue_problem=problem, runner=runner,
            is_worked_on=is_worked_on, visible=visible,
        )  # fmt: skip

    def _start(self, ask: wire.StartPreset) -> None:
        """Start or queue a preset, after the checks that `cifartui train` makes."""
        preset = catalog.load(ask.preset, ask.overrides)
        options = RunOptions(
            overrides=ask.overrides, seed=ask.seed, seeds=ask.seeds, device=ask.device, devices=ask.devices,
            data_dir=self._data_dir, notify=self._notify(),
        )  # fmt: skip
        check_needed(preset, self._data_dir, options)
        if ask.queued or ask.seeds:
            added = queue_file.add(self._runs_dir, [ask.preset], options)
            self._send(wire.Started(id=ask.id, title=preset.title, num_queued=len(added)))
        else:
            run = start_run(self._runs_dir, ask.preset, options)
            self._send(wire.Started(id=ask.id, run=run.id, title=preset.title))


def _sentence(error: Exception) -> str:
    if isinstance(error, CifartuiError):
        return str(error)
    return str(files.unusable(error)) if isinstance(error, OSError) else f"{type(error).__name__}: {error}"


def _raw(content: object) -> Raw:
    return Raw(wire.encoded(content))


def _given(ask_id: int, command_id: str, told: CommandApplied | None, *, is_written: bool) -> wire.CommandGiven:
    if told is None:
        return wire.CommandGiven(id=ask_id, command_id=command_id, is_written=is_written)
    return wire.CommandGiven(
        id=ask_id, command_id=command_id, is_written=True, is_answered=True, is_accepted=told.accepted,
        effect=told.effect, global_step=told.global_step,
    )  # fmt: skip


class _Commanded:
    """A command whose answer is waited for."""

    def __init__(
        self, ask: wire.SendCommand, run: RunDir, journal: LineReader[AnyEvent], send: Callable[[AnyAnswer], int]
    ) -> None:
        self._ask, self._run, self._journal, self._send = ask, run, journal, send
        self._until = time.monotonic() + _COMMAND_S

    def tick(self) -> bool:
        with suppress(OSError):
            lives = self._run.worker_lives()  # before reading: what a worker writes last is not missed
            for event in self._journal.read():
                if isinstance(event, CommandApplied) and event.command_id == self._ask.command.id:
                    self._send(_given(self._ask.id, event.command_id, event, is_written=True))
                    return False
            if lives is False:
                raise CifartuiError("The run ended before it could answer.")
        return time.monotonic() < self._until


class _Machine:
    """The GPUs and the queue, sent whenever they have changed."""

    def __init__(self, ask_id: int, read: Callable[[int], wire.MachineState], send: Callable[[AnyAnswer], int]) -> None:
        self._ask_id, self._read, self._send = ask_id, read, send
        self._sent: wire.MachineState | None = None
        self._due_at = 0.0

    def tick(self) -> bool:
        now = time.monotonic()
        if now >= self._due_at:
            self._due_at = now + _MACHINE_EVERY_S
            if (machine := self._read(self._ask_id)) != self._sent:
                self._send(machine)
                self._sent = machine
        return True


class _Listed:
    """The newest runs, of which what has changed is sent."""

    def __init__(self, ask: wire.ListRuns, lister: RunLister, send: Callable[[AnyAnswer], int]) -> None:
        self._ask, self._lister, self._send = ask, lister, send
        self._sent: dict[str, object] = {}
        self._about: tuple[object, ...] = ()
        """All that was sent besides the runs."""
        self._reading: Iterator[RunsListed] | None = None
        self._due_at, self._is_first = 0.0, True

    def tick(self) -> bool:
        """Read on, some runs at a time, so that other asks are answered meanwhile."""
        now = time.monotonic()
        if self._reading is None:
            if now < self._due_at:
                return True
            self._reading = self._lister.refresh(is_idle=not self._is_first)
        listed = next(self._reading, None)
        if listed is None:
            self._reading, self._due_at, self._is_first = None, now + _LIST_EVERY_S, False
        else:
            self._send_changes(listed)
        return True

    def _send_changes(self, listed: RunsListed) -> None:
        changed = [run for run in listed.runs if self._sent.get(run.id) != run]
        ids = {run.id for run in listed.runs}
        is_whole = not listed.num_unread
        gone = tuple(run_id for run_id in self._sent if run_id not in ids) if is_whole else ()
        damaged = tuple(map(_raw, listed.damaged))
        about = (listed.num_all, listed.num_unread, listed.problem, damaged)
        if not changed and not gone and about == self._about:
            return
        self._sent.update((run.id, run) for run in changed)
        for run_id in gone:
            del self._sent[run_id]
        self._about = about
        for start in range(0, max(1, len(changed)), _RUNS_A_LINE):
            part: Sequence[object] = changed[start : start + _RUNS_A_LINE]
            is_last = start + _RUNS_A_LINE >= len(changed)
            self._send(
                wire.RunsChanged(
                    id=self._ask.id, runs=tuple(map(_raw, part)), gone=gone, damaged=damaged, num_all=listed.num_all,
                    num_unread=listed.num_unread if is_last else max(1, listed.num_unread), problem=listed.problem,
                )
            )  # fmt: skip


# --- standard input and output ------------------------------------------------------------------------


def serve(
    make: Callable[[Callable[[bytes], object]], Relay], source: int, sink: int, is_over: Callable[[], bool]
) -> None:
    """Answer what comes from `source` on `sink`, both descriptors, until one of them is closed or `is_over`.

    `make` returns the relay that writes with the given function.
    """

    def write(line: bytes) -> None:
        left = memoryview(line)
        until = time.monotonic() + QUIET_S
        while left:
            try:
                left = left[os.write(sink, left) :]
            except BlockingIOError:
                if time.monotonic() > until or is_over():
                    raise LineClosedError from None
                select.select([], [sink], [], 1.0)
            except OSError as error:
                raise LineClosedError from error

    os.set_blocking(sink, False)
    lines, heard_at = wire.Lines(wire.LONGEST_ASK_BYTES), time.monotonic()
    relay = make(write)
    with suppress(LineClosedError):
        relay.greet()
        while not is_over() and time.monotonic() - heard_at < QUIET_S:
            if select.select([source], [], [], 1.0 if relay.is_waiting else _TICK_S)[0]:
                received = os.read(source, 1 << 16)
                if not received:
                    return
                heard_at = time.monotonic()
                for line in lines.feed(received):
                    relay.take(line)
            relay.tick()
