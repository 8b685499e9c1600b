"""A thread with an event loop and one connection pool, that turns asks into replies.

Asks and replies cross between it and its owner's thread in small batches. It sees every failed attempt itself, for the
client's own retries are off: a 429 teaches the limiter and is waited out, other failures are asked again a few times
with growing, random delays, and a request that the server will not have as it is may be asked with less.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import queue
import random
import threading
from collections import Counter, deque
from collections.abc import Sequence
from typing import Any

from harness.clients import faults, wire
from harness.clients.base import Ask, Choice, ChoiceOutcome, Reply, Server, Usage
from harness.clients.faults import Failure, Kind
from harness.clients.limiter import Flight, Limiter
from harness.clients.quirks import Quirks, Shape
from harness.errors import UserError

_HAND_OVER_SECONDS = 0.02  # replies that come within it cross over together
_BACKOFF_SECONDS, _MAX_BACKOFF_SECONDS = 0.5, 30.0  # after a failure
_RETURN_SECONDS, _MAX_RETURN_SECONDS = 0.1, 5.0  # after a refusal for want of room: the limiter knows how many may go
_N_UNANSWERED = 4  # attempts on a server that is not there and never was
_N_FORBIDDEN = 4  # requests that were forbidden before any was answered (a gateway may forbid single prompts)
_N_ALIKE = 24  # requests that were refused, or replies of no use, with the same words before any was answered


class _Job:
    """A request on its way to a reply."""

    __slots__ = ("ask", "began", "conceded", "n_attempts", "n_failed", "n_refused", "unasked", "usage")

    def __init__(self, ask: Ask) -> None:
        self.ask = ask
        self.began: float | None = None
        self.n_attempts = self.n_refused = self.n_failed = 0
        self.usage: Usage | None = None  # of attempts that were billed and came to nothing
        self.unasked: Usage | None = None  # of the last of them, until its asker has said whether another may be made
        self.conceded: set[str] = set()


class Sender:
    """Sends requests while it is entered; leaving it ends what is under way.

    Args:
        server: Where to.
        limiter: How many at once.
        quirks: What to leave out.
        max_attempts: Attempts at a request that the server or the connection fails.
        patience_seconds: How long a request waits for room, or for a server that is away.

    Raises:
        UserError: The official server is meant and its key is missing.
    """

    def __init__(
        self, server: Server, limiter: Limiter, quirks: Quirks, max_attempts: int, patience_seconds: float
    ) -> None:
        self.server, self.limiter, self.quirks = server, limiter, quirks
        self.max_attempts, self.patience_seconds = max_attempts, patience_seconds
        self.fatal: str | None = None
        self.n_answered = 0
        self._refusals: Counter[str] = Counter()  # of requests that were at fault, before any was answered
        self._pool = _pool(server, limiter.max_concurrency)
        self._client = _client(server, self._pool)  # its layers around a call cost as much as all the rest: left out
        self._url = str(self._client.base_url).rstrip("/") + wire.PATHS[server.api]
        headers = {**self._client.default_headers, **self._client.auth_headers, "Content-Type": "application/json"}
        self._headers = {name: value for name, value in headers.items() if isinstance(value, str)}
        self._inbox: queue.SimpleQueue[list[tuple[Ask, Reply]] | BaseException] = queue.SimpleQueue()
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="live transport", daemon=True)
        self._waiting: deque[_Job] = deque()
        self._resting: set[_Job] = set()  # until another attempt
        self._tasks: set[asyncio.Task[None]] = set()
        self._finished: list[tuple[Ask, Reply]] = []
        self._alarm: asyncio.TimerHandle | None = None

    # --- in the owner's thread ---

    def __enter__(self) -> Sender:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended by itself
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    @property
    def room(self) -> int:
        """Requests that may be open: those under way, and enough to go on with while the owner is busy."""
        return 0 if self.fatal else self.limiter.limit + max(16, self.limiter.limit // 2)

    def hand_over(self, asks: Sequence[Ask]) -> None:
        """Gives asks to the loop."""
        if asks:
            self._loop.call_soon_threadsafe(self._accept, asks)

    def take(self, wait_seconds: float) -> list[tuple[Ask, Reply]]:
        """The replies that have come since, at the latest after a wait.

        Raises:
            UserError: No request can succeed; everything that was under way was taken before.
        """
        try:
            found = self._inbox.get(timeout=wait_seconds) if wait_seconds else self._inbox.get_nowait()
        except queue.Empty:
            return []
        if isinstance(found, BaseException):
            raise found
        return found

    # --- in the loop ---

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._serve())
        except BaseException as error:
            self._inbox.put(error)
        finally:
            self._loop.close()

    async def _serve(self) -> None:
        async with self._client:
            await self._stop.wait()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, asks: Sequence[Ask]) -> None:
        self._waiting.extend(map(_Job, asks))
        self._pump()

    def _pump(self) -> None:
        """Sends as much as may be sent now."""
        while self._waiting and self.fatal is None and not self._stop.is_set():
            now = self._loop.time()
            delay = self.limiter.delay(now)
            if delay > 0:
                if delay < float("inf") and self._alarm is None:
                    self._alarm = self._loop.call_later(delay, self._ring)
                return
            job = self._waiting.popleft()
            job.began = now if job.began is None else job.began
            task = self._loop.create_task(self._attempt(job, self.limiter.sent(now)))
            self._tasks.add(task)
            task.add_done_callback(self._done)

    def _ring(self) -> None:
        self._alarm = None
        self._pump()

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        if (error := task.exception()) is not None:  # a defect of ours: the owner shall see it
            self._inbox.put(error)
        if self.fatal is None:
            self._pump()
        elif not self._tasks:
            for job in [*self._waiting, *self._resting]:
                if job.usage is not None:  # it was paid for: the ledger shall hold it
                    self._finish(job, Reply((), detail=self.fatal))
            self._flush()
            self._inbox.put(UserError(self.fatal))

    async def _attempt(self, job: _Job, flight: Flight) -> None:
        import aiohttp
        import httpx2

        shape = self.quirks.shape(job.ask.request, self.server)
        body = wire.body(shape.request, shape.server, schema=shape.schema)
        content = json.dumps(body).encode()
        job.n_attempts += 1
        try:
            async with asyncio.timeout(self.server.timeout_seconds):
                request = self._pool.build_request("POST", self._url, content=content, headers=self._headers)
                response = await self._pool.send(request)
        except (httpx2.HTTPError, aiohttp.ClientError, OSError) as error:
            return self._failed(job, flight, faults.of_error(error, self.server), shape, body)
        if response.status_code != 200:
            found = faults.of_status(response.status_code, response.headers, response.content, self.server)
            self._failed(job, flight, found, shape, body)
        else:
            self._answered(job, flight, shape, body, response.content)

    def _answered(self, job: _Job, flight: Flight, shape: Shape, body: dict[str, Any], content: bytes) -> None:
        try:
            found: Any = json.loads(content)
        except (ValueError, RecursionError) as error:
            self.limiter.answered(flight, self._loop.time())
            return self._again(job, Failure(Kind.AGAIN, f"malformed reply: {type(error).__name__} {error}"))
        reply = wire.parse(found, self.server)
        if reply.failed:
            job.usage, job.unasked = _sum(job.usage, reply.usage), reply.usage
            failure = faults.of_reply(found, reply, self.server)
            if failure.status is not None:
                return self._failed(job, flight, failure, shape, body)
            self.limiter.answered(flight, self._loop.time())
            return self._unreadable(job, failure, reply.usage)
        self.limiter.answered(flight, self._loop.time())
        self.n_answered += 1
        reply_id = found.get("id")
        self.quirks.notice(shape, reply, reply_id if isinstance(reply_id, str) else None)
        self._finish(job, reply._replace(choices=reply.choices[: job.ask.request.n]))

    def _failed(self, job: _Job, flight: Flight, failure: Failure, shape: Shape, body: dict[str, Any]) -> None:
        if failure.kind in (Kind.BUSY, Kind.OVERLOADED):
            pause = min(failure.pause, self.patience_seconds)
            self.limiter.refused(flight, self._loop.time(), pause)
        else:
            self.limiter.lost(flight)
        if failure.kind is Kind.ALL:
            self.fatal = self.fatal or failure.detail
            self._waiting.appendleft(job)
        elif failure.kind is Kind.FILTERED:
            self._finish(job, Reply((Choice(ChoiceOutcome.FILTERED, ""),), usage=Usage(), detail=failure.detail))
        elif failure.kind is Kind.DENIED:
            self._refuse(job, failure, 1 if failure.status == 404 else _N_FORBIDDEN)
        elif failure.kind is Kind.REQUEST:
            self._reconsider(job, failure, body)
        elif failure.status == 500 and job.n_failed and self.quirks.concede_schema(shape):
            self._retry(job, failure)
        else:
            self._again(job, failure)

    def _reconsider(self, job: _Job, failure: Failure, body: dict[str, Any]) -> None:
        """The server will not have the request: another attempt without what it does not know, if that is it."""
        quirk = self.quirks.concede(failure, body)
        if quirk is None or quirk in job.conceded:
            self._refuse(job, failure, _N_ALIKE)
        else:
            job.conceded.add(quirk)
            self._retry(job, failure)

    def _refuse(self, job: _Job, failure: Failure, n_alike: int) -> None:
        """The request is given up; where so many fared alike and none was answered, all are: it is not the request."""
        if not self.n_answered:
            words = "denied" if failure.kind is Kind.DENIED else failure.detail
            self._refusals[words] += 1
            if self._refusals[words] >= n_alike:
                self.fatal = self.fatal or failure.detail
        self._finish(job, Reply((), detail=failure.detail))

    def _again(self, job: _Job, failure: Failure) -> None:
        """Another attempt after a delay, while there is hope."""
        if failure.kind in (Kind.BUSY, Kind.UNREACHABLE):
            job.n_refused += 1
            waited = self._loop.time() - (job.began or 0.0)
            hopeless = waited + failure.pause > self.patience_seconds
            delay = _delay(_RETURN_SECONDS, job.n_refused, _MAX_RETURN_SECONDS)
        else:
            job.n_failed += 1
            hopeless = job.n_failed >= self.max_attempts or failure.pause > self.patience_seconds
            delay = _delay(_BACKOFF_SECONDS, job.n_failed, _MAX_BACKOFF_SECONDS)
        if failure.kind is Kind.BUSY and failure.pause > self.patience_seconds:
            self.fatal = (
                self.fatal or f"the server asks to wait for {failure.pause:.0f} s; the same command resumes then"
            )
            self._finish(job, Reply((), detail=failure.detail))
        elif failure.kind is Kind.UNREACHABLE and not self.n_answered and job.n_attempts >= _N_UNANSWERED:
            self.fatal = self.fatal or failure.detail
            self._waiting.appendleft(job)
        elif hopeless:
            self._finish(job, Reply((), detail=failure.detail))
        else:
            self._retry(job, failure, failure.pause + delay)

    def _retry(self, job: _Job, failure: Failure, delay: float = 0.0) -> None:
        """Another attempt, unless this one was billed and the asker will not pay for another."""
        billed, job.unasked = job.unasked, None
        may = job.ask.once_more
        if billed is not None and may is not None and not may(billed):
            self._finish(job, Reply((), detail=f"{failure.detail}; the budget has no room for another attempt"))
        elif delay > 0:
            self._resting.add(job)
            self._loop.call_later(delay, self._return, job)
        else:
            self._waiting.appendleft(job)

    def _unreadable(self, job: _Job, failure: Failure, usage: Usage | None) -> None:
        """A reply without a choice; where so many alike were billed and none was of use, another would be no better."""
        if usage is not None and not self.n_answered:
            self._refusals[failure.detail] += 1
            if self._refusals[failure.detail] >= _N_ALIKE:
                told = f"{failure.detail}; {_N_ALIKE} such replies were billed, and none was of use"
                self.fatal = self.fatal or told
        self._again(job, failure)

    def _return(self, job: _Job) -> None:
        self._resting.discard(job)
        self._waiting.appendleft(job)
        self._pump()

    def _finish(self, job: _Job, reply: Reply) -> None:
        seconds = self._loop.time() - (job.began or 0.0)
        usage = _sum(job.usage, reply.usage)
        reply = reply._replace(n_attempts=job.n_attempts, seconds=seconds, usage=usage)
        if not self._finished:
            self._loop.call_later(_HAND_OVER_SECONDS, self._flush)
        self._finished.append((job.ask, reply))

    def _flush(self) -> None:
        if self._finished:
            self._inbox.put(self._finished)
            self._finished = []


def _pool(server: Server, max_connections: int) -> Any:
    """The official client's connections on aiohttp, which cost a third of its default transport's time."""
    import httpx2
    import openai

    limits = httpx2.Limits(max_connections=max_connections, max_keepalive_connections=max_connections)
    return openai.DefaultAioHttpClient(limits=limits, timeout=server.timeout_seconds)


def _client(server: Server, pool: Any) -> Any:
    """The official client: it knows address, headers and key."""
    import openai

    base_url = server.base_url or wire.OFFICIAL_URL
    return openai.AsyncOpenAI(api_key=wire.api_key(server), base_url=base_url, max_retries=0, http_client=pool)


def _delay(base: float, n: int, most: float) -> float:
    """Exponential backoff with full jitter."""
    return random.random() * min(most, base * 2.0 ** min(n, 16))


def _sum(one: Usage | None, other: Usage | None) -> Usage | None:
    if one is None or other is None:
        return one or other
    return Usage(*(a + b for a, b in zip(one, other, strict=True)))
