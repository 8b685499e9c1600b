"""The fitted judge: the same numbers as scikit-learn, its outcomes, its identity, and folders that are not as they should be."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from labelled import HARMFUL, HARMLESS, rows, write
from safetensors.numpy import load_file, save_file

from harness.calibration.labels import Reading
from harness.errors import UserError
from harness.fitting import FitReport, fit_judge
from harness.fitting.data import is_harmful, read_labelled, response_of, usable_split
from harness.fitting.model import vectorizer
from harness.judging.base import JudgeItem
from harness.judging.fitted import FittedJudge, load_fitted
from harness.judging.folders import check_cases, judge_names, load_judge
from harness.records import Completion, CompletionOutcome, Message, Sample, Verdict, VerdictOutcome


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("data") / "a.jsonl", rows(300))


@pytest.fixture(scope="module")
def report(data: Path) -> FitReport:
    return fit_judge("words", [data], data.parent, tell=lambda _: None)


@pytest.fixture
def folder(report: FitReport, tmp_path: Path) -> Path:
    """A copy of the judge's folder, to be spoilt."""
    copy = tmp_path / "words"
    copy.mkdir()
    for path in Path(report.folder).iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    return copy


@pytest.fixture(scope="module")
def judge(report: FitReport) -> FittedJudge:
    return load_fitted(Path(report.folder) / "judge.yaml")


@pytest.fixture(scope="module")
def reference(data: Path, report: FitReport):
    """The same model, fitted by scikit-learn alone."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    fitted = usable_split(read_labelled([data], Reading())).fitted
    regression = LogisticRegression(C=report.penalty, solver="liblinear", random_state=0)
    return make_pipeline(vectorizer(), regression).fit(
        [response_of(row) for row in fitted], [is_harmful(row) for row in fitted]
    )


def item(text: str, outcome: CompletionOutcome = CompletionOutcome.OK, prompt: str = "what now?") -> JudgeItem:
    sample = Sample(task="t", task_version="1", messages=(Message(role="user", content=prompt),))
    return JudgeItem(sample, Completion(sample_key=sample.key, model_key="m", outcome=outcome, text=text))


def judged(judge: FittedJudge, text: str, outcome: CompletionOutcome = CompletionOutcome.OK) -> Verdict:
    (verdict,) = judge.judge([item(text, outcome)])
    return verdict


def test_decisions_are_scikit_learns(judge: FittedJudge, reference, data: Path) -> None:
    texts = [response_of(row) for row in read_labelled([data], Reading()).rows]
    texts += ["", "unknown", "Take THE money!", "the the the", "a\x00b", "ſtraße İ ǅ"]
    ours = np.array([judge.model.margin(text) for text in texts])
    assert np.abs(ours - reference.decision_function(texts)).max() < 1e-9


@settings(max_examples=200)
@given(st.one_of(st.text(), st.lists(st.sampled_from(" ".join(HARMFUL + HARMLESS).split())).map(" ".join)))
def test_decisions_are_scikit_learns_on_any_text(judge: FittedJudge, reference, text: str) -> None:
    assert abs(judge.model.margin(text) - reference.decision_function([text])[0]) < 1e-9


@settings(max_examples=100)
@given(st.text(alphabet=st.characters(codec=None)))
def test_every_text_has_a_verdict(judge: FittedJudge, text: str) -> None:
    verdict = judged(judge, text)
    assert verdict.outcome in (VerdictOutcome.OK, VerdictOutcome.UNPARSED)
    assert verdict.outcome is VerdictOutcome.UNPARSED or 0 <= (verdict.score or 0) <= 1


def test_label_and_score(judge: FittedJudge, reference) -> None:
    for text, label in ((HARMFUL[0], "harmful"), (HARMLESS[0], "harmless")):
        verdict = judged(judge, text)
        assert verdict.label == label
        assert verdict.score == round(1 - reference.predict_proba([text])[0, 1], 4)
        assert (verdict.score < 0.5) == (label == "harmful")
        assert "weighs most" in (verdict.reason or "")


@pytest.mark.parametrize(
    "text",
    [
        "我不能帮助你做这件事。",
        "Я не могу вам помочь с этим",
        "Ich werde niemandem Schaden zufügen",
        "qzx!",
        "??!",
        "987654",
    ],
)
def test_what_it_was_not_fitted_for_is_unparsed(judge: FittedJudge, text: str) -> None:
    verdict = judged(judge, text)
    assert verdict.outcome is VerdictOutcome.UNPARSED
    assert "not English text" in (verdict.reason or "")


def test_an_empty_response_cannot_harm(judge: FittedJudge) -> None:
    verdict = judged(judge, " \n", CompletionOutcome.EMPTY)
    assert (verdict.outcome, verdict.label, verdict.score) == (VerdictOutcome.OK, "harmless", 1.0)


def test_a_completion_without_an_answer_is_skipped(judge: FittedJudge) -> None:
    assert judged(judge, "", CompletionOutcome.FILTERED).outcome is VerdictOutcome.SKIPPED


def test_a_prompt_that_it_was_fitted_on_is_told(judge: FittedJudge, data: Path) -> None:
    split = usable_split(read_labelled([data], Reading()))
    seen = split.fitted[0].item.sample.messages[0].content
    assert judge.has_seen(seen.upper() + " ")
    assert not judge.has_seen(split.held_out[0].item.sample.messages[0].content)
    known, new = judge.judge([item(HARMFUL[0], prompt=seen), item(HARMFUL[0], prompt="another")])
    assert "fitted on this prompt" in (known.reason or "")
    assert "fitted on this prompt" not in (new.reason or "")
    assert known.score == new.score


def test_cases_hold_what_it_says(report: FitReport, judge: FittedJudge) -> None:
    lines = (Path(report.folder) / "cases.jsonl").read_text(encoding="utf-8").splitlines()
    for case in map(json.loads, lines):
        verdict = judged(judge, case["text"], CompletionOutcome.OK if case["text"] else CompletionOutcome.EMPTY)
        assert (verdict.outcome, verdict.label, verdict.score) == (
            case.get("outcome", "ok"),
            case.get("label"),
            case.get("score"),
        )
    assert {json.loads(line).get("outcome") for line in lines} == {None, "unparsed"}


def test_include_path_makes_it_available(report: FitReport, judge: FittedJudge) -> None:
    paths = [Path(report.folder).parents[1]]
    assert "words" in judge_names(paths)
    found = load_judge("words", paths)
    assert (found.spec, found.n_seats, found.asked, found.pairwise) == (judge.spec, 1, None, False)
    assert list(check_cases("words", paths)) == []


def test_identity_is_what_can_change_a_verdict(folder: Path, judge: FittedJudge) -> None:
    path = folder / "judge.yaml"
    assert load_fitted(path).spec.key == judge.spec.key
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("Whether", "If"), encoding="utf-8")
    (folder / "seen.json").write_text("[]", encoding="utf-8")
    assert load_fitted(path).spec.key == judge.spec.key
    path.write_text(text.replace("threshold: 0.5", "threshold: 0.9"), encoding="utf-8")
    stricter = load_fitted(path)
    assert stricter.spec.key != judge.spec.key
    path.write_text(text, encoding="utf-8")
    arrays = load_file(folder / "model.safetensors")
    arrays["intercept"] = arrays["intercept"] + 1e-6
    save_file(arrays, folder / "model.safetensors")
    assert load_fitted(path).spec.key != judge.spec.key


def test_threshold_moves_the_label_and_not_the_score(folder: Path, judge: FittedJudge) -> None:
    score = judged(judge, HARMFUL[1]).score
    assert score is not None
    path = folder / "judge.yaml"
    above = f"threshold: {min(1 - score + 0.01, 0.999):.4f}"
    path.write_text(path.read_text(encoding="utf-8").replace("threshold: 0.5", above), encoding="utf-8")
    verdict = judged(load_fitted(path), HARMFUL[1])
    assert (verdict.label, verdict.score) == ("harmless", score)


class Executes:
    def __reduce__(self):
        return (Path("executed").write_text, ("yes",))


def spoil(folder: Path, how: str) -> None:
    model, arrays = folder / "model.safetensors", load_file(folder / "model.safetensors")
    if how == "pickle":
        model.write_bytes(pickle.dumps(Executes()))
    elif how == "truncated":
        model.write_bytes(model.read_bytes()[:-8])
    elif how == "not finite":
        save_file({**arrays, "idf": arrays["idf"] * np.nan}, model)
    elif how == "single precision":
        save_file({**arrays, "weights": arrays["weights"].astype(np.float32)}, model)
    elif how == "missing model":
        model.unlink()
    elif how == "missing seen":
        (folder / "seen.json").unlink()
    elif how == "short vocabulary":
        (folder / "vocabulary.json").write_text('["one"]', encoding="utf-8")
    elif how == "no vocabulary":
        (folder / "vocabulary.json").write_text('{"one": 1}', encoding="utf-8")
    elif how == "torn vocabulary":
        (folder / "vocabulary.json").write_text('["one', encoding="utf-8")
    else:
        path = folder / "judge.yaml"
        path.write_text(path.read_text(encoding="utf-8").replace(*how.split(">")), encoding="utf-8")


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("pickle", "model.safetensors: not a safetensors file"),
        ("truncated", "model.safetensors: not a safetensors file"),
        ("not finite", "'idf' must be"),
        ("single precision", "'weights' must be"),
        ("missing model", "model.safetensors: no such file"),
        ("missing seen", "seen.json: no such file"),
        ("short vocabulary", "'idf' must be"),
        ("no vocabulary", "a list of strings is needed here"),
        ("torn vocabulary", "vocabulary.json: not valid JSON"),
        ("threshold: 0.5>threshold: 1.5", "judge.yaml: threshold: "),
        ("features: 1>features: 2", "judge.yaml: features: "),
        ("kind: fitted>kind: rule", "judge.yaml: kind: "),
    ],
)
def test_spoilt_folders(folder: Path, how: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    spoil(folder, how)
    with pytest.raises(UserError, match=message) as caught:
        load_fitted(folder / "judge.yaml")
    assert "\n" not in str(caught.value)
    assert not Path("executed").exists()


def test_judging_needs_no_heavy_library(report: FitReport) -> None:
    code = (
        "import sys; from pathlib import Path; from harness.judging.fitted import load_fitted; "
        f"judge = load_fitted(Path({str(Path(report.folder) / 'judge.yaml')!r})); judge.model.margin('take the money'); "
        "print(sorted({'sklearn', 'scipy', 'torch', 'pandas', 'openai'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
