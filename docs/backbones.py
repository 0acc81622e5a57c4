"""Writes presets/backbones.json, what torchvision and timm say of their classifiers: `python -m docs.backbones`.

To be run after a change of the versions of torchvision or timm; both must be installed.
"""

from collections import defaultdict
from typing import Any

import msgspec
import timm
import torchvision

from engine.data.augment import _MEAN_STD
from presets import backbones

_NAMES = {mean_std: name for name, mean_std in _MEAN_STD.items() if name not in {"none", "cifar100"}}


def _normalize(mean: Any, std: Any) -> str | None:
    return _NAMES.get((tuple(map(float, mean)), tuple(map(float, std))))


def of_torchvision() -> dict[str, Any]:
    found = {}
    for name in torchvision.models.list_models(module=torchvision.models):
        kinds = torchvision.models.get_model_weights(name)
        default = kinds.DEFAULT
        ordered = [default, *(each for each in kinds if each is not default)]
        found[name] = {
            "num_parameters": default.meta["num_params"],
            "min_size": _min_size(name, kinds),
            "weights": [found for found in map(_weights, ordered) if found["normalize"]],  # not VGG-16's features alone
        }
    return found


def _min_size(name: str, kinds: Any) -> int:
    """Return the smallest side; of transformers torchvision states the side that the weights are for."""
    if name.startswith(("vit_", "swin_", "maxvit_")):
        return 32
    return max(max(each.meta["min_size"]) for each in kinds)


def _weights(each: Any) -> dict[str, Any]:
    made = each.transforms()
    (size,) = made.crop_size
    return {
        "name": each.name,
        "size": size,
        "normalize": _normalize(made.mean, made.std),
        "top1": round(each.meta["_metrics"]["ImageNet-1K"]["acc@1"] / 100, 5),
        "num_bytes": round(each.meta["_file_size"] * 2**20),
    }


def of_timm() -> dict[str, list[str]]:
    found = defaultdict(list)
    default = {}
    for name in [*timm.list_models(), *timm.list_pretrained()]:
        config = timm.models.get_pretrained_cfg(name)
        _, height, width = config.input_size
        normalize = _normalize(config.mean, config.std)
        kind = backbones.OTHER if normalize is None or height != width else f"{height} {normalize}"
        architecture, _, tag = name.partition(".")
        if not tag:
            default[name] = kind
        if kind != (default.get(architecture, backbones.OTHER) if tag else backbones.OTHER):
            found[kind].append(name)
    return dict(sorted(found.items()))


def without_weights() -> list[str]:
    """Return the networks of timm that have no weights, by name without a tag."""
    configs = {name: timm.models.get_pretrained_cfg(name) for name in timm.list_models()}
    return [name for name, config in configs.items() if not (config.hf_hub_id or config.url)]


def main() -> None:
    tables = {"torchvision": of_torchvision(), "timm": of_timm()}
    rows = [f'"{key}": {msgspec.json.encode(value).decode()}' for key, value in tables["torchvision"].items()]
    others = [f'"{key}": {msgspec.json.encode(value).decode()}' for key, value in tables["timm"].items()]
    text = '{"torchvision": {\n' + ",\n".join(rows) + '\n},\n"timm": {\n' + ",\n".join(others) + "\n},\n"
    text += f'"timm_without_weights": {msgspec.json.encode(without_weights()).decode()}}}\n'
    backbones.FILE.write_text(text, encoding="utf-8")
    print(f"{backbones.FILE.name}: {len(rows)} of torchvision, {sum(map(len, tables['timm'].values()))} of timm")


if __name__ == "__main__":
    main()
