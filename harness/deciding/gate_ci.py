"""A gate for build servers: JUnit XML, SARIF 2.1.0, and GitHub's workflow commands; pure.

A rule that fails is a failure, an open one an error (a warning to SARIF and GitHub). No text of a model is in any of
them; other texts are escaped by the writer of the format, control characters replaced.
"""

from __future__ import annotations

import json
import re
from typing import Any
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from harness import __version__
from harness.calibration.told import line
from harness.deciding.gate_result import Gate, RuleResult
from harness.deciding.gate_text import headline, numbers, why

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
LEVELS = {"fail": "error", "inconclusive": "warning"}
NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
ABOUT = {
    "records": "The records are what was scored, and agree with each other.",
    "complete": "Every planned item is answered and judged.",
    "comparable": "Both sides were asked, answered and judged in one way.",
    "required": "What the policy requires was measured.",
    "max_cost_usd": "The candidate's run cost no more than allowed.",
    "coverage": "Enough of the planned items have a usable verdict.",
    "non_inferior": "The candidate is worse than the baseline by less than the margin.",
    "equivalent": "The two sides differ by less than the margin.",
    "improves": "The candidate is better than the baseline.",
    "floor": "The worst bound of the metric keeps above the floor.",
    "ceiling": "The worst bound of the metric keeps below the ceiling.",
    "must_not_turn_bad": "Items that are good in the baseline stay good.",
}


def told(found: Gate, rule: RuleResult) -> str:
    """A rule in one line: why, the numbers, what would settle it."""
    value, bound, limit, n = numbers(found, rule)
    named = [("found", value), ("worst bound", bound), ("limit", limit), ("n", n)]
    shown = ", ".join(f"{name} {text}" for name, text in named if text)
    settles = f" To settle it: {rule.settles}." if rule.settles else ""
    return line("; ".join(part for part in (why(rule), shown) if part) + f".{settles}")


def to_junit(found: Gate) -> str:
    """One test case a rule."""
    counts = {name: str(sum(rule.decision == name for rule in found.rules)) for name in ("fail", "inconclusive")}
    totals = {
        "name": f"gate {found.policy}",
        "tests": str(len(found.rules)),
        "failures": counts["fail"],
        "errors": counts["inconclusive"],
        "time": "0",
    }
    root = Element("testsuites", _legal(totals))
    suite = SubElement(root, "testsuite", _legal({**totals, "skipped": "0"}))
    for rule in found.rules:
        names = {"classname": f"gate.{found.candidate.run}.{found.candidate.subject}", "name": rule.name, "time": "0"}
        case = SubElement(suite, "testcase", _legal(names))
        if rule.decision != "pass":
            tag = "failure" if rule.decision == "fail" else "error"
            problem = SubElement(case, tag, _legal({"type": rule.rule, "message": line(rule.reason)}))
            problem.text = NOT_XML.sub("\ufffd", told(found, rule))
        else:
            SubElement(case, "system-out").text = NOT_XML.sub("\ufffd", told(found, rule))
    SubElement(suite, "system-out").text = NOT_XML.sub("\ufffd", headline(found))
    indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + tostring(root, encoding="unicode") + "\n"


def to_sarif(found: Gate) -> str:
    """One result for each rule that does not hold, at its line in the policy; what holds is no result to readers."""
    used = list(dict.fromkeys(rule.rule for rule in found.rules))
    problems = [rule for rule in found.rules if rule.decision != "pass"]
    driver = {
        "name": "alignment-harness gate",
        "semanticVersion": __version__,
        "rules": [{"id": name, "shortDescription": {"text": ABOUT[name]}} for name in used],
    }
    run = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "results": [_result(found, rule, used) for rule in problems],
        "properties": {"decision": found.decision, "policySha256": found.policy_sha256, "rules": len(found.rules)},
    }
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=1, ensure_ascii=False)


def to_github(found: Gate) -> str:
    """One annotation for each rule that does not hold, worst first, and the verdict."""
    problems = [rule for rule in found.rules if rule.decision != "pass"]
    order = sorted(problems, key=lambda rule: rule.decision != "fail")
    lines = [
        f"::{LEVELS[rule.decision]} file={_property(found.policy)},line={rule.line or 1},"
        f"title={_property(rule.name)}::{_data(told(found, rule))}"
        for rule in order
    ]
    return "\n".join([*lines, f"::notice title=gate::{_data(headline(found))}"])


def _result(found: Gate, rule: RuleResult, used: list[str]) -> dict[str, Any]:
    place = {"artifactLocation": {"uri": _uri(found.policy)}, "region": {"startLine": rule.line or 1}}
    return {
        "ruleId": rule.rule,
        "ruleIndex": used.index(rule.rule),
        "level": LEVELS[rule.decision],
        "message": {"text": f"{line(rule.name)}: {told(found, rule)}"},
        "locations": [{"physicalLocation": place}],
        "partialFingerprints": {"rule/v1": f"{found.policy}/{rule.name}"},
        "properties": rule.model_dump(mode="json", include={"value", "bound", "limit", "n", "n_lost", "p_value"}),
    }


def _uri(path: str) -> str:
    from urllib.parse import quote

    return quote(path)


def _legal(attributes: dict[str, str]) -> dict[str, str]:
    return {name: NOT_XML.sub("\ufffd", text) for name, text in attributes.items()}


def _data(text: str) -> str:
    """A message of a workflow command."""
    return line(text).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    """A property of a workflow command."""
    return _data(text).replace(":", "%3A").replace(",", "%2C")
