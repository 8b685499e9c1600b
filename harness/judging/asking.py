"""Judges put their questions to one model, in one stream.

Keeps the model busy whatever judge a question is of. A reply that lacks some of its seats (a server that ignores ``n``)
has those asked again, one by one. An item that cannot be judged gets its skipped verdicts without a question.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from harness.clients.base import Ask, Reply, Transport
from harness.clients.front import Front
from harness.judging.base import JudgeItem, blank
from harness.records import Verdict, VerdictOutcome

if TYPE_CHECKING:
    from harness.judging.prompt_judge import PromptJudge


class Asking(NamedTuple):
    """A judge and what it is to judge."""

    judge: PromptJudge
    item: JudgeItem


def ask_judges(
    transport: Transport, askings: Iterable[Asking | None], stopped: Callable[[], bool] = lambda: False
) -> Iterator[list[Verdict]]:
    """The verdicts of every question, as they are reached, those of replies that came together side by side.

    Args:
        transport: The way to the model; a front's replies carry the key of their line in the ledger.
        askings: What is to be judged; ``None`` when there is nothing right now.
        stopped: Whether nothing is to be asked again, so that only what is under way is waited for.
    """
    front = transport if isinstance(transport, Front) else None
    stream = _Stream(front, iter(askings), stopped)
    asks = stream.asks()
    groups = front.ask_in_groups(asks) if front is not None else ([pair] for pair in transport.ask(asks))
    for replies in groups:
        if verdicts := stream.skipped() + [verdict for ask, reply in replies for verdict in stream.settle(ask, reply)]:
            yield verdicts
    if verdicts := stream.skipped():
        yield verdicts


class _Stream:
    """The questions that are open, and those to be asked again."""

    def __init__(self, front: Front | None, askings: Iterator[Asking | None], stopped: Callable[[], bool]) -> None:
        self.front, self.askings, self.stopped = front, askings, stopped
        self.again: deque[Asking] = deque()
        self.unasked: list[Verdict] = []
        self.n_open = 0
        self.ended = False

    def asks(self) -> Iterator[Ask | None]:
        """Questions, ``None`` while there are none but replies are awaited."""
        while self.again or self.n_open or not self.ended:
            if self.stopped():
                self.again.clear()
            asking = self.again.popleft() if self.again else self._next()
            self.n_open += asking is not None
            yield asking and Ask(asking.judge.request(asking.item, asking.item.seats), asking)

    def _next(self) -> Asking | None:
        for asking in self.askings:
            if asking is None or (reason := asking.judge.unfit(asking.item)) is None:
                return asking
            spec, item = asking.judge.spec, asking.item
            self.unasked += [blank(spec, item, VerdictOutcome.SKIPPED, reason, seat=seat) for seat in item.seats]
        self.ended = True
        return None

    def settle(self, ask: Ask, reply: Reply) -> list[Verdict]:
        """The verdicts that a reply amounts to."""
        self.n_open -= 1
        judge, item = ask.tag
        verdicts: list[Verdict] = judge.verdicts(item, reply, self.front and self.front.key(ask.request))
        given = {verdict.seat for verdict in verdicts}
        self.again.extend(Asking(judge, item._replace(seats=(seat,))) for seat in item.seats if seat not in given)
        return verdicts

    def skipped(self) -> list[Verdict]:
        """The verdicts on what could not be judged, since the last call."""
        verdicts, self.unasked = self.unasked, []
        return verdicts
