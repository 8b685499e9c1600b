"""The budget: what may still be sent before the limit could be passed.

Before a request is sent, the most that it can cost is set aside; when its reply comes, what it did cost takes that
place. The most it can cost: as many input tokens as its text has bytes in UTF-8 (no tokenizer makes more), and as many
output tokens as it allows; no bills within that pass the limit. Some servers bill more (text of their own, hidden
reasoning): until `N_SURE` replies have told, four times as much is set aside, and afterwards, where they told of more,
that with a quarter on top. Where so much is not left, requests go one at a time for the most alone, so that little is
left over; a server that bills up to four times the most can then pass the limit once, by three times the most of one
request. Shared by all the models and processes of a run, through a small file under a lock. What a reply
cost that was of no use is charged before another attempt, for which as much is set aside anew. Not a bound: what an
attempt cost whose reply was lost on the way, for nobody tells.
"""

from __future__ import annotations

import fcntl
import os
import struct
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum, auto
from pathlib import Path
from typing import NamedTuple

from harness.clients.base import ChatRequest, Usage
from harness.clients.prices import Price
from harness.errors import UserError

N_SURE = 8  # replies whose bills tell how far a bill goes
UNSURE = 4.0  # what the most is multiplied by before they have told
MARGIN = 1.25  # and what they told is multiplied by afterwards, where it is more than the most
STALE_SECONDS = 900.0  # without a word, after which what another process has set aside is not waited for
_TOKENS_A_MESSAGE = 16  # generous: chat formats spend three to seven
_TOKENS_A_REQUEST = 32


class BudgetReached(UserError):
    """Sending stopped before the budget could be passed; what was under way has been finished and kept."""

    @classmethod
    def at(cls, spent_usd: float, limit_usd: float) -> BudgetReached:
        """What is told; one argument alone survives the way from a worker process."""
        return cls(
            f"the budget is reached: {_usd(spent_usd)} of {_usd(limit_usd)} USD are spent and the next request could "
            "pass it; what is left is owed (how much, `harness show` tells), and the same command with a larger "
            "--budget-usd goes on where this one stopped"
        )


def _usd(amount: float) -> str:
    return f"{amount:.2f}" if amount >= 1 or amount == 0 else f"{amount:.4f}"


class Worst(NamedTuple):
    """The most tokens that one request can be billed, and their prices in USD a token."""

    input_tokens: int
    output_tokens: int
    input_usd: float
    output_usd: float


def worst_case(request: ChatRequest, price: Price, batched: bool = False) -> Worst:
    """What one request can come to."""
    n_bytes = sum(len(text.encode("utf-8", "surrogatepass")) + _TOKENS_A_MESSAGE for _, text in request.messages)
    n_bytes += len((request.schema or "").encode()) + _TOKENS_A_REQUEST
    discount = (price.batch_discount if batched else 1.0) / 1e6
    dearest = max(price.input, price.cached_input or 0.0)
    return Worst(n_bytes, request.max_tokens * request.n, dearest * discount, price.output * discount)


class Room(Enum):
    """Whether a request may be sent."""

    GIVEN = auto()
    LATER = auto()  # not before some of those under way, here or in another process, have come back
    NONE = auto()  # not within this limit


class _State(NamedTuple):
    """What all processes of a run have spent and set aside, and what replies have told.

    Attributes:
        spent_usd: Spent, earlier sessions included.
        input_usd: Set aside for input, before the factors, and so for the next.
        output_usd: Set aside for output.
        n_open: Requests under way.
        touched_at: When the last one was sent or came back (seconds of the Unix epoch).
        n_seen: Replies that told their bill.
        input_ratio: The largest seen: tokens billed for one that was set aside, and so for the next.
        output_ratio: Of the output.
    """

    spent_usd: float
    input_usd: float = 0.0
    output_usd: float = 0.0
    n_open: float = 0.0
    touched_at: float = 0.0
    n_seen: float = 0.0
    input_ratio: float = 0.0
    output_ratio: float = 0.0

    def committed_usd(self, least: float = 1.0) -> float:
        """What is spent, and ``least`` times the most of what is under way, or as much as was told where it is more."""
        return self.spent_usd + self._most_usd(self.input_usd, self.output_usd, least)

    def most_usd(self, worst: Worst) -> float:
        """The most that a request can cost, as far as replies have told."""
        return self._most_usd(worst.input_tokens * worst.input_usd, worst.output_tokens * worst.output_usd, 1.0)

    def _most_usd(self, input_usd: float, output_usd: float, least: float) -> float:
        factors = (MARGIN * ratio if ratio > 1 else 1.0 for ratio in (self.input_ratio, self.output_ratio))
        of_input, of_output = (max(least, factor) for factor in factors)
        return input_usd * of_input + output_usd * of_output

    @property
    def caution(self) -> float:
        """What the most is multiplied by, as long as several are under way."""
        return UNSURE if self.n_seen < N_SURE else 1.0

    def plus(self, worst: Worst, sign: int) -> _State:
        """With one more, or one less, request's worst case set aside."""
        n_open = self.n_open + sign
        return self._replace(
            input_usd=self.input_usd + sign * worst.input_tokens * worst.input_usd if n_open else 0.0,
            output_usd=self.output_usd + sign * worst.output_tokens * worst.output_usd if n_open else 0.0,
            n_open=n_open,
            touched_at=time.time(),
        )


_LAYOUT = struct.Struct(f"{len(_State._fields)}d")


class Budget:
    """USD that may be spent in all, by every process that opens the same file.

    Args:
        limit_usd: The limit.
        already_spent_usd: What earlier sessions spent; ``None`` joins the budget that another process has begun.
        file: Where the processes of a run keep count together; without it this one counts for itself.
    """

    def __init__(self, limit_usd: float, already_spent_usd: float | None = 0.0, file: Path | None = None) -> None:
        self.limit_usd = limit_usd
        self._lock = threading.Lock()
        self._descriptor = -1
        if file is None:
            with tempfile.TemporaryFile() as nameless:
                self._descriptor = os.dup(nameless.fileno())
        else:
            file.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
        if already_spent_usd is not None:
            with self._held():
                self._put(_State(already_spent_usd))

    @property
    def spent_usd(self) -> float:
        """What was spent, earlier sessions included."""
        return self._state().spent_usd

    @property
    def reserved_usd(self) -> float:
        """The most that the requests under way can cost."""
        state = self._state()
        return state.committed_usd() - state.spent_usd

    def reserve(self, worst: Worst) -> Room:
        """Sets the most that a request can cost aside, unless the limit could then be passed."""
        with self._held():
            before = self._get()
            after = before.plus(worst, 1)
            if after.committed_usd(1.0 if before.n_open == 0 else after.caution) <= self.limit_usd:
                self._put(after)
                return Room.GIVEN
            awaited = before.n_open > 0 and time.time() - before.touched_at < STALE_SECONDS
            return Room.LATER if awaited else Room.NONE

    def settle(self, worst: Worst, cost_usd: float | None, usage: Usage | None, failed: bool) -> float:
        """Puts what a request did cost in the place of what was set aside for it, and gives what it was charged.

        Args:
            worst: What was set aside.
            cost_usd: What it cost; where that is not known, a reply counts as the most, a failure as nothing.
            usage: What the server said it billed.
            failed: Whether there was no reply of use.
        """
        with self._held():
            state = self._get()
            if cost_usd is None and not failed:
                cost_usd = state.most_usd(worst)
            charged = cost_usd or 0.0
            state = state.plus(worst, -1)._replace(spent_usd=state.spent_usd + charged)
            if usage is not None:
                state = state._replace(
                    n_seen=state.n_seen + 1,
                    input_ratio=max(state.input_ratio, usage.input_tokens / worst.input_tokens),
                    output_ratio=max(state.output_ratio, usage.output_tokens / worst.output_tokens),
                )
            self._put(state)
            return charged

    def __del__(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)

    def _state(self) -> _State:
        with self._held():
            return self._get()

    @contextmanager
    def _held(self) -> Iterator[None]:
        """Alone among the threads of this process, and among the processes."""
        with self._lock:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def _get(self) -> _State:
        return _State(*_LAYOUT.unpack(os.pread(self._descriptor, _LAYOUT.size, 0)))

    def _put(self, state: _State) -> None:
        os.pwrite(self._descriptor, _LAYOUT.pack(*state), 0)


def needs_price(model: str) -> UserError:
    """Why a budget cannot be kept for a model without a price."""
    return UserError(
        f"model '{model}': its price is not known, so no budget can be kept; give it in the recipe as "
        "`price: {input: 2.5, output: 10}` (USD for one million tokens), or leave --budget-usd out"
    )
