"""Sweeps: where checkpoints stand, which one is best on items that it was not chosen on, and the picture."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from gates import answers, bring
from hypothesis import given
from hypothesis import strategies as st
from written_runs import HIJACK, REFUSAL, bits, command, samples_of, write_run

from harness.deciding import sweep_text
from harness.deciding.sweep import in_dev, open_sweep, sweep
from harness.deciding.sweep_figure import sweep_figure
from harness.errors import UserError
from harness.records import Decoding, Message, Sample

SAMPLES = samples_of(HIJACK, 40)


def planted(dev, test, seed=0):
    """Truth values over the items: so many of the dev half and so many of the test half are right, as shares."""
    halves = [sample for sample in SAMPLES if in_dev(sample, seed)], [s for s in SAMPLES if not in_dev(s, seed)]
    right = {s.key for half, share in zip(halves, (dev, test), strict=True) for s in half[: round(share * len(half))]}
    return {0: [sample.key in right for sample in SAMPLES]}


@pytest.fixture(scope="module")
def rising(tmp_path_factory):
    said = {"step-100": planted(0.1, 0.1), "step-200": planted(0.5, 0.4), "step-300": planted(1, 0.95)}
    return write_run(tmp_path_factory.mktemp("rising") / "run", said, samples=SAMPLES)


def test_the_best_is_chosen_on_one_half_and_reported_on_the_other(rising):
    found = sweep(open_sweep([rising]))
    assert [point.step for point in found.points] == [100, 200, 300]
    best = found.point(found.best)
    assert (best.label, best.dev.value) == ("step-300", 1)
    assert best.test.value == pytest.approx(0.95, abs=0.03)
    assert best.dev.n_total + best.test.n_total == best.all_items.n_total == 40
    assert min(best.dev.n_total, best.test.n_total) > 10
    assert [point.tied for point in found.points] == [False, False, True]
    assert "No other checkpoint is tied" in " ".join(sweep_text.verdict(found))


def test_a_choice_that_the_dev_half_misled_is_told(tmp_path):
    said = {"step-1": planted(0.9, 0.1), "step-2": planted(0.8, 0.95)}
    found = sweep(open_sweep([write_run(tmp_path / "run", said, samples=SAMPLES)]))
    told = " ".join(sweep_text.verdict(found))
    assert (found.best, found.same_items) == ("step-1", "step-2")
    assert "Better than it on the test half: step-2" in told
    assert "Optimistic, by choosing and reporting on the same items: step-2" in told


def test_checkpoints_that_are_alike_are_all_tied(tmp_path):
    said = {f"step-{i}": planted(0.5 + 0.02 * i, 0.5) for i in range(4)}
    found = sweep(open_sweep([write_run(tmp_path / "run", said, samples=SAMPLES)]))
    assert all(point.tied for point in found.points)
    assert "tied on the test half; take the cheapest." in sweep_text.to_text(found)


def test_choosing_among_equals_is_optimistic_on_the_same_items_and_not_on_the_others(tmp_path):
    """Twelve checkpoints of one true rate: the chosen one's dev value lies above it, its test value about it."""
    gaps = []
    for draw in range(6):
        luck = np.random.default_rng(draw)
        said = {f"step-{i}": {0: [bool(one) for one in luck.random(40) < 0.5]} for i in range(12)}
        found = sweep(open_sweep([write_run(tmp_path / str(draw), said, samples=SAMPLES)]))
        best = found.point(found.best)
        gaps.append((best.dev.value - 0.5, best.test.value - 0.5))
    dev, test = np.mean(gaps, axis=0)
    assert dev > 0.12
    assert abs(test) < 0.12


def test_lower_is_better_where_the_metric_says_so(tmp_path):
    said = {"step-1": {0: [True] * 30 + [False] * 10}, "step-2": {0: [False] * 40}}
    assert sweep(open_sweep([write_run(tmp_path / "run", said, REFUSAL)])).best == "step-2"


@given(st.integers(0, 5), st.lists(st.text(min_size=1), min_size=1, unique=True))
def test_items_of_a_cluster_are_in_one_half(seed, clusters):
    for cluster in clusters:
        items = [
            Sample(task="t", task_version="1", messages=(Message(role="user", content=str(i)),), cluster=cluster)
            for i in range(3)
        ]
        assert len({in_dev(item, seed) for item in items}) == 1


def test_the_halves_are_about_equal_and_another_seed_is_another_split():
    items = [Sample(task="t", task_version="1", messages=(Message(role="user", content=str(i)),)) for i in range(600)]
    halves = [[in_dev(item, seed) for item in items] for seed in (0, 1)]
    for half in halves:
        assert 240 < sum(half) < 360
    assert 200 < sum(one != two for one, two in zip(*halves, strict=True)) < 400


@pytest.mark.parametrize("clusters", [None, 2])
def test_an_item_is_in_one_half_in_all_versions_of_its_task(clusters):
    halves = [[in_dev(sample, 0) for sample in samples_of(HIJACK, 40, clusters, version)] for version in ("1", "2")]
    assert halves[0] == halves[1]
    assert 0 < sum(halves[0]) < 40


def test_versions_of_a_task_are_compared_item_by_item_where_that_is_allowed(tmp_path):
    one = write_run(tmp_path / "one", {"a": {0: [True] * 40}})
    two = write_run(
        tmp_path / "two", {"b": {0: [i % 4 == 0 for i in range(40)]}}, samples=samples_of(HIJACK, 40, version="2")
    )
    found = sweep(open_sweep([f"{one}@1", f"{two}@2"]), allow=["task"])
    best, other = found.points
    assert (found.best, other.tied) == ("a", False)
    assert best.dev.n_total == other.dev.n_total
    assert (other.to_best.n_pairs, other.to_best.n_unpaired) == (other.test.n_total, 0)
    assert other.to_best.p_adjusted < 0.05
    assert found.caveats == ("allowed (task): task goal_hijack_en is version 1 in a and 2 in b",)


def test_what_was_not_tested_is_not_called_tied(tmp_path):
    """One side has values on the dev half alone, the other two differ."""
    half = [True if in_dev(sample, 0) else None for sample in SAMPLES]
    said = {"step-1": {0: [True] * 40}, "step-2": {0: half}, "step-3": planted(0.2, 0.2)}
    found = sweep(open_sweep([write_run(tmp_path / "run", said, samples=SAMPLES)]))
    assert [point.tied for point in found.points] == [True, None, False]
    told = sweep_text.to_text(found)
    assert "Not compared with it, for want of a test on the test half: step-2." in told
    assert "No other checkpoint is tied with it on the test half." in told
    assert [row["tied"] for row in csv.DictReader(sweep_text.to_csv(found).splitlines())] == ["True", "", "False"]
    assert sweep_figure(found)["png"].startswith(b"\x89PNG")


def test_two_checkpoints_in_one_cluster_a_half_are_not_called_tied(tmp_path):
    samples = [s.model_copy(update={"cluster": f"c{i % 2}"}) for i, s in enumerate(SAMPLES)]
    samples = [Sample.model_validate(s.model_dump()) for s in samples]
    seed = next(seed for seed in range(20) if 0 < sum(in_dev(one, seed) for one in samples) < 40)
    said = {"step-1": {0: [True] * 40}, "step-2": {0: [False] * 40}}
    found = sweep(open_sweep([write_run(tmp_path / "run", said, samples=samples)]), seed=seed)
    assert (found.best, found.points[1].tied) == ("step-1", None)
    assert "tied" not in " ".join(sweep_text.verdict(found))


@pytest.mark.parametrize("planned", [True, False])
def test_a_checkpoint_that_is_hardly_measured_is_not_the_best(tmp_path, planned):
    """All of its six values are right; the others were lost, or never planned."""
    run = write_run(tmp_path / "one", {"a": {0: [i % 10 != 0 for i in range(40)]}})
    few = [True if i < 6 else None for i in range(40)] if planned else [True] * 6
    other = write_run(tmp_path / "two", {"b": {0: few}})
    found = sweep(open_sweep([f"{other}@1", f"{run}@2"]))
    assert (found.best, found.same_items) == ("a", "a")
    note = "not measured on all items: b on 6 of 40; in the choice the others count as worst"
    assert found.remarks == (note,)
    assert f"Note: {note}." in sweep_text.to_text(found)
    assert "take the cheapest" not in sweep_text.to_text(found)


def test_where_lower_is_better_a_lost_item_counts_as_the_highest(tmp_path):
    said = {"step-1": {0: [False] * 6 + [None] * 34}, "step-2": {0: [i % 10 == 0 for i in range(40)]}}
    assert sweep(open_sweep([write_run(tmp_path / "run", said, REFUSAL)])).best == "step-2"


def test_steps_come_from_the_user_the_name_or_the_training(tmp_path):
    said = {name: {0: bits("+-")} for name in ("sft", "base")}
    run = write_run(tmp_path / "run", said, steps={"sft": 24})
    named = write_run(tmp_path / "checkpoint-300", {"a": {0: bits("+-")}})
    from_base = write_run(tmp_path / "other", {"b": {0: bits("+-")}}, base="out/checkpoint-50")
    stops = open_sweep([named, f"{run}:sft", from_base, f"{run}:base@7.5"])
    assert [stop.step for stop in stops] == [7.5, 24, 50, 300]
    assert [stop.step for stop in open_sweep([run])] == [0, 24]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["{run}:a@3", "{run}:b@3"], "a and b both stand at step 3"),
        (["{run}:a@3"], "a sweep needs two checkpoints or more"),
        (["{run}:a@3", "{run}:b@x"], "'x' is no number of steps"),
        (["{run}@3", "{run}:b@4"], "the run has 2 subjects"),
    ],
)
def test_what_has_no_step_is_told_in_one_line(tmp_path, names, said):
    run = write_run(tmp_path / "run", {"a": {0: bits("+-")}, "b": {0: bits("+-")}})
    with pytest.raises(UserError, match=said) as error:
        open_sweep([name.format(run=run) for name in names])
    assert "\n" not in str(error.value)


def test_checkpoints_under_other_settings_do_not_compare(tmp_path):
    one = write_run(tmp_path / "checkpoint-1", {"a": {0: bits("+-")}})
    two = write_run(tmp_path / "checkpoint-2", {"a": {0: bits("+-")}}, decoding=Decoding(temperature=1))
    with pytest.raises(UserError, match="--allow decoding"):
        sweep(open_sweep([one, two]))
    assert sweep(open_sweep([one, two]), allow=["decoding"]).caveats


def test_recorded_answers_at_the_first_step_do_not_hide_that_the_others_differ(tmp_path):
    recorded = bring(tmp_path / "recorded", answers(bad=[0]), "m")
    one = write_run(tmp_path / "one", {"a": {0: [True] * len(SAMPLES)}}, samples=SAMPLES)
    two = write_run(tmp_path / "two", {"a": {0: [True] * len(SAMPLES)}}, samples=SAMPLES, decoding=Decoding(temperature=1))
    for names in ([f"{recorded}@1", f"{one}@2", f"{two}@3"], [f"{one}@1", f"{recorded}@2", f"{two}@3"]):
        with pytest.raises(UserError, match="--allow decoding"):
            sweep(open_sweep(names), "hijack_rate")


def test_a_checkpoint_s_record_that_is_damaged_is_told_in_one_line(tmp_path):
    run = Path(write_run(tmp_path / "run", {"a": {0: bits("+-")}, "b": {0: bits("+-")}}, steps={"a": 1, "b": 2}))
    (file,) = run.glob("train/a/*/checkpoint.json")
    file.write_text("{}")
    with pytest.raises(UserError, match="holds no checkpoint's record"):
        open_sweep([str(run)])


def test_checkpoints_that_answer_in_two_styles_are_told(tmp_path):
    said = {"step-1": planted(0.1, 0.1), "step-2": planted(0.9, 0.9)}
    run = write_run(tmp_path / "run", said, samples=SAMPLES, styles={"step-2": "guided_harmless"})
    told = sweep_text.to_text(sweep(open_sweep([run])))
    assert "Note: step-1 answers in the style ordinary, step-2 in the style guided_harmless (goal_hijack_en)." in told


def test_items_that_cannot_be_split_name_no_best(tmp_path):
    said = {name: {0: bits("+-")} for name in ("step-1", "step-2")}
    samples = samples_of(HIJACK, 2, clusters=2)
    found = sweep(open_sweep([write_run(tmp_path / "run", said, samples=samples)]))
    assert found.best is None
    assert "no checkpoint is named best" in sweep_text.to_text(found)
    assert sweep_figure(found)["png"].startswith(b"\x89PNG")


def test_the_picture_is_the_same_every_time(rising):
    found = sweep(open_sweep([rising]))
    first, second = sweep_figure(found), sweep_figure(found)
    assert first == second
    assert first["png"].startswith(b"\x89PNG")
    assert first["pdf"].startswith(b"%PDF")


def test_the_line_and_the_chosen_point_are_drawn_where_they_were_measured(rising, monkeypatch):
    """The picture's own artists hold the numbers of the table."""
    from matplotlib.figure import Figure

    drawn = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *args, **more: (drawn.append(self), save(self, *args, **more)))
    found = sweep(open_sweep([rising]))
    sweep_figure(found)
    axes = drawn[0].axes[0]
    line = next(one for one in axes.lines if one.get_label() == "all items")
    assert list(line.get_xdata()) == [100, 200, 300]
    assert list(line.get_ydata()) == pytest.approx([100 * point.all_items.value for point in found.points])
    chosen = next(one for one in axes.containers if "chosen" in one.get_label())
    assert list(chosen.lines[0].get_ydata()) == pytest.approx([100 * found.point(found.best).test.value])


def test_the_verb_prints_the_table_and_writes_picture_and_table(rising, tmp_path):
    done = command("sweep", rising, "--metric", "hijack_rate", "--out", tmp_path)
    assert done.exit_code == 0, done.exception
    assert "Best on the dev half: step-300 (step 300)" in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"hijack_rate.{kind}" for kind in ("csv", "json", "pdf", "png")
    ]
    rows = list(csv.DictReader((tmp_path / "hijack_rate.csv").open(encoding="utf-8")))
    assert [row["best"] for row in rows] == ["False", "False", "True"]
    told = json.loads(command("sweep", rising, "--json", "--out", tmp_path).stdout)
    assert (told["best"], len(told["points"])) == ("step-300", 3)


def test_several_metrics_are_not_chosen_among(tmp_path):
    said = {name: {0: [True, False] * 4} for name in ("step-1", "step-2")}
    run = write_run(tmp_path / "run", said, "vale_discrimination_guided")
    with pytest.raises(UserError, match=r"which metric. --metric NAME: accuracy_guided, "):
        sweep(open_sweep([run]))
