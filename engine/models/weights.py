"""Pretrained ResNet weights by torchvision's name or by path: download, safe reading, checks.

Files are opened as tensors only (`weights_only=True`), so that a file from a stranger can run no code.
Importing this file imports torchvision.
"""

from pathlib import Path
from typing import Any

import pooch  # type: ignore[import-untyped,unused-ignore]
import torch
from torch import Tensor, nn
from torchvision.models import WeightsEnum

from presets.errors import CifartuiError

_HEAD = "fc."
_KEYS_NAMED = 3
_TIMEOUT_S = 30


def load_weights(network: nn.Module, weights: str, published: type[WeightsEnum]) -> None:
    """Fill a ResNet with stored weights; a last layer for another number of classes is left as it is.

    Args:
        network: A network with torchvision's parameter names, its last layer called `fc`.
        weights: A name of torchvision's (IMAGENET1K_V1, IMAGENET1K_V2), fetched where torch.hub's folder
            does not hold its file yet, or the path of a state-dict file, or of a best.pt of cifartui.
        published: torchvision's names for this network.

    Raises:
        CifartuiError: The weights are unknown, out of reach, damaged, or of another network.
    """
    path = find_weights(weights, published)
    known = published.__name__.removesuffix("_Weights").replace("ResNet", "ResNet-")
    state = _read(path)
    expected = network.state_dict()
    if any(key.startswith(_HEAD) and not _fits(key, state, expected) for key in state):
        state = {key: value for key, value in state.items() if not key.startswith(_HEAD)}
    misshapen = [key for key in state if key in expected and not _fits(key, state, expected)]
    if misshapen:
        raise CifartuiError(_mismatch(path, known, f"has other shapes for {_list(misshapen)}"))
    outcome = network.load_state_dict(state, strict=False)
    missing = [key for key in outcome.missing_keys if not key.startswith(_HEAD)]
    if missing:
        raise CifartuiError(_mismatch(path, known, f"lacks {_list(missing)}"))
    if outcome.unexpected_keys:
        raise CifartuiError(
            _mismatch(path, known, f"holds {_list(outcome.unexpected_keys)}, which the network does not have")
        )


def find_weights(weights: str, published: type[WeightsEnum]) -> Path:
    """Return the file of a torchvision name or a path; download it if absent.

    Raises:
        CifartuiError: Neither a known name nor a file, or the download failed.
    """
    if weights in published.__members__:
        url = published[weights].url
        path = Path(torch.hub.get_dir(), "checkpoints", url.rsplit("/", 1)[-1])
        if not path.is_file():
            download(url, path)
        return path
    path = Path(weights).expanduser()
    if not path.is_file():
        names = ", ".join(known.name for known in published)
        raise CifartuiError(
            f"There are no weights called {weights}: set model.weights to one of {names}, "
            "or to the path of a state-dict file that exists."
        )
    return path


def download(url: str, path: Path) -> None:
    """Fetch a published file whose name ends in the start of its SHA-256, as in resnet50-11ad3fa6.pth.

    The file appears at `path` only when it is whole and its hash is right.

    Raises:
        CifartuiError: It could not be fetched or stored, or something else came.
    """
    expected = path.stem.rsplit("-", 1)[-1]

    def fetch(url: str, part: str, pup: object) -> None:
        pooch.HTTPDownloader(timeout=_TIMEOUT_S)(url, part, pup)
        if not pooch.file_hash(part).startswith(expected):
            raise ValueError("what came is not that file")

    try:
        pooch.retrieve(url, known_hash=None, fname=path.name, path=path.parent, downloader=fetch)
    except (OSError, ValueError) as error:
        raise CifartuiError(
            f"Could not fetch the pretrained weights ({type(error).__name__}: {error}). "
            f"Where there is a network, download {url} and put the file {path.name} into {path.parent}."
        ) from error


def _read(path: Path) -> dict[str, Tensor]:
    try:
        state: Any = torch.load(path, map_location="cpu", weights_only=True)
    except PermissionError as error:
        raise CifartuiError(f"You may not read {path}: ask its owner, or copy it to a folder of yours.") from error
    except Exception as error:  # torch raises nearly anything on a damaged file
        raise CifartuiError(
            f"{path} cannot be read as weights: it is damaged, or holds Python objects, which are never loaded. "
            "Delete it and fetch it again, or save it anew with torch.save(network.state_dict(), …)."
        ) from error
    if isinstance(state, dict) and isinstance(state.get("network"), dict):
        state = state["network"]  # a checkpoint of cifartui
    if not isinstance(state, dict) or not all(_is_entry(key, value) for key, value in state.items()):
        raise CifartuiError(
            f"{path} is not a state dict, which maps parameter names to tensors: "
            "save it anew with torch.save(network.state_dict(), …)."
        )
    return dict(state)  # without torch's metadata, so that files from before `num_batches_tracked` load too


def _is_entry(key: object, value: object) -> bool:
    return isinstance(key, str) and isinstance(value, Tensor)


def _fits(key: str, state: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    return key in expected and state[key].shape == expected[key].shape


def _mismatch(path: Path, network: str, what: str) -> str:
    return f"{path} does not fit {network}: it {what}. Set model.weights to a file of torchvision's {network}."


def _list(keys: list[str]) -> str:
    """Return "'a', 'b', 'c' and 7 more", quoted because a file may call its keys anything."""
    more = len(keys) - _KEYS_NAMED
    return ", ".join(map(repr, keys[:_KEYS_NAMED])) + (f" and {more} more" if more > 0 else "")
