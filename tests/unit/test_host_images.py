"""Images that do not fit the GPU: kept with the host and sent batch by batch. On fake CUDA tensors."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from engine.data.sets import ImageSplit
from engine.training import setup
from engine.training.inputs import Inputs

NUM_BYTES = 10 * 3 * 32 * 32


@pytest.mark.parametrize(("free_bytes", "place"), [(NUM_BYTES, "cpu"), (10 * NUM_BYTES, "cuda")])
def test_where_images_are_kept_and_where_batches_arrive(
    monkeypatch: pytest.MonkeyPatch, free_bytes: int, place: str
) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _device: (free_bytes, free_bytes))
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda images: images)  # fake tensors cannot be pinned
    with FakeTensorMode():
        images, labels = torch.zeros(10, 3, 32, 32, dtype=torch.uint8), torch.zeros(10, dtype=torch.int64)
        split = setup._to(ImageSplit(images, labels), torch.device("cuda"))
        assert (split.images.device.type, split.labels.device.type) == (place, "cuda")
        inputs = Inputs(torch.nn.Flatten(), split, lambda batch: batch)
        batch, chosen = inputs.take(torch.arange(4, device=split.images.device))
        assert (batch.device.type, chosen.device.type) == ("cuda", "cuda")
        assert (batch.shape, chosen.shape) == ((4, 3, 32, 32), (4,))
