"""The process that starts the ranks of a run on this machine, through torchrun's own agent, and outlives them.

`engine.runs.start` starts it where a run has several devices. It holds the run's lock, hands signals on, and has
the last word in the journal where rank 0 could not: which rank died, and of what. Trains nothing.
"""

import argparse
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psutil  # type: ignore[import-untyped,unused-ignore]

from engine.journal.events import RunFinished
from engine.journal.jsonl import EventWriter, event_reader
from engine.queue.allocation import machine_names, mark_devices
from engine.runs.run_dir import RunDir
from engine.shared import child_process
from engine.shared.device_names import check_devices
from engine.shared.gpus import gpu_name
from engine.training import worker
from engine.training.distributed import LEFT_ALONE, SIGNALS
from presets.errors import CifartuiError

if TYPE_CHECKING:  # torch is imported only after this has begun to listen
    from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

_RANK = "engine.training.distributed.rank"
_LOOK_EVERY_S = 0.2


def main(argv: list[str] | None = None) -> int:
    """Have a run trained on the devices that it asks for; return 0 unless it failed."""
    parser = argparse.ArgumentParser(prog="engine.training.distributed.agent")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--lock-fd", type=int, required=True, help="inherited; held for as long as this lives")
    arguments, for_ranks = parser.parse_known_args(argv)

    os.umask(0o077)
    os.set_inheritable(arguments.lock_fd, False)
    began, folder = time.monotonic(), RunDir(arguments.folder)
    num_bytes_before = folder.events.stat().st_size if folder.events.exists() else 0
    reason = _train_together(folder, for_ranks)
    finished = _last_word(folder, num_bytes_before)
    if finished is None:
        finished = _say(folder, reason or "All ranks ended without a word; worker.log may say why", began)
    return 1 if finished.outcome == "failed" else 0


def _train_together(folder: RunDir, arguments: Sequence[str]) -> str:
    """Start the ranks and wait until none lives; return why, in a sentence, if one of them failed.

    Signals are blocked here, for torchrun's agent would end the ranks at once, and in what is started here, so that
    one that comes early waits for the ranks. A thread hands SIGTERM and SIGINT on to them, for whom they mean Stop
    after this batch.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {*SIGNALS, signal.SIGHUP})
    try:
        from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    except Exception as error:
        return worker.explain(error)

    threading.Thread(target=_hand_signals_on, name="signals", daemon=True).start()
    try:
        with tempfile.TemporaryDirectory(prefix="cifartui-ranks-") as logs:
            _launch(folder, arguments, logs)
    except ChildFailedError as error:
        return _reason(list(error.failures.values()))
    except Exception as error:
        return worker.explain(error)
    return ""


def _launch(folder: RunDir, arguments: Sequence[str], logs: str) -> None:
    """Do as `torchrun --standalone` does.

    Raises:
        CifartuiError: there are not so many devices.
        ChildFailedError: a rank failed.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    info = folder.read_info()
    check_devices(info.device, info.devices)
    kind = _kind_of(info.device, info.devices)
    mark_devices(folder, machine_names(map(gpu_name, range(info.devices)) if kind == "cuda" else ["cpu"]))
    num_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, num_cores // info.devices)))
    if sys.platform == "linux":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # whatever the name of this machine resolves to
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=info.devices,
        run_id=folder.id,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",
        max_restarts=0,
        logs_specs=DefaultLogsSpecs(log_dir=logs),
    )
    python, *rest = child_process.command(_RANK, [str(folder.path), "--has-agent", *arguments])
    elastic_launch(config, python)(*rest)


def _hand_signals_on() -> None:
    while True:
        time.sleep(_LOOK_EVERY_S)
        pending = signal.sigpending() & SIGNALS
        if pending and (ranks := psutil.Process().children()):
            number = signal.sigwait(pending)
            for rank in ranks:
                with suppress(psutil.NoSuchProcess):
                    rank.send_signal(number)


def _kind_of(device: str, devices: int) -> str:
    """Return whether the run trains on "cuda" or "cpu"; raise CifartuiError where it asks for more GPUs than are."""
    import torch

    num_gpus = torch.cuda.device_count()
    if device == "cpu" or (device == "auto" and not num_gpus):
        return "cpu"
    if num_gpus < devices:
        raise CifartuiError(
            f"torch sees {num_gpus or 'no'} CUDA GPU{'' if num_gpus == 1 else 's'} here, fewer than the {devices} "
            "devices asked for; name fewer with --devices, or see cifartui doctor."
        )
    return "cuda"


def _reason(failures: "Sequence[ProcessFailure]") -> str:
    """Return a sentence on the rank that failed first and was not just left alone by another."""
    to_blame = next((failure for failure in failures if failure.exitcode != LEFT_ALONE), failures[0])
    who = f"Rank {to_blame.local_rank} on {socket.gethostname()} (pid {to_blame.pid})"
    if to_blame.exitcode < 0:
        return f"{who} died of signal {-to_blame.exitcode} ({to_blame.signal_name()})"
    return f"{who} ended with exit code {to_blame.exitcode}; worker.log may say why"


def _last_word(folder: RunDir, offset: int) -> RunFinished | None:
    """Return the event with which the ranks ended the run; None where they did not come to that."""
    reader = event_reader(folder.events)
    reader.skip_to(offset)
    return next((event for event in reversed(reader.read()) if isinstance(event, RunFinished)), None)


def _say(folder: RunDir, reason: str, began: float) -> RunFinished:
    """End the run in the journal, now that nobody else writes there."""
    state = folder.read_state()
    finished = RunFinished(
        outcome="failed",
        reason=f"{reason.rstrip('.')}. What was saved stays: cifartui resume {folder.id}",
        epoch=state.epoch,
        global_step=state.global_step,
    )
    journal = EventWriter(folder.events)
    worker.last_word(folder, journal, finished, time.monotonic() - began)
    journal.close()
    return finished


if __name__ == "__main__":
    sys.exit(main())
