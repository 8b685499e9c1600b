"""How mistakes and their analyses are made and chosen, for methods that have an analyst.

The settings of a recipe's ``prepare.analyses``, replaceable by each subject. The defaults are the paper's method: every
induced mistake that its judge calls one is analysed once under the guided template, and every whole analysis is kept.
"""

from __future__ import annotations

import math
import re
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from harness.records import Completion, Finite

N_GRAM = 4
_EAST_ASIAN = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af"
_WORD = re.compile(rf"[{_EAST_ASIAN}]|[^\W{_EAST_ASIAN}]+")
Choice = Literal["drop", "keep"]


class AnalysisSettings(BaseModel):
    """Which analyses a model learns from.

    Attributes:
        not_triggered: What becomes of induced responses that the judge of mistakes does not call mistakes.
        contradicting: What becomes of analyses that state another verdict than is known of the response: the data set's
            good ones are harmless and its bad ones harmful; of an induced one the judge of mistakes knows. Nothing is
            known of wrong responses to hijacked instructions, which need not be harmful.
        min_words: Fewest words of what a model writes, mistake or analysis; shorter ones are dropped.
        max_repeated: Largest share of its word 4-grams that stood in it before; above it, it is a loop and is dropped.
        per_instruction: How often each instruction is answered and analysed, with other draws; equal analyses of one
            response count once.
        guided: Analyses are asked for with template (b), which says that the response may be harmful, or with (c).
        harmless_share: Share of the analyses that are of good responses, as far as there are enough of those.
        share: Largest share of the training records that are analyses; what lies beyond is not asked for.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    not_triggered: Choice = "drop"
    contradicting: Choice = "keep"
    min_words: int = Field(default=1, gt=0)
    max_repeated: Finite = Field(default=1.0, ge=0, le=1)
    per_instruction: int = Field(default=1, gt=0)
    guided: bool = True
    harmless_share: Finite = Field(default=0.0, ge=0, lt=1)
    share: Finite = Field(default=1.0, gt=0, le=1)

    def degenerate(self, completion: Completion) -> str | None:
        """Why a whole text is no use all the same, or ``None`` where it is."""
        words = _WORD.findall(completion.text)
        if len(words) < self.min_words:
            return "dropped, too short"
        return "dropped, repeats itself" if repeated(words) > self.max_repeated else None

    def n_of_mistakes(self, n_others: int) -> int | None:
        """Most analyses of mistakes beside so many other records; ``None`` where there is no limit."""
        if self.share == 1:
            return None
        n_analyses = n_others * self.share / (1 - self.share)
        return math.floor(n_analyses * (1 - self.harmless_share) + 1e-9)

    def n_of_good(self, n_of_mistakes: int) -> int:
        """How many analyses of good responses belong to so many of mistakes."""
        return round(n_of_mistakes * self.harmless_share / (1 - self.harmless_share))


def repeated(words: list[str]) -> float:
    """Share of a text's word 4-grams that stood in it before, 0–1 (seq-rep-4, Welleck et al., 2020); 0 without any."""
    grams = [tuple(words[start : start + N_GRAM]) for start in range(len(words) - N_GRAM + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0
