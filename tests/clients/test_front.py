"""The front: cache, equal requests, order of writing, budget, ledger; over a transport that runs in this process."""

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

from harness.clients.base import Ask, ChatRequest, Choice, ChoiceOutcome, Reply, Server, Usage
from harness.clients.budget import Budget, BudgetReached, Room, worst_case
from harness.clients.cache import ReplyCache
from harness.clients.front import Front, mend
from harness.clients.ledger import Ledger, spent
from harness.clients.live import LiveTransport
from harness.clients.prices import Price
from harness.errors import UserError
from tests.clients.server import fault_server

ROOT = Path(__file__).parents[2]
SERVER = Server("gpt-4o", "https://judge.example.com/v1")
PRICE = Price(input=10, output=30)


class Echo:
    """Answers up to ``width`` requests at once in a shuffled order, and counts what it was asked and billed."""

    def __init__(self, width=8, usage=lambda request: Usage(50, 5), fails=lambda request: False):
        self.width, self.usage, self.fails = width, usage, fails
        self.asked, self.billed, self.n_pulled, self.most_under_way = Counter(), [], 0, 0
        self.random = random.Random(0)
        self.n_sessions = self.n_nones = 0

    def ask(self, asks):
        self.n_sessions += 1
        source, under_way, ended = iter(asks), [], False
        while under_way or not ended:
            while len(under_way) < self.width and not ended:
                ask = next(source, self)
                self.n_pulled += 1
                if ask is None:
                    self.n_nones += 1
                    break
                ended = ask is self
                under_way += [] if ended else [ask]
            self.most_under_way = max(self.most_under_way, len(under_way))
            if under_way:
                ask = under_way.pop(self.random.randrange(len(under_way)))
                self.asked[ask.request.messages] += 1
                yield ask, self.reply(ask.request)

    def reply(self, request):
        if self.fails(request):
            return Reply((), n_attempts=3, detail="429 too many requests")
        usage = self.usage(request)
        self.billed.append(usage)
        return Reply((Choice(ChoiceOutcome.OK, request.messages[0][1].upper()),), "gpt-4o", usage, 1, 0.01)


def asks(texts, **more):
    return [Ask(ChatRequest((("user", text),), 20, **more), number) for number, text in enumerate(texts)]


@pytest.fixture
def made(tmp_path):
    def make(transport, **more):
        cache, ledger = ReplyCache(tmp_path / "replies.sqlite"), Ledger(tmp_path / "run" / "calls.jsonl")
        return Front(transport, SERVER, cache, ledger, **{"price": PRICE, **more})

    return make


def texts(found):
    return {ask.tag: reply.choices[0].text for ask, reply in found}


def test_every_ask_gets_its_own_reply_and_a_line(made):
    front = made(Echo())
    found = list(front.ask(asks([f"word {i}" for i in range(500)])))
    assert texts(found) == {i: f"WORD {i}" for i in range(500)}
    calls = front.ledger.calls()
    assert {call.key for call in calls} == {front.key(ask.request) for ask, _ in found}
    total = spent(calls)["judge"]
    assert (total.n_calls, total.input_tokens, total.output_tokens) == (500, 25000, 2500)
    assert total.cost_usd == pytest.approx((25000 * 10 + 2500 * 30) / 1e6)


def test_a_second_run_pays_nothing_and_needs_no_transport(made):
    echo = Echo()
    front = made(echo)
    list(front.ask(asks(map(str, range(300)))))
    again = list(front.ask(asks(map(str, range(300)))))
    assert len(echo.billed) == 300
    assert echo.n_sessions == 1
    assert all(reply.stored and reply.n_attempts == 0 for _, reply in again)
    total = spent(front.ledger.calls())["judge"]
    assert (total.n_calls, total.n_stored, total.input_tokens) == (300, 300, 15000)


def test_equal_requests_are_asked_once(made):
    echo = Echo()
    front = made(echo)
    found = list(front.ask(asks(["same", "other", "same", "same", "other", "last"] * 50)))
    assert set(echo.asked.values()) == {1}
    assert len(found) == 300
    assert {ask.tag for ask, _ in found} == set(range(300))
    assert all(reply.choices[0].text == ask.request.messages[0][1].upper() for ask, reply in found)
    assert Counter(reply.stored for _, reply in found) == {True: 297, False: 3}
    assert spent(front.ledger.calls())["judge"].input_tokens == 3 * 50


def test_a_failure_reaches_every_asker_and_is_not_kept(made):
    echo = Echo(fails=lambda request: True)
    front = made(echo)
    found = list(front.ask(asks(["same"] * 20)))
    assert len(found) == 20
    assert all(reply.failed and not reply.stored and "429" in reply.detail for _, reply in found)
    total = spent(front.ledger.calls())["judge"]
    assert (total.n_calls, total.n_unseen, total.most_usd) == (1, 3, None)
    echo.fails = lambda request: False
    assert texts(front.ask(asks(["same"]))) == {0: "SAME"}


def test_seats_are_drawn_anew(made):
    echo = Echo()
    front = made(echo)
    list(front.ask(asks(["same"]) + asks(["same"], seat=1)))
    assert len(echo.billed) == 2


def test_the_source_is_pulled_only_as_the_transport_pulls(made):
    pulled = []

    def source():
        for ask in asks(map(str, range(1000))):
            pulled.append(ask)
            yield ask

    echo = Echo(width=8)
    stream = made(echo).ask(source())
    assert pulled == []
    next(stream)
    assert len(pulled) <= 8 + 8
    stream.close()


def test_nones_go_through(made):
    def source():
        for ask in asks(map(str, range(50))):
            yield None
            yield ask

    echo = Echo()
    assert len(list(made(echo).ask(source()))) == 50
    assert echo.n_nones >= 50


@pytest.mark.parametrize("stored", [False, True])
def test_a_source_that_waits_for_replies_gets_them(made, stored):
    """Each ask comes only after the reply to the one before: no reply may be held back for company."""
    front = made(Echo())
    if stored:
        list(front.ask(asks(map(str, range(30)))))
    answered = []

    def source():
        for number, ask in enumerate(asks(map(str, range(30)))):
            while len(answered) < number:
                yield None
            yield ask

    start = time.monotonic()
    for ask, _ in front.ask(source()):
        answered.append(ask)
    assert len(answered) == 30
    assert time.monotonic() - start < 5


def test_a_full_cache_is_streamed_not_loaded(made):
    front = made(Echo())
    list(front.ask(asks(map(str, range(2000)))))
    pulled = []

    def source():
        for ask in asks(map(str, range(2000))):
            pulled.append(ask)
            yield ask

    most = 0
    for number, _ in enumerate(front.ask(source()), 1):
        most = max(most, len(pulled) - number)
    assert number == 2000
    assert most <= 64


def test_many_equal_asks_behind_a_slow_one_are_bounded(made):
    class Slow(Echo):
        def reply(self, request):
            time.sleep(0.2)
            return super().reply(request)

    pulled = []

    def source():
        for ask in asks(["same"] * 5000):
            pulled.append(ask)
            yield ask

    stream = made(Slow()).ask(source())
    next(stream)
    assert len(pulled) < 1200
    assert len(list(stream)) == 4999


def test_a_reply_is_in_cache_and_ledger_before_it_is_handed_on(made):
    front = made(Echo())
    for number, (ask, _) in enumerate(front.ask(asks(map(str, range(300)))), 1):
        key = front.key(ask.request)
        if number % 50 == 1:
            assert ReplyCache(front.cache.path).get(key) is not None
            assert key in {call.key for call in front.ledger.calls()}


def test_a_reply_does_not_wait_for_the_next_one(made):
    """The last of a burst is durable soon, though the transport is silent."""

    class Pause(Echo):
        def reply(self, request):
            if request.messages[0][1] == "last":
                time.sleep(0.5)
                n_kept.append(len(front.ledger.calls()))
            return super().reply(request)

    n_kept = []
    front = made(Pause(width=1))
    list(front.ask(asks([*map(str, range(10)), "last"])))
    assert n_kept == [10]


def test_nothing_is_lost_that_is_being_written_when_the_transport_ends(made):
    class Slow(Ledger):
        def append(self, calls):
            time.sleep(0.3)
            super().append(calls)

    class Pause(Echo):
        def ask(self, asks):
            yield from super().ask(asks)
            time.sleep(0.25)  # by now the last replies are being written in the other thread

    front = made(Pause())
    front.ledger = Slow(front.ledger.path)
    assert len(list(front.ask(asks(map(str, range(10)))))) == 10


def test_an_error_of_the_source_is_told_and_nothing_is_lost(made):
    def source():
        yield from asks(map(str, range(40)))
        raise UserError("the source broke")

    echo = Echo(width=4)
    front = made(echo)
    with pytest.raises(UserError, match="the source broke"):
        list(front.ask(source()))
    assert len(front.ledger.calls()) == len(echo.billed) > 30


def test_a_cache_that_breaks_on_the_way_is_told(made):
    front = made(Echo())
    stream = front.ask(asks(map(str, range(1000))))
    next(stream)
    with sqlite3.connect(front.cache.path, timeout=10) as db:
        db.execute("drop table replies")
    with pytest.raises(UserError, match="reply cache"):
        list(stream)


def test_lines_lost_between_cache_and_ledger_are_mended(made):
    front = made(Echo())
    list(front.ask(asks(map(str, range(100)))))
    path = front.ledger.path
    lines = path.read_text().splitlines(keepends=True)
    kept = "".join(lines[:60])
    written_at = path.stat().st_mtime
    path.write_text(kept)
    os.utime(path, (written_at - 60, written_at - 60))  # as if the process had died before the later groups
    assert mend(front.ledger, front.cache) == 40
    assert sorted(path.read_text().splitlines()) == sorted("".join(lines).splitlines())
    assert mend(front.ledger, front.cache) == 0


def test_a_new_run_at_an_old_place_owes_nothing(made):
    front = made(Echo())
    list(front.ask(asks(map(str, range(20)))))
    time.sleep(0.05)  # the clock of a file system may lag by a tick
    front.ledger.path.unlink()
    front.ledger.path.parent.rmdir()
    assert mend(front.ledger, front.cache) == 0  # before the folder is there
    front.ledger.path.parent.mkdir()
    assert mend(front.ledger, front.cache) == 0
    list(front.ask(asks(map(str, range(20)))))
    assert spent(front.ledger.calls())["judge"].cost_usd == 0


def test_a_budget_needs_a_price(made):
    with pytest.raises(UserError, match=r"'gpt-4o': its price is not known.*price: \{input"):
        made(Echo(), price=None, budget=Budget(1.0))


def bill(usages):
    return sum(u.input_tokens * PRICE.input + u.output_tokens * PRICE.output for u in usages) / 1e6


@pytest.mark.parametrize("factor", [0.2, 1.0, 3.0])
def test_the_budget_is_never_passed_and_the_run_goes_on(made, factor):
    """At 0.2, 1 and 3 times what the request should come to at most: 60 bytes of input and 20 tokens of output."""
    draw = random.Random(1)
    echo = Echo(width=64, usage=lambda _: Usage(int(60 * factor), int(draw.randint(10, 20) * factor)))
    limit, done = 0.05, []
    while len(done) < 400:
        front = made(echo, budget=Budget(limit, already_spent_usd=bill(echo.billed)))
        with suppress(BudgetReached):
            for ask, reply in front.ask(asks(map(str, range(400)))):
                done += [ask.tag] if not reply.stored else []
            break
        assert bill(echo.billed) <= limit
        assert bill(echo.billed) >= 0.5 * limit
        assert (
            len(done) == len(echo.billed) == len(front.ledger.calls()) - spent(front.ledger.calls())["judge"].n_stored
        )
        limit += 0.1
    assert sorted(done) == list(range(400))
    assert set(echo.asked.values()) == {1}


def test_two_models_share_a_budget_that_has_room_for_one_request(made):
    """The one that finds it set aside waits for the other's reply, and does not end."""
    front, other = made(Echo(width=1)), made(Echo(width=1))
    worst = worst_case(asks(["x"])[0].request, PRICE)
    most = worst.input_tokens * worst.input_usd + worst.output_tokens * worst.output_usd
    front.budget = other.budget = Budget(1.5 * most + 10 * bill([Usage(50, 5)]))
    stream = front.ask(asks(["first", "second"]))
    held = other.budget.reserve(worst)  # as if a third model had it
    ended = []
    thread = threading.Thread(target=lambda: ended.append(len(list(stream))))
    thread.start()
    time.sleep(0.3)
    assert held is Room.GIVEN
    assert thread.is_alive()
    assert not front.transport.billed
    other.budget.settle(worst, bill([Usage(50, 5)]), Usage(50, 5), failed=False)
    assert len(list(other.ask(asks(["third"])))) == 1
    thread.join(10)
    assert ended == [2]


def test_what_a_stream_has_under_way_that_is_broken_off_counts_as_the_most(made):
    front = made(Echo(width=4), budget=Budget(1.0))
    stream = front.ask(asks(map(str, range(100))))
    next(stream)
    under_way = front.budget.reserved_usd
    spent_before = front.budget.spent_usd
    stream.close()
    assert front.budget.reserved_usd == 0
    assert front.budget.spent_usd == pytest.approx(spent_before + under_way)


@pytest.mark.parametrize(("n_calls", "share"), [(0.5, 0), (1, 0.2), (2, 0.5), (5, 0.8), (50, 0.95)])
def test_small_budgets_are_used_on_a_server_with_faults(made, n_calls, share):
    """Worth is the most that one call can cost; bills are less than a third of it. Refusals cost nothing."""
    texts = [f"{number:05d} Rate this answer from one to ten and say why." for number in range(500)]
    worst = worst_case(asks(texts[:1])[0].request, PRICE)
    limit = n_calls * (worst.input_tokens * worst.input_usd + worst.output_tokens * worst.output_usd)
    with fault_server(latency=0.01, capacity=16, faults={"500": 0.1}, max_faults=2) as server:
        way = Server("judge", server.url)
        front = made(LiveTransport(way), budget=Budget(limit))
        front.server = way
        with pytest.raises(BudgetReached):
            list(front.ask(asks(texts)))
        stats = server.stats()
    billed = bill([Usage(stats["input_tokens"], stats["output_tokens"])])
    assert share * limit <= billed <= limit


CHILD = """
import sys
sys.path.insert(0, "tests/clients")
from pathlib import Path
from test_front import Echo, SERVER, PRICE, asks
from harness.clients.cache import ReplyCache
from harness.clients.front import Front, mend
from harness.clients.ledger import Ledger
folder = Path(sys.argv[1])
billed = open(folder / "billed", "a")
class Billing(Echo):
    def reply(self, request):
        reply = super().reply(request)
        billed.write(request.messages[0][1] + "\\n")
        billed.flush()
        return reply
cache, ledger = ReplyCache(folder / "replies.sqlite"), Ledger(folder / "calls.jsonl")
mend(ledger, cache)
front = Front(Billing(width=32), SERVER, cache, ledger, PRICE)
for ask, reply in front.ask(asks(map(str, range(3000)))):
    print(ask.tag, flush=True)
print("done", flush=True)
"""


def test_kill_at_random_points_loses_and_repays_nothing_that_was_handed_on(tmp_path):
    draw, seen, n_bills, n_killed = random.Random(2), set(), Counter(), 0
    for _ in range(30):
        process = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        handed = []
        for line in process.stdout:
            handed.append(line.strip())
            if n_killed < 6 and len(handed) > len(seen) and draw.random() < 0.004:
                os.kill(process.pid, signal.SIGKILL)
                n_killed += 1
                break
        handed += process.stdout.read().split("\n")[:-1]
        process.wait()
        billed = Counter((tmp_path / "billed").read_text().split())
        assert all(billed[tag] == n_bills[tag] for tag in seen)  # nothing that was handed on before was paid again
        seen, n_bills = seen | set(handed), billed
        if "done" in seen:
            break
    assert n_killed >= 3
    assert seen == {*map(str, range(3000)), "done"}
    calls = Ledger(tmp_path / "calls.jsonl").calls()
    billed = Counter((tmp_path / "billed").read_text().split())
    n_again = sum(billed.values()) - 3000
    # only what was at the transport or in a group that was not written yet may be paid twice
    assert n_again <= n_killed * (32 + 64)
    n_paid = Counter(call.key for call in calls if call.outcome == "ok")
    assert len(n_paid) == 3000
    assert sum(n_paid.values()) <= sum(billed.values())
    assert all(json.loads(line) for line in (tmp_path / "calls.jsonl").read_text().splitlines())
