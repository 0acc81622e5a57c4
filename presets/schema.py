"""Schema of a preset's TOML file: tables and keys with types, ranges and defaults. No files, no training.

`presets.catalog` reads and inherits files.
Fractions (accuracy, momentum, dropout) are in [0, 1]; sizes are pixels; schedules count epochs.
"""

from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias, get_args

from msgspec import Meta, Struct

Pixels: TypeAlias = Annotated[int, Meta(ge=1, le=4096)]
Count: TypeAlias = Annotated[int, Meta(ge=1, le=1_000_000_000)]
Fraction: TypeAlias = Annotated[float, Meta(ge=0.0, le=1.0)]
Decay: TypeAlias = Annotated[float, Meta(ge=0.0, lt=1.0)]
Positive: TypeAlias = Annotated[float, Meta(gt=0.0)]
NonNegative: TypeAlias = Annotated[float, Meta(ge=0.0)]
Share: TypeAlias = Annotated[float, Meta(gt=0.0, le=1.0)]
Ratio: TypeAlias = Annotated[float, Meta(ge=0.01, le=100.0)]
Exponent: TypeAlias = Annotated[float, Meta(ge=0.01, le=100.0)]
Level: TypeAlias = Annotated[int, Meta(ge=0, le=255)]
RANGE_TEST_STEPS = 2000
Epochs: TypeAlias = Annotated[int, Meta(ge=1, le=100_000)]


class _Table(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A TOML table: keyword only, immutable, and strict about keys it does not know."""


# --- augmentation: a list of tables, applied in the order they are written -------------------------


class Resize(_Table, frozen=True, kw_only=True, tag="resize", tag_field="op"):
    """Antialiased bilinear resize of the shorter side.

    `size` is in pixels; without it the result is `data.image_size` times `scale`.
    """

    size: Pixels | None = None
    scale: Annotated[float, Meta(gt=0.0, le=16.0)] = 1.0


class CenterCrop(_Table, frozen=True, kw_only=True, tag="center-crop", tag_field="op"):
    """The middle square; `size` defaults to `data.image_size`."""

    size: Pixels | None = None


class RandomCrop(_Table, frozen=True, kw_only=True, tag="random-crop", tag_field="op"):
    """A square at a random place, another for every image; `size` defaults to `data.image_size`."""

    size: Pixels | None = None
    padding: Annotated[int, Meta(ge=0, le=1024)] = 0
    fill: Literal["zeros", "reflect"] = "zeros"


class HorizontalFlip(_Table, frozen=True, kw_only=True, tag="horizontal-flip", tag_field="op"):
    """Mirror left and right with probability `p`, drawn for every image."""

    p: Fraction = 0.5


class VerticalFlip(_Table, frozen=True, kw_only=True, tag="vertical-flip", tag_field="op"):
    """Mirror top and bottom with probability `p`, drawn for every image."""

    p: Fraction = 0.5


class RandomResizedCrop(_Table, frozen=True, kw_only=True, tag="random-resized-crop", tag_field="op"):
    """A box of random area and shape at a random place, resized to a square.

    `size` defaults to `data.image_size`; `scale` is the box's share of the image's area, `ratio` its width
    over its height.
    """

    size: Pixels | None = None
    scale: tuple[Share, Share] = (0.08, 1.0)
    ratio: tuple[Ratio, Ratio] = (3 / 4, 4 / 3)


class Rotation(_Table, frozen=True, kw_only=True, tag="rotation", tag_field="op"):
    """Turn about the middle by an angle drawn from ±`degrees`; the corners are black."""

    degrees: Annotated[float, Meta(gt=0.0, le=180.0)]
    interpolation: Literal["nearest", "bilinear"] = "nearest"


class ColorJitter(_Table, frozen=True, kw_only=True, tag="color-jitter", tag_field="op"):
    """Brightness, then contrast, each times a factor drawn from 1 ± the value given."""

    brightness: Fraction = 0.0
    contrast: Fraction = 0.0


class Gamma(_Table, frozen=True, kw_only=True, tag="gamma", tag_field="op"):
    """Intensities in [0, 1] to the power of an exponent drawn between `low` and `high`."""

    low: Exponent = 0.8
    high: Exponent = 1.25


class Grayscale(_Table, frozen=True, kw_only=True, tag="grayscale", tag_field="op"):
    """Replace colours by their luma, in three equal planes, with probability `p`."""

    p: Fraction = 1.0


class Cutout(_Table, frozen=True, kw_only=True, tag="cutout", tag_field="op"):
    """A square of `size` pixels at a random place, which may hang over the edge, becomes the mean colour.

    The mean is that of `data.normalize`, so that the network sees zeros (DeVries and Taylor 2017).
    """

    size: Pixels
    p: Fraction = 1.0


class TrivialAugment(_Table, frozen=True, kw_only=True, tag="trivial-augment", tag_field="op"):
    """One of fourteen changes of place or colour for every image, at a random strength (Müller and Hutter 2021)."""


Augmentation: TypeAlias = (
    Resize
    | CenterCrop
    | RandomCrop
    | RandomResizedCrop
    | HorizontalFlip
    | VerticalFlip
    | Rotation
    | ColorJitter
    | Gamma
    | Grayscale
    | Cutout
    | TrivialAugment
)


# --- data ------------------------------------------------------------------------------------------


DatasetName: TypeAlias = Literal[
    "shapes100", "cifar100", "cifar10", "mnist", "fashion-mnist", "flowers102", "oxford-pets", "cub200", "class-folders"
]
DATASETS: tuple[DatasetName, ...] = get_args(DatasetName)


class Data(_Table, frozen=True, kw_only=True):
    """Data set, image size, split and normalisation."""

    dataset: DatasetName
    image_size: Pixels = 32
    normalize: Literal["none", "unit", "half", "cifar100", "cifar10", "mnist", "fashion-mnist", "imagenet", "clip"] = (
        "none"
    )
    path: str | None = None
    """Folder or archive of this data set; without it the data folders are searched."""
    labels: str | None = None
    """Table (CSV, TSV) of image files and labels, relative to `path`; without it, folders are the classes."""
    validation: Literal["every-tenth"] | Annotated[float, Meta(gt=0.0, lt=1.0)] = "every-tenth"
    """A tenth of the training images, or a random fraction of them; a validation part of the data goes first."""
    evaluate: tuple[Resize | CenterCrop, ...] = ()
    """Operations on validation and test images, before the resize to `image_size` that ends every transform."""
    cache_size: Pixels | None = None
    """Side in pixels at which image files are kept once decoded; without it `image_size`. No effect elsewhere."""
    background: Literal["white", "black", "gray"] | tuple[Level, Level, Level] = "white"
    """Colour that image files are laid over where they are transparent, by name or as red, green and blue."""
    train_limit: Count | None = None
    """Use only the first so many training images."""
    sampler: Literal["shuffle", "balanced"] = "shuffle"
    """Every training image once an epoch; or as many drawn with replacement, every class equally often."""


# --- networks --------------------------------------------------------------------------------------


class BaseNet(_Table, frozen=True, kw_only=True, tag="basenet", tag_field="network"):
    """The report's baseline: two 5×5 convolutions and two linear layers. Needs 32×32 input."""


class Vgg(_Table, frozen=True, kw_only=True, tag="vgg", tag_field="network"):
    """3×3 convolutions in blocks, each block followed by a pool, then linear layers with ReLU."""

    blocks: Annotated[tuple[Annotated[tuple[Count, ...], Meta(min_length=1)], ...], Meta(min_length=1)]
    """Output channels of every convolution, block by block."""
    pools: tuple[Literal["max", "none", "avg"], ...]
    """One a block: 2×2 maximum, nothing, or adaptive average to 1×1 (last block only)."""
    shortcuts: Literal["none", "add", "concat"] = "none"
    """A 1×1 convolution around every block, of its pool's stride, added to what the block gives or laid beside it."""
    conv_bias: bool = True
    """Biases of the 3×3 convolutions; the BatchNorm behind each takes them away again."""
    head: tuple[Count, ...] = ()
    """Widths of the hidden linear layers between the pooled features and the class scores."""
    head_batch_norm: bool = False
    """BatchNorm1d after every hidden linear layer, before its ReLU."""
    dropout: Decay = 0.0
    """Share of the values dropped after every hidden linear layer."""
    init: Literal["default", "he"] = "default"
    """Weights of convolutions and linear layers as torch draws them, or normal after He et al. 2015 (fan out)."""


class FreezableModel(_Table, frozen=True, kw_only=True):
    """A network with published weights whose last layer can be trained alone; its module has `fc` and `freeze`."""

    if TYPE_CHECKING:  # each network declares them in its own order, which keys of presets/facts.json depend on
        weights: str | None = None
        frozen: bool = False


class _Resnet(FreezableModel, frozen=True, kw_only=True):
    """Keys that the two ResNets have in common."""

    stem: Literal["imagenet", "small"] = "imagenet"
    """7×7 convolution of stride 2 and a maximum pool, as published; or a 3×3 of stride 1, for small images."""
    weights: str | None = None
    """A torchvision name such as IMAGENET1K_V2, or a path to a state-dict file; without it, random."""
    frozen: bool = False
    """Train the last layer only; the backbone stays in eval mode and gets no gradients."""


class Resnet18(_Resnet, frozen=True, kw_only=True, tag="resnet18", tag_field="network"):
    """torchvision's ResNet-18 with its last layer replaced by one for this data set's classes."""


class Resnet50(_Resnet, frozen=True, kw_only=True, tag="resnet50", tag_field="network"):
    """torchvision's ResNet-50 with its last layer replaced by one for this data set's classes."""


class Backbone(FreezableModel, frozen=True, kw_only=True, tag="backbone", tag_field="network"):
    """A classifier of torchvision or timm by its name, with its last layer replaced by one for the data's classes.

    Where the preset does not state `data.image_size` and `data.normalize`, they are those of the library's own
    configuration (`presets.backbones`).
    """

    name: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.]{1,100}\Z")]
    """As the library has it: convnext_tiny, or of timm also with a tag, as in vit_tiny_patch16_224.augreg_in21k."""
    source: Literal["torchvision", "timm"] = "torchvision"
    """The library; timm is installed by: pip install 'cifartui[timm]'"""
    weights: str | None = None
    """"default" for those that the library publishes, a name of torchvision's, or a file; without it, random."""
    frozen: bool = False
    """Train the last layer only; the backbone stays in eval mode and gets no gradients."""
    dropout: Decay = 0.0
    """Share of the features dropped before the last layer, besides what the network drops by itself."""


class Googlenet(_Table, frozen=True, kw_only=True, tag="googlenet", tag_field="network"):
    """GoogLeNet for small images: nine inception modules with BatchNorm behind a 3×3 stem."""


class Resnet9(_Table, frozen=True, kw_only=True, tag="resnet9", tag_field="network"):
    """Eight convolutions with two shortcuts, in the manner of the CIFAR speed records. Any image size from 8 px."""

    width: Annotated[int, Meta(ge=1, le=4096)] = 64
    """Channels of the first convolution; the last ones have eight times as many."""


class ResnetV2(_Table, frozen=True, kw_only=True, tag="resnetv2-50x1", tag_field="network"):
    """Pre-activation ResNet-50 with weight-standardised convolutions and GroupNorm, as in Big Transfer."""

    stem: Literal["imagenet", "small"] = "imagenet"
    """7×7 convolution of stride 2 and a maximum pool; or a 3×3 of stride 1, for small images."""


Model: TypeAlias = BaseNet | Vgg | Resnet9 | Resnet18 | Resnet50 | Backbone | Googlenet | ResnetV2
FREEZABLE: tuple[str, ...] = tuple(
    kind.__struct_config__.tag for kind in get_args(Model) if issubclass(kind, FreezableModel)
)
"""Values of `model.network`."""


# --- training --------------------------------------------------------------------------------------

BestBy: TypeAlias = Literal["val_top1", "val_balanced"]
"""Top-1 accuracy of the validation images, or balanced: the mean of its classes' recalls."""


class Train(_Table, frozen=True, kw_only=True):
    """Epochs, batch size, precision, augmentation and options of the training loop."""

    epochs: Epochs | None = None
    """Left out if there are [[stages]], which have their own."""
    epochs_scale: Annotated[float, Meta(gt=0.0, le=1000.0)] = 1.0
    """Every stage's epochs times this, rounded, at least one: the whole plan, shorter or longer."""
    batch_size: Annotated[int, Meta(ge=1, le=65_536)]
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    tf32: bool = True
    """On NVIDIA GPUs: let matrix products and convolutions in fp32 round their inputs to 10 bits of mantissa."""
    compile: Literal["off", "default", "reduce-overhead", "max-autotune"] = "off"
    """Train with the network as torch.compile makes it, in this mode."""
    cuda_graphs: bool | Literal["auto"] = "auto"
    """On CUDA: record a whole training step once and replay it; auto: where the host may be slower than the GPU."""
    augment: tuple[Augmentation, ...] = ()
    alternating_flip: bool = False
    """Mirror every training image in every other epoch, half of them in even ones, instead of by chance."""
    image_sizes: tuple[tuple[Share, Pixels], ...] = ()
    """Smaller images at first: [until, size], up to that share of a stage's epochs; then `data.image_size`."""
    clip_norm: NonNegative = 0.0
    """Scale a step's gradient down to this norm, taken over all trained weights, where it is larger. 0: never."""
    ema_decay: Decay = 0.0
    """Evaluate, and keep as the best, a moving average of the weights that forgets 1 - ema_decay a step. 0: none."""
    flip_average: bool = False
    """Evaluate every image as it is and mirrored, and average the logits."""
    max_minutes: Annotated[float, Meta(gt=0.0)] | None = None
    """End training after so long, validations included; a schedule that moves every batch is done by then."""
    patience: Annotated[int, Meta(ge=1, le=100_000)] | None = None
    """End a stage after so many epochs in which its best validation accuracy did not rise."""
    best_by: BestBy = "val_top1"
    """Accuracy that decides which weights are best, and that patience and plateau go by."""
    sync_batch_norm: bool = False
    """With several GPUs: BatchNorm uses the whole batch; otherwise each GPU uses its part of it."""
    feature_views: Annotated[int, Meta(ge=1, le=1000)] | None = None
    """With a frozen backbone: augment every training image this many times, once, and reuse its features."""


DecayOn: TypeAlias = Literal["all", "weights"]
"""Scope of weight decay: everything trained, or all but biases and norms."""


class Sgd(_Table, frozen=True, kw_only=True, tag="sgd", tag_field="name"):
    """Stochastic gradient descent (torch.optim.SGD)."""

    lr: Positive
    momentum: Fraction = 0.0
    nesterov: bool = False
    weight_decay: NonNegative = 0.0
    weight_decay_on: DecayOn = "all"


class AdamW(_Table, frozen=True, kw_only=True, tag="adamw", tag_field="name"):
    """Adam with decoupled weight decay (torch.optim.AdamW)."""

    lr: Positive = 1e-3
    betas: tuple[Decay, Decay] = (0.9, 0.999)
    weight_decay: NonNegative = 0.01
    weight_decay_on: DecayOn = "all"


class Muon(_Table, frozen=True, kw_only=True, tag="muon", tag_field="name"):
    """Orthogonal steps for the filters of convolutions, Nesterov SGD for all other weights (Jordan et al. 2024)."""

    lr: Positive = 0.02
    """Of filters."""
    momentum: Fraction = 0.95
    weight_decay: NonNegative = 0.0
    """Of filters: each step shrinks them by lr times this."""
    other_lr: Positive = 0.1
    """Of linear layers, biases and norms; the schedule moves it alike."""
    other_momentum: Fraction = 0.9
    other_weight_decay: NonNegative = 0.0
    """Of linear layers: added to their gradients. Biases and norms have none."""


Optimizer: TypeAlias = Sgd | AdamW | Muon


class Constant(_Table, frozen=True, kw_only=True, tag="constant", tag_field="name"):
    """The optimizer's learning rate, unchanged."""


class Plateau(_Table, frozen=True, kw_only=True, tag="plateau", tag_field="name"):
    """Multiply by `factor` after `patience` epochs without better validation accuracy."""

    factor: Annotated[float, Meta(gt=0.0, lt=1.0)] = 0.1
    patience: Annotated[int, Meta(ge=0, le=100_000)] = 3


class Step(_Table, frozen=True, kw_only=True, tag="step", tag_field="name"):
    """Multiply by `factor` every `every` epochs."""

    every: Count
    factor: Annotated[float, Meta(gt=0.0, le=1.0)] = 0.1


class Cosine(_Table, frozen=True, kw_only=True, tag="cosine", tag_field="name"):
    """Half a cosine from the optimizer's rate to `final_lr`, after a linear warm-up; moves every batch."""

    warmup_epochs: NonNegative = 0.0
    final_lr: NonNegative = 0.0


class OneCycle(_Table, frozen=True, kw_only=True, tag="one-cycle", tag_field="name"):
    """Up to the optimizer's rate in the first `warmup_fraction` of all steps, then down to nearly 0."""

    warmup_fraction: Annotated[float, Meta(gt=0.0, lt=1.0)] = 0.3


class Linear(_Table, frozen=True, kw_only=True, tag="linear", tag_field="name"):
    """Straight up to the optimizer's rate in the first `warmup_fraction` of all steps, then straight to `final_lr`."""

    warmup_fraction: Annotated[float, Meta(ge=0.0, lt=1.0)] = 0.1
    final_lr: NonNegative = 0.0


class RangeTest(_Table, frozen=True, kw_only=True, tag="range-test", tag_field="name"):
    """No training, but a learning-rate range test: up from `first_lr` to the optimizer's rate (Smith 2017).

    The rate grows by the same factor every batch; nothing is validated or saved.
    """

    first_lr: Positive
    steps: Annotated[int, Meta(ge=20, le=100_000)] = RANGE_TEST_STEPS
    """Batches in all, through as many epochs as that takes."""


Schedule: TypeAlias = Constant | Plateau | Step | Cosine | Linear | OneCycle | RangeTest


class Stage(_Table, frozen=True, kw_only=True):
    """A part of the training plan. It begins with a fresh optimizer and schedule: the preset's, or its own."""

    name: Annotated[str, Meta(min_length=1, max_length=40)]
    epochs: Epochs
    augment: tuple[Augmentation, ...] = ()
    frozen: bool | None = None
    """Train the last layer only, or all of the network, in this stage; without it as `model.frozen` says."""
    start_from: Literal["best", "last"] = "last"
    """The weights to begin with: the best of the stage before (by validation accuracy), or its last ones."""
    lr: Positive | None = None
    """The optimizer's learning rate, if only that changes."""
    optimizer: Optimizer | None = None
    schedule: Schedule | None = None


class Loss(_Table, frozen=True, kw_only=True):
    """Cross-entropy, optionally with smoothed labels and weighted classes."""

    label_smoothing: Annotated[float, Meta(ge=0.0, lt=1.0)] = 0.0
    class_weights: Literal["balanced"] | dict[str, Positive] | None = None
    """Weight of each class by its name, 1 for those left out; balanced: inverse to its number of training images."""


class Mix(_Table, frozen=True, kw_only=True):
    """Give every training image a part of another one of its batch, and the labels to match."""

    mixup: NonNegative = 0.0
    """Blend the two; the share is drawn from Beta(mixup, mixup) for every image. 0: never."""
    cutmix: NonNegative = 0.0
    """Paste a box of the other; what stays outside it is drawn from Beta(cutmix, cutmix). 0: never."""
    p: Fraction = 1.0
    """Share of the images that are mixed."""
    off_epochs: Annotated[int, Meta(ge=0, le=100_000)] = 0
    """The last so many epochs of every stage see whole images."""

    @property
    def is_on(self) -> bool:
        """True if anything is mixed."""
        return self.p > 0 and (self.mixup > 0 or self.cutmix > 0)


class Report(_Table, frozen=True, kw_only=True):
    """Published results, shown beside measured ones and drawn as reference lines. Fractions."""

    val_top1: Fraction | None = None
    val_top1_before: Fraction | None = None
    train_top1: Fraction | None = None
    test_top1: Fraction | None = None
    source: Annotated[str, Meta(pattern=r"^[a-z]{1,9}\Z")] = "report"
    """Source of these results, in a word that stands beside them."""
    note: str = ""


class Preset(_Table, frozen=True, kw_only=True):
    """A whole preset file. A preset's name is its path without `.toml`."""

    title: Annotated[str, Meta(min_length=1, max_length=80)]
    summary: Annotated[str, Meta(max_length=400)] = ""
    group: Annotated[str, Meta(min_length=1, max_length=40)] = "yours"
    report: Report = Report()
    data: Data
    model: Model
    train: Train
    optimizer: Optimizer
    schedule: Schedule = Constant()
    stages: tuple[Stage, ...] = ()
    """One after another, in place of `train.epochs` and `train.augment`."""
    loss: Loss = Loss()
    mix: Mix = Mix()
