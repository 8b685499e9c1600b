"""Classification measures: against scikit-learn, with invalid and lost answers, and their intervals."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, f1_score, roc_auc_score
from statsmodels.stats.proportion import proportion_confint

from harness.scores import Estimate
from harness.stats.classification import (
    Answers,
    accuracy,
    auc,
    balanced_accuracy,
    confusion,
    f1,
    influence,
    invalid_rate,
    measure,
    recall,
)
from harness.stats.paired_measures import measure_difference, measure_difference_over_seeds

BAD, GOOD = "harmful", "harmless"


def make(seed: int, n_items: int = 80, shift: float = 1.0, clusters: bool = False) -> Answers:
    rng = np.random.default_rng(seed)
    targets = rng.permutation([BAD, GOOD] * (n_items // 2)).tolist()
    margins = [float(np.round(rng.normal(shift if target == BAD else -shift), 1)) for target in targets]
    answers = [BAD if margin > 0.3 else GOOD for margin in margins]
    groups = [int(i // 4) for i in range(n_items)] if clusters else None
    return Answers(targets, answers, clusters=groups, margins=margins)


def inside(estimate: Estimate) -> bool:
    assert estimate.value is not None
    assert estimate.low is not None
    assert estimate.high is not None
    return 0 <= estimate.low <= estimate.value <= estimate.high <= 1 and estimate.high > estimate.low


@pytest.mark.parametrize("clusters", [False, True])
def test_values_are_scikit_learns(clusters: bool) -> None:
    items = make(0, clusters=clusters)
    assert accuracy(items).value == pytest.approx(
        np.mean([a == t for a, t in zip(items.answers, items.targets, strict=True)])
    )
    assert balanced_accuracy(items).value == pytest.approx(balanced_accuracy_score(items.targets, items.answers))
    assert f1(items).value == pytest.approx(f1_score(items.targets, items.answers, pos_label=BAD))
    assert auc(items).value == pytest.approx(roc_auc_score([t == BAD for t in items.targets], items.margins))
    for kind in ("accuracy", "balanced_accuracy", "f1", "auc", "recall"):
        found = measure(kind, items)
        assert inside(found)
        assert found.worst == found.value == found.best
    assert auc(items).method == ("cluster wilson of DeLong" if clusters else "wilson of DeLong")


def of_weights(kind: str, items: Answers, weights: np.ndarray) -> float:
    targets, said = ([label == BAD for label in labels] for labels in (items.targets, items.answers))
    if kind == "auc":
        return float(roc_auc_score(targets, items.margins, sample_weight=weights))
    scorer = f1_score if kind == "f1" else balanced_accuracy_score
    return float(scorer(targets, said, sample_weight=weights))


@pytest.mark.parametrize("kind", ["balanced_accuracy", "f1", "auc"])
def test_influence_is_what_a_little_more_of_an_item_changes(kind: str) -> None:
    """By scikit-learn's measures with one item's weight raised."""
    items, more = make(1, n_items=24), 1e-6
    found = influence(kind, items)  # type: ignore[arg-type]
    assert found.sum() == pytest.approx(0)
    plain = of_weights(kind, items, np.ones(24))
    for i in range(24):
        weights = np.ones(24)
        weights[i] += more
        assert found[i] == pytest.approx((of_weights(kind, items, weights) - plain) / more, abs=1e-6)


def test_lost_items_have_no_influence() -> None:
    items = make(1, n_items=24)
    assert items.margins is not None
    lost = items._replace(answers=[None, *items.answers[1:]], margins=[None, *items.margins[1:]])
    for kind in ("balanced_accuracy", "f1", "auc"):
        assert influence(kind, lost)[0] == 0
        assert influence(kind, lost).size == 24


def test_f1_has_the_interval_of_its_share_of_hits() -> None:
    items = make(5)
    hits = sum(a == t == BAD for a, t in zip(items.answers, items.targets, strict=True))
    involved = sum(BAD in pair for pair in zip(items.answers, items.targets, strict=True))
    low, high = proportion_confint(hits, involved, method="wilson")
    found = f1(items)
    assert (found.low, found.high) == pytest.approx((2 * low / (1 + low), 2 * high / (1 + high)))


def test_invalid_is_wrong_and_lost_is_coverage() -> None:
    items = Answers([BAD, BAD, GOOD, GOOD], [BAD, "perhaps", GOOD, None])
    found = accuracy(items)
    assert found.value == pytest.approx(2 / 3)
    assert (found.n_scored, found.n_total) == (3, 4)
    assert (found.worst, found.best) == (0.5, 0.75)
    assert invalid_rate(items).value == pytest.approx(1 / 3)
    assert invalid_rate(items).worst == 0.5
    assert measure("invalid", items) == invalid_rate(items)
    assert recall(items, BAD).value == 0.5
    assert recall(items, GOOD).n_scored == 1
    assert balanced_accuracy(items).value == 0.75
    assert (balanced_accuracy(items).worst, balanced_accuracy(items).best) == (0.5, 0.75)
    assert f1(items).value == pytest.approx(2 / 3)
    assert f1(items).worst == pytest.approx(2 / 4)
    assert f1(items).best == pytest.approx(2 / 3)
    counted = confusion(items)
    assert counted.counts == {BAD: {BAD: 1, GOOD: 0}, GOOD: {BAD: 0, GOOD: 1}}
    assert counted.n_invalid == 1


def test_auc_bounds_rank_lost_items_at_the_ends() -> None:
    items = Answers([BAD, GOOD, BAD], [BAD, GOOD, None], margins=[1.0, -1.0, None])
    found = auc(items)
    assert (found.value, found.worst, found.best, found.n_scored) == (1.0, 0.5, 1.0, 2)


def test_one_answer_for_everything_still_has_width() -> None:
    items = Answers([BAD, GOOD] * 24, [GOOD] * 48)
    found = balanced_accuracy(items)
    assert found.value == 0.5
    assert inside(found)
    assert found.method == "MOVER of wilson"
    assert f1(items).value == 0.0
    assert inside(f1(items))
    perfect = Answers([BAD, GOOD] * 24, [BAD, GOOD] * 24, margins=[1.0, -1.0] * 24)
    assert auc(perfect).value == 1.0
    assert inside(auc(perfect))


def test_undefined_measures_are_none() -> None:
    empty = Answers([BAD, GOOD], [None, None], margins=[None, None])
    for kind in ("accuracy", "balanced_accuracy", "f1", "auc", "recall"):
        found = measure(kind, empty)
        assert found.value is None
        assert found.low is None
        assert found.n_scored == 0
    assert auc(Answers([BAD], [BAD], margins=[1.0])).value is None
    with pytest.raises(ValueError, match="margin"):
        auc(Answers([BAD], [BAD]))


def test_order_does_not_matter() -> None:
    items = make(2, clusters=True)
    order = np.random.default_rng(0).permutation(80).tolist()
    shuffled = Answers(
        [items.targets[i] for i in order],
        [items.answers[i] for i in order],
        clusters=[items.clusters[i] for i in order],  # type: ignore[index]
    )
    one, two = balanced_accuracy(items), balanced_accuracy(shuffled)
    assert one.value == pytest.approx(two.value)
    assert one.low == pytest.approx(two.low)


@pytest.mark.parametrize("kind", ["balanced_accuracy", "f1", "auc"])
def test_paired_measures(kind: str) -> None:
    weak, strong = make(4, shift=0.2), make(4, shift=2.0)
    found = measure_difference(kind, strong, weak)  # type: ignore[arg-type]
    assert found.decision == "higher"
    assert found.p_value is not None
    assert found.p_value < 0.01
    assert measure_difference(kind, weak, weak).decision == "no difference"  # type: ignore[arg-type]
    seeds = [(make(seed, shift=1.5), make(seed, shift=0.2)) for seed in (4, 5, 6)]
    joint = measure_difference_over_seeds(kind, seeds)  # type: ignore[arg-type]
    assert joint.n_seeds == 3
    assert joint.decision == "higher"
    assert joint.n_pairs == 240
    same = measure_difference_over_seeds(kind, [(weak, weak), (weak, weak)])  # type: ignore[arg-type]
    assert same.decision == "no difference"
    assert same.p_value == 1.0


def test_paired_measures_need_the_same_items() -> None:
    with pytest.raises(ValueError, match="same items"):
        measure_difference("f1", make(1), make(2))
