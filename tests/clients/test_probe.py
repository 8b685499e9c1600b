"""What a server really does, as the probe finds it out on real servers that do or do not what they are asked."""

import json
import time

import pytest

from harness.clients.base import Server
from harness.clients.probe import probe
from harness.errors import UserError
from tests.clients.server import fault_server

FEATURES = {"answers", "repeatable", "n", "logprobs", "schema", "seed", "stop", "usage"}


def way(server, **more):
    return Server("judge", server.url, **{"timeout_seconds": 5.0, **more})


def test_a_server_that_obeys():
    with fault_server() as server:
        found = probe(way(server))
        assert server.stats()["requests"] == 10
    assert found == dict.fromkeys(FEATURES, True)


def test_a_server_that_ignores_everything_without_a_word():
    with fault_server(ignores=["n", "logprobs", "response_format", "seed", "stop"], usage=False) as server:
        found = probe(way(server))
    assert found == {
        "answers": True, "repeatable": True, "n": False, "logprobs": False, "schema": False,
        "seed": None, "stop": False, "usage": False,
    }  # fmt: skip


def test_a_server_that_refuses_to_be_asked():
    with fault_server(rejects=["n", "logprobs", "response_format", "seed", "stop"]) as server:
        found = probe(way(server))
    assert found["answers"]
    assert {name for name in FEATURES if found[name] is False} == {"n", "logprobs", "schema", "seed", "stop"}


def test_the_questions_are_asked_side_by_side():
    with fault_server(latency=0.5) as server:
        began = time.monotonic()
        probe(way(server))
        assert time.monotonic() - began < 10 * 0.5


def test_an_answer_that_has_no_middle_does_not_tell_of_stop():
    with fault_server(reply="Red.") as server:
        assert probe(way(server))["stop"] is None


def test_a_server_that_is_not_there_is_told():
    with fault_server(models=["other"]) as server, pytest.raises(UserError, match="judge"):
        probe(way(server))


@pytest.fixture
def command(monkeypatch, capsys):
    def command(*arguments):
        from harness import cli

        monkeypatch.setattr("sys.argv", ["harness", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            cli.main()
        return int(left.value.code or 0), capsys.readouterr()

    return command


def test_check_with_probe_prints_a_line_a_server(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-0123456789abcdef-secret")
    with fault_server(ignores=["seed"]) as one, fault_server(ignores=["n", "stop"]) as other:
        blocks = [{"backend": "openai", "model": "judge", "base_url": server.url} for server in (one, other)]
        named = [f"models.{name}={json.dumps(block)}" for name, block in zip(("one", "other"), blocks, strict=True)]
        code, said = command("check", "demo", "--set", named[0], "--set", named[1], "--probe")
        assert (one.stats()["requests"], other.stats()["requests"]) == (10, 10)
    lines = {line.partition(": ")[0]: line for line in said.out.splitlines()}
    for name, told in (("one", "n yes"), ("one", "stop yes"), ("other", "n no"), ("other", "stop no")):
        assert told in lines[name].split(": ")[1].split(", ")
    assert code == 0
    assert "sk-test" not in said.out + said.err
    assert list(tmp_path.iterdir()) == []
