"""Commands that there are not are answered in one sentence, with the one that may be meant."""

import pytest
from click.testing import CliRunner

from tui.cli.main import cifartui


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["trian", "demo"], 'cifartui: There is no command "trian"; did you mean "train"?'),
        (["queue", "ad"], 'cifartui: There is no command "queue ad"; did you mean "add"?'),
        (["xyzzy"], 'cifartui: There is no command "xyzzy"; cifartui --help lists them.'),
        (["queue", "xyzzy"], 'cifartui: There is no command "queue xyzzy"; cifartui queue --help lists them.'),
        (["\x1b[2J"], 'cifartui: There is no command "\\x1b[2J"; cifartui --help lists them.'),
    ],
)
def test_a_command_that_there_is_not(arguments: list[str], said: str) -> None:
    done = CliRunner().invoke(cifartui, arguments, prog_name="cifartui")
    assert (done.exit_code, done.output) == (2, f"{said}\n")


def test_an_option_that_there_is_not_is_answered_by_those_that_are_near() -> None:
    done = CliRunner().invoke(cifartui, ["train", "--sede", "3"], prog_name="cifartui")
    assert done.exit_code == 2
    assert "--seed" in done.output
