"""Choice of training device and precision, and settings of torch's backends. No runs.

`python -m engine.training.device` prints torch's version and the GPUs that it sees, as JSON.
"""

import ctypes
import json
import os
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from engine.journal.events import TorchMemory
from engine.shared.device_reader import DeviceReader
from engine.shared.gpus import emptiest, visible_gpus
from engine.training.telemetry import UnusedGpus
from presets.errors import CifartuiError

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's malloc.h: bytes kept before any are returned; size from which a block has its own pages."""
_LARGEST_THRESHOLD = 32 * 1024 * 1024
"""Largest value of the second that glibc takes."""
_BF16_FLOPS = 100_000_000
"""On a CPU, of one image: measured, 8 million gain nothing by bf16, and 500 million train twice as fast."""


def choose_device(asked: str, taken: Callable[[], Collection[str]] = frozenset) -> torch.device:
    """Return the device for "auto", "cpu", "cuda", "cuda:N" or "mps".

    "auto" is the CUDA GPU with the most free memory, if there is any; of those not taken, if there are such.

    Args:
        asked: one of these.
        taken: called if there is a choice; returns what `engine.shared.gpus.emptiest` is to pass over.

    Raises:
        CifartuiError: the device asked for is not there, or the name is none.
    """
    if asked == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", _emptiest_gpu(taken))
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(asked)
    except RuntimeError:
        raise CifartuiError(f"{asked!r} is not a device; use auto, cpu, cuda, cuda:N or mps.") from None
    if device.type == "cuda":
        num_gpus = torch.cuda.device_count()
        index = device.index or 0
        if index >= num_gpus:
            raise CifartuiError(
                f"torch sees {num_gpus or 'no'} CUDA GPU{'' if num_gpus == 1 else 's'} here, so {asked} cannot be used;"
                " cifartui doctor says more, and --device cpu always works."
            )
        return torch.device("cuda", index)
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise CifartuiError("torch has no MPS device here; use --device auto.")
    return device


def _emptiest_gpu(taken: Callable[[], Collection[str]]) -> int:
    """Return the number of the GPU with the most free memory; 0 if NVML and torch may count them differently.

    NVML is asked, because torch would allocate memory on every GPU.
    """
    num_gpus = torch.cuda.device_count()
    if num_gpus < 2 or os.environ.get("CUDA_DEVICE_ORDER") != "PCI_BUS_ID":
        return 0
    with DeviceReader() as reader:
        gpus = visible_gpus(reader.sample()[0], os.environ.get("CUDA_VISIBLE_DEVICES"))
    return emptiest(gpus, taken()) if gpus is not None and len(gpus) == num_gpus else 0


def num_gpus_of(asked: str) -> int | None:
    """Return the number of GPUs that torch sees; None if the CPU was asked for, or a variable chooses among them."""
    if asked == "cpu" or "CUDA_VISIBLE_DEVICES" in os.environ:
        return None
    return torch.cuda.device_count() if torch.cuda.is_available() else 0  # the first counts what NVML shows


def why_cpu(asked: str) -> UnusedGpus:
    """Return the reason why a run trains on the CPU, whatever GPUs there are.

    Args:
        asked: the device, by the user.
    """
    if asked == "cpu":
        return UnusedGpus("notice", "--device cpu was asked for", "To train on a GPU, start it without --device cpu.")
    version = f"torch {torch.__version__}"
    if not torch.version.cuda:
        advice = "Install the build of torch for this driver (pytorch.org says which); cifartui doctor checks it."
        return UnusedGpus("warning", f"{version} is a build without CUDA", advice)
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
        said = "it sees no GPU"
    except Exception as error:  # of several kinds, by version
        said = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
    advice = "Update the driver, or install a build of torch that fits it (pytorch.org says which)."
    return UnusedGpus("warning", f"{version}, built for CUDA {torch.version.cuda}, cannot use them ({said})", advice)


def device_name(device: torch.device) -> str:
    """Return the device's name for people: the GPU's product name, or the processor type."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return {"cpu": "CPU", "mps": "Apple GPU"}.get(device.type, device.type)


def choose_precision(asked: str, device: torch.device, flops: Callable[[], int]) -> str:
    """Return "fp32", "bf16" or "fp16" for the preset's precision on this device.

    "auto" is bf16 on CUDA hardware that has it, and fp16 (with a gradient scaler) on older CUDA GPUs. On a CPU with
    instructions for bf16 it is that for networks that gain by it, else fp32.

    Args:
        asked: auto, fp32, bf16 or fp16.
        device: to train on.
        flops: called if it matters; returns those of one image's forward pass.
    """
    if asked != "auto":
        return asked
    if device.type == "cuda":
        return "bf16" if has_bf16(device) else "fp16"
    return "bf16" if has_bf16(device) and flops() >= _BF16_FLOPS else "fp32"


def has_bf16(device: torch.device) -> bool:
    """Return true if `device` multiplies bf16 itself; GPUs before Ampere emulate it, slower than fp32."""
    if device.type == "cuda" and torch.cuda.is_available():
        with torch.cuda.device(device):
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and cpu_has_bf16()


def cpu_has_bf16() -> bool:
    """Return true if this processor multiplies bf16 itself (AVX512-BF16 or AMX); without, it is slower than fp32."""
    asks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, ask, bool)() for ask in asks)  # torch 2.4 has not all of them


def autocast(device: torch.device, precision: str) -> Callable[[], AbstractContextManager[object]]:
    """Return a maker of the context in which forward passes run."""
    if precision == "fp32":
        return nullcontext
    dtype = torch.bfloat16 if precision == "bf16" else torch.float16
    return lambda: torch.autocast(device.type, dtype=dtype)


def copy_to(tensor: Tensor, device: torch.device) -> Tensor:
    """Return `tensor` on `device`; on CUDA only kernels wait for the copy, never the host."""
    # CUDA has read pageable memory when the call returns; MPS reads it later, when it may be another's
    return tensor.to(device, non_blocking=device.type == "cuda")


def use_device(device: torch.device) -> None:
    """Make a CUDA device the current one of this thread.

    Every thread begins with cuda:0, and what it does with CUDA may make a context there: half a gigabyte of a GPU that
    the run does not train on.
    """
    if device.type == "cuda":
        torch.cuda.set_device(device)


def prepare_backend(device: torch.device, *, tf32: bool = True) -> None:
    """Let CUDA pick its quickest kernels: measured convolution algorithms, and with `tf32` TF32 for what is fp32."""
    use_device(device)
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high" if tf32 else "highest")
        torch.backends.cudnn.allow_tf32 = tf32
        torch.backends.cudnn.benchmark = True


def keep_freed_memory() -> bool:
    """Let the C library keep freed memory for later allocations; return true if it will.

    By default glibc hands large blocks back to the system, which has to clear them when they are wanted again: in
    every step of training on a CPU. Measured, that takes a tenth of a step of VGG at 32 px. Other C libraries have no
    such function, and are left alone.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    asked = ((_M_TRIM_THRESHOLD, 2**31 - 1), (_M_MMAP_THRESHOLD, _LARGEST_THRESHOLD))
    return all(mallopt(what, value) == 1 for what, value in asked)


def torch_memory(device: torch.device) -> TorchMemory:
    """Return the bytes that torch's CUDA allocator holds on `device`.

    The telemetry thread asks, which has a current device of its own.
    """
    use_device(device)
    return TorchMemory(
        allocated_bytes=torch.cuda.memory_allocated(device),
        reserved_bytes=torch.cuda.memory_reserved(device),
        peak_bytes=torch.cuda.max_memory_allocated(device),
    )


def main() -> None:
    """Print torch's version, the CUDA version that it is built for, and the names of the GPUs, as the worker counts."""
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    print(json.dumps({"version": torch.__version__, "cuda": torch.version.cuda or "", "gpus": gpus}))


if __name__ == "__main__":
    main()
