"""Client of the process that writes a run's network for other programs (`engine.training.export_model`)."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from engine.runs.run_dir import RunDir
from tui import format as fmt
from tui.data.output_file import new_path
from tui.data.torch_process import stream_module


def export_model(
    run: RunDir,
    kind: str,
    path: Path,
    *,
    checkpoint: str = "best",
    data_dir: str | None = None,
    with_preprocessing: bool = False,
    force: bool = False,
    tell: Callable[[str], object] = lambda _text: None,
) -> dict[str, Any]:
    """Write a run's network to `path`, which is there only if the file gives what the network gives.

    Args:
        run: whose network.
        kind: a format of networks, as `cifartui export --format` takes it.
        path: of the file.
        checkpoint: best or last.
        data_dir: where the run's data is looked for first.
        with_preprocessing: the network takes uint8 images of any size.
        force: write over a file that is there.
        tell: takes texts of progress.

    Returns:
        What the process answers: `record`, `num_bytes`, `checked`.

    Raises:
        CifartuiError: `path` is there already, or the file cannot be made or written, or differs from the network.
    """
    run.read_info()  # a sentence at once, before torch is imported
    with new_path(path, force=force) as temporary:
        arguments = [str(run.path.absolute()), str(temporary.absolute()), "--format", kind, "--checkpoint", checkpoint]
        arguments += ["--data-dir", data_dir] if data_dir else []
        arguments += ["--with-preprocessing"] if with_preprocessing else []
        answer: dict[str, Any] = {}
        for line in stream_module("engine.training.export_model", arguments):
            answer = msgspec.json.decode(line)
            if (doing := answer.get("doing")) is not None:
                tell(doing)
    return answer


def exported_lines(answer: dict[str, Any]) -> list[str]:
    """Return how a file was checked, in sentences."""
    checked = answer["checked"]
    images = fmt.plural(checked["num_images"], "validation image")
    if checked["is_random"]:
        images = (
            f"{checked['num_images']:,} random images, for there are no validation images ({checked['why_random']})"
        )
    lines = [
        f"Loaded again and compared on {images}: the largest difference of two logits is "
        f"{checked['largest_difference']:.1e} (the largest logit is {checked['largest_logit']:.3g}), the top class is "
        f"the same for {checked['num_agreeing']:,} of {checked['num_images']:,}."
    ]
    if checked["num_resized"]:
        lines.append(
            f"Images of other sizes that the file resizes: {fmt.percent(checked['share_of_levels'], 2)} of the values "
            f"differ from Pillow's, by {checked['largest_level']} of 255 at most; logits by "
            f"{checked['resized_difference']:.1e} at most, the top class is the same for "
            f"{checked['resized_agreeing']:,} of {checked['num_resized']:,}."
        )
    return lines
