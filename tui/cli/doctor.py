"""Commands `doctor`, `doctor --benchmark` and `gpus`: this machine, its devices and their speed. No torch."""

import fcntl
import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click
import msgspec
from msgspec import Struct
from msgspec.structs import replace

from engine import files
from engine.shared import child_process
from engine.shared.benchmark_lines import Device, Limit, Line, Speed, ceiling
from engine.shared.data_locations import locate
from engine.shared.device_names import NO_ANSWER
from engine.shared.device_reader import ASKED_ONCE_S, DeviceReader
from presets.errors import CifartuiError
from presets.schema import Data
from tui import format as fmt
from tui.cli.hosts import hosts_of, lines_to, machine_of
from tui.cli.options import Places, as_json_option, places, with_hosts, with_places
from tui.cli.output import say, say_json
from tui.config import Config, config_path
from tui.main import checked_config, color_choice, plot_choice
from tui.terminal.capabilities import has_screen

if TYPE_CHECKING:
    from tui.data.environment import GpuReadings
    from tui.hosts.connection import Connection

_LITTLE_DISK_BYTES = 1e9
_TORCH_WITHIN_S = (120.0, 20.0)
"""For so long torch is waited for; the second if the driver hangs."""


class Check(Struct, frozen=True):
    """Result of one check."""

    what: str
    verdict: Literal["ok", "note", "problem"]
    text: str


@click.command()
@click.option("--benchmark", "benchmarks", is_flag=True, help="Measure the device instead: what it can do, and trains.")
@click.option("--device", default="auto", metavar="DEVICE", help="With --benchmark: auto, cpu, cuda, cuda:N or mps.")
@as_json_option
@with_places
@click.pass_context
def doctor(ctx: click.Context, benchmarks: bool, device: str, as_json: bool) -> None:
    """Check what cifartui needs here; exit 1 on a problem."""
    if benchmarks:
        try:
            benchmark(device, as_json=as_json)
        except KeyboardInterrupt:
            ctx.exit(130)
        return
    checks = run_checks(places(ctx))
    if as_json:
        say_json(checks)
    else:
        for check in checks:
            say(f"{check.verdict:<8} {check.what:<9} {check.text}")
    ctx.exit(int(any(check.verdict == "problem" for check in checks)))


def run_checks(where: Places) -> list[Check]:
    """Return the result of every check, the most basic ones first."""
    gpus, missing = _gpus()
    return [
        _versions(),
        _torch(num_gpus=len(gpus), is_hung=missing.startswith(NO_ANSWER)),
        _gpu(gpus, missing),
        *_dashboard(),
        _data(where),
        _disk(where.runs_dir),
    ]


def _versions() -> Check:
    names = ("cifartui", "torch", "torchvision", "textual", "plotext")
    found = [f"{name} {importlib.metadata.version(name)}" for name in names if _is_installed(name)]
    return Check("versions", "ok", f"python {platform.python_version()}, {', '.join(found)}")


def _is_installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _gpus() -> tuple[list[str], str]:
    with DeviceReader() as reader:
        samples, missing = reader.sample()
    return [f"{gpu.name}, {fmt.memory(gpu.memory_total_bytes)}" for gpu in samples], missing


def _gpu(gpus: list[str], missing: str) -> Check:
    if missing.startswith(NO_ANSWER):
        return Check("gpu", "problem", f"{missing}; nvidia-smi and dmesg may say why, a restart of the machine helps")
    return Check("gpu", "ok" if gpus else "note", "; ".join(gpus) or f"none seen: {missing}")


def _torch(num_gpus: int, *, is_hung: bool) -> Check:
    pipe = subprocess.PIPE
    child = child_process.start("engine.training.device", stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe)
    patience_s = _TORCH_WITHIN_S[is_hung]
    try:
        printed, complaints = child.communicate(timeout=patience_s)
    except subprocess.TimeoutExpired:  # it is not waited for: a process in a driver that hangs cannot even be killed
        child.kill()
        why = NO_ANSWER if is_hung else "is the disk with it busy, or does a driver hang?"
        return Check("torch", "problem", f"did not answer within {patience_s:.0f} s ({why})")
    if child.returncode:
        last = (complaints.decode(errors="replace").strip().splitlines() or ["no message"])[-1]
        return Check(
            "torch", "problem", f"cannot be imported ({last}); reinstall it for this Python: pip install torch"
        )
    answer = msgspec.json.decode(printed.strip().splitlines()[-1])
    if answer["gpus"]:
        return Check("torch", "ok", f"{answer['version']} sees {', '.join(answer['gpus'])}")
    if num_gpus:
        built = f"built for CUDA {answer['cuda']}" if answer["cuda"] else "a build without CUDA"
        return Check(
            "torch",
            "problem",
            f"{answer['version']} ({built}) sees none of the {num_gpus} GPUs; install a build that fits the driver",
        )
    return Check("torch", "ok", f"{answer['version']}, training will use the CPU ({os.cpu_count()} cores)")


def _dashboard() -> list[Check]:
    """Return the display settings that follow from the configuration and the terminal, and their reasons."""
    try:
        config = checked_config()
    except CifartuiError as error:
        return [Check("config", "problem", str(error)), _terminal(Config())]
    path = config_path()
    text = str(path) if path.exists() else f"none; {path} would be read (see docs/terminals.md)"
    return [Check("config", "ok", text), _terminal(config)]


def _terminal(config: Config) -> Check:
    columns, lines = shutil.get_terminal_size()
    kind = f"{os.environ.get('TERM', 'TERM is not set')}, {columns}×{lines}"
    if not has_screen(os.environ):
        return Check("terminal", "note", f"{kind}: cannot show the dashboard; everything else works")
    if columns < 60 or lines < 16:
        return Check("terminal", "note", f"{kind}: too small for the dashboard, which needs 60×16")
    colors, plots = color_choice(config), plot_choice(config)
    text = {"truecolor": "all colours", "none": "no colours"}.get(colors.value, f"{colors.value} colours")
    return Check(
        "terminal",
        "ok",
        f"{kind}, {text} ({colors.why}; --colors changes it), plots in {plots.value} ({plots.why}; --plots changes it)",
    )


def _data(where: Places) -> Check:
    found = locate(Data(dataset="cifar100"), where.data_dir)
    return Check("data", "note" if found.kind == "absent" else "ok", found.sentences)


def _disk(runs_dir: Path) -> Check:
    existing = next(folder for folder in (runs_dir, *runs_dir.parents) if os.path.exists(folder))  # noqa: PTH110 (raises no PermissionError)
    free = shutil.disk_usage(existing).free
    text = f"{fmt.memory(free)} free for runs in {runs_dir}"
    if not os.access(existing, os.W_OK):
        return Check("disk", "problem", f"{runs_dir} cannot be written; choose another folder with --runs-dir")
    if _refuses_locks(existing):
        known = "it refuses locks, so there is no queue, and a run's worker is known by what it writes"
        return Check("disk", "note", f"{text}; {known}")
    if free < _LITTLE_DISK_BYTES:
        return Check("disk", "problem", f"only {text}; delete old runs or choose another folder with --runs-dir")
    return Check("disk", "ok", text)


def _refuses_locks(folder: Path) -> bool:
    with suppress(OSError), tempfile.TemporaryFile(dir=folder) as file:
        return not files.try_flock(file.fileno(), fcntl.LOCK_EX)
    return False


_ARITHMETIC = {"matmul": "matrix products", "convolution": "3×3 convolutions"}
_LIMITS = {"memory": "memory, read and written", "host-to-device": "host to device"}
_FOOTNOTE = """
at most: what arithmetic allows, the best rate above in that format over the FLOPs of a training step. No network
reaches it; one far below it waits for memory, or for Python between operations that are over too soon."""


def benchmark(device: str, *, as_json: bool, start: Callable[..., child_process.Process] = child_process.start) -> None:
    """Measure and print.

    Args:
        device: as for `train`.
        as_json: print everything at the end, as one list.
        start: starts the process that measures, as `child_process.start` does.

    Raises:
        CifartuiError: the device is not there, or the measuring failed.
    """
    lines = _measured(device, start)
    if as_json:
        say_json(list(lines))
        return
    limits: list[Limit] = []
    has_heading = False
    for line in lines:
        if isinstance(line, Limit):
            limits.append(line)
        elif isinstance(line, Speed) and not has_heading:
            has_heading = True
            say(f"\n{'preset':<20} {'px':>4} {'batch':>5}  {'with':<27} {'images/s':>9}  {'at most':>9}")
        say(_row(line, limits))
    say(_FOOTNOTE)


def _row(line: Line, limits: list[Limit]) -> str:
    if isinstance(line, Device):
        threads = f", {line.num_threads} threads" if line.device == "cpu" else ""
        return f"{line.name} ({line.device}{threads}), torch {line.torch}"
    if isinstance(line, Limit):
        if line.what in _ARITHMETIC:
            return f"{f'{_ARITHMETIC[line.what]}, {line.precision}':<26} {line.per_s / 1e12:>9.2f} TFLOP/s"
        return f"{_LIMITS[line.what]:<26} {line.per_s / 1e9:>9.1f} GB/s"
    options = ", ".join((line.precision, *line.options))
    start = f"{line.preset:<20} {line.image_size:>4} {line.batch_size:>5}  {options:<27} "
    if line.images_per_s is None:
        return f"{start}{line.trouble}"
    most = ceiling(line, limits)
    text = f"{start}{line.images_per_s:>9,.0f}  {f'{most:,.0f}' if most is not None else '':>9}"
    return f"{text}  {line.trouble}".rstrip()


def _measured(device: str, start: Callable[..., child_process.Process]) -> Iterator[Line]:
    """Yield the lines of a measuring process, which ends with this generator.

    Raises:
        CifartuiError: it exited with 2 and a sentence, or failed in another way.
    """
    decoder: msgspec.json.Decoder[Line] = msgspec.json.Decoder(Line)
    with tempfile.TemporaryFile() as complaints:
        with start(
            "engine.training.benchmark",
            ["--device", device],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=complaints,
        ) as process:
            assert process.stdout is not None
            try:
                for line in process.stdout:
                    yield decoder.decode(line)
                process.wait()
            finally:
                process.kill()
        if process.returncode == 0:
            return
        complaints.seek(0)
        errors = complaints.read().decode(errors="replace").strip().splitlines()
    if process.returncode == 2 and errors:
        raise CifartuiError(errors[-1])
    last = errors[-1] if errors else f"exit code {process.returncode}"
    raise CifartuiError(f"The benchmark failed ({last}); cifartui doctor looks for the cause.")


_PIPE_COLUMNS = 80


@click.command()
@as_json_option
@with_hosts
@with_places
@click.pass_context
def gpus(ctx: click.Context, as_json: bool) -> None:
    """Say what the GPUs of this machine do now, or why none is seen; with --hosts also those of others."""
    from tui.data.environment import Environment, gpu_reader

    hosts = hosts_of(ctx)
    environment, readings = Environment(), gpu_reader(ASKED_ONCE_S)()
    readings = replace(readings, taken=environment.taken(places(ctx).runs_dir)) if as_json else readings
    if not hosts:
        say_json(readings) if as_json else _say_gpus(readings)
        return
    told: dict[str, GpuReadings | str] = {environment.host: readings}
    with lines_to(hosts) as connections:
        for connection in connections:
            told[connection.host.name] = _readings_of(connection)
    if as_json:
        say_json(told)
        return
    for number, (name, found) in enumerate(told.items()):
        say(f"{'' if number == 0 else chr(10)}{name}")
        say(found) if isinstance(found, str) else _say_gpus(found)


def _readings_of(connection: "Connection") -> "GpuReadings | str":
    """Return the GPUs of another host, or why they are not known."""
    try:
        readings = machine_of(connection).readings
    except CifartuiError as error:
        return str(error)
    return readings if readings is not None else f"{connection.host.name}: it told nothing of its GPUs."


def _say_gpus(readings: "GpuReadings") -> None:
    from tui.terminal.streams import ascii_only, in_ascii
    from tui.text.device_text import gpus_now

    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else _PIPE_COLUMNS
    found, most = readings.gpus, max(1, len(readings.gpus))
    text = gpus_now(found, readings.missing, readings.num_cores, width, max_rows=most).plain
    say(in_ascii(text) if ascii_only(sys.stdout) else text)
