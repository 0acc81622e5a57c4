"""Legend and plots of several runs over each other. No files."""

from collections.abc import Sequence

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Container, Vertical

from tui import format as fmt
from tui.display import PlotStyle
from tui.plots.overlay import NAME_WIDTH, OverlaidRun, OverlayChart, result_of
from tui.theme import MUTED, TEXT
from tui.widgets.basic import ChangedStatic
from tui.widgets.plot import Plot


class Overlay(Vertical):
    """A legend, and loss and accuracy of up to six runs over epochs."""

    def __init__(self, *, grain: PlotStyle) -> None:
        super().__init__(id="overlay")
        self._grain: PlotStyle = grain
        self._charts = {"loss": OverlayChart("loss"), "top1": OverlayChart("top1")}
        self._shown: tuple[tuple[OverlaidRun, ...], int] = ((), 0)
        self.is_log = False
        """True if losses are on a logarithmic axis; `show_log` sets it."""

    def compose(self) -> ComposeResult:
        """Lay legend and plots out."""
        yield ChangedStatic(id="over-legend")
        with Container(id="over-plots"):
            yield Plot(id="over-loss", grain=self._grain)
            yield Plot(id="over-top1", grain=self._grain)

    def show(self, drawn: Sequence[OverlaidRun], num_left_out: int) -> None:
        """Draw `drawn`; say that `num_left_out` more are marked."""
        self._shown = (tuple(drawn), num_left_out)
        width = self.size.width - 2
        if width < 20:  # not laid out, or not in view
            return
        self.query_one("#over-legend", ChangedStatic).set_text(_legend(drawn, num_left_out, width))
        for metric, maker in self._charts.items():
            plot = self.query_one(f"#over-{metric}", Plot)
            if plot.size.width:
                plot.show(maker.chart(drawn, plot.resolution, is_log=self.is_log))

    def show_log(self, *, is_log: bool) -> None:
        """Put losses on a logarithmic axis, or on a linear one."""
        self.is_log = is_log
        self.show(*self._shown)

    def on_resize(self) -> None:
        """Draw anew for the new size."""
        self.call_after_refresh(lambda: self.show(*self._shown))

    def on_plot_sized(self) -> None:
        """Draw anew where the legend has taken a row from the plots, or left it to them."""
        self.call_next(lambda: self.show(*self._shown))


def _legend(drawn: Sequence[OverlaidRun], num_left_out: int, width: int) -> Text:
    entries = [_entry(run) for run in drawn]
    if num_left_out:
        entries.append(Text(f"and {num_left_out} more marked, not drawn", MUTED))
    rows = [Text(no_wrap=True)]
    for entry in entries:
        if rows[-1].plain and rows[-1].cell_len + 3 + entry.cell_len > width:
            rows.append(Text(no_wrap=True))
        rows[-1].append("   " if rows[-1].plain else "").append_text(entry)
    return Text("\n", no_wrap=True).join(rows)


def _entry(run: OverlaidRun) -> Text:
    return Text.assemble(
        (f"{run.sign} {fmt.cut(run.name, NAME_WIDTH)}", run.color),
        (f" {result_of(run)}", TEXT if run.curves.epochs else MUTED),
    )
