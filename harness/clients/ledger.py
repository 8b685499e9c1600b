"""The ledger of a run: every request to a remote model and what it was billed.

Reads and appends ``calls.jsonl``. A reply from the cache is a line too, billed nothing. An attempt that failed may have
been billed without our ever seeing its usage (a connection lost in the middle of a reply): such attempts are counted,
and `Spent.most_usd` adds them as if each had cost as much as the dearest call of its role.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, NamedTuple

from harness import store
from harness.clients.base import ChatRequest, ChoiceOutcome, Reply
from harness.clients.prices import Price, cost
from harness.records import Call

Outcome = Literal["ok", "truncated", "refused", "filtered", "error", "stored"]


class Spent(NamedTuple):
    """What the calls of one role came to.

    Attributes:
        n_calls: Requests that were sent and got a reply of any kind.
        n_stored: Requests that the cache answered.
        n_errors: Requests that came to nothing.
        n_unseen: Attempts whose bill, if any, was never seen.
        input_tokens: Billed, as far as the server said, and so for the next two.
        cached_tokens: The part of the input that the provider's prompt cache served.
        output_tokens: Billed.
        cost_usd: The sum of the known costs.
        n_unknown_cost: Replies that were billed an unknown amount: no price, or the server gave no usage.
        most_usd: The known costs, with every unknown bill as dear as the dearest known; ``None`` where none is known.
    """

    n_calls: int = 0
    n_stored: int = 0
    n_errors: int = 0
    n_unseen: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float = 0.0
    n_unknown_cost: int = 0
    most_usd: float | None = 0.0


class Ledger:
    """The file of one run.

    Attributes:
        path: Where it is.
        name: By which the cache knows it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = str(path.resolve())

    def written_at(self) -> float:
        """When it was last written (seconds of the Unix epoch); where there is none yet, when its folder was.

        What was paid long before belongs to an earlier run at the same place.
        """
        written = self.path if self.path.exists() else self.path.parent
        return written.stat().st_mtime if written.exists() else time.time()

    def calls(self) -> list[Call]:
        """Every line that can be read."""
        return store.read(self.path, Call).records

    def append(self, calls: Iterable[Call | store.Keyed]) -> None:
        """Writes lines, durable when it returns."""
        store.append(self.path, calls)

    def spent_usd(self) -> float:
        """What all calls came to; a bill that the server did not tell as it was reckoned then."""
        return sum(call.cost_usd if call.cost_usd is not None else call.reckoned_usd or 0.0 for call in self.calls())


def entry(
    key: str, request: ChatRequest, reply: Reply, model: str, price: Price | None, reckoned_usd: float | None = None
) -> Call:
    """The ledger line of a reply; ``reckoned_usd`` is what a budget charged where the whole bill is not known."""
    usage = reply.usage
    stored = reply.stored
    known = 0.0 if stored else None if reckoned_usd is not None else cost(usage, price, reply.batched)
    return Call(
        key=key,
        role=request.role,
        model=model,
        served_model=reply.served_model,
        outcome=_outcome(reply),
        n_attempts=reply.n_attempts,
        input_tokens=0 if stored else usage and usage.input_tokens,
        cached_tokens=0 if stored else usage and usage.cached_tokens,
        output_tokens=0 if stored else usage and usage.output_tokens,
        cost_usd=known,
        reckoned_usd=reckoned_usd,
        seconds=reply.seconds,
        finished_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
        batched=reply.batched,
        detail=reply.detail,
    )


def _outcome(reply: Reply) -> Outcome:
    if reply.failed:
        return "error"
    if reply.stored:
        return "stored"
    outcomes = [choice.outcome for choice in reply.choices]
    return (ChoiceOutcome.OK if ChoiceOutcome.OK in outcomes else outcomes[0]).value


def spent(calls: Iterable[Call]) -> dict[str, Spent]:
    """Role → what its calls came to."""
    by_role: dict[str, list[Call]] = {}
    for call in calls:
        by_role.setdefault(call.role, []).append(call)
    return {role: _sum(calls) for role, calls in sorted(by_role.items())}


def _sum(calls: list[Call]) -> Spent:
    sent = [call for call in calls if call.n_attempts > 0]
    known = [call.cost_usd for call in sent if call.cost_usd is not None]
    n_unknown = sum(call.cost_usd is None and call.outcome != "error" for call in sent)
    # the last attempt's bill is the one in the line; an error without usage has none in it
    n_unseen = sum(call.n_attempts - (call.input_tokens is not None or call.outcome != "error") for call in sent)
    n_open = n_unseen + n_unknown
    return Spent(
        n_calls=len(sent),
        n_stored=sum(call.outcome == "stored" for call in calls),
        n_errors=sum(call.outcome == "error" for call in sent),
        n_unseen=n_unseen,
        input_tokens=sum(call.input_tokens or 0 for call in sent),
        cached_tokens=sum(call.cached_tokens or 0 for call in sent),
        output_tokens=sum(call.output_tokens or 0 for call in sent),
        cost_usd=sum(known),
        n_unknown_cost=n_unknown,
        most_usd=sum(known) + n_open * max(known) if known else (None if n_open else 0.0),
    )


def unreconciled(calls: Iterable[Call], input_tokens: int, output_tokens: int) -> str | None:
    """What does not add up between the ledger and the tokens that the server says it billed; ``None`` if all does."""
    sums = list(spent(calls).values())
    ours = sum(s.input_tokens for s in sums), sum(s.output_tokens for s in sums)
    if ours == (input_tokens, output_tokens):
        return None
    n_unseen = sum(s.n_unseen for s in sums)
    return (
        f"the server billed {input_tokens} input and {output_tokens} output tokens, the ledger holds {ours[0]} and "
        f"{ours[1]}; {n_unseen} attempts ended without a bill that we saw"
    )
