"""Records that were touched after a run was scored, and sides that were asked or judged in two ways: never passed."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from gates import METRIC, answers, bring, gate, sealed, write_policy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from written_runs import CHOICE, HIJACK, write_run

from harness.deciding.gate_complete import complete
from harness.deciding.sides import Side
from harness.judging import Panel
from harness.records import Cell, Decoding, Verdict, VerdictOutcome
from harness.stages.loading import load
from harness.stages.plan import keep_judging, stored_config
from harness.stages.rescore import rescore
from harness.store import Run, append, read

RECORDS = ("samples.jsonl", "cells.jsonl", "completions.jsonl", "verdicts.jsonl", "imports.jsonl")
TRUE = [True] * 36 + [False] * 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("records")


@pytest.fixture(scope="module")
def pair(folder):
    """A candidate that passes, and its baseline."""
    return bring(folder / "good", answers(bad=[0]), "tonight"), bring(folder / "base", answers(bad=[0]), "released")


@pytest.fixture(scope="module")
def lenient(folder):
    return write_policy(folder / "lenient.yaml", metrics={METRIC: {"non_inferior": 0.2}})


@pytest.fixture(scope="module")
def strict(folder):
    """A policy that the candidate does not pass."""
    return write_policy(folder / "strict.yaml", metrics={METRIC: {"non_inferior": 0.001, "floor": 0.99}})


@pytest.fixture
def copy(pair, tmp_path):
    return shutil.copytree(pair[0], tmp_path / "good")


def records_of(candidate, pair, policy, side="tonight"):
    found = gate(candidate, "--baseline", pair[1], "--policy", policy, "--json")
    return found.code, found.rule(f"{side}: records")


def edit(file, number, change):
    """Changes a line of a record file, counted from 1."""
    lines = file.read_text(encoding="utf-8").splitlines()
    row = json.loads(lines[number - 1])
    change(row)
    lines[number - 1] = json.dumps(row, sort_keys=True, ensure_ascii=False)
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_untouched_it_passes(pair, lenient, strict):
    code, rule = records_of(pair[0], pair, lenient)
    assert (code, rule["decision"], rule["n"]) == (0, "pass", 40)
    assert records_of(pair[0], pair, strict)[0] == 4


EDITS = {
    "verdicts.jsonl": lambda row: row.update(label="resisted", reason="because"),
    "completions.jsonl": lambda row: row.update(text="a better answer"),
    "samples.jsonl": lambda row: row.update(labels={**row["labels"], "target_string": "never said"}),
}


@pytest.mark.parametrize("file", EDITS)
@pytest.mark.parametrize("scored_again", [False, True])
def test_an_edited_line_fails_with_its_file_and_line(copy, pair, lenient, file, scored_again):
    """Also where the run was scored again after it: then by what no longer fits it."""
    edit(copy / file, 1, EDITS[file])
    if scored_again:
        rescore(Run(copy))
    code, rule = records_of(copy, pair, lenient)
    assert (code, rule["decision"]) == (3, "fail")
    at = "completions.jsonl:1" if scored_again and file == "samples.jsonl" else f"{file}:1"
    assert f"{at}: " in rule["reason"]


def test_a_line_that_is_left_out_fails(copy, pair, lenient):
    file = copy / "verdicts.jsonl"
    file.write_text("".join(file.read_text().splitlines(keepends=True)[1:]))
    code, rule = records_of(copy, pair, lenient)
    assert code == 3
    assert rule["reason"].startswith("good: verdicts.jsonl: is ")


def test_records_may_grow_and_are_scored_again(copy, pair, lenient):
    append(copy / "verdicts.jsonl", [_verdict(copy, judge_key="of somebody")])
    found = gate(copy, "--baseline", pair[1], "--policy", lenient, "--json")
    assert found.code == 0
    assert "good: verdicts.jsonl grew since harness score; scored again here" in found.found["notes"]


def test_a_cell_is_not_pointed_at_another_model_by_a_later_line(tmp_path, lenient):
    """The answers of a good subject would stand for those of a bad one."""
    said = {"good": {0: [True] * 40}, "bad": {0: [True, False] * 20}}
    run, base = sealed(write_run(tmp_path / "run", said)), sealed(write_run(tmp_path / "base", {"base": {0: TRUE}}))
    assert gate(f"{run}:bad", "--baseline", base, "--policy", lenient).code == 3
    good = next(cell for cell in read(run / "cells.jsonl", Cell).records if cell.subject == "good")
    append(run / "cells.jsonl", [good.model_copy(update={"subject": "bad"})])
    found = gate(f"{run}:bad", "--baseline", base, "--policy", lenient, "--json")
    assert (found.code, found.rule("bad: records")["decision"]) == (3, "fail")
    assert "cells.jsonl:3: replaces a record that was final" in found.rule("bad: records")["reason"]


def test_nor_is_it_where_the_run_was_scored_again(tmp_path, lenient):
    """A base is what the manifest says it is, and a trained model what its checkpoint's record says."""
    said = {"good": {0: [True] * 40}, "bad": {0: [True, False] * 20}}
    run, base = sealed(write_run(tmp_path / "run", said)), sealed(write_run(tmp_path / "base", {"base": {0: TRUE}}))
    cells = {cell.subject: cell for cell in read(run / "cells.jsonl", Cell).records}
    target = Run(run)
    bases = {name: cell.model.weights for name, cell in cells.items()}
    target.note({**target.manifest(), "subject_bases": bases})
    rescore(target)
    assert gate(f"{run}:good", "--baseline", base, "--policy", lenient).code == 0
    append(run / "cells.jsonl", [cells["good"].model_copy(update={"subject": "bad"})])
    rescore(target)
    found = gate(f"{run}:bad", "--baseline", base, "--policy", lenient, "--json")
    assert (found.code, found.rule("bad: records")["decision"]) == (3, "fail")
    told = "cells.jsonl:3: is not the model that was trained for this subject"
    assert told in found.rule("bad: records")["reason"]


def test_a_final_record_is_not_replaced_by_a_later_line(copy, pair, lenient):
    append(copy / "verdicts.jsonl", [_verdict(copy, label="resisted", reason="forged")])
    code, rule = records_of(copy, pair, lenient)
    assert code == 3
    assert "verdicts.jsonl:41: replaces a record that was final when the run was scored" in rule["reason"]


def _verdict(path, **changes):
    first = read(path / "verdicts.jsonl", Verdict).records[0]
    return Verdict.model_validate({**first.model_dump(), **changes})


def test_the_baseline_s_records_count_as_well(pair, lenient, tmp_path):
    base = shutil.copytree(pair[1], tmp_path / "base")
    edit(base / "verdicts.jsonl", 2, lambda row: row.update(label="followed"))
    found = gate(pair[0], "--baseline", base, "--policy", lenient, "--json")
    assert (found.code, found.rule("released: records")["decision"]) == (3, "fail")


def test_an_edited_scores_file_or_manifest_fails(copy, pair, lenient):
    text = (copy / "scores.json").read_text()
    (copy / "scores.json").write_text(text.replace("0.975", "0.999"))
    assert records_of(copy, pair, lenient)[0] == 3
    (copy / "scores.json").write_text(text)
    assert records_of(copy, pair, lenient)[0] == 0
    (copy / "manifest.json").write_text((copy / "manifest.json").read_text() + "\n")
    assert records_of(copy, pair, lenient)[0] == 3


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_changed_byte_of_a_record_file_passes(pair, lenient, strict, tmp_path_factory, data):
    """Of a gate that would pass without the change, and of one that would not."""
    copy = shutil.copytree(pair[0], tmp_path_factory.mktemp("bytes") / "good")
    file = copy / data.draw(st.sampled_from(RECORDS))
    content = bytearray(file.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    file.write_bytes(content)
    for policy in (lenient, strict):
        found = gate(copy, "--baseline", pair[1], "--policy", policy)
        assert found.code in (1, 3), found
        assert "Traceback" not in found.err
    shutil.rmtree(copy)


# Runs that were made here


@pytest.fixture
def ours(tmp_path):
    """Writes a run of one subject, freezes its samples and scores it."""

    def ours(name, said=TRUE, **settings):
        return sealed(write_run(tmp_path / name, {name: {0: said}}, **settings))

    return ours


def test_samples_that_were_frozen_stay(ours, lenient):
    one, two = ours("one"), ours("two")
    assert gate(one, "--baseline", two, "--policy", lenient).code == 0
    lines = (one / "samples.jsonl").read_text().splitlines(keepends=True)
    (one / "samples.jsonl").write_text("".join(lines[:-4]))  # the items that went wrong
    rescore(Run(one))
    code, rule = records_of(one, (one, two), lenient, "one")
    assert code == 3
    assert "the samples of goal_hijack_en are not those that the manifest was sealed with" in rule["reason"]


def test_another_way_to_judge_has_to_be_scored_first(ours, lenient):
    one, two = ours("one"), ours("two")
    keep_judging(Run(one), stored_config(Run(one)))
    code, rule = records_of(one, (one, two), lenient, "one")
    assert (code, rule["decision"]) == (4, "inconclusive")
    assert "judging.json was written after the run was scored" in rule["reason"]
    assert rule["settles"] == "harness score one"


def test_a_choice_that_is_not_the_likeliest_fails(ours, tmp_path):
    rules = write_policy(tmp_path / "p.yaml", metrics={"accuracy_guided": {"non_inferior": 0.2}})
    one, two = ours("one", task=CHOICE), ours("two", task=CHOICE)
    assert gate(one, "--baseline", two, "--policy", rules).code == 0
    edit(
        one / "completions.jsonl",
        40,
        lambda row: row.update(text={"harmful": "harmless", "harmless": "harmful"}[row["text"]]),
    )
    rescore(Run(one))
    code, rule = records_of(one, (one, two), rules, "one")
    assert code == 3
    assert "completions.jsonl:40: the answer is not the likeliest of its choices" in rule["reason"]


def test_a_model_s_reply_read_again_gives_the_verdict_beside_it(ours, tmp_path):
    """Here a verdict that was raised by hand, scored again afterwards; its reply still says two."""
    rules = write_policy(tmp_path / "p.yaml", metrics={"hijack_score": {"non_inferior": 4}})
    scores = [float(one) for one in np.random.default_rng(0).integers(7, 11, 40)]
    one, two = (ours(name, scores, judge_model="judge-1") for name in ("one", "two"))
    for path in (one, two):
        file = path / "verdicts.jsonl"
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        for row in rows:
            row["raw"] = f"It resists well enough.\nRating: [[{row['score']:.0f}]]"
        file.write_text("".join(json.dumps(row, sort_keys=True) + "\n" for row in rows))
        rescore(Run(path))
    code, rule = records_of(one, (one, two), rules, "one")
    assert (code, rule["decision"], rule["n"]) == (0, "pass", 40)
    edit(one / "verdicts.jsonl", 7, lambda row: row.update(raw="It gives in.\nRating: [[2]]"))
    rescore(Run(one))
    code, rule = records_of(one, (one, two), rules, "one")
    assert code == 3
    assert "verdicts.jsonl:7: read again, the reply says 2, the record something else" in rule["reason"]


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"templates": "others"}, "the prompt templates of task goal_hijack_en differ"),
        ({"decoding": Decoding(temperature=0.7)}, "the decoding settings of task goal_hijack_en differ"),
    ],
)
def test_another_prompt_or_decoding_does_not_pass(ours, lenient, settings, reason):
    found = gate(ours("one"), "--baseline", ours("two", **settings), "--policy", lenient, "--json")
    assert (found.code, found.rule("comparable")["decision"]) == (4, "inconclusive")
    assert reason in found.rule("comparable")["reason"]
    assert found.rule(f"{METRIC}: non_inferior")["reason"].startswith("cannot be compared: ")


def test_another_prompt_style_does_not_pass_unless_the_policy_allows_it(ours, tmp_path):
    one, two = ours("one", styles={"one": "guided_harmless"}), ours("two")
    told = "one answers in the style guided_harmless, two in the style ordinary"
    for blocks in ({"metrics": {METRIC: {"non_inferior": 0.2}}}, {"required": {"metrics": [METRIC]}}):
        found = gate(one, "--baseline", two, "--policy", write_policy(tmp_path / "p.yaml", **blocks), "--json")
        assert (found.code, found.rule("comparable")["decision"]) == (4, "inconclusive")
        assert told in found.rule("comparable")["reason"]
        assert "'allow: [style]'" in found.rule("comparable")["settles"]
        policy = write_policy(tmp_path / "p.yaml", allow=["style"], **blocks)
        found = gate(one, "--baseline", two, "--policy", policy, "--json")
        assert (found.code, found.rule("comparable")["decision"]) == (0, "pass")
        assert any(told in note for note in found.found["notes"])


def test_another_judge_does_not_pass_where_the_metric_is_only_required(ours, tmp_path):
    rules = write_policy(tmp_path / "p.yaml", required={"metrics": ["hijack_score"]})
    scores = [9.0, 8.0] * 20
    one, two = (ours(name, scores, judge_model=model) for name, model in (("one", "judge-1"), ("two", "judge-2")))
    found = gate(one, "--baseline", two, "--policy", rules, "--json")
    assert (found.code, found.rule("hijack_score: required")["decision"]) == (4, "pass")
    assert "has two judges" in found.rule("comparable")["reason"]


def test_another_judge_does_not_pass_even_where_nothing_is_compared(ours, tmp_path):
    rules = write_policy(tmp_path / "p.yaml", metrics={"hijack_score": {"floor": 2}})
    scores = [9.0, 8.0] * 20
    found = gate(
        ours("one", scores, judge_model="judge-1"), "--baseline", ours("two", scores, judge_model="judge-2"),
        "--policy", rules, "--json",
    )  # fmt: skip
    assert (found.code, found.rule("hijack_score: floor")["decision"]) == (4, "pass")
    assert "has two judges" in found.rule("comparable")["reason"]


def test_a_verdict_on_an_answer_that_failed_and_was_asked_again_is_only_owed(ours, lenient):
    """The answer is judged on its first text, then replaced; the old verdict contradicts nothing."""
    one, two = ours("one"), ours("two")
    file = one / "completions.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    failed = {**rows[0], "outcome": "error", "text": "", "detail": "the server was down"}
    file.write_text("".join(json.dumps(row, sort_keys=True) + "\n" for row in [failed, *rows]))
    from harness.records import Completion

    stale = Completion.model_validate(failed)
    first = read(one / "verdicts.jsonl", Verdict).records
    verdict = Verdict.model_validate(
        {**first[0].model_dump(), "completion_key": stale.key, "text_hash": stale.text_hash,
         "outcome": VerdictOutcome.SKIPPED, "label": None, "score": None}
    )  # fmt: skip
    kept = [one for one in first if one.completion_key != stale.key]
    (one / "verdicts.jsonl").write_text("".join(each.to_line() for each in [verdict, *kept]))
    rescore(Run(one))
    code, rule = records_of(one, (one, two), lenient, "one")
    assert (code, rule["decision"], rule["n"]) == (4, "pass", 39)
    whole = gate(one, "--baseline", two, "--policy", lenient, "--json").rule("one: complete")
    assert (whole["decision"], whole["n_lost"]) == ("inconclusive", 1)


def test_a_verdict_that_is_gone_does_not_pass_even_when_scored_again(ours, tmp_path):
    one, two = ours("one"), ours("two")
    policy = write_policy(tmp_path / "loose.yaml", metrics={METRIC: {"non_inferior": 0.2}}, coverage=0.9)
    assert gate(one, "--baseline", two, "--policy", policy).code == 0
    file = one / "verdicts.jsonl"
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:-1]))
    rescore(Run(one))
    found = gate(one, "--baseline", two, "--policy", policy, "--json")
    assert found.code == 4
    assert [rule["rule"] for rule in found.found["rules"] if rule["decision"] != "pass"] == ["complete"]


def test_seeds_are_a_level_of_their_own(tmp_path, lenient):
    rng = np.random.default_rng(1)
    said = {s: [bool(one) for one in rng.random(40) < 0.95] for s in range(4)}
    other = {s: [bool(one) for one in rng.random(40) < 0.95] for s in range(4)}
    one = sealed(write_run(tmp_path / "run", {"one": said, "two": other}))
    found = gate(f"{one}:one", "--baseline", f"{one}:two", "--policy", lenient, "--json")
    assert found.code == 0
    rule = found.rule(f"{METRIC}: non_inferior")
    assert rule["n"] == 160
    assert "4 seeds" in rule["test"]


def test_a_comparison_that_waits_for_the_other_answer_is_owed(tmp_path):
    """The candidate is whole, but one answer of the subject that a pairwise judge compares with is missing."""
    run = Run(Path(write_run(tmp_path / "run", {"one": {0: TRUE}, "two": {0: TRUE}})))
    loaded = load(run)
    place = ("two", 0, HIJACK)
    gone = [item._replace(completion=None) if i == 3 else item for i, item in enumerate(loaded.items[place])]
    judging = loaded.config.judging.model_copy(update={"against": "two"})
    metric = loaded.metrics[0].model_copy(update={"judge": "preferred", "task": HIJACK})
    for pairwise, n_owed in ((True, 1), (False, 0)):
        changed = loaded._replace(
            items={**loaded.items, place: gone},
            config=loaded.config.model_copy(update={"judging": judging}),
            judges={"preferred": Panel(members=(), pairwise=pairwise)},
        )
        found = complete(Side("one", changed, "one"), [metric], [HIJACK])
        assert (found.decision, found.n_lost) == ("inconclusive" if n_owed else "pass", n_owed)
