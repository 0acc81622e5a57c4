"""What is shown in place of a screen that the terminal has no room for."""

from textual.widgets import Static

MIN_COLUMNS, MIN_ROWS = 60, 16


class TooSmall(Static):
    """Hidden by the style sheet as soon as there is room again."""

    def __init__(self) -> None:
        super().__init__(
            f"This terminal is too small.\n\ncifartui needs {MIN_COLUMNS} columns and {MIN_ROWS} rows.\n"
            "Training is not touched. Press q to leave."
        )
