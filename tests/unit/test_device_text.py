"""The GPUs in words: a row each while they are few, side by side when they are many."""

import pytest

from engine.journal.events import GpuSample
from tui.text.device_text import gpus_now, title_of_gpus

GB = 10**9


def gpu(index: int, used_gb: float | None = 70, name: str = "NVIDIA A100-SXM4-80GB") -> GpuSample:
    total = None if used_gb is None else 86 * GB
    used = None if used_gb is None else round(used_gb * GB)
    return GpuSample(index=index, name=name, memory_used_bytes=used, memory_total_bytes=total, utilization=0.97)


SIXTEEN = [gpu(index, 0.4 if index == 13 else 70) for index in range(16)]


def shown(width: int, max_rows: int = 4) -> list[str]:
    return gpus_now(SIXTEEN, "", 64, width, max_rows).plain.splitlines()


def test_sixteen_gpus_stand_in_four_rows_by_number_at_120_columns() -> None:
    rows = shown(118)
    assert [[cell.split()[0] for cell in row.split(" %")[:-1]] for row in rows] == [
        [str(4 * row + column) for column in range(4)] for row in range(4)
    ]
    assert "13 ━━━━━━    0/86 GB  97 %" in rows[3]
    assert max(map(len, rows)) <= 118


@pytest.mark.parametrize(("width", "max_rows", "hidden"), [(78, 4, 5), (60, 4, 9), (118, 1, 12), (40, 1, 15)])
def test_where_not_all_have_room_the_free_ones_come_first(width: int, max_rows: int, hidden: int) -> None:
    rows = shown(width, max_rows)
    assert len(rows) <= max_rows
    assert max(map(len, rows)) <= width
    assert rows[-1].endswith(f"{hidden} with less free")
    assert rows[0].startswith("13    0/86 GB")


def test_a_few_have_a_row_each() -> None:
    few = [gpu(0), gpu(1)]
    rows = gpus_now(few, "", 64, 118, 4).plain.splitlines()
    assert [row.split()[:2] for row in rows] == [["0", "A100-SXM4-80GB"], ["1", "A100-SXM4-80GB"]]
    assert title_of_gpus(few, 4) == "GPUs now"


def test_the_heading_names_them_where_the_rows_do_not() -> None:
    assert title_of_gpus(SIXTEEN, 4) == "GPUs now: 16 × A100-SXM4-80GB"
    assert title_of_gpus([*SIXTEEN, gpu(16, name="Tesla T4\x1b[2J")], 4).endswith("A100-SXM4-80GB and others")
    assert "\x1b" not in title_of_gpus([gpu(index, name="T4\x1b[2J") for index in range(5)], 4)


def test_a_gpu_without_memory_of_its_own_shows_what_is_free_of_the_machines() -> None:
    text = gpus_now([gpu(0, None, "NVIDIA GB10")], "", 20, 118, 4, host_free_bytes=98 * GB).plain
    assert "memory n/a  machine 98.0 GB free" in text
    assert "machine" not in gpus_now([gpu(0)], "", 20, 118, 4, host_free_bytes=98 * GB).plain
