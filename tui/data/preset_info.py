"""Background lookups for Home: data-set location and network statistics per preset. Runs in threads."""

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

from rich.text import Text
from textual.message import Message

from presets.errors import CifartuiError
from presets.schema import Data, Preset
from tui.data.environment import Environment
from tui.data.network_facts import NetworkFacts
from tui.theme import TONES

if TYPE_CHECKING:
    from tui.data.network_facts import NetworkFacts

    pass


PATIENCE_S = 0.6
"""So long nothing is asked for: the cursor moves on, or another digit is typed."""

Found: TypeAlias = Sequence[NetworkFacts | str | None]
"""For each preset its facts, a sentence that says why there are none, or None while they are being computed."""


def lookup(
    presets: Sequence[Preset],
    data_dir: str | None,
    environment: Environment,
    stop: threading.Event,
    tell: Callable[[Found], object],
) -> None:
    """Tell what is known of `presets` at once, and all of it when it has been computed, unless `stop` is set."""
    known = environment.known_facts(presets, data_dir)
    if stop.is_set():
        return
    tell(known)
    missing = [preset for preset, found in zip(presets, known, strict=True) if found is None]
    if not missing or stop.wait(PATIENCE_S):
        return
    try:
        computed = environment.compute_facts(missing, data_dir, stop)
    except CifartuiError as error:
        computed = [str(error)] * len(missing)
    if not stop.is_set():
        rest = iter(computed)
        tell([found if found is not None else next(rest) for found in known])


class DataLocated(Message):
    """Whether a preset's data is there; without a name, whether CIFAR-100 is."""

    def __init__(self, name: str, status: Text, is_found: bool) -> None:
        self.name, self.status, self.is_found = name, status, is_found
        super().__init__()


class FactsFound(Message):
    """Facts by the name of their preset, or why there are none."""

    def __init__(self, found: "dict[str, NetworkFacts | str]") -> None:
        self.found = found
        super().__init__()


class PresetInfo:
    """Asks, and keeps the answers."""

    def __init__(self, environment: Environment, data_dir: str | None) -> None:
        self._environment, self._data_dir = environment, data_dir
        self.data_status: dict[str, Text] = {}
        """By preset name: whether its data is there, and what to do."""
        self.has_cifar: bool | None = None
        """None before it was looked for."""
        self.facts: dict[str, NetworkFacts | str] = {}
        """By preset name: facts, or why there are none."""
        self._has_facts_of_all = False
        self._asked_about = ""
        self._withdraw = threading.Event()

    def keep(self, message: DataLocated | FactsFound) -> None:
        """Keep an answer."""
        if isinstance(message, FactsFound):
            self.facts = {**self.facts, **message.found}
            self._has_facts_of_all = True
        elif message.name:
            self.data_status[message.name] = message.status
        else:
            self.has_cifar = message.is_found

    def wanted_facts(self, name: str) -> threading.Event | None:
        """Return the event that withdraws a question about a preset, if one is to be asked now.

        It is not where the answer is known, asked for, or may be among those that come first. A question about
        another preset that has no answer yet is withdrawn.
        """
        if name in self.facts or name == self._asked_about or not self._has_facts_of_all:
            return None
        self._withdraw.set()
        self._asked_about, self._withdraw = name, threading.Event()
        return self._withdraw

    def close(self) -> None:
        """Withdraw what was asked."""
        self._withdraw.set()

    def locate(self, name: str, data: Data) -> DataLocated:
        """Look for a data set. Reads folders."""
        try:
            found = self._environment.locate(data, self._data_dir)
        except CifartuiError as error:
            return DataLocated(name, Text(str(error), TONES["bad"]), False)
        said = f"{found.text.rstrip('.')}. {found.advice}" if found.advice else found.text
        return DataLocated(name, Text(said, TONES["warn" if found.advice else "good"]), found.kind != "absent")

    def first_facts(self, presets: Mapping[str, Preset]) -> FactsFound:
        """Return the facts of all presets of which they are known. Reads small files."""
        found = self._environment.known_facts(list(presets.values()), self._data_dir)
        return FactsFound({name: each for name, each in zip(presets, found, strict=True) if each is not None})

    def ask_facts(
        self, name: str, preset: Preset, withdraw: threading.Event, post: Callable[[FactsFound], object]
    ) -> None:
        """Post the facts of a preset, which takes seconds where they are not known, unless `withdraw` is set."""
        pass

        def tell(found: "Found") -> None:
            if found[0] is not None:
                post(FactsFound({name: found[0]}))

        lookup([preset], self._data_dir, self._environment, withdraw, tell)
