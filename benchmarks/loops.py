"""The loops that people write by hand, to hold the engine against: bare, the report's, Lightning's.

python -m benchmarks.loops KIND NETWORK [--seconds 6] [--warm-up 2] [--precision fp32|bf16] [--workers N]

Prints images/s of training CIFAR-100, after the warm-up. `bare` is tuned: resident data, channels_last, fused SGD,
nothing read back; where there is augmentation it is the engine's own. `report` is the course's way: a data set of PIL
images, torchvision's transforms, a DataLoader, `loss.item()` and the accuracy read back in every step; `lightning`
trains on that DataLoader with Lightning's Trainer.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from engine.data.augment import train_transform
from engine.data.load import load
from engine.models.build import build
from presets import catalog
from presets.plan import plan
from presets.schema import Preset

NETWORKS: dict[str, tuple[str, tuple[str, ...]]] = {
    "basenet": ("basenet", ()),
    "vgg-custom": ("vgg-custom", ("data.image_size=32",)),
}
"""Preset and overrides of every network that is measured."""


class Clock:
    """Images a second after a warm-up; `count` returns False when there is enough."""

    def __init__(self, warm_up_s: float, seconds: float) -> None:
        self._began = time.perf_counter()
        self._warm_up_s, self._seconds = warm_up_s, seconds
        self._counts_from: float | None = None
        self._num_images = 0
        self.images_per_s = 0.0

    def count(self, num_images: int) -> bool:
        now = time.perf_counter()
        if self._counts_from is None:
            if now - self._began >= self._warm_up_s:
                self._counts_from = now
            return True
        self._num_images += num_images
        self.images_per_s = self._num_images / (now - self._counts_from)
        return now - self._counts_from < self._seconds


class Task(NamedTuple):
    """Input of every loop: the preset, its network, images uint8 [N, 3, 32, 32] and labels int64 [N]."""

    preset: Preset
    network: nn.Module
    images: Tensor
    labels: Tensor

    def criterion(self) -> nn.Module:
        return nn.CrossEntropyLoss(label_smoothing=self.preset.loss.label_smoothing)

    def optimizer(self, *, fused: bool) -> torch.optim.Optimizer:
        table: Any = self.preset.optimizer
        return torch.optim.SGD(self.network.parameters(), lr=table.lr, momentum=table.momentum, fused=fused)


def make_task(network: str) -> Task:
    name, overrides = NETWORKS[network]
    preset = catalog.load(name, overrides)
    data = load(preset.data, None, 0, lambda _event: None)
    torch.manual_seed(0)
    return Task(preset, build(preset.model, 100, preset.data.image_size), data.train.images, data.train.labels)


def bare(task: Task, clock: Clock, precision: str) -> None:
    batch_size = task.preset.train.batch_size
    network = task.network.to(memory_format=torch.channels_last).train()
    augment = plan(task.preset)[0].augment
    transform = train_transform(augment, task.preset.data) if augment else _scaled
    criterion, optimizer = task.criterion(), task.optimizer(fused=True)
    while True:
        order = torch.randperm(len(task.labels))
        for start in range(0, len(order) - batch_size + 1, batch_size):
            rows = order[start : start + batch_size]
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16"):
                logits = network(transform(task.images[rows]))
                loss = criterion(logits, task.labels[rows])
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            if not clock.count(batch_size):
                return


def _scaled(images: Tensor) -> Tensor:
    return images.to(torch.float32, memory_format=torch.channels_last).mul_(1 / 255)


class Photographs(Dataset[tuple[Tensor, int]]):
    """CIFAR-100 as torchvision has it: an array of images, each made a PIL image and transformed when asked for."""

    def __init__(self, task: Task, transform: Callable[[Image.Image], Tensor]) -> None:
        self._pixels = task.images.permute(0, 2, 3, 1).contiguous().numpy()
        self._labels = task.labels.tolist()
        self._transform = transform

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        return self._transform(Image.fromarray(self._pixels[row])), self._labels[row]


def loader(task: Task, network: str, num_workers: int) -> DataLoader[tuple[Tensor, int]]:
    steps: list[Any] = [transforms.ToTensor()]
    if network == "vgg-custom":
        size = task.preset.data.image_size
        steps = [
            transforms.Resize(round(1.25 * size)), transforms.RandomCrop(size), transforms.RandomHorizontalFlip(),
            *steps, transforms.Normalize((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
        ]  # fmt: skip
    photographs = Photographs(task, transforms.Compose(steps))
    return DataLoader(photographs, task.preset.train.batch_size, shuffle=True, num_workers=num_workers)


def report(task: Task, clock: Clock, batches: DataLoader[tuple[Tensor, int]]) -> None:
    criterion, optimizer = task.criterion(), task.optimizer(fused=False)
    task.network.train()
    total_loss, hits = 0.0, 0
    for images, labels in _for_ever(batches):
        optimizer.zero_grad()
        logits = task.network(images)
        loss = criterion(logits, labels)
        loss.backward()
        optimizer.step()
        total_loss += loss.item()
        hits += (logits.argmax(1) == labels).sum().item()
        if not clock.count(len(labels)):
            return


def _for_ever(batches: DataLoader[tuple[Tensor, int]]) -> Iterator[tuple[Tensor, Tensor]]:
    while True:
        yield from batches  # type: ignore[misc]


def lightning(task: Task, clock: Clock, batches: DataLoader[tuple[Tensor, int]]) -> None:
    import lightning as pl

    class Module(pl.LightningModule):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.network, self.criterion = task.network, task.criterion()

        def training_step(self, batch: tuple[Tensor, Tensor], _number: int) -> Tensor:
            images, labels = batch
            logits = self.network(images)
            loss: Tensor = self.criterion(logits, labels)
            self.log("loss", loss)
            self.log("top1", (logits.argmax(1) == labels).float().mean())
            return loss

        def on_train_batch_end(self, _outputs: object, batch: tuple[Tensor, Tensor], _number: int) -> None:
            if not clock.count(len(batch[1])):
                self.trainer.should_stop = True

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return task.optimizer(fused=False)

    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=-1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=Path("/nowhere"),
    )  # fmt: skip
    trainer.fit(Module(), batches)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=["bare", "report", "lightning"])
    parser.add_argument("network", choices=list(NETWORKS))
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--warm-up", type=float, default=2.0)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32", help="of the bare loop")
    parser.add_argument("--workers", type=int, default=0, help="processes of the DataLoader")
    asked = parser.parse_args()
    task, clock = make_task(asked.network), Clock(asked.warm_up, asked.seconds)
    if asked.kind == "bare":
        bare(task, clock, asked.precision)
    else:
        batches = loader(task, asked.network, asked.workers)
        (report if asked.kind == "report" else lightning)(task, clock, batches)
    print(f"{clock.images_per_s:.1f}")


if __name__ == "__main__":
    main()
