"""File systems that the kernel makes up, such as /proc: known by their device number, and no data set's. Linux only."""

import os
from contextlib import suppress
from pathlib import Path

_TYPES = frozenset({
    "proc", "sysfs", "devtmpfs", "devpts", "cgroup", "cgroup2", "debugfs", "tracefs", "securityfs", "configfs", "bpf",
    "pstore", "mqueue", "hugetlbfs", "fusectl", "binfmt_misc", "efivarfs", "selinuxfs", "rpc_pipefs", "nsfs", "nfsd",
})  # fmt: skip
"""Not tmpfs, overlay and network file systems, which hold what people put there."""
_MOUNTS = Path("/proc/self/mountinfo")


class SystemFilesError(OSError):
    """A folder belongs to a file system of the kernel's own."""

    def __init__(self, kind: str) -> None:
        super().__init__(0, f"files of the system itself, {kind}")


def system_devices() -> dict[int, str]:
    """Return the types of the mounted file systems that the kernel makes up, by device number (`os.stat_result`)."""
    found: dict[int, str] = {}
    with suppress(OSError, ValueError, IndexError):
        for line in _MOUNTS.read_text("utf-8", "replace").splitlines():
            mount, _, source = line.partition(" - ")
            kind = source.split(" ")[0]
            if kind in _TYPES:
                major, _, minor = mount.split(" ")[2].partition(":")
                found[os.makedev(int(major), int(minor))] = kind
    return found
