"""Checks of what a checkpoint holds against the run that it is to belong to: every number, shape and number format.

A checkpoint may be damaged, or made by somebody else. torch loads momentum of any shape, which ends the process in the
next step, and a schedule's attributes of any type. Values of the preset are taken from the preset; a checkpoint only
gives those that training changes. A fault is a ValueError whose text is a clause. No I/O.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import torch
from torch import Tensor, nn
from torch.nn import Parameter
from torch.optim import Optimizer

from engine.journal.data_record import DataRecord, same_name
from engine.training.progress import Progress
from presets.errors import CifartuiError
from presets.plan import PlannedStage

FORMAT = 1
_MOST_VALUES = 1_000_000
_MOST_STEPS = 2**53
_LONGEST_S = 1e10
"""Three hundred years."""
_KEPT = {"momentum_buffer", "step", "exp_avg", "exp_avg_sq"}
"""Keys of the state that optimizers keep for a parameter."""
_ADAM = {"step", "exp_avg", "exp_avg_sq"}
_MOVED_IN_GROUPS = ("lr", "initial_lr", "max_lr", "min_lr")
"""Values of parameter groups that schedules and commands change; all others come from the preset."""
_CHECKED_IN_GROUPS = (*_MOVED_IN_GROUPS, "momentum", "betas")
_COUNTS = ("last_epoch", "_step_count", "num_bad_epochs", "cooldown_counter")
_RATES = ("base_lrs", "_last_lr")


class OtherVersionError(CifartuiError):
    """A checkpoint is of another version: whole, and not for this one."""


def check_format(state: Mapping[str, Any]) -> None:
    """Raise OtherVersionError if `state`, read from last.pt, was written by another version."""
    if state.get("format") != FORMAT:
        raise OtherVersionError(
            "last.pt was written by another version of cifartui and cannot be resumed by this one; "
            "its best.pt can still be evaluated, or given to model.weights."
        )


def check_plain(content: object) -> None:
    """Raise ValueError unless `content` is made of dicts, sequences, plain values and ordinary tensors, not too many.

    Values that are within themselves, or within each other many times over, are too many.
    """
    left, num_values = [content], 0
    while left:
        value = left.pop()
        num_values += 1
        if num_values > _MOST_VALUES:
            raise ValueError("it holds more values than any checkpoint")
        if isinstance(value, dict):
            if not all(isinstance(key, str | int) for key in value):
                raise ValueError("it has keys that are neither names nor numbers")
            left.extend(value.values())
        elif isinstance(value, list | tuple):
            left.extend(value)
        elif isinstance(value, Tensor):
            if value.layout != torch.strided or value.is_quantized or value.device.type != "cpu":
                raise ValueError("it holds a tensor that is not an ordinary one")
            if value.numel() * value.element_size() > value.untyped_storage().nbytes():
                raise ValueError("it holds a tensor with more numbers than its storage")
        elif isinstance(value, float):
            if math.isnan(value):
                raise ValueError("it holds a number that is none")
        elif not (value is None or isinstance(value, str | bool) or (type(value) is int and abs(value) < 2**63)):
            raise ValueError("it holds a value that is neither text nor a number")


def check_weights(weights: object, network: nn.Module) -> None:
    """Raise ValueError unless `weights` are finite numbers for every parameter and buffer of `network`.

    The network may be on the meta device, where only its shapes are.
    """
    expected = network.state_dict()
    if not isinstance(weights, dict) or weights.keys() != expected.keys():
        raise ValueError("its weights are those of another network")
    for name, wanted in expected.items():
        found = weights[name]
        if not isinstance(found, Tensor) or found.shape != wanted.shape or _kind(found) != _kind(wanted):
            raise ValueError(f"its weights {name} have another shape or number format")
        _check_finite(found, f"its weights {name}", at_least=0.0 if name.endswith("running_var") else None)


def progress_of(
    state: Mapping[str, Any], plan: Sequence[PlannedStage], batch_size: int, steps_per_epoch: int | None = None
) -> Progress:
    """Return the place of training in a checkpoint.

    Args:
        state: read from last.pt.
        plan: the run's stages.
        batch_size: of the run.
        steps_per_epoch: batches of an epoch; None if the data is not read yet.

    Raises:
        ValueError: there is no such place in the run.
    """
    try:
        place = msgspec.convert(state["progress"], Progress)
    except (KeyError, msgspec.ValidationError) as error:
        raise ValueError(f"it does not say where training is ({error})") from None
    stages = "1 stage" if len(plan) == 1 else f"{len(plan)} stages"
    _within("stage", place.stage, 0, len(plan), f"the run has {stages}")
    stage = min(place.stage, len(plan) - 1)
    before = sum(each.epochs for each in plan[:stage])
    _within("first epoch of the stage", place.stage_first_epoch, 1, before + 1, f"{before} epochs come before")
    last = place.stage_first_epoch + plan[stage].epochs
    _within("epoch", place.epoch, place.stage_first_epoch, last, f"the stage has {plan[stage].epochs} epochs")
    _within("step", place.step, 0, _MOST_STEPS if steps_per_epoch is None else steps_per_epoch, "no epoch has more")
    _within("global step", place.global_step, place.step, _MOST_STEPS, f"{place.step} steps of its epoch are trained")
    if place.at_once is not None:
        _within("images at once", place.at_once, 1, batch_size, f"a batch has {batch_size}")
    loss, hits, num_images = place.epoch_sums[:3]
    _within("number of images", num_images, 0, place.step * batch_size, f"{place.step} batches are trained")
    _within("number of right answers", hits, 0, num_images, f"it counts {num_images} images")
    if not math.isfinite(loss):
        raise ValueError("its sum of losses is no number")
    for name, seconds in (("epoch", place.epoch_seconds), ("epochs before", place.trained_seconds)):
        _within(f"seconds of the {name}", seconds, 0, _LONGEST_S, "so long no run takes")
    for name, epoch, top1, balanced in (
        ("best", place.best_epoch, place.best_val_top1, place.best_val_balanced),
        ("best of the stage", place.stage_best_epoch, place.stage_best_val_top1, place.stage_best_val_balanced),
    ):
        if (epoch is None) != (top1 is None):
            raise ValueError(f"its {name} accuracy has no epoch, or the other way round")
        if epoch is not None:
            _within(f"{name} epoch", epoch, 1, place.epoch, f"epoch {place.epoch} is under way")
            _within(f"{name} accuracy", top1, 0, 1, "accuracies are from 0 to 1")
        if balanced is not None:
            _within(f"{name} balanced accuracy", balanced, 0, 1, "accuracies are from 0 to 1")
    return place


def optimizer_state(saved: object, optimizer: Optimizer) -> dict[str, Any]:
    """Return what `optimizer` can load of the state in a checkpoint.

    Args:
        saved: its "optimizer".
        optimizer: made from the preset, with its schedule; on any device.

    Raises:
        ValueError: the state belongs to other parameters, or holds no usable numbers.
    """
    match saved:
        case {"state": dict(state), "param_groups": list(groups)}:
            pass
        case _:
            raise ValueError("it has no state of the optimizer")
    if not are_parted_alike(saved, optimizer):
        raise ValueError("its optimizer moves other parameters")
    fresh, merged = optimizer.state_dict()["param_groups"], []
    for new, old in zip(fresh, groups, strict=True):
        checked = {
            name: _checked_in_group(name, old[name]) for name in _CHECKED_IN_GROUPS if name in new and name in old
        }
        merged.append({**new, **{name: checked[name] for name in _MOVED_IN_GROUPS if name in checked}})
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    is_adam = isinstance(optimizer, torch.optim.AdamW)
    for index, kept in state.items():
        if type(index) is not int or not 0 <= index < len(parameters) or not isinstance(kept, dict):
            raise ValueError("its optimizer keeps something of a parameter that there is not")
        if not kept.keys() <= _KEPT or (is_adam and kept.keys() != _ADAM) or (not is_adam and kept.keys() & _ADAM):
            raise ValueError("its optimizer keeps what another one does")
        for name, value in kept.items():
            _check_kept(name, value, parameters[index])
    return {"state": state, "param_groups": merged}


def rates_of(saved: object) -> list[float]:
    """Return the learning rates of an optimizer's groups; raise ValueError unless they are numbers from 0 on."""
    match saved:
        case {"param_groups": [{"lr": _}, *_] as groups} if all(isinstance(group, dict) for group in groups):
            return [_finite("learning rate", group.get("lr")) for group in groups]
    raise ValueError("its optimizer has no learning rates")


def schedule_state(saved: object, fresh: Mapping[str, Any], most: int) -> dict[str, Any]:
    """Return what a schedule can load of the state in a checkpoint.

    Args:
        saved: its "schedule".
        fresh: the state of the schedule as made from the preset.
        most: the last step or epoch that the schedule knows.

    Raises:
        ValueError: there is no such place in the schedule.
    """
    if not isinstance(saved, dict):
        raise ValueError("it has no state of the schedule")
    moved: dict[str, Any] = {name: saved[name] for name in _COUNTS if name in saved and name in fresh}
    for name, count in moved.items():
        if type(count) is not int:
            raise ValueError(f"its schedule's {name} is no whole number")
        _within(f"schedule's {name}", count, 0, most if name == "last_epoch" else _MOST_STEPS, f"it ends at {most}")
    for name in _RATES:
        if name in saved and name in fresh:
            rates = saved[name]
            if not isinstance(rates, list) or len(rates) != len(fresh[name]):
                raise ValueError(f"its schedule's {name} are not one for each group of parameters")
            moved[name] = [_finite(f"schedule's {name}", rate) for rate in rates]
    if "best" in saved and "best" in fresh:
        best = saved["best"]
        _within("schedule's best accuracy", best, -math.inf, 1, "accuracies are from 0 to 1")
        moved["best"] = best
    return {**fresh, **moved}


def scaler_state(saved: object, fresh: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a gradient scaler can load of the state in a checkpoint; `fresh` is that of a new one.

    Raises:
        ValueError: its scale is no number above 0, or its count out of range.
    """
    match saved:
        case {"scale": scale, "_growth_tracker": tracker}:
            pass
        case _:
            raise ValueError("it has no state of the gradient scaler")
    if _finite("gradient scale", scale) == 0:
        raise ValueError("its gradient scale is 0")
    if type(tracker) is not int:
        raise ValueError("its scaler's count is no whole number")
    _within("scaler's count", tracker, 0, fresh["growth_interval"], "it begins anew there")
    return {**fresh, "scale": float(scale), "_growth_tracker": tracker}


def lr_scale_of(state: Mapping[str, Any]) -> float:
    """Return what rates were multiplied by on command; raise ValueError unless it is a number above 0."""
    scale = _finite("factor of learning rates", state.get("lr_scale", 1.0))
    if scale == 0:
        raise ValueError("its factor of learning rates is 0")
    return scale


def data_of(state: Mapping[str, Any]) -> DataRecord | None:
    """Return the record of the data that a checkpoint was trained on; None in one of a version without records.

    Raises:
        ValueError: it is no such record.
    """
    if "data" not in state:
        return None
    try:
        record = msgspec.convert(state["data"], DataRecord)
    except msgspec.ValidationError as error:
        raise ValueError(f"its record of the data cannot be read ({error})") from None
    _check_names(record.class_names)
    if "train" not in record.splits:
        raise ValueError("its record of the data has no training images")
    return record


def class_names_of(state: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the class names of the weights in a checkpoint, in order; empty in a last.pt without them.

    Raises:
        ValueError: they are no names.
    """
    names = state.get("class_names", ())
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise ValueError("its class names are no list of names")
    _check_names(names)
    return tuple(names)


def _check_names(names: Sequence[str]) -> None:
    if len({same_name(name) for name in names}) < len(names):
        raise ValueError("two of its classes have one name")


def place_of(state: Mapping[str, Any]) -> tuple[int, int]:
    """Return the epoch and the global step of the weights in a checkpoint; raise ValueError if they are none."""
    progress = state.get("progress")
    place: Mapping[str, Any] = progress if isinstance(progress, dict) else {}
    found = [state.get(name, place.get(name, 0)) for name in ("epoch", "global_step")]
    for name, number in zip(("epoch", "global step"), found, strict=True):
        if type(number) is not int:
            raise ValueError(f"its {name} is no whole number")
        _within(name, number, 0, _MOST_STEPS, "no run gets there")
    is_next = "epoch" not in state and place.get("step") == 0  # an epoch of which no batch is trained yet
    return max(0, found[0] - is_next), found[1]


def are_parted_alike(saved: object, optimizer: Optimizer) -> bool:
    """Return true if the optimizer in a checkpoint has the same parameters in the same groups as `optimizer`."""
    groups = saved.get("param_groups") if isinstance(saved, dict) else None
    parted = [group.get("params") if isinstance(group, dict) else None for group in groups or ()]
    return parted == [group["params"] for group in optimizer.state_dict()["param_groups"]]


def _check_kept(name: str, value: object, parameter: Parameter) -> None:
    """Raise ValueError unless `value` is what an optimizer keeps of a parameter under that name."""
    if value is None and name == "momentum_buffer":  # before the first step
        return
    if name == "step":
        steps = float(value) if isinstance(value, Tensor) and value.numel() == 1 else value
        _within("optimizer's step", steps, 0, _MOST_STEPS, "no run gets there")
        return
    if not isinstance(value, Tensor) or value.shape != parameter.shape or _kind(value) != _kind(parameter):
        raise ValueError(f"its optimizer's {name} have another shape or number format than their parameters")
    _check_finite(value, f"its optimizer's {name}", at_least=0.0 if name == "exp_avg_sq" else None)


def _checked_in_group(name: str, value: Any) -> Any:
    if name == "betas":
        if not isinstance(value, list | tuple) or len(value) != 2:
            raise ValueError("its optimizer's betas are not two numbers")
        for beta in value:
            _within("optimizer's betas", beta, 0, 1, "they are from 0 to 1")
        return tuple(value)
    if name == "momentum":
        _within(f"optimizer's {name}", value, 0, 1, "it is from 0 to 1")
        return value
    return _finite(f"optimizer's {name}", value)


def _finite(what: str, value: Any) -> float:
    """Return a number that is 0 or more, as it is."""
    if type(value) not in (int, float) or not 0 <= value < math.inf:
        raise ValueError(f"its {what} is {_shown(value)}, and must be a number from 0 on")
    number: float = value
    return number


def _within(what: str, value: Any, least: float, most: float, why: str) -> None:
    """Raise ValueError unless a number is from `least` to `most`."""
    if type(value) not in (int, float) or not least <= value <= most:
        raise ValueError(f"its {what} is {_shown(value)}, where {why}")


def _shown(value: object) -> str:
    return str(value) if type(value) is int else f"{value:.10g}" if isinstance(value, float) else "no number"


def _kind(tensor: Tensor) -> str:
    return "float" if tensor.is_floating_point() else "other" if tensor.is_complex() else "whole"


def _check_finite(tensor: Tensor, what: str, at_least: float | None) -> None:
    if not tensor.is_floating_point():
        return
    if not bool(torch.isfinite(tensor).all()) or (at_least is not None and bool((tensor < at_least).any())):
        raise ValueError(f"{what} hold values that are no usable numbers")
