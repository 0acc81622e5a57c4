"""Lines between a dashboard and the relay on another host: asks and answers as typed Structs. No processes.

Each line is a JSON object. An ask steers, so nothing unknown is taken in one; an answer is shown, so what this version
does not know in it is passed over. A long answer travels packed: all packed answers of a connection are one deflate
stream. docs/hosts.md describes the form; a change that an older side would misunderstand raises PROTOCOL.
"""

import zlib
from collections.abc import Iterator
from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta, Raw, Struct

from engine.files import DAMAGED
from engine.journal.commands import AnyCommand
from engine.journal.events import Count
from engine.journal.jsonl import well_formed
from engine.runs.run_options import SEED_BELOW
from engine.shared.device_names import MOST_DEVICES
from presets.errors import CifartuiError

PROTOCOL = 1
LONGEST_ASK_BYTES = 1 << 16
LONGEST_ANSWER_BYTES = 1 << 22
"""Of a line; what is packed in it may unpack to `MOST_UNPACKED_BYTES`."""
MOST_UNPACKED_BYTES = 1 << 24
_WORTH_PACKING_BYTES = 200

Name: TypeAlias = Annotated[str, Meta(min_length=1, max_length=300)]
AskId: TypeAlias = Annotated[int, Meta(ge=1, le=2**53)]


# --- asks -----------------------------------------------------------------------------------------


class Ask(Struct, frozen=True, kw_only=True, tag_field="type", forbid_unknown_fields=True, omit_defaults=True):
    """One ask; its answers bear the same number."""

    id: AskId


class Ping(Ask, frozen=True, kw_only=True, tag=True):
    """Say that you are there. A relay that hears nothing for a minute ends."""


class ListRuns(Ask, frozen=True, kw_only=True, tag=True):
    """Send the newest runs, then what changes in them, until Leave."""

    limit: Annotated[int, Meta(ge=1, le=5000)] = 50


class FollowRun(Ask, frozen=True, kw_only=True, tag=True):
    """Send the history of a run, then its events, until Leave; from `since` on without the history."""

    run: Name
    since: Count = 0
    """The byte of its journal up to which the events are there already; 0 for none."""


class SendCommand(Ask, frozen=True, kw_only=True, tag=True):
    """Give a command to a run, unless it was given one of the same id before."""

    run: Name
    command: AnyCommand
    look_only: bool = False
    """Give nothing, only say what became of it."""


class ReadMachine(Ask, frozen=True, kw_only=True, tag=True):
    """Read the GPUs and the queue, once, or until Leave whenever they have changed."""

    goes_on: bool = False


class ShowRun(Ask, frozen=True, kw_only=True, tag=True):
    """Read all that is known of a run, as `cifartui show` does."""

    run: Name
    most_steps: Annotated[int, Meta(ge=10, le=10_000)] = 2000


class ListPresets(Ask, frozen=True, kw_only=True, tag=True):
    """Name the presets of that host."""


class StartPreset(Ask, frozen=True, kw_only=True, tag=True):
    """Start a preset of that host, or put it into its queue."""

    preset: Name
    overrides: tuple[Annotated[str, Meta(max_length=10_000)], ...] = ()
    seed: Annotated[int, Meta(ge=0, lt=SEED_BELOW)] = 0
    seeds: Annotated[tuple[Annotated[int, Meta(ge=0, lt=SEED_BELOW)], ...], Meta(max_length=100)] = ()
    device: Name = "auto"
    devices: Annotated[int, Meta(ge=1, le=MOST_DEVICES)] = 1
    queued: bool = False


class ResumeRun(Ask, frozen=True, kw_only=True, tag=True):
    """Give a run without a worker one, which goes on from its last checkpoint."""

    run: Name
    changes: tuple[Annotated[str, Meta(max_length=10_000)], ...] = ()


class Leave(Ask, frozen=True, kw_only=True, tag=True):
    """End the answers to an earlier ListRuns, FollowRun or SendCommand."""

    left: AskId


AnyAsk: TypeAlias = (
    Ping | ListRuns | FollowRun | ShowRun | SendCommand | ReadMachine | ListPresets | StartPreset | ResumeRun | Leave
)


# --- answers --------------------------------------------------------------------------------------


class Answer(Struct, frozen=True, kw_only=True, tag_field="type", omit_defaults=True):
    """One answer; `id` is that of its ask, 0 if it has none."""

    id: Count = 0


class Hello(Answer, frozen=True, kw_only=True, tag=True):
    """First line of a relay."""

    protocol: int
    version: str
    host: str
    """Name that the machine gives itself."""


class Pong(Answer, frozen=True, kw_only=True, tag=True):
    """It is there."""


class Refused(Answer, frozen=True, kw_only=True, tag=True):
    """Nothing was done, or nothing more follows, and why: a sentence."""

    problem: str


class RunsChanged(Answer, frozen=True, kw_only=True, tag=True):
    """Runs whose summary is new or changed, those that are gone, and how many there are in all."""

    runs: tuple[Raw, ...] = ()
    """A `tui.data.summary.Summary` each; one that cannot be read is passed over."""
    gone: tuple[str, ...] = ()
    damaged: tuple[Raw, ...] = ()
    """A Damaged each: all of them."""
    num_all: Count = 0
    num_unread: Count = 0
    """Runs that are to be listed and were not sent yet."""
    problem: str = ""


class History(Answer, frozen=True, kw_only=True, tag=True):
    """A run so far: its settings, and the state that its journal adds up to."""

    run: Name
    info: Raw
    """The content of run.json, or of amended.json."""
    state: Raw
    """Of `tui.hosts.history`."""
    offset: Count
    """The byte of its journal up to which it was read."""
    lives: bool | None = None
    log_tail: tuple[str, ...] = ()


class Progress(Answer, frozen=True, kw_only=True, tag=True):
    """News of a run: its rare events, the frequent ones thinned."""

    events: tuple[Raw, ...] = ()
    offset: Count
    lives: bool | None = None
    log_tail: tuple[str, ...] = ()
    info: Raw | None = None
    """If a resume has changed it."""


class RunPage(Answer, frozen=True, kw_only=True, tag=True):
    """All that is known of a run."""

    detail: Raw
    """A `tui.data.run_detail.RunDetail`."""
    state: Raw
    """Of `tui.hosts.history`: the curves to draw."""


class CommandGiven(Answer, frozen=True, kw_only=True, tag=True):
    """All that is known of a command now; an answer that it was obeyed follows that it was written."""

    command_id: str
    is_written: bool
    """False: it never arrived."""
    is_answered: bool = False
    is_accepted: bool = False
    effect: str = ""
    global_step: Count = 0


class MachineState(Answer, frozen=True, kw_only=True, tag=True):
    """The GPUs and the queue."""

    gpus: Raw
    """A `tui.data.environment.GpuReadings`."""
    queue: tuple[Raw, ...] = ()
    """A `tui.text.queue_text.Row` each."""
    queue_problem: str = ""
    runner: str = ""
    """The process that works the queue off, in words."""
    is_worked_on: bool = True
    visible: str | None = None
    """CUDA_VISIBLE_DEVICES."""


class PresetNames(Answer, frozen=True, kw_only=True, tag=True):
    """Presets by name."""

    names: tuple[str, ...]


class Started(Answer, frozen=True, kw_only=True, tag=True):
    """A run was started or resumed, or presets were queued (`run` is empty then)."""

    run: str = ""
    title: str = ""
    num_queued: Count = 0


class Packed(Struct, frozen=True, kw_only=True, tag_field="type", tag=True):
    """The next part of the connection's deflate stream: one answer."""

    data: bytes


AnyAnswer: TypeAlias = (
    Hello
    | Pong
    | Refused
    | RunsChanged
    | History
    | Progress
    | RunPage
    | CommandGiven
    | MachineState
    | PresetNames
    | Started
)

_ASKS = msgspec.json.Decoder(AnyAsk)  # type: ignore[type-var, unused-ignore]
_ANSWERS = msgspec.json.Decoder(AnyAnswer | Packed)
_HELLO = msgspec.json.Decoder(Hello)
_INNER = msgspec.json.Decoder(AnyAnswer)


class _Numbered(Struct, frozen=True):
    id: AskId = 0


def decode_ask(line: bytes) -> AnyAsk:
    """Return the ask in a line.

    Raises:
        msgspec.MsgspecError, UnicodeDecodeError, RecursionError: it is none that this version knows.
    """
    return _ASKS.decode(line)


def id_in(line: bytes) -> int:
    """Return the number of an ask that cannot be decoded; 0 if it has none."""
    try:
        return msgspec.json.decode(line, type=_Numbered).id
    except DAMAGED:
        return 0


def encode_ask(ask: AnyAsk) -> bytes:
    """Return an ask as a line.

    Raises:
        CifartuiError: it is too long for any relay, or not UTF-8.
    """
    try:
        line = msgspec.json.encode(ask) + b"\n"
    except UnicodeEncodeError:
        raise CifartuiError("A name or a value holds characters that are not UTF-8; rename that file.") from None
    if len(line) > LONGEST_ASK_BYTES:
        raise CifartuiError(f"What is sent to another host is at most {LONGEST_ASK_BYTES // 1024} kB; give less.")
    return line


def encoded(value: object) -> bytes:
    """Return a value as JSON; a file name in it that is not UTF-8 is made printable."""
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        return msgspec.json.encode(well_formed(msgspec.to_builtins(value)))


class Packer:
    """Writer of answers as lines, the long ones packed."""

    def __init__(self) -> None:
        self._stream = zlib.compressobj(9)

    def line(self, answer: AnyAnswer) -> bytes:
        """Return an answer as a line."""
        content = encoded(answer)
        if len(content) >= _WORTH_PACKING_BYTES:
            packed = self._stream.compress(content) + self._stream.flush(zlib.Z_SYNC_FLUSH)
            content = msgspec.json.encode(Packed(data=packed))
        return content + b"\n"


def hello_in(line: bytes) -> Hello | None:
    """Return the greeting of a relay; None for what a host's shell prints before it."""
    try:
        return _HELLO.decode(line)
    except DAMAGED:
        return None


class HostileError(Exception):
    """Lines came that no relay sends; the text is a clause."""


class Unpacker:
    """Reader of the lines that a `Packer` wrote, whoever sent them."""

    def __init__(self) -> None:
        self._stream = zlib.decompressobj()
        self.num_unpacked = 0
        """Bytes of all answers so far."""

    def answer(self, line: bytes) -> AnyAnswer:
        """Return the answer in a line.

        Raises:
            HostileError: it is none.
        """
        try:
            self.num_unpacked += len(line)
            answer: AnyAnswer | Packed = _ANSWERS.decode(line)
            if not isinstance(answer, Packed):
                return answer
            content = self._stream.decompress(answer.data, MOST_UNPACKED_BYTES)
            self.num_unpacked += len(content)
            if self._stream.unconsumed_tail:
                raise HostileError("an answer of more than can be shown")
            inner: AnyAnswer = _INNER.decode(content)
            return inner
        except (zlib.error, *DAMAGED):
            raise HostileError("a line that is no answer") from None


class Lines:
    """Splitter of received bytes into lines of bounded length."""

    def __init__(self, longest_bytes: int) -> None:
        self._longest, self._rest = longest_bytes, bytearray()
        self._is_too_long = False

    def feed(self, received: bytes) -> Iterator[bytes | None]:
        """Yield the lines that are whole now; None for one that was too long, whose bytes are dropped."""
        self._rest += received
        *whole, rest = self._rest.split(b"\n")
        self._rest = rest
        for line in whole:
            too_long, self._is_too_long = self._is_too_long or len(line) > self._longest, False
            yield None if too_long else bytes(line)
        if len(self._rest) > self._longest:
            self._is_too_long = True
            self._rest.clear()
