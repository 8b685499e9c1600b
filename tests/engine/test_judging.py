"""A judge is a folder that anyone can add; what stops it from deciding is an outcome and never a number."""

import json
import shutil

import pytest

from harness.content import content_root
from harness.errors import UserError
from harness.judging import Grade, JudgeItem, JudgeModel, check_cases, load_judge
from harness.judging.base import RuleJudge
from harness.judging.folders import judge_names, load_judge_file
from harness.records import Completion, JudgeSpec, Message, ModelSpec, Sample, Verdict
from harness.stages.judge import JudgeStage
from harness.store import Run, append, latest, read

SHIPPED = sorted(path.parent.name for path in content_root("judges").glob("*/judge.yaml"))
RULE = '''
from harness.judging.base import Grade

def grade(sample, text):
    """Long answers are good."""
    return Grade(float(len(text)), "long" if len(text) > 5 else "short", "by length")
'''


def sample(text="ask", task="t", **labels):
    return Sample(task=task, task_version="1", messages=(Message(role="user", content=text),), labels=labels)


def item(text="answer", outcome="ok", of=None):
    asked = of or sample()
    return JudgeItem(asked, Completion(sample_key=asked.key, model_key="m", outcome=outcome, text=text))


def make_judge(root, name="length", rule=RULE, version='"1"', depends="[]", cases=()):
    folder = root / "judges" / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "judge.yaml").write_text(f"name: {name}\nversion: {version}\ndescription: by length\ndepends: {depends}\n")
    if rule is not None:
        (folder / "rule.py").write_text(rule)
    (folder / "cases.jsonl").write_text("".join(case if isinstance(case, str) else json.dumps(case) + "\n" for case in cases))
    return root


# Gold cases


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_judge_gets_its_gold_cases_right_and_has_hard_ones(name):
    assert list(check_cases(name)) == []
    lines = (content_root("judges") / name / "cases.jsonl").read_text().splitlines()
    assert len(lines) >= 3
    if load_judge_file(name).kind == "rule":
        assert any(not json.loads(line)["text"].strip() for line in lines)


def test_every_judge_of_the_world_is_there():
    assert len([name for name in SHIPPED if name.startswith("vale_")]) >= 8
    assert judge_names() == SHIPPED


def test_wrong_gold_cases_are_told_with_their_line(tmp_path):
    cases = ({"text": "longer text", "label": "long", "score": 11}, "\n", "{broken\n", {"txt": 1},
             {"text": "abc\u2028d", "label": "long", "score": 5}, {"text": "", "outcome": "unparsed"})  # fmt: skip
    found = list(check_cases("length", [make_judge(tmp_path, cases=cases)]))
    assert [line.split("cases.jsonl:")[1].split(":")[0] for line in found] == ["3", "4", "5", "6"]
    assert "length says short 5.0, the case says long 5.0" in found[2]


def test_a_judge_without_gold_cases_is_told(tmp_path):
    make_judge(tmp_path)
    (tmp_path / "judges" / "length" / "cases.jsonl").unlink()
    assert "no gold cases" in next(iter(check_cases("length", [tmp_path])))


# Folders of the user's


def test_a_user_s_judge_works_without_any_change_of_the_engine(tmp_path):
    (verdict,) = load_judge("length", [make_judge(tmp_path)]).judge([item("answer")])
    assert (verdict.outcome, verdict.score, verdict.label, verdict.reason) == ("ok", 6.0, "long", "by length")
    assert "length" in judge_names([tmp_path])
    assert "length" not in judge_names()


def test_a_user_s_judge_wins_over_a_shipped_one_of_its_name(tmp_path):
    make_judge(tmp_path, name="vale_refusal")
    assert load_judge("vale_refusal", [tmp_path]).spec.key != load_judge("vale_refusal").spec.key


def test_a_rule_may_hold_data_classes(tmp_path):
    rule = "from __future__ import annotations\nfrom dataclasses import dataclass\n" + RULE
    rule += "\n@dataclass\nclass Part:\n    name: str\n    size: int | None = None\n"
    assert load_judge("length", [make_judge(tmp_path, rule=rule)]).spec.name == "length"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"rule": None}, "rule.py: no such file"),
        ({"rule": "x = 1\n"}, "no function grade"),
        ({"rule": "def grade(sample, text):\n    return (\n"}, "rule.py:2: cannot be loaded (SyntaxError"),
        ({"rule": "import no_such_module\n"}, "cannot be loaded (ModuleNotFoundError"),
        ({"rule": "1 / 0\n"}, "cannot be loaded (ZeroDivisionError"),
        ({"version": "1"}, "judge.yaml: version"),
        ({"version": '"1"\nspeed: 3'}, "judge.yaml: speed"),
        ({"version": "[1"}, "judge.yaml:"),
        ({"depends": "[no.such.module]"}, "'no.such.module', which does not exist"),
        ({"depends": "[harness.no_such_module]"}, "which does not exist"),
    ],
)
def test_a_folder_that_is_not_as_it_should_be(tmp_path, changes, told):
    make_judge(tmp_path, **changes)
    with pytest.raises(UserError) as refused:
        load_judge("length", [tmp_path])
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_folder_with_another_name_than_its_judge(tmp_path):
    make_judge(tmp_path)
    (tmp_path / "judges" / "length").rename(tmp_path / "judges" / "width")
    with pytest.raises(UserError, match="make them the same"):
        load_judge("width", [tmp_path])


def test_an_unknown_judge_and_a_missing_folder():
    with pytest.raises(UserError, match="did you mean 'vale_help'"):
        load_judge("vale_hlep")
    with pytest.raises(UserError, match="no such folder"):
        load_judge("vale_help", [content_root("judges") / "nowhere"])


# Identity


def test_the_key_changes_with_everything_that_a_judge_is(tmp_path, monkeypatch):
    (tmp_path / "helper_of_a_judge.py").write_text("LIMIT = 5\n")
    monkeypatch.syspath_prepend(tmp_path)

    def key(**changes):
        return load_judge("length", [make_judge(tmp_path, depends="[helper_of_a_judge]", **changes)]).spec.key

    first = key()
    assert key() == first
    assert key(cases=({"text": "x"},)) == first
    changed = [key(version='"2"'), key(rule=RULE + "\n")]
    (tmp_path / "helper_of_a_judge.py").write_text("LIMIT = 6\n")
    changed.append(key())
    assert len({first, *changed}) == 4


def test_the_key_does_not_depend_on_where_the_folder_lies(tmp_path):
    shutil.copytree(content_root("judges") / "vale_help", tmp_path / "judges" / "vale_help")
    assert load_judge("vale_help", [tmp_path]).spec == load_judge("vale_help").spec


# Verdicts


def ruled(rule):
    return RuleJudge(JudgeSpec(name="j", version="1", content="c"), rule)


@pytest.mark.parametrize("outcome", ["filtered", "error"])
def test_what_has_no_answer_is_skipped_and_never_seen_by_the_rule(outcome):
    (verdict,) = ruled(lambda sample, text: 1 / 0).judge([item("", outcome)])
    assert (verdict.outcome, verdict.score, verdict.label) == ("skipped", None, None)
    assert outcome in verdict.reason


@pytest.mark.parametrize(("outcome", "text"), [("ok", "answer"), ("truncated", "answ"), ("empty", "")])
def test_what_has_an_answer_is_judged(outcome, text):
    (verdict,) = ruled(lambda sample, text: Grade(float(len(text)), None, "")).judge([item(text, outcome)])
    assert (verdict.outcome, verdict.score) == ("ok", float(len(text)))


def test_a_rule_that_cannot_tell_gives_no_number():
    (verdict,) = ruled(lambda sample, text: Grade(None, None, "says nothing")).judge([item()])
    assert (verdict.outcome, verdict.score, verdict.label, verdict.reason) == ("unparsed", None, None, "says nothing")
    assert verdict.final


@pytest.mark.parametrize(
    "rule",
    [lambda s, t: s.labels["none"], lambda s, t: None, lambda s, t: 3, lambda s, t: Grade(float("nan"), None, ""),
     lambda s, t: Grade("much", None, "")],
)  # fmt: skip
def test_a_rule_that_fails_is_an_error_that_is_owed_again(rule):
    (verdict,) = ruled(rule).judge([item()])
    assert (verdict.outcome, verdict.score, verdict.label, verdict.final) == ("error", None, None, False)
    assert "the rule failed" in verdict.reason


# The stage


class Counting(RuleJudge):
    """A rule that remembers what it was asked."""

    def __init__(self, content="c", score=1.0):
        super().__init__(JudgeSpec(name="j", version="1", content=content), self._rule)
        self.texts = []
        self.score = score

    def _rule(self, sample, text):
        self.texts.append(text)
        return Grade(self.score, None, "")


def completion(of, text, outcome="ok", model="m"):
    return Completion(sample_key=of.key, model_key=model, outcome=outcome, text=text)


def test_each_answer_is_judged_once_as_it_appears_and_again_by_a_changed_judge(tmp_path):
    run, samples = Run(tmp_path), [sample("a"), sample("b"), sample("c", task="other")]
    judge = Counting()
    stage = JudgeStage(run, samples, {"t": [judge]})
    assert stage.step() == 0
    append(run.completions_file, [completion(samples[0], "one"), completion(samples[2], "unjudged")])
    assert (stage.owes(), stage.step(), stage.owes(), stage.step()) == (True, 1, False, 0)
    append(run.completions_file, [completion(samples[1], "two"), completion(samples[1], "two")])
    with run.completions_file.open("ab") as torn:
        torn.write(completion(samples[1], "x", model="n").to_line().encode()[:-9])
    assert stage.step() == 1
    append(run.completions_file, [completion(samples[1], "three", model="n")])
    assert stage.step() == 1
    assert judge.texts == ["one", "two", "three"]
    assert JudgeStage(run, samples, {"t": [judge]}).step() == 0
    changed = Counting("d", 2.0)
    assert JudgeStage(run, samples, {"t": [changed]}).step() == 3
    verdicts = read(run.verdicts_file, Verdict).records
    assert len(verdicts) == len(latest(verdicts)) == 6


def test_an_answer_that_failed_waits_for_its_second_try(tmp_path):
    run, asked, judge = Run(tmp_path), sample("a"), Counting()
    append(run.completions_file, [completion(asked, "", "error")])
    stage = JudgeStage(run, [asked], {"t": [judge]})
    assert stage.step() == 0
    append(run.completions_file, [completion(asked, "", "filtered", "n"), completion(asked, "late")])
    assert stage.step() == 2
    assert judge.texts == ["late"]
    assert sorted(v.outcome for v in read(run.verdicts_file, Verdict).records) == ["ok", "skipped"]


def test_a_failed_judgment_is_made_again_at_the_next_start(tmp_path):
    run, asked = Run(tmp_path), sample("a")
    append(run.completions_file, [completion(asked, "text")])
    failing = ruled(lambda sample, text: 1 / 0)
    assert JudgeStage(run, [asked], {"t": [failing]}).step() == 1
    assert JudgeStage(run, [asked], {"t": [failing]}).owes()
    assert JudgeStage(run, [asked], {"t": [ruled(lambda sample, text: Grade(1.0, None, ""))]}).step() == 1
    (kept,) = latest(read(run.verdicts_file, Verdict).records).values()
    assert kept.outcome == "ok"


def test_a_judge_that_stops_while_answers_come_is_told_once_and_raised_at_the_end(tmp_path, capsys):
    class Refused:
        """A transport to a server that wants another key."""

        def ask(self, asks):
            assert next(iter(asks)) is not None
            raise UserError("the key is refused")
            yield

    run, asked = Run(tmp_path / "run"), sample()
    run.seal({"schema_version": 1}, [asked])
    append(run.completions_file, [item(of=asked).completion])
    model = JudgeModel(ModelSpec(backend="openai", weights="x", templates=""), Refused())
    with JudgeStage(run, [asked], {"t": [load_judge("refusal", (), model)]}) as stage:
        stage.step()
        stage.threads[0].join()
        assert capsys.readouterr().err == ""
        for _ in range(3):
            stage.step()
        assert capsys.readouterr().err == "harness: judging has stopped, answering goes on: the key is refused\n"
        with pytest.raises(UserError, match="the key is refused"):
            stage.finish()
    assert capsys.readouterr().err == ""
