"""What a server refuses: a prompt of its own, every prompt, or all of them until later; and how each is told."""

import pytest

from harness.clients.base import Ask, ChatRequest, ChoiceOutcome
from harness.clients.live import LiveTransport
from harness.errors import UserError


def fine(text="Verdict: [[YES]]"):
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}
    return 200, {}, {"id": "x", "model": "judge", "choices": [choice], "usage": usage}


def error(status, message, headers=None, **more):
    return status, headers or {}, {"error": {"message": message, **more}}


def prompt(asked):
    return asked["messages"][0]["content"]


def ask(server, texts, **more):
    transport = LiveTransport(server, **more)
    return {a.tag: reply for a, reply in transport.ask([Ask(ChatRequest((("user", t),), 8), t) for t in texts])}


TEXTS = [f"prompt {i}" for i in range(60)]


@pytest.mark.parametrize("status", [403, 404])
def test_one_forbidden_prompt_among_many_fails_alone(served, status):
    server = served(lambda a: error(status, "blocked by the gateway") if prompt(a) == "prompt 7" else fine())
    replies = ask(server, TEXTS)
    assert {text for text, reply in replies.items() if reply.failed} == {"prompt 7"}
    assert "blocked by the gateway" in replies["prompt 7"].detail
    if status == 403:
        assert ask(server, ["prompt 7"])["prompt 7"].failed  # alone it is no reason to give all up


@pytest.mark.parametrize("status", [403, 404])
def test_where_all_are_forbidden_the_stream_ends_with_the_reason(served, status):
    n_asked = []
    server = served(lambda a: n_asked.append(1) or error(status, "no"))
    with pytest.raises(UserError, match="base_url"):
        ask(server, [f"prompt {i}" for i in range(2000)])
    assert len(n_asked) < 1000


def test_no_credit_ends_the_stream(served):
    with pytest.raises(UserError, match="credit"):
        ask(served(lambda a: error(402, "top up")), TEXTS)


@pytest.mark.parametrize(
    "body",
    [
        {"code": "content_filter", "message": "The response was filtered"},
        {"code": None, "message": "triggering Azure OpenAI's content management policy"},
        {"code": "x", "message": "no", "innererror": {"code": "ResponsibleAIPolicyViolation"}},
        {"code": 403, "message": "flagged", "metadata": {"flagged_input": "…", "reasons": ["violence"]}},
    ],
)
def test_a_prompt_that_the_provider_filters_is_an_outcome_and_final(served, body):
    status = 403 if body["code"] == 403 else 400
    server = served(lambda a: (status, {}, {"error": body}) if prompt(a) == "prompt 7" else fine())
    found = ask(server, TEXTS[:20])["prompt 7"]
    assert not found.failed
    assert found.choices[0].outcome is ChoiceOutcome.FILTERED
    assert found.n_attempts == 1


def test_requests_that_are_all_refused_with_the_same_words_are_not_sent_to_the_last(served):
    n_asked = []
    server = served(lambda a: n_asked.append(1) or error(400, "temperature 0 is not for this model"))
    with pytest.raises(UserError, match="temperature 0 is not for this model"):
        ask(server, [f"prompt {i}" for i in range(3000)])
    assert len(n_asked) < 1500


def test_a_pause_that_is_longer_than_patience_ends_the_stream(served):
    server = served(lambda a: error(429, "come back", headers={"Retry-After": "3600"}))
    with pytest.raises(UserError, match="wait for 3600 s"):
        ask(server, TEXTS, patience_seconds=2.0)


def test_a_reply_that_is_nested_too_deeply_is_malformed_and_no_crash(served):
    deep = b"[" * 100_000 + b"]" * 100_000
    server = served(lambda a: (200, {}, deep) if prompt(a) == "prompt 7" else fine())
    replies = ask(server, TEXTS[:20], max_attempts=2)
    assert replies["prompt 7"].failed
    assert sum(not reply.failed for reply in replies.values()) == 19


def test_a_model_without_temperature_is_asked_without_one(served):
    seen = []
    server = served(lambda a: seen.append("temperature" in a) or fine())
    list(LiveTransport(server).ask([Ask(ChatRequest((("user", "x"),), 8, temperature=None), 0)]))
    assert seen == [False]
