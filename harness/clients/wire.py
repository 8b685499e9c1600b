"""What a request puts on the wire, and what the server's JSON amounts to; pure.

Knows the two protocols of an OpenAI-compatible server: chat completions and responses. What the server leaves out, or
says in a way that cannot be, is absent in the `Reply` too: no usage is no bill of nothing, and no choice is a failure
with its reason. A bill is read whatever the rest is like, and log-probabilities that cannot be read cost no choice.
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
MOST_TOKENS = 10**9
"""No request has as many: a bill that says so is not believed."""
PATHS = {"chat": "/chat/completions", "responses": "/responses"}
SCHEMA_NAME = "verdict"
_BILL = {"chat": ("prompt_tokens", "completion_tokens"), "responses": ("input_tokens", "output_tokens")}
_MALFORMED = (KeyError, TypeError, AttributeError, ValueError, IndexError, OverflowError)
_SECRETS = re.compile(r"\b(?:sk|pk)-[\w-]{6,}|(?<=Bearer )\S+|(?<=//)[^/@\s]+(?=@)")
_ENDS = {
    **dict.fromkeys(("", "stop", "eos", "eos_token", "end_turn", "stop_sequence"), ChoiceOutcome.OK),
    **dict.fromkeys(("tool_calls", "function_call"), ChoiceOutcome.OK),
    **dict.fromkeys(("length", "max_tokens", "model_length"), ChoiceOutcome.TRUNCATED),
    "content_filter": ChoiceOutcome.FILTERED,
}
_BROKEN = ("error", "abort")  # a server gave up in the middle of a choice: what there is of it is no answer
_INCOMPLETE = {"max_output_tokens": ChoiceOutcome.TRUNCATED, "content_filter": ChoiceOutcome.FILTERED}


def api_key(server: Server) -> str:
    """The key in the environment; a server of the user's own is sent a dummy where there is none.

    Raises:
        UserError: The official server is meant and there is no key, or no header can carry it.
    """
    key = os.environ.get(server.api_key_env, "").strip()
    if not key and server.base_url is None:
        raise UserError(f"model '{server.model}': set {server.api_key_env} in the environment to your API key")
    if not (key.isascii() and key.isprintable()):
        raise UserError(
            f"model '{server.model}': the API key in {server.api_key_env} holds a line break or a character outside "
            "ASCII, which no key does: copy it again"
        )
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
    except _MALFORMED as error:
        reply = Reply((), detail=f"the reply has not the expected form ({type(error).__name__}: {error})")
    detail = reply.detail and safe(reply.detail, server)
    return reply._replace(served_model=_model(data), usage=_usage(data.get("usage"), server), detail=detail)


def error_of(data: Any) -> Mapping[str, Any] | None:
    """What went wrong, where a server's JSON says so itself."""
    error = data.get("error") if isinstance(data, dict) else None
    return error if isinstance(error, dict) else {"message": error} if error else None


def _told(data: Any) -> str | None:
    """The words of an error."""
    error = error_of(data)
    told = error and (error.get("message") or error.get("code"))
    return str(told) if told else None


def _chat(data: Mapping[str, Any]) -> Reply:
    found = sorted(data.get("choices") or (), key=lambda choice: choice.get("index", 0))
    broken = [choice for choice in found if _end(choice) in _BROKEN]
    whole = [choice for choice in found if _end(choice) not in _BROKEN]
    if not whole:
        why = f"the server gave up in the middle: {_told(broken[0]) or 'no reason given'}" if broken else None
        return Reply((), detail=_told(data) or why or "the reply has no choices")
    unknown = next((end for end in map(_end, whole) if end not in _ENDS), None)
    detail = unknown and f"finish_reason '{unknown}' is not known: the text was taken as it is"
    return Reply(tuple(map(_choice, whole)), detail=detail)


def _end(choice: Mapping[str, Any]) -> str:
    return str(choice.get("finish_reason") or "").lower()


def _choice(choice: Mapping[str, Any]) -> Choice:
    message = choice["message"]
    text = _text(message.get("content"))
    refusal = message.get("refusal")
    outcome = _ENDS.get(_end(choice), ChoiceOutcome.OK)
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
    """The tokens of a choice; ``None`` where there are none, or one of them cannot be read."""
    try:
        content = logprobs["content"]
        return None if content is None else tuple(map(_token, content))
    except _MALFORMED:
        return None


def _token(token: Mapping[str, Any]) -> Token:
    top = {_text(one["token"]): _logprob(one) for one in token.get("top_logprobs") or ()}
    return Token(_text(token["token"]), _logprob(token), top)


def _logprob(token: Mapping[str, Any]) -> float:
    found = float(token["logprob"])
    if not found < 1:  # it is at most 0, give or take the rounding of half precision
        raise ValueError(f"{found} is no log-probability")
    return found


def _responses(data: Mapping[str, Any]) -> Reply:
    parts = [part for item in data.get("output") or () if item.get("type") == "message" for part in item["content"]]
    if data.get("status") in ("failed", "cancelled") or not (parts or data.get("status") == "incomplete"):
        return Reply((), detail=_told(data) or "the reply has no message")
    refusals = [part["refusal"] for part in parts if part["type"] == "refusal"]
    texts = [part for part in parts if part["type"] == "output_text"]
    text = "".join(part["text"] for part in texts)
    tokens = _tokens({"content": texts[0].get("logprobs") or None}) if len(texts) == 1 else None
    reason = (data.get("incomplete_details") or {}).get("reason")
    outcome = ChoiceOutcome.REFUSED if refusals else _INCOMPLETE.get(reason or "", ChoiceOutcome.OK)
    return Reply((Choice(outcome, _text(text or "".join(refusals)), tokens),))


def _model(data: Mapping[str, Any]) -> str | None:
    model = data.get("model")
    return _text(model) if isinstance(model, str) else None


def _usage(usage: Any, server: Server) -> Usage | None:
    """The bill; ``None`` where it cannot be read or cannot be: a reply that was paid for counts all the same."""
    read, written = _BILL[server.api]
    try:
        details = usage.get(f"{read}_details")
        cached = details.get("cached_tokens") if isinstance(details, dict) else None
        found = Usage(int(usage[read]), int(usage[written]), int(cached or 0))
    except _MALFORMED:
        return None
    if not all(0 <= count < MOST_TOKENS for count in found):
        return None
    return found._replace(cached_tokens=min(found.cached_tokens, found.input_tokens))
