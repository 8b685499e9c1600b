"""Sweeps: where checkpoints stand, which one is best on items that it was not chosen on, and the picture."""

import csv
import json

import numpy as np
import pytest
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
    assert "Nothing can be told apart" in sweep_text.to_text(found)


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
