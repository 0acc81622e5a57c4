"""`python -m engine.models.timm_networks WORD`: timm's networks with that word in their names, as JSON.

Run as a process of its own, because the command line never imports torch.
"""

import sys

import msgspec

from engine.models.backbone import timm_library
from engine.models.build import build_on_meta
from engine.models.layer_table import num_parameters
from presets.errors import CifartuiError
from presets.schema import Backbone

_MOST_COUNTED = 40
"""Networks that are built to count their parameters; more would take minutes."""


def timm_networks(word: str) -> dict[str, int | None]:
    """Return timm's networks with `word` in their names, and their parameters; None of each if they are many.

    Raises:
        CifartuiError: timm is not installed.
    """
    names = [name for name in timm_library().list_models() if word.lower() in name.lower()]
    if len(names) > _MOST_COUNTED:
        return dict.fromkeys(names)
    found: dict[str, int | None] = {}
    for name in names:
        size = timm_library().models.get_pretrained_cfg(name).input_size[1]
        try:
            found[name] = num_parameters(build_on_meta(Backbone(name=name, source="timm"), 1000, size))
        except Exception:  # one network of timm's that needs another library hides the others from nobody
            found[name] = None
    return found


def main() -> int:
    """Print the networks whose names hold the first argument; return the exit code."""
    try:
        found = timm_networks(sys.argv[1] if len(sys.argv) > 1 else "")
    except CifartuiError as error:
        print(error, file=sys.stderr)
        return 2
    sys.stdout.buffer.write(msgspec.json.encode(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
