"""What a gate says: `Gate`, made of one `RuleResult` a rule; derived, never a source.

A rule passes only where the records show it. It fails where they show the opposite, where something that the policy
names is not there, or where a record is not what was scored. Everything else is inconclusive. Of all rules, a failure
beats an inconclusive one, which beats a pass.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from harness.deciding.compare import SideInfo
from harness.records import Finite, Record
from harness.scores import MetricInfo

Decision = Literal["pass", "fail", "inconclusive"]


class Turned(Record):
    """An item that turned bad: its key, where it came from, the prompt and the candidate's answer, in excerpts."""

    key: str
    source: str
    prompt: str
    answer: str
    verdict: str
    reason: str


class RuleResult(Record):
    """One rule.

    Attributes:
        rule: ``records``, ``complete``, ``comparable``, ``required``, ``max_cost_usd``, ``coverage`` or one of the
            policy's.
        about: The metric, the side, the task or nothing.
        metric: Name of the metric, where it is about one.
        decision: What came of it.
        reason: Why, in a sentence.
        value: What was found: a difference, an estimate, a share, a count or US dollars.
        bound: The end of the interval that decides, lost items counted worst.
        limit: What the bound is held against.
        n: Items behind it, over all seeds.
        n_lost: Items without a value that were counted worst.
        p_value: Of a comparison, one-sided for a margin, two-sided for an improvement.
        p_adjusted: The same after Holm's correction.
        test: Name of the test or interval.
        settles: What would settle an inconclusive one.
        items: The items that turned bad, the first hundred of them; ``value`` counts all.
        line: Line of the policy, where the rule stands there.
    """

    rule: str
    about: str = ""
    metric: str | None = None
    decision: Decision
    reason: str
    value: Finite | None = None
    bound: Finite | None = None
    limit: Finite | None = None
    n: int | None = None
    n_lost: int = 0
    p_value: Finite | None = None
    p_adjusted: Finite | None = None
    test: str | None = None
    settles: str = ""
    items: tuple[Turned, ...] = ()
    line: int | None = None

    @property
    def name(self) -> str:
        """What outputs call it; unique within a gate."""
        return f"{self.about}: {self.rule}" if self.about else self.rule


class Gate(Record):
    """A gate's verdict.

    Attributes:
        decision: Of all rules together.
        policy: The policy's file, as it was given where that is relative, else its name.
        policy_sha256: Of its bytes.
        description: What the policy says that it is for.
        candidate: What was to pass.
        baseline: What it was compared with.
        metrics: The metrics of the policy.
        rules: What came of each rule.
        notes: What a reader has to know besides.
    """

    decision: Decision
    policy: str
    policy_sha256: str
    description: str = ""
    candidate: SideInfo
    baseline: SideInfo
    metrics: tuple[MetricInfo, ...]
    rules: tuple[RuleResult, ...]
    notes: tuple[str, ...] = ()

    def metric(self, name: str | None) -> MetricInfo | None:
        """A metric by its name."""
        return next((metric for metric in self.metrics if metric.name == name), None)


def overall(decisions: Iterable[Decision]) -> Decision:
    """Of all rules: a failure beats an inconclusive one, which beats a pass; no rule at all is inconclusive."""
    found = set(decisions)
    if "fail" in found:
        return "fail"
    return "pass" if found == {"pass"} else "inconclusive"
