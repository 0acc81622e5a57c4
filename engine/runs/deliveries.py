"""Deliveries of messages: to every target, again where one fails, and no two of a kind in ten minutes. No clock.

Moments are seconds of a clock that nobody sets. Sending is in processes of its own (`engine.runs.notify`).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from msgspec import Struct

from engine.runs.messages import Message
from engine.runs.notify_settings import Target

AGAIN_AFTER_S = (10.0, 60.0, 300.0, 900.0, 1800.0)
"""Pauses before a message is sent again; after the last it is given up, when 51 minutes are over."""
QUIET_S = 600.0
"""No two messages of a kind about a run are nearer to each other."""
_KEPT = ("end", "failure", "lost")
"""Kinds of which the last message is kept until it may be sent. Of the others one in ten minutes says enough."""


class OnTheWay(Protocol):
    """A message that is being sent."""

    def result(self) -> str | None:
        """Return why the target could not be told, empty if it was, None while that is not known."""


class _Delivery(Struct):
    """One message to one target."""

    target: Target
    message: Message
    due: float
    num_tried: int = 0
    on_the_way: OnTheWay | None = None


class Deliveries:
    """Messages that are being sent, or wait for it."""

    def __init__(
        self,
        targets: Sequence[Target],
        send: Callable[[Target, Message], OnTheWay],
        say: Callable[[str], None],
        quiet_until: Mapping[str, float],
    ) -> None:
        """Have nothing to send.

        Args:
            targets: who is told.
            send: begins to send a message; may raise OSError.
            say: told, in a sentence, of a target that fails: once.
            quiet_until: until when there is to be no further message of a kind.
        """
        self._targets, self._send, self._say = targets, send, say
        self._quiet_until = dict(quiet_until)
        self._kept: dict[str, Message] = {}
        self._deliveries: list[_Delivery] = []
        self._failed: set[Target] = set()
        self._is_hurried = False

    @property
    def is_done(self) -> bool:
        """True if nothing is left to send."""
        return not self._deliveries and not self._kept

    @property
    def is_sending(self) -> bool:
        """True while a process sends."""
        return any(each.on_the_way is not None for each in self._deliveries)

    @property
    def is_tried(self) -> bool:
        """True if each message was tried once, or waits for ten minutes to be over."""
        return all(each.num_tried and each.on_the_way is None for each in self._deliveries)

    def add(self, message: Message, now: float) -> bool:
        """Have a message sent, at once or when one of its kind may be; return whether it is sent at once."""
        if now < self._quiet_until.get(message.kind, now):
            if message.kind in _KEPT and not self._is_hurried:
                self._kept[message.kind] = message
            return False
        self._kept.pop(message.kind, None)
        self._quiet_until[message.kind] = now + QUIET_S
        self._deliveries += [_Delivery(target, message, now) for target in self._targets]
        return True

    def hurry(self) -> None:
        """Send nothing later: what is being sent now is the last."""
        self._is_hurried = True
        self._kept.clear()

    def step(self, now: float) -> list[str]:
        """Go on with all deliveries; return the kinds of kept messages whose time has come."""
        due = [message for kind, message in self._kept.items() if now >= self._quiet_until[kind]]
        sent = [message.kind for message in due if self.add(message, now)]
        self._deliveries = [each for each in self._deliveries if self._goes_on(each, now)]
        return [*sent]

    def _goes_on(self, delivery: _Delivery, now: float) -> bool:
        """Take a delivery one step further; return False once it is over."""
        if delivery.on_the_way is None:
            if self._is_hurried and delivery.num_tried:
                return False
            if now < delivery.due:
                return True
            delivery.num_tried += 1
            try:
                delivery.on_the_way = self._send(delivery.target, delivery.message)
            except OSError as error:
                return self._failed_once(delivery, error.strerror or str(error), now)
        why = delivery.on_the_way.result()
        if why is None:
            return True
        delivery.on_the_way = None
        return bool(why) and self._failed_once(delivery, why, now)

    def _failed_once(self, delivery: _Delivery, why: str, now: float) -> bool:
        """Say of a target, the first time, that it could not be told; return whether that is tried again."""
        target = delivery.target
        pauses = () if target.by == "command" else AGAIN_AFTER_S  # a command may have done half of what it does
        if target not in self._failed:
            self._failed.add(target)
            again = "; messages are tried again for 50 minutes" if pauses else ""
            self._say(f"{target.name} was not told of “{delivery.message.title}”: {why}{again}; this is said once.")
        if delivery.num_tried > len(pauses):
            return False
        delivery.due = now + pauses[delivery.num_tried - 1]
        return True
