"""Device names as users write them: auto, cpu, mps, cuda, cuda:N. No torch, no driver."""

import re

from presets.errors import CifartuiError

NO_ANSWER = "the NVIDIA driver does not answer"
"""Beginning of the reason why there are no readings of GPUs, if a call into the driver does not return."""
MOST_DEVICES = 64
"""Largest number of devices on one machine."""


def is_device_name(asked: str) -> bool:
    """Return true if `asked` is auto, cpu, mps, cuda or cuda:N."""
    return re.fullmatch(r"auto|cpu|mps|cuda(:[0-9]{1,3})?", asked) is not None


def check_devices(asked: str, devices: int) -> None:
    """Refuse several devices if `asked` names a certain one, or a kind of which a machine has one.

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
