"""Deliveries by a clock of the test: again with growing pauses, given up at last, no two of a kind in ten minutes."""

from itertools import pairwise

import pytest

from engine.runs.deliveries import AGAIN_AFTER_S, QUIET_S, Deliveries
from engine.runs.messages import Message
from engine.runs.notify_settings import Notify, Target

NTFY, OTHER = Notify(ntfy=("https://one/a", "https://two/b")).targets
(COMMAND,) = Notify(command="c").targets


def message(kind: str, title: str = "t") -> Message:
    return Message(kind=kind, title=title, text="", value="", run="r", host="h", time=0.0)  # type: ignore[arg-type]


class Sent:
    """A sending whose result the test decides."""

    def __init__(self, why: str | None) -> None:
        self.why = why

    def result(self) -> str | None:
        return self.why


class Mail:
    """Deliveries to targets, of which some fail."""

    def __init__(self, *targets: Target, quiet_until: dict[str, float] | None = None) -> None:
        self.sent: list[tuple[float, str, str]] = []
        self.said: list[str] = []
        self.failing: dict[Target, str | None] = {}
        self.now = 0.0
        self.deliveries = Deliveries(targets, self._send, self.said.append, quiet_until or {})

    def _send(self, target: Target, message: Message) -> Sent:
        self.sent.append((self.now, target.name, message.title))
        return Sent(self.failing.get(target, ""))

    def at(self, now: float) -> "Mail":
        self.now = now
        self.deliveries.step(now)
        return self


def test_a_target_that_fails_is_tried_again_ever_later_said_once_and_given_up() -> None:
    mail = Mail(NTFY, OTHER)
    mail.failing[NTFY] = "it is broken"
    mail.deliveries.add(message("end"), 0.0)
    now, times = 0.0, []
    while not mail.deliveries.is_done:
        mail.at(now)
        times = [when for when, name, _ in mail.sent if name == NTFY.name]
        now += 1.0
    pauses = [later - earlier for earlier, later in pairwise(times)]
    assert pauses == list(AGAIN_AFTER_S)
    assert now < 3600
    assert [name for _, name, _ in mail.sent].count(OTHER.name) == 1
    assert mail.said == [
        "ntfy 1 (one) was not told of “t”: it is broken; messages are tried again for 50 minutes; this is said once."
    ]


def test_a_target_that_comes_back_is_told() -> None:
    mail = Mail(NTFY)
    mail.failing[NTFY] = "it is broken"
    mail.deliveries.add(message("end"), 0.0)
    mail.at(0.0)
    mail.failing.clear()
    assert not mail.at(9.0).deliveries.is_done
    assert mail.at(10.0).deliveries.is_done
    assert [when for when, _, _ in mail.sent] == [0.0, 10.0]


def test_a_target_that_hangs_holds_up_no_other_and_no_other_message() -> None:
    mail = Mail(NTFY, OTHER)
    mail.failing[NTFY] = None
    mail.deliveries.add(message("stall"), 0.0)
    mail.at(0.0)
    mail.deliveries.add(message("end"), 1.0)
    mail.at(1.0)
    assert [(name, when) for when, name, _ in mail.sent] == [
        (NTFY.name, 0.0), (OTHER.name, 0.0), (NTFY.name, 1.0), (OTHER.name, 1.0),
    ]  # fmt: skip
    assert mail.deliveries.is_sending
    assert not mail.deliveries.is_tried


def test_a_command_is_run_once() -> None:
    mail = Mail(COMMAND)
    mail.failing[COMMAND] = "failed with exit code 7"
    mail.deliveries.add(message("end"), 0.0)
    assert mail.at(0.0).deliveries.is_done
    assert mail.said == ["the notify command was not told of “t”: failed with exit code 7; this is said once."]


def test_a_process_that_cannot_be_started_is_a_target_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    mail = Mail(NTFY)

    def refuse(_target: Target, _message: Message) -> Sent:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(mail.deliveries, "_send", refuse)
    mail.deliveries.add(message("end"), 0.0)
    assert not mail.at(0.0).deliveries.is_done
    assert "Resource temporarily unavailable" in mail.said[0]


@pytest.mark.parametrize(("kind", "is_kept"), [("end", True), ("failure", True), ("lost", True), ("stall", False),
                                               ("plateau", False), ("nan", False)])  # fmt: skip
def test_of_a_kind_there_is_one_message_in_ten_minutes(kind: str, is_kept: bool) -> None:
    mail = Mail(NTFY)
    assert mail.deliveries.add(message(kind, "first"), 0.0)
    assert mail.deliveries.add(message("other"), 0.0)
    mail.at(0.0)
    for number in range(1, 9):
        assert not mail.deliveries.add(message(kind, f"later {number}"), 60.0 * number)
    assert mail.deliveries.is_done == (not is_kept)
    mail.at(QUIET_S - 1)
    assert [title for _, _, title in mail.sent] == ["first", "t"]
    mail.at(QUIET_S)
    last = ["later 8"] if is_kept else []
    assert [title for _, _, title in mail.sent] == ["first", "t", *last]
    assert mail.deliveries.is_done


def test_what_was_sent_before_this_watcher_counts() -> None:
    mail = Mail(NTFY, quiet_until={"failure": 120.0})
    assert not mail.deliveries.add(message("failure"), 0.0)
    assert mail.deliveries.step(119.0) == []
    assert mail.deliveries.step(120.0) == ["failure"]


def test_in_a_hurry_everything_is_tried_once() -> None:
    mail = Mail(NTFY)
    mail.failing[NTFY] = "it is broken"
    mail.deliveries.add(message("stall"), 0.0)
    mail.at(0.0).deliveries.hurry()
    assert mail.at(1.0).deliveries.is_done
    mail.deliveries.add(message("end"), 2.0)
    assert mail.at(2.0).deliveries.is_tried
    assert mail.at(3.0).deliveries.is_done
    assert [when for when, _, _ in mail.sent] == [0.0, 2.0]
