"""Other hosts on the command line: `--hosts`, runs called HOST:RUN, and what is asked of their relays."""

import queue
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from engine.journal.commands import AnyCommand
from presets.errors import CifartuiError
from tui.cli.output import say
from tui.config import read_config
from tui.hosts.ssh import Host, chosen_hosts

if TYPE_CHECKING:  # who asks no other host does not wait for these
    from engine.runs.run_options import RunOptions
    from tui.hosts.connection import Connection
    from tui.hosts.listing import HostListing
    from tui.hosts.remote_run import RemoteRun

_LISTED_WITHIN_S = 40.0
_ANSWERED_WITHIN_S = 10.0


def hosts_of(ctx: click.Context) -> list[Host]:
    """Return the hosts that --hosts names; none without it.

    Raises:
        CifartuiError: one of them cannot be used.
    """
    named = ctx.meta.get("hosts")
    return chosen_hosts(named, read_config().hosts) if named is not None else []


@contextmanager
def lines_to(hosts: Sequence[Host]) -> "Iterator[list[Connection]]":
    """Open the lines to hosts, and close them at the end."""
    from tui.hosts.connection import Connection

    with ExitStack() as stack:
        connections = [Connection(host, is_patient=False) for host in hosts]
        for connection in connections:
            connection.open()
            stack.callback(connection.close)
        yield connections


@contextmanager
def remote(name: str) -> "Iterator[RemoteRun | None]":
    """Give the run of another host that "gpu1:RUN" means, with a line to it; None for a run of this machine.

    Raises:
        CifartuiError: the host's name cannot be used.
    """
    host, colon, run = name.partition(":")
    if not colon:
        yield None
        return
    from tui.hosts.remote_run import RemoteRun

    with lines_to(chosen_hosts(host, read_config().hosts)) as (connection,):
        yield RemoteRun(connection, run or "latest")


def listings_of(hosts: Sequence[Host], limit: int = 5000) -> "list[HostListing]":
    """Return the runs of hosts; of one that does not answer the reason, as `HostListing.line` has it."""
    from tui.hosts.listing import HostListing

    with lines_to(hosts) as connections:
        waiting: list[tuple[HostListing, queue.SimpleQueue[object]]] = []
        for connection in connections:
            answers: queue.SimpleQueue[object] = queue.SimpleQueue()
            _follow_list(connection, answers, limit)
            waiting.append((HostListing(connection.host.name), answers))
        for connection, (listing, answers) in zip(connections, waiting, strict=True):
            _fill(listing, connection, answers)
        return [listing for listing, _ in waiting]


def _follow_list(connection: "Connection", answers: "queue.SimpleQueue[object]", limit: int) -> None:
    from tui.hosts import wire

    def make(number: int) -> wire.ListRuns:
        return wire.ListRuns(id=number, limit=limit)

    def heard(answer: wire.AnyAnswer) -> bool:
        answers.put(answer)
        return isinstance(answer, wire.RunsChanged) and answer.num_unread > 0

    connection.ask(make, heard, lambda why, _: answers.put(why), _LISTED_WITHIN_S)


def _fill(listing: "HostListing", connection: "Connection", answers: "queue.SimpleQueue[object]") -> None:
    while listing.num_unread and not listing.problem:
        try:
            answer = answers.get(timeout=_LISTED_WITHIN_S)
        except queue.Empty:
            answer = f"{listing.name}: it has not answered for {_LISTED_WITHIN_S:.0f} s."
        if isinstance(answer, str):
            listing.line = replace(connection.state, is_up=False, problem=answer)
            return
        listing.take(answer)  # type: ignore[arg-type]
    listing.line = replace(connection.state, is_up=True, problem="")


def machine_of(connection: "Connection") -> "HostListing":
    """Return GPUs and queue of a host.

    Raises:
        CifartuiError: it does not answer.
    """
    from tui.hosts import wire
    from tui.hosts.listing import HostListing

    listing = HostListing(connection.host.name)
    listing.take(connection.answer_to(lambda number: wire.ReadMachine(id=number), wire.MachineState, 30.0))
    return listing


def give(run: "RemoteRun", command: AnyCommand) -> None:
    """Give a command to a run of another host, wait for the answer and print it.

    Raises:
        CifartuiError: it was refused, or did not arrive.
    """
    from tui.hosts import wire

    answers: queue.SimpleQueue[wire.AnyAnswer | tuple[str, bool]] = queue.SimpleQueue()

    def ask(*, look_only: bool, wait_s: float) -> None:
        def make(number: int) -> wire.SendCommand:
            return wire.SendCommand(id=number, run=run.run_id, command=command, look_only=look_only)

        def heard(answer: wire.AnyAnswer) -> bool:
            answers.put(answer)
            return isinstance(answer, wire.CommandGiven) and answer.is_written and not answer.is_answered

        connection.ask(make, heard, lambda why, was_sent: answers.put((why, was_sent)), wait_s)

    connection, is_written = run.connection, False
    ask(look_only=False, wait_s=30.0)
    while True:
        try:
            answer = answers.get(timeout=_ANSWERED_WITHIN_S if is_written else 90.0)
        except queue.Empty:
            break
        if isinstance(answer, tuple):
            why, was_sent = answer
            if not was_sent:
                raise CifartuiError(why)
            say(f"{why} It is asked whether the command arrived.", err=True)
            ask(look_only=True, wait_s=60.0)
        elif isinstance(answer, wire.Refused):
            raise CifartuiError(f"{run.host}: {answer.problem}")
        elif isinstance(answer, wire.CommandGiven):
            if not answer.is_written:
                raise CifartuiError(f"{run.host}: the command did not arrive before the line dropped; give it again.")
            is_written = True
            if answer.is_answered:
                if not answer.is_accepted:
                    raise CifartuiError(f"{answer.effect}.")
                say(f"step {answer.global_step:,}: {answer.effect}")
                return
    say("asked; the worker has not answered yet (it may still be starting): cifartui show tells.")


def start_there(connection: "Connection", names: Sequence[str], options: "RunOptions") -> None:
    """Start a preset on a host, or queue several, and print the commands that show them.

    Raises:
        CifartuiError: it was refused, or does not answer.
    """
    queued = len(names) > 1 or len(options.seeds) > 1
    host = connection.host.name
    for name in names:
        started = connection.start(name, options, queued=queued)
        if started.num_queued:
            say(f"{started.title}: {started.num_queued} put into the queue of {host}: cifartui queue --hosts {host}")
        else:
            say(f"{started.title}: run {host}:{started.run}")
            say(f"Watch it with: cifartui attach {host}:{started.run}")
