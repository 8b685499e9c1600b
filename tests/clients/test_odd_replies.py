"""Replies of an unexpected form: what was billed for them is counted, and what is good in them is used."""

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from batch_server import BatchServer, Fate

from harness.clients import sender as sender_module
from harness.clients.base import Ask, ChatRequest, ChoiceOutcome, Server, Usage
from harness.clients.batch import BatchTransport
from harness.clients.budget import Budget, BudgetReached, worst_case
from harness.clients.cache import ReplyCache
from harness.clients.front import Front
from harness.clients.ledger import Ledger
from harness.clients.live import LiveTransport
from harness.clients.prices import Price, cost
from harness.clients.wire import api_key, parse
from harness.errors import UserError

PRICE = Price(input=2, output=8, cached_input=0.5)
SERVER = Server("judge", "http://127.0.0.1/v1")
VERDICT = "Fine.\nRating: [[7]]"
BILL = {"prompt_tokens": 1000, "completion_tokens": 50}
BILL_USD = (1000 * 2 + 50 * 8) / 1e6


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch):
    monkeypatch.setattr(sender_module, "_BACKOFF_SECONDS", 0.001)
    monkeypatch.setattr(sender_module, "_RETURN_SECONDS", 0.001)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def chat(usage=BILL, **choice):
    first = {"index": 0, "message": {"role": "assistant", "content": VERDICT}, "finish_reason": "stop", **choice}
    return {"model": "judge", "choices": [first], "usage": usage}


def without_message(usage=BILL):
    return {"choices": [{"index": 0, "text": VERDICT}], "usage": usage}


def broken(code, usage=BILL):
    return {"error": {"message": "upstream is gone", "code": code}, "usage": usage}


def logprobs(one, **more):
    return {"content": [{"token": "7", "logprob": one, "top_logprobs": [], **more}]}


def asks(n, **more):
    return [Ask(ChatRequest((("user", f"{i} {'x' * 1000}"),), 50, **more), i) for i in range(n)]


def most_usd():
    worst = worst_case(asks(1)[0].request, PRICE)
    return worst.input_tokens * worst.input_usd + worst.output_tokens * worst.output_usd


def front(transport, server, folder, **more):
    return Front(
        transport, server, ReplyCache(folder / "replies.sqlite"), Ledger(folder / "calls.jsonl"), PRICE, **more
    )


# --- bills


@pytest.mark.parametrize("body", [without_message(), {"choices": [7], "usage": BILL}, {"choices": 7, "usage": BILL}])
def test_what_cannot_be_read_was_billed_all_the_same(served, tmp_path, body):
    n_billed = []
    server = served(lambda asked: n_billed.append(1) or (200, {}, body))
    budget = Budget(100.0)
    asking = front(LiveTransport(server, max_attempts=3), server, tmp_path, budget=budget)
    replies = [reply for _, reply in asking.ask(asks(5))]
    assert all(reply.failed and reply.usage.input_tokens == 3000 for reply in replies)
    assert len(n_billed) == 15
    assert budget.spent_usd == pytest.approx(asking.ledger.spent_usd()) == pytest.approx(15 * BILL_USD)


def test_a_server_that_bills_what_nobody_can_read_is_left(served, tmp_path):
    n_billed = []
    server = served(lambda asked: n_billed.append(1) or (200, {}, without_message()))
    asking = front(LiveTransport(server, max_concurrency=64), server, tmp_path, budget=Budget(100.0))
    with pytest.raises(UserError, match=r"not the expected form .*24 such replies were billed") as raised:
        list(asking.ask(asks(500)))
    assert not isinstance(raised.value, BudgetReached)
    assert len(n_billed) < 300
    assert asking.ledger.spent_usd() == pytest.approx(len(n_billed) * BILL_USD)


@pytest.mark.parametrize("n_good", [0, 12])
def test_a_budget_is_never_passed_where_replies_cannot_be_read(served, tmp_path, n_good):
    """Every bill is about the most that a request can cost; after the first, each reply needs another attempt."""
    n_billed = []
    server = served(lambda a: n_billed.append(1) or (200, {}, chat() if len(n_billed) <= n_good else without_message()))
    budget = Budget(40 * BILL_USD)
    asking = front(LiveTransport(server), server, tmp_path, budget=budget)
    with pytest.raises(UserError):
        list(asking.ask(asks(500)))
    assert 0.5 * budget.limit_usd < budget.spent_usd <= budget.limit_usd
    assert budget.spent_usd == pytest.approx(asking.ledger.spent_usd()) == pytest.approx(len(n_billed) * BILL_USD)


@pytest.mark.parametrize("code", [408, 429, 500, 502, 503])
@pytest.mark.parametrize("n_good", [0, 12])
def test_a_budget_is_never_passed_where_an_error_is_billed(served, tmp_path, code, n_good):
    n_billed = []
    server = served(lambda a: n_billed.append(1) or (200, {}, chat() if len(n_billed) <= n_good else broken(code)))
    budget = Budget((n_good + 10) * BILL_USD)
    asking = front(LiveTransport(server, patience_seconds=2), server, tmp_path, budget=budget)
    with pytest.raises(BudgetReached):
        list(asking.ask(asks(60)))
    assert 0.5 * budget.limit_usd < budget.spent_usd <= budget.limit_usd
    assert budget.spent_usd == pytest.approx(asking.ledger.spent_usd()) == pytest.approx(len(n_billed) * BILL_USD)


def test_a_budget_is_never_passed_where_a_billed_error_has_less_asked_for(served, tmp_path):
    n_billed = []
    body = broken(400) | {"error": {"message": "unsupported", "code": 400, "param": "top_logprobs"}}
    server = served(lambda asked: n_billed.append(1) or (200, {}, body))
    budget = Budget(1.5 * BILL_USD)
    asking = front(LiveTransport(server), server, tmp_path, budget=budget)
    list(asking.ask(asks(1, top_logprobs=5)))
    assert budget.spent_usd == pytest.approx(asking.ledger.spent_usd()) == pytest.approx(len(n_billed) * BILL_USD)
    assert budget.spent_usd <= budget.limit_usd


def test_what_was_billed_before_a_server_went_away_is_in_the_ledger(tmp_path):
    listener = socket.create_server(("127.0.0.1", 0))

    def answer_once():
        connection, _ = listener.accept()
        listener.close()
        connection.recv(65536)
        content = json.dumps(without_message()).encode()
        head = f"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {len(content)}\r\n\r\n"
        connection.sendall(head.encode() + content)
        connection.close()

    server = Server("judge", f"http://127.0.0.1:{listener.getsockname()[1]}/v1", timeout_seconds=10)
    threading.Thread(target=answer_once, daemon=True).start()
    budget = Budget(1.0)
    asking = front(LiveTransport(server), server, tmp_path, budget=budget)
    with pytest.raises(UserError, match="cannot reach"):
        list(asking.ask(asks(1)))
    assert budget.spent_usd == pytest.approx(asking.ledger.spent_usd()) == pytest.approx(BILL_USD)


STOPPED = """
import sys
from pathlib import Path
sys.path.insert(0, "tests/clients")
import test_odd_replies as here
here.sender_module._BACKOFF_SECONDS = here.sender_module._MAX_BACKOFF_SECONDS = 1e6
server = here.Server("judge", sys.argv[2], timeout_seconds=30)
more = {"budget": here.Budget(1.0)} if sys.argv[3] == "budget" else {}
for ask, reply in here.front(here.LiveTransport(server), server, Path(sys.argv[1]), **more).ask(here.asks(3)):
    print("answered", flush=True)
"""


@pytest.mark.parametrize("with_budget", ["budget", "none"])
def test_an_interrupt_loses_no_bill_of_what_waits_for_another_attempt(served, tmp_path, with_budget):
    n_billed = []

    def answer(asked):
        n_billed.append(1)
        return 200, {}, chat() if asked["messages"][0]["content"].startswith("0 ") else without_message()

    command = [sys.executable, "-c", STOPPED, str(tmp_path), served(answer).base_url, with_budget]
    process = subprocess.Popen(command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout.readline() == b"answered\n"
    while len(n_billed) < 3:
        time.sleep(0.02)
    time.sleep(0.3)  # the replies are read
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=10)
    assert errors.strip().endswith(b"KeyboardInterrupt")
    ledger = Ledger(tmp_path / "calls.jsonl")
    assert sorted(call.outcome for call in ledger.calls()) == ["error", "error", "ok"]
    assert ledger.spent_usd() == pytest.approx(3 * BILL_USD)


def test_attempts_that_were_billed_are_charged_once(served, tmp_path):
    bodies = [without_message(), without_message(), chat()]
    server = served(lambda asked: (200, {}, bodies.pop(0)))
    budget = Budget(100.0)
    asking = front(LiveTransport(server), server, tmp_path, budget=budget)
    ((_, reply),) = asking.ask(asks(1))
    assert (reply.failed, reply.usage, budget.reserved_usd) == (False, Usage(3000, 150), 0)
    assert budget.spent_usd == pytest.approx(asking.ledger.spent_usd()) == pytest.approx(3 * BILL_USD)


def test_where_only_a_part_of_the_bill_is_told_the_rest_counts_as_the_most(served, tmp_path):
    bodies = [without_message(), chat(usage=None)]
    server = served(lambda asked: (200, {}, bodies.pop(0)))
    budget = Budget(100.0)
    asking = front(LiveTransport(server), server, tmp_path, budget=budget)
    list(asking.ask(asks(1)))
    (call,) = asking.ledger.calls()
    assert (call.outcome, call.n_attempts, call.cost_usd) == ("ok", 2, None)
    assert budget.spent_usd == pytest.approx(asking.ledger.spent_usd()) == pytest.approx(BILL_USD + most_usd())


def test_in_a_batch_too(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-0123456789abcdef")

    def spoil(text):
        lines = [json.loads(line) for line in text.splitlines()]
        bodies = [line["response"]["body"] for line in lines]
        bodies[0]["choices"] = [{"index": 0, "text": "7"}]
        bodies[1]["choices"][0]["logprobs"] = logprobs(None)
        bodies[2]["usage"]["prompt_tokens"] = -1_000_000
        lines[3]["response"]["body"] = {"error": {"message": "the provider is away", "code": 502}}
        return "".join(json.dumps(line) + "\n" for line in lines)

    with BatchServer([Fate(spoil=spoil)]) as batches:
        transport = BatchTransport(Server("gpt-4o", batches.url), tmp_path, poll_seconds=0.01, linger_seconds=0.05)
        found = {ask.tag: reply for ask, reply in transport.ask(asks(4))}
    assert [found[i].failed for i in range(4)] == [True, False, False, True]
    assert [found[i].usage for i in range(4)] == [Usage(2, 3), Usage(2, 3), None, None]
    assert found[1].choices[0].tokens is None
    assert found[3].detail == "the provider is away"


@pytest.mark.parametrize(
    ("usage", "read"),
    [
        ({"prompt_tokens": -1_000_000, "completion_tokens": 5}, None),
        ({"prompt_tokens": 10, "completion_tokens": -5}, None),
        ({"prompt_tokens": 10, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": -7}}, None),
        ({"prompt_tokens": 10**400, "completion_tokens": 5}, None),
        ({"prompt_tokens": 1000, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 5000}},
         Usage(1000, 5, 1000)),
        ({"prompt_tokens": 10, "completion_tokens": 5, "prompt_tokens_details": 3}, Usage(10, 5)),
    ],
)  # fmt: skip
def test_a_bill_that_cannot_be_is_unknown_and_counts_as_the_most(served, tmp_path, usage, read):
    assert parse(chat(usage), SERVER).usage == read
    server = served(lambda asked: (200, {}, chat(usage)))
    budget, asking = Budget(100.0), None
    asking = front(LiveTransport(server), server, tmp_path, budget=budget)
    list(asking.ask(asks(10)))
    expected = 10 * (most_usd() if read is None else cost(read, PRICE))
    assert budget.spent_usd == pytest.approx(asking.ledger.spent_usd()) == pytest.approx(expected)


# --- log-probabilities


@pytest.mark.parametrize(
    "broken",
    [
        logprobs(None),
        logprobs("much"),
        logprobs(float("nan")),
        logprobs(5000.0),
        logprobs(-0.1, top_logprobs=[{"token": "7", "logprob": None}]),
        logprobs(-0.1, token=7),
        {"content": [None]},
        {"content": 7},
        [],
        "none",
    ],
)
def test_log_probabilities_that_cannot_be_read_cost_no_verdict(served, broken):
    n_asked = []
    server = served(lambda asked: n_asked.append(1) or (200, {}, chat(logprobs=broken)))
    ((_, reply),) = LiveTransport(server).ask(asks(1, top_logprobs=5))
    assert reply.choices[0].text == VERDICT
    assert (reply.choices[0].tokens, reply.usage, len(n_asked)) == (None, Usage(1000, 50), 1)


def test_responses_keep_their_text_and_bill_too():
    part = {"type": "output_text", "text": VERDICT, "logprobs": [{"token": "7", "logprob": None}]}
    found = {"output": [{"type": "message", "content": [part]}], "usage": {"input_tokens": 9, "output_tokens": 4}}
    responses = SERVER._replace(api="responses")
    assert parse(found, responses).choices[0].text == VERDICT
    part.pop("text")
    failed = parse(found, responses)
    assert (failed.failed, failed.usage) == (True, Usage(9, 4))
    half = {**found, "status": "failed", "error": {"code": "server_error", "message": "it broke"}}
    assert (parse(half, responses).failed, parse(half, responses).detail) == (True, "it broke")


# --- how a choice ends


@pytest.mark.parametrize("reason", ["error", "abort", "ERROR"])
def test_a_choice_that_the_server_gave_up_is_asked_for_again(served, reason):
    told = {"finish_reason": reason, "error": {"code": 502, "message": "upstream is gone"}}
    bodies = [chat(**told), chat()]
    server = served(lambda asked: (200, {}, bodies.pop(0)))
    ((_, reply),) = LiveTransport(server).ask(asks(1))
    assert (reply.failed, reply.n_attempts, reply.usage) == (False, 2, Usage(2000, 100))
    assert parse(chat(**told), SERVER).detail == "the server gave up in the middle: upstream is gone"


def test_of_several_choices_only_those_that_are_whole_count():
    both = chat(finish_reason="error")
    both["choices"].append({"index": 1, "message": {"content": "Rating: [[3]]"}, "finish_reason": "stop"})
    assert [choice.text for choice in parse(both, SERVER).choices] == ["Rating: [[3]]"]


@pytest.mark.parametrize(
    ("reason", "outcome", "noted"),
    [
        (None, ChoiceOutcome.OK, False),
        ("stop", ChoiceOutcome.OK, False),
        ("tool_calls", ChoiceOutcome.OK, False),
        ("MAX_TOKENS", ChoiceOutcome.TRUNCATED, False),
        ("recitation", ChoiceOutcome.OK, True),
        (["x"], ChoiceOutcome.OK, True),
    ],
)
def test_a_reason_that_is_not_known_is_noted_and_the_text_kept(served, tmp_path, reason, outcome, noted):
    server = served(lambda asked: (200, {}, chat(finish_reason=reason)))
    asking = front(LiveTransport(server), server, tmp_path)
    ((_, reply),) = asking.ask(asks(1))
    assert (reply.choices[0].outcome, reply.choices[0].text) == (outcome, VERDICT)
    (call,) = asking.ledger.calls()
    assert ("is not known" in (call.detail or "")) == noted


# --- an error with HTTP status 200


@pytest.mark.parametrize(("code", "told"), [(402, "no credit"), ("401", "refuses the API key"), (404, "base_url")])
def test_an_error_in_a_good_answer_stops_as_its_status_would(served, code, told):
    n_asked = []
    body = {"error": {"message": "Insufficient, key sk-abcdef123456", "code": code}}
    server = served(lambda asked: n_asked.append(1) or (200, {}, body))
    with pytest.raises(UserError, match=told) as raised:
        list(LiveTransport(server, max_concurrency=64).ask(asks(500)))
    assert len(n_asked) < 300
    assert "Insufficient, key ***" in str(raised.value)


def test_a_full_gateway_that_answers_well_is_waited_for(served):
    bodies = [{"error": {"message": "slow down", "code": 429}}] * 8 + [chat()]
    server = served(lambda asked: (200, {}, bodies.pop(0)))
    ((_, reply),) = LiveTransport(server, max_attempts=2).ask(asks(1))
    assert (reply.failed, reply.n_attempts) == (False, 9)


@pytest.mark.parametrize("error", [{"message": "it is away", "code": "provider_down"}, "it is away", {"code": 502}])
def test_an_error_of_no_known_status_is_told_in_its_own_words(served, error):
    bodies = [{"error": error}] * 2 + [chat()]
    server = served(lambda asked: (200, {}, bodies.pop(0) if len(bodies) > 1 or "1 x" in str(asked) else bodies[0]))
    ((_, reply),) = LiveTransport(server, max_attempts=2).ask(asks(1))
    assert reply.failed
    assert "no choices" not in reply.detail
    assert ("it is away" in reply.detail) == ("away" in str(error))


# --- keys that no header can carry


@pytest.mark.parametrize("key", ["sk-abcdef\n123456", "sk-abcdef“123456", "sk-abc\x00def123456", "schlüssel"])
@pytest.mark.parametrize("base_url", [None, "http://127.0.0.1:9/v1"])
def test_a_key_that_no_header_can_carry_is_told_in_one_line(monkeypatch, tmp_path, key, base_url):
    monkeypatch.setenv("JUDGE_KEY", key.replace("\x00", "\x01"))
    server = Server("judge", base_url, api_key_env="JUDGE_KEY")
    for way in (LiveTransport(server), BatchTransport(server, tmp_path)):
        with pytest.raises(UserError, match="JUDGE_KEY") as raised:
            list(way.ask(asks(1)))
        assert "\n" not in str(raised.value)
        assert not any(part in str(raised.value) for part in ("abcdef", "schl"))


def test_white_space_around_a_key_does_no_harm(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", " sk-abcdef123456\n")
    assert api_key(Server("judge")) == "sk-abcdef123456"
