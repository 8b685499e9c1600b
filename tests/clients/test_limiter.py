"""The limiter against simulated servers: it finds what they take, soon, and asks for little more."""

import heapq
import itertools
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.clients.limiter import Flight, Limiter


class Run:
    """Requests through a limiter to a simulated server, event by event.

    The server works on ``capacity`` at once and refuses or queues the rest, admits ``rate`` a second, and refuses a
    share ``chance`` for no reason; ``latency`` gives the seconds of one request.
    """

    def __init__(self, n, latency, capacity=math.inf, queues=False, rate=math.inf, chance=0.0, pause=0.0, changes=()):
        self.random, self.limiter = random.Random(0), Limiter()
        self.latency, self.capacity, self.queues, self.rate = latency, capacity, queues, rate
        self.chance, self.pause, self.changes = chance, pause, list(changes)
        self.now, self.todo, self.n_answered, self.n_refused = 0.0, n, 0, 0
        self.events, self.numbers, self.queue, self.n_working = [], itertools.count(), [], 0
        self.tokens, self.filled = 1.0, 0.0
        self.limits = []
        self.send()
        while self.n_answered < n:
            self.now, _, event, flight = heapq.heappop(self.events)
            event(flight)

    def at(self, seconds, event, flight=None):
        heapq.heappush(self.events, (self.now + seconds, next(self.numbers), event, flight))

    def send(self, _=None):
        while self.todo:
            delay = self.limiter.delay(self.now)
            if delay > 0:
                if delay < math.inf:
                    self.at(delay, self.send)
                return
            self.todo -= 1
            self.at(0.001, self.arrive, self.limiter.sent(self.now))

    def arrive(self, flight):
        if self.changes and self.now >= self.changes[0][0]:
            self.capacity = self.changes.pop(0)[1]
        self.tokens = min(1 + self.rate / 10, self.tokens + (self.now - self.filled) * self.rate)
        self.filled = self.now
        full = self.n_working >= self.capacity
        if (full and not self.queues) or self.tokens < 1 or self.random.random() < self.chance:
            self.at(0.001, self.refuse, flight)
            return
        self.tokens -= self.rate < math.inf
        self.queue.append(flight)
        self.work()

    def work(self):
        while self.queue and self.n_working < self.capacity:
            self.n_working += 1
            self.at(self.latency(self.random), self.answer, self.queue.pop(0))

    def answer(self, flight):
        self.n_working -= 1
        self.n_answered += 1
        self.limiter.answered(flight, self.now)
        self.limits.append(self.limiter.limit)
        self.work()
        self.send()

    def refuse(self, flight):
        self.n_refused += 1
        self.limiter.refused(flight, self.now, self.pause)
        self.at(self.random.random() * 0.2, self.again)
        self.send()

    def again(self, _):
        self.todo += 1
        self.send()

    @property
    def rate_reached(self):
        return self.n_answered / self.now

    @property
    def usual_limit(self):
        late = sorted(self.limits[len(self.limits) // 2 :])
        return late[len(late) // 2]


def fixed(seconds):
    return lambda _: seconds


def varied(seconds, sigma=0.6):
    return lambda r: seconds * math.exp(r.gauss(0, sigma))


@pytest.mark.parametrize(("seconds", "share"), [(1.0, 0.95), (0.2, 0.93)])
def test_a_server_that_refuses_is_kept_full(seconds, share):
    run = Run(10_000, fixed(seconds), capacity=256)
    assert run.rate_reached >= share * 256 / seconds
    assert 250 <= run.usual_limit <= 270
    assert run.n_refused <= 0.08 * 10_000


def test_a_small_server_is_not_stormed():
    run = Run(2_000, varied(0.5), capacity=8)
    assert run.usual_limit <= 10
    assert run.n_refused <= 128 + 0.12 * 2_000  # the first ones all at once
    assert run.rate_reached >= 0.9 * 8 / (0.5 * math.exp(0.18))


def test_without_a_limit_it_grows_to_the_most_allowed():
    run = Run(5_000, varied(1.0))
    assert run.limiter.limit == 512
    assert run.n_refused == 0


def test_a_slow_server_need_not_answer_before_it_is_sent_more():
    limiter, now = Limiter(), 0.0
    while now < 0.5:
        delay = limiter.delay(now)
        if delay == 0:
            limiter.sent(now)
        elif delay == math.inf:
            break
        now += delay
    assert limiter.n_under_way == 512


@pytest.mark.parametrize("capacity", [1, 4, 16, 100])
@pytest.mark.parametrize("latency", [fixed(1.0), varied(1.0)], ids=["fixed", "varied"])
def test_a_server_that_queues_is_found(capacity, latency):
    run = Run(4_000, latency, capacity=capacity, queues=True)
    assert run.usual_limit <= max(48, 3 * capacity)
    mean = 1.0 * (1.0 if latency.__code__ is fixed(0).__code__ else math.exp(0.18))
    assert run.rate_reached >= 0.85 * capacity / mean


def test_latencies_that_only_vary_are_no_knee():
    run = Run(10_000, varied(1.0, sigma=1.0))
    assert run.usual_limit == 512


def test_random_refusals_do_not_hold_it_down():
    run = Run(10_000, fixed(1.0), capacity=256, chance=0.03)
    assert run.usual_limit >= 230
    assert run.rate_reached >= 0.75 * 256


def test_a_limit_of_so_many_a_second_is_reached():
    run = Run(3_000, fixed(1.0), rate=50)
    assert run.rate_reached >= 0.8 * 50
    assert run.n_refused <= 0.2 * 3_000


def test_a_refusal_with_a_pause_is_seldom_risked():
    run = Run(10_000, fixed(1.0), capacity=256, pause=1.0)
    assert run.rate_reached >= 0.9 * 256
    assert run.n_refused <= 300  # the first 256 too many all at once


def test_it_follows_a_server_that_shrinks_and_grows():
    run = Run(6_000, fixed(0.5), capacity=200, changes=[(5.0, 50), (25.0, 200)])
    assert min(run.limits[2500:]) <= 60
    assert max(run.limits[-500:]) >= 150


def test_a_pause_is_for_all_and_does_not_shorten():
    limiter = Limiter(start=8)
    flights = [limiter.sent(0.0) for _ in range(4)]
    limiter.refused(flights[0], 1.0, pause=5.0)
    limiter.refused(flights[1], 1.5, pause=0.5)
    assert limiter.delay(2.0) == pytest.approx(4.0)
    assert limiter.delay(6.5) == 0


def test_one_round_trip_of_refusals_halves_at_most():
    limiter = Limiter(start=64)
    flights = [limiter.sent(0.0) for _ in range(64)]
    for i, flight in enumerate(flights):
        limiter.refused(flight, 0.1 + i / 1000)
    assert limiter.limit == 32


@given(st.lists(st.tuples(st.sampled_from(["sent", "answered", "refused", "lost"]), st.floats(0, 30)), max_size=300))
def test_it_stays_within_its_bounds_whatever_happens(events):
    limiter, under_way, now = Limiter(max_concurrency=40, start=16), [], 0.0
    for kind, seconds in events:
        now += seconds
        if kind == "sent":
            if limiter.delay(now) == 0:
                under_way.append(limiter.sent(now))
        elif under_way:
            flight: Flight = under_way.pop(0)
            if kind == "refused":
                limiter.refused(flight, now, seconds)
            elif kind == "answered":
                limiter.answered(flight, now)
            else:
                limiter.lost(flight)
        assert 1 <= limiter.limit <= 40
        assert limiter.n_under_way == len(under_way) <= 40
        assert limiter.delay(now) < math.inf or under_way
