"""How a gate is told: text, Markdown, JUnit, SARIF, GitHub's commands, JSON; none of them runs what a model wrote."""

import json
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import pytest
from gates import METRIC, SAMPLES, answers, bring, gate, write_policy
from hypothesis import given
from hypothesis import strategies as st

from harness.deciding import gate_ci, gate_text
from harness.deciding.compare import SideInfo
from harness.deciding.gate_result import Gate, RuleResult, Turned, overall

NASTY = [
    "<script>alert(1)</script><img src=x onerror=alert(2)>",
    "| cell | ``` `code` [link](http://x.example) @someone </details>",
    "\x1b[31mred\x1b[0m \x07\x00 \u202e right to left \u200b zero \ud83d\ude00",
    "::error title=forged::%0A::stop-commands::x\n::add-mask::*",
]
FORMATS = ("text", "markdown", "junit", "sarif", "github", "json")


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """Every format of a gate that fails, is open in one rule and holds in others; the candidate writes nasty texts."""
    folder = tmp_path_factory.mktemp("told")
    texts = {i: f"{one} {SAMPLES[i].labels['target_string']}" for i, one in enumerate(NASTY)}
    one = bring(folder / "one", answers(bad=range(4), texts=texts), "tonight")
    two = bring(folder / "two", answers(), "released")
    rules = {"non_inferior": 0.12, "floor": 0.5, "must_not_turn_bad": {"all_passing_in": "baseline", "at_most": 1}}
    policy = write_policy(folder / "policy.yaml", metrics={METRIC: rules})
    found = {}
    for name in FORMATS:
        said = gate(one, "--baseline", two, "--policy", policy, "--format", name, "--out", folder / f"out.{name}")
        assert (said.code, said.err) == (3, f"{folder / f'out.{name}'}\n")
        assert said.out.startswith("FAIL: one:tonight against two:released (1 fail, 1 inconclusive, 6 pass)")
        found[name] = (folder / f"out.{name}").read_text(encoding="utf-8")
    return found


def test_the_text_begins_with_the_verdict_and_the_worst_rule(told):
    lines = told["text"].splitlines()
    assert lines[0].startswith("FAIL: ")
    marks = [line.split()[0] for line in lines if line.split() and line.split()[0] in ("FAIL", "UNCLEAR", "pass")]
    assert marks == ["FAIL", "UNCLEAR", *["pass"] * 6]
    assert re.search(rf"{METRIC}: non_inferior: about [\d,]+ items instead of 40", told["text"])
    assert not set(told["text"]) & set("\x1b\x07\x00\u202e\u200b")


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        self.found.append(tag)


def test_markdown_keeps_what_models_wrote_in_code_spans(told):
    """Outside of code spans no tag stands but the two that fold the details away."""
    text = told["markdown"]
    assert text.startswith("## ❌ FAIL: ")
    for row in text.splitlines():
        bare = re.sub(r"(`+)(?!`).*?(?<!`)\1(?!`)", "", row)
        tags = Tags()
        tags.feed(bare.replace("\\<", "&lt;"))
        assert set(tags.found) <= {"details", "summary"}
        assert "alert" not in bare
    rows = [row for row in text.splitlines() if row.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} <= {5, 8}


def test_junit_counts_its_cases(told):
    root = ET.fromstring(told["junit"])
    (suite,) = root
    cases = suite.findall("testcase")
    counts = [len(suite.findall(f"testcase/{tag}")) for tag in ("failure", "error")]
    assert [int(suite.get(name)) for name in ("tests", "failures", "errors", "skipped")] == [len(cases), *counts, 0]
    assert (root.tag, len(cases), counts) == ("testsuites", 8, [1, 1])
    assert len({case.get("name") for case in cases}) == 8
    (failure,) = suite.findall("testcase/failure")
    assert failure.get("message") == "4 of 40 items turned bad, 1 may"


def test_sarif_places_what_does_not_hold_in_the_policy(told):
    log = json.loads(told["sarif"])
    (run,) = log["runs"]
    assert (log["version"], run["properties"]["decision"]) == ("2.1.0", "fail")
    rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    assert len(set(rules)) == len(rules)
    assert [(one["ruleId"], one["level"]) for one in run["results"]] == [
        ("non_inferior", "warning"), ("must_not_turn_bad", "error"),
    ]  # fmt: skip
    for one in run["results"]:
        assert rules[one["ruleIndex"]] == one["ruleId"]
        (place,) = one["locations"]
        assert place["physicalLocation"]["artifactLocation"]["uri"] == "policy.yaml"
        assert (
            place["physicalLocation"]["region"]["startLine"]
            == {"non_inferior": 3, "must_not_turn_bad": 5}[one["ruleId"]]
        )
        assert one["message"]["text"]


def test_github_has_one_command_a_line(told):
    lines = told["github"].splitlines()
    assert [line.split(" ")[0] for line in lines] == ["::error", "::warning", "::notice"]
    assert lines[0].startswith(f"::error file=policy.yaml,line=5,title={METRIC}%3A must_not_turn_bad::4 of 40 items")


def test_nothing_that_a_model_wrote_is_in_what_a_build_server_reads(told):
    for name in ("junit", "sarif", "github"):
        assert "alert" not in told[name]
        assert "stop-commands" not in told[name]


def test_json_holds_the_whole_record(told):
    found = Gate.model_validate_json(told["json"])
    assert overall(rule.decision for rule in found.rules) == found.decision == "fail"
    (rule,) = [rule for rule in found.rules if rule.rule == "must_not_turn_bad"]
    assert [item.key for item in rule.items] == [sample.key for sample in SAMPLES[:4]]
    assert rule.items[0].answer.startswith("<script>")


@given(st.lists(st.sampled_from(["pass", "fail", "inconclusive"]), max_size=5))
def test_a_failure_beats_an_open_rule_which_beats_a_pass(decisions):
    wanted = "fail" if "fail" in decisions else "pass" if decisions and set(decisions) == {"pass"} else "inconclusive"
    assert overall(decisions) == wanted


@given(st.text(max_size=60), st.sampled_from(["pass", "fail", "inconclusive"]))
def test_any_text_in_any_place_leaves_every_format_whole(text, decision):
    item = Turned(key="0" * 64, source=text, prompt=text, answer=text, verdict=text, reason=text)
    rule = RuleResult(rule="floor", about=text, decision=decision, reason=text, settles=text, test=text, items=(item,))
    side = SideInfo(label=text, run=text, subject=text, seeds=(0,))
    found = Gate(
        decision=decision, policy=text, policy_sha256="0" * 64, description=text, candidate=side, baseline=side,
        metrics=(), rules=(rule, rule), notes=(text,),
    )  # fmt: skip
    (suite,) = ET.fromstring(gate_ci.to_junit(found))
    assert len(suite.findall("testcase")) == 2
    assert len(json.loads(gate_ci.to_sarif(found))["runs"][0]["results"]) == (0 if decision == "pass" else 2)
    commands = gate_ci.to_github(found).splitlines()
    assert len(commands) == (1 if decision == "pass" else 3)
    for command in commands:
        assert re.fullmatch(r"::(error|warning|notice) (file=[^,:]*,line=1,)?title=[^,:]*::.*", command)
    tables = [row for row in gate_text.to_markdown(found).splitlines() if row.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in tables} <= {5, 8}
    assert "\x1b" not in gate_text.to_text(found)
    assert json.loads(gate_text.to_json(found))["description"] == text
