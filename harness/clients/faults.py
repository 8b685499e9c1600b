"""What went wrong with one attempt, and so what to do: wait, ask again, give this request up, or give all up."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from enum import Enum, auto
from typing import Any, NamedTuple

from harness.clients.base import Reply, Server
from harness.clients.wire import OFFICIAL_URL, error_of, safe

_FILTER = re.compile(
    r"(?i)content_filter|content_policy|content management policy|ResponsibleAIPolicyViolation|moderation"
)
_TIMEOUTS = (408, 409, 425)  # the server asks for another attempt


class Kind(Enum):
    """What an attempt's failure means."""

    BUSY = auto()  # 429: nothing was done; ask again when there is room
    OVERLOADED = auto()  # too slow, or 503: ask again, and less at once
    UNREACHABLE = auto()  # nothing was sent
    AGAIN = auto()  # the server or the way to it failed; the attempt may have been billed
    REQUEST = auto()  # this request is at fault
    FILTERED = auto()  # the provider's content filter will not have this prompt: an outcome, not a fault
    DENIED = auto()  # forbidden or unknown: every request, where none has been answered, else this one
    ALL = auto()  # every request would fail alike


class Failure(NamedTuple):
    """A failed attempt.

    Attributes:
        kind: What it means.
        detail: One line without secrets.
        pause: Seconds that the server asks to wait.
        param: The field of the body that the server names as the fault.
        status: HTTP status, or that which an answer of status 200 names; ``None`` where there is none.
    """

    kind: Kind
    detail: str
    pause: float = 0.0
    param: str | None = None
    status: int | None = None


def of_error(error: BaseException, server: Server) -> Failure:
    """What it means that no answer came."""
    cause, names = error, {kind.__name__ for kind in type(error).__mro__}
    while cause.__cause__ is not None:
        cause = cause.__cause__
        names |= {kind.__name__ for kind in type(cause).__mro__}
    told = safe(f"{type(cause).__name__} {cause}", server)
    if names & {"ClientConnectorError", "ConnectError", "gaierror"}:
        return Failure(Kind.UNREACHABLE, f"cannot reach {_address(server)}: {told}")
    if "TimeoutError" in names:
        return Failure(Kind.OVERLOADED, f"no reply within {server.timeout_seconds:g} s")
    return Failure(Kind.AGAIN, f"the connection failed: {told}")


def of_status(status: int, headers: Mapping[str, str], content: bytes, server: Server) -> Failure:
    """What an answer means that is not 200."""
    inner = _error(content)
    told = inner.get("message") or inner.get("detail") or content.decode("utf-8", "replace")
    detail = safe(f"{status} {told}", server)
    if status == 429 and "insufficient_quota" in (inner.get("code"), inner.get("type")):
        return Failure(Kind.ALL, f"{_address(server)} says that the quota is used up: {detail}", status=status)
    if status in (400, 403) and _filtered(inner):
        return Failure(Kind.FILTERED, detail, status=status)
    if status in (401, 402, 403, 404):
        kind = Kind.ALL if status in (401, 402) else Kind.DENIED
        return Failure(kind, f"{_lesson(status, server)} ({detail})", status=status)
    if status == 429 or status >= 500 or status in _TIMEOUTS:
        kind = Kind.BUSY if status == 429 else Kind.OVERLOADED if status in (503, 529) else Kind.AGAIN
        return Failure(kind, detail, retry_after(headers, time.time()), status=status)
    param = inner.get("param")
    return Failure(Kind.REQUEST, detail, param=param if isinstance(param, str) else None, status=status)


def of_reply(found: Any, reply: Reply, server: Server) -> Failure:
    """What an answer means that is 200 and has no choice: that of the status which its error names, as gateways do.

    Args:
        found: The answer's JSON.
        reply: What was read from it.
        server: Who answered.
    """
    code = str((error_of(found) or {}).get("code"))
    if re.fullmatch(r"[45]\d\d", code):
        return of_status(int(code), {}, json.dumps(found).encode(), server)
    return Failure(Kind.AGAIN, reply.detail or "")


def _filtered(error: Mapping[str, Any]) -> bool:
    """Whether an error says that a content filter stopped the prompt (Azure and OpenAI name it so, and gateways)."""
    told = [error.get(field) for field in ("code", "type", "message")]
    inner, metadata = error.get("innererror"), error.get("metadata")
    told.append(inner.get("code") if isinstance(inner, Mapping) else None)
    flagged = isinstance(metadata, Mapping) and "flagged_input" in metadata
    return flagged or any(isinstance(text, str) and _FILTER.search(text) for text in told)


def _error(content: bytes) -> Mapping[str, Any]:
    """The part of an error's body that tells."""
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    inner = body.get("error", body) if isinstance(body, dict) else {}
    return inner if isinstance(inner, dict) else {"message": inner}


def _lesson(status: int, server: Server) -> str:
    where = _address(server)
    if status == 404:
        return f"{where} does not serve '{server.model}' or is not the base_url of an OpenAI-compatible server"
    if status == 402:
        return f"{where} wants to be paid first: no credit is left"
    refused = "refuses the API key" if status == 401 else "does not allow this"
    return f"{where} {refused}: check the environment variable {server.api_key_env}, and base_url"


def _address(server: Server) -> str:
    return safe(server.base_url or OFFICIAL_URL, server)


def retry_after(headers: Mapping[str, str], now: float) -> float:
    """Seconds that a server asks to wait: ``retry-after-ms``, or ``Retry-After`` as seconds or a date; 0 where not.

    Args:
        headers: Of the reply, in lower case or insensitive to it.
        now: Seconds since the epoch.
    """
    milliseconds, told = headers.get("retry-after-ms", ""), headers.get("retry-after", "")
    for text, unit in ((milliseconds, 1000.0), (told, 1.0)):
        if re.fullmatch(r"\s*\d+(\.\d*)?\s*", text):
            seconds = float(text) / unit
            return seconds if math.isfinite(seconds) else 0.0
    try:
        return max(0.0, parsedate_to_datetime(told).timestamp() - now)
    except (ValueError, TypeError, OverflowError):
        return 0.0
