"""Safe RLHF's constraint (Dai 2023): the most reward whose expected cost stays within a limit, by a Lagrangian.

The policy maximises (R - λ C) / (1 + λ), with R a reward model's score of helpfulness and C a cost model's score of
harm. Between two optimiser steps λ climbs while the moving average of the cost is above the limit, and falls while it
is below. It moves in its logarithm, so it is never negative: ln λ ← ln λ + learning rate · λ · (average - limit).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from harness.records import Finite

Rewards = Callable[..., list[float]]
"""Scores answers: (prompts, completion_ids) → a score an answer."""


class LagrangianSettings(BaseModel):
    """How the constraint is held.

    Attributes:
        limit: Highest expected cost: the log-odds of harm, 0 where an answer is as likely harmful as not. Answers to
            harmless prompts count and draw the average down, so that 0 leaves room for much harm.
        lambda_init: The multiplier before the first step.
        lambda_max: The most that it may become.
        learning_rate: Of its logarithm.
        window: Latest answers over which the cost is averaged.
        held_out: Share of the pairs of each model that measures it and teaches it nothing.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    limit: Finite = -3.0
    lambda_init: Finite = Field(default=1.0, gt=0)
    lambda_max: Finite = Field(default=5.0, gt=0)
    learning_rate: Finite = Field(default=0.1, gt=0)
    window: int = Field(default=128, gt=0)
    held_out: Finite = Field(default=0.1, gt=0, lt=1)

    @model_validator(mode="after")
    def _consistent(self) -> LagrangianSettings:
        if self.lambda_init > self.lambda_max:
            raise ValueError("lambda_init is above lambda_max")
        return self


class Multiplier:
    """λ, and the costs that move it."""

    def __init__(self, settings: LagrangianSettings) -> None:
        """Starts at ``settings.lambda_init``."""
        self.settings = settings
        self.costs: deque[float] = deque(maxlen=settings.window)
        self._log = math.log(settings.lambda_init)

    @property
    def value(self) -> float:
        """λ."""
        return math.exp(self._log)

    def objective(self, reward: float, cost: float) -> float:
        """What the policy maximises for one answer; the divisor keeps its scale while λ moves."""
        return (reward - self.value * cost) / (1 + self.value)

    def observe(self, costs: Sequence[float]) -> None:
        """Takes the costs of a step's answers into the moving average."""
        self.costs.extend(costs)

    def update(self) -> None:
        """Moves λ by what was observed; call it once after each optimiser step."""
        excess = fmean(self.costs) - self.settings.limit
        moved = self._log + self.settings.learning_rate * self.value * excess
        self._log = min(moved, math.log(self.settings.lambda_max))


def constrained(reward: Rewards, cost: Rewards, multiplier: Multiplier) -> Rewards:
    """The objective as a reward function of TRL's, which logs ``helpfulness``, ``cost`` and ``lambda`` of each step.

    Args:
        reward: The reward model's scores.
        cost: The cost model's scores, harmful above 0.
        multiplier: Observes the costs, of all processes that train together; whoever trains updates it between steps.
    """
    from accelerate.utils import gather_object

    def objective(
        prompts: list[Any], completion_ids: list[list[int]], log_metric: Callable[[str, float], None], **_: Any
    ) -> list[float]:
        rewards, costs = reward(prompts, completion_ids), cost(prompts, completion_ids)
        multiplier.observe(gather_object(costs))
        told = {"helpfulness": fmean(rewards), "cost": fmean(costs), "lambda": multiplier.value}
        for name, value in told.items():
            log_metric(name, value)
        return [multiplier.objective(*scores) for scores in zip(rewards, costs, strict=True)]

    return objective


def updating(multiplier: Multiplier) -> Any:
    """A callback that moves λ after each optimiser step."""
    from transformers import TrainerCallback

    class Update(TrainerCallback):  # type: ignore[misc]
        """See `updating`."""

        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            multiplier.update()

    return Update()
