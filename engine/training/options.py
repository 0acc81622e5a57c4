"""Which of the options that only make training faster have an effect in a run. Knows the preset and the device."""

from engine.training.setup import Setup
from presets.plan import plan
from presets.schema import Muon


def unused(setup: Setup) -> dict[str, str]:
    """Return a sentence for every option of the preset that has no effect in this run, by its key."""
    train = setup.info.preset.train
    whys = {}
    if train.compile != "off":
        if setup.device.type not in {"cuda", "cpu"}:
            whys["train.compile"] = "it is for CUDA and for CPUs"
        elif all(stage.frozen for stage in plan(setup.info.preset)):
            whys["train.compile"] = "behind a frozen backbone there is little to compile"
        elif setup.num_ranks > 1:
            whys["train.compile"] = "it is for one device"
    if train.cuda_graphs:
        if setup.device.type != "cuda":
            whys["train.cuda_graphs"] = "only CUDA has graphs"
        elif setup.num_ranks > 1:
            whys["train.cuda_graphs"] = "they are for one device"
        elif setup.precision == "fp16":
            whys["train.cuda_graphs"] = "in fp16 the loss scaler decides after every step"
        elif setup.data.train.images.device != setup.device:
            whys["train.cuda_graphs"] = "the images do not fit the GPU, and a graph cannot fetch them"
        elif train.image_sizes or train.alternating_flip or setup.info.preset.mix.is_on:
            whys["train.cuda_graphs"] = "epochs treat their images differently, and a graph does the same again"
        elif any(isinstance(stage.optimizer, Muon) for stage in plan(setup.info.preset)):
            whys["train.cuda_graphs"] = "muon has two learning rates, and a graph is given one"
    return {key: f"{key} has no effect here: {why}." for key, why in whys.items()}


def compile_mode(setup: Setup) -> str | None:
    """Return the mode of torch.compile to train in, if any."""
    mode = setup.info.preset.train.compile
    return None if mode == "off" or "train.compile" in unused(setup) else mode


def records_steps(setup: Setup) -> bool:
    """Return whether steps are recorded as CUDA graphs."""
    return setup.info.preset.train.cuda_graphs and "train.cuda_graphs" not in unused(setup)
