"""Suggestions of shell completion: presets, runs, keys and values of `--set`, backbones. No torch, no slow reading."""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

import click
from click.shell_completion import CompletionItem
from msgspec import inspect

from engine.runs.run_dir import list_runs
from presets import backbones, catalog
from presets.errors import CifartuiError
from presets.schema import FreezableModel, Preset
from tui.cli.options import places
from tui.config import read_config

_WORD = re.compile(r"[^\s\x00-\x1f\x7f]+")
"""Pattern of what any shell takes as one word and one line."""
_FILE_KEYS = {"data.path", "data.labels", "model.weights"}
_Source: TypeAlias = Callable[[click.Context, str], list[CompletionItem]]


def suggest_for(command: click.Command) -> click.Command:
    """Give the parameters of a command, and of the commands in it, the suggestions that their metavars name."""
    for parameter in command.params:
        wanted = (parameter.metavar or "").strip("[].")
        source = _SOURCES.get(wanted.partition(".")[0])
        if source is not None:
            parameter.type = _Suggested(source)
    for each in command.commands.values() if isinstance(command, click.Group) else ():
        suggest_for(each)
    return command


class _Suggested(click.ParamType):  # type: ignore[type-arg]  # which click 8.1 has none of
    """A text whose beginnings are completed."""

    name = "text"

    def __init__(self, source: "_Source") -> None:
        self.source = source

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        try:
            return self.source(ctx, incomplete)
        except CifartuiError:  # such as a folder of runs that cannot be read: the command will say so
            return []


def _beginning(incomplete: str, words: Iterable[str]) -> list[CompletionItem]:
    found = (word for word in dict.fromkeys(words) if word.startswith(incomplete))
    return [CompletionItem(word) for word in found if _WORD.fullmatch(word)]


def _files(incomplete: str, before: str = "") -> list[CompletionItem]:
    """Return the request to the shell to look for files, whose names stand after `before`."""
    return [CompletionItem(incomplete, type="file", before=before)]


def _any_file(_ctx: click.Context, incomplete: str) -> list[CompletionItem]:
    return _files(incomplete)


def _folders(_ctx: click.Context, incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(incomplete, type="dir")]


def _presets(_ctx: click.Context, incomplete: str) -> list[CompletionItem]:
    return _beginning(incomplete, catalog.names()) or _files(incomplete)


def _steps(_ctx: click.Context, incomplete: str) -> list[CompletionItem]:
    """Return the presets of the ablation, by the short names that it takes."""
    folder = "ablation/"
    return _beginning(incomplete, [name.removeprefix(folder) for name in catalog.names() if name.startswith(folder)])


def _runs(ctx: click.Context, incomplete: str) -> list[CompletionItem]:
    """Return "latest", and of every run its name without the time; its id, if others have that in theirs."""
    ids = [run.id for run in list_runs(places(ctx).runs_dir)]
    together = "\n".join(ids)
    short = {run_id: run_id.partition("-")[2] for run_id in ids}
    names = [name if name and together.count(name) == 1 else run_id for run_id, name in short.items()]
    found = _beginning(incomplete, ["latest", *names, *(ids if incomplete else ())]) if ids else []
    return found or (_files(incomplete) if ctx.info_name == "predict" else [])  # which takes exported networks too


def _devices(_ctx: click.Context, incomplete: str) -> list[CompletionItem]:
    return _beginning(incomplete, ("auto", "cpu", "cuda", "mps"))


def _hosts(_ctx: click.Context, incomplete: str) -> list[CompletionItem]:
    """Return the hosts of the configuration, behind those that are named already."""
    named, comma, _ = incomplete.rpartition(",")
    return _beginning(incomplete, [f"{named}{comma}{name}" for name in read_config().hosts])


def _networks(_ctx: click.Context, incomplete: str) -> list[CompletionItem]:
    return _beginning(incomplete, backbones.torchvision())


def _changes(ctx: click.Context, incomplete: str) -> list[CompletionItem]:
    """Return the keys of a preset, or the values that the typed key may have."""
    key, equals, value = incomplete.partition("=")
    known = _settings(_named_preset(ctx))
    if ctx.info_name == "resume":
        from engine.runs.resume import is_changeable

        known = {name: known[name] for name in known if is_changeable(name)}
    if not equals:
        return _beginning(incomplete, [f"{name}=" for name in known])
    found = _beginning(incomplete, [f"{key}={each}" for each in known.get(key, ())])
    return found or (_files(value, f"{key}=") if key in _FILE_KEYS else [])


def _named_preset(ctx: click.Context) -> Preset | None:
    """Return the first preset on the line, as the `--set` before would have it; None if there is none.

    It is in `ctx.args` where click has not parsed the arguments, because the last option has no value yet.
    """
    values = {each.metavar or "": ctx.params.get(each.name or "") for each in ctx.command.params}
    parsed = next((value for metavar, value in values.items() if value and "PRESET" in metavar), ())
    names = ctx.args or ([parsed] if isinstance(parsed, str) else parsed)
    try:
        return catalog.load(names[0], values["KEY=VALUE"] or ()) if names else None
    except CifartuiError:
        return None


def _settings(preset: Preset | None) -> dict[str, Sequence[str]]:
    """Return the keys of a preset with the values that can be listed: those that `preset` may have, or any."""
    found: dict[str, Sequence[str]] = {}
    schema = inspect.type_info(Preset)
    assert isinstance(schema, inspect.StructType)
    for table in schema.fields:
        if table.name == "report":  # published results, not settings
            continue
        kinds = [kind for kind in _alternatives(table.type) if isinstance(kind, inspect.StructType)]
        chosen = getattr(preset, table.name, None)
        for kind in kinds:
            if kind.tag_field:
                found[f"{table.name}.{kind.tag_field}"] = [str(each.tag) for each in kinds]
        for kind in kinds:
            if chosen is None or kind.cls is type(chosen):
                for field in kind.fields:
                    found[f"{table.name}.{field.name}"] = _values(field.type)
    if "model.name" in found:
        found["model.name"] = list(backbones.torchvision())
    if preset is not None and isinstance(preset.model, FreezableModel):
        found["model.weights"] = backbones.published_weights(preset.model)
    return found


def _alternatives(kind: inspect.Type) -> Sequence[inspect.Type]:
    return kind.types if isinstance(kind, inspect.UnionType) else (kind,)


def _values(kind: inspect.Type) -> list[str]:
    """Return the values of a type that there are few of."""
    values: list[str] = []
    for each in _alternatives(kind):
        match each:
            case inspect.LiteralType():
                values += map(str, each.values)
            case inspect.BoolType():
                values += ["true", "false"]
            case inspect.NoneType():
                values += ["none"]
    return values


_SOURCES: dict[str, _Source] = {
    "PRESET": _presets,
    "RUN": _runs,
    "KEY=VALUE": _changes,
    "DEVICE": _devices,
    "HOST": _hosts,
    "HOSTS": _hosts,
    "STEPS": _steps,
    "WORD": _networks,
    "PATH": _any_file,
    "FILE": _any_file,
    "DIR": _folders,
}
"""Suggestions by the metavar of an argument or option."""
