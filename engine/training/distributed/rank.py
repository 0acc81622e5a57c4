"""The process of one rank: `torchrun … -m engine.training.distributed.rank RUN_FOLDER`.

Rank 0 owns the run's journal from start to end, as `engine.training.worker` does where there is one device.
"""

import argparse
import ctypes
import os
import platform
import signal
import socket
import sys
import time
import traceback
from contextlib import ExitStack
from dataclasses import replace as replaced
from functools import partial
from pathlib import Path

import psutil  # type: ignore[import-untyped,unused-ignore]
import torch
from msgspec.structs import replace
from torch import nn

from engine.journal.events import Alerted, DataProgressed, RankPlace, RunFinished, RunStarted
from engine.journal.jsonl import EventWriter
from engine.queue.allocation import mark_devices
from engine.runs import start
from engine.runs.run_dir import RunDir, RunInfo, sign_lock
from engine.runs.start import NOTIFY
from engine.shared.device_names import check_devices
from engine.training import checkpoint_files, worker
from engine.training import setup as options
from engine.training.alerts import LearningWatch
from engine.training.controls import Aborted, SecondSignal
from engine.training.device import device_name, torch_memory
from engine.training.distributed import LEFT_ALONE, SIGNALS
from engine.training.distributed.controls import SharedControls, SilentJournal
from engine.training.distributed.heartbeat import Heartbeat, RankLost, capital
from engine.training.distributed.process_group import ProcessGroup, RankInfo, place_from_environment
from engine.training.distributed.trainer import RankTrainer
from engine.training.setup import Setup, choose_hardware, set_up
from engine.training.telemetry import Telemetry
from presets.errors import CifartuiError
from presets.range_test import table_of

_PATIENCE_S = 5.0
"""Until it is known which rank broke the connection."""
_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG


class LeftAlone(Exception):
    """Another rank is lost."""

    def __init__(self, lost: RankLost) -> None:
        super().__init__(lost.sentence)
        self.lost = lost


def main(argv: list[str] | None = None) -> int:
    """Train this rank's part of a run to its end; return 0 unless something failed."""
    parser = argparse.ArgumentParser(prog="engine.training.distributed.rank")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint, where there is one")
    parser.add_argument("--commands-from", type=int, help="byte of commands.jsonl to start at")
    parser.add_argument("--change", action="append", default=[], help="what this resume changed, for the journal")
    parser.add_argument("--has-agent", action="store_true", help="who started this holds the lock, and sees it die")
    arguments = parser.parse_args(argv)
    _die_with_parent()
    os.umask(0o077)
    try:
        place = place_from_environment()
        folder = RunDir(arguments.folder.absolute())
        info = folder.read_info()
        if table_of(info.preset) is not None:
            raise CifartuiError("A range test takes one process; start it with: cifartui lr-find")
        if arguments.commands_from is None:  # what was asked of an earlier worker is not for this one
            arguments.commands_from = _size(folder.commands) if arguments.resume and folder.events.exists() else 0
        if place.is_first and not arguments.has_agent:
            sign_lock(start.take_lock(folder), os.getpid())  # held until this process ends
    except (CifartuiError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    return _Rank(folder, info, place, arguments).run()


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _die_with_parent() -> None:
    """End with torchrun or the agent, however that ends: nobody else would hold the lock or stop this process."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PARENT_DEATH_SIGNAL, signal.SIGKILL)


class _Rank:
    """The life of this process."""

    def __init__(self, folder: RunDir, info: RunInfo, place: RankInfo, arguments: argparse.Namespace) -> None:
        self._began = time.monotonic()
        self._folder = folder
        self._info = info
        self._place = place
        self._arguments = arguments
        self._journal = EventWriter(folder.events) if place.is_first else SilentJournal()
        self._controls = SharedControls(folder, self._journal, place, commands_from=arguments.commands_from)
        self._heartbeat: Heartbeat | None = None
        self._command = os.environ.pop(NOTIFY, "")

    def run(self) -> int:
        """Train, and say how it ended, if that is for this rank to say; return the exit code."""
        self._controls.listen_to_signals()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        with ExitStack() as stack:
            telemetry = None
            if self._place.is_first:
                # The memory of all GPUs of this machine is that of the agent's descendants.
                telemetry = stack.enter_context(Telemetry(self._journal, os.getppid(), self._folder.path))
            try:
                finished = self._outcome(telemetry)
            except LeftAlone as alone:
                return self._end_alone(alone.lost)
        self._last_word(finished)
        self._journal.close()
        if self._heartbeat is not None:
            self._heartbeat.leave()
        if self._place.is_first:
            worker.notify_of(self._folder, finished, self._command)
        return 1 if finished.outcome == "failed" else 0

    def _last_word(self, finished: RunFinished) -> None:
        if self._place.is_first:
            worker.last_word(self._folder, self._journal, finished, time.monotonic() - self._began)

    def _outcome(self, telemetry: Telemetry | None) -> RunFinished:
        """Train, and return how it ended.

        Raises:
            LeftAlone: another rank is lost, or this one failed and is not the one to say so.
        """
        try:
            return self._train(telemetry)
        except worker.StoppedBeforeTraining:
            return worker.ended(self._controls, "stopped", f"{self._controls.stop_reason}, before training began")
        except Aborted:
            return worker.ended(self._controls, "aborted", "aborted by command; the checkpoints written before stay")
        except SecondSignal as second_signal:
            return worker.ended(
                self._controls,
                "stopped",
                f"{second_signal}; what is in last.pt stays, nothing more was validated or tested",
            )
        except CifartuiError as error:
            if not self._place.is_first and (lost := self._lost_within(_PATIENCE_S)) is not None:
                raise LeftAlone(lost) from error  # most likely rank 0 found the same, and has said so
            reason = str(error)
        except Exception as error:
            traceback.print_exc()
            might_be_another = isinstance(error, RuntimeError) and not isinstance(error, torch.OutOfMemoryError)
            if might_be_another and (lost := self._lost_within(_PATIENCE_S)) is not None:
                raise LeftAlone(lost) from error
            reason = worker.explain(error)
        if not self._place.is_first:
            reason = f"{capital(self._place)} failed: {reason}"
            if self._heartbeat is not None:
                self._heartbeat.fail(reason)
            raise LeftAlone(RankLost(reason, self._place, "failed"))
        return worker.ended(self._controls, "failed", reason)

    def _lost_within(self, patience_s: float) -> RankLost | None:
        return self._heartbeat.lost(patience_s) if self._heartbeat is not None else None

    def _end_alone(self, lost: RankLost) -> int:
        """Say, as rank 0, who is lost, unless the agent will know more; return the exit code."""
        print(f"{self._place} ends: {lost.sentence}", file=sys.stderr, flush=True)
        if not self._place.is_first or (lost.how == "gone" and self._arguments.has_agent):
            return LEFT_ALONE
        reason = f"{lost.sentence.rstrip('.')}. What was saved stays: cifartui resume {self._folder.id}"
        finished = worker.ended(self._controls, "failed", reason)
        self._last_word(finished)
        if self._heartbeat is not None:
            self._heartbeat.leave()
        worker.notify_of(self._folder, finished, self._command)
        return 1

    def _on_lost(self, lost: RankLost) -> None:
        """End the process from the thread that found a rank lost: the loop waits for it, and would for ever."""
        try:
            code = self._end_alone(lost)
            if lost.how == "silent" and lost.place is not None and lost.place.node == self._place.node:
                os.kill(lost.place.pid, signal.SIGKILL)  # torchrun would wait half a minute for it to end by itself
        except OSError:
            code = LEFT_ALONE
        os._exit(code)

    # --- training ----------------------------------------------------------------------------------

    def _train(self, telemetry: Telemetry | None) -> RunFinished:
        place, folder, journal, controls = self._place, self._folder, self._journal, self._controls
        resume, info = self._arguments.resume, self._info
        info = replace(info, device=_device_of(info.device, place))
        device, precision = choose_hardware(info)
        ranks = ProcessGroup(place, device)
        self._heartbeat = heartbeat = Heartbeat(place, self._on_lost)
        places = heartbeat.meet(lambda: ranks.agree([0]))
        if place.is_first and not self._arguments.has_agent:
            mark_devices(folder, dict.fromkeys(_named(device, each) for each in places if each.node == place.node))

        watch = LearningWatch()
        worker.look_back(folder, watch, resume=resume)
        (is_there,) = ranks.ask_first(resume and worker.has_checkpoint(folder))
        state, fallback = (
            ranks.in_turn(lambda: checkpoint_files.load_last(folder.checkpoints)) if is_there else ({}, "")
        )
        started = journal.write(
            RunStarted(
                pid=os.getpid(),
                host=socket.gethostname(),
                device=device.type,
                device_name=device_name(device),
                precision=precision,
                num_threads=torch.get_num_threads(),
                versions={"python": platform.python_version(), "torch": str(torch.__version__)},
                global_step=worker.global_step(state),
                changes=tuple(self._arguments.change),
                import_s=max(0.0, time.time() - psutil.Process().create_time()),
                ranks=tuple(
                    RankPlace(rank=each.rank, host=each.host, pid=each.pid, device=_named(device, each))
                    for each in places
                ),
            )
        )
        for alert in watch.see(started):
            journal.write(alert)
        if fallback:
            journal.write(Alerted(severity="warning", kind="damaged-checkpoint", text=fallback))
        if telemetry is not None and device.type == "cuda":
            telemetry.torch_memory = partial(torch_memory, device)

        def report(event: DataProgressed) -> None:
            journal.write(event)
            controls.poll()
            if controls.stop_after is not None:
                raise worker.StoppedBeforeTraining

        setup = ranks.in_turn(lambda: set_up(info, device, precision, write=journal.write, report=report))
        for notice in setup.data.notices:
            journal.write(Alerted(severity="notice", kind="data", text=notice))
        setup = _with_sync_batch_norm(replaced(setup, num_ranks=place.num_ranks))
        for notice in options.unsupported_speedups(setup).values():
            journal.write(Alerted(severity="notice", kind="option", text=notice))
        controls.share(ranks, heartbeat)
        trainer = RankTrainer(setup, folder, journal, controls, watch, ranks)
        if telemetry is not None:
            telemetry.steps = trainer.step_timer
        if state:
            trainer.restore(state)
        finished = trainer.run()
        heartbeat.rest()
        ranks.agree([0])
        ranks.close()
        return finished


def _device_of(asked: str, place: RankInfo) -> str:
    """Return the device of a rank: the GPU of its number on its machine, or the processor.

    Raises:
        CifartuiError: one certain device was asked for, for several ranks.
    """
    check_devices(asked, place.num_ranks)
    if place.num_ranks == 1:
        return asked
    if asked == "cpu" or (asked == "auto" and not torch.cuda.is_available()):
        return "cpu"
    return f"cuda:{place.local_rank}"


def _named(device: torch.device, place: RankInfo) -> str:
    return f"cuda:{place.local_rank}" if device.type == "cuda" else device.type


def _with_sync_batch_norm(setup: Setup) -> Setup:
    """Return the setup with BatchNorm over the whole batch, where the preset wants that.

    Raises:
        CifartuiError: the ranks train on processors, where torch has no such thing.
    """
    if not setup.info.preset.train.sync_batch_norm:
        return setup
    if setup.device.type != "cuda":
        raise CifartuiError("train.sync_batch_norm needs CUDA GPUs; set it to false to train on several processors.")
    network: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(setup.network)  # type: ignore[no-untyped-call]
    return replaced(setup, network=network)


if __name__ == "__main__":
    exit_code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    if exit_code:
        os._exit(exit_code)  # torch's own end would wait for ranks that are gone
