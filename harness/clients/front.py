"""What stands before a transport: the cache, equal requests asked once, the budget, the ledger.

Reads and writes the reply cache and the run's ledger. A reply is in both before it is handed on, in groups: one
transaction and one synced append for all replies of at most `GROUP_SECONDS` or `GROUP_SIZE`. The cache is written
first; a line that a crash kept from the ledger is found there and added when the run goes on.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import lru_cache, partial
from itertools import chain
from typing import Final, NamedTuple

from harness.clients.base import Ask, ChatRequest, Reply, Server, Transport, Usage
from harness.clients.budget import Budget, BudgetReached, Room, Worst, needs_price, worst_case
from harness.clients.cache import Paid, ReplyCache
from harness.clients.ledger import Ledger, entry
from harness.clients.prices import Price, cost
from harness.clients.wire import request_key
from harness.records import Call

GROUP_SECONDS = 0.05
GROUP_SIZE = 64
_MAX_HELD = 1024  # asks that are answered, or wait for an equal one, and are not handed on yet
_MENDED_SECONDS = 60.0  # before the ledger's last line, from which what was paid is looked for in the cache
_LAST_SHARE = 0.1  # of a budget, for which no further batch is made
_END: Final = object()


class Front:
    """A transport before a transport.

    Raises:
        UserError: A budget is set but the model's price is not known, or the cache cannot be used.
        BudgetReached: While asking, after every finished reply was handed on.
    """

    def __init__(
        self,
        transport: Transport,
        server: Server,
        cache: ReplyCache,
        ledger: Ledger,
        price: Price | None = None,
        budget: Budget | None = None,
        batched: bool = False,
    ) -> None:
        if budget is not None and price is None:
            raise needs_price(server.model)
        self.transport = transport
        self.server = server
        self.cache = cache
        self.ledger = ledger
        self.price = price
        self.budget = budget
        self.batched = batched
        self._key = lru_cache(2 * _MAX_HELD)(lambda request: request_key(request, server))

    def key(self, request: ChatRequest) -> str:
        """SHA-256 of everything that the request puts on the wire: the key of its line in the ledger."""
        return self._key(request)

    def ask(self, asks: Iterable[Ask | None]) -> Iterator[tuple[Ask, Reply]]:
        """One reply for every request, those that were paid for before at once."""
        for group in self.ask_in_groups(asks):
            yield from group

    def ask_in_groups(self, asks: Iterable[Ask | None]) -> Iterator[list[tuple[Ask, Reply]]]:
        """The same, with the replies side by side that were made durable together."""
        return _Stream(self, asks).groups()


def mend(ledger: Ledger, cache: ReplyCache) -> int:
    """Adds the lines that a killed process paid for but could not write any more; tells how many.

    Called once a run, before its budget is made from the ledger.
    """
    # Of several models side by side one may have written after another had paid; a line known already is not added.
    since = ledger.written_at() - (_MENDED_SECONDS if ledger.path.exists() else 0.0)
    lines = cache.paid_since(ledger.name, since)
    if lines:
        written = {call.key for call in ledger.calls() if call.outcome not in ("error", "stored")}
        lost = [Call.model_validate_json(line) for key, line in lines.items() if key not in written]
        ledger.append(lost)
        return len(lost)
    return 0


def _less(usage: Usage | None, charged: Usage) -> Usage | None:
    """What is left of a bill; ``None`` where the last attempt told none."""
    if usage is None or usage == charged:
        return None
    return Usage(*(of_all - part for of_all, part in zip(usage, charged, strict=True)))


def _sum(usages: Iterable[Usage]) -> Usage:
    return Usage(*map(sum, zip(Usage(), *usages, strict=True)))


class _Settled(NamedTuple):
    """A reply on its way to cache, ledger and asker; ``sent`` where it came from the transport."""

    key: str
    ask: Ask
    reply: Reply
    line: str
    sent: bool

    @property
    def final(self) -> bool:
        """A line of the ledger is never owed again."""
        return True

    def to_line(self) -> str:
        """Its line of the ledger."""
        return self.line


class _Stream:
    """One stream of asks through a front."""

    def __init__(self, front: Front, asks: Iterable[Ask | None]) -> None:
        self.front = front
        self.upstream = iter(asks)
        self.ended = False
        self.over_budget = False
        self.unaffordable: Ask | None = None  # waits until enough of the budget is free
        self.refused = False  # by the budget, the last time it was asked
        self.n_sent = 0  # at the transport
        self.n_held = 0  # answered or waiting for an equal one, and not handed on
        self.worst: dict[str, Worst] = {}
        self.charged: dict[str, list[Usage]] = {}  # of attempts that were billed, of no use and made again
        self.askers: dict[str, list[Ask]] = {}  # key → who waits for it; stays until the reply is in the cache
        self.group: list[_Settled] = []
        self.ready: deque[tuple[Ask, Reply]] = deque()
        self.lock = threading.Lock()  # of askers and group
        self.writing = threading.Lock()
        self.written_at = 0.0
        self.closed = threading.Event()

    def groups(self) -> Iterator[list[tuple[Ask, Reply]]]:
        """The whole stream; the transport is given up and taken up again where the cache answers for long."""
        threading.Thread(target=self._beat, name="replies to disk", daemon=True).start()
        try:
            while not self.ended:
                source = self._source()
                first = next(source, _END)
                if first is not _END:
                    for ask, reply in self.front.transport.ask(chain([first], source)):  # type: ignore[list-item]
                        self._settle(ask, reply)
                        yield from self._handed()
                self._write()  # also waits for what is being written
                while self.group:
                    self._write()
                yield from self._handed()
        finally:
            self.closed.set()
            self._give_up()
            self._write()
        if self.over_budget and self.front.budget is not None:
            raise BudgetReached.at(self.front.budget.spent_usd, self.front.budget.limit_usd)

    def _handed(self) -> Iterator[list[tuple[Ask, Reply]]]:
        """What is ready, if anything is."""
        found = [self.ready.popleft() for _ in range(len(self.ready))]
        self.n_held -= len(found)
        if found:
            yield found

    def _source(self) -> Iterator[Ask | None]:
        """What the transport has to send. Ends early, with nothing under way, to have what is ready handed on."""
        while True:
            if self.n_sent == 0 and (self.ready or len(self.group) >= GROUP_SIZE or self.n_held >= _MAX_HELD):
                return
            ask = self._next()
            if ask is _END:
                self.ended = True
                return
            if isinstance(ask, Ask):
                key = self.front.key(ask.request)
                if self._answered(key, ask):
                    continue
                room = self._room(key, ask)
                if room is Room.GIVEN:
                    self.n_sent += 1
                    self.askers[key] = [ask]
                    yield Ask(ask.request, key, partial(self._once_more, key))
                    continue
                if room is Room.NONE and self.n_sent == 0:
                    self.ended = self.over_budget = True
                    return
            if self.n_sent == 0 and self.group:
                return
            yield None

    def _next(self) -> object:
        """The next ask; ``None`` where there is none now or none can be taken."""
        if self.unaffordable is not None:
            ask, self.unaffordable = self.unaffordable, None
            return ask
        return None if self.n_held >= _MAX_HELD else next(self.upstream, _END)

    def _answered(self, key: str, ask: Ask) -> bool:
        """Whether the cache has the reply, or an equal request that is under way will have it."""
        with self.lock:
            waiting = self.askers.get(key)
            if waiting is not None:
                waiting.append(ask)
                self.n_held += 1
                return True
        reply = self.front.cache.get(key)
        if reply is not None:
            self.n_held += 1
            self._gather(key, ask, reply, sent=False)
        return reply is not None

    def _room(self, key: str, ask: Ask) -> Room:
        """Whether the budget has room for a request; one that has to wait comes next again."""
        if self.front.budget is None or self.front.price is None:
            return Room.GIVEN
        worst = worst_case(ask.request, self.front.price, self.front.batched)
        room = self._next_batch(self.front.budget) or self.front.budget.reserve(worst)
        if room is Room.GIVEN:
            self.worst[key], self.refused = worst, False
        else:
            self.unaffordable, self.refused = ask, True
        return room

    def _next_batch(self, budget: Budget) -> Room | None:
        """A batch may take a day: what a budget has no room for waits for all of them, or is left when little is."""
        if not (self.front.batched and self.refused):
            return None
        if self.n_sent:
            return Room.LATER
        little = budget.limit_usd - budget.spent_usd < _LAST_SHARE * budget.limit_usd
        return Room.NONE if little else None

    def _settle(self, sent: Ask, reply: Reply) -> None:
        """Takes a reply from the transport, whose asks are tagged with their keys."""
        key = sent.tag
        self.n_sent -= 1
        self.n_held += 1
        worst, reckoned = self.worst.pop(key, None), None
        charged = self.charged.pop(key, None)
        usage = _less(reply.usage, _sum(charged)) if charged else reply.usage
        if worst is not None and self.front.budget is not None:
            bill = cost(usage, self.front.price, reply.batched)
            last_usd = self.front.budget.settle(worst, bill, usage, reply.failed)
            if bill is None and not reply.failed:
                reckoned = last_usd + (cost(_sum(charged or ()), self.front.price) or 0.0)
        self._gather(key, self.askers[key][0], reply, sent=True, reckoned_usd=reckoned)
        if len(self.group) >= GROUP_SIZE or time.monotonic() - self.written_at > GROUP_SECONDS:
            self._write()

    def _once_more(self, key: str, usage: Usage) -> bool:
        """A billed reply was of no use: charges its bill, and sets as much aside for another where there is room."""
        self.charged.setdefault(key, []).append(usage)
        worst, budget = self.worst.get(key), self.front.budget
        if worst is None or budget is None:
            return budget is None
        budget.settle(worst, cost(usage, self.front.price), usage, failed=True)
        if budget.reserve(worst) is Room.GIVEN:
            return True
        self.worst.pop(key, None)
        return False

    def _give_up(self) -> None:
        """What a stream that was broken off had under way counts as the most: nobody will tell what it cost.

        The bills of attempts that were to be made again are known, and go into the ledger.
        """
        while self.worst and self.front.budget is not None:
            self.front.budget.settle(self.worst.popitem()[1], None, None, failed=False)
        while self.charged:
            key, usages = self.charged.popitem()
            told = "stopped before another attempt had come back"
            reply = Reply((), usage=_sum(usages), n_attempts=len(usages), detail=told)
            self._gather(key, self.askers[key][0], reply, sent=False)

    def _gather(self, key: str, ask: Ask, reply: Reply, sent: bool, reckoned_usd: float | None = None) -> None:
        call = entry(key, ask.request, reply, self.front.server.model, self.front.price, reckoned_usd)
        with self.lock:
            self.group.append(_Settled(key, ask, reply, call.to_line(), sent))

    def _write(self) -> None:
        """Makes the group durable, and only then ready; whoever waited for an equal request comes next."""
        with self.writing:
            with self.lock:
                group, self.group = self.group, []
            try:
                self._keep(group)
            except BaseException:
                with self.lock:
                    self.group[:0] = group
                raise
            self.written_at = time.monotonic()
            for settled in group:
                self.ready.append((settled.ask, settled.reply))
                if settled.sent:
                    self._share(settled.key, settled.reply)

    def _share(self, key: str, reply: Reply) -> None:
        """Gives a reply to whoever waited for an equal request; nobody is billed for it again."""
        with self.lock:
            others = self.askers.pop(key)[1:]
        usage = None if reply.failed else reply.usage
        shared = reply._replace(stored=not reply.failed, usage=usage, n_attempts=0, seconds=0.0)
        for ask in others:
            self._gather(key, ask, shared, sent=False)

    def _keep(self, group: list[_Settled]) -> None:
        name = self.front.ledger.name
        model = self.front.server.model
        self.front.cache.put_many(Paid(s.key, model, s.reply, name, s.line) for s in group if s.sent)
        self.front.ledger.append(group)

    def _beat(self) -> None:
        """Writes what has gathered where no reply comes that would have it written."""
        while not self.closed.wait(GROUP_SECONDS):
            with suppress(Exception):  # the group is still there: the stream meets the same error and tells it
                if self.group and time.monotonic() - self.written_at > 2 * GROUP_SECONDS:
                    self._write()
