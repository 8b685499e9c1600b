"""Sides: opened by name, paired by content key, and refused where their numbers do not compare."""

import numpy as np
import pytest
from scipy.stats import ttest_ind
from written_runs import CHOICE, HIJACK, bits, samples_of, write_run

from harness.deciding.mismatch import allowed, mismatches, remarks
from harness.deciding.pairing import corresponding, difference, paired_values
from harness.deciding.sides import open_sides, restricted, shared_metrics, subjects_of, without_version
from harness.errors import UserError
from harness.records import Decoding
from harness.stages.rescore import rescore
from harness.store import Run

TWO = {"a": {0: bits("+++-+-+x")}, "b": {0: bits("+-+-+-xx")}}


@pytest.fixture
def two(tmp_path):
    return write_run(tmp_path / "two", TWO)


def kinds(first, second, metric="hijack_rate"):
    return [one.kind for one in mismatches(first, second, first.loaded.metric(metric))]


def reasons(first, second, metric="hijack_rate"):
    return [one.reason for one in mismatches(first, second, first.loaded.metric(metric))]


def test_a_run_is_read_once_and_its_sides_are_called_by_their_subjects(two):
    first, second = open_sides([f"{two}:a", f"{two}:b"])
    assert first.loaded is second.loaded
    assert (first.label, first.subject, second.label, first.seeds) == ("a", "a", "b", (0,))
    assert [metric.name for metric in shared_metrics([first, second])] == ["hijack_rate"]
    assert subjects_of(two) == [f"{two}:a", f"{two}:b"]
    assert subjects_of(f"{two}:b") == [f"{two}:b"]


def test_labels_are_the_shortest_that_tell_the_sides_apart(two, tmp_path):
    other = write_run(tmp_path / "other", {"a": {0: bits("++")}})
    assert [side.label for side in open_sides([f"{two}:a", other])] == ["two", "other"]
    assert [side.label for side in open_sides([f"{two}:a", f"{two}:b", other])] == ["two:a", "two:b", "other:a"]


def test_a_folder_with_a_colon_in_its_name_is_a_folder(tmp_path):
    odd = write_run(tmp_path / "run:1", {"a": {0: bits("+-")}})
    assert open_sides([odd])[0].subject == open_sides([f"{odd}:a"])[0].subject == "a"


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["{two}"], "{two}: the run has 2 subjects; name one as {two}:SUBJECT (a, b)"),
        (["{two}:c"], "{two}:c: unknown subject 'c': known: a, b"),
        (["{two}:a", "{two}:a"], "{two}:a: is the same side as {two}:a; give each side once"),
        (["{two}/none"], "{two}/none: not a run (no manifest.json)"),
        (["{two}/none:a"], "{two}/none: not a run (no manifest.json)"),
    ],
)
def test_what_cannot_be_opened_is_told_in_one_line(two, names, said):
    with pytest.raises(UserError) as error:
        open_sides([name.format(two=two) for name in names])
    assert str(error.value) == said.format(two=two)


def test_items_are_paired_by_content_and_those_without_a_partner_are_told_apart(tmp_path):
    samples = samples_of(HIJACK, 8)
    one = write_run(tmp_path / "one", {"a": {0: bits("+++-x-")}}, samples=samples[:6])
    two = write_run(tmp_path / "two", {"b": {0: bits("x+-xx+")}}, samples=[samples[i] for i in (7, 5, 3, 4, 1, 0)])
    first, second = open_sides([f"{one}:a", f"{two}:b"])
    pairs = paired_values(first, second, "hijack_rate")
    keys = [sample.key for sample in samples]
    assert pairs.unmatched.only_first == (keys[2],)
    assert pairs.unmatched.only_second == (keys[7],)
    assert pairs.unmatched.lost_first == {0: (keys[4],)}
    assert pairs.unmatched.lost_second == {0: (keys[1], keys[4])}
    assert pairs.unmatched.n_lost == (1, 2)
    assert pairs.first[0] == {keys[0]: 1, keys[1]: 1, keys[2]: 1, keys[3]: 0, keys[5]: 0}
    paired = dict(zip(sorted([keys[0], keys[3], keys[5]]), pairs.per_seed[0].values, strict=True))
    assert paired == {keys[0]: 0, keys[3]: 0, keys[5]: -1}
    found = difference(pairs)
    assert (found.n_pairs, found.n_unpaired) == (3, 1 + 2)


def test_swapped_sides_give_the_opposite_difference(two):
    first, second = open_sides([f"{two}:a", f"{two}:b"])
    one, other = (difference(paired_values(*pair, "hijack_rate")) for pair in ((first, second), (second, first)))
    assert one.difference == pytest.approx(1 / 6)
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low))
    assert one.p_value == pytest.approx(other.p_value)


@pytest.mark.parametrize("task", [HIJACK, CHOICE])
def test_differences_are_those_of_the_run_s_own_report(tmp_path, task):
    rng = np.random.default_rng(1)
    said = {
        name: {seed: [bool(one) for one in rng.random(40) < share] for seed in (0, 1, 2)}
        for name, share in (("a", 0.5), ("b", 0.8))
    }
    path = write_run(tmp_path / "run", said, task, clusters=2)
    own = {row.metric: row.comparison for row in rescore(Run(tmp_path / "run")).comparisons}
    first, second = open_sides([f"{path}:b", f"{path}:a"])
    assert len(own) == (1 if task == HIJACK else 6)
    for name, wanted in own.items():
        found = difference(paired_values(first, second, name))
        assert found == wanted.model_copy(update={"p_adjusted": None, "q_value": None}), name


def test_seeds_correspond_where_they_are_the_same_or_one_each():
    assert corresponding((1, 0), (0, 1)) == [(1, 1), (0, 0)]
    assert corresponding((3,), (7,)) == [(3, 7)]
    assert corresponding((0, 1), (0, 1, 2)) == []
    assert corresponding((0,), (0, 1)) == []


def test_seeds_that_do_not_correspond_are_a_level_of_each_side(tmp_path):
    rng = np.random.default_rng(2)
    shares = {0: 0.9, 1: 0.85, 2: 0.95}, {5: 0.35, 6: 0.3}
    paths = [
        write_run(
            tmp_path / name, {name: {seed: list(map(bool, rng.random(40) < share)) for seed, share in each.items()}}
        )
        for name, each in zip("ab", shares, strict=True)
    ]
    pairs = paired_values(*open_sides(paths), "hijack_rate")
    found = difference(pairs)
    means = [np.mean([np.mean(list(each.values())) for each in side.values()]) for side in (pairs.first, pairs.second)]
    assert pairs.seeds == []
    assert found.difference == pytest.approx(means[0] - means[1])
    assert 0 < found.low < found.difference < found.high
    assert "hierarchical bootstrap" in found.test


def test_measures_of_seeds_that_do_not_correspond_are_told_apart_over_seeds_and_items(tmp_path):
    """The difference is that of the seeds' means; its test knows of the items as well, so it is no keener than Welch's."""
    rng = np.random.default_rng(3)
    paths = [
        write_run(tmp_path / name, {name: {seed: list(map(bool, rng.random(60) < 0.7)) for seed in seeds}}, CHOICE)
        for name, seeds in (("a", (0, 1, 2)), ("b", (4, 5)))
    ]
    sides = open_sides(paths)
    found = difference(paired_values(*sides, "balanced_accuracy_guided"))
    values = []
    for side in sides:
        rights = [
            [(item.sample.target, item.completion.text) for item in side.items(CHOICE, seed)] for seed in side.seeds
        ]
        values.append(
            [np.mean([np.mean([t == a for t, a in each if t == label]) for label in ("harmful", "harmless")])
             for each in rights]
        )  # fmt: skip
    wanted = ttest_ind(*values, equal_var=False)
    assert found.p_value >= wanted.pvalue - 1e-9
    assert found.low < found.difference < found.high
    assert found.difference == pytest.approx(np.mean(values[0]) - np.mean(values[1]))


def test_one_seed_of_each_side_is_paired_whatever_its_number(tmp_path):
    one = write_run(tmp_path / "one", {"a": {3: bits("++++")}})
    two = write_run(tmp_path / "two", {"b": {8: bits("+--+")}})
    pairs = paired_values(*open_sides([one, two]), "hijack_rate")
    assert pairs.seeds == [(3, 8)]
    assert difference(pairs).difference == 0.5


def test_a_metric_that_a_side_does_not_have_is_told(two, tmp_path):
    other = write_run(tmp_path / "refusal", {"a": {0: bits("++")}}, "over_refusal")
    with pytest.raises(UserError, match="unknown metric 'hijack_rate'"):
        paired_values(*open_sides([f"{two}:a", other]), "hijack_rate")


def test_sides_of_one_run_compare_without_a_word(two):
    first, second = open_sides([f"{two}:a", f"{two}:b"])
    assert mismatches(first, second, first.loaded.metric("hijack_rate")) == []
    assert remarks(first, second, [HIJACK]) == []


def test_other_decoding_and_other_templates_do_not_compare(tmp_path):
    drawn = Decoding(temperature=0.7, seed=3, stop=("###",))
    one = write_run(tmp_path / "one", {"a": {0: bits("++")}}, decoding=drawn)
    two = write_run(tmp_path / "two", {"b": {0: bits("++")}}, decoding=Decoding(max_new_tokens=99), templates="other")
    first, second = open_sides([one, two])
    assert kinds(first, second) == ["prompt", "decoding"]
    told = " ".join(reasons(first, second))
    assert "temperature: 0.7 → 0.0" in told
    assert "max_new_tokens: 256 → 99" in told


def test_another_draw_and_other_stop_texts_compare(tmp_path):
    one = write_run(tmp_path / "one", {"a": {0: bits("++")}}, decoding=Decoding(temperature=0.7, seed=1))
    two = write_run(tmp_path / "two", {"b": {0: bits("++")}}, decoding=Decoding(temperature=0.7, stop=("x",)))
    assert kinds(*open_sides([one, two])) == []


def test_the_style_of_a_method_is_told_and_not_refused(tmp_path):
    path = write_run(tmp_path / "run", {"a": {0: bits("++")}, "b": {0: bits("++")}}, styles={"b": "guided_harmless"})
    first, second = open_sides([f"{path}:a", f"{path}:b"])
    assert kinds(first, second) == []
    told = f"a answers in the style ordinary, b in the style guided_harmless ({HIJACK})"
    assert remarks(first, second, [HIJACK]) == [told]


def test_another_judge_does_not_compare(tmp_path):
    paths = [
        write_run(tmp_path / name, {name: {0: [7, 3]}}, judge_model=model) for name, model in (("a", "m"), ("b", "n"))
    ]
    first, second = open_sides(paths)
    assert kinds(first, second, "hijack_score") == ["judge"]
    assert "other models" in reasons(first, second, "hijack_score")[0]
    assert kinds(first, second) == []


def test_another_version_of_the_task_does_not_compare_but_can_be_paired(tmp_path):
    one = write_run(tmp_path / "one", {"a": {0: bits("++-")}})
    two = write_run(tmp_path / "two", {"b": {0: bits("+--")}}, samples=samples_of(HIJACK, 3, version="2"))
    first, second = open_sides([one, two])
    assert reasons(first, second) == ["task goal_hijack_en is version 1 in a and 2 in b"]
    assert difference(paired_values(first, second, "hijack_rate")).n_pairs == 0
    found = difference(paired_values(without_version(first), without_version(second), "hijack_rate"))
    assert (found.n_pairs, found.n_unpaired, found.difference) == (3, 0, pytest.approx(1 / 3))


def test_sides_without_a_common_item_do_not_compare(tmp_path):
    one = write_run(tmp_path / "one", {"a": {0: bits("++-")}})
    two = write_run(tmp_path / "two", {"b": {0: bits("+--")}}, samples=samples_of(HIJACK, 3, first=10))
    assert reasons(*open_sides([one, two])) == ["task goal_hijack_en: a and b have no item in common"]


def test_what_is_not_allowed_is_refused_in_one_line_with_the_flags(tmp_path):
    one = write_run(tmp_path / "one", {"a": {0: bits("++")}})
    two = write_run(tmp_path / "two", {"b": {0: bits("++")}}, decoding=Decoding(temperature=1), templates="other")
    first, second = open_sides([one, two])
    found = mismatches(first, second, first.loaded.metric("hijack_rate"))
    with pytest.raises(UserError, match=r"not comparable: .*--allow decoding") as error:
        allowed(found, ["prompt"])
    assert "\n" not in str(error.value)
    assert [one.split(":")[0] for one in allowed([*found, *found], ["prompt", "decoding"])] == [
        "allowed (prompt)", "allowed (decoding)",
    ]  # fmt: skip
    with pytest.raises(UserError, match="unknown kind of mismatch 'promt': did you mean 'prompt'"):
        allowed([], ["promt"])


def test_a_side_can_be_restricted_to_a_part_of_its_items(two):
    side = open_sides([f"{two}:a"])[0]
    half = restricted(side, lambda sample: "French" in sample.messages[0].content)
    assert 0 < len(half.items(HIJACK, 0)) < len(side.items(HIJACK, 0))
