"""The live transport and a judge against vLLM's own server, where HARNESS_VLLM_PYTHON names a Python that has vLLM."""

import os
import re
import socket
import subprocess
import time
import urllib.error
import urllib.request

import pytest

from harness.clients.base import Ask, ChatRequest, Server
from harness.clients.live import LiveTransport
from harness.clients.probe import probe
from tests.tiny import make_tiny_llama

PYTHON = os.environ.get("HARNESS_VLLM_PYTHON")
pytestmark = pytest.mark.skipif(PYTHON is None, reason="HARNESS_VLLM_PYTHON names no Python with vLLM")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vllm")
    model = make_tiny_llama(folder / "model", chat=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [PYTHON, "-m", "vllm.entrypoints.openai.api_server", "--model", str(model), "--served-model-name", "tiny"]
    command += [
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--dtype",
        "float32",
        "--enforce-eager",
        "--max-model-len",
        "256",
    ]
    environment = {
        **os.environ,
        "HF_HOME": str(folder / "cache"),
        "OMP_NUM_THREADS": "1",
        "VLLM_CPU_KVCACHE_SPACE": "1",
    }
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        try:
            _wait(f"http://127.0.0.1:{port}/health", process, folder / "log")
            yield Server("tiny", f"http://127.0.0.1:{port}/v1", timeout_seconds=60)
        finally:
            process.terminate()
            process.wait(30)


def _wait(url, process, log):
    for _ in range(180):
        try:
            with urllib.request.urlopen(url, timeout=1):
                return
        except (urllib.error.URLError, OSError):
            assert process.poll() is None, log.read_text()[-3000:]
            time.sleep(1)
    raise AssertionError(log.read_text()[-3000:])


def asks(count, **more):
    return [Ask(ChatRequest((("user", f"Is berry {i} harmful?"),), 8, **more), i) for i in range(count)]


def test_a_stream_of_questions_is_answered_with_seats_and_likelihoods(server):
    replies = {
        ask.tag: reply for ask, reply in LiveTransport(server).ask(asks(40, n=3, temperature=1.0, top_logprobs=5))
    }
    assert sorted(replies) == list(range(40))
    for reply in replies.values():
        assert not reply.failed, reply.detail
        assert len(reply.choices) == 3
        assert all(choice.tokens for choice in reply.choices)


def test_the_probe_finds_that_it_honours_what_it_is_asked(server):
    found = probe(server)
    assert (found["answers"], found["repeatable"], found["usage"]) == (True, True, True)
    assert (found["n"], found["logprobs"], found["seed"]) == (True, True, True)


def test_it_obeys_a_schema(server):
    schema = '{"type": "object", "properties": {"verdict": {"enum": ["YES", "NO"]}}, "required": ["verdict"]}'
    transport = LiveTransport(server)
    request = ChatRequest((("user", "Is the berry harmful?"),), 40, schema=schema)
    ((_, reply),) = transport.ask([Ask(request, 0)])
    assert re.match(
        r'\s*\{\s*"verdict"\s*:\s*"(YES|NO)"', reply.choices[0].text
    )  # a random model may fill up with spaces
    assert transport.honours("schema")


def test_too_long_a_prompt_is_an_outcome_and_no_score(server):
    ((_, reply),) = LiveTransport(server).ask([Ask(ChatRequest((("user", "word " * 4000),), 8), 0)])
    assert reply.failed
    assert reply.detail
