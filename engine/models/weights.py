"""Pretrained weights by torchvision's or timm's name or by path: download, safe reading, checks.

Files are opened as tensors only (`weights_only=True`), so that a file from a stranger can run no code.
Importing this file imports torchvision.
"""

import os
import pickle
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pooch  # type: ignore[import-untyped,unused-ignore]
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.models import WeightsEnum

from engine import files
from engine.journal.data_record import same_name
from engine.models.tensor_files import load_tensors
from engine.shared.published_sets import reason_of
from presets.errors import CifartuiError

_HEAD = "fc."
_COUNTER = "num_batches_tracked"
_WRAPPERS = ("ema", "network", "state_dict_ema", "state_dict", "model_state_dict", "model")
"""Under which checkpoints keep a state dict: cifartui's own, timm's, Lightning's, and what tutorials write."""
_PREFIXES = ("module.", "model.", "backbone.", "_orig_mod.", "network.")
"""Prefixes that DistributedDataParallel, Lightning, wrappers and torch.compile put before every key."""
_DEPTH = 3
_LEAST_SHARE = 0.5
"""Of the tensors before the last layer that a file must fill; with fewer it is not a file of this network."""
_MOST_MISSHAPEN = 0.1
"""Of these tensors that may have another shape in the file: a ResNet-50's names are in a ResNet-18 too."""
_OLD_DENSE = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")
_OLD_MLP = re.compile(r"mlp\.linear_([12])\.")
_HASH_IN_NAME = re.compile(r"-[0-9a-f]{8,}\.pth$")
_GLOBAL = re.compile(r"\bGLOBAL ([A-Za-z_][\w.]{0,80})")
"""The name of a Python object in what torch says when it refuses one."""
_TIMM_FILE = "model.safetensors"
_SAFETENSORS_START = 9
"""Bytes of a safetensors file up to the brace that begins its header."""
_KEYS_NAMED = 3
_TIMEOUT_S = 30


def load_weights(
    network: nn.Module,
    weights: str,
    published: type[WeightsEnum] | None,
    names: Mapping[str, str] | None = None,
    known: str = "",
    class_names: Sequence[str] = (),
) -> str:
    """Fill a network with stored weights, as far as they fit; a last layer for other classes is left as it is.

    Args:
        network: its last layer is called `fc`.
        weights: "default" or a name of torchvision's (IMAGENET1K_V1), fetched where torch.hub's folder does not hold
            its file yet; or the path of a state dict (as torch.save or safetensors writes it, bare or in a
            checkpoint), or of a best.pt of cifartui.
        published: torchvision's names for this network, if it has any.
        names: the network's keys by the names that files have for them; without it they are the same.
        known: how the network is called; without it as torchvision calls it.
        class_names: of the network's classes. The last layer of a checkpoint with class names is filled by name, and
            left as it is if it does not have all of them.

    Returns:
        A sentence that says how much was loaded, and what was not.

    Raises:
        CifartuiError: The weights are unknown, out of reach, damaged, of another network, or no finite numbers.
    """
    path = find_weights(weights, published)
    known = known or (published.__name__.removesuffix("_Weights").replace("ResNet", "ResNet-") if published else "it")
    expected = network.state_dict()
    places = {**{key: key for key in expected}, **(names or {})}
    library_name = {key: name for name, key in places.items()}
    content = _read(path)
    state = _renamed(_fitted(_bare(content, path), places, expected), places)
    state, said = _with_classes(state, content, class_names)
    fitting = {key: value for key, value in state.items() if _fits(key, state, expected)}
    wanted = [key for key in expected if not key.endswith(_COUNTER)]
    body = [key for key in wanted if not key.startswith(_HEAD)]
    num_misshapen = sum(key in state and key not in fitting for key in body)
    if sum(key in fitting for key in body) < _LEAST_SHARE * len(body) or num_misshapen > _MOST_MISSHAPEN * len(body):
        raise CifartuiError(
            f"{path} does not fit {known}: of the network's {len(wanted)} tensors it has "
            f"{sum(key in fitting for key in wanted)}{_differences(state, expected, wanted, library_name)}. "
            f"Set model.weights to a file of {known}."
        )
    if not all(bool(torch.isfinite(value).all()) for value in fitting.values() if value.is_floating_point()):
        raise CifartuiError(f"{path} holds weights that are no finite numbers: set model.weights to another file.")
    network.load_state_dict(fitting, strict=False)
    return _summary(path, state, fitting, expected, wanted, library_name) + said


def _with_classes(state: dict[str, Tensor], content: Any, class_names: Sequence[str]) -> tuple[dict[str, Tensor], str]:
    """Return a state dict whose last layer has a row for each class, by the names in its checkpoint, and a sentence.

    Without all of these classes in the checkpoint, the last layer is left out.
    """
    trained = content.get("class_names") if isinstance(content, dict) else None
    if not class_names or not isinstance(trained, list | tuple) or not all(isinstance(name, str) for name in trained):
        return state, ""
    index_of = {same_name(name): index for index, name in enumerate(trained)}
    rows = [index_of.get(same_name(name)) for name in class_names]
    head = {key for key, value in state.items() if key.startswith(_HEAD) and value.ndim and len(value) == len(trained)}
    if rows == list(range(len(trained))) or not head:
        return state, ""
    if None in rows:
        body = {key: value for key, value in state.items() if key not in head}
        return body, " Its classes are others, so the last layer is not taken from it."
    by_name = {key: value[torch.tensor(rows)] if key in head else value for key, value in state.items()}
    return by_name, " Its classes are matched by name."


def _summary(
    path: Path,
    state: dict[str, Tensor],
    fitting: dict[str, Tensor],
    expected: dict[str, Tensor],
    wanted: list[str],
    library_name: Mapping[str, str],
) -> str:
    """Return how many tensors came from a file, and which did not."""
    text = (
        f"Weights: {sum(key in fitting for key in wanted)} of the network's {len(wanted)} tensors are from {path.name}"
    )
    new_head = [key for key in wanted if key.startswith(_HEAD) and key not in fitting]
    if new_head:
        other = [state[key].shape[0] for key in new_head if key in state and state[key].ndim]
        why = f", which has {other[0]} classes there," if other else ""
        text += f"; the last layer{why} begins with random weights"
    missing = [key for key in wanted if key not in fitting and key not in new_head]
    if missing:
        named = _list([library_name[key] for key in missing])
        text += f"; {len(missing)} others begin with random weights ({named})"
    unused = [key for key in state if key not in expected]
    if unused:
        text += f"; {len(unused)} of the file's have no place in the network ({_list(unused)})"
    return f"{text}."


def _differences(
    state: dict[str, Tensor], expected: dict[str, Tensor], wanted: list[str], library_name: Mapping[str, str]
) -> str:
    """Return which tensors are missing or have other shapes, as the library and the file name them."""
    misshapen = [library_name[key] for key in wanted if key in state and not _fits(key, state, expected)]
    missing = [library_name[key] for key in wanted if key not in state]
    unused = [key for key in state if key not in expected]
    shapes = f"; other shapes have {_list(misshapen)}" if misshapen else ""
    lacks = f"; it lacks {_list(missing)}" if missing else ""
    return shapes + lacks + (f", and has {_list(unused)}" if lacks and unused else "")


def _bare(content: Any, path: Path) -> dict[str, Tensor]:
    """Return the state dict in what a file holds, which may be a checkpoint around it."""
    for _ in range(_DEPTH):
        if not isinstance(content, dict):
            break
        inner = next((content[key] for key in _WRAPPERS if isinstance(content.get(key), dict)), None)
        if inner is None:
            inner = _only_state_dict(content)
        if inner is None:
            break
        content = inner
    tensors = (
        {key: value for key, value in content.items() if _is_entry(key, value)} if isinstance(content, dict) else {}
    )
    if not tensors or len(tensors) < len(content):
        raise CifartuiError(
            f"{path} is not a state dict, which maps parameter names to tensors: "
            "save it anew with torch.save(network.state_dict(), …)."
        )
    return tensors  # without torch's metadata, so that files from before `num_batches_tracked` load too


def _only_state_dict(content: dict[Any, Any]) -> dict[str, Tensor] | None:
    """Return the only state dict among the values of a checkpoint, whatever it is called there."""
    found = [
        value
        for value in content.values()
        if isinstance(value, dict) and value and all(_is_entry(key, each) for key, each in value.items())
    ]
    return found[0] if len(found) == 1 else None


def _fitted(state: dict[str, Tensor], names: Mapping[str, str], expected: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return a state dict under those names with which most of it fits: without the prefixes of wrappers."""

    def num_fitting(some: dict[str, Tensor]) -> int:
        return sum(key in names and value.shape == expected[names[key]].shape for key, value in some.items())

    bared = [state]
    variants = [state]
    for _ in range(_DEPTH):  # each alone may make nothing fit
        bared = [
            {key.removeprefix(prefix): value for key, value in each.items()}
            for each in bared
            for prefix in _PREFIXES
            if any(key.startswith(prefix) for key in each)
        ]
        variants += bared
    variants += [{_modern(key): value for key, value in each.items()} for each in variants]
    return max(variants, key=num_fitting)


def _modern(key: str) -> str:
    """Return the name that torchvision now has for one from the files that it publishes (DenseNet, ViT)."""
    return _OLD_DENSE.sub(r"\1\2", _OLD_MLP.sub(lambda found: f"mlp.{3 * int(found[1]) - 3}.", key))


def _renamed(state: dict[str, Tensor], names: Mapping[str, str]) -> dict[str, Tensor]:
    return {names.get(key, key): value for key, value in state.items()}


def timm_weights(name: str) -> str:
    """Return the file of the weights that timm publishes for a network, from its cache or downloaded.

    Raises:
        CifartuiError: there are none, or they could not be fetched.
    """
    import timm
    from huggingface_hub import hf_hub_download

    config = timm.models.get_pretrained_cfg(name)
    repository, url = (config.hf_hub_id, config.url) if config is not None else (None, None)
    if not repository and isinstance(url, str) and url:
        if not _HASH_IN_NAME.search(url):
            raise CifartuiError(
                f"timm publishes the weights of {name} without a hash by which they could be checked: download {url} "
                "and set model.weights to that file."
            )
        return str(_in_torchs_cache(url))
    if not repository:
        raise CifartuiError(f'timm publishes no weights for {name}: set model.weights to a file, or to "none".')
    try:
        return str(hf_hub_download(repository, _TIMM_FILE, etag_timeout=_TIMEOUT_S))
    except Exception as error:  # of the network, of the hub, of the disk: each has its own kinds
        raise CifartuiError(
            f"Could not fetch the weights of timm's {name} ({type(error).__name__}). Where there is a "
            f"network, download https://huggingface.co/{repository}/resolve/main/{_TIMM_FILE} and set "
            "model.weights to that file."
        ) from error


def find_weights(weights: str, published: type[WeightsEnum] | None) -> Path:
    """Return the file of a torchvision name or a path; download it if absent.

    Raises:
        CifartuiError: Neither a known name nor a file, or the download failed.
    """
    if published is not None and weights == "default":
        weights = published.DEFAULT.name
    if published is not None and weights in published.__members__:
        return _in_torchs_cache(published[weights].url)
    path = files.expanded(weights)
    if not path.is_file():
        names = f"one of {', '.join(known.name for known in published)}" if published else '"default"'
        raise CifartuiError(
            f"There are no weights called {weights}: set model.weights to {names}, "
            "or to the path of a state-dict file that exists."
        )
    return path


def _in_torchs_cache(url: str) -> Path:
    """Return the file of published weights, downloaded if it is absent, where torch.hub keeps it too."""
    path = Path(torch.hub.get_dir(), "checkpoints", url.rsplit("/", 1)[-1])
    if not path.is_file():
        download(url, path)
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
        reason = reason_of(error) if isinstance(error, OSError) else str(error)
        raise CifartuiError(
            f"Could not fetch the pretrained weights ({reason}). "
            f"Where there is a network, download {url} and put the file {path.name} into {path.parent}, or name it in "
            "model.weights."
        ) from error


def _read(path: Path) -> Any:
    """Return what a file holds, tensors and plain values; those of a zip stay in the file until they are copied."""
    try:
        with os.fdopen(files.open_to_read(path), "rb") as file:
            if file.read(_SAFETENSORS_START)[-1:] == b"{":  # behind the length of its header, whatever its name
                return load_file(path)
            file.seek(0)
            return load_tensors(file, legacy=True, mapped=path)
    except PermissionError as error:
        raise CifartuiError(f"You may not read {path}: ask its owner, or copy it to a folder of yours.") from error
    except Exception as error:  # torch raises nearly anything on a damaged file
        if isinstance(error, pickle.UnpicklingError) and (named := _GLOBAL.search(str(error))):
            raise CifartuiError(
                f"{path} cannot be read as weights: it holds Python objects, which are never loaded, because they can "
                f"run code ({named[1]} is one): save the weights alone, with torch.save(network.state_dict(), …)."
            ) from error
        raise CifartuiError(
            f"{path} cannot be read as weights: it is damaged, or holds Python objects, which are never loaded. "
            "Fetch it again, or save it anew with torch.save(network.state_dict(), …)."
        ) from error


def _is_entry(key: object, value: object) -> bool:
    return isinstance(key, str) and isinstance(value, Tensor)


def _fits(key: str, state: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    return key in expected and state[key].shape == expected[key].shape


def _list(keys: list[str]) -> str:
    """Return "'a', 'b', 'c' and 7 more", quoted because a file may call its keys anything."""
    more = len(keys) - _KEYS_NAMED
    return ", ".join(map(repr, keys[:_KEYS_NAMED])) + (f" and {more} more" if more > 0 else "")
