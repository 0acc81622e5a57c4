"""What is shown in place of the plots until the first batch is trained: the way there, step by step."""

from rich.text import Text

from tui import format as fmt
from tui.text import run_text
from tui.theme import FAINT, GOOD, MUTED, TEXT, TONES, TRAIN
from tui.widgets.basic import Quiet
from tui.widgets.run_header import RunView

_BAR_WIDTH = 30


class Preparation(Quiet):
    """Worker, data, network, training: each done, under way or waiting."""

    def show(self, view: RunView) -> None:
        """Draw how far the preparation of `view` is."""
        rows = [self._worker(view), self._data(view), self._network(view), self._training(view)]
        names = ("worker", "data", "network", "training")
        lines = [Text.assemble((f"{name:<10}", MUTED), row) for name, row in zip(names, rows, strict=True)]
        progress = view.state.data_progress
        if progress is not None and progress.total > 0 and view.status == "data":
            full = min(_BAR_WIDTH, _BAR_WIDTH * progress.done // progress.total)
            lines[1].append("\n" + " " * 10)
            lines[1].append("━" * full, TRAIN).append("━" * (_BAR_WIDTH - full), FAINT)
        self.tell(Text("\n\n").join(lines))

    def _worker(self, view: RunView) -> Text:
        started = view.state.started
        if started is None:
            if not run_text.is_live(view.status):
                return Text("ended before it began", TONES["bad"])
            return Text("starting: loading PyTorch takes a few seconds", TRAIN)
        name = "" if started.device_name.lower() == started.device else f" ({started.device_name})"
        return Text(f"started on {started.host}, {run_text.times(started)}{started.device}{name}", GOOD)

    def _data(self, view: RunView) -> Text:
        state = view.state
        if state.data is not None:
            images = f"{fmt.count(state.data.num_train)} train, {fmt.count(state.data.num_val)} val images"
            return Text(f"{run_text.dataset(state.data)}, {images}", GOOD)
        if state.data_progress is not None:
            return Text(run_text.progress(state.data_progress), TRAIN)
        return _waiting(view)

    def _network(self, view: RunView) -> Text:
        model = view.state.model
        if model is not None:
            return Text(f"{model.network}, {fmt.count(model.num_parameters)} parameters", GOOD)
        return Text("building the model", TRAIN) if view.status == "model" else _waiting(view)

    def _training(self, view: RunView) -> Text:
        stage = view.state.stage
        if stage is None:
            return _waiting(view)
        plan = f"{stage.epochs} epochs of {fmt.batches(stage.steps_per_epoch)}"
        return Text(f"{plan}: the first batch is under way", TRAIN if run_text.is_live(view.status) else TEXT)


def _waiting(view: RunView) -> Text:
    return Text("waits" if run_text.is_live(view.status) else "not reached", MUTED)
