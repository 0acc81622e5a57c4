"""Writes presets/facts.json, the facts of every shipped preset, one line a network: `python -m docs.facts`.

To be run after a change to a shipped preset, to a network or to the memory estimate; a test compares.
"""

from pathlib import Path

import msgspec

from presets import catalog
from presets.schema import Preset
from tui.data import network_facts


def wanted() -> dict[str, tuple[Preset, int]]:
    """Return shipped presets and their number of classes by the key of their facts; every key once."""
    found = {}
    for listed in catalog.list_presets():
        if listed.preset is not None and listed.path.is_relative_to(network_facts.SHIPPED.parent):
            classes, _ = network_facts.num_classes(listed.preset, None)
            found[network_facts.key_of(listed.preset, classes)] = (listed.preset, classes)
    return dict(sorted(found.items()))


def main() -> None:
    questions = wanted()
    lines = []
    for key, answer in zip(questions, network_facts.ask_many(list(questions.values())), strict=True):
        if isinstance(answer, str):
            raise SystemExit(f"{questions[key][0].title}: {answer}")
        lines.append(f'"{key}": {msgspec.json.encode(answer).decode()}')
    network_facts.SHIPPED.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    print(f"{Path(network_facts.SHIPPED).name}: {len(lines)} networks, {network_facts.SHIPPED.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
