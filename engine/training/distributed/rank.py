"""The process of one rank: `torchrun … -m engine.training.distributed.rank RUN_FOLDER`.

It trains by `engine.training.worker.train_run`, as one process does. Rank 0 owns the run's journal from start to end.
"""

import argparse
import ctypes
import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import psutil  # type: ignore[import-untyped,unused-ignore]
import torch
from msgspec.structs import replace

from engine.journal.events import RankPlace, RunFinished
from engine.journal.jsonl import EventWriter
from engine.queue.allocation import machine_names, mark_devices
from engine.runs import start
from engine.runs.run_dir import RunDir, RunInfo
from engine.runs.worker_mark import sign_lock
from engine.runs.worker_process import signal_rank
from engine.shared.device_names import check_devices
from engine.training import worker
from engine.training.distributed import LEFT_ALONE, SIGNALS
from engine.training.distributed.controls import SharedControls, SilentJournal
from engine.training.distributed.heartbeat import Heartbeat, RankLost, capital
from engine.training.distributed.process_group import ProcessGroup, RankInfo, place_from_environment
from engine.training.microbatch import is_out_of_memory
from engine.training.setup import choose_hardware
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
    worker.add_resume_arguments(parser)
    parser.add_argument("--has-agent", action="store_true", help="who started this holds the lock, and sees it die")
    arguments = parser.parse_args(argv)
    _die_with_parent()
    os.umask(0o077)
    try:
        place = place_from_environment()
        folder = RunDir(arguments.folder.absolute())
        info = worker.read_info(folder, arguments)
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

    def run(self) -> int:
        """Train, and write how it ended unless another rank does; return the exit code."""
        self._controls.listen_to_signals()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        # The memory of all GPUs of this machine is that of the agent's descendants.
        telemetry = Telemetry(self._journal, os.getppid(), self._folder.path)
        with telemetry if self._place.is_first else nullcontext():
            try:
                finished = worker.outcome_of(
                    self._folder, self._controls, lambda: self._train(telemetry), self._why_failed
                )
            except LeftAlone as alone:
                return self._end_alone(alone.lost)
        self._last_word(finished)
        self._journal.close()
        failed = finished.outcome == "failed"
        if self._heartbeat is not None:
            self._heartbeat.leave(finished.reason if failed else "")
        return 1 if failed else 0

    def _train(self, telemetry: Telemetry) -> RunFinished:
        place, arguments = self._place, self._arguments
        info = replace(self._info, device=_device_of(self._info.device, place))
        device, precision = choose_hardware(info)
        self._place = place = _on_device(place, device)
        group = ProcessGroup(place, device)
        self._heartbeat = heartbeat = Heartbeat(place, self._on_lost)
        places = heartbeat.meet(group.barrier)
        self._controls.connect(group, heartbeat)
        check_gpus(places)
        if place.is_first and not arguments.has_agent:
            mark_devices(self._folder, dict.fromkeys(each.device for each in places if each.node == place.node))
        began = psutil.Process().create_time()
        process = worker.Process(self._folder, info, self._journal, self._controls, telemetry, arguments, began)
        ranks = tuple(RankPlace(rank=each.rank, host=each.host, pid=each.pid, device=each.device) for each in places)
        finished = worker.train_run(group, process, device, precision, ranks)
        heartbeat.rest()
        group.barrier()
        group.close()
        return finished

    # --- failures ----------------------------------------------------------------------------------

    def _why_failed(self, error: Exception) -> str:
        """Return a sentence for an error that ends the run.

        Raises:
            LeftAlone: another rank is to blame, or this one is, but it is for rank 0 to say so.
        """
        reason, is_first = worker.explain(error), self._place.is_first
        if isinstance(error, CifartuiError):
            may_be_another = not is_first  # most likely rank 0 found the same, and has said so
        else:
            may_be_another = isinstance(error, RuntimeError) and not is_out_of_memory(error)
        if may_be_another and (lost := self._lost_within(_PATIENCE_S)) is not None:
            raise LeftAlone(lost) from error
        if not is_first:
            reason = f"{capital(self._place)} failed: {reason}"
            if self._heartbeat is not None:
                self._heartbeat.leave(reason)
            raise LeftAlone(RankLost(reason, self._place, "failed")) from error
        return reason

    def _last_word(self, finished: RunFinished) -> None:
        if self._place.is_first:
            worker.last_word(self._folder, self._journal, finished, time.monotonic() - self._began)

    def _lost_within(self, patience_s: float) -> RankLost | None:
        return self._heartbeat.lost(patience_s) if self._heartbeat is not None else None

    def _end_alone(self, lost: RankLost) -> int:
        """Say, as rank 0, who is lost, unless the agent will know more; return the exit code."""
        print(f"{self._place} ends: {lost.sentence}", file=sys.stderr, flush=True)
        if not self._place.is_first or (lost.how == "gone" and self._arguments.has_agent):
            return exit_code_of(lost)
        reason = f"{lost.sentence.rstrip('.')}. What was saved stays: cifartui resume {self._folder.id}"
        finished = worker.ended(self._controls, "failed", reason)
        self._last_word(finished)
        if self._heartbeat is not None:
            self._heartbeat.leave(reason)
        return 1

    def _on_lost(self, lost: RankLost) -> None:
        """End the process from the thread that found a rank lost: the loop waits for it, and would for ever."""
        try:
            code = self._end_alone(lost)
            if lost.how == "silent" and lost.place is not None and lost.place.node == self._place.node:
                # torchrun would wait half a minute for it to end by itself
                signal_rank(self._folder, lost.place.pid, signal.SIGKILL)
        except OSError:
            code = LEFT_ALONE
        os._exit(code)


def exit_code_of(lost: RankLost) -> int:
    """Return the exit code of a rank that ends because of another: 0 if that one, rank 0, ended as planned.

    torchrun takes anything else for a failure, and torchrun on the other machines then waits five minutes for this one.
    """
    return 0 if lost.how == "ended" else LEFT_ALONE


def _device_of(asked: str, place: RankInfo) -> str:
    """Return the device of a rank: the GPU of its number on its machine, the only GPU it is shown, or the processor.

    Launchers such as `srun --gpus-per-task=1` show each rank a GPU of its own, which is its cuda:0.

    Raises:
        CifartuiError: one certain device was asked for, for several ranks.
    """
    check_devices(asked, place.num_ranks)
    if place.num_ranks == 1:
        return asked
    if asked == "cpu" or (asked == "auto" and not torch.cuda.is_available()):
        return "cpu"
    return "cuda:0" if torch.cuda.device_count() == 1 else f"cuda:{place.local_rank}"


def _on_device(place: RankInfo, device: torch.device) -> RankInfo:
    """Return the place with the device that its rank has chosen."""
    (name,) = machine_names([str(device)])
    if device.type != "cuda":
        return place._replace(device=name)
    return place._replace(device=name, gpu=str(getattr(torch.cuda.get_device_properties(device), "uuid", "")))


def check_gpus(places: Sequence[RankInfo]) -> None:
    """Refuse ranks that would share a GPU, which NCCL cannot do.

    Raises:
        CifartuiError: two have the same one.
    """
    first: dict[str, RankInfo] = {}
    for place in places:
        if place.gpu and (other := first.setdefault(place.gpu, place)) is not place:
            raise CifartuiError(
                f"Ranks {other.rank} and {place.rank} on {place.host} have the same GPU ({place.device}): start as "
                "many ranks a machine as it has GPUs, or let the launcher show each rank another GPU."
            )


if __name__ == "__main__":
    exit_code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_code)  # the end of torch's process group may wait for ranks that are gone, or die of it
