"""A library of two pretended GPUs of 8 GB in the place of NVIDIA's, for the real pynvml to load."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest


def compile_stub(folder: Path, *flags: str) -> Path:
    """Compile nvml_stub.c into `folder`, which goes into LD_LIBRARY_PATH; STUB_NVML names the file of its answers."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("the stub of libnvidia-ml.so.1 needs a C compiler and Linux")
    source = Path(__file__).with_name("nvml_stub.c")
    target = folder / "libnvidia-ml.so.1"
    subprocess.run([compiler, "-shared", "-fPIC", "-Wall", "-Werror", *flags, "-o", target, source], check=True)
    (folder / "answers").touch()
    return folder
