"""A gate for people and programs: text, a Markdown comment for a pull request, JSON; pure.

Texts of models are never read as markup: in the terminal control characters are replaced, in Markdown they stand in
code spans that they cannot close.
"""

from __future__ import annotations

import json
from typing import NamedTuple

from harness.calibration.told import line, text_table
from harness.deciding.compare_text import code, escaped, markdown_table
from harness.deciding.gate_result import Gate, RuleResult, Turned
from harness.reporting.table import plain_heading, show, show_p

MARKS = {"fail": "FAIL", "inconclusive": "UNCLEAR", "pass": "pass"}
VERDICTS = {"pass": "PASS", "fail": "FAIL", "inconclusive": "INCONCLUSIVE"}
SIGNS = {"pass": "✅", "fail": "❌", "inconclusive": "⚠️"}
COLUMNS = ("", "rule", "found", "worst bound", "limit", "n", "why")
FEW = 5
LETTERS = 100
LEGEND = (
    "Rates in points of 100. found: candidate − baseline, or the candidate's own value; worst bound: the end of its "
    "interval that decides, with every lost item counted worst."
)


class Numbers(NamedTuple):
    """The numbers of a rule as text, each empty where there is none."""

    value: str
    bound: str
    limit: str
    n: str


def headline(found: Gate) -> str:
    """The verdict in one line."""
    counts = [(name, sum(rule.decision == name for rule in found.rules)) for name in ("fail", "inconclusive", "pass")]
    told = ", ".join(f"{n} {name}" for name, n in counts if n)
    return f"{VERDICTS[found.decision]}: {_side(found, 'candidate')} against {_side(found, 'baseline')} ({told})"


def to_text(found: Gate) -> str:
    """The verdict first, then each rule, the worst first, then what would settle the open ones."""
    order = sorted(found.rules, key=lambda rule: list(MARKS).index(rule.decision))
    rows = [[MARKS[rule.decision], rule.name, *numbers(found, rule), why(rule)] for rule in order]
    parts = [line(headline(found)), line(_policy(found)), text_table("", COLUMNS, rows), LEGEND]
    parts += [f"{line(rule.name)}: {line(rule.settles)}." for rule in found.rules if rule.settles]
    for rule in found.rules:
        if rule.items:
            cells = [_turned(item) for item in rule.items[:FEW]]
            parts.append(
                text_table(line(_title(rule)), ("item", "prompt", "answer of the candidate", "verdict"), cells)
            )
    parts += [f"Note: {line(note)}." for note in found.notes]
    return "\n".join(parts)


def to_markdown(found: Gate) -> str:
    """The same as GitHub-flavoured Markdown, failures first, what passed folded away."""
    lines = [f"## {SIGNS[found.decision]} {escaped(headline(found))}", "", escaped(_policy(found)), ""]
    columns = [escaped(one) for one in COLUMNS]
    open_rules = [rule for rule in found.rules if rule.decision != "pass"]
    held = [rule for rule in found.rules if rule.decision == "pass"]
    if open_rules:
        lines += [*markdown_table(columns, [_cells(found, rule) for rule in open_rules]), ""]
    lines += [f"- {escaped(rule.name)}: {escaped(rule.settles)}." for rule in open_rules if rule.settles]
    for rule in open_rules:
        if rule.items:
            cells = [[code(cell) for cell in _turned(item)] for item in rule.items[:FEW]]
            lines += ["", f"<details><summary>{escaped(_title(rule))}</summary>", ""]
            lines += [
                *markdown_table(("item", "prompt", "answer of the candidate", "verdict"), cells),
                "",
                "</details>",
            ]
    if held:
        lines += ["", f"<details><summary>{len(held)} rules hold</summary>", ""]
        lines += [*markdown_table(columns, [_cells(found, rule) for rule in held]), "", "</details>"]
    lines += ["", escaped(LEGEND), "", *(f"- Note: {escaped(note)}." for note in found.notes)]
    return "\n".join(lines).rstrip() + "\n"


def to_json(found: Gate) -> str:
    """The record as JSON."""
    return json.dumps(found.model_dump(mode="json"), indent=1, ensure_ascii=False)


def why(rule: RuleResult) -> str:
    """The reason, with the p value where there is one."""
    if rule.p_value is None:
        return rule.reason
    p_value = f"{show_p(rule.p_value)}" + (f", Holm {show_p(rule.p_adjusted)}" if rule.p_adjusted is not None else "")
    return f"{rule.reason} ({p_value}; {rule.test})"


def numbers(found: Gate, rule: RuleResult) -> Numbers:
    """What a rule found, in the unit of its metric."""
    signed = rule.rule in ("non_inferior", "equivalent", "improves")
    value, bound, limit = (_number(found, rule, value, signed) for value in (rule.value, rule.bound, rule.limit))
    if rule.rule == "equivalent":
        limit = limit.replace("+", "±")
    lost = f" (+{rule.n_lost} lost)" if rule.n_lost else ""
    return Numbers(value, bound, limit, "" if rule.n is None else f"{rule.n}{lost}")


def _number(found: Gate, rule: RuleResult, value: float | None, signed: bool) -> str:
    if value is None:
        return ""
    if rule.rule == "max_cost_usd":
        return f"${value:.4f}".rstrip("0").rstrip(".")
    if rule.rule == "coverage":
        return f"{100 * value:.1f}%"
    metric = found.metric(rule.metric)
    if metric is None or rule.rule == "must_not_turn_bad":
        return f"{value:g}"
    text = show(value, plain_heading(metric))
    return f"+{text}" if signed and float(text) > 0 else text


def _side(found: Gate, which: str) -> str:
    side = found.candidate if which == "candidate" else found.baseline
    return f"{side.run}:{side.subject}"


def _policy(found: Gate) -> str:
    about = f": {found.description}" if found.description else ""
    return f"Policy {found.policy} ({found.policy_sha256[:12]}){about}"


def _title(rule: RuleResult) -> str:
    n_turned = int(rule.value or len(rule.items))
    shown = f", the first {FEW}" if n_turned > FEW else ""
    return f"{rule.name}: {n_turned} items turned bad{shown}"


def _cells(found: Gate, rule: RuleResult) -> list[str]:
    cells = [rule.name, *numbers(found, rule), why(rule)]
    return [SIGNS[rule.decision], *(escaped(cell) for cell in cells)]


def _turned(item: Turned) -> list[str]:
    named = f"{item.key[:12]} {item.source}".strip()
    said = f"{item.verdict}: {item.reason}" if item.reason else item.verdict
    return [named, *(line(text)[:LETTERS] for text in (item.prompt, item.answer, said))]
