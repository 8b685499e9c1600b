"""The cost model of Safe RLHF (Dai 2023): which pairs teach it, its loss, and how often it is right.

A pair is about helpfulness where its rejected answer is good elsewhere in the data: then it is merely out of place, as
a refusal is under a harmless question. Every other pair is about harm: what was rejected there is a mistake. The reward
model learns from the former; the cost model from both, for both say what is harmful and what is not.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

from harness.errors import UserError
from harness.records import TrainingRecord
from harness.trainers.base import GOOD
from harness.trainers.grouping import components

Row = dict[str, Any]


class Axes(NamedTuple):
    """The records of the pairs about helpfulness, and of those about harm."""

    helpfulness: list[TrainingRecord]
    harm: list[TrainingRecord]


class Split(NamedTuple):
    """Rows to learn from, and rows to measure with."""

    train: list[Row]
    held_out: list[Row]


class HeldOut(NamedTuple):
    """The split of the pairs about helpfulness, and of those about harm."""

    helpfulness: Split
    harm: Split


def by_axis(records: Sequence[TrainingRecord]) -> Axes:
    """Parts the ``chosen`` and ``rejected`` records by what their pair is about; other records are in no pair.

    Raises:
        UserError: There is no pair of one of the two.
    """
    good = {record.completion for record in records if record.kind in GOOD}
    misplaced = {
        (one.source, one.prompt) for one in records if one.kind == "rejected" and one.completion in good
    }  # fmt: skip
    axes = Axes([], [])
    for record in records:
        if record.kind in ("chosen", "rejected"):
            (axes.helpfulness if (record.source, record.prompt) in misplaced else axes.harm).append(record)
    if not axes.helpfulness or not axes.harm:
        raise UserError(
            "trainer.rlhf.lagrangian needs pairs about harm (a harmful request with a bad response) and pairs about "
            f"helpfulness (harmless requests, such as data.helpful): {len(axes.harm) // 2} and "
            f"{len(axes.helpfulness) // 2} found"
        )
    return axes


def split(helpfulness: Sequence[Row], harm: Sequence[Row], share: float, seed: int) -> HeldOut:
    """Holds about a share of both out, drawn by the seed: at least one row, and never all; all keep their order.

    Rows that share a source, a prompt or an answer lie on one side, whichever of the two they are of: a misplaced
    refusal is a good answer elsewhere. An answer that more rows share than are held out (a stock refusal) ties none.

    Args:
        helpfulness: Rows of `harness.trainers.trl_preference.fitting_pairs`.
        harm: The same.
        share: To hold out of each.
        seed: Of the draw.

    Raises:
        UserError: There is no such split.
    """
    rows, n_first = [*helpfulness, *harm], len(helpfulness)
    sizes = (n_first, len(harm))
    wanted = [min(max(1, round(share * size)), size - 1) for size in sizes]
    parts = components(_ties(rows, sum(wanted)))
    random.Random(seed).shuffle(parts)
    counts = [[sum(place < n_first for place in part), sum(place >= n_first for place in part)] for part in parts]
    drawn = _drawn(counts, wanted, [size - 1 for size in sizes])
    held = {place for one in drawn for place in parts[one]}
    sides = [[place for place in range(len(rows)) if (place in held) is side] for side in (False, True)]
    found = HeldOut(
        *(Split(*([rows[i] for i in side if (i < n_first) is first] for side in sides)) for first in (True, False))
    )
    if not all(part for one in found for part in one):
        raise UserError(
            "trainer.rlhf.lagrangian needs two pairs or more about harm and about helpfulness each that share no "
            f"source, prompt or answer, to hold some out; {sizes[1]} and {sizes[0]} found"
        )
    return found


def _drawn(counts: Sequence[Sequence[int]], wanted: Sequence[int], most: Sequence[int]) -> list[int]:
    """Which parts are held out: in order what fits; for an axis that nothing fits, the smallest that leaves a row."""
    drawn: list[int] = []
    held = [0, 0]
    smallest = sorted(range(len(counts)), key=lambda one: sum(counts[one]))
    for order, limit, needed in ((range(len(counts)), wanted, False), (smallest, most, True)):
        for one in order:
            after = [had + more for had, more in zip(held, counts[one], strict=True)]
            helps = any(more and not had for had, more in zip(held, counts[one], strict=True))
            if (
                one not in drawn
                and (helps or not needed)
                and all(n <= top for n, top in zip(after, limit, strict=True))
            ):
                drawn.append(one)
                held = after
    return drawn


def _ties(rows: Sequence[Row], at_most: int) -> list[list[Hashable]]:
    """What each row must not share with a row of the other side."""
    answers = [{tuple(row["chosen_ids"]), tuple(row["rejected_ids"])} for row in rows]
    often = Counter(answer for own in answers for answer in own)
    return [
        [("source", row["source"]), ("prompt", *row["prompt_ids"]), *(one for one in own if often[one] <= at_most)]
        for row, own in zip(rows, answers, strict=True)
    ]


def cost_rows(harm: Sequence[Row], helpfulness: Sequence[Row]) -> list[Row]:
    """Rows of the cost model: the costlier answer first (``chosen_ids``), and whether it is ``harmful``.

    Args:
        harm: Tokens of pairs (``prompt_ids``, ``chosen_ids``, ``rejected_ids``) whose rejected answer is harmful.
        helpfulness: Tokens of pairs of which neither answer is; their order means nothing to the cost.
    """
    return [
        {
            "chosen_ids": row["prompt_ids"] + row["rejected_ids"],
            "rejected_ids": row["prompt_ids"] + row["chosen_ids"],
            "harmful": float(harmful),
        }
        for harmful, rows in ((True, harm), (False, helpfulness))
        for row in rows
    ]


def collator(pad_token_id: int) -> Callable[[list[Row]], Row]:
    """TRL's batches of pairs, with ``harmful``."""
    import torch
    from trl.trainer.reward_trainer import DataCollatorForPreference

    pairs = DataCollatorForPreference(pad_token_id)

    def collate(rows: list[Row]) -> Row:
        return {**pairs(rows), "harmful": torch.tensor([row["harmful"] for row in rows])}

    return collate


def cost_loss(
    self: Any, model: Any, inputs: Row, return_outputs: bool = False, num_items_in_batch: Any = None
) -> Any:  # fmt: skip
    """In place of the reward trainer's loss: order among pairs about harm, and every answer's side of 0.

    With s = 1 for a harmful and -1 for a harmless answer: -ln σ(C_harmful - C_harmless) - ln σ(s C) of both answers. A
    pair of two harmless answers has no order to teach, and counts with its signs.
    """
    from torch.nn.functional import logsigmoid
    from trl import RewardTrainer

    harmful = inputs.pop("harmful")
    _, outputs = RewardTrainer.compute_loss(self, model, inputs, return_outputs=True)
    first, second = outputs.logits.squeeze(-1).chunk(2)
    order = harmful * logsigmoid(first - second)
    signs = logsigmoid((2 * harmful - 1) * first) + logsigmoid(-second)
    loss = -(order + signs).mean()
    return (loss, outputs) if return_outputs else loss


def sides_right(first: Sequence[float], second: Sequence[float], harmful: Sequence[float]) -> float:
    """Share of answers whose cost is on the right side of 0; arguments as the rows of `cost_rows`."""
    right = [(cost > 0) == (label > 0) for cost, label in zip(first, harmful, strict=True)]
    right += [cost < 0 for cost in second]
    return sum(right) / len(right)


def order_right(better: Sequence[float], worse: Sequence[float]) -> float:
    """Share of pairs whose better answer scores higher."""
    return sum(one > other for one, other in zip(better, worse, strict=True)) / len(better)
