"""Runs, GPUs and queue of other hosts as they were told last, put together with those of this machine.

A run of another host bears that host's name before its id, gpu1:RUN, and in its column for hosts.
"""

import re
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TypeVar

import msgspec
from msgspec import Raw
from textual.message import Message

from engine.files import DAMAGED
from engine.runs.run_options import RunOptions
from presets.errors import CifartuiError
from tui.data.environment import GpuReadings
from tui.data.run_list import RunsListed
from tui.data.summary import Damaged, Summary
from tui.hosts import wire
from tui.hosts.connection import OTHER_ANSWER, Connection, Following, LineState
from tui.hosts.remote_run import RemoteRun
from tui.hosts.ssh import Host
from tui.hosts.wire import AnyAnswer, HostileError
from tui.text.queue_text import Row

_Item = TypeVar("_Item")
_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,250}")
_MOST_RUNS = 10_000
_POST_EVERY_S = 0.25


class HostsChanged(Message):
    """Something is new of another host."""


@dataclass
class HostListing:
    """Runs, GPUs and queue of one host, as it told them last."""

    name: str
    line: LineState = field(default_factory=LineState)
    runs: dict[str, Summary] = field(default_factory=dict)
    """By their ids there."""
    damaged: tuple[Damaged, ...] = ()
    num_all: int = 0
    num_unread: int = 1
    problem: str = ""
    """A sentence, if its runs cannot be listed."""
    readings: GpuReadings | None = None
    queue: tuple[Row, ...] = ()
    queue_problem: str = ""
    runner: str = ""
    is_worked_on: bool = True
    told: set[str] | None = None
    """Ids of the runs told since they are told anew; None once all were."""

    def take(self, answer: AnyAnswer) -> None:
        """Take an answer in.

        Raises:
            HostileError: it is none that a relay gives.
        """
        match answer:
            case wire.RunsChanged():
                for content in answer.runs:
                    with suppress(*DAMAGED):
                        run = _SUMMARY.decode(content)
                        if _RUN_ID.fullmatch(run.id):
                            self.runs[run.id] = run
                            if self.told is not None:
                                self.told.add(run.id)
                for run_id in answer.gone:
                    self.runs.pop(run_id, None)
                if self.told is not None and not answer.num_unread:
                    self.runs = {run_id: run for run_id, run in self.runs.items() if run_id in self.told}
                    self.told = None
                if len(self.runs) > _MOST_RUNS:
                    raise HostileError("more runs than can be listed")
                self.damaged = tuple(_decoded(answer.damaged, _DAMAGED, lambda each: each.id))
                self.num_all, self.num_unread, self.problem = answer.num_all, answer.num_unread, answer.problem
            case wire.MachineState():
                try:
                    self.readings = _READINGS.decode(answer.gpus)
                except DAMAGED:
                    raise HostileError("readings that are none") from None
                self.queue = tuple(_decoded(answer.queue, _ROW, lambda _: "x"))
                self.queue_problem, self.runner = answer.queue_problem, answer.runner
                self.is_worked_on = answer.is_worked_on
            case wire.Refused():
                self.problem = answer.problem

    def shown(self) -> list[Summary]:
        """Return its runs under the names that they have here."""
        return [msgspec.structs.replace(run, id=f"{self.name}:{run.id}", host=self.name) for run in self.runs.values()]

    def away(self) -> list[Damaged]:
        """Return a row with the reason why it is not asked, or cannot list its runs; its damaged runs besides."""
        why = self.line.problem if not self.line.is_up else f"{self.name}: {self.problem}" if self.problem else ""
        rows = [Damaged(self.name, why, 0.0, 0, "no line")] if why else []
        return rows + [msgspec.structs.replace(each, id=f"{self.name}:{each.id}") for each in self.damaged]


_SUMMARY, _DAMAGED = msgspec.json.Decoder(Summary), msgspec.json.Decoder(Damaged)
_READINGS, _ROW = msgspec.json.Decoder(GpuReadings), msgspec.json.Decoder(Row)


def _decoded(
    contents: Iterable[Raw], decoder: "msgspec.json.Decoder[_Item]", name: "Callable[[_Item], str]"
) -> "list[_Item]":
    found = []
    for content in contents:
        with suppress(*DAMAGED):
            each = decoder.decode(content)
            if _RUN_ID.fullmatch(name(each)):
                found.append(each)
    return found


class Hosts:
    """Connections to other hosts, and what they told last. Methods may be called from any thread."""

    def __init__(
        self, hosts: Sequence[Host], *, limit: int = 50, connect: Callable[..., Connection] = Connection
    ) -> None:
        """Connect to `hosts`, and list the newest `limit` runs of each while anybody watches."""
        self._lock = threading.Lock()
        self._limit = limit
        self._watchers: dict[object, Callable[[Message], object]] = {}
        self._following: list[tuple[Connection, Following]] = []
        self._listings = {host.name: HostListing(host.name) for host in hosts}
        self.connections = {host.name: connect(host, self._line_changed) for host in hosts}
        self._news, self._ended = threading.Event(), threading.Event()
        self._poster = threading.Thread(target=self._post_news, name="hosts", daemon=True)
        self._poster.start()
        for connection in self.connections.values():
            connection.open()

    def close(self) -> None:
        """End all connections."""
        self._ended.set()
        self._news.set()
        for connection in self.connections.values():
            connection.end()
        for connection in self.connections.values():
            connection.close()

    def watch(self, watcher: object, post: Callable[[Message], object]) -> None:
        """Post HostsChanged for `watcher` until `unwatch`; the first one lets the hosts tell their runs."""
        with self._lock:
            is_first = not self._watchers
            self._watchers[watcher] = post
        if is_first:
            for name, connection in self.connections.items():
                self._follow(connection, self._listings[name])
        post(HostsChanged())

    def unwatch(self, watcher: object) -> None:
        """Post nothing more for `watcher`; the last one lets the hosts be quiet."""
        with self._lock:
            self._watchers.pop(watcher, None)
            following, self._following = (self._following, []) if not self._watchers else ([], self._following)
        for connection, each in following:
            connection.leave(each)

    def _follow(self, connection: Connection, listing: HostListing) -> None:
        def list_runs(number: int) -> wire.ListRuns:
            with self._lock:
                listing.told = set()  # all are told anew; until then those of before are shown
            return wire.ListRuns(id=number, limit=self._limit)

        def heard(answer: AnyAnswer) -> None:
            with self._lock:
                listing.take(answer)
            self._news.set()

        found = [
            (connection, connection.follow(list_runs, heard)),
            (connection, connection.follow(lambda number: wire.ReadMachine(id=number, goes_on=True), heard)),
        ]
        with self._lock:
            self._following += found

    def _line_changed(self, connection: Connection) -> None:
        with self._lock:
            self._listings[connection.host.name].line = connection.state
        self._news.set()

    def _post_news(self) -> None:
        """Post HostsChanged when something is new, but no more often than a screen can be painted."""
        while self._news.wait() and not self._ended.is_set():
            self._news.clear()
            with self._lock:
                posts = list(self._watchers.values())
            for post in posts:
                post(HostsChanged())
            self._ended.wait(_POST_EVERY_S)

    # --- what they told --------------------------------------------------------------------------------

    def listings(self) -> list[HostListing]:
        """Return what each host told last."""
        with self._lock:
            return [replace(listing, runs=dict(listing.runs)) for listing in self._listings.values()]

    def joined(self, here: RunsListed) -> RunsListed:
        """Return the runs of this machine and of the others together, newest first."""
        others = self.listings()
        runs = [*here.runs, *(run for listing in others for run in listing.shown())]
        runs.sort(key=lambda run: run.created, reverse=True)
        damaged = [*here.damaged, *(row for listing in others for row in listing.away())]
        num_all = here.num_all + sum(listing.num_all for listing in others)
        return replace(here, runs=tuple(runs), num_all=num_all, damaged=tuple(damaged))

    def start(self, host: str, preset_name: str, options: RunOptions) -> str:
        """Start a preset of a host, and return the run's name here; empty if several seeds are queued. Waits for it.

        Raises:
            CifartuiError: the host refuses, because it lacks something for instance, or does not answer.
        """
        answer = self.connections[host].start(preset_name, options)
        if options.seeds and answer.num_queued:
            return ""
        if not _RUN_ID.fullmatch(answer.run):
            raise CifartuiError(OTHER_ANSWER.format(host))
        return f"{host}:{answer.run}"

    def host_of(self, row_id: str) -> str:
        """Return the other host that a row of a list stands for, or whose run it is; empty for this machine's."""
        host = row_id.partition(":")[0]
        return host if host in self.connections else ""

    def run(self, name: str) -> RemoteRun | None:
        """Return the run of another host by its name here, gpu1:RUN; None if it is one of this machine."""
        host, colon, run_id = name.partition(":")
        connection = self.connections.get(host) if colon else None
        return RemoteRun(connection, run_id or "latest") if connection is not None else None
