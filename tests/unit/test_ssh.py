"""Command line of ssh for a host, the names that are refused, and sentences for its ends."""

from pathlib import Path

import pytest

from presets.errors import CifartuiError
from tui.config import read_config
from tui.display import HostEntry
from tui.hosts.connection import Connection
from tui.hosts.listing import Hosts
from tui.hosts.ssh import Host, chosen_hosts, ssh_host, why_ended


def test_ssh_is_asked_for_nothing_and_given_the_command_as_configured() -> None:
    entry = HostEntry(ssh="me@box.example.org", command="~/venv/bin/cifartui", runs_dir="~/my runs", data_dir="/d;ls")
    *options, end, destination, command = ssh_host("gpu1", entry).arguments
    assert {"-T", "-oBatchMode=yes", "-oClearAllForwardings=yes"} <= set(options)
    assert (end, destination) == ("--", "me@box.example.org")
    assert command == "~/venv/bin/cifartui relay --runs-dir ~/'my runs' --data-dir '/d;ls'"
    assert ssh_host("gpu1", HostEntry()).arguments[-2:] == ("gpu1", "cifartui relay")


@pytest.mark.parametrize(
    "name", ["-oProxyCommand=x", "", "a b", "a/b", "a:b", "x" * 101, "ä", "$(x)", "a\nb", "gpu1\n"]
)
def test_odd_names_of_hosts_are_refused(name: str) -> None:
    with pytest.raises(CifartuiError, match="is no name of a host"):
        ssh_host(name, HostEntry())


@pytest.mark.parametrize("destination", ["-oProxyCommand=x", "a b", "a;b", "a\n"])
def test_odd_destinations_are_refused(destination: str) -> None:
    with pytest.raises(CifartuiError, match=r"hosts\.gpu1\.ssh cannot be"):
        ssh_host("gpu1", HostEntry(ssh=destination))


def test_hosts_are_named_once_and_all_are_those_of_the_configuration() -> None:
    entries = {"gpu1": HostEntry(ssh="box"), "gpu2": HostEntry()}
    assert [host.name for host in chosen_hosts("all", entries)] == ["gpu1", "gpu2"]
    assert [host.arguments[-2] for host in chosen_hosts(" gpu1, gpu3,gpu1", entries)] == ["box", "gpu3"]
    with pytest.raises(CifartuiError, match="No host is named"):
        chosen_hosts("all", {})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[hosts.gpu1]\nssh = "-oProxyCommand=x"', "hosts.gpu1.ssh cannot be"),
        ("[hosts.'a b']", "is no name of a host"),
        ('[hosts.gpu1]\ncommand = " "', "hosts.gpu1.command is empty"),
        ('[hosts.gpu1]\ncomand = "x"', 'comand is not a key at the top of .hosts.gpu1.; did you mean "command"'),
        ("[hosts.gpu1]\nssh = 3", "ssh must be text in quotes, not 3"),
        ('hosts.gpu1 = "box"', r"hosts.gpu1 is not a table; write \[hosts.gpu1\]"),
    ],
)
def test_a_wrong_host_of_the_configuration_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, said: str
) -> None:
    path = tmp_path / "config.toml"
    path.write_text(text)
    monkeypatch.setenv("CIFARTUI_CONFIG", str(path))
    with pytest.raises(CifartuiError, match=said):
        read_config()


@pytest.mark.parametrize(
    ("exit_code", "complaint", "said"),
    [
        (255, "Host key verification failed.\r\n", "connect once by hand: ssh box"),
        (255, "me@box: Permission denied (publickey).", "no password is asked here"),
        (255, "ssh: Could not resolve hostname box: Name or service not known", "there is no host of that name"),
        (255, "ssh: connect to host box port 22: Connection refused", "it refused the connection"),
        (255, "ssh: connect to host box port 22: Connection timed out", "it did not answer"),
        (127, "bash: line 1: cifartui: command not found", "[hosts.gpu1] command ="),
        (2, 'cifartui: There is no command "relay"; cifartui --help lists them.', "too old to be asked"),
        (1, "", "its relay ended (it said nothing)"),
        (1, "x\n\x1b]0;title\x07", "its relay ended (\\x1b]0;title\\x07)"),
    ],
)
def test_the_way_in_which_ssh_ends_is_said(exit_code: int, complaint: str, said: str) -> None:
    assert said in why_ended(ssh_host("gpu1", HostEntry(ssh="box")), exit_code, complaint)


def test_a_row_and_a_run_know_their_host() -> None:
    class Unopened(Connection):
        def open(self) -> Connection:
            return self

    others = Hosts([Host("gpu-1", ("x", "y"))], connect=Unopened)
    assert others.host_of("gpu-1:20260101T000000-a-b1") == others.host_of("gpu-1") == "gpu-1"
    assert others.host_of("20260101T000000-a-b1") == ""
    run = others.run("gpu-1:20260101T000000-a-b1")
    assert run is not None
    assert (run.host, run.run_id, run.name) == ("gpu-1", "20260101T000000-a-b1", "gpu-1:20260101T000000-a-b1")
    assert others.run("20260101T000000-a-b1") is None
    others.close()
