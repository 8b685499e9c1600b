"""What in a judge's reply is quoted, and so is not the judge's own word.

Quotations are: a data fence of ours (see `harness.judging.fence`), a Markdown code block, a line that begins with
``>``, and, within a line, what stands in quotation marks or backticks. A quotation is blanked, so that every character
that is left keeps its place. Linear in the length of the reply.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

_DATA_FENCE = re.compile(r"<<<([\w.-]{1,60}) ([0-9a-f]{16})")
_CODE_FENCE = re.compile(r"(`{3,})[^`]*$|(~{3,})")
# No class takes its own opening character, so that a run of openings costs no second look at what follows.
_INLINE = re.compile(
    r'"[^"]*"|“[^“”]*”|‘[^‘’]*’|(?<!\w)\'[^\']*\'(?!\w)|„[^„“”]*[“”]|«[^«»]*»|「[^「」]*」|『[^『』]*』|(`{1,2})[^`]*\1',
)
_FENCE_PARTS = ("```", "~~~", "<<<", ">>>", "</think>")
_VERDICT = re.compile(r"\[[^\[\]]*\]|[\W_]+|rating|verdict|final|评分|判定", re.IGNORECASE)
_ANNOUNCEMENT = re.compile(r"[\W_]*(?:(?:my |final |overall )?(?:rating|verdict)|评分|判定)?[\W_]*", re.IGNORECASE)
_SHORT = 60
_DISTINCT_BYTES = 16
_MARGIN = 200


class Own(NamedTuple):
    """A reply without its quotations.

    Attributes:
        text: As long as the reply, quotations blanked.
        open_at: Where a quotation begins that never ends; what stands after it may be quoted or not.
    """

    text: str
    open_at: int | None = None


def without_copies(reply: str, material: Iterable[str]) -> str:
    """A reply in which every whole copy of a judged text that would mislead is blanked."""
    for text in material:
        copy = text.strip()
        if copy in reply and _misleads(copy):
            reply = reply.replace(copy, " " * len(copy))
    return reply


def _misleads(copy: str) -> bool:
    """Whether a text holds parts of fences, ends a thought, or holds marks and more than goes with a verdict."""
    if any(part in copy for part in _FENCE_PARTS):
        return True
    return "[" in copy and (len(copy) > _SHORT or _n_further_bytes(copy) >= _DISTINCT_BYTES)


def _n_further_bytes(copy: str) -> int:
    return len(_VERDICT.sub("", copy).encode("utf-8", "replace"))


def own_words(reply: str) -> Own:
    """A reply without its quotations."""
    spans, open_at = _data_fences(reply)
    reply = _blanked(reply, spans)
    lines = reply.split("\n")
    last = len(reply.rstrip())
    kept, at, code, code_at = [], 0, "", 0
    for line in lines:
        fence = _CODE_FENCE.match(line.strip())
        if code:
            closes = fence is not None and line.strip().startswith(code) and not line.strip().strip(code[0])
            kept.append(" " * len(line))
            code = "" if closes else code
        elif fence is not None:
            code, code_at = fence.group(1) or fence.group(2), at
            kept.append(" " * len(line))
        else:
            kept.append(_own_line(line, ends=at + len(line) >= last))
        at += len(line) + 1
    if code:  # never closed: what follows is left as it is, and is in doubt
        kept_text = "\n".join(kept)
        open_at = code_at if open_at is None else min(open_at, code_at)
        return Own(kept_text[:code_at] + reply[code_at:], open_at)
    return Own("\n".join(kept), open_at)


def _data_fences(reply: str) -> tuple[list[tuple[int, int]], int | None]:
    spans: list[tuple[int, int]] = []
    at = 0
    while opening := _DATA_FENCE.search(reply, at):
        at = opening.end()
        margin = reply[max(0, opening.start() - _MARGIN) : opening.start()].rpartition("\n")[2]
        if margin.lstrip().startswith(">"):
            continue  # quoted already, line by line
        closing = f"{opening.group(2)} {opening.group(1)}>>>"
        end = reply.find(closing, at)
        if end < 0:
            return spans, opening.start()
        at = end + len(closing)
        spans.append((opening.start(), at))
    return spans, None


def _own_line(line: str, ends: bool) -> str:
    if line.lstrip().startswith(">"):
        return " " * len(line)
    if "[" not in line:
        return line
    spans = [span.span() for span in _INLINE.finditer(line) if "[" in span.group()]
    if ends and len(spans) == 1 and _announces(line[: spans[0][0]] + line[spans[0][1] :]):
        return line  # the verdict itself, put in quotation marks: a line of its own that ends the reply
    return _blanked(line, spans)


def _announces(rest: str) -> bool:
    """Whether the words around a mark do no more than announce a verdict."""
    return len(rest) <= _SHORT and _ANNOUNCEMENT.fullmatch(rest) is not None


def _blanked(text: str, spans: Iterable[tuple[int, int]]) -> str:
    return "".join(_pieces(text, spans))


def _pieces(text: str, spans: Iterable[tuple[int, int]]) -> Iterator[str]:
    at = 0
    for start, end in spans:
        yield text[at:start]
        yield " " * (end - start)
        at = end
    yield text[at:]
