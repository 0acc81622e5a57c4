"""Text of a preset: network, data, training, schedule, augmentation, published results."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Group
from rich.text import Text

from presets import schema
from presets.plan import plan, total_epochs
from presets.safe_text import visible_in_a_row
from presets.schema import Preset, Report
from tui import format as fmt
from tui.text.layout import table
from tui.theme import MUTED, REFERENCE, TEXT, TONES

if TYPE_CHECKING:
    from presets.range_test import Sweep

_DATASETS = {
    "cifar100": "CIFAR-100",
    "cifar10": "CIFAR-10",
    "mnist": "MNIST",
    "fashion-mnist": "Fashion-MNIST",
    "flowers102": "Oxford 102 Flowers",
    "oxford-pets": "Oxford-IIIT Pets",
    "shapes100": "100 shapes, generated data",
    "class-folders": "class folders",
    "cub200": "Caltech-UCSD Birds 200",
}
_NORMALIZE = {
    "none": "pixels in [0, 1]",
    "unit": "pixels in [0, 1]",
    "half": "mean 0.5, std 0.5",
    "cifar100": "CIFAR-100's mean and std",
    "cifar10": "CIFAR-10's mean and std",
    "mnist": "MNIST's mean and std",
    "fashion-mnist": "Fashion-MNIST's mean and std",
    "imagenet": "ImageNet's mean and std",
    "clip": "CLIP's mean and std",
}


def description(preset: Preset, data_status: Text, size: Text, memory: Text, earlier: str) -> Group:
    """Return the whole description.

    Args:
        preset: to be described.
        data_status: whether the data was found.
        size: of the network.
        memory: whether a training step fits.
        earlier: results of earlier runs; empty if there are none.
    """
    rows: list[tuple[str, Text | str]] = [
        ("network", network(preset.model)),
        ("size", size),
        ("memory", memory),
        ("data", data(preset.data)),
        ("", data_status),
        ("training", training(preset)),
        ("earlier", earlier),
        (preset.report.source, published(preset.report)),
        ("optimizer", optimizer(preset.optimizer)),
        ("schedule", schedule(preset.schedule)),
        ("augment", augmentation(preset.train.augment)),
        *stages(preset),
    ]
    summary = Text(preset.summary, MUTED)
    return Group(Text(preset.title, f"bold {TEXT}"), summary, Text(""), table([row for row in rows if row[1]]))


def size(num_parameters: int, num_trainable: int, flops_per_image: int) -> Text:
    """Return parameters and arithmetic of a network."""
    trained = fmt.trained(num_trainable, num_parameters)
    return Text(f"{fmt.count(num_parameters)} parameters{trained}, {fmt.flop(flops_per_image)} an image", TEXT)


def nothing() -> Group:
    """Return the text if the filter leaves no preset."""
    return Group(Text("No preset has these words in its name, title or group. Esc shows all of them.", MUTED))


def problem(name: str, path: str, why: str) -> Group:
    """Return the text of a preset that cannot be used."""
    return Group(
        Text(name, f"bold {TEXT}"), Text("cannot be used", TONES["bad"]), Text(""), Text(why, TEXT), Text(""),
        Text(path, MUTED),
    )  # fmt: skip


def network(model: schema.Model) -> str:
    """Return the network as a sentence."""
    match model:
        case schema.BaseNet():
            return "BaseNet: two 5×5 convolutions, two linear layers"
        case schema.Vgg():
            return _vgg(model)
        case schema.Resnet18():
            return f"ResNet-18{_resnet(model)}"
        case schema.Resnet50():
            return f"ResNet-50{_resnet(model)}"
        case schema.Backbone():
            return f"{model.source}'s {model.name}{_pretrained(model)}"
        case schema.Resnet9():
            return f"ResNet-9, {model.width} to {8 * model.width} channels"
        case schema.Googlenet():
            return "GoogLeNet: nine inception modules with BatchNorm"
        case schema.ResnetV2():
            return f"ResNet-V2 50x1: weight standardisation, GroupNorm{_STEMS[model.stem]}"


_STEMS = {"imagenet": "", "small": ", stem for small images"}


def _resnet(model: schema.Resnet18 | schema.Resnet50) -> str:
    return f"{_STEMS[model.stem]}{_pretrained(model)}"


def _pretrained(model: schema.FreezableModel) -> str:
    start = f"weights {model.weights}" if model.weights else "random weights"
    trained = "only the last layer trained" if model.frozen else "all layers trained"
    dropout = f", dropout {model.dropout:g}" if isinstance(model, schema.Backbone) and model.dropout else ""
    return f", {start}, {trained}{dropout}"


def _vgg(model: schema.Vgg) -> str:
    num_convolutions = sum(len(block) for block in model.blocks)
    widths = " · ".join("-".join(str(width) for width in block) for block in model.blocks)
    pools = " ".join(model.pools)
    if set(model.pools[:-1]) <= {"max"}:
        pools = {"max": "max pools", "avg": "max pools, average at the end", "none": "max pools, none at the end"}[
            model.pools[-1]
        ]
    head = f", head {' · '.join(str(width) for width in model.head)}" if model.head else ""
    head += " with BatchNorm" if model.head_batch_norm else ""
    head += f", dropout {model.dropout:g}" if model.dropout else ""
    shortcuts = {"none": "", "add": ", shortcuts added", "concat": ", shortcuts concatenated"}[model.shortcuts]
    init = ", He initialisation" if model.init == "he" else ""
    return f"{num_convolutions} conv 3×3 ({widths}), {pools}{shortcuts}{head}{init}"


def dataset(name: str) -> str:
    """Return the name of a data set as its makers write it, "CIFAR-100", or as it is if it is not known."""
    return _DATASETS.get(name, name)


def source(data: schema.Data) -> str:
    """Return the data set, and the path if one is named."""
    return f"{_DATASETS[data.dataset]} in {visible_in_a_row(data.path)}" if data.path else _DATASETS[data.dataset]


def replaced_data(data: schema.Data, own: schema.Data) -> str:
    """Return which data took the place of a preset's own, if it names any; empty if it is the same."""
    if (data.dataset, data.path) == (own.dataset, own.path):
        return ""
    has_none = own.dataset == "class-folders" and own.path is None
    return source(data) if has_none else f"{source(data)}, in place of {source(own)}"


def planned(preset: Preset, own: Preset | None, sweep: "Sweep | None") -> list[tuple[str, str]]:
    """Return what is done with a preset, in rows of a label and a text.

    Network, data and augmentation are among them if they are not those of the preset's file.

    Args:
        preset: as it would be started.
        own: as in its file; None if that cannot be read.
        sweep: rates of its range test, if that is what is started; else None.
    """
    if sweep is not None:
        from presets.range_test import tested_optimizer

        tested = tested_optimizer(preset)
        first, last = sweep.rates(tested)
        rows = [
            ("test", f"{sweep.steps:,} batches while the learning rate rises from {first:g} to {last:g}"),
            ("optimizer", optimizer(tested)),
        ]
    else:
        rows = [
            ("training", training(preset)),
            ("optimizer", optimizer(preset.optimizer)),
            ("schedule", schedule(preset.schedule)),
        ]
    if own is None:
        return rows
    images, own_images = _images(preset.data), _images(own.data)
    replaced = [replaced_data(preset.data, own.data), *(images if images != own_images else [])]
    changed = [
        ("network", network(preset.model) if preset.model != own.model else ""),
        ("data", ", ".join(part for part in replaced if part)),
    ]
    if sweep is None and preset.train.augment != own.train.augment:
        rows.append(("augment", augmentation(preset.train.augment) or "none"))
    return [*(row for row in changed if row[1]), *rows]


def data(data: schema.Data) -> str:
    """Return data set, size and split as a sentence."""
    return ", ".join([source(data), *_images(data)])


def _images(data: schema.Data) -> list[str]:
    """Return what is made of the images, and which of them are drawn."""
    parts = [f"{data.image_size} px", _NORMALIZE[data.normalize]]
    if data.background != "white":
        colour = data.background if isinstance(data.background, str) else f"RGB {data.background}"
        parts.append(f"transparency over {colour}")
    if data.train_limit is not None:
        parts.append(f"first {fmt.count(data.train_limit)} training images")
    if data.sampler == "balanced":
        parts.append("drawn with every class equally often")
    return parts


def training(preset: Preset) -> str:
    """Return epochs, batch, precision and loss."""
    train, num_epochs = preset.train, total_epochs(preset)
    epochs = "1 epoch" if num_epochs == 1 else f"{fmt.count(num_epochs)} epochs"
    epochs += f" in {len(preset.stages)} stages" if preset.stages else ""
    epochs += f", at most {train.max_minutes:g} minutes" if train.max_minutes else ""
    epochs += f", patience {train.patience}" if train.patience else ""
    epochs += f", {train.feature_views} cached views of every image" if train.feature_views else ""
    loss = f", label smoothing {preset.loss.label_smoothing:g}" if preset.loss.label_smoothing else ""
    loss += _class_weights(preset.loss)
    loss += ", best by balanced accuracy" if train.best_by == "val_balanced" else ""
    precision = "" if train.precision == "auto" else f", {train.precision}"
    return f"{epochs}, batch {fmt.count(train.batch_size)}{precision}{loss}"


def _class_weights(loss: schema.Loss) -> str:
    if loss.class_weights is None:
        return ""
    if loss.class_weights == "balanced":
        return ", balanced class weights"
    weights = ", ".join(f"{visible_in_a_row(name)} {weight:g}" for name, weight in loss.class_weights.items())
    return f", class weights {weights}"


def stages(preset: Preset) -> list[tuple[str, str]]:
    """Return a row for every stage: its name and epochs, what differs from the preset, what it does to images."""
    rows = []
    for number, (stage, planned) in enumerate(zip(preset.stages, plan(preset), strict=False), start=1):
        parts = [f"{stage.name}, {planned.epochs} epochs"]
        parts += ["last layer only" if planned.frozen else "all layers"] if stage.frozen is not None else []
        parts += [f"lr {fmt.lr(planned.optimizer.lr)}"] if planned.optimizer != preset.optimizer else []
        parts += [schedule(planned.schedule)] if planned.schedule != preset.schedule else []
        parts += ["from the best weights"] if planned.from_best else []
        rows.append((f"stage {number}", ", ".join(parts)))
    return rows


def augmentation(steps: Sequence[schema.Augmentation]) -> str:
    """Return the transforms in their order."""
    return ", ".join(_augmentation(step) for step in steps)


def _augmentation(step: schema.Augmentation) -> str:
    match step:
        case schema.Resize():
            return f"resize {step.size or f'×{step.scale:g}'}"
        case schema.CenterCrop():
            return f"center crop{_sized(step.size)}"
        case schema.RandomCrop():
            return f"random crop{_sized(step.size)}{f' pad {step.padding}' if step.padding else ''}"
        case schema.RandomResizedCrop():
            return f"random resized crop{_sized(step.size)}"
        case schema.HorizontalFlip():
            return f"horizontal flip{_with_p(step.p, usual=0.5)}"
        case schema.VerticalFlip():
            return f"vertical flip{_with_p(step.p, usual=0.5)}"
        case schema.Rotation():
            return f"rotation ±{step.degrees:g}°"
        case schema.ColorJitter():
            return f"colour jitter (brightness {step.brightness:g}, contrast {step.contrast:g})"
        case schema.Gamma():
            return f"gamma {step.low:g} to {step.high:g}"
        case schema.Grayscale():
            return f"grayscale{_with_p(step.p, usual=1.0)}"
        case schema.Cutout():
            return f"cutout {step.size}{_with_p(step.p, usual=1.0)}"
        case schema.TrivialAugment():
            return "TrivialAugment"


def _sized(size: int | None) -> str:
    return f" {size}" if size else ""


def _with_p(p: float, usual: float) -> str:
    return "" if p == usual else f" p {p:g}"


def optimizer(optimizer: schema.Optimizer) -> str:
    """Return the optimizer with its numbers."""
    decay = f", weight decay {optimizer.weight_decay:g}" if optimizer.weight_decay else ""
    if isinstance(optimizer, schema.Muon):
        return f"Muon, lr {fmt.lr(optimizer.lr)}{decay}; beside filters SGD, lr {fmt.lr(optimizer.other_lr)}"
    if decay and optimizer.weight_decay_on == "weights":
        decay += " on weights only"
    if isinstance(optimizer, schema.AdamW):
        return f"AdamW, lr {fmt.lr(optimizer.lr)}{decay}"
    momentum = f", momentum {optimizer.momentum:g}" if optimizer.momentum else ""
    return f"SGD, lr {fmt.lr(optimizer.lr)}{momentum}{' (Nesterov)' if optimizer.nesterov else ''}{decay}"


def schedule(schedule: schema.Schedule) -> str:
    """Return how the learning rate moves."""
    match schedule:
        case schema.Constant():
            return "constant"
        case schema.Plateau(factor=factor, patience=patience):
            return f"×{factor:g} after {fmt.plural(patience, 'epoch')} without better val"
        case schema.Step(every=every, factor=factor):
            return f"×{factor:g} every {fmt.plural(every, 'epoch')}"
        case schema.Cosine(warmup_epochs=warmup):
            unit = "epoch" if warmup == 1 else "epochs"
            return f"cosine{f' after {warmup:g} {unit} of warm-up' if warmup else ''}"
        case schema.Linear(warmup_fraction=fraction, final_lr=final):
            return f"linear, rising for {fmt.percent(fraction, 0)}, to {fmt.lr(final)}"
        case schema.RangeTest(first_lr=first, steps=steps):
            return f"range test: from lr {fmt.lr(first)} up in {fmt.batches(steps)}, no training"
        case schema.OneCycle(warmup_fraction=fraction):
            return f"one cycle, rising for {fmt.percent(fraction, 0)}"


def published(report: Report) -> Text:
    """Return the report's results, or nothing."""
    results = [
        f"{name} {fmt.percent(value)}"
        for name, value in (("train", report.train_top1), ("val", report.val_top1), ("test", report.test_top1))
        if value is not None
    ]
    if not results:
        return Text("")
    before = f" (before: {fmt.percent(report.val_top1_before)})" if report.val_top1_before is not None else ""
    return Text(", ".join(results) + before, REFERENCE)
