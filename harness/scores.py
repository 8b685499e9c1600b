"""What a run measured, derived from its records: estimates, comparisons, claims, and `Scores`, which holds them all.

Every reported number traces to record keys; nothing here is a source. Absence is a case: a value that could not be
measured is ``None`` beside its coverage, never a number.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from harness.records import Finite, Record, Style

Decision = Literal[
    "supported", "supported (not after Holm)", "contradicted", "contradicted (not after Holm)", "no difference",
    "not measured",
]  # fmt: skip
"""What came of a claim."""


ALPHA = 0.05
"""The family-wise error rate at which a difference stands."""


class Estimate(Record):
    """A number with its error bar and its coverage; derived, never a source.

    Attributes:
        value: The estimate in the metric's own unit (rates as a share 0–1, scores on their scale); ``None`` when
            nothing was scored.
        low: Lower end of the interval, ``None`` where none can be given.
        high: Upper end.
        confidence: Nominal coverage of the interval.
        method: How the interval was made, such as ``wilson``, ``cluster`` or ``wilson over 3 seeds and 48 prompts``.
        n_scored: Items with a usable verdict.
        n_total: Items planned.
        worst: The value if every lost item had come out worst; ``None`` where the metric has no bounds.
        best: The value if every lost item had come out best.
        n_seeds: Training seeds behind the value.
    """

    value: Finite | None
    low: Finite | None = None
    high: Finite | None = None
    confidence: Finite = 0.95
    method: str = "none"
    n_scored: int = Field(ge=0)
    n_total: int = Field(ge=0)
    worst: Finite | None = None
    best: Finite | None = None
    n_seeds: int = Field(default=1, ge=0)


class Comparison(Record):
    """A paired difference; derived, never a source.

    Attributes:
        difference: First minus second, in the metric's own unit, over the items that both have.
        low: Lower end of its interval.
        high: Upper end.
        p_value: Two-sided unless ``alternative`` says otherwise.
        p_adjusted: The same after Holm's correction for the table's other comparisons (family-wise error rate).
        q_value: The same after Benjamini and Hochberg's (false discovery rate).
        test: Name of the test.
        alternative: ``two-sided`` or ``greater``.
        n_pairs: Pairs compared.
        n_unpaired: Items that only one side has.
        n_seeds: Training seeds behind it.
    """

    difference: Finite | None
    low: Finite | None = None
    high: Finite | None = None
    p_value: Finite | None = None
    p_adjusted: Finite | None = None
    q_value: Finite | None = None
    test: str = "none"
    alternative: Literal["two-sided", "greater"] = "two-sided"
    n_pairs: int = Field(ge=0)
    n_unpaired: int = Field(default=0, ge=0)
    n_seeds: int = Field(default=1, ge=0)

    @property
    def decision(self) -> Literal["higher", "lower", "no difference", "not measured"]:
        """What the interval allows one to say."""
        if self.difference is None or self.low is None or self.high is None:
            return "not measured"
        if self.low > 0:
            return "higher"
        return "lower" if self.high < 0 else "no difference"

    @property
    def holds(self) -> bool:
        """Whether the test stands after Holm's correction: its adjusted p value is 5 % or less."""
        return self.p_adjusted is not None and self.p_adjusted <= ALPHA


class SubjectInfo(Record):
    """A row of the tables: a method in one configuration, run over all seeds.

    Attributes:
        name: Unique within the run, such as ``ma-self-self``.
        method: Name of the method, such as ``mistake_analysis``.
        label: What the tables call it.
        mistakes: Where its mistakes came from: ``origin``, ``self`` or ``None``.
        analysis: Who analysed them: ``self``, the name of another model, or ``None``.
        style: The prompt that it answers with.
        seeds: Its seeds.
    """

    name: str
    method: str
    label: str
    mistakes: str | None = None
    analysis: str | None = None
    style: Style = "ordinary"
    seeds: tuple[int, ...]


class MetricInfo(Record):
    """A measured quantity.

    Attributes:
        name: Unique within the run, such as ``harmless_rate``.
        label: What the tables call it.
        task: The task whose samples it sums up.
        judge: The judge whose verdicts it sums up; ``None`` for a classification metric, which reads the target.
        kind: ``score`` (mean on a scale), ``rate`` (share of a label) or a classification measure.
        rate_label: The label whose share a rate gives.
        bounds: Smallest and largest value a single item can have.
        higher_is_better: Direction of the metric; ``None`` where it has none.
    """

    name: str
    label: str
    task: str
    judge: str | None = None
    kind: Literal["score", "rate", "accuracy", "balanced_accuracy", "f1", "auc", "recall", "invalid"]
    rate_label: str | None = None
    bounds: tuple[Finite, Finite] = (0.0, 1.0)
    higher_is_better: bool | None = True


class ScoreRow(Record):
    """One estimate of one metric; ``seed`` is ``None`` for the value over all seeds."""

    subject: str
    metric: str
    seed: int | None
    estimate: Estimate


class ComparisonRow(Record):
    """A subject against a baseline on one metric, over all seeds, paired by sample."""

    subject: str
    baseline: str
    metric: str
    comparison: Comparison


class Claim(Record):
    """A sentence that the run was made to test, the test, and what came of it.

    Attributes:
        name: Unique within the run.
        text: The sentence.
        subject: The subject of the first measure.
        first: ``SUBJECT.METRIC`` that is claimed to be higher.
        second: The one that it is compared with.
        comparison: First minus second, scaled to 0–1; the p value is one-sided, Holm's is over the run's claims.
        decision: ``supported`` (the interval lies on the claimed side and the adjusted p value is 0.05 or less),
            ``contradicted`` (the same of the other side, by the test of the opposite claim), either with ``(not after
            Holm)`` where only the interval says so, ``no difference`` (the interval includes zero) or ``not measured``.
    """

    name: str
    text: str
    subject: str
    first: str
    second: str
    comparison: Comparison
    decision: Decision


class ConfusionRow(Record):
    """Counts of a classification task: ``counts[target][answer]``, and items whose answer was no label."""

    subject: str
    seed: int | None
    task: str
    counts: dict[str, dict[str, int]]
    n_invalid: int


class PreparationRow(Record):
    """How a subject's training data came about: what was triggered, kept, dropped and why, counted."""

    subject: str
    seed: int
    counts: dict[str, int]
    training: dict[str, Finite] = Field(default_factory=dict)


class JudgeRow(Record):
    """How a judge that asks models did.

    Attributes:
        judge: Its name.
        models: The models of its panel, as the recipe names them.
        keys: Key of the judge on each of them.
        n_seats: Verdicts of each model on an answer.
        outcomes: Outcome → how many judgments; only ``ok`` measures.
        alpha: Krippendorff's alpha of all raters; ``None`` where there is one.
        kappa: Cohen's (two raters) or Fleiss' kappa of labels.
        flip_rate: Of a pairwise judge, the share of comparisons that flip with the order.
        cost_usd: What its calls cost; ``None`` where that is not known.
        remarks: What a reader must know of its models: judged by itself, options that a server ignored, a served model
            that changed.
    """

    judge: str
    models: tuple[str, ...]
    keys: tuple[str, ...]
    n_seats: int
    outcomes: dict[str, int]
    alpha: Estimate | None = None
    kappa: Estimate | None = None
    flip_rate: Estimate | None = None
    cost_usd: Finite | None = None
    remarks: tuple[str, ...] = ()


class RecordsDigest(Record):
    """What of a file the scores were made from: its first bytes and their SHA-256 (hex)."""

    n_bytes: int = Field(ge=0)
    sha256: str


class Scores(Record):
    """Everything that reports are made from: ``scores.json``. Derived from samples, completions and verdicts."""

    run: str
    subjects: tuple[SubjectInfo, ...]
    metrics: tuple[MetricInfo, ...]
    estimates: tuple[ScoreRow, ...]
    comparisons: tuple[ComparisonRow, ...] = ()
    claims: tuple[Claim, ...] = ()
    confusions: tuple[ConfusionRow, ...] = ()
    preparations: tuple[PreparationRow, ...] = ()
    judges: tuple[JudgeRow, ...] = ()
    notes: tuple[str, ...] = ()
