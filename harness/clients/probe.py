"""Asks a server a few tiny questions and tells which of its features work."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

from harness.clients.base import Ask, ChatRequest, Reply, Server
from harness.clients.live import LiveTransport

_SCHEMA = json.dumps(
    {
        "type": "object",
        "properties": {"colour": {"type": "string", "enum": ["red", "green"]}},
        "required": ["colour"],
        "additionalProperties": False,
    }
)
_PATIENCE_SECONDS = 30.0
_QUESTION = (("user", "Write five random words."),)
_REQUEST = ChatRequest(_QUESTION, max_tokens=24, temperature=1.0)
_REQUESTS = {
    "answers": _REQUEST._replace(temperature=0.0),
    "answers again": _REQUEST._replace(temperature=0.0, seat=1),
    "n": _REQUEST._replace(n=2),
    "logprobs": _REQUEST._replace(temperature=0.0, top_logprobs=2),
    "schema": _REQUEST._replace(messages=(("user", "Name a colour."),), temperature=0.0, schema=_SCHEMA),
    "seed 1": _REQUEST._replace(seed=1),
    "seed 1 again": _REQUEST._replace(seed=1, seat=1),
    "seed 2": _REQUEST._replace(seed=2),
    "seed 3": _REQUEST._replace(seed=3),
}


def probe(server: Server) -> dict[str, bool | None]:
    """Feature → whether it works; ``None`` where the replies do not tell.

    The features are ``answers``, ``repeatable`` (temperature 0 gives the same text twice), ``n``, ``logprobs``,
    ``schema``, ``seed`` (equal seeds give equal texts and others do not), ``stop``, ``usage`` (the bill is told).

    Raises:
        UserError: Nothing can be asked: no key, no such server or model.
    """
    transports = {name: _transport(server) for name in _REQUESTS}  # each forgets what others learnt
    with ThreadPoolExecutor(len(_REQUESTS)) as pool:
        asked = pool.map(_ask, transports.values(), _REQUESTS.values())
        replies = dict(zip(_REQUESTS, asked, strict=True))
    texts = {name: reply.choices[0].text for name, reply in replies.items() if not reply.failed}
    found = {name: transports[name].known.obeys(name) for name in ("n", "logprobs", "schema")}
    answers = replies["answers"]
    found["answers"] = not answers.failed
    found["usage"] = None if answers.failed else answers.usage is not None
    found["repeatable"] = _same(texts, "answers", "answers again")
    found["seed"] = _seed(texts, transports["seed 1"])
    found["stop"] = _stop(texts.get("answers", ""), server, repeatable=found["repeatable"] is True)
    return found


def _transport(server: Server) -> LiveTransport:
    return LiveTransport(server, max_attempts=2, patience_seconds=_PATIENCE_SECONDS)


def _ask(transport: LiveTransport, request: ChatRequest) -> Reply:
    ((_, reply),) = transport.ask([Ask(request, None)])
    return reply


def _stop(text: str, server: Server, repeatable: bool) -> bool | None:
    """Whether the same answer ends before a word that is in the midst of it, where that word is asked to end it."""
    words = text.split()
    if len(words) < 2 or server.api != "chat":
        return None
    word = words[len(words) // 2]
    stopping = server._replace(extra={**server.extra, "stop": [word]})
    reply = _ask(_transport(stopping), _REQUESTS["answers"])
    if reply.failed:
        return False
    _, there, rest = reply.choices[0].text.partition(word)
    if rest.strip():
        return False
    return True if repeatable or there else None


def _same(texts: dict[str, str], *names: str) -> bool | None:
    return len({texts[name] for name in names}) == 1 if texts.keys() >= set(names) else None


def _seed(texts: dict[str, str], transport: LiveTransport) -> bool | None:
    if not transport.honours("seed"):
        return False
    same = _same(texts, "seed 1", "seed 1 again")
    if same and _same(texts, "seed 1", "seed 2", "seed 3"):
        return None  # greedy whatever the temperature, or sure of its answer
    return same
