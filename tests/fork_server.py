"""A process that has imported torch, and forks for every order it is sent: seconds become milliseconds.

It listens at a socket whose descriptor is its argument, and ends with its standard input. `tests.fork_client` asks it.

A forked worker is what `engine.runs.start` starts: a session of its own, the run's lock, the run's worker.log.
It can be held at a place: there it makes the file `held` in its folder and waits until that file is gone.
Any other fork is a program, with the descriptors that come with the order; see `tests.forks`.
"""

import faulthandler
import fcntl
import gc
import json
import os
import pkgutil
import select
import signal
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from importlib import import_module
from itertools import count
from pathlib import Path
from typing import Any, NoReturn
from unittest import mock

from tests import forks
from tests.fork_client import LARGEST_ORDER
from tests.waiting import PRINT_STACKS

ANSWER = 3
"""Number of the descriptor, if a fork has it, to which it writes its exit code."""
_MOST_DESCRIPTORS = 8

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


def work(order: dict[str, Any], client: socket.socket) -> int:
    """Be the worker of a run, and tell its process id once it has the lock."""
    from engine.data import download
    from engine.runs import start
    from engine.runs.run_dir import RunDir
    from engine.runs.worker_mark import sign_lock
    from engine.training import worker
    from tests.cifar_files import cifar100_at

    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_BLOCK, start._HELD_BACK)
    os.setsid()
    run = RunDir(Path(order["folder"]))
    lock_fd = os.open(run.lock, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    sign_lock(lock_fd, os.getpid())
    client.send(str(os.getpid()).encode())
    client.close()
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


def serve(order: dict[str, Any], client: socket.socket, descriptors: Sequence[int]) -> int:
    """Be what an order asks for, to its end, and return its exit code."""
    if "folder" in order:
        return work(order, client)
    client.send(str(os.getpid()).encode())
    forks.keep(descriptors, order["numbers"])
    os.chdir(order["working_directory"])
    signal.pthread_sigmask(signal.SIG_SETMASK, order["blocked"])
    if order["has_session"]:
        os.setsid()
    program = forks.be_the_module if "command" in order else forks.be_the_command_line
    code = forks.ended(lambda: program(order.get("command") or order["arguments"], order["environment"]))
    if ANSWER in order["numbers"]:
        os.write(ANSWER, str(code).encode())
    return code


def draw_once() -> None:
    """Draw the generated images now, for all forks: each would draw the same ones for half a second."""
    import torch

    from engine.data import shapes

    generator = torch.Generator().manual_seed(shapes.SEED)
    drawn = {shape: (shapes._draw(shape, generator), generator.get_state()) for shape in shapes.SHAPES}

    def kept(shape: str, generator: torch.Generator) -> torch.Tensor:
        images, state_after = drawn[shape]
        generator.set_state(state_after)
        return images

    shapes._draw = kept


def main() -> None:
    import pooch  # noqa: F401
    import torch
    import torch._dynamo
    import torch.distributed.launcher.api
    from torch.distributed.elastic.multiprocessing import errors  # noqa: F401

    import tui.cli as commands
    from engine.data import image_files, shapes  # noqa: F401
    from engine.models.memory import estimate
    from presets import catalog

    for found in pkgutil.walk_packages(commands.__path__, "tui.cli."):
        import_module(found.name)
    for module in forks.FORKED:
        import_module(module)
    # in every fork, before it has threads: they would all put the parent's thread pool right at once, and torch aborts
    os.register_at_fork(after_in_child=partial(torch.set_num_threads, 1))
    forks.replace_popen()
    draw_once()
    with mock.patch.object(torch.Tensor, "backward"):  # its threads would not be in a fork
        estimate(catalog.load("demo"), len(shapes.CLASS_NAMES))  # what torch makes for the first one, each fork has
    gc.freeze()  # or the first collection of a fork would copy every page
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
    faulthandler.register(PRINT_STACKS)
    with socket.socket(fileno=int(sys.argv[1])) as listener:
        while listener in select.select([listener, 0], [], [])[0]:
            client, _ = listener.accept()
            with client:
                order, descriptors, *_ = socket.recv_fds(client, LARGEST_ORDER, _MOST_DESCRIPTORS)
                if order and os.fork() == 0:
                    listener.close()
                    _be_a_fork(json.loads(order), client, descriptors)
                for descriptor in descriptors:
                    os.close(descriptor)


def _be_a_fork(order: dict[str, Any], client: socket.socket, descriptors: Sequence[int]) -> NoReturn:
    code = 70
    try:
        with suppress(KeyboardInterrupt):
            code = serve(order, client, descriptors)
    finally:
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
