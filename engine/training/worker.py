"""The worker process: `python -m engine.training.worker RUN_FOLDER`, started by `engine.runs.start`.

Owns the run's journal from start to end and turns whatever happens into a last event. Imports torch
only after it has begun to speak and to listen. With several devices each has a process of its own
(`engine.training.distributed.rank`), which trains by the same `train_run`.
"""

import argparse
import dataclasses
import os
import platform
import re
import socket
import sys
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from msgspec.structs import replace

from engine import files
from engine.journal.events import Alerted, DataProgressed, RankPlace, RunFinished, RunStarted
from engine.journal.fold_file import keep_up
from engine.journal.jsonl import EventWriter
from engine.queue.allocation import machine_names, mark_devices, others_of, taken_devices
from engine.runs.run_dir import RunDir, RunInfo
from engine.training.alerts import LearningWatch
from engine.training.controls import Aborted, Controls, SecondSignal
from engine.training.resume import check_data, global_step, has_checkpoint, keep_data_path, load_last, look_back
from engine.training.telemetry import Telemetry
from presets.errors import CifartuiError
from presets.range_test import table_of

if TYPE_CHECKING:
    import torch

    from engine.training.parallel import Parallel
    from engine.training.setup import Setup


_NO_LOCKS = (
    "The disk with this run refuses locks (some NFS and FUSE file systems do): its worker is known by what it writes, "
    "and is taken for lost after half a minute of silence."
)


_OF_CUDA = re.compile(r"CUDA error|CUDA driver|cuDNN error|CUBLAS_STATUS|CUSOLVER_STATUS|NCCL (error|WARN)|cudaError")
_ON_CUDA = (
    "Go on with cifartui resume RUN --set train.cuda_graphs=false, then with --set train.compile=off too; if it stays, "
    "`make gpu` in cifartui's source writes a page on this GPU for an issue."
)


class StoppedBeforeTraining(Exception):
    """A stop came while data was still being prepared."""


class Process(NamedTuple):
    """Connections of a training process to its run, all of which exist before torch is imported.

    Attributes:
        folder: of the run.
        info: of the run; its device is the one that this process asks for.
        journal: of the run; in every rank but the first, a silent one.
        controls: commands and signals.
        telemetry: readings of the machine.
        arguments: of the command line; see `add_resume_arguments`.
        began: Unix seconds of the start.
    """

    folder: RunDir
    info: RunInfo
    journal: EventWriter
    controls: Controls
    telemetry: Telemetry
    arguments: argparse.Namespace
    began: float


def main(argv: list[str] | None = None) -> int:
    """Train a run to its end; return 0 unless it failed."""
    parser = argparse.ArgumentParser(prog="engine.training.worker")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--lock-fd", type=int, required=True, help="inherited; held for as long as the worker lives")
    parser.add_argument("--commands-from", type=int, default=0, help="byte of commands.jsonl to start at")
    parser.add_argument("--resume", action="store_true")
    add_resume_arguments(parser)
    arguments = parser.parse_args(argv)

    os.umask(0o077)
    os.set_inheritable(arguments.lock_fd, False)
    started = time.monotonic()
    folder = RunDir(arguments.folder)
    try:
        journal = EventWriter(folder.events)
    except OSError as error:
        return _give_up(files.unwritable(folder.events, error))
    controls = Controls(folder, journal, commands_from=arguments.commands_from)
    controls.listen_to_signals()
    with Telemetry(journal, os.getpid(), folder.path) as telemetry:
        finished = outcome_of(folder, controls, lambda: _train(folder, journal, controls, telemetry, arguments))
    try:
        last_word(folder, journal, finished, time.monotonic() - started)
    except CifartuiError as error:
        return _give_up(error)
    journal.close()
    keep_up(folder.events)
    return 1 if finished.outcome == "failed" else 0


def add_resume_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what a resume may say to a process that trains."""
    parser.add_argument("--change", action="append", default=[], help="what this resume changed, for the journal")
    parser.add_argument("--data-path", help="where the run's data is now")
    parser.add_argument("--accept-changed-data", action="store_true", help="go on though the data has changed")


def _give_up(error: CifartuiError) -> int:
    """Say why in worker.log, whose end is shown beside a run without a last event."""
    print(error, file=sys.stderr)
    return 1


def explain(error: Exception) -> str:
    """Return one sentence for an error; the traceback of one that nobody foresaw goes to worker.log."""
    if isinstance(error, CifartuiError):
        return str(error)
    traceback.print_exc()
    torch = sys.modules.get("torch")
    if isinstance(error, ImportError) or (torch is None and _is_from_torch(error)):
        said = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        what = "torch" if torch is None else "A package that training needs"
        return f"{what} cannot be imported ({said}); reinstall it for this Python: pip install torch torchvision"
    if isinstance(error, ValueError) and "more than 1 value per channel" in str(error):
        return (
            "BatchNorm cannot train on one image at once; train on more images, or with a train.batch_size of at least "
            "2."
        )
    if torch is not None:
        from engine.training.microbatch import is_out_of_memory

        if is_out_of_memory(error):
            where = "The machine" if "DefaultCPUAllocator" in str(error) else "The GPU"
            return f"{where} ran out of memory; train again with a smaller train.batch_size or data.image_size."
    text = str(error).strip().splitlines()
    said = f"{type(error).__name__}: {text[0] if text else 'no message'} (the traceback is in worker.log)"
    return f"{said}. {_ON_CUDA}" if _OF_CUDA.search(str(error)) else said


def _is_from_torch(error: Exception) -> bool:
    """Return true for an error that torch's own code raised, as while it was imported."""
    frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__))
    return any(str(frame.f_globals.get("__name__")).partition(".")[0] == "torch" for frame in frames)


def outcome_of(
    folder: RunDir,
    controls: Controls,
    train: Callable[[], RunFinished],
    why_failed: Callable[[Exception], str] = explain,
) -> RunFinished:
    """Return how the run ends that `train` trains, whatever happens; `why_failed` returns a sentence for an error."""
    try:
        return train()
    except StoppedBeforeTraining:
        return ended(controls, "stopped", f"{controls.stop_reason}, before training began")
    except Aborted:
        return ended(controls, "aborted", "aborted by command; the checkpoints written before stay")
    except SecondSignal as second_signal:
        return ended(
            controls, "stopped", f"{second_signal}; what is in last.pt stays, nothing more was validated or tested"
        )
    except Exception as error:
        reason = why_failed(error)
    return ended(controls, "failed", folder.why_gone() if folder.is_gone() else reason)


def _train(
    folder: RunDir,
    journal: EventWriter,
    controls: Controls,
    telemetry: Telemetry,
    arguments: argparse.Namespace,
) -> RunFinished:
    """Train on one device."""
    process = Process(folder, read_info(folder, arguments), journal, controls, telemetry, arguments, time.time())
    from engine.training.parallel import Parallel
    from engine.training.setup import choose_hardware

    device, precision = choose_hardware(process.info, lambda: taken_devices(others_of(folder)))
    mark_devices(folder, machine_names([str(device)]))
    return train_run(Parallel(), process, device, precision)


def read_info(folder: RunDir, arguments: argparse.Namespace) -> RunInfo:
    """Return the information of a run, with its data where the arguments say that it is."""
    info = folder.read_info()
    if arguments.data_path is None:
        return info
    return replace(info, preset=replace(info.preset, data=replace(info.preset.data, path=arguments.data_path)))


def train_run(
    parallel: "Parallel",
    process: Process,
    device: "torch.device",
    precision: str,
    ranks: tuple[RankPlace, ...] = (),
) -> RunFinished:
    """Train a run to its end and return its last event; with several devices, every rank calls this.

    Args:
        parallel: the ranks.
        process: this one of them.
        device: of this process, prepared for use.
        precision: fp32, bf16 or fp16.
        ranks: places of all, for the journal; empty with one device.

    Raises:
        StoppedBeforeTraining, Aborted, SecondSignal: the user asked for it.
        CifartuiError: training cannot begin, or cannot go on.
    """
    from engine.data.sets import UnreadableImagesError
    from engine.training.checkpoint_checks import data_of
    from engine.training.device import torch_memory, why_cpu
    from engine.training.flop_count import flops_of_stages
    from engine.training.range_test import RangeTestRun
    from engine.training.setup import set_up, surprising, unsupported_speedups
    from engine.training.trainer import Trainer

    folder, info, journal, controls, telemetry, arguments, _ = process
    if (test := table_of(info.preset)) is not None:
        controls.then = ""  # also for a stop that comes before training
    watch = LearningWatch()
    look_back(folder, watch, resume=arguments.resume)
    (is_there,) = parallel.agree(arguments.resume and has_checkpoint(folder))
    state, fallback = parallel.in_turn(lambda: load_last(folder, info)) if is_there else ({}, "")
    before = data_of(state)
    started = journal.write(_started(process, device, precision, global_step(state), ranks))
    for alert in watch.see(started):
        journal.write(alert)
    if files.is_locked(folder.lock) is None:
        journal.write(Alerted(severity="notice", kind="no-locks", text=_NO_LOCKS))
    if fallback:
        journal.write(Alerted(severity="warning", kind="damaged-checkpoint", text=fallback))
    if device.type == "cuda":
        telemetry.torch_memory = partial(torch_memory, device)
    elif device.type == "cpu":
        telemetry.unused = why_cpu(info.device)

    def report(event: DataProgressed) -> None:
        journal.write(event)
        controls.poll()
        if controls.stop_after is not None:
            raise StoppedBeforeTraining

    names = before.class_names if before is not None else ()

    def prepared() -> "Setup":
        try:
            found = set_up(
                info,
                device,
                precision,
                write=journal.write,
                report=report,
                class_names=names,
                is_filled_later=bool(state),
            )
        except UnreadableImagesError as error:
            if parallel.is_first:
                folder.write_unreadable(error.unreadable)
            raise CifartuiError(f"{error} {_all_unreadable(folder, len(error.unreadable))}") from error
        if parallel.is_first:
            folder.write_unreadable(found.data.unreadable)
        return found

    setup = parallel.in_turn(prepared)
    accept, data_path = arguments.accept_changed_data, arguments.data_path
    is_changed = check_data(folder, journal, before, setup.data_record, accept=accept, data_path=data_path)
    if data_path is not None and parallel.is_first:
        keep_data_path(folder, info)
    setup = parallel.prepare(setup)
    about_options = (*unsupported_speedups(setup).values(), *surprising(setup))
    unreadable = setup.data.unreadable
    about_data = (*setup.data.notices, *([_all_unreadable(folder, len(unreadable))] if unreadable else []))
    for kind, notices in (("data", about_data), ("option", about_options)):
        for notice in notices:
            journal.write(Alerted(severity="notice", kind=kind, text=notice))
    if test is not None:
        range_test = RangeTestRun(setup, test, journal, controls)
        telemetry.steps = range_test.step_timer
        return range_test.run()
    setup = dataclasses.replace(setup, flops=flops_of_stages(info.preset, len(setup.data.class_names)))
    trainer = Trainer(setup, folder, journal, controls, watch, parallel)
    telemetry.steps = trainer.step_timer
    if state:
        trainer.restore(state, before.splits["train"].num_images if before is not None and is_changed else None)
    return trainer.run()


def _all_unreadable(folder: RunDir, number: int) -> str:
    """Return where the names of all images stand that cannot be read."""
    what = "image that cannot be read is" if number == 1 else "images that cannot be read are"
    return f"The {number:,} {what} listed in {folder.unreadable.name} in the run's folder, with the reason."


def _started(
    process: Process, device: "torch.device", precision: str, global_step: int, ranks: tuple[RankPlace, ...]
) -> RunStarted:
    import torch

    from engine.models.library_names import versions_of
    from engine.training.device import device_name, num_gpus_of

    versions = {"python": platform.python_version(), **versions_of(process.info.preset.model)}
    return RunStarted(
        pid=os.getpid(),
        host=socket.gethostname(),
        device=device.type if ranks else str(device),
        device_name=device_name(device),
        precision=precision,
        num_threads=torch.get_num_threads(),
        versions=versions | {"torch": str(torch.__version__)},
        global_step=global_step,
        changes=tuple(process.arguments.change),
        import_s=max(0.0, time.time() - process.began),
        ranks=ranks,
        num_gpus=num_gpus_of(process.info.device),
    )


def ended(controls: Controls, outcome: str, reason: str) -> RunFinished:
    """Return the last event of a run that ends where `controls` have it."""
    return RunFinished(
        outcome=outcome,  # type: ignore[arg-type]
        reason=reason,
        epoch=controls.epoch,
        global_step=controls.global_step,
    )


def last_word(folder: RunDir, journal: EventWriter, finished: RunFinished, seconds: float) -> None:
    """Write a run's last event, with for how long its worker has lived.

    Raises:
        CifartuiError: not even the room that was kept for it is enough.
    """
    files.free_room(folder.reserve)
    journal.write(replace(finished, seconds=seconds))


if __name__ == "__main__":
    sys.exit(main())
