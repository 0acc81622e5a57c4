"""How a device is asked for, before anybody looks whether it is there. Knows names only; no torch, no driver."""

import re


def is_device_name(asked: str) -> bool:
    """Return whether `asked` is auto, cpu, mps, cuda or cuda:N."""
    return re.fullmatch(r"auto|cpu|mps|cuda(:[0-9]{1,3})?", asked) is not None
