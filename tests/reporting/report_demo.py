"""A made-up run with every kind of cell: clear and unclear differences, lost items, unmeasured metrics."""

from __future__ import annotations

import numpy as np

from harness.scores import (
    Claim,
    Comparison,
    ComparisonRow,
    ConfusionRow,
    Estimate,
    MetricInfo,
    ScoreRow,
    Scores,
    SubjectInfo,
)
from harness.stats.intervals import mean, over_seeds, rate
from harness.stats.paired import Differences, holm, paired_over_seeds

SEEDS = (0, 1, 2)
N_ITEMS = 240
SCALE = (1.0, 10.0)

SUBJECTS = (
    SubjectInfo(name="vanilla", method="vanilla", label="Vanilla", seeds=SEEDS),
    SubjectInfo(
        name="vanilla-guided", method="vanilla", label="Vanilla, guided prompt", style="guided_harmless", seeds=SEEDS
    ),
    SubjectInfo(name="sft", method="sft", label="SFT", seeds=SEEDS),
    SubjectInfo(name="cr-origin", method="critique_revise", label="Critique-Revise", mistakes="origin", seeds=SEEDS),
    SubjectInfo(name="cr-self", method="critique_revise", label="Critique-Revise", mistakes="self", seeds=SEEDS),
    SubjectInfo(
        name="coh-origin", method="chain_of_hindsight", label="Chain of Hindsight", mistakes="origin", seeds=SEEDS
    ),
    SubjectInfo(name="coh-self", method="chain_of_hindsight", label="Chain of Hindsight", mistakes="self", seeds=SEEDS),
    *(
        SubjectInfo(
            name=f"ma-{mistakes}-{analysis}",
            method="mistake_analysis",
            label="Mistake Analysis",
            mistakes=mistakes,
            analysis=analysis,
            style="guided_harmless",
            seeds=SEEDS,
        )
        for mistakes, analysis in (("origin", "self"), ("self", "self"), ("self", "oracle"))
    ),
    SubjectInfo(name="sft-narrow", method="sft", label="SFT, narrow data", seeds=SEEDS),
    SubjectInfo(
        name="ma-narrow",
        method="mistake_analysis",
        label="Mistake Analysis, narrow data",
        mistakes="self",
        analysis="self",
        style="guided_harmless",
        seeds=SEEDS,
    ),
)

METRICS = (
    MetricInfo(name="helpful", label="Helpful Score", task="talk", judge="helpfulness", kind="score", bounds=SCALE),
    MetricInfo(name="harmless_score", label="Harmless Score", task="red", judge="harm", kind="score", bounds=SCALE),
    MetricInfo(name="harmless_rate", label="Harmless Rate", task="red", judge="harm", kind="rate"),
    MetricInfo(
        name="harmless_helpful", label="Harmless: Helpful", task="red", judge="help", kind="score", bounds=SCALE
    ),
    MetricInfo(
        name="over_refusal", label="Over-refusal", task="benign", judge="refusal", kind="rate", higher_is_better=False
    ),
    MetricInfo(name="hijack_rate", label="Goal Hijacking Rate", task="hijack", judge="hijack", kind="rate"),
    MetricInfo(name="accuracy_unguided", label="Accuracy, unguided", task="verdict", kind="accuracy"),
    MetricInfo(name="accuracy_guided", label="Accuracy, guided", task="verdict_guided", kind="accuracy"),
    MetricInfo(name="auc_unguided", label="AUC, unguided", task="verdict", kind="auc"),
)


def values(subject: int, metric: int, seed: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Made-up item values; later subjects are better, by a step that differs by seed."""
    level = 0.5 + 0.035 * subject + 0.02 * np.random.default_rng([seed, subject, metric]).normal()
    draws = np.random.default_rng([seed, metric]).random(N_ITEMS)
    if METRICS[metric].kind == "score":
        return np.asarray(np.round(1 + 9 * np.clip(level + 0.4 * (draws - 0.5), 0, 1)))
    return np.asarray((draws < level).astype(float))


def demo_scores() -> Scores:
    """The whole run: 12 subjects, 9 metrics, 3 seeds."""
    rows, comparisons = [], []
    for s, subject in enumerate(SUBJECTS):
        for m, metric in enumerate(METRICS):
            per_seed = [_estimate(s, m, seed) for seed in SEEDS]
            rows += [
                ScoreRow(subject=subject.name, metric=metric.name, seed=seed, estimate=one)
                for seed, one in zip(SEEDS, per_seed, strict=True)
            ]
            joint = over_seeds(per_seed, metric.bounds)
            rows.append(ScoreRow(subject=subject.name, metric=metric.name, seed=None, estimate=joint))
            comparisons += [_comparison(s, b, m) for b in (0, 2) if b != s]
    adjusted = holm([row.comparison.p_value for row in comparisons])
    return Scores(
        run="Demo of the small world",
        subjects=SUBJECTS,
        metrics=METRICS,
        estimates=tuple(rows),
        comparisons=tuple(
            row.model_copy(update={"comparison": row.comparison.model_copy(update={"p_adjusted": p_adjusted})})
            for row, p_adjusted in zip(comparisons, adjusted, strict=True)
        ),
        claims=_claims(),
        confusions=(
            *(
                ConfusionRow(
                    subject="vanilla",
                    seed=seed,
                    task="verdict",
                    counts={"harmful": {"harmful": 1, "harmless": 119}, "harmless": {"harmful": 0, "harmless": 118}},
                    n_invalid=2,
                )
                for seed in SEEDS
            ),
        ),
        notes=(
            "The models are tiny and their world is invented: the run shows the pipeline, not what a large model does.",
            "Three training seeds: differences of a few points cannot be told from none.",
        ),
    )


def _estimate(subject: int, metric: int, seed: int) -> Estimate:
    info = METRICS[metric]
    found = values(subject, metric, seed)
    if (subject, metric) == (4, 2):
        found = found[:-8]
    if (subject, metric) == (6, 1):
        found = found[:0]
    if info.kind == "score":
        return mean(found, N_ITEMS, info.bounds)
    return rate(found, N_ITEMS, higher_is_better=info.higher_is_better)


def _comparison(subject: int, baseline: int, metric: int) -> ComparisonRow:
    info = METRICS[metric]
    differences = [Differences(values(subject, metric, seed) - values(baseline, metric, seed)) for seed in SEEDS]
    span = info.bounds[1] - info.bounds[0]
    found = paired_over_seeds(differences, binary=info.kind != "score", span=span)
    return ComparisonRow(
        subject=SUBJECTS[subject].name, baseline=SUBJECTS[baseline].name, metric=info.name, comparison=found
    )


def _claims() -> tuple[Claim, ...]:
    def compared(difference: float, half: float, p_value: float) -> Comparison:
        return Comparison(
            difference=difference, low=difference - half, high=difference + half, p_value=p_value, p_adjusted=p_value * 3,
            test="paired t over 3 seeds", alternative="greater", n_pairs=720, n_seeds=3,
        )  # fmt: skip

    return (
        Claim(
            name="gap",
            text="A model recognises harm, with a hint, more often than it answers harmlessly.",
            subject="vanilla",
            first="vanilla.accuracy_guided",
            second="vanilla.harmless_rate",
            comparison=compared(0.403, 0.076, 0.001),
            decision="supported",
        ),
        Claim(
            name="table7",
            text="Mistake Analysis improves unguided discrimination over SFT.",
            subject="ma-self-self",
            first="ma-self-self.accuracy_unguided",
            second="sft.accuracy_unguided",
            comparison=compared(0.357, 0.068, 0.0009),
            decision="supported",
        ),
        Claim(
            name="main",
            text="Mistake Analysis answers red-team questions more harmlessly than SFT.",
            subject="ma-self-self",
            first="ma-self-self.harmless_rate",
            second="sft.harmless_rate",
            comparison=compared(0.024, 0.11, 0.31),
            decision="no difference",
        ),
    )
