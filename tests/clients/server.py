"""A fault-injecting OpenAI-compatible server: a real HTTP server in a process of its own, for tests and benchmarks.

Speaks POST /v1/chat/completions and /v1/responses, GET /v1/models, and GET /stats: what it was asked and what it billed.
Tests start it with ``with fault_server(latency=0.1, capacity=8, faults={"429": 0.05}) as server:`` and read
``server.url`` and ``server.stats()``; a shell starts it with ``python tests/clients/server.py '{"latency": 0.1}'``, which
prints the port.

Its reply is a function of the request (see `rating_of`), so that a test can tell that each verdict belongs to its
question. Which attempts are spoilt is a function of the request and the attempt alone, whatever the order of arrival.
A question may name its own fault: ``[[fault reset 2]]`` in its last message spoils its first two attempts.
The server keeps no text and no key, only hashes and counts.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import json
import random
import re
import subprocess
import sys
import time
import urllib.request
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from email.utils import formatdate
from typing import Any

REFUSALS = {"429", "500", "502", "503", "quota", "400", "echo"}  # answered with an error, not billed
SPOILT = {"hang", "reset", "malformed", "empty", "html"}  # billed, but of no use: the client is forced to ask again
ODD = {"filtered", "length", "refusal", "null", "other_model", "same_id", "trickle"}  # billed and usable: data
DIRECTIVE = re.compile(r"\[\[fault (\w+) (\d+)\]\]")


@dataclass
class Settings:
    """How the server behaves.

    Attributes:
        latency: Seconds from the start of the work to the reply.
        capacity: Requests worked on at once; ``None`` is no limit.
        overload: What happens to one too many: ``refuse`` (429) or ``queue``.
        per_second: Requests admitted a second (429 beyond); ``None`` is no limit.
        retry_after: What a 429 says: ``None``, ``seconds``, ``ms`` or ``date``.
        pause: The seconds that Retry-After names.
        faults: Name of a fault → the share of attempts that it spoils (see REFUSALS, SPOILT, ODD).
        max_faults: A request is spoilt at most this often, so that each can be finished.
        seed: Which attempts are spoilt.
        ignores: Fields that are silently ignored: ``n``, ``logprobs``, ``response_format``, ``seed``, ``stop``.
        rejects: Fields answered with 400, as ``unsupported_parameter``.
        models: Names that are served; empty serves any.
        key: The API key that is needed; ``None`` takes any. A wrong one is echoed in the 401.
        reply: The text of every reply; ``None`` makes one from the request.
        usage: Whether replies say what they cost.
    """

    latency: float = 0.0
    capacity: int | None = None
    overload: str = "refuse"
    per_second: float | None = None
    retry_after: str | None = None
    pause: float = 0.1
    faults: dict[str, float] = field(default_factory=dict)
    max_faults: int = 4
    seed: int = 0
    ignores: list[str] = field(default_factory=list)
    rejects: list[str] = field(default_factory=list)
    models: list[str] = field(default_factory=list)
    key: str | None = None
    reply: str | None = None
    usage: bool = True


def rating_of(text: str, index: int = 0, seed: int | None = None, labels: int = 10) -> int:
    """The rating (1 … labels) that the server gives to a question's last message, choice by choice."""
    digest = hashlib.sha256(f"{text}|{index}|{seed}".encode()).digest()
    return 1 + int.from_bytes(digest[:4], "big") % labels


# --- what it answers --------------------------------------------------------------------------------------------------


def _last_text(body: dict[str, Any]) -> str:
    messages = body.get("messages") or body.get("input") or ""
    return messages if isinstance(messages, str) else str(messages[-1]["content"])


def _schema_of(body: dict[str, Any]) -> dict[str, Any] | None:
    formats = body.get("response_format", {}).get("json_schema") or body.get("text", {}).get("format", {})
    return formats.get("schema")


def _fill(schema: dict[str, Any], pick: int) -> Any:
    """A value that follows a (simple) JSON schema and is made of one rating."""
    if "enum" in schema:
        return schema["enum"][pick % len(schema["enum"])]
    if schema.get("type") == "object":
        return {name: _fill(part, pick) for name, part in schema.get("properties", {}).items()}
    if schema.get("type") in ("integer", "number"):
        return min(pick, schema.get("maximum", pick))
    return "Weighed and found so."


def _text(settings: Settings, body: dict[str, Any], index: int) -> str:
    sampled = body.get("temperature", 1) > 0 and "seed" not in settings.ignores
    pick = rating_of(_last_text(body), index, body.get("seed") if sampled else None)
    schema = None if "response_format" in settings.ignores else _schema_of(body)
    text = json.dumps(_fill(schema, pick)) if schema else f"Weighed and found so.\n\nRating: [[{pick}]]"
    text = body.get("scripted_reply") or settings.reply or text
    for stop in [] if "stop" in settings.ignores else body.get("stop") or []:
        text = text.split(stop)[0]
    return text


def _logprobs(tokens: list[str]) -> dict[str, Any]:
    """Digits are uncertain by one either way (probabilities 0.1, 0.8, 0.1), other tokens are certain."""
    content = []
    for token in tokens:
        near = {token: -0.2231, str(int(token) - 1): -2.3026, str(int(token) + 1): -2.3026} if token.isdigit() else {}
        top = [{"token": t, "logprob": p, "bytes": None} for t, p in (near or {token: 0.0}).items()]
        content.append({"token": token, "logprob": top[0]["logprob"], "bytes": None, "top_logprobs": top})
    return {"content": content}


def _choice(settings: Settings, body: dict[str, Any], index: int, fault: str | None) -> tuple[dict[str, Any], int]:
    tokens = re.findall(r"\w+|\W", _text(settings, body, index))
    limit = body.get("max_completion_tokens") or body.get("max_tokens") or body.get("max_output_tokens") or 1000
    if fault == "length":
        limit = min(limit, len(tokens) // 2)
    reason = "length" if len(tokens) > limit else "stop"
    message: dict[str, Any] = {"role": "assistant", "content": "".join(tokens[:limit]), "refusal": None}
    if fault == "filtered":
        reason, message["content"] = "content_filter", ""
    elif fault == "refusal":
        message = {"role": "assistant", "content": None, "refusal": "I cannot help with that."}
    elif fault == "null":
        message["content"] = None
    wanted = body.get("logprobs") and "logprobs" not in settings.ignores
    logprobs = _logprobs(tokens[:limit]) if wanted else None
    return {"index": index, "message": message, "finish_reason": reason, "logprobs": logprobs}, len(tokens[:limit])


def _usage(body: dict[str, Any], raw: bytes, output: int, responses: bool) -> dict[str, Any]:
    names = ("input_tokens", "output_tokens") if responses else ("prompt_tokens", "completion_tokens")
    n_input = len(raw) // 4
    details = "input_tokens_details" if responses else "prompt_tokens_details"
    return {names[0]: n_input, names[1]: output, details: {"cached_tokens": 0}, "total_tokens": n_input + output}


def _completion(settings: Settings, body: dict[str, Any], raw: bytes, number: int, fault: str | None) -> dict[str, Any]:
    n = 1 if "n" in settings.ignores else body.get("n") or 1
    made = [_choice(settings, body, index, fault) for index in range(n)]
    model = f"{body['model']}-other" if fault == "other_model" else body["model"]
    reply = {
        "id": "chatcmpl-same" if fault == "same_id" else f"chatcmpl-{number}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "choices": [] if fault == "empty" else [choice for choice, _ in made],
    }
    if settings.usage:
        reply["usage"] = _usage(body, raw, sum(count for _, count in made), responses=False)
    return reply


def _response(settings: Settings, body: dict[str, Any], raw: bytes, number: int, fault: str | None) -> dict[str, Any]:
    choice, count = _choice(settings, body, 0, fault)
    message = choice["message"]
    parts: list[dict[str, Any]] = [{"type": "output_text", "text": message["content"] or "", "annotations": []}]
    if message["refusal"]:
        parts = [{"type": "refusal", "refusal": message["refusal"]}]
    reason = {"length": "max_output_tokens", "content_filter": "content_filter"}.get(choice["finish_reason"])
    output = [
        {"id": f"rs_{number}", "type": "reasoning", "summary": []},
        {"id": f"msg_{number}", "type": "message", "role": "assistant", "status": "completed", "content": parts},
    ]
    return {
        "id": f"resp_{number}",
        "object": "response",
        "model": body["model"],
        "status": "incomplete" if reason else "completed",
        "incomplete_details": {"reason": reason} if reason else None,
        "output": [] if fault == "empty" else output,
        "usage": _usage(body, raw, count, responses=True) if settings.usage else None,
    }


# --- how it serves ----------------------------------------------------------------------------------------------------


class State:
    """Everything that the connections share: the queue, the counts and the bill."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.n_working = self.max_working = self.n_requests = 0
        self.waiting: deque[Any] = deque()
        self.tokens, self.filled_at = 1.0, time.monotonic()
        self.bodies: dict[str, dict[str, Any]] = {}
        self.numbers = itertools.count()
        self.statuses: Counter[str] = Counter()
        self.fields: Counter[str] = Counter()

    def stats(self) -> dict[str, Any]:
        bills = self.bodies.values()
        return {
            "requests": self.n_requests,
            "billed": sum(bill["billed"] for bill in bills),
            "forced": sum(bill["forced"] for bill in bills),
            "faults": Counter(fault for bill in bills for fault in bill["faults"]),
            "input_tokens": sum(bill["input_tokens"] for bill in bills),
            "output_tokens": sum(bill["output_tokens"] for bill in bills),
            "max_working": self.max_working,
            "statuses": self.statuses,
            "fields": self.fields,
            "bodies": self.bodies,
        }

    def admit(self) -> bool:
        """Whether the rate limit lets one more in."""
        rate = self.settings.per_second
        if rate is None:
            return True
        now = time.monotonic()
        self.tokens = min(rate / 10 + 1, self.tokens + (now - self.filled_at) * rate)
        self.filled_at = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True

    def fault(self, bill: dict[str, Any], digest: str, text: str) -> str | None:
        """The fault of a request's next attempt."""
        n_before = len(bill["faults"])
        if named := DIRECTIVE.search(text):
            return named[1] if n_before < int(named[2]) else None
        if not self.settings.faults or n_before >= self.settings.max_faults:
            return None
        draw = random.Random(f"{self.settings.seed}|{digest}|{bill['requests']}").random()
        for name, share in self.settings.faults.items():
            draw -= share
            if draw < 0:
                return name
        return None


class Connection(asyncio.Protocol):
    """One client connection: HTTP/1.1, one request at a time."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.buffer = b""
        self.working = False

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if self.working:
            self._free()

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, separator, rest = self.buffer.partition(b"\r\n\r\n")
        if not separator:
            return
        length = re.search(rb"(?i)content-length: *(\d+)", head)
        size = int(length[1]) if length else 0
        if len(rest) >= size:
            self.buffer = rest[size:]
            self._request(head, rest[:size])

    def _request(self, head: bytes, raw: bytes) -> None:
        method, path = head.split(b" ", 2)[:2]
        if path == b"/stats":
            return self._send(200, self.state.stats())
        if path.endswith(b"/models"):
            names = self.state.settings.models or ["any"]
            return self._send(200, {"object": "list", "data": [{"id": name, "object": "model"} for name in names]})
        if method == b"POST" and path.endswith((b"/chat/completions", b"/responses")):
            return self._ask(head, raw, path.endswith(b"/responses"))
        return self._error(404, "no such path")

    def _ask(self, head: bytes, raw: bytes, responses: bool) -> None:
        state, settings = self.state, self.state.settings
        state.n_requests += 1
        key = re.search(rb"(?i)authorization: *Bearer ([^\r\n]*)", head)
        shown = key[1].decode() if key else ""
        if settings.key is not None and shown != settings.key:
            return self._error(401, f"Incorrect API key provided: {shown}", "invalid_api_key")
        body = json.loads(raw)
        state.fields.update(name for name in body if name != "messages")
        if settings.models and body["model"] not in settings.models:
            return self._error(404, f"The model '{body['model']}' does not exist", "model_not_found")
        for name in settings.rejects:
            if body.get(name) not in (None, False, 0) and not (name == "n" and body[name] == 1):
                return self._error(400, f"Unsupported parameter: '{name}'", "unsupported_parameter", param=name)
        digest = hashlib.sha256(raw).hexdigest()[:16]
        empty = {"requests": 0, "billed": 0, "forced": 0, "input_tokens": 0, "output_tokens": 0, "faults": []}
        bill = state.bodies.setdefault(digest, empty)
        fault = state.fault(bill, digest, _last_text(body))
        bill["requests"] += 1
        if fault in REFUSALS:
            bill["faults"].append(fault)
            return self._refuse(fault, shown)
        full = settings.capacity is not None and state.n_working >= settings.capacity
        if (full and settings.overload == "refuse") or not state.admit():
            return self._refuse("429", shown)
        if fault:
            bill["faults"].append(fault)
        self.job = (body, raw, bill, fault, responses)
        if full:
            state.waiting.append(self)
        else:
            self.start()

    def start(self) -> None:
        self.state.n_working += 1
        self.state.max_working = max(self.state.max_working, self.state.n_working)
        self.working = True
        asyncio.get_running_loop().call_later(self.state.settings.latency, self._finish)

    def _free(self) -> None:
        self.working = False
        self.state.n_working -= 1
        while self.state.waiting:
            following = self.state.waiting.popleft()
            if not following.transport.is_closing():
                following.start()
                break

    def _finish(self) -> None:
        if not self.working:
            return
        self._free()
        body, raw, bill, fault, responses = self.job
        make = _response if responses else _completion
        reply = make(self.state.settings, body, raw, next(self.state.numbers), fault)
        bill["billed"] += 1
        bill["forced"] += fault in SPOILT
        usage = reply.get("usage") or {}
        bill["input_tokens"] += usage.get("prompt_tokens", usage.get("input_tokens", 0))
        bill["output_tokens"] += usage.get("completion_tokens", usage.get("output_tokens", 0))
        if fault == "hang":
            return
        if fault == "reset":
            self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 900\r\n\r\n{")
            asyncio.get_running_loop().call_later(0.01, self.transport.abort)
        elif fault == "malformed":
            self._send(200, text=json.dumps(reply)[:-20])
        elif fault == "html":
            self._send(200, text="<html><body>Bad gateway</body></html>")
        elif fault == "trickle":
            self._trickle(json.dumps(reply).encode())
        else:
            self._send(200, reply)

    def _refuse(self, fault: str, key: str) -> None:
        if fault == "429":
            return self._error(429, "Rate limit reached", "rate_limit_exceeded", headers=self._retry_after())
        if fault == "quota":
            return self._error(429, "You exceeded your current quota", "insufficient_quota")
        if fault == "400":
            return self._error(400, "This model's maximum context length is 8192 tokens", "context_length_exceeded")
        if fault == "echo":
            return self._error(400, f"bad request, headers: Authorization: Bearer {key}", "bad_request")
        return self._error(int(fault), "The server had an error")

    def _retry_after(self) -> str:
        kind, pause = self.state.settings.retry_after, self.state.settings.pause
        if kind == "ms":
            return f"retry-after-ms: {pause * 1000:g}\r\n"
        if kind == "date":
            return f"Retry-After: {formatdate(time.time() + pause, usegmt=True)}\r\n"
        return f"Retry-After: {pause:g}\r\n" if kind else ""

    def _error(
        self, status: int, message: str, code: str | None = None, param: str | None = None, headers: str = ""
    ) -> None:
        kind = "insufficient_quota" if code == "insufficient_quota" else "invalid_request_error"
        self._send(status, {"error": {"message": message, "type": kind, "param": param, "code": code}}, headers=headers)

    def _send(self, status: int, content: Any = None, *, text: str | None = None, headers: str = "") -> None:
        self.state.statuses[str(status)] += 1
        data = (json.dumps(content) if text is None else text).encode()
        head = f"HTTP/1.1 {status} -\r\nContent-Type: application/json\r\n{headers}Content-Length: {len(data)}\r\n\r\n"
        self.transport.write(head.encode() + data)

    def _trickle(self, data: bytes, n_parts: int = 20, seconds: float = 0.2) -> None:
        self.transport.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(data)}\r\n\r\n".encode())
        size = -(-len(data) // n_parts)
        for i in range(n_parts):
            part = data[i * size : (i + 1) * size]
            asyncio.get_running_loop().call_later(seconds * i / n_parts, self.transport.write, part)


async def _serve(settings: Settings) -> None:
    state = State(settings)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(state), "127.0.0.1", 0, backlog=2048)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)  # the parent's end of the pipe closes when it ends


# --- how a test starts it ---------------------------------------------------------------------------------------------


@dataclass
class FaultServer:
    """A running server."""

    url: str
    process: subprocess.Popen[str]

    def stats(self) -> dict[str, Any]:
        """What it was asked and what it billed (see `State.stats`)."""
        with urllib.request.urlopen(self.url.removesuffix("/v1") + "/stats") as reply:
            return json.load(reply)


@contextlib.contextmanager
def fault_server(**settings: Any) -> Iterator[FaultServer]:
    """A server with the given `Settings`, in its own process, until the block ends."""
    command = [sys.executable, __file__, json.dumps(asdict(Settings(**settings)))]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        port = int(process.stdout.readline())
        yield FaultServer(f"http://127.0.0.1:{port}/v1", process)
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


if __name__ == "__main__":
    asyncio.run(_serve(Settings(**json.loads(sys.argv[1] if len(sys.argv) > 1 else "{}"))))
