"""What a request puts on the wire, and what the server's JSON amounts to; pure.

Knows the two protocols of an OpenAI-compatible server: chat completions and responses. What the server leaves out is
absent in the `Reply` too: no usage is no bill of nothing, and no choice is a failure with its reason.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from typing import Any

from harness.clients.base import ChatRequest, Choice, ChoiceOutcome, Reply, Server, Token, Usage
from harness.errors import UserError

OFFICIAL_URL = "https://api.openai.com/v1"
NO_KEY = "none"
"""What a server is sent that needs no key."""
LONGEST_DETAIL = 300
PATHS = {"chat": "/chat/completions", "responses": "/responses"}
SCHEMA_NAME = "verdict"
_SECRETS = re.compile(r"\b(?:sk|pk)-[\w-]{6,}|(?<=Bearer )\S+|(?<=//)[^/@\s]+(?=@)")
_ENDS = {"length": ChoiceOutcome.TRUNCATED, "content_filter": ChoiceOutcome.FILTERED}
_INCOMPLETE = {"max_output_tokens": ChoiceOutcome.TRUNCATED, "content_filter": ChoiceOutcome.FILTERED}


def api_key(server: Server) -> str:
    """The key in the environment; a server of the user's own is sent a dummy where there is none.

    Raises:
        UserError: The official server is meant and there is no key.
    """
    key = os.environ.get(server.api_key_env, "").strip()
    if not key and server.base_url is None:
        raise UserError(f"model '{server.model}': set {server.api_key_env} in the environment to your API key")
    return key or NO_KEY


def safe(text: str, server: Server) -> str:
    """One line of a server's or library's words, cut short, without the API key or anything like one in it."""
    key = os.environ.get(server.api_key_env, "").strip()
    hidden = text.replace(key, "***") if key else text
    return " ".join(_SECRETS.sub("***", hidden).split())[:LONGEST_DETAIL]


def body(request: ChatRequest, server: Server, *, schema: bool = True) -> dict[str, Any]:
    """The JSON body of a request.

    Args:
        request: The request.
        server: Where it goes.
        schema: Send the JSON schema, if the request has one and the server is not said to have none.
    """
    chat = server.api == "chat"
    messages = [{"role": role, "content": text} for role, text in request.messages]
    limit = server.max_tokens_field if chat else "max_output_tokens"
    found: dict[str, Any] = {
        "model": server.model,
        "messages" if chat else "input": messages,
        limit: request.max_tokens,
    }
    if request.temperature is not None:
        found["temperature"] = request.temperature
    if chat and request.n > 1:
        found["n"] = request.n
    if chat and request.seed is not None:
        found["seed"] = request.seed
    if request.top_logprobs:
        found["top_logprobs"] = request.top_logprobs
        found |= {"logprobs": True} if chat else {"include": ["message.output_text.logprobs"]}
    if request.schema is not None and schema and server.schema != "never":
        named = {"name": SCHEMA_NAME, "schema": json.loads(request.schema), "strict": True}
        as_chat = {"response_format": {"type": "json_schema", "json_schema": named}}
        found |= as_chat if chat else {"text": {"format": {"type": "json_schema", **named}}}
    return {**found, **server.extra}


def request_key(request: ChatRequest, server: Server) -> str:
    """SHA-256 of everything on the wire, with the seat, which tells equal requests apart that are drawn anew."""
    wire = [server.base_url, server.api, body(request, server), request.seat]
    text = json.dumps(wire, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def parse(data: Any, server: Server) -> Reply:
    """The reply that a server's JSON amounts to; a failure where it has no choice of the expected form."""
    if not isinstance(data, dict):
        return Reply((), detail="the reply is no JSON object")
    try:
        reply = _chat(data) if server.api == "chat" else _responses(data)
    except (KeyError, TypeError, AttributeError, ValueError, IndexError, OverflowError) as error:
        return Reply((), detail=safe(f"the reply has not the expected form ({type(error).__name__}: {error})", server))
    return reply._replace(detail=reply.detail and safe(reply.detail, server))


def _chat(data: Mapping[str, Any]) -> Reply:
    choices = tuple(_choice(choice) for choice in sorted(data.get("choices") or (), key=lambda c: c.get("index", 0)))
    usage = data.get("usage")
    billed = _usage(usage, "prompt_tokens", "completion_tokens", "prompt_tokens_details")
    return Reply(choices, _model(data), billed, detail=None if choices else "the reply has no choices")


def _choice(choice: Mapping[str, Any]) -> Choice:
    message = choice["message"]
    text = _text(message.get("content"))
    refusal = message.get("refusal")
    outcome = _ENDS.get(choice.get("finish_reason") or "", ChoiceOutcome.OK)
    if isinstance(refusal, str) and refusal:
        return Choice(ChoiceOutcome.REFUSED, text or _text(refusal))
    return Choice(outcome, text, _tokens(choice.get("logprobs")))


def _text(content: Any) -> str:
    """The text of a message: a string, parts, or nothing (a model may say nothing, which is data).

    Half of a surrogate pair, which no file could hold, becomes U+FFFD.
    """
    if isinstance(content, list):
        content = "".join(part.get("text") or "" for part in content)
    if content is not None and not isinstance(content, str):
        raise TypeError(f"content is of type {type(content).__name__}")
    return (content or "").encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _tokens(logprobs: Any) -> tuple[Token, ...] | None:
    if not logprobs or logprobs.get("content") is None:
        return None
    return tuple(
        Token(_text(one["token"]), float(one["logprob"]), {_text(t["token"]): float(t["logprob"]) for t in _top(one)})
        for one in logprobs["content"]
    )


def _top(token: Mapping[str, Any]) -> Any:
    return token.get("top_logprobs") or ()


def _responses(data: Mapping[str, Any]) -> Reply:
    parts = [part for item in data.get("output") or () if item.get("type") == "message" for part in item["content"]]
    usage = data.get("usage")
    billed = _usage(usage, "input_tokens", "output_tokens", "input_tokens_details")
    if not parts and data.get("status") != "incomplete":
        error = (data.get("error") or {}).get("message")
        return Reply((), _model(data), billed, detail=error or "the reply has no message")
    refusals = [part["refusal"] for part in parts if part["type"] == "refusal"]
    texts = [part for part in parts if part["type"] == "output_text"]
    text = "".join(part["text"] for part in texts)
    tokens = _tokens({"content": texts[0]["logprobs"]}) if len(texts) == 1 and texts[0].get("logprobs") else None
    reason = (data.get("incomplete_details") or {}).get("reason")
    outcome = ChoiceOutcome.REFUSED if refusals else _INCOMPLETE.get(reason or "", ChoiceOutcome.OK)
    return Reply((Choice(outcome, _text(text or "".join(refusals)), tokens),), _model(data), billed)


def _model(data: Mapping[str, Any]) -> str | None:
    model = data.get("model")
    return _text(model) if isinstance(model, str) else None


def _usage(usage: Any, read: str, written: str, details: str) -> Usage | None:
    """The bill; ``None`` where it cannot be read, for a reply that was paid for counts all the same."""
    try:
        cached = (usage.get(details) or {}).get("cached_tokens") or 0
        return Usage(int(usage[read]), int(usage[written]), int(cached))
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError):
        return None
