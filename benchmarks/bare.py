"""The least that a Textual program can be: what the dashboard's first screen is measured against."""

from textual.app import App, ComposeResult
from textual.widgets import DataTable, Footer, Header, Static


class Bare(App[None]):
    """Header, Static, DataTable and Footer."""

    BINDINGS = [("q", "quit", "quit")]  # noqa: RUF012 - as Textual declares it

    def compose(self) -> ComposeResult:
        yield Header()
        yield Static("hello")
        yield DataTable()
        yield Footer()

    def on_mount(self) -> None:
        table: DataTable[str] = self.query_one(DataTable)
        table.add_columns("name", "value")
        for number in range(10):
            table.add_row(f"row {number}", "value")


if __name__ == "__main__":
    Bare().run()
