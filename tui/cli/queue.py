"""Command group `queue`: list and edit the queue. Also the queueing of several presets by `--detach`."""

import os
import socket
from collections.abc import Sequence
from pathlib import Path

import click

from engine.queue import queue_file as queues
from engine.queue import runner_process
from engine.queue.allocation import held_devices, queue_positions
from engine.queue.queue_file import Entry
from engine.runs.needed_files import check_needed
from engine.runs.run_dir import list_runs
from engine.runs.run_options import RunOptions
from engine.shared.device_reader import DeviceReader
from engine.shared.gpus import visible_gpus
from presets import catalog
from presets.errors import CifartuiError
from tui.cli.hosts import hosts_of, lines_to, machine_of
from tui.cli.interrupts import Interrupts
from tui.cli.options import CommandGroup, Places, as_json_option, as_set, places, with_hosts, with_order, with_places
from tui.cli.output import say, say_json
from tui.config import read_config
from tui.hosts.ssh import Host
from tui.text import queue_text


@click.group(cls=CommandGroup, invoke_without_command=True)
@as_json_option
@with_hosts
@with_places
@click.pass_context
def queue(ctx: click.Context, as_json: bool) -> None:
    """List the presets that wait to be trained, or change that list by the commands below.

    One trains at a time on every GPU, or on the processor, started by a process that needs neither the
    dashboard nor the terminal. Without --device, a preset gets a GPU that no run holds and nobody else uses.
    """
    if ctx.invoked_subcommand is not None:
        return
    runs_dir = places(ctx).runs_dir
    rows = _rows(runs_dir)
    lives = queues.runner_lives(runs_dir)
    if hosts := hosts_of(ctx):
        ctx.exit(_list_everywhere(rows, lives, hosts, as_json=as_json))
    if as_json:
        content = {"runner_lives": lives, "entries": rows}
        say_json(content)
        return
    if not rows:
        say("The queue is empty. Put presets into it with: cifartui queue add PRESET...")
        return
    for line in _table(rows):
        say(line.rstrip())
    if lives:
        say(f"{queue_text.runner(lives, runner_process.runner_mark(runs_dir)).capitalize()}.")
    else:
        say(f"{queue_text.NO_RUNNER} Start one with: cifartui queue start")


def _rows(runs_dir: Path) -> list[queue_text.Row]:
    entries = queues.entries(runs_dir)
    if not entries:
        return []
    with DeviceReader() as reader:
        gpus = visible_gpus(reader.sample()[0], os.environ.get("CUDA_VISIBLE_DEVICES"))
    return queue_text.rows_of(entries, queue_positions(entries, held_devices(list_runs(runs_dir), gpus), gpus))


def _list_everywhere(rows: Sequence[queue_text.Row], lives: bool, hosts: Sequence[Host], *, as_json: bool) -> int:
    """Print the queue of this machine and those of others; return 1 if one of these does not answer."""
    told: dict[str, dict[str, object]] = {socket.gethostname(): {"runner_lives": lives, "entries": rows}}
    texts = {name: _table(rows) if rows else ["The queue is empty."] for name in told}
    exit_code = 0
    with lines_to(hosts) as connections:
        for connection in connections:
            name = connection.host.name
            try:
                listing = machine_of(connection)
                told[name] = {"runner_lives": listing.is_worked_on, "entries": listing.queue}
                texts[name] = _table(listing.queue) if listing.queue else ["The queue is empty."]
                texts[name] += [listing.queue_problem] if listing.queue_problem else []
            except CifartuiError as error:
                told[name], texts[name], exit_code = {"problem": str(error)}, [str(error)], 1
    if as_json:
        say_json(told)
    else:
        say("\n\n".join("\n".join([name, *map(str.rstrip, lines)]) for name, lines in texts.items()))
    return exit_code


def _table(rows: Sequence[queue_text.Row]) -> list[str]:
    cells = [("", "PRESET", "CHANGES", "DEVICE", "STATE")]
    cells += [(str(row.number), queue_text.name(row), queue_text.changes(row), row.device, row.state) for row in rows]
    widths = [max(len(line[column]) for line in cells) for column in range(4)]
    return [
        f"{line[0]:>{widths[0]}}  "
        + "  ".join(f"{cell:<{width}}" for cell, width in zip(line[1:], [*widths[1:], 0], strict=True))
        for line in cells
    ]


@queue.command()
@click.argument("names", metavar="PRESET...", nargs=-1, required=True)
@with_order
@with_places
@click.pass_context
def add(ctx: click.Context, names: tuple[str, ...], options: RunOptions) -> None:
    """Put PRESETs at the end of the queue, all with the same changes; with --seeds a run for each seed."""
    where = places(ctx)
    for name in names:
        check_needed(catalog.load(name, options.overrides), where.data_dir, options)
    ctx.exit(add_and_report(names, as_set(options, where), where))


def add_and_report(names: Sequence[str], options: RunOptions, where: Places) -> int:
    """Put presets into the queue and print the commands that show them; return the exit code of a signal meanwhile."""
    with Interrupts() as interrupts:
        added = queues.add(where.runs_dir, names, options)
        runs = "runs" if options.seeds else "presets"
        what = queue_text.name(added[0]) if len(added) == 1 else f"{len(added)} {runs}"
        say(f"{what} put into the queue; see whose turn it is with: cifartui queue")
        return interrupts.code


@queue.command()
@click.argument("number", metavar="N", type=click.IntRange(min=1))
@with_places
@click.pass_context
def remove(ctx: click.Context, number: int) -> None:
    """Take number N out of the queue."""
    runs_dir = places(ctx).runs_dir
    entry = _numbered(queues.entries(runs_dir), number)
    if not queues.remove(runs_dir, entry.id):
        raise _gone(entry)
    say(f"{queue_text.described(entry)} taken out of the queue.")


@queue.command()
@click.argument("number", metavar="N", type=click.IntRange(min=1))
@click.argument("place", metavar="PLACE", type=click.IntRange(min=1))
@with_places
@click.pass_context
def move(ctx: click.Context, number: int, place: int) -> None:
    """Move number N to PLACE, 1 being the next to be trained."""
    runs_dir = places(ctx).runs_dir
    entries = queues.entries(runs_dir)
    entry = _numbered(entries, number)
    place = min(place, len(entries))
    if place != number and not queues.move(runs_dir, entry.id, place - number):
        raise _gone(entry)
    say(f"{queue_text.described(entry)} is number {place} now.")


@queue.command()
@with_places
@click.pass_context
def clear(ctx: click.Context) -> None:
    """Take everything out of the queue; what is training goes on."""
    num_cleared = queues.clear(places(ctx).runs_dir)
    say(f"{num_cleared} taken out of the queue." if num_cleared else "The queue is empty already.")


@queue.command()
@with_places
@click.pass_context
def start(ctx: click.Context) -> None:
    """Start the queue's runner where it is not alive, as after a restart of the machine."""
    runs_dir = places(ctx).runs_dir
    if queues.runner_lives(runs_dir):
        say("The runner is at work already.")
        return
    if not queues.entries(runs_dir):
        raise _empty()
    notify = read_config().beside
    with Interrupts() as interrupts:
        queues.start_runner(runs_dir, notify)
        say("The runner is started.")
        ctx.exit(interrupts.code)


def _numbered(entries: Sequence[Entry], number: int) -> Entry:
    if not entries:
        raise _empty()
    if number > len(entries):
        raise CifartuiError(f"There is no number {number} in the queue; cifartui queue lists what there is.")
    return entries[number - 1]


def _empty() -> CifartuiError:
    return CifartuiError("The queue is empty; put presets into it with: cifartui queue add PRESET...")


def _gone(entry: Entry) -> CifartuiError:
    return CifartuiError(
        f"{queue_text.name(entry)} is not in its place any more: started, moved or taken out just now; "
        "see cifartui queue."
    )
