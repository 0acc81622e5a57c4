"""The configuration file: read, refused in one sentence, cheap."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from engine.runs.notify_settings import Notify, NotifyTable
from presets.errors import CifartuiError
from tui.config import Config, read_config
from tui.keymap import actions, check_keys


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "config.toml"
    monkeypatch.setenv("CIFARTUI_CONFIG", str(path))
    return path


def test_what_it_says_is_read(file: Path) -> None:
    file.write_text('theme = "light"\nlow_bandwidth = true\nnotify = "echo"\n[keys]\n"monitor.stop" = "f2"\n')
    told = NotifyTable(on=("end", "failure"), command="echo")
    assert read_config() == Config(theme="light", low_bandwidth=True, notify=told, keys={"monitor.stop": "f2"})


def test_who_is_told_is_read(file: Path) -> None:
    urls = '["https://ntfy.sh/a", "http://me:p%40ss@10.0.0.1:8080/b"]'
    file.write_text(f'[notify]\non = ["end", "lost"]\ncommand = "c"\nntfy = {urls}\napprise = ["slack://a/b/c"]\n')
    notify = read_config().notify
    assert notify.on == ("end", "lost")
    assert [target.name for target in notify.targets] == [
        "the notify command", "ntfy 1 (ntfy.sh)", "ntfy 2 (10.0.0.1:8080)", "apprise 1 (slack)",
    ]  # fmt: skip


def test_a_command_alone_is_told_of_the_end_as_before_there_was_a_table(file: Path) -> None:
    file.write_text('notify = "echo"\n')
    assert read_config().beside == Notify(on=("end", "failure"), command="echo")
    file.write_text('notify = ""\n')
    assert not read_config().beside.targets
    file.write_text('[notify]\ncommand = "echo"\n')
    assert read_config().beside.on == ("end", "failure", "stall", "nan", "plateau", "lost")


def test_without_a_file_all_is_as_usual(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CIFARTUI_CONFIG", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert read_config() == Config()


def test_it_lies_in_the_configuration_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CIFARTUI_CONFIG", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "cifartui").mkdir()
    (tmp_path / "cifartui" / "config.toml").write_text("bell = false")
    assert not read_config().bell


def test_a_named_file_has_to_exist(file: Path) -> None:
    with pytest.raises(CifartuiError, match=r"does not exist; write it, or unset CIFARTUI_CONFIG\.$"):
        read_config()


def test_a_named_folder_is_refused_with_the_variable_that_names_it(file: Path) -> None:
    file.mkdir()
    with pytest.raises(CifartuiError, match=r"is a folder or a device, not a configuration \(CIFARTUI_CONFIG\); name"):
        read_config()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('theme = "drak"', 'theme must be "dark" or "light", not "drak"; did you mean "dark"?'),
        ('thme = "dark"', 'thme is not a key at the top of the configuration; did you mean "theme"?'),
        ("plots = 3", 'plots must be "ascii", "auto", "blocks" or "braille", not 3.'),
        ("colors = 256", "not 256."),
        ('bell = "yes"', 'bell must be true or false, not "yes".'),
        ("keys = 3", "keys must be a table, each value text in quotes, not 3."),
        ('[keys]\n"monitor.stop" = 4', 'keys."monitor.stop" must be a key such as "ctrl+s", not 4.'),
        ("[keys]\nmonitor.stop = 'x'", 'put the whole id in quotes: "monitor.stop" = "ctrl+s".'),
        ("notify = 3", "notify must be a table, not 3."),
        (
            '[notify]\non = ["ned"]',
            'notify.on[0] must be "end", "failure", "lost", "nan", "plateau" or "stall", not "ned"; did',
        ),
        ('[notify]\ntopic = "x"', "notify.topic is not a key of [notify]; the keys are on, command, ntfy, apprise."),
        ('[notify]\nntfy = "https://ntfy.sh/x"', "notify.ntfy must be a list, each item text"),
        (
            '[notify]\nntfy = ["ntfy.sh/x"]',
            "notify.ntfy[0] must be the URL of a topic such as https://ntfy.sh/my-topic",
        ),
        ('[notify]\nntfy = ["https://ntfy.sh/"]', "notify.ntfy[0] must be the URL of a topic"),
        ('[notify]\nntfy = ["https://ntfy.sh/a\\nX-Evil: b"]', "notify.ntfy[0] must be the URL of a topic"),
        ('[notify]\napprise = ["slack"]', "notify.apprise[0] must be a URL that Apprise knows"),
        ("theme", "is not valid TOML"),
    ],
)
def test_what_it_may_not_say_is_named(file: Path, text: str, said: str) -> None:
    file.write_text(text)
    with pytest.raises(CifartuiError) as refused:
        read_config()
    assert said in str(refused.value)
    assert str(refused.value).startswith(str(file))


def test_reading_it_takes_no_time_and_no_textual(file: Path) -> None:
    file.write_text('theme = "light"\n')
    read_config()
    started = time.process_time()
    for _ in range(10):
        read_config()
    assert (time.process_time() - started) / 10 < 0.005
    script = "import sys, tui.config; tui.config.read_config(); print('textual' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert said.strip() == "False"


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"queue.zzzzzzzzzzzz": "x"}, "is no action; there are queue."),
        (
            {"notify": "x"},
            'keys."notify" is no action; actions begin with the name of a screen, which is one of abl',
        ),
        ({"monitor.stp": "x"}, 'keys."monitor.stp" is no action; did you mean "monitor.stop"?'),
        ({"monitor.stop": "crtl+s"}, 'is no key that a terminal sends; did you mean "ctrl+s"?'),
        ({"monitor.stop": ""}, "is no key that a terminal sends"),
        ({"monitor.stop": "shift+a"}, 'write "A" for it.'),
        ({"monitor.stop": "ctrl+c"}, "ctrl+c always leaves"),
        ({"monitor.stop": "p"}, "is the key of monitor.pause already"),
        ({"monitor.stop": "?"}, "is the key of app.help already"),
        ({"app.help": "s"}, "is the key of monitor.stop already"),
        ({"monitor.stop": "f2", "monitor.zoom": "f3,f2"}, "is the key of monitor.zoom already"),
        ({"ablation.back": "j"}, "j moves in lists"),
    ],
)
def test_keys_that_would_not_work_are_refused(keys: dict[str, str], said: str) -> None:
    with pytest.raises(CifartuiError) as refused:
        check_keys(keys, "config.toml")
    assert said in str(refused.value)


@pytest.mark.parametrize(
    "keys",
    [
        {"monitor.stop": "ctrl+s"},
        {"monitor.stop": "p", "monitor.pause": "s"},
        {"monitor.stop": "f2,ctrl+t"},
        {"runs.first": "f7", "runs.up": "w"},
        {"app.help": "f1"},
        {"monitor.zoom": "+", "monitor.pause": "space", "monitor.stop": "ctrl+@"},
        {"predictions.next_page": "space", "predictions.page_before": "backspace"},
    ],
)
def test_keys_that_work_are_let_through(keys: dict[str, str]) -> None:
    check_keys(keys, "config.toml")


def test_no_two_actions_of_a_screen_have_one_key_as_shipped() -> None:
    for name, action in actions().items():
        check_keys({name: ",".join(action.keys)}, "shipped")
