"""A process that has imported torch, and forks a worker for every line it is sent: seconds become milliseconds.

A forked worker is what `engine.runs.start` starts: a session of its own, the run's lock, the run's worker.log.
It can be held at a place: there it makes the file `held` in its folder and waits until that file is gone.
"""

import fcntl
import json
import os
import signal
import sys
import time
from contextlib import suppress
from importlib import import_module
from itertools import count
from pathlib import Path
from typing import Any

PLACES = {
    "start": ("engine.runs.run_dir", "RunDir.read_info", 1),
    "download": ("engine.data.download", "_Bar.update", 1),
    "decode": ("engine.data.image_decoders", "_decode_row", 3),
    "build": ("engine.training.setup", "build", 1),
    "train": ("engine.training.trainer", "Trainer._train_batch", 10),
    "evaluate": ("engine.training.validation", "evaluate", 2),
    "checkpoint": ("torch", "save", 3),
}
"""Where a worker can be held: a module, what is called in it, and at which call."""


def hold(place: str, folder: Path) -> None:
    """Hold this process at `place` when it gets there."""
    module, path, number = PLACES[place]
    owner: Any = import_module(module)
    *parents, name = path.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    original, calls = getattr(owner, name), count(1)

    def held(*arguments: Any, **named: Any) -> Any:
        answer = original(*arguments, **named) if place == "checkpoint" else None  # half of it is on the disk
        if next(calls) == number:
            (folder / "held").touch()
            while (folder / "held").exists():
                time.sleep(0.005)
            time.sleep(0.06)  # longer than between two looks at what people ask: the next one sees it
        return answer if place == "checkpoint" else original(*arguments, **named)

    setattr(owner, name, held)


def work(order: dict[str, Any]) -> int:
    """Be the worker of a run."""
    from engine.data import download
    from engine.runs import start
    from engine.runs.run_dir import RunDir, sign_lock
    from engine.training import worker
    from tests.cifar_files import cifar100_at

    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_BLOCK, start._HELD_BACK)
    os.setsid()
    run = RunDir(Path(order["folder"]))
    lock_fd = os.open(run.lock, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    sign_lock(lock_fd, os.getpid())
    print(os.getpid(), flush=True)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    log_fd = os.open(run.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.dup2(log_fd, 1)
    os.dup2(log_fd, 2)
    os.environ.update(order["environment"])
    if order["url"]:
        download.PUBLISHED["cifar100"] = cifar100_at(order["url"], order["md5"])
    if order["hold"]:
        hold(order["hold"], run.path)
    arguments = [str(run.path), "--lock-fd", str(lock_fd), *(["--resume"] if order["resume"] else [])]
    if order["resume"] and run.commands.exists():
        arguments += ["--commands-from", str(run.commands.stat().st_size)]
    return worker.main(arguments)


def main() -> None:
    import pooch  # noqa: F401
    import torch

    from engine.data import image_files  # noqa: F401
    from engine.training import trainer, worker  # noqa: F401

    torch.set_num_threads(1)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
    for line in sys.stdin:
        if os.fork() == 0:
            code = 70
            with suppress(KeyboardInterrupt):
                try:
                    code = work(json.loads(line))
                finally:
                    sys.stderr.flush()
                    os._exit(code)


if __name__ == "__main__":
    main()
