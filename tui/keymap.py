"""Rebindable actions and validation of the configured keys.

The ids are those of the bindings themselves: "monitor.stop" is the Monitor's binding of that id. Imports all
screens to find them, so it is imported only if the configuration names keys.
"""

import importlib
import pkgutil
from collections.abc import Iterator, Mapping

from msgspec import Struct
from msgspec.structs import replace
from textual.binding import Binding
from textual.keys import Keys, key_to_character
from textual.screen import ModalScreen

from presets.errors import CifartuiError
from presets.problems import nearest, printable

_MODIFIERS = frozenset({"ctrl", "alt", "shift", "super", "meta", "hyper"})
_KEPT = {"ctrl+c": "leaves", "ctrl+q": "leaves", "ctrl+p": "opens the palette", "ctrl+z": "suspends"}
_OF_LISTS = frozenset({"up", "down", "home", "end", "pageup", "pagedown", "enter", "j", "k", "g", "G"})
"""Taken by the list that has the focus, before its screen receives them."""
_WITHOUT_LISTS = frozenset({"matrix", "monitor", "predictions", "top"})


class Action(Struct, frozen=True):
    """Something that a key does: its id, where it is bound, and its usual keys in Textual's spelling."""

    id: str
    owner: type
    keys: tuple[str, ...]

    def meets(self, other: "Action") -> bool:
        """Return whether both are active at once, so that one key cannot serve both."""
        if self.owner is other.owner:
            return True
        if issubclass(self.owner, ModalScreen) or issubclass(other.owner, ModalScreen):
            return False  # a dialog receives its own keys alone
        if self.screen == other.screen == "list":  # of lists, only one has the focus
            return issubclass(self.owner, other.owner) or issubclass(other.owner, self.owner)
        return self.screen == other.screen or "app" in {self.screen, other.screen}

    @property
    def screen(self) -> str:
        """The first part of the id."""
        return self.id.partition(".")[0]


def actions() -> dict[str, Action]:
    """Return every action that can have other keys, by id."""
    found: dict[str, Action] = {}
    for owner, binding in _bindings():
        if binding.id is not None:
            before = found[binding.id].keys if binding.id in found else ()
            found[binding.id] = Action(binding.id, owner, (*before, binding.key))
    return found


def _bindings() -> Iterator[tuple[type, Binding]]:
    import tui.screens

    screens = [f"tui.screens.{module.name}" for module in pkgutil.iter_modules(tui.screens.__path__)]
    for name in ("tui.app", "tui.widgets.lists", "tui.widgets.run_table", *screens):
        for owner in vars(importlib.import_module(name)).values():
            if isinstance(owner, type) and owner.__module__ == name and "BINDINGS" in vars(owner):
                for binding in Binding.make_bindings(owner.BINDINGS):  # type: ignore[attr-defined]
                    yield owner, binding


def check_keys(keys: Mapping[str, str], label: str) -> None:
    """Refuse what would not work: unknown actions and keys, and two actions of one screen on one key.

    Args:
        keys: keys by the id of their action; several are separated by commas.
        label: where this was written, for the sentence.

    Raises:
        CifartuiError: with the first of these faults.
    """
    usual = actions()
    for name, text in keys.items():
        if name not in usual:
            hint = nearest(name, usual) or _known_of(name, usual)
            raise CifartuiError(f'{label}: keys."{printable(name)}" is no action{hint}')
        for key in text.split(","):
            _check_key(usual[name], key.strip(), label)
    changed = {name: replace(usual[name], keys=_spelled(text)) for name, text in keys.items()}
    for name, action in changed.items():
        for other in {**usual, **changed}.values():
            if other.id != name and action.meets(other) and set(action.keys) & set(other.keys):
                raise CifartuiError(
                    f'{label}: keys."{name}" = "{keys[name]}" is the key of {other.id} already; '
                    "choose another one, or give that another key too."
                )


def _known_of(name: str, usual: Mapping[str, Action]) -> str:
    """Return a clause with the actions of the screen that a name begins with, or with the screens: not with all."""
    screen = name.partition(".")[0]
    if of_screen := [each for each in sorted(usual) if usual[each].screen == screen]:
        return f"; there are {', '.join(of_screen)}."
    screens = {action.screen for action in usual.values()}
    return f"; actions begin with the name of a screen, which is one of {', '.join(sorted(screens))}."


def _check_key(action: Action, key: str, label: str) -> None:
    if key in action.keys:
        return
    text = f'{label}: keys."{action.id}"'
    *modifiers, last = key.split("+") if key != "+" else ["+"]
    if not _is_key(key, modifiers, last):
        known = [each.value for each in Keys if not each.value.startswith("<")]
        hint = nearest(key, known) or '; write a character, or a name such as "f2", "ctrl+s" or "space".'
        raise CifartuiError(f'{text} = "{printable(key)}" is no key that a terminal sends{hint}')
    if modifiers == ["shift"] and len(last) == 1:
        raise CifartuiError(f'{text} = "{key}" is sent as another character: write "{last.upper()}" for it.')
    if key in _KEPT:
        raise CifartuiError(f'{text} = "{key}" cannot be: {key} always {_KEPT[key]}; choose another key.')
    if action.screen not in _WITHOUT_LISTS and key in _OF_LISTS and _spelled(key)[0] not in action.keys:
        raise CifartuiError(f'{text} = "{key}" cannot be: {key} moves in lists or opens; choose another key.')


def _is_key(key: str, modifiers: list[str], last: str) -> bool:
    if any(modifier not in _MODIFIERS for modifier in modifiers):
        return False
    known = {each.value for each in Keys if not each.value.startswith("<")}
    if key in known or last in known:
        return True
    return last.isprintable() if len(last) == 1 else key_to_character(last) is not None


def _spelled(text: str) -> tuple[str, ...]:
    """Return keys as Textual spells them: "?" as "question_mark"."""
    return tuple(binding.key for binding in Binding.make_bindings([(text, "")])) if text else ()
