"""Other hosts: runs followed and steered over a line, hosts that hang, die or lie, and a real sshd on the loopback."""

import json
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import msgspec
import psutil
import pytest
from msgspec.structs import replace

from engine.journal import commands
from engine.journal import events as ev
from engine.journal.jsonl import command_reader
from engine.journal.state import fold
from tests import hosts
from tests.hosts import followed, line_to, plain_host, script_host, wait_until
from tests.ui.sample_run import SampleRun, training
from tui.data.follower import RunOpened, RunProgressed
from tui.display import HostEntry
from tui.hosts import wire
from tui.hosts.connection import Connection
from tui.hosts.listing import Hosts
from tui.hosts.remote_run import LineChanged, RemoteRun
from tui.hosts.ssh import Host, ssh_host

Call = Callable[..., subprocess.CompletedProcess[str]]
SOON = (0.05, 0.2)


def child_of(connection: Connection) -> psutil.Process:
    """Return the process that speaks for a host."""
    wanted = list(connection.host.arguments)
    return next(each for each in psutil.Process().children() if each.cmdline() == wanted)


def test_a_run_of_another_host_is_followed_and_steered_and_a_drop_loses_nothing(tmp_path: Path) -> None:
    with (
        training(tmp_path) as run,
        line_to(plain_host("gpu1", tmp_path), pauses=(1.0, 1.0)) as line,  # a shorter drop is over before it is told
        followed(line, "latest") as posted,
    ):
        opened = wait_until(lambda: posted and posted[0], "the history")
        assert isinstance(opened, RunOpened)
        state = opened.state
        run.train_epoch(9)
        wait_until(lambda: sum(len(each.events) for each in posted[1:]) > 1, "its events")
        child_of(line).kill()
        run.write(ev.Alerted(severity="notice", kind="test", text="while the line was away"))
        wait_until(lambda: isinstance(posted[-1], RunProgressed) and "Alerted" in str(posted[-1].events), "the rest")
        lines = [each.problem for each in posted if isinstance(each, LineChanged)]
        assert lines[0].startswith("gpu1: its relay ended")
        assert lines[-1] == ""
        for each in posted:
            fold(each.events if isinstance(each, RunProgressed) else [], state)
        whole = run.folder.read_state()
        assert (state.epochs, state.alerts, state.global_step) == (whole.epochs, whole.alerts, whole.global_step)
        assert [each for each in posted if isinstance(each, RunOpened)] == [opened]

        told: list[str] = []
        RemoteRun(line, run.folder.id).send(commands.Pause(id="0a0b0c0d"), told.append, told.append)
        wait_until(lambda: command_reader(run.folder.commands).read(), "the command")
        assert told == []


DIES = """
import os, sys
from pathlib import Path
from engine.runs.notify_settings import NOBODY
from tui.hosts import wire
from tui.hosts.relay import Relay
out = os.dup(1)
relay = Relay(Path(sys.argv[1]), None, lambda: NOBODY, lambda line: os.write(out, line))
relay.greet()
for line in sys.stdin.buffer:
    if b"SendCommand" in line:
        if sys.argv[2] == "after":
            relay._write = lambda line: None
            relay.take(line)
        os._exit(1)
    relay.take(line)
"""
ONCE = """
import os, sys
flag = sys.argv[1]
if os.path.exists(flag):
    os.execv(sys.executable, [sys.executable, *sys.argv[5:]])
open(flag, "w").close()
os.execv(sys.executable, [sys.executable, "-c", sys.argv[4], sys.argv[2], sys.argv[3]])
"""


@pytest.mark.parametrize("when", ["before", "after"])
def test_of_a_command_under_way_when_the_line_drops_it_is_said_whether_it_arrived(tmp_path: Path, when: str) -> None:
    runs_dir = tmp_path / "runs"
    arguments = (str(tmp_path / "flag"), str(runs_dir), when, DIES, *hosts.relay_command(runs_dir)[1:])
    with training(runs_dir) as run, line_to(script_host("gpu1", ONCE, *arguments)) as line:
        failed: list[str] = []
        told: list[str] = []
        RemoteRun(line, run.folder.id).send(commands.Stop(id="11223344"), failed.append, told.append)
        wait_until(lambda: told, "the drop")
        assert "It is asked whether it arrived." in told[0]
        if when == "before":
            wait_until(lambda: failed, "that it did not arrive")
            assert failed == ["it did not reach gpu1 before the line dropped; press the key again"]
            assert not run.folder.commands.exists()
        else:
            answer = line.answer_to(
                lambda number: wire.SendCommand(id=number, run=run.folder.id, command=commands.Stop(id="11223344")),
                wire.CommandGiven,
            )
            assert answer.is_written
            assert [each.id for each in command_reader(run.folder.commands).read()] == ["11223344"]
            assert failed == []


def test_of_three_hosts_one_hangs_and_one_dies_and_the_third_is_told_of_as_before(tmp_path: Path) -> None:
    with training(tmp_path / "a", name="basenet-aaaa") as run, training(tmp_path / "b"), training(tmp_path / "c"):

        def connect(host: Host, changed: Callable[[Connection], object]) -> Connection:
            return Connection(host, changed, pauses=SOON, silent_s=3.0)

        others = Hosts([plain_host(name, tmp_path / name) for name in "abc"], connect=connect)
        try:
            others.watch("test", lambda _: None)
            wait_until(lambda: all(each.runs for each in others.listings()), "the runs of all")
            children = {name: child_of(line) for name, line in others.connections.items()}
            children["b"].send_signal(signal.SIGSTOP)
            children["c"].kill()
            heard = {"b": "", "c": ""}

            def told() -> bool:
                for each in others.listings():
                    if each.name in heard:
                        heard[each.name] = heard[each.name] or each.line.problem
                return all(heard.values())

            run.train_epoch(9)
            wait_until(told, "why two are away")
            assert heard["b"].startswith("b: it has not answered for ")
            assert heard["c"].startswith("c: its relay ended")
            wait_until(lambda: next(iter(others.listings()[0].runs.values())).epoch == 9, "what is new of the third")
            wait_until(lambda: all(each.line.is_up and each.runs for each in others.listings()), "all of them again")
            assert {row.id.partition(":")[0] for row in others.listings()[0].shown()} == {"a"}
        finally:
            others.close()


HELLO = '{"type":"Hello","protocol":1,"version":"9","host":"x"}'


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("while True: print('x' * 1000)", "it printed much and no greeting of a relay"),
        ("while True: print('x', end='')", "it printed much and no greeting of a relay"),
        (f"print({HELLO.replace('1,', '7,')!r})", "its cifartui 9 speaks form 7 of the lines, this one form 1"),
        (f"print({HELLO!r}); print('rm -rf')", "it sent a line that is no answer"),
        (f"print({HELLO!r}); print({HELLO!r})", "its relay ended"),
        (f"print({HELLO!r}); print('x' * 9_000_000)", "it sent a line of more than can be shown"),
        (
            f"import zlib, base64; print({HELLO!r}); c = zlib.compressobj(); "
            "d = c.compress(b' ' * 90_000_000) + c.flush(zlib.Z_SYNC_FLUSH); "
            "print('{\"type\":\"Packed\",\"data\":\"' + base64.b64encode(d).decode() + '\"}')",
            "it sent an answer of more than can be shown",
        ),
        (
            f"import sys; print({HELLO!r}, flush=True); sys.stdin.readline(); "
            "print('{\"type\":\"History\",\"id\":2,\"run\":\"r\",\"info\":{},\"state\":{},\"offset\":1}')",
            "it sent a run that is none",
        ),
        (
            f"import sys; print({HELLO!r}, flush=True); sys.stdin.readline()\n"
            "while True: print('{\"type\":\"Pong\",\"id\":2}' + ' ' * 9000)",
            "it sent more than can be shown",
        ),
        (
            f"import sys; print({HELLO!r}, flush=True); sys.stdin.readline()\n"
            "event = '{\"type\":\"Paused\",\"global_step\":1}'\n"
            "line = '{\"type\":\"Progress\",\"id\":2,\"offset\":1,\"events\":[' + ','.join([event] * 9000) + ']}'\n"
            "while True: print(line)",
            "it sent more ",
        ),
        ("import sys; sys.exit('sh: 1: cifartui: command not found')", "there is no cifartui where its shell looks"),
        ("import sys; print('\\x1b[2Jlost', file=sys.stderr); sys.exit(3)", "its relay ended (\\x1b[2Jlost)"),
    ],
)  # fmt: skip
def test_a_host_that_lies_is_a_sentence(code: str, said: str) -> None:
    with line_to(script_host("gpu1", code), pauses=(30.0, 30.0)) as line, followed(line, "latest") as posted:
        wait_until(lambda: line.state.problem, "the sentence")
        assert said in line.state.problem
        assert line.state.problem.startswith("gpu1: ")
        assert line.state.problem.endswith((".", "?"))
        assert not any(isinstance(each, RunOpened) for each in posted)


def test_what_a_hosts_shell_prints_before_the_greeting_is_passed_over(tmp_path: Path) -> None:
    with training(tmp_path):
        banner = "print('Welcome to gpu1!\\n' * 50, flush=True); import os, sys; os.execv(sys.argv[1], sys.argv[1:])"
        host = script_host("gpu1", banner, *hosts.relay_command(tmp_path))
        with line_to(host) as line, followed(line, "latest") as posted:
            assert isinstance(wait_until(lambda: posted and posted[0], "the history"), RunOpened)


def test_seven_hundred_epochs_are_there_in_three_seconds_of_a_megabit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with SampleRun(tmp_path).live().begin(device="cuda:0").prepare() as run:
        lines: list[bytes] = []

        def write(event: ev.AnyEvent, after_s: float = 0.0) -> None:
            run.now += after_s
            lines.append(msgspec.json.encode(replace(event, seq=100 + len(lines), time=run.now)))

        monkeypatch.setattr(run, "write", write)
        for epoch in range(1, 701):
            run.train_epoch(epoch, gpu=True)
        with run.folder.events.open("ab") as journal:
            journal.write(b"\n".join([*lines, b""]))
        with line_to(plain_host("gpu1", tmp_path)) as line:
            wait_until(lambda: line.state.is_up, "the greeting")
            before = line.num_received
            with followed(line, "latest") as posted:
                wait_until(lambda: posted, "the history")
            assert len(posted[0].state.epochs) == 700
            round_trips_s, bytes_a_second = 0.2, 1e6 / 8
            assert round_trips_s + (line.num_received - before) / bytes_a_second < 2.5


def test_a_relay_ends_with_its_input_and_asks_no_terminal(tmp_path: Path, cifartui: Call) -> None:
    ended = subprocess.run(hosts.relay_command(tmp_path), stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
    assert ended.returncode == 0
    assert json.loads(ended.stdout)["type"] == "Hello"


def test_where_there_is_no_ssh_that_is_said(tmp_path: Path) -> None:
    with line_to(Host("gpu1", (str(tmp_path / "ssh"), "gpu1"))) as line:
        wait_until(lambda: line.state.problem, "the sentence")
        assert "there is no program" in line.state.problem


# --- the command line, by a pretended ssh -----------------------------------------------------------


@pytest.fixture
def elsewhere(tmp_path: Path) -> str:
    """A PATH whose ssh reaches gpu1 and gpu2, with runs in tmp_path/far, and no other host."""
    return hosts.pretended_ssh(tmp_path / "bin", tmp_path / "far")


def test_runs_of_all_hosts_are_listed_and_one_that_is_away_is_a_row(
    tmp_path: Path, elsewhere: str, new_cifartui: Call, runs_dir: Path
) -> None:
    with training(tmp_path / "far/gpu1", name="basenet-aaaa") as run, SampleRun(runs_dir, "basenet-bbbb") as here:
        here.begin().prepare().finish()
        listed = new_cifartui("runs", "--hosts", "gpu1,nowhere", PATH=elsewhere)
        assert "HOST" in listed.stdout.splitlines()[0].split()
        (row,) = [line for line in listed.stdout.splitlines() if "basenet-aaaa" in line]
        assert row.split()[:3] == [f"gpu1:{run.folder.id}", "gpu1", "stalled"]
        (away,) = [line for line in listed.stdout.splitlines() if line.startswith("nowhere")]
        assert "there is no host of that name" in away
        found = json.loads(new_cifartui("runs", "--hosts", "gpu1", "--json", PATH=elsewhere).stdout)
        assert {each["id"] for each in found} == {f"gpu1:{run.folder.id}", here.folder.id}


def test_a_run_of_another_host_is_shown_and_steered(tmp_path: Path, elsewhere: str, new_cifartui: Call) -> None:
    with training(tmp_path / "far/gpu1", name="basenet-aaaa") as run:
        page = new_cifartui("show", "gpu1:aaaa", PATH=elsewhere)
        assert "BaseNet" in page.stdout, page.stderr
        assert (
            json.loads(new_cifartui("show", "gpu1:latest", "--json", PATH=elsewhere).stdout)["step"]
            == run.folder.read_state().step
        )
        refused = new_cifartui("stop", "gpu1:zzzz", PATH=elsewhere)
        assert (refused.returncode, "gpu1: No run is called zzzz" in refused.stderr) == (2, True)

        def obey() -> None:
            (command,) = wait_until(lambda: command_reader(run.folder.commands).read(), "the command")
            run.write(
                ev.CommandApplied(
                    command_id=command.id, command="ScaleLearningRate", accepted=True, effect="lr 0.0025", epoch=9,
                    global_step=12_000,
                )
            )  # fmt: skip

        worker = threading.Thread(target=obey)
        worker.start()
        assert new_cifartui("lr", "gpu1:aaaa", "0.5", PATH=elsewhere).stdout == "step 12,000: lr 0.0025\n"
        worker.join()
        (command,) = command_reader(run.folder.commands).read()
        assert command == commands.ScaleLearningRate(id=command.id, time=command.time, factor=0.5)


def test_machines_and_queues_of_other_hosts_are_told_and_what_a_start_lacks(
    tmp_path: Path, elsewhere: str, new_cifartui: Call
) -> None:
    assert "\ngpu2\n" in new_cifartui("gpus", "--hosts", "gpu2", PATH=elsewhere).stdout
    assert "gpu2\nThe queue is empty." in new_cifartui("queue", "--hosts", "gpu2", PATH=elsewhere).stdout
    lacking = new_cifartui("train", "basenet", "--host", "gpu2", "--set", "data.path=/no/such", PATH=elsewhere)
    assert (lacking.returncode, "/no/such" in lacking.stderr) == (2, True)
    data = new_cifartui("train", "basenet", "--host", "gpu2", "--data", "x", PATH=elsewhere)
    assert "--set data.path=PATH" in data.stderr
    odd = new_cifartui("runs", "--hosts", "-oProxyCommand=touch x", PATH=elsewhere)
    assert (odd.returncode, "is no name of a host" in odd.stderr) == (2, True)


# --- a real sshd --------------------------------------------------------------------------------------


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[hosts.Sshd]:
    if hosts.SSHD is None:
        pytest.skip("needs sshd: apt install openssh-server")
    server = hosts.Sshd(tmp_path / "sshd")
    try:
        wait_until(lambda: server.answers() or server.process.poll() is not None, "sshd")
        if server.process.poll() is not None:
            pytest.skip(f"sshd cannot be started here: {(server.folder / 'log').read_text()[-300:]}")
        yield server
    finally:
        server.close()


def _there(runs_dir: Path) -> HostEntry:
    command = " ".join(hosts.relay_command(runs_dir)[:-3])
    return HostEntry(command=command, runs_dir=str(runs_dir))


def test_over_a_real_sshd_three_hosts_are_followed_one_frozen_and_one_killed(
    tmp_path: Path, sshd: hosts.Sshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", sshd.path(tmp_path))
    names = ("gpu1", "gpu2", "gpu3")
    with training(tmp_path / "gpu1") as run, training(tmp_path / "gpu2"), training(tmp_path / "gpu3"):

        def connect(host: Host, changed: Callable[[Connection], object]) -> Connection:
            return Connection(host, changed, pauses=SOON, silent_s=5.0)

        relays: dict[str, psutil.Process] = {}
        others = Hosts([ssh_host(name, _there(tmp_path / name)) for name in names], connect=connect)
        try:
            others.watch("test", lambda _: None)
            wait_until(lambda: all(each.runs for each in others.listings()), "the runs of all")
            relays |= {
                name: next(
                    each for each in psutil.process_iter(["cmdline"])
                    if "relay" in (each.info["cmdline"] or []) and str(tmp_path / name) in each.info["cmdline"]
                )
                for name in names
            }  # fmt: skip
            relays["gpu2"].suspend()
            relays["gpu3"].kill()
            heard = dict.fromkeys(names[1:], "")

            def told() -> bool:
                for each in others.listings()[1:]:
                    heard[each.name] = heard[each.name] or each.line.problem
                return all(heard.values())

            wait_until(told, "why two are away")
            assert heard["gpu2"].startswith("gpu2: it has not answered for ")
            assert heard["gpu3"] == "gpu3: the line dropped."
            with followed(others.connections["gpu1"], run.folder.id) as posted:
                wait_until(lambda: posted, "the history")
                run.train_epoch(9)
                wait_until(lambda: "EpochCompleted" in str([getattr(each, "events", "") for each in posted]), "news")
            wait_until(lambda: all(each.line.is_up and each.runs for each in others.listings()), "all of them again")
        finally:
            for relay in relays:
                with suppress(psutil.NoSuchProcess):
                    relays[relay].kill()
            others.close()


def test_a_host_whose_key_is_not_known_or_that_refuses_ours_is_a_sentence(
    tmp_path: Path, sshd: hosts.Sshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", sshd.path(tmp_path))
    sshd.knows_host(known=False)
    with line_to(ssh_host("gpu1", _there(tmp_path))) as line:
        wait_until(lambda: line.state.problem, "the sentence")
        assert "its key is not known here; connect once by hand: ssh gpu1" in line.state.problem
    sshd.knows_host(known=True)
    (sshd.folder / "authorized").write_text("")
    with line_to(ssh_host("gpu1", _there(tmp_path))) as line:
        wait_until(lambda: line.state.problem, "the sentence")
        assert "it refused the key (no password is asked here)" in line.state.problem
    sshd.close()
    with line_to(ssh_host("gpu1", _there(tmp_path))) as line:
        wait_until(lambda: line.state.problem, "the sentence")
        assert "it refused the connection" in line.state.problem
