import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from email.message import Message as Mail
from email.parser import BytesParser
from pathlib import Path

import pytest

from engine.journal import events
from engine.journal.jsonl import EventWriter
from engine.runs import messages, notify, run_dir
from engine.runs.messages import Message
from engine.runs.notify import Sending, run
from engine.runs.notify_settings import NOBODY, Notify, Target, decoded, encoded
from engine.runs.run_dir import RunDir
from presets import catalog
from tests.http_server import Answer, Listener, listening
from tests.smtp_server import mails
from tests.waiting import wait_for
from tui.config import read_config

FINISHED = events.RunFinished(outcome="stopped", reason="r", epoch=1, global_step=1, best_val_top1=0.5, time=1e9)
HOSTILE = "a\r\nX-Evil: 1\x1b]0;x\x07\u2028b"


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def listener() -> Iterator[Listener]:
    with listening() as listener:
        yield listener


@pytest.fixture
def one(tmp_path: Path) -> RunDir:
    return run_dir.create(tmp_path, "demo", preset=catalog.load("demo"), seed=0, device="cpu")


def of_end(one: RunDir, finished: events.RunFinished = FINISHED) -> Message:
    return messages.of_end(one, one.read_info(), finished)


def sent(by: str, address: str, message: Message) -> str:
    """Send a message in a process of its own, and return why that failed."""
    (target,) = Notify(**{by: address if by == "command" else (address,)}).targets
    why = Sending(target, message).result(wait=True)
    assert why is not None
    return why


# --- messages --------------------------------------------------------------------------------------------------------


def test_a_message_says_what_happened_and_the_value(one: RunDir) -> None:
    journal = EventWriter(one.events)
    journal.write(
        events.StageStarted(stage=0, num_stages=1, name="", first_epoch=1, epochs=9, steps_per_epoch=2, total_epochs=9)
    )
    journal.write(
        events.EpochCompleted(
            epoch=3, global_step=6, train_loss=1, train_top1=0.5, val_loss=1, val_top1=0.612, lr=0.1, seconds=1,
            is_best=True,
        )
    )  # fmt: skip
    journal.close()
    alert = events.Alerted(severity="notice", kind="plateau", text="No better for 10 epochs.", advice="Stop?")
    told = messages.of_alert(one, one.read_info(), "plateau", alert)
    assert told.title == "Demo: no better for a while"
    assert told.text == "No better for 10 epochs. Stop?"
    assert told.value == "epoch 3 of 9, best validation accuracy 61.2 % (epoch 3)"
    assert told.body.splitlines()[2].startswith(f"{one.id} on {told.host}, ")
    ended = of_end(one, events.RunFinished(outcome="completed", reason="all trained", epoch=9, global_step=18,
                                           best_val_top1=0.7, best_val_balanced=0.6, test_top1=0.68))  # fmt: skip
    assert (ended.kind, ended.title, ended.text) == ("end", "Demo: completed", "all trained")
    assert ended.value == "validation 70.0 %, balanced 60.0 %, test 68.0 %"
    failed = of_end(one, events.RunFinished(outcome="failed", reason="no memory", epoch=3, global_step=6))
    assert (failed.kind, failed.title, failed.value) == ("failure", "Demo: failed", told.value)


def test_settings_go_through_a_variable_and_nothing_else_is_one() -> None:
    settings = Notify(on=("lost",), command="c", ntfy=("https://ntfy.sh/a",), apprise=("slack://x",))
    assert decoded(encoded(settings)) == settings
    assert encoded(NOBODY) == ""
    assert decoded("") == decoded("echo a command") == decoded('{"other": 1}') == NOBODY


# --- the command -----------------------------------------------------------------------------------------------------


def test_the_command_is_told_of_the_run(one: RunDir, tmp_path: Path) -> None:
    told = tmp_path / "told"
    names = ["RUN", "RUN_ID", "OUTCOME", "TITLE", "BEST_VAL", "TEST", "KIND", "SUBJECT", "TEXT", "VALUE"]
    values = "".join(f"$CIFARTUI_{name}|" for name in names)
    assert sent("command", f'echo "{values}" > {told}', of_end(one)) == ""
    assert told.read_text() == f"{one.path}|{one.id}|stopped|Demo|0.5000||end|Demo: stopped|r|validation 50.0 %|\n"


def test_a_command_that_fails_says_so(one: RunDir, capfd: pytest.CaptureFixture[str]) -> None:
    assert run("echo what came out; exit 3") == 3
    said = capfd.readouterr().out
    assert "what came out" in said
    assert "exit code 3" in said
    assert sent("command", "echo what came out; exit 3", of_end(one)) == "failed with exit code 3"
    assert capfd.readouterr().err == "what came out\n"


@pytest.mark.slow
def test_a_command_that_hangs_is_ended_with_all_it_started(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pid = tmp_path / "pid"
    sleeper = f'{sys.executable} -c \'import os, time; open("{pid}", "w").write(str(os.getpid())); time.sleep(600)\''
    run(f"{sleeper} & while [ ! -s {pid} ]; do sleep 0.05; done; sleep 600", patience_s=3)
    assert "took longer than 3 s" in capfd.readouterr().out

    def is_gone() -> bool:
        try:
            os.kill(int(pid.read_text()), 0)
        except ProcessLookupError:
            return True
        return "Z" in Path(f"/proc/{pid.read_text()}/stat").read_text().split()[2]

    wait_for(is_gone, "the end of what the command started")


# --- ntfy ------------------------------------------------------------------------------------------------------------


def test_ntfy_is_told_as_json_and_no_text_is_in_a_header(one: RunDir, listener: Listener) -> None:
    told = of_end(one, events.RunFinished(outcome="failed", reason=HOSTILE, epoch=1, global_step=1))
    assert sent("ntfy", f"http://me:p%40ss@{listener.host}/below/my-topic", told) == ""
    (posted,) = listener.posted
    content = json.loads(posted.content)
    assert posted.path == "/below/"
    assert posted.headers["authorization"] == "Basic bWU6cEBzcw=="  # me:p@ss
    assert (content["topic"], content["title"], content["message"]) == ("my-topic", "Demo: failed", told.body)
    assert (content["priority"], content["tags"]) == (4, ["warning"])
    assert "evil" not in str(posted.headers).lower()


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Answer(403, b'{"code":40301,"http":403,"error":"forbidden"}'), "answers 403 (forbidden)"),
        (Answer(500, b"<html>"), "answers 500 (Internal Server Error)"),
        (Answer(200, b"<html>welcome to this hotel"), "does not answer as ntfy does"),
        (Answer(200, b'{"id":3}'), "does not answer as ntfy does"),
    ],
)
def test_what_ntfy_refuses_is_said(one: RunDir, listener: Listener, answer: Answer, said: str) -> None:
    listener.answers.append(answer)
    assert sent("ntfy", f"http://{listener.host}/topic", of_end(one)) == f"{listener.host} {said}"


def test_a_redirect_is_not_followed(one: RunDir, listener: Listener) -> None:
    """Python would ask for the new page and take its answer for a message that was sent."""
    listener.answers.append(Answer(301, b""))
    listener.location = f"http://{listener.host}/elsewhere"
    why = sent("ntfy", f"http://{listener.host}/topic", of_end(one))
    assert why == f"{listener.host} answers 301 (it has moved to http://{listener.host}/elsewhere)"
    assert listener.num_got == 0


def test_a_server_that_is_not_there_is_said(one: RunDir) -> None:
    with listening() as listener:
        host = listener.host
    assert (
        sent("ntfy", f"http://{host}/topic", of_end(one)) == f"{host} cannot be asked ([Errno 111] Connection refused)"
    )


def test_a_server_that_hangs_ends_the_process_that_asks_it(
    one: RunDir, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    listener.answers.append(None)
    (target,) = Notify(ntfy=(f"http://{listener.host}/topic",)).targets
    sending = Sending(target, of_end(one))
    wait_for(lambda: listener.posted, "the request")
    assert sending.result() is None
    os.kill(sending._process.pid, signal.SIGALRM)  # as its own clock will
    assert sending.result(wait=True) == "no answer within 30 s"


def test_the_process_has_set_its_clock_before_it_asks(monkeypatch: pytest.MonkeyPatch, one: RunDir) -> None:
    asked: list[object] = []
    monkeypatch.setattr(signal, "alarm", asked.append)
    monkeypatch.setattr(notify, "_tell_ntfy", lambda url, message: asked.append(url) or "")
    assert notify._tell(Target("ntfy", "url", "name"), of_end(one)) == ""
    assert asked == [30, "url"]


# --- Apprise ---------------------------------------------------------------------------------------------------------


def test_without_apprise_its_extra_is_named(one: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "apprise", None)
    assert notify._tell_apprise("slack://x", of_end(one)) == "Apprise is not installed: pip install 'cifartui[notify]'"


@pytest.mark.slow
def test_mail_is_sent_by_apprise_and_no_text_is_in_a_header(one: RunDir) -> None:
    titled = one.path / "run.json"
    titled.write_text(titled.read_text().replace('"Demo"', json.dumps("Bcc: you@example.org\nX-Evil: 1")))
    with mails() as (port, received):
        url = f"mailto://127.0.0.1:{port}?from=me@example.org&to=you@example.com&mode=insecure"
        assert sent("apprise", url, of_end(one)) == ""
    (mail,) = received
    parsed: Mail = BytesParser().parsebytes(mail)
    assert parsed["To"] == "you@example.com"
    assert "X-Evil" not in parsed
    assert "Bcc" not in parsed
    text = "".join(str(part.get_payload(decode=True)) for part in parsed.walk() if not part.is_multipart())
    assert "validation 50.0 %" in text


@pytest.mark.slow
def test_slack_is_told_by_apprise(one: RunDir, listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    from apprise.plugins.slack import NotifySlack

    monkeypatch.setattr(NotifySlack, "webhook_url", f"http://{listener.host}/services")
    told = of_end(one, events.RunFinished(outcome="failed", reason="<!channel> & so", epoch=1, global_step=1))
    listener.answers.append(Answer(200, b"ok"))
    path = "/services/T00000000/B00000000/XXXXXXXXXXXXXXXXXXXXXXXX"
    assert notify._tell_apprise(f"https://hooks.slack.com{path}", told) == ""
    (posted,) = listener.posted
    assert posted.path == path
    (attachment,) = json.loads(posted.content)["attachments"]
    print(attachment)
    assert attachment["title"] == "Demo: failed"
    assert attachment["text"].startswith("&lt;!channel&gt; &amp; so\n")


@pytest.mark.slow
def test_what_apprise_cannot_send_is_said(one: RunDir, listener: Listener) -> None:
    assert sent("apprise", f"json://{listener.host}/hook", of_end(one)) == ""
    listener.answers.append(Answer(500, b""))
    assert "error=500" in sent("apprise", f"json://{listener.host}/hook", of_end(one))
    why = sent("apprise", "nosuchservice://x", of_end(one))
    assert why == "Apprise does not know such a URL; its documentation lists them"


@pytest.mark.slow
def test_the_recipes_of_the_guide_are_taken(one: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import apprise

    guide = (Path(__file__).parents[2] / "docs/notify.md").read_text(encoding="utf-8")
    recipes = re.findall(r"```toml\n(.*?)```", guide, re.DOTALL)
    assert len(recipes) == 4
    monkeypatch.setenv("CIFARTUI_CONFIG", str(tmp_path / "config.toml"))
    told = []
    for recipe in recipes:
        (tmp_path / "config.toml").write_text(recipe)
        told += read_config().notify.targets
    assert [target.by for target in told] == [*["ntfy"] * 4, *["apprise"] * 4, "command"]
    assert all(apprise.Apprise.instantiate(target.address) for target in told if target.by == "apprise")
    mail = tmp_path / "mail"
    mail.write_text(f'#!/bin/sh\n(echo "$@"; cat) > {tmp_path}/mailed\n')
    mail.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert sent("command", told[-1].address, of_end(one)) == ""
    assert (tmp_path / "mailed").read_text() == "-s Demo: stopped you@example.org\nr\nvalidation 50.0 %\n"


def test_the_process_imports_no_torch_and_no_apprise_until_it_is_asked() -> None:
    code = "import sys, engine.runs.notify, engine.runs.watcher; print({'torch', 'apprise', 'ssl'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"
