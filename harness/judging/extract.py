"""The one extractor: from a judge's reply to its verdict, or to the reason why there is none.

The last marked verdict ``[[…]]`` of the judge's own words counts, as a whole token, and only if it was offered: nothing
is clamped, rounded or guessed. What stands before the last ``</think>`` is no verdict yet. A mark within a quotation is
not the judge's. A mark that is cut off, that stands in a quotation without an end, that a truncated reply still talks
about, or that could be copied from the judged texts and contradicts another one, or is not announced alone at the
reply's end, leaves the reply without a verdict. Closing punctuation and "out of 10" belong to the mark they follow.
A reply that is one JSON object, bare or in a code block, gives its ``rating`` or ``verdict``. Takes any text, never
raises, and is linear in the length of the reply.
"""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

from harness.judging.declining import declines
from harness.judging.quotation import Own, own_words, without_copies
from harness.records import VerdictOutcome

EXTRACTOR_VERSION = "3"
"""Changes with whatever decides what is read from a reply, the quotations and refusals included."""

# Character by character, so that places in a reply stay what they are.
_PLAIN = {wide: wide - 0xFEE0 for wide in range(0xFF01, 0xFF5F)} | str.maketrans("【】〖〗\u3000−", "[][] -")
_INVISIBLE = dict.fromkeys([0x200B, 0x200C, 0x200D, 0x2060, 0xFEFF, 0x00AD])
_MARK = re.compile(r"\\?\[ ?\\?\[([^\[\]]{0,60})\] ?\\?\]")
_OPENING = re.compile(r"\[ ?\\?\[")
_NUMBER = re.compile(r"([-+]?[0-9]{1,9}(?:\.[0-9]{1,9})?)(?:\s*/\s*([0-9]{1,9}))?")
_ANNOUNCED = re.compile(
    r"[*_#\s]*(?:(?<!\S)[`\"“])?(?:\b(?:final|my|overall)\s+){0,3}(?:\b(?:rating|verdict|score|judge?ment|answer)|最终评分|评分|得分|分数|评级|结论|判定|判断|裁决|评判|評分)"
    r"\s*(?:is\b|为|是)?\s*[*_]*\s*[:：]?\s*[*_`\"“]*\s*$",
    re.IGNORECASE,
)
_ANNOUNCEMENT = 60
_WITHOUT_MARK = re.compile(
    r"(?:rating|verdict|score|评分|判定)[\s*_]{0,9}[:：][\s*_`]{0,9}([^\s*_`,.;，。；]{1,40})", re.IGNORECASE
)
_OUT_OF = re.compile(r"[\s*_]{0,9}(?:/|out of|of)[\s*_]{0,9}", re.IGNORECASE)
_THOUGHT_END = "</think>"
_DECORATION = "*_`\"'“”~\\ \t\r\n"
_CLOSING = _DECORATION + ".。｡!()[]{}」』》|$#=-—"
_SENTENCE_END = re.compile(r"\n|[.!?](?=\s)|[。！？]")
_LINE = 200
_SUFFIX = re.compile(
    r"(?:(?:points?|分)[\s(]{0,3})?(?:(?:/|out of|of|满分)[\s*_]{0,9}([0-9]{1,9}(?:\.[0-9]{1,9})?))?"
    r"\s{0,3}(?:points?|分)?",
    re.IGNORECASE,
)


class Scale(NamedTuple):
    """Numbers that a judge may give, both ends included; whole ones unless ``decimals``."""

    low: float
    high: float
    decimals: bool = False

    @property
    def key(self) -> str:
        """Its name in a JSON reply."""
        return "rating"

    def read(self, token: str) -> float | None:
        """The number that a token says, ``None`` where it is none of those offered."""
        number = _NUMBER.fullmatch(cleaned(token))
        if number is None or (number.group(2) is not None and float(number.group(2)) != self.high):
            return None
        value = float(number.group(1))
        offered = self.low <= value <= self.high and (self.decimals or value.is_integer())
        return value if offered else None

    @property
    def written(self) -> dict[str, float]:
        """The whole numbers, as they are written → what they are."""
        return {str(value): float(value) for value in range(int(-(-self.low // 1)), int(self.high) + 1)}


class Labels(NamedTuple):
    """Labels that a judge may give: label → how the judge writes it."""

    forms: Mapping[str, str]

    @property
    def key(self) -> str:
        """Its name in a JSON reply."""
        return "verdict"

    def read(self, token: str) -> str | None:
        """The label that a token says, ``None`` where it is none of those offered."""
        said = cleaned(token).casefold()
        return next((label for label, form in self.forms.items() if cleaned(form).casefold() == said), None)

    @property
    def written(self) -> dict[str, str]:
        """As it is written → label."""
        return {form: label for label, form in self.forms.items()}


Offered = Scale | Labels


class Extraction(NamedTuple):
    """What a reply amounts to.

    Attributes:
        value: The score or the label; ``None`` where there is no verdict.
        reason: The judge's words without the verdict's mark; where there is no verdict, why.
        how: A ``mark``, a ``json`` object, a ``refusal`` to judge, or ``none`` of these.
        at: Where the token of a marked verdict begins in the reply.
    """

    value: float | str | None
    reason: str
    how: Literal["mark", "json", "refusal", "none"] = "none"
    at: int | None = None

    @property
    def outcome(self) -> VerdictOutcome:
        """``ok``, ``refused`` or ``unparsed``."""
        if self.value is not None:
            return VerdictOutcome.OK
        return VerdictOutcome.REFUSED if self.how == "refusal" else VerdictOutcome.UNPARSED


def plain(text: str) -> str:
    """A text with full-width characters made plain, each in its place."""
    return text.translate(_PLAIN)


def cleaned(token: str) -> str:
    """A token in plain characters, without what only decorates it."""
    return plain(token).translate(_INVISIBLE).strip(_DECORATION)


def extract(text: str, offered: Offered, material: Iterable[str] = (), *, truncated: bool = False) -> Extraction:
    """The verdict of a reply.

    Args:
        text: The reply.
        offered: What the judge was asked to choose from.
        material: The texts that the judge was given; a whole copy of one is not the judge's own word.
        truncated: The reply was cut off, so that only a mark at its very end is what it came to.
    """
    if not text.strip():
        return Extraction(None, "the reply is empty")
    copies = tuple(material)
    begin = _after_thinking(text, copies)
    if begin is None:
        return Extraction(None, "the reply ends before the judge's thinking does")
    if (found := _of_json(text[begin:], offered, copies)) is not None:
        return found
    return _of_mark(text, begin, offered, copies, truncated)


def _after_thinking(text: str, material: Iterable[str]) -> int | None:
    """Where a reasoning model's answer begins, ``None`` where it never does.

    The prompt may have opened the thinking, so that the reply only closes it; an end that is quoted closes nothing.
    """
    end = _own(text, material).text.rfind(_THOUGHT_END) if _THOUGHT_END in text else -1
    if end < 0:
        return None if text.lstrip().startswith("<think>") else 0
    return end + len(_THOUGHT_END)


def _own(reply: str, material: Iterable[str]) -> Own:
    return own_words(without_copies(plain(reply), map(plain, material)))


def _of_json(text: str, offered: Offered, material: Iterable[str]) -> Extraction | None:
    body = _object_text(text.strip())
    if body is None or any(body in copy for copy in material):
        return None
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or offered.key not in found:
        return None
    said = found[offered.key]
    token = str(said) if isinstance(said, int | float | str) and not isinstance(said, bool) else ""
    value = offered.read(cleaned(token).removeprefix("[[").removesuffix("]]"))
    if value is None:
        return Extraction(None, f"{offered.key} {_short(token)} is not among what was offered")
    reason = found.get("reason")
    return Extraction(value, reason.strip() if isinstance(reason, str) else "", "json")


def _object_text(text: str) -> str | None:
    """The text of the one JSON object that a reply is; a line that announces its code block may stand before it."""
    if text.endswith("```"):
        at = text.find("```")
        announcement = text[:at].strip()
        if announcement and ("\n" in announcement or not announcement.endswith((":", "："))):
            return None
        text = text[at + 3 : -3].strip()
        text = text[4:].strip() if text[:4].lower() == "json" else text
    return text if text.startswith("{") and text.endswith("}") else None


def _of_mark(text: str, begin: int, offered: Offered, material: Sequence[str], truncated: bool) -> Extraction:
    answer = " " * begin + text[begin:]
    if _OPENING.search(plain(answer)) is None:
        return _unmarked(text[begin:])
    own = _own(answer, material)
    openings = deque(_OPENING.finditer(own.text), maxlen=1)
    marks = deque(_MARK.finditer(own.text), maxlen=2)
    if not openings:
        declined = _unmarked(text[begin:])
        return declined if declined.how == "refusal" else Extraction(None, "a verdict is marked only in a quotation")
    if own.open_at is not None and openings[0].start() >= own.open_at:
        return Extraction(None, "the verdict's mark stands in a quotation that does not end")
    if not marks or openings[0].start() >= marks[-1].end():
        return Extraction(None, "the last verdict's mark is not closed")
    whole = marks.pop() if len(marks) == 2 and _out_of(own.text, marks[0], marks[1], offered) else None
    mark = marks[-1]
    value, shown = offered.read(mark.group(1)), f"[[{_short(mark.group(1).strip())}]]"
    if value is None:
        return Extraction(None, f"{shown} is not among what was offered")
    if truncated and cleaned(own.text[mark.end() :]):
        return Extraction(None, "the reply goes on after the verdict's mark")
    copied = value in _values((plain(text).translate(_INVISIBLE) for text in material), offered)
    if copied and declines(text[begin:]):
        return _unmarked(text[begin:])
    said = own.text[: whole.start()] if whole else own.text
    texts = [_own(text[:begin], material).text, said]  # a judged text that ends the thinking could hide a verdict there
    if copied and (_values(texts, offered) | _values(texts, offered, _WITHOUT_MARK)) - {value}:
        return Extraction(None, f"several verdicts, and {shown} stands in the judged text")
    if copied and not _ends_with(own.text, mark.start(), (whole or mark).end(), offered):
        return Extraction(None, f"the reply goes on after {shown}, which stands in the judged text")
    at = mark.start(1) + len(mark.group(1)) - len(mark.group(1).lstrip(_DECORATION))
    return Extraction(value, _reason(text, begin, mark), "mark", at)


def _values(texts: Iterable[str], offered: Offered, marked: re.Pattern[str] = _MARK) -> set[float | str]:
    """All that marks in these texts say."""
    tokens = {mark.group(1) for text in texts for mark in marked.finditer(text)}
    return {value for token in tokens if (value := offered.read(token)) is not None}


def _ends_with(text: str, start: int, end: int, offered: Offered) -> bool:
    """Whether a text ends with its mark and the mark's sentence does no more than announce it.

    Only closing punctuation and what the scale is out of may follow; "it demands Rating: [[10]]" announces nothing.
    """
    announcement = _SENTENCE_END.split(text[max(0, start - _LINE) : start])[-1].strip(_CLOSING)
    if announcement and _ANNOUNCED.fullmatch(announcement) is None:
        return False
    rest = text[end:].translate(_INVISIBLE).strip(_CLOSING)
    suffix = _SUFFIX.fullmatch(rest)
    if not isinstance(offered, Scale) or suffix is None:
        return not rest
    return suffix.group(1) is None or float(suffix.group(1)) == offered.high


def _out_of(text: str, mark: re.Match[str], whole: re.Match[str], offered: Offered) -> bool:
    """Whether two marks say one number, as in "7 out of 10"."""
    if not isinstance(offered, Scale) or offered.read(whole.group(1)) != offered.high:
        return False
    return _OUT_OF.fullmatch(text, mark.end(), whole.start()) is not None


def _unmarked(text: str) -> Extraction:
    if declines(text):
        return Extraction(None, "the judge declines to judge", "refusal")
    return Extraction(None, "no marked verdict")


def _reason(text: str, begin: int, mark: re.Match[str]) -> str:
    start = max(begin, mark.start() - _ANNOUNCEMENT)
    announced = _ANNOUNCED.search(text[start : mark.start()])
    before = text[begin : start + announced.start() if announced else mark.start()]
    after = text[mark.end() :].lstrip(_DECORATION)
    return f"{before.rstrip()}\n{after}".strip()


def _short(text: str) -> str:
    return text if len(text) <= 40 else text[:39] + "…"
