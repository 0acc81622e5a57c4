"""Background lookups for Home: data-set location and network statistics per preset. Runs in threads."""

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from rich.text import Text
from textual.message import Message

from presets.errors import CifartuiError
from presets.schema import Data, Preset
from tui.data.environment import Environment
from tui.data.network_facts import NetworkFacts
from tui.theme import TONES

PATIENCE_S = 0.6
"""Delay before facts are computed: the cursor may move on, or another digit be typed."""

Found: TypeAlias = Sequence[NetworkFacts | str | None]
"""For each preset its facts, the reason why there are none, or None while they are being computed."""


def lookup(
    presets: Sequence[Preset],
    data_dir: str | None,
    environment: Environment,
    stop: threading.Event,
    found: Callable[[Found], object],
) -> None:
    """Call `found` with the known facts of `presets`, and again when all are computed, unless `stop` is set."""
    known = environment.known_facts(presets, data_dir)
    if stop.is_set():
        return
    found(known)
    missing = [preset for preset, facts in zip(presets, known, strict=True) if facts is None]
    if not missing or stop.wait(PATIENCE_S):
        return
    try:
        computed = environment.compute_facts(missing, data_dir, stop)
    except CifartuiError as error:
        computed = [str(error)] * len(missing)
    if not stop.is_set():
        rest = iter(computed)
        found([facts if facts is not None else next(rest) for facts in known])


class DataLocated(Message):
    """A preset's data was searched for; without a name, CIFAR-100 was."""

    def __init__(self, name: str, status: Text, is_found: bool) -> None:
        self.name, self.status, self.is_found = name, status, is_found
        super().__init__()


class FactsFound(Message):
    """Facts by the name of their preset, or why there are none."""

    def __init__(self, found: dict[str, NetworkFacts | str]) -> None:
        self.found = found
        super().__init__()


class PresetInfo:
    """Results of the lookups, by preset name."""

    def __init__(self, environment: Environment, data_dir: str | None) -> None:
        self._environment, self._data_dir = environment, data_dir
        self.data_status: dict[str, Text] = {}
        """By preset name: whether its data was found, and what to do if not."""
        self.has_cifar: bool | None = None
        """None before it was searched for."""
        self.facts: dict[str, NetworkFacts | str] = {}
        """By preset name: facts, or why there are none."""
        self._has_facts_of_all = False
        self._looked_up = ""
        self._withdraw = threading.Event()

    def store(self, message: DataLocated | FactsFound) -> None:
        """Store the result of a lookup."""
        if isinstance(message, FactsFound):
            self.facts = {**self.facts, **message.found}
            self._has_facts_of_all = True
        elif message.name:
            self.data_status[message.name] = message.status
        else:
            self.has_cifar = message.is_found

    def wanted_facts(self, name: str) -> threading.Event | None:
        """Return the event that cancels the lookup of a preset's facts, if it is to be started now.

        None if the facts are known, being computed, or may be among the first ones, which are not read yet. The
        lookup of another preset that is under way is cancelled.
        """
        if name in self.facts or name == self._looked_up or not self._has_facts_of_all:
            return None
        self._withdraw.set()
        self._looked_up, self._withdraw = name, threading.Event()
        return self._withdraw

    def close(self) -> None:
        """Cancel the lookup under way."""
        self._withdraw.set()

    def locate(self, name: str, data: Data) -> DataLocated:
        """Search for a data set. Reads folders."""
        try:
            found = self._environment.locate(data, self._data_dir)
        except CifartuiError as error:
            return DataLocated(name, Text(str(error), TONES["bad"]), False)
        tone = TONES["warn" if found.advice else "good"]
        return DataLocated(name, Text(found.sentences, tone), found.kind != "absent")

    def first_facts(self, presets: Mapping[str, Preset]) -> FactsFound:
        """Return the facts that are known without computing. Reads small files."""
        found = self._environment.known_facts(list(presets.values()), self._data_dir)
        return FactsFound({name: each for name, each in zip(presets, found, strict=True) if each is not None})

    def find_facts(
        self, name: str, preset: Preset, withdraw: threading.Event, post: Callable[[FactsFound], object]
    ) -> None:
        """Post the facts of a preset, computed if they are not known (seconds), unless `withdraw` is set."""

        def post_found(found: Found) -> None:
            if found[0] is not None:
                post(FactsFound({name: found[0]}))

        lookup([preset], self._data_dir, self._environment, withdraw, post_found)
