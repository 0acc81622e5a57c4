"""Process `python -m engine.training.preview`: training images as a run's network would be given them.

Reads a `Question` as JSON on stdin and prints a `Preview`; a sentence on stderr and exit 2 if it cannot. The images
go through the code of a training step, with the same seeds and in the same batches; no network is built.
"""

import io
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace as with_fields
from typing import Any, NamedTuple

import msgspec
import torch
from msgspec.structs import replace
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor, nn

from engine.data.augment import plain_transform, train_transform, undo_normalize
from engine.data.geometry import resize
from engine.data.load import load
from engine.data.sets import DataSet, ImageSplit, record_of
from engine.runs.predictions import MAX_SIDE
from engine.runs.preview import Preview, Question, Row, Tile
from engine.runs.run_dir import RunInfo
from engine.training.device import choose_device, use_device
from engine.training.input_pipeline import (
    InputPipeline,
    SplitInputs,
    draw_views,
    epoch_order,
    num_views,
    of_epoch,
    one_view,
)
from engine.training.parallel import Parallel
from engine.training.progress import num_batches
from engine.training.seeds import reseed, seed_at
from engine.training.setup import Setup
from engine.training.step import network_input
from presets.errors import CifartuiError
from presets.plan import plan, total_epochs
from presets.schema import Data, Preset


class _NoNetwork(nn.Module):
    """Stands for the network, which no image goes through."""


def look_ahead(preset: Preset, data: DataSet, device: torch.device, seed: int) -> "LookAhead":
    """Return the images that a run with one device trains on; `data` is as it was loaded, on the CPU."""
    preset = replace(preset, train=replace(preset.train, compile="off"))
    info = RunInfo(id="", preset_name="", preset=preset, seed=seed, device=str(device), created=0.0, host="")
    train = ImageSplit(data.train.images, data.train.labels.to(device))
    setup = Setup(
        info=info, device=device, precision="fp32", network=_NoNetwork(), criterion=nn.Identity(), autocast=nullcontext,
        data=with_fields(data, train=train), plain_transform=plain_transform(preset.data),
        data_record=record_of(data),
    )  # fmt: skip
    return LookAhead(setup)


class LookAhead:
    """The batches of a run, made without its network."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._preset, self._train = setup.info.preset, setup.data.train
        self._batch_size = self._preset.train.batch_size
        self._plan = plan(self._preset)
        self._pipeline = InputPipeline(setup, setup.network, lambda _alert: None)
        self._orders: dict[int, Tensor] = {}
        self._batches: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}

    def order(self, epoch: int) -> Tensor:
        """Return the rows of the training images in the order of an epoch (from 1): int64 [N] on the CPU."""
        if epoch not in self._orders:
            self._orders[epoch] = epoch_order(self._setup, epoch)
        return self._orders[epoch]

    def plain(self, row: int) -> Tensor:
        """Return a training image through the validation transform: float [3, S, S]."""
        images: Tensor = self._setup.plain_transform(self._train.images[row : row + 1].to(self._setup.device))
        return images[0]

    def image(self, row: int, epoch: int) -> tuple[Tensor, Tensor] | None:
        """Return an image as it is trained on in an epoch, float [3, S, S], and its target: int64 [] or float [C].

        The first time in the epoch; None if it is not trained on in it.
        """
        places = (self.order(epoch) == row).nonzero().flatten()
        if not len(places):
            return None
        step, place = divmod(int(places[0]), self._batch_size)
        if step >= num_batches(len(self._train), self._batch_size):
            return None
        number, stage_epoch = self._stage_of(epoch)
        views = num_views(self._preset, self._plan[number])
        if views is not None:
            return self._view(row, number, views, self._seed(epoch, step), (step, place)), self._train.labels[row]
        images, targets = self.batch(epoch, step, number, stage_epoch)
        return images[place], targets[place]

    def batch(self, epoch: int, step: int, stage: int, stage_epoch: int) -> tuple[Tensor, Tensor]:
        """Return images and targets of a step, from 0 in its epoch; `stage` and `stage_epoch` count from 0 too."""
        if (epoch, step) not in self._batches:
            inputs = self._pipeline.train(self._plan[stage], stage, lambda _event: None)
            inputs = of_epoch(inputs, self._preset, self._plan[stage], epoch, stage_epoch)
            self._batches[epoch, step] = self._input(inputs, epoch, step)
        return self._batches[epoch, step]

    def _input(self, inputs: SplitInputs, epoch: int, step: int) -> tuple[Tensor, Tensor]:
        rows = self.order(epoch)[step * self._batch_size : (step + 1) * self._batch_size]
        seed = self._seed(epoch, step)
        reseed(self._setup.device, seed)
        images, _, targets = network_input(inputs, rows, seed, len(self._setup.data.class_names), Parallel())
        return images, targets

    def _view(self, row: int, stage: int, views: int, seed: int, place: tuple[int, int]) -> Tensor:
        """Return the image whose features the step at `place` (step of the epoch, row of the batch) takes."""
        setup, (step, row_of_batch) = self._setup, place
        view = 0
        if views > 1:
            num_rows = min(self._batch_size, len(self._train) - step * self._batch_size)
            reseed(setup.device, seed)
            view = int(draw_views(num_rows, views, setup.device)[row_of_batch])
        transform = train_transform(self._plan[stage].augment, self._preset.data)
        start = row // setup.eval_batch_size * setup.eval_batch_size
        return one_view(setup, self._train.images, transform, (f"train/{stage}", view), start)[row - start]

    def _seed(self, epoch: int, step: int) -> int:
        global_step = (epoch - 1) * num_batches(len(self._train), self._batch_size) + step
        return seed_at(self._setup.info.seed, "step", global_step)

    def _stage_of(self, epoch: int) -> tuple[int, int]:
        """Return the number of the stage of an epoch, and the epoch's in it, both from 0."""
        left = epoch - 1
        for number, stage in enumerate(self._plan):
            if left < stage.epochs:
                return number, left
            left -= stage.epochs
        raise ValueError(f"epoch {epoch} is not planned")


# --- the answer --------------------------------------------------------------------------------------


def answer(question: Question) -> Preview:
    """Return the preview.

    Raises:
        CifartuiError: the data or the device is not there.
    """
    preset, device = question.preset, choose_device(question.device)
    use_device(device)
    data = load(preset.data, question.data_dir, question.seed, lambda _event: None)
    ahead = look_ahead(preset, data, device, question.seed)
    epochs = range(1, min(question.num_epochs, total_epochs(preset)) + 1)
    rows, sheet = [], list[list[_Picture | None]]()
    for number in list(dict.fromkeys(ahead.order(1).tolist()))[: question.num_images]:
        label = data.class_names[int(data.train.labels[number])]
        plain = _Picture(undo_normalize(ahead.plain(number)[None], preset.data)[0].cpu(), label)
        seen = [_seen(ahead.image(number, epoch), preset.data, data.class_names) for epoch in epochs]
        sheet.append([plain, *seen])
        tiles = tuple(picture.tile() if picture is not None else None for picture in seen)
        rows.append(Row(number=number, label=label, plain=plain.tile(), epochs=tiles))
    headings = ["validation", *(f"epoch {epoch}" for epoch in epochs)]
    png = _png(headings, sheet) if question.wants_png else b""
    return Preview(device=str(device), rows=tuple(rows), notices=tuple(data.notices), png=png)


class _Picture(NamedTuple):
    """An image to be looked at, uint8 [3, S, S] on the CPU, and what stands below it."""

    pixels: Tensor
    caption: str

    def tile(self) -> Tile:
        side, pixels = self.pixels.shape[-1], self.pixels
        if side > MAX_SIDE:
            pixels = resize(pixels[None], MAX_SIDE, MAX_SIDE).round().clamp(0, 255).byte()[0]
        return Tile(pixels=_rgb(pixels), side=min(side, MAX_SIDE), caption=self.caption)

    def image(self) -> Image.Image:
        return Image.frombytes("RGB", (self.pixels.shape[2], self.pixels.shape[1]), _rgb(self.pixels))


def _rgb(pixels: Tensor) -> bytes:
    """Return uint8 [3, H, W] as rows of RGB bytes."""
    return pixels.permute(1, 2, 0).contiguous().numpy().tobytes()


def _seen(found: tuple[Tensor, Tensor] | None, data: Data, class_names: Sequence[str]) -> _Picture | None:
    if found is None:
        return None
    image, target = found
    return _Picture(undo_normalize(image[None], data)[0].cpu(), caption(target, class_names))


def caption(target: Tensor, class_names: Sequence[str]) -> str:
    """Return a target (int64 [] or float [C]) as "cat", or as "cat 70 %, dog 30 %" if it is mixed."""
    if not target.dim():
        return class_names[int(target)]
    shares, classes = target.topk(min(2, len(target)))
    named = [(class_names[int(number)], float(share)) for share, number in zip(shares, classes, strict=True)]
    parts = [f"{name} {100 * share:.0f} %" for name, share in named if share >= _LEAST_SHARE]
    return ", ".join(parts) if len(parts) > 1 else named[0][0]


_LEAST_SHARE = 0.005
"""Less of a class is not named: it would be 0 %."""
_GAP, _LINE, _LEAST_SIDE = 8, 16, 96


def _png(headings: Sequence[str], sheet: Sequence[Sequence[_Picture | None]]) -> bytes:
    """Return a PNG file: a column for the validation transform and one for each epoch, a row for each image.

    Small images are enlarged by a whole number, without smoothing.
    """
    side = max((picture.pixels.shape[-1] for row in sheet for picture in row if picture is not None), default=1)
    side *= max(1, _LEAST_SIDE // side)
    width, height = side + _GAP, side + _LINE + _GAP
    page = Image.new("RGB", (_GAP + width * len(headings), _GAP + _LINE + height * len(sheet)), "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default()
    for column, heading in enumerate(headings):
        draw.text((_GAP + column * width, _GAP), _fitting(draw, heading, side, font), fill="black", font=font)
    for line, row in enumerate(sheet):
        for column, picture in enumerate(row):
            if picture is None:
                continue
            left, top = _GAP + column * width, _GAP + _LINE + line * height
            page.paste(picture.image().resize((side, side), Image.Resampling.NEAREST), (left, top))
            text = _fitting(draw, picture.caption, side, font)
            draw.text((left, top + side + 2), text, fill="black", font=font)
    file = io.BytesIO()
    page.save(file, "PNG")
    return file.getvalue()


def _fitting(draw: ImageDraw.ImageDraw, text: str, width: int, font: Any) -> str:
    """Return as much of `text` as fits into `width` pixels, in the letters that Pillow's own font has."""
    text = text.encode("latin-1", "replace").decode("latin-1")
    if draw.textlength(text, font) <= width:
        return text
    while text and draw.textlength(f"{text}...", font) > width:
        text = text[:-1]
    return f"{text}..."


def main() -> int:
    """Answer the question on stdin; return the exit code."""
    try:
        found = answer(msgspec.json.decode(sys.stdin.buffer.read(), type=Question))
    except CifartuiError as error:
        print(error, file=sys.stderr)
        return 2
    sys.stdout.buffer.write(msgspec.json.encode(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
