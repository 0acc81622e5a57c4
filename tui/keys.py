"""Which keys can be given to other actions, and whether what the user asks for will work.

The ids are those of the bindings themselves: "monitor.stop" is the Monitor's binding of that id. Imports the
screens to find them, so it is asked only where the configuration names keys.
"""

import importlib
import pkgutil
from collections.abc import Iterator, Mapping

from textual.binding import Binding
from textual.keys import Keys, key_to_character

from presets.errors import CifartuiError
from presets.problems import nearest, printable

_MODIFIERS = frozenset({"ctrl", "alt", "shift", "super", "meta", "hyper"})
_KEPT = {"ctrl+c": "leaves", "ctrl+q": "leaves", "ctrl+p": "opens the palette"}
_OF_LISTS = frozenset({"up", "down", "home", "end", "pageup", "pagedown", "enter", "j", "k", "g", "G"})
"""Taken by the list that has the focus, before its screen hears of them."""
_WITHOUT_LISTS = frozenset({"monitor", "predictions"})


def usual_keys() -> dict[str, tuple[str, ...]]:
    """Return the keys of every action that can have others, by id, in Textual's spelling."""
    usual: dict[str, tuple[str, ...]] = {}
    for binding in _bindings():
        if binding.id is not None:
            usual[binding.id] = (*usual.get(binding.id, ()), binding.key)
    return usual


def _bindings() -> Iterator[Binding]:
    import tui.screens

    screens = [f"tui.screens.{module.name}" for module in pkgutil.iter_modules(tui.screens.__path__)]
    for name in ("tui.app", "tui.widgets.lists", *screens):
        for owner in vars(importlib.import_module(name)).values():
            if isinstance(owner, type) and owner.__module__ == name and "BINDINGS" in vars(owner):
                yield from Binding.make_bindings(owner.BINDINGS)  # type: ignore[attr-defined]


def check_keys(keys: Mapping[str, str], label: str) -> None:
    """Refuse what would not work: unknown actions and keys, and two actions of one screen on one key.

    Args:
        keys: keys by the id of their action; several are separated by commas.
        label: where this was written, for the sentence.

    Raises:
        CifartuiError: with the first of these faults.
    """
    usual = usual_keys()
    for name, text in keys.items():
        if name not in usual:
            hint = nearest(name, usual) or f"; there are {', '.join(sorted(usual))}."
            raise CifartuiError(f'{label}: keys."{printable(name)}" is no action{hint}')
        for key in text.split(","):
            _check_key(name, key.strip(), label, usual[name])
    _check_clashes({**usual, **{name: _spelled(text) for name, text in keys.items()}}, keys, label)


def _check_key(name: str, key: str, label: str, usual: tuple[str, ...]) -> None:
    said = f'{label}: keys."{name}"'
    *modifiers, last = key.split("+") if key != "+" else ["+"]
    if not _is_key(key, modifiers, last):
        known = [each.value for each in Keys if not each.value.startswith("<")]
        hint = nearest(key, known) or '; write a character, or a name such as "f2", "ctrl+s" or "space".'
        raise CifartuiError(f'{said} = "{printable(key)}" is no key that a terminal sends{hint}')
    if modifiers == ["shift"] and len(last) == 1:
        raise CifartuiError(f'{said} = "{key}" is sent as another character: write "{last.upper()}" for it.')
    if key in _KEPT:
        raise CifartuiError(f'{said} = "{key}" cannot be: {key} always {_KEPT[key]}; choose another key.')
    if name.partition(".")[0] not in _WITHOUT_LISTS and key in _OF_LISTS and _spelled(key)[0] not in usual:
        raise CifartuiError(f'{said} = "{key}" cannot be: {key} moves in lists or opens; choose another key.')


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


def _check_clashes(held: Mapping[str, tuple[str, ...]], asked: Mapping[str, str], label: str) -> None:
    for name in asked:
        screen = name.partition(".")[0]
        for other, others in held.items():
            near = other.partition(".")[0]
            shared = set(held[name]) & set(others)
            if other != name and shared and (near == screen or "app" in {near, screen}):
                raise CifartuiError(
                    f'{label}: keys."{name}" = "{asked[name]}" is the key of {other} already; '
                    "choose another one, or give that another key too."
                )
