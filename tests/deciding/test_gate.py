"""The gate through its command line on small imported runs: what passes, what fails, what is not shown, and why."""

import json
import shutil
import subprocess
import sys

import pytest
from gates import METRIC, SAMPLES, TASK, N, answers, bring, gate, sealed, write_policy
from written_runs import write_run

from harness.records import Call
from harness.store import append
from harness.tasks import load_task

FAILS = {"non_inferior": 0.1, "floor": 0.7}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("gates")


@pytest.fixture(scope="module")
def baseline(folder):
    return bring(folder / "baseline", answers(bad=[0]), "released")


@pytest.fixture(scope="module")
def good(folder):
    return bring(folder / "good", answers(bad=[0]), "tonight")


@pytest.fixture(scope="module")
def bad(folder):
    return bring(folder / "bad", answers(bad=range(20)), "tonight")


@pytest.fixture(scope="module")
def lossy(folder):
    """As good as the baseline, but for eight answers that are not there."""
    return bring(folder / "lossy", answers(bad=[0], lost=range(30, 38)), "tonight")


@pytest.fixture
def policy(tmp_path):
    """Writes a policy about the one metric, or with the blocks that are given."""

    def policy(rules=None, **blocks):
        return write_policy(tmp_path / "policy.yaml", metrics={METRIC: rules} if rules else {}, **blocks)

    return policy


def said(candidate, baseline, policy, *more):
    return gate(candidate, "--baseline", baseline, "--policy", policy, *more)


def decided(candidate, baseline, policy, rule):
    """Exit code, and what came of one rule, after its own."""
    found = said(candidate, baseline, policy, "--json")
    assert found.code == {"pass": 0, "fail": 3, "inconclusive": 4}[found.found["decision"]]
    return found.code, found.rule(rule)


# The three verdicts


def test_one_policy_passes_one_fails_and_one_is_inconclusive(good, bad, baseline, policy):
    rules = policy(
        {"non_inferior": 0.1, "floor": 0.8, "must_not_turn_bad": {"all_passing_in": "baseline"}}, coverage=1.0
    )
    passed = said(good, baseline, rules)
    assert (passed.code, passed.out.splitlines()[0]) == (0, "PASS: good:tonight against baseline:released (9 pass)")
    failed = said(bad, baseline, rules)
    assert failed.code == 3
    assert failed.out.startswith("FAIL: bad:tonight against baseline:released (3 fail, 6 pass)")
    unclear = said(good, baseline, policy({"non_inferior": 0.01}))
    assert unclear.code == 4
    assert unclear.out.startswith("INCONCLUSIVE: good:tonight")


def test_a_margin_is_held_by_the_bound_and_says_how_many_items_would_settle_it(good, bad, baseline, policy):
    code, rule = decided(good, baseline, policy({"non_inferior": 0.1}), f"{METRIC}: non_inferior")
    assert (code, rule["decision"], rule["value"], rule["limit"], rule["n"]) == (0, "pass", 0.0, -0.1, N)
    assert -0.1 < rule["bound"] < 0
    code, rule = decided(good, baseline, policy({"non_inferior": 0.02}), f"{METRIC}: non_inferior")
    assert (code, rule["decision"]) == (4, "inconclusive")
    n_needed = int(rule["settles"].removeprefix("about ").split()[0].replace(",", ""))
    assert 250 < n_needed < 350  # (1.645 + 0.842)^2 / 0.02, at no discordant pair seen
    assert decided(bad, baseline, policy({"non_inferior": 0.1}), f"{METRIC}: non_inferior")[1]["decision"] == "fail"


def test_a_floor_and_a_ceiling_are_held_by_the_worse_end(good, bad, baseline, policy):
    cases = {
        ("good", 0.8): "pass", ("good", 0.95): "inconclusive", ("bad", 0.9): "fail", ("bad", 0.5): "inconclusive",
    }  # fmt: skip
    for (who, floor), decision in cases.items():
        run = {"good": good, "bad": bad}[who]
        assert decided(run, baseline, policy({"floor": floor}), f"{METRIC}: floor")[1]["decision"] == decision
    band = {"floor": 0.01, "ceiling": 0.7}
    assert decided(bad, baseline, policy(band), f"{METRIC}: ceiling")[1]["decision"] == "pass"
    assert decided(good, baseline, policy(band), f"{METRIC}: ceiling")[1]["decision"] == "fail"
    wrong = said(good, baseline, policy({"ceiling": 0.7}))
    assert wrong.code == 1
    assert f"of {METRIC} higher is better: did you mean 'floor'?" in wrong.err


def test_an_improvement_has_to_be_shown(good, bad, baseline, policy):
    rules = policy({"improves": True})
    assert decided(good, bad, rules, f"{METRIC}: improves")[1]["decision"] == "pass"
    assert decided(bad, good, rules, f"{METRIC}: improves")[1]["decision"] == "fail"
    code, rule = decided(good, baseline, rules, f"{METRIC}: improves")
    assert (code, rule["settles"]) == (4, "no further items would make it pass, if the difference stays as it is")


def test_holm_makes_passing_harder(folder, baseline, policy):
    """Two rules whose p values are between a half and all of 5 % hold by themselves and not together."""
    run = bring(folder / "close", answers(bad=[0, 1]), "tonight")
    rules = {"non_inferior": 0.125, "improves": True}
    worse = bring(folder / "worse", answers(bad=range(8)), "released")
    plain = said(run, worse, policy(rules), "--json")
    p_values = [plain.rule(f"{METRIC}: {rule}")["p_value"] for rule in rules]
    assert plain.code == 0
    assert max(p_values) <= 0.05
    adjusted = said(run, worse, policy(rules, multiplicity="holm"), "--json")
    found = [adjusted.rule(f"{METRIC}: {rule}") for rule in rules]
    assert [rule["p_adjusted"] for rule in found] == pytest.approx(
        [min(1.0, 2 * p) if p == min(p_values) else max(p, 2 * min(p_values)) for p in p_values]
    )
    assert adjusted.code == (0 if max(rule["p_adjusted"] for rule in found) <= 0.05 else 4)


# Items that must not turn bad


def test_named_items_are_found_by_source_and_by_the_beginning_of_their_key(bad, good, baseline, policy, tmp_path):
    names = [SAMPLES[3].source, SAMPLES[25].key[:12]]
    rules = policy({"must_not_turn_bad": names})
    code, rule = decided(bad, baseline, rules, f"{METRIC}: must_not_turn_bad")
    assert (code, rule["value"], [item["key"] for item in rule["items"]]) == (3, 1, [SAMPLES[3].key])
    assert rule["items"][0]["answer"] == SAMPLES[3].labels["target_string"]
    assert decided(good, baseline, rules, f"{METRIC}: must_not_turn_bad")[0] == 0
    (tmp_path / "red.txt").write_text("\n".join(names), encoding="utf-8")
    assert decided(bad, baseline, policy({"must_not_turn_bad": "red.txt"}), f"{METRIC}: must_not_turn_bad")[1] == {
        **rule, "line": rule["line"]
    }  # fmt: skip


def test_what_was_bad_already_does_not_turn_bad_and_a_count_may_be_allowed(bad, baseline, policy):
    rules = policy({"must_not_turn_bad": {"all_passing_in": "baseline", "at_most": 19}})
    code, rule = decided(bad, baseline, rules, f"{METRIC}: must_not_turn_bad")
    assert (code, rule["value"], rule["n"]) == (0, 19, N - 1)
    rules = policy({"must_not_turn_bad": {"all_passing_in": "baseline", "at_most": 18}})
    assert decided(bad, baseline, rules, f"{METRIC}: must_not_turn_bad")[0] == 3


def test_a_named_item_that_is_lost_or_not_there_does_not_pass(lossy, baseline, policy):
    code, rule = decided(
        lossy, baseline, policy({"must_not_turn_bad": [SAMPLES[31].source]}), f"{METRIC}: must_not_turn_bad"
    )
    assert (code, rule["n_lost"]) == (4, 1)
    code, rule = decided(
        lossy, baseline, policy({"must_not_turn_bad": ["data.jsonl:999"]}), f"{METRIC}: must_not_turn_bad"
    )
    assert code == 3
    assert "data.jsonl:999" in rule["reason"]


def test_where_the_baseline_passes_nothing_nothing_is_shown(folder, bad, policy):
    none = bring(folder / "none", answers(bad=range(N)), "released")
    code, _ = decided(
        bad, none, policy({"must_not_turn_bad": {"all_passing_in": "baseline"}}), f"{METRIC}: must_not_turn_bad"
    )
    assert code == 4


# Closed


def test_lost_verdicts_leave_a_bound_open_where_they_could_have_decided(lossy, baseline, policy):
    for rule, limit in {"non_inferior": 0.1, "floor": 0.8}.items():
        code, found = decided(lossy, baseline, policy({rule: limit}), f"{METRIC}: {rule}")
        assert (code, found["decision"], found["n_lost"]) == (4, "inconclusive", 8)
        assert found["reason"] == "it would pass, but not if the 8 lost items had come out worst"
        assert "harness judge" in found["settles"]
    assert decided(lossy, baseline, policy({"floor": 0.4}), f"{METRIC}: floor")[0] == 0
    assert decided(lossy, baseline, policy({"non_inferior": 0.4}), f"{METRIC}: non_inferior")[0] == 0


def test_an_answer_that_the_baseline_lost_counts_as_good_there(folder, good, lossy, policy):
    run = bring(folder / "elsewhere", answers(bad=[0, *range(30, 34)]), "tonight")
    code, found = decided(run, lossy, policy({"non_inferior": 0.1}), f"{METRIC}: non_inferior")
    assert (code, found["value"], found["n_lost"]) == (4, 0.0, 8)
    assert decided(good, lossy, policy({"non_inferior": 0.1}), f"{METRIC}: non_inferior")[0] == 0
    code, found = decided(good, lossy, policy({"non_inferior": 0.4}, coverage=0.9), f"{METRIC}: coverage")
    assert (code, found["decision"], found["value"]) == (3, "fail", 0.8)


def test_a_missing_task_or_metric_fails(good, baseline, policy, folder):
    required = {"tasks": ["over_refusal"], "metrics": ["over_refusal_alarming"]}
    found = said(good, baseline, policy({"floor": 0.5}, required=required), "--json")
    assert found.code == 3
    assert [
        found.rule(name)["decision"] for name in ("task over_refusal: required", "over_refusal_alarming: required")
    ] == ["fail"] * 2
    other = bring(
        folder / "other", answers(samples=load_task("goal_hijack_zh").samples), "tonight", task="goal_hijack_zh"
    )
    code, rule = decided(other, baseline, policy({"floor": 0.5}), f"{METRIC}: floor")
    assert (code, rule["decision"]) == (3, "fail")
    assert "does not measure it" in rule["reason"]
    code, rule = decided(good, other, policy({"floor": 0.5}), f"{METRIC}: floor")
    assert (code, rule["decision"]) == (4, "inconclusive")


def test_what_is_required_and_there_passes(good, lossy, baseline, policy):
    rules = policy(required={"tasks": [TASK], "metrics": [METRIC]})
    assert said(good, baseline, rules).code == 0
    assert said(lossy, baseline, rules).code == 4
    assert said(lossy, baseline, policy(required={"tasks": [TASK], "metrics": [METRIC]}, coverage=0.8)).code == 0


def test_what_is_required_is_counted_over_the_items_of_both_sides(policy, tmp_path):
    """A candidate that planned a tenth of the baseline's items has answered all of its own."""
    few = sealed(write_run(tmp_path / "few", {"few": {0: [True] * 4}}))
    base = sealed(write_run(tmp_path / "base", {"base": {0: [True] * 40}}))
    required = {"tasks": [TASK], "metrics": [METRIC]}
    found = said(few, base, policy(required=required), "--json")
    assert found.code == 4
    for name, what in ((f"task {TASK}: required", "are answered"), (f"{METRIC}: required", "have a value")):
        rule = found.rule(name)
        assert (rule["decision"], rule["n"], rule["n_lost"]) == ("inconclusive", 4, 36)
        assert rule["reason"] == f"4 of 40 items {what}; 36 items of the baseline are not in few"
        assert rule["settles"] == "a run of few on the baseline's items"
    assert said(few, base, policy(required=required, coverage=0.1)).code == 0
    assert said(base, few, policy(required=required)).code == 0


def test_no_answer_at_all_does_not_pass(folder, baseline, policy):
    nothing = bring(folder / "nothing", answers(lost=range(1, N)), "tonight")
    found = said(nothing, baseline, policy({"floor": 0.1, "non_inferior": 0.5, "improves": True}), "--json")
    assert found.code == 4
    assert {rule["decision"] for rule in found.found["rules"] if rule["metric"]} <= {"fail", "inconclusive"}


def test_a_run_that_was_not_scored_or_not_sealed_does_not_pass(good, baseline, policy, tmp_path):
    run = shutil.copytree(good, tmp_path / "run")
    (run / "scored.json").unlink()
    code, rule = decided(run, baseline, policy({"floor": 0.5}), "tonight: records")
    assert (code, rule["decision"], rule["settles"]) == (4, "inconclusive", "harness score run")
    (run / "scored.json").write_text("{}")
    assert decided(run, baseline, policy({"floor": 0.5}), "tonight: records")[0] == 3


def test_what_the_calls_cost_is_known_or_the_gate_is_not_passed(good, baseline, policy, tmp_path):
    run = shutil.copytree(good, tmp_path / "run")
    rules = policy(max_cost_usd=1.0)

    def paid(key, cost, **fields):
        common = {"role": "judge", "model": "m", "outcome": "ok", "n_attempts": 1, "finished_at": "2026-01-01T00:00:00"}
        append(run / "calls.jsonl", [Call(key=key, cost_usd=cost, input_tokens=1, **{**common, **fields})])
        return decided(run, baseline, rules, "max_cost_usd")

    assert decided(run, baseline, rules, "max_cost_usd")[0] == 0
    code, rule = paid("a", 0.4)
    assert (code, rule["value"], rule["bound"], rule["n"]) == (0, 0.4, 0.4, 1)
    code, rule = paid("b", None)
    assert (code, rule["value"], rule["bound"]) == (0, 0.4, 0.8)
    code, rule = paid("c", None)
    assert (code, rule["bound"]) == (4, pytest.approx(1.2))
    assert paid("d", 0.7)[0] == 3


# Bad input


@pytest.mark.parametrize(
    ("block", "line"),
    [
        ({"metrics": {"hijak_rate": {"floor": 0.5}}}, "2: metrics.hijak_rate: unknown metric 'hijak_rate': did you mean 'hijack_rate'?"),
        ({"metrics": {METRIC: {"floor": 70}}}, "3: metrics.hijack_rate.floor: 70 is no limit: hijack_rate lies between 0 and 1, 0.05 is five points"),
        ({"metrics": {METRIC: {"floor": 0.0}}}, "3: metrics.hijack_rate.floor: 0 is no limit"),
        ({"metrics": {METRIC: {"floor": 0.1, "ceiling": 1.0}}}, "4: metrics.hijack_rate.ceiling: 1 is no limit"),
        ({"metrics": {METRIC: {"non_inferior": 5}}}, "3: metrics.hijack_rate.non_inferior: 5 is the whole scale or more"),
        ({"metrics": {METRIC: {"floor": 0.5, "better": "lower"}}}, "4: metrics.hijack_rate.better: of hijack_rate higher is better"),
        ({"metrics": {METRIC: {"must_not_turn_bad": ["nothing.txt"]}}}, None),
    ],
)  # fmt: skip
def test_a_policy_that_does_not_fit_the_runs_is_bad_input(good, baseline, tmp_path, block, line):
    path = write_policy(tmp_path / "policy.yaml", **block)
    found = said(good, baseline, path)
    if line is None:
        assert found.code == 3
        return
    assert (found.code, found.out) == (1, "")
    (told,) = found.err.splitlines()
    assert told.startswith(f"harness: {path}:{line}")


def test_bad_paths_are_bad_input(good, baseline, policy, tmp_path):
    rules = policy({"floor": 0.5})
    for arguments in ((tmp_path / "none", baseline, rules), (good, tmp_path / "none", rules), (good, good, rules),
                      (f"{good}:nobody", baseline, rules), (good, baseline, tmp_path / "none.yaml")):  # fmt: skip
        found = said(*arguments)
        assert (found.code, len(found.err.splitlines())) == (1, 1)


def test_the_same_gate_says_the_same(good, baseline, policy):
    rules = policy({"non_inferior": 0.1, "floor": 0.8})
    first, second = (said(good, baseline, rules, "--json").out for _ in range(2))
    assert first == second
    assert json.loads(first)["policy"] == "policy.yaml"


def test_a_process_ends_with_the_verdict_s_exit_code(good, bad, baseline, policy):
    start = "from harness import cli; cli.main()"
    rules = policy({"floor": 0.8})
    for run, code in ((good, 0), (bad, 3)):
        command = [
            sys.executable,
            "-c",
            start,
            "gate",
            run,
            "--baseline",
            baseline,
            "--policy",
            rules,
            "--format",
            "github",
        ]
        found = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        assert (found.returncode, found.stderr) == (code, "")
        assert found.stdout.splitlines()[-1].startswith("::notice title=gate::")


def test_equivalence_is_a_rule_of_a_policy(good, bad, baseline, policy):
    code, rule = decided(good, baseline, policy({"equivalent": 0.15}), f"{METRIC}: equivalent")
    assert (code, rule["decision"], rule["limit"]) == (0, "pass", 0.15)
    assert decided(bad, baseline, policy({"equivalent": 0.1}), f"{METRIC}: equivalent")[0] == 3
    assert decided(good, baseline, policy({"equivalent": 0.001}), f"{METRIC}: equivalent")[0] == 4
    refused = said(good, baseline, policy({"equivalent": 1.0}))
    assert refused.code == 1
    assert "equivalent: 1 is the whole scale or more" in refused.err
    assert "±15.0" in said(good, baseline, policy({"equivalent": 0.15})).out
