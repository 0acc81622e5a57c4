"""How a device is asked for, before anybody looks whether it is there. Knows names only; no torch, no driver."""

import re

from presets.errors import CifartuiError

MOST_DEVICES = 64
"""On one machine."""


def is_device_name(asked: str) -> bool:
    """Return whether `asked` is auto, cpu, mps, cuda or cuda:N."""
    return re.fullmatch(r"auto|cpu|mps|cuda(:[0-9]{1,3})?", asked) is not None


def check_devices(asked: str, devices: int) -> None:
    """Refuse so many devices where `asked` names a certain one, or a kind of which there is one a machine.

    Raises:
        CifartuiError: it does.
    """
    if not 1 <= devices <= MOST_DEVICES:
        raise CifartuiError(f"The number of devices is from 1 to {MOST_DEVICES}, not {devices}.")
    if devices > 1 and asked not in {"auto", "cpu", "cuda"}:
        raise CifartuiError(
            f"{asked} is one device, and {devices} are asked for; use auto, cuda or cpu with several. "
            "Which GPUs those are, CUDA_VISIBLE_DEVICES says."
        )
