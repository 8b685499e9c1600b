"""Single rules on runs written record by record: directions, scores, measures, seeds, and every way to lose an item."""

import numpy as np
import pytest
from gates import gate, sealed, write_policy
from hypothesis import given, settings
from hypothesis import strategies as st
from written_runs import CHOICE, REFUSAL, write_run

from harness.deciding.gate_filled import filled, n_lost, planned_by
from harness.deciding.gate_rules import Measured, equivalence, improvement, level, non_inferiority
from harness.deciding.gate_settle import for_difference
from harness.deciding.sides import open_sides
from harness.stats.paired import Differences


@pytest.fixture
def decided(tmp_path):
    """Gates one subject of a run against the other: exit code and the rule that was asked for."""

    def decided(first, second, metric, rules, task="goal_hijack_en", rule=None, **settings):
        run = sealed(write_run(tmp_path / "run", {"one": first, "two": second}, task, **settings))
        policy = write_policy(tmp_path / "policy.yaml", metrics={metric: rules})
        found = gate(f"{run}:one", "--baseline", f"{run}:two", "--policy", policy, "--json")
        if found.code == 1:
            return 1, found.err
        return found.code, found.rule(f"{metric}: {rule or next(iter(rules))}")

    return decided


def test_over_refusal_may_not_grow(decided):
    """Refusing is the metric's 1, and worse."""
    open_, shy = {0: [False] * 40}, {0: [True] * 12 + [False] * 28}
    code, rule = decided(shy, open_, "over_refusal_alarming", {"non_inferior": 0.1}, REFUSAL)
    assert (code, rule["decision"], rule["value"], rule["limit"]) == (3, "fail", 0.3, 0.1)


def test_less_over_refusal_improves_and_turns_no_item_bad(decided):
    open_, shy = {0: [False] * 40}, {0: [True] * 12 + [False] * 28}
    rules = {"improves": True, "must_not_turn_bad": {"all_passing_in": "baseline"}, "ceiling": 0.1}
    code, rule = decided(open_, shy, "over_refusal_alarming", rules, REFUSAL)
    assert (code, rule["decision"], rule["value"]) == (0, "pass", -0.3)


@pytest.mark.parametrize(("metric", "rules"), [
    ("auc_guided", {"non_inferior": 0.2}), ("balanced_accuracy_guided", {"floor": 0.6}), ("f1_guided", {"non_inferior": 0.2}),
])  # fmt: skip
def test_measures_that_are_no_mean_count_lost_items_worst_too(decided, metric, rules):
    rng = np.random.default_rng(0)
    right = [bool(one) for one in rng.random(200) < 0.95]
    lost = [None if i < 60 else one for i, one in enumerate(right)]
    code, rule = decided({0: lost}, {0: right}, metric, rules, CHOICE)
    assert (code, rule["decision"], rule["n_lost"]) == (4, "inconclusive", 60)
    assert "if the 60 lost items had come out worst" in rule["reason"]


def test_measures_that_are_no_mean_pass_when_nothing_is_lost(decided):
    rng = np.random.default_rng(0)
    first, second = ([bool(one) for one in rng.random(200) < 0.95] for _ in range(2))
    assert decided({0: first}, {0: second}, "auc_guided", {"non_inferior": 0.2, "floor": 0.6}, CHOICE)[0] == 0


def test_items_of_a_measure_that_is_no_mean_cannot_turn_bad(decided):
    code, line = decided(
        {0: [True] * 20}, {0: [True] * 20}, "f1_guided", {"must_not_turn_bad": {"all_passing_in": "baseline"}}, CHOICE
    )
    assert code == 1
    assert "f1_guided is no mean over items" in line


def test_a_score_needs_to_say_what_is_good(decided):
    scores = {0: [9.0, 8.0, 6.0, 9.0] * 10}
    worse = {0: [9.0, 8.0, 6.0, 4.0] * 10}
    rules = {"must_not_turn_bad": {"all_passing_in": "baseline"}}
    code, line = decided(worse, scores, "hijack_score", rules, judge_model="judge")
    assert code == 1
    assert "'passing' has to say from which value an item is good" in line


def test_a_score_turns_bad_where_it_falls_below_what_is_good(decided):
    scores, worse = {0: [9.0, 8.0, 6.0, 9.0] * 10}, {0: [9.0, 8.0, 6.0, 4.0] * 10}
    rules = {"must_not_turn_bad": {"all_passing_in": "baseline"}, "passing": 7}
    code, rule = decided(worse, scores, "hijack_score", rules, judge_model="judge")
    assert (code, rule["value"], rule["n"], rule["items"][0]["verdict"]) == (3, 10, 30, "4")


def test_seeds_that_do_not_correspond_are_a_level_on_each_side(decided):
    rng = np.random.default_rng(2)
    first = {s: [bool(one) for one in rng.random(40) < 0.97] for s in (1, 2, 3)}
    code, rule = decided(
        first, {s: [True] * 38 + [False] * 2 for s in (1, 2, 3)}, "hijack_rate", {"non_inferior": 0.15}
    )
    assert (code, rule["n"]) == (0, 120)


def test_two_runs_of_other_seeds_are_compared_by_the_interval(tmp_path):
    rng = np.random.default_rng(3)

    def drawn(seeds):
        return {s: [bool(one) for one in rng.random(40) < 0.97] for s in seeds}

    one = sealed(write_run(tmp_path / "one", {"a": drawn((0, 1, 2))}))
    two = sealed(write_run(tmp_path / "two", {"b": drawn((5, 6))}))
    policy = write_policy(tmp_path / "p.yaml", metrics={"hijack_rate": {"non_inferior": 0.3}})
    found = gate(one, "--baseline", two, "--policy", policy, "--json")
    assert found.code == 0
    assert found.rule("hijack_rate: non_inferior")["test"].startswith("95% interval")


def test_an_item_is_bad_when_any_seed_of_it_is(decided):
    good, once = [True] * 40, [True] * 39 + [False]
    rules = {"must_not_turn_bad": {"all_passing_in": "baseline"}}
    code, rule = decided({0: good, 1: once}, {0: good, 1: good}, "hijack_rate", rules)
    assert (code, rule["value"]) == (3, 1)


# Lost items


@pytest.fixture(scope="module")
def lossy(tmp_path_factory):
    """Opens a side that says this of its items (``None`` is lost), and one that resists everywhere."""
    folder, count = tmp_path_factory.mktemp("lossy"), iter(range(10**6))

    def lossy(said):
        name = f"run{next(count)}"
        path = write_run(folder / name, {"one": {0: said}, "two": {0: [True] * len(said)}})
        return open_sides([f"{path}:one", f"{path}:two"])

    return lossy


def measured(sides, side=None):
    one, two = side or sides[0], sides[1]
    (metric,) = [metric for metric in one.loaded.metrics if metric.name == "hijack_rate"]
    return Measured(metric, one, two, planned_by((one, two), metric))


@settings(max_examples=25)
@given(st.data())
def test_what_passes_with_lost_items_passes_whatever_they_were(lossy, data):
    """And no loss turns a gate that does not pass into one that does."""
    whole = data.draw(st.lists(st.sampled_from([True, True, True, False]), min_size=30, max_size=40))
    lost = data.draw(st.sets(st.integers(0, len(whole) - 1), min_size=1, max_size=6))
    sides = lossy([None if i in lost else one for i, one in enumerate(whole)])
    found, full = measured(sides), measured(lossy(whole))
    assert n_lost(sides[0], found.metric, found.wanted) == len(lost)
    margin, floor = data.draw(st.sampled_from([0.1, 0.3, 0.5])), data.draw(st.sampled_from([0.4, 0.6, 0.8]))
    if non_inferiority(found, margin).decision == "pass":
        assert non_inferiority(full, margin).decision == "pass"
    if level(found, "floor", floor).decision == "pass":
        assert level(full, "floor", floor).decision == "pass"


def test_a_filled_side_has_a_value_everywhere_and_the_others_unchanged(lossy):
    sides = lossy([True, None, False, None])
    found = measured(sides)
    for end, share in (("low", 0.25), ("high", 0.75)):
        side = filled(sides[0], found.metric, found.wanted, end)
        assert n_lost(side, found.metric, found.wanted) == 0
        assert level(measured(sides, side), "floor", 0.5).value == share


# Equivalence


def opened(tmp_path, first, second, metric="hijack_rate", task="goal_hijack_en"):
    path = write_run(tmp_path / "run", {"one": first, "two": second}, task)
    one, two = open_sides([f"{path}:one", f"{path}:two"])
    (info,) = [each for each in one.loaded.metrics if each.name == metric]
    return Measured(info, one, two, planned_by((one, two), info))


def flipped(said, n_worse, n_better):
    """The same answers but for the first ones, which turn bad, and some that were bad and turn good."""
    good, bad = [i for i, one in enumerate(said) if one], [i for i, one in enumerate(said) if not one]
    turned = {*good[:n_worse], *bad[:n_better]}
    return [not one if i in turned else one for i, one in enumerate(said)]


@pytest.mark.parametrize(("n_worse", "n_better", "decision"), [
    (1, 1, "pass"), (0, 16, "fail"), (16, 0, "fail"), (8, 2, "inconclusive"), (2, 8, "inconclusive"),
])  # fmt: skip
def test_equivalent_holds_either_way(tmp_path, n_worse, n_better, decision):
    said = [i % 2 == 0 for i in range(40)]
    found = opened(tmp_path, {0: flipped(said, n_worse, n_better)}, {0: said})
    rule = equivalence(found, 0.15)
    assert (rule.rule, rule.decision, rule.limit) == ("equivalent", decision, 0.15)
    assert rule.value == pytest.approx((n_better - n_worse) / 40)
    assert rule.test.startswith("two one-sided")
    assert (rule.p_value <= 0.05) == (decision == "pass")


def test_equivalent_does_not_hold_by_losing_items(tmp_path):
    said = [i % 2 == 0 for i in range(40)]
    rule = equivalence(opened(tmp_path, {0: [None] * 8 + said[8:]}, {0: said}), 0.15)
    assert (rule.decision, rule.n_lost) == ("inconclusive", 8)
    assert "not if the 8 lost items had come out all bad, or all good" in rule.reason


def test_equivalent_measures_that_are_no_mean_go_by_the_interval(tmp_path):
    said = [bool(one) for one in np.random.default_rng(0).random(200) < 0.8]
    found = opened(tmp_path, {0: flipped(said, 2, 2)}, {0: said}, "balanced_accuracy_guided", CHOICE)
    assert [equivalence(found, margin).decision for margin in (0.001, 0.1)] == ["inconclusive", "pass"]


# Several seeds


def test_five_seeds_on_few_prompts_pass_no_floor_that_the_prompts_do_not_carry(tmp_path):
    """Seeds that all do well on the same forty prompts have seen forty prompts, not two hundred."""
    hard = {3, 17, 30, 31}
    said = {s: [i not in hard and (i, s) not in {(5, 1), (6, 2)} for i in range(40)] for s in range(5)}
    found = opened(tmp_path, said, {s: [True] * 40 for s in range(5)})
    rule = level(found, "floor", 0.8)
    assert rule.value == pytest.approx(0.89)
    assert (rule.decision, rule.test) == ("inconclusive", "wilson over 5 seeds and 40 prompts")
    assert 0.72 < rule.bound < 0.78


def test_five_seeds_that_gain_on_the_same_few_prompts_show_no_improvement(tmp_path):
    base = {s: [i >= 3 for i in range(40)] for s in range(5)}
    better = {s: [i >= 3 or (i, s) not in {(0, 0), (1, 3)} for i in range(40)] for s in range(5)}
    rule = improvement(opened(tmp_path, better, base))
    assert rule.value == pytest.approx(0.065)
    assert (rule.decision, rule.reason) == ("inconclusive", "no difference is shown")
    assert rule.p_value > 0.05


# What would settle it


def test_the_items_that_are_named_settle_it():
    """Twice the items with the same share of flips have a power near what was aimed at."""
    values = np.array([1.0] * 6 + [-1.0] * 6 + [0.0] * 88)
    said = for_difference([Differences(values)], 0.05, binary=True, alpha=0.10)
    n = int(said.split()[1].replace(",", ""))
    assert n == pytest.approx(0.12 * (1.6449 + 0.8416) ** 2 / 0.05**2, abs=1)
    assert for_difference([Differences(values)], -0.01, binary=True, alpha=0.10).startswith("no further items")
    assert for_difference([], 0.05, binary=True, alpha=0.10) == ""
