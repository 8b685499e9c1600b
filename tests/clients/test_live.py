"""The live transport against a real server on 127.0.0.1 that misbehaves in every way that servers do."""

import itertools
import json
import logging
import subprocess
import sys
import threading
import time
import tracemalloc

import pytest

from harness.clients import sender as sender_module
from harness.clients.base import Ask, ChatRequest, ChoiceOutcome, Server
from harness.clients.live import LiveTransport
from harness.errors import UserError
from tests.clients.server import fault_server, rating_of

SCHEMA = json.dumps(
    {
        "type": "object",
        "properties": {"reason": {"type": "string"}, "rating": {"type": "integer"}},
        "required": ["reason", "rating"],
        "additionalProperties": False,
    }
)
KEY = "sk-test-0123456789abcdef-secret"


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch):
    monkeypatch.setattr(sender_module, "_BACKOFF_SECONDS", 0.02)
    monkeypatch.setattr(sender_module, "_RETURN_SECONDS", 0.01)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.fixture(scope="module")
def plain():
    with fault_server() as server:
        yield server


def request(text, **more):
    return ChatRequest((("system", "You weigh answers."), ("user", text)), 64, **more)


def asks(count, **more):
    return [Ask(request(f"question {i}", **more), i) for i in range(count)]


def one(transport, text="question", **more):
    ((ask, reply),) = transport.ask([Ask(request(text, **more), "tag")])
    assert ask.tag == "tag"
    return reply


def collect(stream, into):
    """Keeps what came before an error."""
    for _, reply in stream:
        into.append(reply)


def right(ask, reply):
    return f"[[{rating_of(ask.request.messages[-1][1])}]]" in reply.choices[0].text


def way(server, **more):
    return Server("judge", server.url, **{"timeout_seconds": 5.0, **more})


# --- what comes back ---


def test_every_reply_belongs_to_its_question(plain):
    replies = list(LiveTransport(way(plain)).ask(iter(asks(300))))
    assert sorted(ask.tag for ask, _ in replies) == list(range(300))
    assert all(right(ask, reply) for ask, reply in replies)
    for _, reply in replies:
        assert (reply.served_model, reply.n_attempts, reply.detail) == ("judge", 1, None)
        assert reply.usage.input_tokens > 0
        assert reply.seconds > 0


@pytest.mark.parametrize(
    ("fault", "outcome"),
    [
        ("filtered", ChoiceOutcome.FILTERED),
        ("length", ChoiceOutcome.TRUNCATED),
        ("refusal", ChoiceOutcome.REFUSED),
        ("null", ChoiceOutcome.OK),
        ("trickle", ChoiceOutcome.OK),
    ],
)
@pytest.mark.parametrize("api", ["chat", "responses"])
def test_an_odd_reply_is_data_and_is_not_asked_again(plain, fault, outcome, api):
    before = plain.stats()["requests"]
    reply = one(LiveTransport(way(plain, api=api)), f"{api} [[fault {fault} 1]]")
    assert reply.choices[0].outcome is outcome
    assert reply.n_attempts == plain.stats()["requests"] - before == 1


@pytest.mark.parametrize("fault", ["429", "500", "502", "503", "reset", "malformed", "html", "empty"])
@pytest.mark.parametrize("api", ["chat", "responses"])
def test_a_failed_attempt_is_made_again(plain, fault, api):
    reply = one(LiveTransport(way(plain, api=api)), f"{api} [[fault {fault} 2]]")
    assert not reply.failed
    assert reply.n_attempts == 3


def test_a_reply_that_does_not_come_is_asked_for_again(plain):
    reply = one(LiveTransport(way(plain, timeout_seconds=0.3)), "[[fault hang 1]]")
    assert not reply.failed
    assert reply.n_attempts == 2


def test_a_hopeless_request_is_explained_and_the_others_finish(plain):
    texts = ["fine", "[[fault 500 99]]", "[[fault empty 99]]", "[[fault 400 99]]", "[[fault reset 99]]", "fine too"]
    transport = LiveTransport(way(plain), max_attempts=3)
    replies = {ask.tag: reply for ask, reply in transport.ask(Ask(request(text), text) for text in texts)}
    assert {tag for tag, reply in replies.items() if reply.failed} == set(texts[1:5])
    assert [replies[text].n_attempts for text in texts] == [1, 3, 3, 1, 3, 1]
    assert "500 The server had an error" in replies[texts[1]].detail
    assert "no choices" in replies[texts[2]].detail
    assert "maximum context length" in replies[texts[3]].detail
    assert "connection failed" in replies[texts[4]].detail


def test_what_spoilt_attempts_were_billed_is_in_the_bill(plain):
    reply = one(LiveTransport(way(plain)), "billed twice [[fault empty 1]]")
    once = one(LiveTransport(way(plain)), "billed twice [[fault empty 1]] ")
    assert reply.n_attempts == 2
    assert reply.usage.input_tokens == 2 * once.usage.input_tokens / once.n_attempts


def test_a_changed_served_model_is_told(plain):
    assert one(LiveTransport(way(plain)), "[[fault other_model 1]]").served_model == "judge-other"


def test_replies_that_share_an_id_are_noticed(plain):
    transport = LiveTransport(way(plain))
    texts = [f"{i} [[fault same_id 1]]" for i in range(3)]
    assert len(list(transport.ask(Ask(request(text), text) for text in texts))) == 3
    assert "duplicate_id" in transport.quirks


# --- waiting ---


@pytest.mark.parametrize(("kind", "pause", "least"), [("seconds", 0.4, 0.4), ("ms", 0.3, 0.3), ("date", 2.0, 0.9)])
def test_a_retry_after_is_honoured(kind, pause, least):
    with fault_server(retry_after=kind, pause=pause) as server:
        reply = one(LiveTransport(way(server)), "[[fault 429 1]]")
    assert reply.n_attempts == 2
    assert least <= reply.seconds < pause + 1.0


def test_a_pause_longer_than_patience_is_not_waited_for():
    began = time.monotonic()
    with fault_server(retry_after="seconds", pause=3600) as server, pytest.raises(UserError, match="3600 s"):
        one(LiveTransport(way(server), patience_seconds=30), "[[fault 429 1]]")
    assert time.monotonic() - began < 10


def test_refusals_for_want_of_room_cost_no_attempts():
    with fault_server(latency=0.02, capacity=2) as server:
        replies = list(LiveTransport(way(server), max_attempts=2).ask(asks(120)))
        stats = server.stats()
    assert not any(reply.failed for _, reply in replies)
    assert stats["max_working"] == 2
    assert stats["billed"] == 120


# --- ten percent of faults ---


def test_with_ten_percent_of_faults_every_request_is_finished_and_none_billed_twice_without_need():
    faults = {"429": 0.02, "500": 0.02, "502": 0.01, "reset": 0.02, "malformed": 0.01, "empty": 0.01, "filtered": 0.01}
    with fault_server(latency=0.02, capacity=64, faults=faults) as server:
        replies = list(LiveTransport(way(server)).ask(iter(asks(1500))))
        stats = server.stats()
    assert sorted(ask.tag for ask, _ in replies) == list(range(1500))
    for ask, reply in replies:
        assert reply.choices[0].outcome is ChoiceOutcome.FILTERED or right(ask, reply)
    assert stats["forced"] > 20
    assert stats["billed"] - stats["forced"] == 1500
    assert sum(reply.n_attempts for _, reply in replies) == stats["requests"]


# --- what would fail every request ---


def test_a_wrong_key_ends_the_stream_and_is_not_shown(monkeypatch, caplog):
    monkeypatch.setenv("JUDGE_KEY", KEY)
    caplog.set_level(logging.DEBUG)
    with fault_server(key="another") as server:
        with pytest.raises(UserError) as caught:
            list(LiveTransport(way(server, api_key_env="JUDGE_KEY")).ask(asks(50)))
        assert server.stats()["requests"] <= 50
    assert "JUDGE_KEY" in str(caught.value)
    assert server.url in str(caught.value)
    assert KEY not in str(caught.value) + caplog.text
    assert "\n" not in str(caught.value)


def test_a_server_that_echoes_the_key_does_not_get_it_into_a_detail(plain, monkeypatch):
    monkeypatch.setenv("JUDGE_KEY", "not-like-a-key-at-all")
    reply = one(LiveTransport(way(plain, api_key_env="JUDGE_KEY")), "[[fault echo 9]]")
    assert reply.failed
    assert "bad request" in reply.detail
    assert "not-like-a-key-at-all" not in reply.detail


def test_an_unknown_model_ends_the_stream():
    with fault_server(models=["another"]) as server, pytest.raises(UserError, match="does not serve 'judge'"):
        list(LiveTransport(way(server)).ask(asks(3)))


def test_used_up_credit_ends_the_stream_after_what_was_under_way(plain):
    texts = ["fine", "fine too", "[[fault quota 9]]"]
    stream, got = LiveTransport(way(plain)).ask(Ask(request(text), text) for text in texts), []
    with pytest.raises(UserError, match="quota"):
        collect(stream, got)
    assert len(got) == 2
    assert not any(reply.failed for reply in got)


def test_a_server_that_is_not_there_is_told_soon():
    started = time.monotonic()
    with pytest.raises(UserError, match=r"cannot reach http://127\.0\.0\.1:9/v1"):
        list(LiveTransport(Server("judge", "http://127.0.0.1:9/v1")).ask(asks(20)))
    assert time.monotonic() - started < 10


def test_without_a_key_nothing_is_sent_to_the_official_server():
    with pytest.raises(UserError, match="OPENAI_API_KEY"):
        list(LiveTransport(Server("judge")).ask(asks(1)))


def test_a_temperature_that_the_server_refuses_is_told_and_not_changed():
    with fault_server(rejects=["temperature"]) as server:
        reply = one(LiveTransport(way(server)), temperature=0.5)
        assert server.stats()["requests"] == 1
    assert reply.failed
    assert "'temperature'" in reply.detail


# --- what servers ignore or refuse ---


def test_a_server_that_obeys_has_no_quirks(plain):
    transport = LiveTransport(way(plain))
    reply = one(transport, n=3, seed=1, temperature=1.0)
    assert len({choice.text for choice in reply.choices}) > 1
    scored = one(transport, top_logprobs=5)
    assert any(token.text.isdigit() and len(token.top) == 3 for token in scored.choices[0].tokens)
    assert set(json.loads(one(transport, schema=SCHEMA).choices[0].text)) == {"reason", "rating"}
    assert transport.quirks == set()


@pytest.mark.parametrize(
    ("field", "quirk", "more"),
    [
        ("n", "n", {"n": 3}),
        ("logprobs", "logprobs", {"top_logprobs": 5}),
        ("response_format", "schema", {"schema": SCHEMA}),
    ],
)
def test_what_is_silently_ignored_is_noticed_and_not_asked_for_again(field, quirk, more):
    with fault_server(ignores=[field]) as server:
        transport = LiveTransport(way(server))
        assert transport.honours(quirk)
        assert len(one(transport, **more).choices) == 1
        assert transport.quirks == {quirk}
        assert not transport.honours(quirk)
        assert not one(transport, "another", **more).failed
        assert server.stats()["fields"][field] == 1


@pytest.mark.parametrize(
    ("field", "quirk", "more"),
    [
        ("n", "n", {"n": 3}),
        ("logprobs", "logprobs", {"top_logprobs": 5}),
        ("response_format", "schema", {"schema": SCHEMA}),
        ("seed", "seed", {"seed": 3}),
        ("max_completion_tokens", "max_tokens_field", {}),
    ],
)
def test_what_is_refused_is_left_out(field, quirk, more):
    with fault_server(rejects=[field]) as server:
        transport = LiveTransport(way(server))
        reply = one(transport, **more)
        assert (reply.failed, reply.n_attempts) == (False, 2)
        assert one(transport, "another", **more).n_attempts == 1
    assert transport.quirks == {quirk}


def test_a_schema_is_not_sent_where_that_is_the_wish(plain):
    transport = LiveTransport(way(plain, schema="never"))
    assert "Rating: [[" in one(transport, schema=SCHEMA).choices[0].text
    assert transport.quirks == set()


def test_the_responses_api_has_its_own_form(plain):
    transport = LiveTransport(way(plain, api="responses"))
    assert json.loads(one(transport, "in form", schema=SCHEMA).choices[0].text)["rating"] == rating_of("in form")
    assert one(transport, n=4).usage.output_tokens > 0
    assert not transport.honours("n")


# --- the stream ---


def test_it_pulls_no_more_than_it_has_room_for():
    pulled = itertools.count()
    with fault_server(latency=0.05) as server:
        stream = LiveTransport(way(server), max_concurrency=8).ask(ask for ask in asks(500) if next(pulled) >= 0)
        for _ in range(10):
            next(stream)
        assert next(pulled) < 10 + 2 * (8 + 16)
        stream.close()


def test_a_source_may_have_nothing_right_now(plain):
    def source():
        for ask in asks(20):
            yield ask
            yield None
            yield None

    assert len(list(LiveTransport(way(plain)).ask(source()))) == 20


def test_a_source_may_wait_for_replies(plain):
    answered = []

    def source():
        for ask in asks(5):
            yield ask
            while len(answered) <= ask.tag:
                yield None

    for ask, _ in LiveTransport(way(plain)).ask(source()):
        answered.append(ask.tag)
    assert answered == [0, 1, 2, 3, 4]


def test_a_failing_source_loses_no_reply(plain):
    def source():
        yield from asks(5)
        raise ZeroDivisionError

    got = []
    with pytest.raises(ZeroDivisionError):
        collect(LiveTransport(way(plain)).ask(source()), got)
    assert len(got) == 5


def test_closing_the_stream_leaves_no_thread(plain):
    before = threading.active_count()
    hanging = [Ask(request(f"{i} [[fault hang 9]]"), i) for i in range(50)]
    stream = LiveTransport(way(plain, timeout_seconds=30)).ask([*hanging, Ask(request("fine"), "fine")])
    assert next(stream)[0].tag == "fine"
    assert threading.active_count() == before + 1
    started = time.monotonic()
    stream.close()
    assert time.monotonic() - started < 1
    assert threading.active_count() == before


def test_an_interrupt_ends_a_process_at_once():
    code = (
        "import sys\n"
        "from harness.clients.base import *\n"
        "from harness.clients.live import LiveTransport\n"
        "asks = (Ask(ChatRequest((('user', str(i)),), 9), i) for i in range(999))\n"
        "print('asking', flush=True)\n"
        "for reply in LiveTransport(Server('judge', sys.argv[1])).ask(asks): pass\n"
    )
    with fault_server(latency=30.0) as server:
        process = subprocess.Popen(
            [sys.executable, "-c", code, server.url], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        process.stdout.readline()
        while server.stats()["requests"] == 0:
            time.sleep(0.05)
        process.send_signal(2)
        _, errors = process.communicate(timeout=10)
    assert errors.strip().endswith("KeyboardInterrupt")
    assert "never retrieved" not in errors
    assert "Unclosed" not in errors


def test_memory_does_not_grow_with_the_number_of_requests(plain):
    def peak(n):
        tracemalloc.start()
        for _ in LiveTransport(way(plain), max_concurrency=32).ask(Ask(request(f"{i} " * 300), i) for i in range(n)):
            pass
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(100)
    assert peak(900) < 1.5 * peak(300)


def test_the_next_stream_knows_what_the_last_one_learnt():
    with fault_server(ignores=["n"], latency=0.02, capacity=4) as server:
        transport = LiveTransport(way(server))
        list(transport.ask(asks(100, n=2)))
        refused = server.stats()["statuses"].get("429", 0)
        list(transport.ask(asks(100, n=2, seed=7)))
        assert server.stats()["statuses"].get("429", 0) - refused < 40
    assert transport.quirks == {"n"}
