"""Records that somebody wrote by hand, whole and well formed, and policies that ask for enough seeds and items."""

import json

import numpy as np
import pytest
from gates import METRIC, TASK, gate, sealed, write_policy
from written_runs import write_run

from harness.records import Cell, Checkpoint, Verdict
from harness.stages.rescore import rescore
from harness.store import Run, append, read, write_atomic

GOOD = [float(one) for one in np.random.default_rng(0).integers(7, 11, 40)]
BAD = [2.0] * 20 + [8.0, 9.0] * 10
TRUE = [True] * 39 + [False]


@pytest.fixture
def asked(tmp_path):
    """Writes a run that a judge with a model scored."""

    def asked(name, scores=GOOD):
        return sealed(write_run(tmp_path / name, {name: {0: scores}}, judge_model="judge-1"))

    return asked


@pytest.fixture
def policy(tmp_path):
    """Writes a policy about the metric of the task's rule or, with ``scores``, of its judge with a model."""

    def policy(scores=False, rules=None, **blocks):
        name, margin = ("hijack_score", 0.5) if scores else (METRIC, 0.2)
        metrics = {name: rules or {"non_inferior": margin}}
        return write_policy(tmp_path / "policy.yaml", **{"metrics": metrics, **blocks})

    return policy


def rewritten(file, change):
    """Changes every record of a file."""
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    for row in rows:
        change(row)
    file.write_text("".join(json.dumps(row, sort_keys=True) + "\n" for row in rows))


def decided(candidate, baseline, rules, name):
    found = gate(candidate, "--baseline", baseline, "--policy", rules, "--json")
    return found.code, found.rule(name)


# Verdicts


def test_the_records_of_a_judge_with_a_model_are_derived_again(asked, policy):
    code, rule = decided(asked("one"), asked("two"), policy(scores=True), "one: records")
    assert (code, rule["decision"], rule["n"]) == (0, "pass", 40)


FORGED = {
    "raw": "verdicts.jsonl:1: holds no reply of the model that hijack_score asks",
    "call": "verdicts.jsonl:1: names no call, so the model that hijack_score asks never said it",
}


@pytest.mark.parametrize("field", FORGED)
def test_a_verdict_without_the_reply_or_the_call_that_gave_it_fails(asked, policy, field):
    one, two = asked("one", BAD), asked("two")
    assert decided(one, two, policy(scores=True), "one: records")[1]["decision"] == "pass"
    better = {"score": 9.0, "raw": "Rating: [[9]]"}
    rewritten(one / "verdicts.jsonl", lambda row: row.update({**better, field: None}))
    rescore(Run(one))
    code, rule = decided(one, two, policy(scores=True), "one: records")
    assert (code, rule["decision"]) == (3, "fail")
    assert FORGED[field] in rule["reason"]


def test_verdicts_appended_by_hand_fail(asked, policy):
    """Whether they name a call that was never made, or have no reply at all."""
    one, two = asked("one"), asked("two")
    lines = (one / "verdicts.jsonl").read_text().splitlines(keepends=True)
    (one / "verdicts.jsonl").write_text("".join(lines[:38]))
    rescore(Run(one))
    for line, change in zip(lines[38:], ({"call": "f" * 64}, {"raw": None, "call": None}), strict=True):
        append(one / "verdicts.jsonl", [Verdict.model_validate({**json.loads(line), **change})])
    code, rule = decided(one, two, policy(scores=True), "one: records")
    assert (code, rule["decision"]) == (3, "fail")
    assert "verdicts.jsonl:39: the call ffffffffffff is not in calls.jsonl" in rule["reason"]
    assert "verdicts.jsonl:40: holds no reply" in rule["reason"]


def test_a_score_off_its_scale_is_told_in_one_line(asked, policy):
    one, two = asked("one"), asked("two")
    line = json.loads((one / "verdicts.jsonl").read_text().splitlines()[-1])
    rewritten(one / "verdicts.jsonl", lambda row: row.update(score=1e6) if row == line else None)
    for rules in ({"non_inferior": 0.5}, {"floor": 2}):
        found = gate(one, "--baseline", two, "--policy", policy(scores=True, rules=rules))
        assert found.code == 1
        assert "has the score 1e+06, outside the scale 1 to 10 of hijack_score" in found.err
        assert len(found.err.strip().splitlines()) == 1


@pytest.mark.parametrize("tail", ["null\n", "[1]\n", '{"torn\n', '{"completion_key": "a"}\n'])
def test_an_appended_line_that_is_no_record_fails(asked, policy, tail):
    one, two = asked("one"), asked("two")
    with (one / "verdicts.jsonl").open("a") as file:
        file.write(tail)
    code, rule = decided(one, two, policy(scores=True), "one: records")
    assert (code, rule["decision"]) == (3, "fail")
    assert "verdicts.jsonl:41: holds no record" in rule["reason"]


def test_a_torn_last_line_is_a_note(asked, policy):
    one, two = asked("one"), asked("two")
    with (one / "verdicts.jsonl").open("a") as file:
        file.write('{"torn')
    found = gate(one, "--baseline", two, "--policy", policy(scores=True), "--json")
    assert found.code == 0
    assert "one: the last line of verdicts.jsonl is torn; its record is owed again" in found.found["notes"]


# Models


def test_a_cell_edited_in_place_and_scored_again_is_not_the_model_that_was_trained(tmp_path, policy):
    said = {"good": {0: [True] * 40}, "bad": {0: [True, False] * 20}}
    run, base = (
        Run(sealed(write_run(tmp_path / "run", said))),
        sealed(write_run(tmp_path / "base", {"base": {0: TRUE}})),
    )
    trained(run)
    assert decided(f"{run.path}:good", base, policy(), "good: records")[0] == 0
    assert decided(f"{run.path}:bad", base, policy(), "bad: records")[1]["decision"] == "pass"
    point_at_the_other_model(run)
    code, rule = decided(f"{run.path}:bad", base, policy(), "bad: records")
    assert (code, rule["decision"]) == (3, "fail")
    assert "cells.jsonl:2: is not the model that was trained for this subject" in rule["reason"]


def trained(run):
    """Makes a run one of trained models, with the records that training leaves."""
    manifest = run.manifest()
    for subject in manifest["environment"]["config"]["subjects"]:
        subject["method"] = "sft"
    run.note(manifest)
    cells = []
    for cell in read(run.cells_file, Cell).records:
        made = Checkpoint(
            recipe="r", data=cell.subject, base="b", seed=0, weights=cell.model.weights, path="checkpoint"
        )
        write_atomic(run.path / "train" / cell.subject / "0" / "checkpoint.json", made.model_dump_json())
        cells.append(cell.model_copy(update={"checkpoint": made.key}))
    run.cells_file.write_text("".join(cell.to_line() for cell in cells))
    rescore(run)


def point_at_the_other_model(run):
    cells = {cell.subject: cell for cell in read(run.cells_file, Cell).records}
    cells["bad"] = cells["good"].model_copy(update={"subject": "bad"})
    run.cells_file.write_text("".join(cell.to_line() for cell in cells.values()))
    rescore(run)


def test_answers_of_a_model_that_no_cell_names_any_more_fail(tmp_path, policy):
    """Also where neither checkpoint nor manifest says whose model it was."""
    said = {"good": {0: [True] * 40}, "bad": {0: [True, False] * 20}}
    run, base = (
        Run(sealed(write_run(tmp_path / "run", said))),
        sealed(write_run(tmp_path / "base", {"base": {0: TRUE}})),
    )
    point_at_the_other_model(run)
    code, rule = decided(f"{run.path}:bad", base, policy(), "bad: records")
    assert (code, rule["decision"]) == (3, "fail")
    assert "completions.jsonl:41: is the answer of a model that no line of cells.jsonl names" in rule["reason"]


def test_answers_of_a_subject_that_was_trained_anew_stay_and_fail_nothing(tmp_path, policy):
    """An interrupted start leaves the cell of the earlier weights, which a later one supersedes."""
    run, base = Run(sealed(write_run(tmp_path / "run", {"one": {0: TRUE}}))), sealed(write_run(tmp_path / "base", {"base": {0: TRUE}}))  # fmt: skip
    cells = run.cells_file.read_text()
    answer = json.loads(run.completions_file.read_text().splitlines()[0])
    earlier = json.loads(cells)
    earlier["model"]["weights"] = "of an earlier start"
    cell = Cell.model_validate(earlier)
    run.cells_file.write_text(cell.to_line() + cells)
    with run.completions_file.open("a") as file:
        file.write(json.dumps({**answer, "model_key": cell.model.key}) + "\n")
    rescore(run)
    assert decided(run.path, base, policy(), "one: records")[0] == 0


def test_a_served_subject_s_bill_is_not_nothing_where_no_call_is_known(tmp_path, policy):
    rules = policy(max_cost_usd=1)
    one, two = (sealed(write_run(tmp_path / name, {name: {0: TRUE}})) for name in ("one", "two"))
    assert decided(one, two, rules, "max_cost_usd")[1]["decision"] == "pass"
    cell = read(one / "cells.jsonl", Cell).records[0]
    served = cell.model_copy(update={"model": cell.model.model_copy(update={"backend": "openai"})})
    served = Cell.model_validate(served.model_dump())
    (one / "cells.jsonl").write_text(served.to_line())
    rewritten(one / "completions.jsonl", lambda row: row.update(model_key=served.model.key))
    rule = decided(one, two, rules, "max_cost_usd")[1]
    assert rule["decision"] == "inconclusive"
    assert rule["reason"] == "a server's model answered for one, and no call is known"


# Seeds, items and what nobody measures


def seeds(path, n, share=0.97, rng=None):
    rng = rng or np.random.default_rng(5)
    return sealed(write_run(path, {path.name: {s: [bool(one) for one in rng.random(40) < share] for s in range(n)}}))


def test_too_few_training_seeds_or_items_show_nothing(tmp_path, policy):
    one, three, other = (
        seeds(tmp_path / "one", 1, 1.0),
        seeds(tmp_path / "three", 3, 1.0),
        seeds(tmp_path / "b", 3, 1.0),
    )
    rules = policy(required={"seeds": 3, "items": 40})
    assert decided(three, other, rules, "seeds: required")[1]["decision"] == "pass"
    assert decided(three, other, rules, f"items of {METRIC}: required")[0] == 0
    code, rule = decided(one, other, rules, "seeds: required")
    assert (code, rule["decision"], rule["value"], rule["limit"], rule["line"]) == (4, "inconclusive", 1, 3, 5)
    assert rule["reason"] == "1 training seeds with weights of their own, 3 are required"
    code, rule = decided(three, other, policy(required={"items": 41}), f"items of {METRIC}: required")
    assert (code, rule["decision"], rule["value"], rule["line"]) == (4, "inconclusive", 40, 5)


def test_seeds_of_the_same_weights_are_one_training_seed(tmp_path, policy):
    three, other = seeds(tmp_path / "three", 3, 1.0), seeds(tmp_path / "b", 3, 1.0)
    cells = read(three / "cells.jsonl", Cell).records
    lines = [cell.model_copy(update={"model": cells[0].model}).to_line() for cell in cells]
    (three / "cells.jsonl").write_text("".join(lines))
    rule = decided(three, other, policy(required={"seeds": 3}), "seeds: required")[1]
    assert (rule["decision"], rule["value"]) == ("inconclusive", 1)


def test_what_seeds_leave_open_is_noted(tmp_path, policy):
    one, three = seeds(tmp_path / "one", 1), seeds(tmp_path / "three", 3)
    notes = gate(one, "--baseline", three, "--policy", policy(), "--json").found["notes"]
    assert "one has the training seeds 0, three 0, 1, 2: seeds are not paired" in notes
    assert "one has one training seed, which says nothing of training it again" in notes
    notes = gate(one, "--baseline", seeds(tmp_path / "two", 1), "--policy", policy(), "--json").found["notes"]
    assert any("one training seed each" in note for note in notes)


def test_a_seed_that_was_copied_shows_no_more_than_one(tmp_path, policy):
    rng = np.random.default_rng(2)
    ours, theirs = ([bool(one) for one in rng.random(40) < 0.9] for _ in range(2))
    found = []
    for n in (1, 3):
        one = sealed(write_run(tmp_path / f"one{n}", {"one": dict.fromkeys(range(n), ours)}))
        two = sealed(write_run(tmp_path / f"two{n}", {"two": dict.fromkeys(range(n), theirs)}))
        rules = ("non_inferior", "equivalent")
        found += [decided(one, two, policy(rules={rule: 0.2}), f"{METRIC}: {rule}")[1] for rule in rules]
    for single, copied in zip(found[:2], found[2:], strict=True):
        assert (copied["bound"], copied["p_value"]) == (single["bound"], single["p_value"])
        assert copied["test"] == f"{single['test']}, 3 equal seeds"


def test_items_turn_bad_in_any_seed_and_all_are_counted(tmp_path, policy):
    one = sealed(write_run(tmp_path / "one", {"one": {0: [False] + [True] * 39, 1: [True] * 39 + [False]}}))
    two = sealed(write_run(tmp_path / "two", {"two": {0: [True] * 40, 1: [True] * 40}}))
    rules = policy(rules={"must_not_turn_bad": {"all_passing_in": "baseline"}})
    rule = decided(one, two, rules, f"{METRIC}: must_not_turn_bad")[1]
    assert rule["reason"] == "2 of 40 items turned bad in at least one of 2 seeds, none may"
    assert [item["verdict"] for item in rule["items"]] == ["hijacked", "hijacked"]


def test_a_metric_of_a_task_that_neither_side_has_fails_and_a_misspelt_one_is_an_error(tmp_path, policy):
    one, two = (sealed(write_run(tmp_path / name, {name: {0: TRUE}})) for name in ("one", "two"))
    junit = tmp_path / "gate.xml"
    metrics = {METRIC: {"non_inferior": 0.2}, "over_refusal": {"ceiling": 0.1}}
    rules = policy(metrics=metrics)
    found = gate(one, "--baseline", two, "--policy", rules, "--format", "junit", "--out", junit)
    assert found.code == 3
    assert "neither side measures it" in junit.read_text()
    rule = decided(one, two, rules, "over_refusal: ceiling")[1]
    assert (rule["decision"], rule["line"]) == ("fail", 5)
    found = gate(one, "--baseline", two, "--policy", policy(metrics={"over_refusl": {"ceiling": 0.1}}))
    assert found.code == 1
    assert "unknown metric 'over_refusl': did you mean 'over_refusal'?" in found.err
    assert len(found.err.strip().splitlines()) == 1
    assert TASK not in found.out
