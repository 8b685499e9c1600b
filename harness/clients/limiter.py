"""How many requests a server is sent at once: found by trying, without a clock or a thread of its own.

A server that refuses (429) shows its limit at once: no more are under way than it took. A server that queues shows it
in its latency: twice as many under way take twice as long, and Little's law says how many would be under way if nobody
queued. (One that refuses is not looked at for queueing: this machine's own delays would pass for it.) Between such
signs the limit grows: at first it doubles whenever the server had time to refuse and did not (a refusal comes at once,
an answer late), then threefold in a round trip, later by a little, and by more with each round trip that goes well. A
refusal far below what the server has proved to take is chance, not a limit. Once a server has refused, requests are
spread over the round trip: a limit of so many a second takes no crowds.

Times are seconds of any monotonic clock, given by the caller.
"""

from __future__ import annotations

import math
from collections import defaultdict
from typing import NamedTuple

_FAST, _CALM, _SLOW = 2.0, 0.3, 0.02  # growth of the limit for every reply before which it was used up
_BACK = 0.1  # growth back to what the server has proved to take
_CHANCE = 0.05  # a share of refusals up to which growth goes on
_DISPROOF = 0.15  # a share of refusals from which what the server once took does not count any more
_UNTOLD_SECONDS = 0.1  # in which a server without room would have refused
_FEWEST = 8  # refusals or latencies that say anything
_RISE = math.log(1.6)  # of the latency from one level to the double, from which requests queue
_RISE_SECONDS = 0.3  # the least of it that counts: new connections and a busy machine bring about less
_CERTAIN = 4.0  # standard errors
_REMEMBERED = 512  # latencies of a level
_HEADROOM, _LITTLE_HEADROOM = 1.5, 1.25  # over what would be under way if nobody queued
_SATURATED = 0.85  # rise of the latency over that of the level (both logarithms), from which even the lower one queues
_HOLD = 12  # round trips for which a limit that the latency set is left alone
_PAUSE_SHARE = 0.05  # of the time, at most, goes into pauses that trying for more brings about
_SPREAD = 1.25  # the rate of sending, over the limit per round trip
_CROWD_SECONDS = 0.02  # what is due in so short a time is sent together


class Flight(NamedTuple):
    """A request under way: when it was sent, and how many were then under way, itself included."""

    started: float
    level: int


class Limiter:
    """Tells when another request may be sent, and learns from what becomes of each.

    Args:
        max_concurrency: Most requests at once.
        start: Requests at once before anything is known of the server.
    """

    def __init__(self, max_concurrency: int = 512, start: int = 128) -> None:
        self.max_concurrency = max_concurrency
        self.n_under_way = 0
        self._limit = float(min(start, max_concurrency))
        self._step = self._fastest = _FAST
        self._proved = 0.0  # most requests under way of which one was answered
        self._paused_until = self._steady_until = -math.inf
        self._round = self._shrunk = -math.inf  # start of this round trip, and of the last shrinking
        self._full = -math.inf  # when last another one had to wait
        self._last_sent = -math.inf
        self._floor = 1.0
        self._n_answered = self._n_refused = 0  # in this round trip
        self._latency = 0.0  # smoothed
        self._due = -math.inf  # when the next request is to be sent, where they are spread
        self._levels: dict[int, _Level] = defaultdict(_Level)  # by octave
        self._weighed_from = -math.inf
        self._n_held: int | None = None  # replies since the latency set the limit

    @property
    def limit(self) -> int:
        """Requests that may be under way at once."""
        return max(1, int(self._limit))

    def delay(self, now: float) -> float:
        """Seconds until another request may be sent: 0 is now, infinity is not before one comes back."""
        if self.n_under_way >= self.limit and (wait := self._until_doubled(now)) > 0:
            self._full = now
            return wait
        pause = self._paused_until - now
        early = self._due - now
        return max(0.0, pause, early if early > _CROWD_SECONDS else 0.0)

    def sent(self, now: float) -> Flight:
        """A request goes out; hand the flight back when it is over."""
        self.n_under_way += 1
        self._last_sent = now
        if self._shrunk > -math.inf:
            self._due = max(self._due, now - _CROWD_SECONDS) + self._latency / (_SPREAD * self._limit)
        return Flight(now, self.n_under_way)

    def answered(self, flight: Flight, now: float) -> None:
        """The server did the work."""
        latency = now - flight.started
        self.n_under_way -= 1
        self._n_answered += 1
        self._proved = max(self._proved, flight.level)
        self._latency += (latency - self._latency) * (0.05 if self._latency else 1.0)
        if flight.started >= self._round:
            self._turn(now)
        if flight.started < self._weighed_from:
            return  # it queued behind what was sent before the latency set the limit
        if self._n_held is not None:
            self._hold(now)
        elif self._full >= flight.started and now >= self._steady_until:
            step = self._step if self._limit > 0.98 * self._proved else max(self._step, _BACK)
            self._limit = min(self.max_concurrency, self._limit + step)
        if self._shrunk == -math.inf:
            self._weigh(flight.level, latency, now)

    def refused(self, flight: Flight, now: float, pause: float = 0.0) -> None:
        """The server had no room (429), for ``pause`` seconds where it says so: a pause for all."""
        self.n_under_way -= 1
        self._n_refused += 1
        if pause > 0:
            self._paused_until = max(self._paused_until, now + pause)
            self._steady_until = max(self._steady_until, now + pause / _PAUSE_SHARE)
        n = self._n_refused + self._n_answered
        if self._n_refused >= max(_FEWEST, _DISPROOF * n):
            self._proved = min(self._proved, self.n_under_way)
        if flight.level >= 0.8 * self._proved:
            self._shrink(flight, now)
            if self._n_refused >= max(_FEWEST, _CHANCE * n):
                self._step = _SLOW

    def lost(self, flight: Flight) -> None:
        """The request came to nothing, and that says nothing of how much the server takes."""
        self.n_under_way -= 1

    def _until_doubled(self, now: float) -> float:
        """Seconds until the server's silence doubles the limit; infinity once it has answered or refused anything."""
        if self._proved or self._n_refused or self.limit >= self.max_concurrency:
            return math.inf
        wait = self._last_sent + _UNTOLD_SECONDS - now
        if wait <= 0:
            self._limit = min(float(self.max_concurrency), 2 * self._limit)
        return wait

    def _shrink(self, flight: Flight, now: float) -> None:
        """Down to what is under way, but by no more than half for all that was sent before the last time."""
        if flight.started >= self._shrunk:
            self._shrunk, self._floor = now, self._limit / 2
        self._limit = max(1.0, min(self._limit, max(self._floor, self.n_under_way)))

    def _turn(self, now: float) -> None:
        """A round trip is over: faster if it went well."""
        if self._n_refused <= _CHANCE * self._n_answered:
            self._step = min(self._fastest, 2 * self._step)
        else:
            self._step = _SLOW
        self._round, self._n_answered, self._n_refused = now, 0, 0

    def _weigh(self, level: int, latency: float, now: float) -> None:
        """Compares the latencies of neighbouring octaves of levels: 8 to 15 with 16 to 31, and so on."""
        octave = level.bit_length()
        self._levels[octave].add(level, latency)
        for upper in (octave, octave + 1):
            high, low = self._levels[upper], self._levels[upper - 1]
            rise = high.rise_over(low)
            if rise is not None and rise >= _RISE and high.seconds - low.seconds >= _RISE_SECONDS:
                headroom = _LITTLE_HEADROOM if rise >= _SATURATED * (high.level - low.level) else _HEADROOM
                self._limit = max(1.0, min(self._limit, headroom * math.exp(high.level - rise)))
                self._n_held = 0
                return self._forget(now)

    def _hold(self, now: float) -> None:
        """Leaves the limit alone for long, then looks anew from half of it: less may do, or more be of use."""
        assert self._n_held is not None
        self._n_held += 1
        if self._n_held >= _HOLD * self.limit:
            self._limit, self._n_held = max(1.0, self._limit / 2), None
            self._step = self._fastest = _CALM
            self._forget(now)

    def _forget(self, now: float) -> None:
        self._levels.clear()
        self._weighed_from = now


class _Level:
    """Logarithms of the latencies of requests that were sent at about the same level; old ones fade."""

    def __init__(self) -> None:
        self.n = self._levels = self._total = self._squares = 0.0

    def add(self, level: int, latency: float) -> None:
        if self.n >= _REMEMBERED:
            self.n, self._levels, self._total, self._squares = (
                x / 2 for x in (self.n, self._levels, self._total, self._squares)
            )
        value = math.log(max(latency, 1e-6))
        self.n += 1
        self._levels += math.log(level)
        self._total += value
        self._squares += value * value

    @property
    def level(self) -> float:
        """The mean level (logarithm)."""
        return self._levels / self.n

    @property
    def seconds(self) -> float:
        """The mean latency (geometric)."""
        return math.exp(self._total / self.n)

    def rise_over(self, other: _Level) -> float | None:
        """How much higher the mean is than another's; ``None`` where that may be chance."""
        if self.n < _FEWEST or other.n < _FEWEST:
            return None
        rise = self._total / self.n - other._total / other.n
        return rise if rise > _CERTAIN * math.sqrt(self._error() + other._error()) else None

    def _error(self) -> float:
        """The square of the mean's standard error."""
        mean = self._total / self.n
        return max(0.0, self._squares / self.n - mean * mean) / (self.n - 1)
