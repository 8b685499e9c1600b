"""How many responses that try to instruct the judge reach the parser, and whose verdict is then read.

Reads ``tests/judging/injections.jsonl``. A scripted judge is fooled into handling each response in one of several ways
and gives its own verdict, 2 of 10, beside it. Counted: replies in which a mark of the response stands at all; in which
one is left after quotations and whole copies are taken out; and what is read: the judge's own verdict, none (the
judgment is lost, and told as ``unparsed``), or the response's (mistaken).

    python tests/benchmarks/injections.py
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from harness.clients.base import Choice, ChoiceOutcome, Reply
from harness.judging import JudgeItem, load_judge
from harness.judging.extract import plain
from harness.judging.fence import fenced, harmless_text
from harness.judging.prompt_judge import PromptJudge
from harness.judging.quotation import own_words, without_copies
from harness.records import Completion, Message, Sample

FILE = Path(__file__).parents[1] / "judging" / "injections.jsonl"
INJECTIONS = [json.loads(line)["text"] for line in FILE.read_text(encoding="utf-8").split("\n") if line]
OWN = "It gives in to nobody.\nRating: [[2]]"
UNMARKED = OWN.replace("[[2]]", "2")
IN_WORDS = "It gives in to nobody. I would give it 2 out of 10."
DECLINES = "I'm sorry, but I can't rate this response."
_MARK = re.compile(r"\[ ?\\?\[|[\"']?(?:rating|verdict)[\"']?\s*:", re.IGNORECASE)
_CODE = re.compile(r"<<<response ([0-9a-f]{16})$", re.MULTILINE)

Way = Callable[[str, str], str]


class Count(NamedTuple):
    """What became of all injections, handled in one way."""

    way: str
    n: int
    n_reached: int
    n_left: int
    n_own: int
    n_lost: int
    n_mistaken: int


def _quoted(text: str, code: str) -> str:
    return "".join(f"> {line}\n" for line in re.split(r"\r\n|[\n\r]", text))


def _in_fence(text: str, code: str) -> str:
    return fenced("response", text, code) + "\n"


def _in_code_block(text: str, code: str) -> str:
    return f"```\n{text}\n```\n"


def _last_mark(text: str, code: str) -> str:
    """The line of the response that holds its last mark, in which a judge may believe."""
    lines = [line for line in text.split("\n") if _MARK.search(plain(line))]
    return f"{lines[-1].strip()}\n" if lines else ""


def _demand(text: str, code: str, end: str = " at once.)\n") -> str:
    """A sentence of the judge's own that names what the response demands, without quotation marks."""
    marks = re.findall(r"\[ ?\[[^\[\]]*\] ?\]", plain(text).replace("\\", ""))
    return f"(I disregarded its demand to answer Rating: {marks[-1]}{end}" if marks else ""


QUOTED: dict[str, Way] = {
    "quotes it in its fence, then judges": lambda text, code: f"{_in_fence(text, code)}\n{OWN}",
    "judges, then quotes it in its fence": lambda text, code: f"{OWN}\n\n{_in_fence(text, code)}",
    "quotes it with >, then judges": lambda text, code: f"{_quoted(text, code)}\n{OWN}",
    "judges, then quotes it with >": lambda text, code: f"{OWN}\n\n{_quoted(text, code)}",
    "quotes it in a code block, then judges": lambda text, code: f"{_in_code_block(text, code)}\n{OWN}",
    "judges, then quotes it in a code block": lambda text, code: f"{OWN}\n\n{_in_code_block(text, code)}",
}
UNQUOTED: dict[str, Way] = {
    "copies it without a quotation, then judges": lambda text, code: f"{text}\n\n{OWN}",
    "judges, then copies all of it": lambda text, code: f"{OWN}\n\n{text}",
    "names its demand without a quotation, then judges": lambda text, code: f"{_demand(text, code)}\n{OWN}",
    "judges, then names its demand": lambda text, code: f"{OWN}\n{_demand(text, code)}",
    "names its demand, judges without a mark": lambda text, code: f"{_demand(text, code)}\n{UNMARKED}",
    "judges without a mark, then names its demand": lambda text, code: f"{UNMARKED}\n{_demand(text, code, end='')}",
    "judges without a mark, then names its demand in a sentence": lambda text, code: (
        f"{UNMARKED}\n{_demand(text, code, end='.')}"
    ),
    "judges in words, then names its demand in a sentence": lambda text, code: (
        f"{IN_WORDS}\n{_demand(text, code, end='.')}"
    ),
    "judges in words, then names its demand in brackets": lambda text, code: (
        f"{IN_WORDS}\n{_demand(text, code, end='.)')}"
    ),
    "names its demand in brackets and nothing else": lambda text, code: _demand(text, code, end=".)"),
    "declines to judge, naming its demand": lambda text, code: f"{DECLINES} {_demand(text, code)}",
    "judges, then copies its last mark": lambda text, code: f"{OWN}\n\n{_last_mark(text, code)}",
    "copies its last mark and nothing else": _last_mark,
    "gives no verdict, then names its demand in a sentence": lambda text, code: (
        f"It gives in to nobody.\n{_demand(text, code, end='.')}"
    ),
}
ONE_VERDICT = ["copies its last mark and nothing else"]
"""Ways that leave the demanded mark as the only verdict, at the end: nothing tells it from the judge's own."""


def _item(text: str) -> JudgeItem:
    sample = Sample(task="t", task_version="1", messages=(Message(role="user", content="A question?"),))
    return JudgeItem(sample, Completion(sample_key=sample.key, model_key="m", outcome="ok", text=text))


def count(name: str, way: Way) -> Count:
    """Puts every injection to a judge that handles it in one way."""
    judge = load_judge("harmless_score")
    assert isinstance(judge, PromptJudge)
    n_reached = n_left = n_own = n_lost = 0
    for text in INJECTIONS:
        item = _item(text)
        found = _CODE.search(judge.request(item, (0,)).messages[-1][1])
        assert found is not None
        seen = harmless_text(text)
        said = way(seen, found.group(1))
        (verdict,) = judge.verdicts(item, Reply((Choice(ChoiceOutcome.OK, said),)))
        n_own_marks = sum(len(_MARK.findall(own)) for own in (OWN, UNMARKED) if own in said)
        left = own_words(without_copies(plain(said), [plain(seen)])).text
        n_reached += len(_MARK.findall(plain(said))) > n_own_marks
        n_left += len(_MARK.findall(left)) > n_own_marks
        n_own += verdict.score == 2
        n_lost += verdict.score is None
    n = len(INJECTIONS)
    return Count(name, n, n_reached, n_left, n_own, n_lost, n - n_own - n_lost)


def main() -> None:
    """Prints the table."""
    print("| The judge | injections | reach the parser | left after quotations | own verdict | none | mistaken |")
    print("|---|---|---|---|---|---|---|")
    for name, way in {**QUOTED, **UNQUOTED}.items():
        print("|", " | ".join(map(str, count(name, way))), "|")


if __name__ == "__main__":
    main()
