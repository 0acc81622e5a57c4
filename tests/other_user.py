"""Calls as another user of this machine, in a forked child. Only root can become somebody else."""

import faulthandler
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.waiting import PATIENCE_S

NOBODY = 65534


def as_another_user(folder: Path, call: Callable[[], object], user: int = NOBODY) -> tuple[int, str]:
    """Make a call as `user` and return its exit code and all that it printed; skip the test if we are not root.

    The child makes it twice, first as root: what it imports may lie where that user cannot read.

    Args:
        folder: for the output.
        call: its SystemExit is the exit code; 0 without one, 70 after an error, whose traceback is in the output.
        user: number; need not be in the list of users.
    """
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    said = folder / "said"
    pid = os.fork()
    if pid == 0:
        code = 70
        faulthandler.dump_traceback_later(PATIENCE_S, exit=True, file=2)  # a lock that another thread held stays held
        try:
            for name, file in ((user, said), (0, Path(os.devnull)))[::-1]:
                fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
                os.dup2(fd, 1)
                os.dup2(fd, 2)
                sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
                if name:
                    os.setgroups([])
                    os.setgid(name)
                    os.setuid(name)
                try:
                    call()
                    code = 0
                except SystemExit as end:
                    code = int(end.code or 0)
                sys.stdout.flush()
                sys.stderr.flush()
        except BaseException:
            code = 70
            traceback.print_exc()
            sys.stderr.flush()
        os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return code, said.read_text()
