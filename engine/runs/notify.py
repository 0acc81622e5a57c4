"""Process that tells one target of one message: `python -m engine.runs.notify`, given both as JSON. No torch.

It is a process of its own, so that nobody waits for a server that hangs: it ends itself after half a minute.
`python -m engine.runs.notify COMMAND` runs a command through the shell.
"""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from engine.runs.messages import Message
from engine.runs.notify_settings import Target
from engine.shared import child_process
from presets.problems import printable

if TYPE_CHECKING:
    from urllib.request import Request

_PATIENCE_S = 30.0
_OF_ONE_ANSWER_S = 10.0
_MOST_BYTES = 1 << 14
"""Of an answer that is read."""
_PRIORITIES = {"end": 3, "plateau": 3, "test": 3}
"""Of ntfy: 3 is usual, 4 makes a telephone ring longer; all others are 4."""
_TAGS = {"end": "checkered_flag", "plateau": "chart_with_downwards_trend", "test": "bell"}
"""Signs that ntfy shows before a title; all others are a warning."""
_TYPES = {"end": "success", "plateau": "info", "test": "info", "stall": "warning"}
"""Colours and signs of Apprise; all others are a failure."""


class _Order(Struct, frozen=True):
    """Input of the process."""

    target: Target
    message: Message


class Sending:
    """A message on its way to a target, in a process of its own."""

    def __init__(self, target: Target, message: Message) -> None:
        """Start the process.

        Raises:
            OSError: it cannot be started.
        """
        self._process = child_process.start(
            "engine.runs.notify",
            stdin=subprocess.PIPE,  # no argument: it may hold a token, and arguments are public
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert self._process.stdin is not None
        with suppress(OSError), self._process.stdin as pipe:
            pipe.write(msgspec.json.encode(_Order(target, message)))

    def result(self, *, wait: bool = False) -> str | None:
        """Return why the target could not be told, empty if it was, None while that is not known."""
        code = self._process.wait() if wait else self._process.poll()
        if code is None:
            return None
        assert self._process.stdout is not None
        with self._process.stdout as pipe:
            said = pipe.read().decode("utf-8", "replace").strip()
        if code == -signal.SIGALRM:
            return f"no answer within {_PATIENCE_S:g} s"
        return "" if code == 0 else said or f"its process ended with {code}"


def run(command: str, patience_s: float = _PATIENCE_S) -> int:
    """Run a command through the shell and return its exit code; end it, and what it started, when it takes too long."""
    reason, code = _run(command, patience_s)
    if reason:
        print(f"The notify command {reason}: {command}", flush=True)
    return code


def _run(command: str, patience_s: float = _PATIENCE_S, output: int | None = None) -> tuple[str, int]:
    """Run a command, its output to the descriptor `output`; return what is wrong, or nothing, and its exit code."""
    process = child_process.start_shell(command, stdin=subprocess.DEVNULL, stdout=output, start_new_session=True)
    try:
        code = process.wait(patience_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return f"took longer than {patience_s:g} s and was ended", process.wait()
    return f"failed with exit code {code}" if code else "", code


def _tell(target: Target, message: Message) -> str:
    """Tell a target; return why it could not be told, or nothing."""
    if target.by == "command":
        about = {"KIND": message.kind, "SUBJECT": message.title, "TEXT": message.text, "VALUE": message.value}
        about |= {"HOST": message.host, **message.variables}
        os.environ.update({f"CIFARTUI_{name}": text for name, text in about.items()})
        return _run(target.address, output=sys.stderr.fileno())[0]
    signal.alarm(int(_PATIENCE_S))  # a server may send a byte now and then, for hours
    return _tell_ntfy(target.address, message) if target.by == "ntfy" else _tell_apprise(target.address, message)


def _tell_ntfy(url: str, message: Message) -> str:
    """Publish a message as JSON, where no text gets into a header."""
    from http.client import HTTPException
    from urllib.error import HTTPError, URLError
    from urllib.request import HTTPRedirectHandler, build_opener

    class Redirects(HTTPRedirectHandler):
        """Refusal of redirects: followed, a message would be asked for instead of sent."""

        def redirect_request(self, *_arguments: object, **_options: object) -> None:
            return None

    request = _ntfy_request(url, message)
    try:
        with build_opener(Redirects).open(request, timeout=_OF_ONE_ANSWER_S) as answer:
            said = _answer(answer.read(_MOST_BYTES))
    except HTTPError as error:
        with error:
            why = _answer(error.read(_MOST_BYTES)).error
        moved = f"it has moved to {error.headers['Location']}" if "Location" in error.headers else ""
        return f"{request.host} answers {error.code} ({printable(moved or why or str(error.reason))})"
    except (OSError, HTTPException) as error:
        reason = error.reason if isinstance(error, URLError) else error
        return f"{request.host} cannot be asked ({printable(str(reason) or type(reason).__name__)})"
    return "" if said.id else f"{request.host} does not answer as ntfy does"


class _Answer(Struct, frozen=True):
    """Answer of an ntfy server: the id of what was published, or why nothing was."""

    id: str = ""
    error: str = ""


def _answer(content: bytes) -> _Answer:
    try:
        return msgspec.json.decode(content, type=_Answer)
    except (msgspec.MsgspecError, UnicodeError):
        return _Answer()


def _ntfy_request(url: str, message: Message) -> "Request":
    from base64 import b64encode
    from urllib.parse import unquote, urlsplit
    from urllib.request import Request

    parts = urlsplit(url)
    folder, _, topic = parts.path.rpartition("/")
    content = {
        "topic": topic,
        "title": message.title,
        "message": message.body,
        "priority": _PRIORITIES.get(message.kind, 4),
        "tags": [_TAGS.get(message.kind, "warning")],
    }
    user, at, host = parts.netloc.rpartition("@")
    headers = {"Content-Type": "application/json"}
    if at:
        name, _, password = user.partition(":")
        pair = f"{unquote(name)}:{unquote(password)}".encode()
        headers["Authorization"] = f"Basic {b64encode(pair).decode()}"
    return Request(f"{parts.scheme}://{host}{folder}/", msgspec.json.encode(content), headers, method="POST")


def _tell_apprise(url: str, message: Message) -> str:
    """Send a message through Apprise, which says in its log why it could not."""
    import logging

    try:
        import apprise
    except ImportError:
        return "Apprise is not installed: pip install 'cifartui[notify]'"
    said: list[str] = []

    class Log(logging.Handler):
        """Log of Apprise, kept."""

        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())

    log = logging.getLogger("apprise")
    log.addHandler(Log(logging.WARNING))
    log.propagate = False
    service = apprise.Apprise()
    if not service.add(url):
        return "Apprise does not know such a URL; its documentation lists them"
    is_told = service.notify(
        body=message.body,
        title=message.title,
        notify_type=_TYPES.get(message.kind, "failure"),
        body_format=apprise.NotifyFormat.TEXT,
    )
    return "" if is_told else printable(said[0] if said else "Apprise does not say why")


def main() -> int:
    """Carry out the order on standard input, or run the command that is the argument; return the exit code."""
    if len(sys.argv) > 1:
        return run(sys.argv[1])
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=_Order)
    reason = _tell(order.target, order.message)
    with suppress(OSError):  # nobody wants to know any more
        os.write(sys.stdout.fileno(), reason.encode("utf-8", "replace"))
    return 1 if reason else 0


if __name__ == "__main__":
    sys.exit(main())
