"""What a server silently ignores, or refuses to be asked for.

Some servers take ``n``, ``logprobs``, ``seed`` or a JSON schema and answer as if they had not been there; others answer
400. Both are noticed in the replies, remembered by name, and not asked for again. A ``temperature`` is never changed: a
server that refuses it refuses the request.

Names: ``n``, ``logprobs``, ``schema``, ``seed``, ``max_tokens`` (the limit is ignored), ``max_tokens_field`` (the other
name of the limit is needed), ``duplicate_id`` (replies share an id).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from harness.clients.base import ChatRequest, ChoiceOutcome, Reply, Server
from harness.clients.faults import Failure

_FIELDS = {  # field of the body → quirk
    "n": "n",
    "logprobs": "logprobs",
    "include": "logprobs",
    "response_format": "schema",
    "text": "schema",
    "seed": "seed",
    "max_tokens": "max_tokens_field",
    "max_completion_tokens": "max_tokens_field",
}
_MENTIONS = {  # field of the body → how a refusal names it
    "n": r"['\"`]n['\"`]",
    "logprobs": r"logprobs",
    "include": r"logprobs|\binclude\b",
    "response_format": r"response_format|json_schema",
    "text": r"text\.format|json_schema",
    "seed": r"\bseed\b",
    "max_tokens": r"\bmax_tokens\b",
    "max_completion_tokens": r"\bmax_completion_tokens\b",
}
_UNSUPPORTED = re.compile(
    r"(?i)unsupported|not support|unknown|unrecogni[sz]ed|unexpected|extra (?:inputs|fields)|not (?:permitted|allowed)"
    r"|must be (?:less|at most|between)|maximum value|too (?:large|many)"
)
_OTHER_NAME = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}
_IDS_REMEMBERED = 4096


class Shape(NamedTuple):
    """How a request is put to a server with quirks."""

    request: ChatRequest
    server: Server
    schema: bool


class Quirks:
    """What is known of one server's."""

    def __init__(self, api: str = "chat") -> None:
        self.found: set[str] = {"n", "seed"} if api == "responses" else set()
        self._obeyed: set[str] = set()
        self._ids: dict[str, None] = {}

    def shape(self, request: ChatRequest, server: Server) -> Shape:
        """A request without what the server ignores or refuses."""
        if not self.found:
            return Shape(request, server, True)
        if "n" in self.found:
            request = request._replace(n=1)
        if "logprobs" in self.found:
            request = request._replace(top_logprobs=0)
        if "seed" in self.found:
            request = request._replace(seed=None)
        if "max_tokens_field" in self.found:
            other = _OTHER_NAME.get(server.max_tokens_field, server.max_tokens_field)
            server = server._replace(max_tokens_field=other)
        return Shape(request, server, "schema" not in self.found)

    def notice(self, sent: Shape, reply: Reply, reply_id: str | None) -> None:
        """Looks for what a reply ignored. One that obeyed before is trusted: a slip is no quirk."""
        request, whole = sent.request, [c for c in reply.choices if c.outcome is ChoiceOutcome.OK and c.text]
        written = whole + [c for c in reply.choices if c.outcome is ChoiceOutcome.TRUNCATED and c.text]
        if request.n > 1:
            self._judge("n", len(reply.choices) >= request.n)
        if request.top_logprobs and written:
            self._judge("logprobs", all(choice.tokens is not None for choice in written))
        if request.schema and sent.schema and sent.server.schema != "never" and whole:
            self._judge("schema", all(_follows(choice.text, request.schema) for choice in whole))
        if reply.usage and reply.usage.output_tokens > request.max_tokens * max(1, len(reply.choices)):
            self.found.add("max_tokens")
        if reply_id:
            if reply_id in self._ids:
                self.found.add("duplicate_id")
            self._ids[reply_id] = None
            if len(self._ids) > _IDS_REMEMBERED:
                del self._ids[next(iter(self._ids))]

    def obeys(self, name: str) -> bool | None:
        """Whether the server does what is asked of it; ``None`` where it was not seen to do so nor otherwise."""
        return False if name in self.found else True if name in self._obeyed else None

    def _judge(self, name: str, obeyed: bool) -> None:
        if obeyed:
            self._obeyed.add(name)
        elif name not in self._obeyed:
            self.found.add(name)

    def concede(self, failure: Failure, sent: Mapping[str, Any]) -> str | None:
        """The quirk for whose sake a server refused a body: without that field it may take it."""
        if not _UNSUPPORTED.search(failure.detail):
            return None
        for field in _FIELDS.keys() & sent.keys():
            named = (failure.param or "").split(".")[0] == field
            if named or re.search(_MENTIONS[field], f"{failure.param} {failure.detail}"):
                self.found.add(_FIELDS[field])
                return _FIELDS[field]
        return None

    def concede_schema(self, sent: Shape) -> bool:
        """Some servers fail (500) on a schema: another attempt goes without, unless a schema was obeyed before."""
        if sent.request.schema and sent.schema and not {"schema"} & (self.found | self._obeyed):
            self.found.add("schema")
            return True
        return False


def _follows(text: str, schema: str) -> bool:
    """Whether a text is JSON with the fields that a schema requires (servers that obey, obey in full)."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return False
    wanted = json.loads(schema)
    return wanted.get("type") != "object" or (isinstance(found, dict) and set(wanted.get("required", ())) <= set(found))
