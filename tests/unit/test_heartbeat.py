"""Signs that the ranks give each other, in one process with a store of its own."""

import os
import socket
import threading
from collections.abc import Iterator
from datetime import timedelta

import pytest
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from engine.training.distributed import LEFT_ALONE
from engine.training.distributed.heartbeat import Heartbeat
from engine.training.distributed.process_group import RankInfo
from engine.training.distributed.rank import exit_code_of


@pytest.fixture
def two_ranks(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Heartbeat, Heartbeat]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", str(port))
    store = TCPStore("127.0.0.1", port, is_master=True, timeout=timedelta(seconds=10), wait_for_workers=False)
    places = [RankInfo(rank, 0, 2, f"node{rank}", f"host{rank}", os.getpid()) for rank in range(2)]
    first, second = (Heartbeat(place, lambda lost: None) for place in places)
    everybody = threading.Barrier(2)
    other = threading.Thread(target=second.meet, args=(everybody.wait,))
    other.start()
    first.meet(everybody.wait)
    other.join()
    yield first, second
    first.leave()
    second.leave()
    del store


def test_a_rank_that_sees_the_run_end_as_planned_has_not_failed(two_ranks: tuple[Heartbeat, Heartbeat]) -> None:
    first, second = two_ranks
    assert second.lost() is None
    first.leave()
    lost = second.lost(patience_s=20)
    assert lost is not None
    assert (lost.how, exit_code_of(lost)) == ("ended", 0)


def test_a_rank_that_sees_rank_0_fail_says_why(two_ranks: tuple[Heartbeat, Heartbeat]) -> None:
    first, second = two_ranks
    first.leave("The disk is full.")
    lost = second.lost(patience_s=20)
    assert lost is not None
    assert (lost.how, lost.sentence, exit_code_of(lost)) == ("failed", "The disk is full.", LEFT_ALONE)
