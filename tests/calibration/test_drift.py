"""Drift and agreement: pairs, never two rates; what cannot be paired is told."""

import numpy as np
import pytest
from scipy.stats import binom
from sklearn.metrics import cohen_kappa_score
from statsmodels.stats.contingency_tables import mcnemar
from two_subjects import make_run, rule_judge

from harness.calibration.calibrate import panel_of
from harness.calibration.calls import asked, judged_anew
from harness.calibration.drift import Side, drift_runs
from harness.calibration.people import clusters_of
from harness.calibration.raters import agreement, panel_votes, votes_of
from harness.calibration.told import told_agreement, told_drift
from harness.errors import UserError
from harness.judging import Grade, JudgeItem, Panel
from harness.records import Call, Completion, Verdict
from harness.stats.agreement import krippendorff_alpha
from harness.store import append, read


def stricter(text):
    """Calls refusals of even questions harmful too, and cannot read every seventh."""
    number = int(text.rstrip(".").split()[-2] if "cannot" in text else text.split()[2])
    if number % 7 == 6:
        return Grade(None, None, "unreadable")
    return Grade(None, "harmless" if "cannot" in text and number % 2 else "harmful", "")


def judge_again(made, judge):
    samples = {sample.key: sample for sample in made.samples}
    verdicts = list(judge.judge([JudgeItem(samples[c.sample_key], c) for c in made.completions]))
    append(made.run.verdicts_file, verdicts)
    return verdicts


@pytest.fixture
def two(made):
    """One run with the verdicts of two judges."""
    judge = rule_judge(name="strict", decide=stricter)
    judge_again(made, judge)
    return Side("words", made.run, made.panel), Side("strict", made.run, panel_of([judge]))


def labels_of(side):
    keys = {spec.key for spec in side.panel.members}
    return {v.completion_key: v.label for v in read(side.run.verdicts_file, Verdict).records if v.judge_key in keys}


def test_two_judges_of_one_run(two):
    found = drift_runs(*two, label="harmful")
    one, other = (labels_of(side) for side in two)
    paired = [(one[key], other[key]) for key in one if other[key] is not None]
    n_lost = sum(label is None for label in other.values())
    assert (found.n_shared, found.n_paired) == (60, 60 - n_lost)
    assert found.lost_second == {"unparsed": n_lost}
    assert found.lost_first == {}
    change = np.mean([float(b == "harmful") - float(a == "harmful") for a, b in paired])
    assert found.rate.difference == pytest.approx(change)
    assert change > 0
    assert found.rate.low <= change <= found.rate.high
    assert found.rate.test == "sign-flip permutation by cluster"  # two subjects answer each question
    assert len(found.flips) == sum(a != b for a, b in paired) > 0
    assert found.agreement.value == pytest.approx(cohen_kappa_score(*zip(*paired, strict=True)))
    assert found.alpha.value == pytest.approx(krippendorff_alpha(paired, "nominal").value)


def test_independent_pairs_are_mcnemar_s(tmp_path):
    made = make_run(tmp_path / "run", n=40, clusters=None)
    judge = rule_judge(name="strict", decide=stricter)
    judge_again(made, judge)
    made.run.completions_file.write_text("".join(c.to_line() for c in made.completions[::2]))  # one subject alone
    sides = Side("words", made.run, made.panel), Side("strict", made.run, panel_of([judge]))
    found = drift_runs(*sides, label="harmful")
    one, other = (labels_of(side) for side in sides)
    paired = [(one[c.key], other[c.key]) for c in made.completions[::2] if other[c.key] is not None]
    said = [(a == "harmful", b == "harmful") for a, b in paired]
    table = [[said.count((x, y)) for y in (True, False)] for x in (True, False)]
    assert found.n_paired == len(paired) == sum(map(sum, table))
    assert found.rate.test == "McNemar mid-p"
    fewer, n_discordant = min(table[0][1], table[1][0]), table[0][1] + table[1][0]
    half = binom.pmf(fewer, n_discordant, 0.5)
    assert found.rate.p_value == pytest.approx(mcnemar(table, exact=True).pvalue - half)


def test_two_runs_of_the_same_outputs(tmp_path):
    """Another run holds the same texts under other keys (imported, say), some more, some fewer, one answer changed."""
    first = make_run(tmp_path / "one", n=30)
    judge = rule_judge(version="2")
    second = make_run(
        tmp_path / "two", judge=judge, n=30, first=10, texts=lambda i, j: f"changed {i}" if i == 12 else text(i, j)
    )
    found = drift_runs(Side("march", first.run, first.panel), Side("june", second.run, second.panel))
    assert found.n_shared == 2 * 20 - 2
    assert found.only_first == 60 - 38
    assert found.only_second == 60 - 39  # the two changed answers are one text
    assert found.flips == ()
    assert found.rate.difference == 0
    assert found.rate.low < 0 < found.rate.high


def text(i, j):
    return f"I cannot help with that. {i} {j}" if (i % 3 == 0) != bool(j) else f"Sure, step {i} of {j}."


def test_a_verdict_about_an_older_answer_is_not_compared(made):
    judge = rule_judge(name="strict", decide=stricter)
    judge_again(made, judge)
    old = made.completions[0]
    append(made.run.completions_file, [Completion(**{**old.model_dump(), "text": "I cannot say. 0 0"})])
    sides = Side("words", made.run, made.panel), Side("strict", made.run, panel_of([judge]))
    assert drift_runs(*sides).n_shared == 59


def test_scores(made):
    judges = [rule_judge(name=name, decide=lambda text, add=add: Grade(min(10.0, len(text) % 9 + 1 + add), None, ""))
              for name, add in (("a", 0), ("b", 1))]  # fmt: skip
    for judge in judges:
        judge_again(made, judge)
    sides = [Side(judge.spec.name, made.run, panel_of([judge])) for judge in judges]
    found = drift_runs(*sides)
    assert found.rate is None
    assert found.label is None
    assert found.score.difference == pytest.approx(1)
    assert found.score.decision == "higher"
    assert len(found.flips) == 60
    assert abs(found.flips[0].second - found.flips[0].first) == 1


def test_two_runs_without_a_common_answer_are_refused(tmp_path):
    one, two = make_run(tmp_path / "one", n=4), make_run(tmp_path / "two", n=5, first=50)
    with pytest.raises(UserError, match=r"^a \(8 judged answers\) and b \(10\) have no judged answer in common: .*$"):
        drift_runs(Side("a", one.run, one.panel), Side("b", two.run, two.panel))


def test_common_answers_without_a_common_verdict_are_told(tmp_path):
    def mute(text):
        return Grade(None, None, "says nothing")

    made = make_run(tmp_path / "run", n=4)
    judge = rule_judge(name="mute", decide=mute)
    judge_again(made, judge)
    found = drift_runs(Side("a", made.run, made.panel), Side("b", made.run, panel_of([judge])))
    assert (found.n_shared, found.n_paired, found.rate, found.agreement.value) == (8, 0, None, None)
    assert "Not measured by b: 8 unparsed" in told_drift(found)


def test_it_is_told(two):
    told = told_drift(drift_runs(*two, label="harmful"))
    for part in (
        "words → strict",
        "share of harmful, second - first: +",
        "points",
        "kappa:",
        "judged otherwise",
        "unparsed",
    ):
        assert part in told
    assert drift_runs(*two) == drift_runs(*two)


# Several raters


def test_a_panel_s_members_are_compared(two):
    words, strict = two
    panel = Panel((*words.panel.members, *strict.panel.members))
    votes = panel_votes(read(words.run.verdicts_file, Verdict).records, panel)
    assert [len(rated) for rated in votes.values()] == [60, 52]
    found = agreement(votes, clusters_of(words.run, votes))
    one, other = (labels_of(side) for side in two)
    paired = [(one[key], other[key]) for key in one if other[key] is not None]
    assert found.n_items == 60
    assert found.pairs[0].kappa.value == pytest.approx(cohen_kappa_score(*zip(*paired, strict=True)))
    assert found.pairs[0].equal.value == pytest.approx(np.mean([a == b for a, b in paired]))
    assert found.pairs[0].kappa.method == "cluster bootstrap"
    assert found.fleiss.n_scored == 52
    assert found.alpha.n_scored == 52
    assert "Fleiss' kappa" in told_agreement(found)


def test_seats_are_raters(made):
    spec = made.judge.spec
    more = [v.model_copy(update={"seat": 1, "label": "harmful"}) for v in read(made.run.verdicts_file, Verdict).records]
    append(made.run.verdicts_file, more)
    votes = votes_of(read(made.run.verdicts_file, Verdict).records, {spec.key: "words"})
    assert list(votes) == ["words", "words, seat 1"]


def test_scores_are_told_as_scores():
    votes = {"a": {str(i): float(i) for i in range(8)}, "b": {str(i): float(i) for i in range(2, 9)}}
    found = agreement(votes)
    assert found.scores
    assert found.fleiss is None
    assert found.alpha.value == 1.0
    assert "quadratic kappa" in told_agreement(found)


def call(key, minute, outcome="ok"):
    return Call(key=key, role="j", model="m", outcome=outcome, n_attempts=1, finished_at=f"2026-01-01T00:{minute:02}Z")


def test_a_reply_from_the_cache_is_no_second_judging(tmp_path):
    """Of the same requests a third was paid for twice, a third is the other side's reply, a third was not judged."""
    sides = [make_run(tmp_path / name, n=9, clusters=0) for name in ("march", "june")]
    for made, outcome in zip(sides, ("ok", "stored"), strict=True):
        verdicts = read(made.run.verdicts_file, Verdict).records
        again = [v.model_copy(update={"call": f"call {i}"}) for i, v in enumerate(verdicts) if i % 3]
        made.run.verdicts_file.unlink()
        append(made.run.verdicts_file, again)
        minute = 2 if outcome == "stored" else 1
        lines = [call(f"call {i}", minute, outcome if i % 3 == 1 else "ok") for i in range(len(verdicts))]
        append(made.run.calls_file, lines)
    march, june = (Side(str(made.run.path), made.run, made.panel) for made in sides)
    for first, second in ((march, june), (june, march)):
        found = drift_runs(first, second)
        assert (found.n_shared, found.n_cached) == (6, 6)
        assert "Left out, 6 outputs: answered from the cache" in told_drift(found)
    with pytest.raises(UserError, match="no new judging happened; to judge anew, copy the run's folder"):
        drift_runs(march, march._replace(name="a copy of it"))


@pytest.mark.parametrize(
    ("first", "second", "anew"),
    [
        ([("ok", 1)], [("ok", 2)], True),
        ([("ok", 1)], [("ok", 1)], False),  # a copied ledger
        ([("ok", 1)], [("stored", 2)], False),
        ([("stored", 2)], [("ok", 1)], False),
        ([("stored", 1)], [("ok", 2)], True),  # asked after the other side had its reply
        ([("stored", 1)], [("stored", 2)], False),
        ([("ok", 1)], [("error", 2)], False),
        ([("ok", 1)], [("error", 2), ("ok", 3), ("stored", 4)], True),
        ([], [], False),
    ],
)
def test_two_ledgers_show_whether_a_request_was_put_to_a_server_twice(first, second, anew):
    sides = [asked(call("k", minute, outcome) for outcome, minute in lines).get("k") for lines in (first, second)]
    assert judged_anew(*sides) == judged_anew(*reversed(sides)) == anew


def scored(made, name, label=None):
    judge = rule_judge(name=name, decide=lambda text: Grade(1.0 + len(text) % 9, label, ""))
    judge_again(made, judge)
    return Side(name, made.run, panel_of([judge]))


def test_labels_are_not_compared_with_scores(made):
    words, scores, both = Side("words", made.run, made.panel), scored(made, "scores"), scored(made, "both", "harmful")
    with pytest.raises(UserError, match=r"^words gives labels and scores gives scores: drift compares labels with"):
        drift_runs(words, scores)
    assert drift_runs(scores, both).score.n_pairs == 60
    assert drift_runs(words, both).label == "harmful"
    with pytest.raises(UserError, match="both gives labels"):  # its number is how sure it is
        drift_runs(scores, both._replace(offered=("harmful", "harmless")))


def test_a_label_that_nobody_offers_or_says_is_unknown(two):
    with pytest.raises(UserError, match="unknown label 'harmfull': did you mean 'harmful'"):
        drift_runs(*two, label="harmfull")
    offers = two[0]._replace(offered=("harmful", "harmless", "unsure"))
    assert drift_runs(offers, two[1], label="unsure").rate.difference == 0
