"""What a task folder says: the ``metadata.harness`` block of its ``task.yaml``, and which columns its documents have.

Pure values; nothing is read or written here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from harness.records import Message, Role, Style
from harness.scores import MetricInfo

Doc = Mapping[str, Any]

LABELS = ("harmful", "harmless")
"""What a written verdict says; of two labels, the first is the one that F1 and AUC are about."""
_ROLES: dict[str, Role] = {"instruction": "user", "input": "input", "answer": "assistant"}


class TaskSpec(BaseModel):
    """What a task is, without its items.

    Attributes:
        name: Name of its folder.
        version: Version that it declares; changes when its items or their wording do.
        style: How its items become prompts; ``None`` leaves it to the model that is asked.
        choices: Two labels whose likelihood is compared; empty where the model writes freely.
        max_new_tokens: Longest answer; ``None`` where a label is chosen.
        judges: Names of the judges that grade its answers.
        metrics: What is summed up.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    version: str
    style: Style | None = None
    choices: tuple[str, ...] = ()
    max_new_tokens: int | None = Field(default=None, gt=0)
    judges: tuple[str, ...] = ()
    metrics: tuple[MetricInfo, ...]

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if (self.max_new_tokens is None) != bool(self.choices):
            raise ValueError("give max_new_tokens or choices, one of the two")
        if self.choices and len({*self.choices}) != 2:
            raise ValueError("choices: give two labels, the one that F1 and AUC are about first")
        names = [metric.name for metric in self.metrics]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"the metric '{twice[0]}' is there twice")
        for metric in self.metrics:
            if metric.judge is not None and metric.judge not in self.judges:
                raise ValueError(f"metric '{metric.name}': its judge '{metric.judge}' is not among the judges")
            if metric.kind in ("score", "rate") and metric.judge is None:
                raise ValueError(f"metric '{metric.name}': a {metric.kind} needs a judge")
            if metric.kind in ("rate", "recall") and metric.rate_label is None:
                raise ValueError(f"metric '{metric.name}': a {metric.kind} needs a rate_label")
            if metric.kind == "recall" and metric.rate_label not in self.labels:
                raise ValueError(f"metric '{metric.name}': '{metric.rate_label}' is none of {', '.join(self.labels)}")
        return self

    @property
    def labels(self) -> tuple[str, ...]:
        """The two labels that a target may be; none where nothing is compared with a target."""
        classifies = any(metric.kind not in ("score", "rate") for metric in self.metrics)
        return self.choices or (LABELS if classifies else ())


class Columns(BaseModel):
    """Which column of a document holds what."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    instruction: str
    input: str | None = None
    answer: str | None = None
    target: str | None = None
    labels: str | None = None
    cluster: str | None = None

    def named(self) -> dict[str, str]:
        """Role → column, for the columns that there are."""
        return self.model_dump(exclude_none=True)

    def messages(self, doc: Doc) -> tuple[Message, ...]:
        """What a document asks; an empty input is no message, an empty answer is one."""
        given = [(key, doc[column]) for key, column in self.named().items() if key in _ROLES]
        return tuple(Message(role=_ROLES[key], content=content) for key, content in given if content or key != "input")
