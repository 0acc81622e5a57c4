"""`cifartui notify test`, and the message at the end of a run that a command line follows."""

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.http_server import Answer, Listener, listening

Call = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def listener() -> Iterator[Listener]:
    with listening() as listener:
        yield listener


@pytest.fixture
def configured(tmp_path: Path) -> Callable[[str], dict[str, str]]:
    """Write a configuration, and return the variables that name it."""

    def write(text: str) -> dict[str, str]:
        path = tmp_path / "config.toml"
        path.write_text(text)
        return {"CIFARTUI_CONFIG": str(path), "NO_PROXY": "127.0.0.1"}

    return write


def test_each_target_is_told_and_what_came_of_it_is_said(
    cifartui: Call, configured: Callable[[str], dict[str, str]], listener: Listener
) -> None:
    urls = f'"http://{listener.host}/one", "http://{listener.host}/two"'
    variables = configured(f'[notify]\non = ["end", "lost"]\ncommand = "test $CIFARTUI_KIND = test"\nntfy = [{urls}]\n')
    done = cifartui("notify", "test", **variables)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "the notify command: told",
        f"ntfy 1 ({listener.host}): told",
        f"ntfy 2 ({listener.host}): told",
        "Messages are sent on: end, lost.",
    ]
    assert {json.loads(posted.content)["topic"] for posted in listener.posted} == {"one", "two"}

    listener.answers.append(Answer(403, b'{"error":"forbidden\\u001b[2J"}'))
    done = cifartui("notify", "test", **configured(f'[notify]\nntfy = ["http://{listener.host}/one"]\n'))
    assert done.returncode == 1
    assert done.stdout.splitlines()[0] == (
        f"ntfy 1 ({listener.host}): not told: {listener.host} answers 403 (forbidden\\x1b[2J)"
    )


def test_without_a_target_the_command_says_what_to_write(
    cifartui: Call, configured: Callable[[str], dict[str, str]]
) -> None:
    variables = configured("bell = false\n")
    done = cifartui("notify", "test", **variables)
    assert done.returncode == 2
    assert f"name a target under [notify] in {variables['CIFARTUI_CONFIG']}, such as ntfy = [" in done.stderr


def test_a_run_in_the_foreground_ends_when_its_end_is_told(
    cifartui: Call, configured: Callable[[str], dict[str, str]], listener: Listener
) -> None:
    """A job or a container ends with it, and with that the watcher."""
    variables = configured(f'[notify]\nntfy = ["http://{listener.host}/one"]\n')
    small = ("--set", "data.train_limit=320", "--set", "train.batch_size=32", "--set", "train.epochs=1")
    done = cifartui("train", "demo", "--device", "cpu", *small, "--output", "quiet", **variables)
    assert done.returncode == 0, done.stderr
    (posted,) = listener.posted
    content = json.loads(posted.content)
    assert content["title"] == "Demo: completed"
    assert "validation " in content["message"]
