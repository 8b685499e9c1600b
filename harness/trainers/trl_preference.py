"""Direct preference optimisation with TRL: DPO on pairs (Rafailov 2023), KTO on single answers (Ethayarajh 2024).

Records of kind ``chosen`` and ``rejected`` with the same source and prompt are a pair; for KTO every ``chosen`` and
``response`` record is desirable and every ``rejected`` one is not. The base is the reference that the loss holds on to.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from harness.errors import UserError
from harness.records import TrainingRecord
from harness.tokens import Pair, pair_rows
from harness.trainers.trl_common import (
    Session,
    Trained,
    arguments,
    as_it_is,
    curve,
    load_model,
    lora,
    one_device,
    run,
    silent,
    tokens_read,
)

_ANSWERS = ("chosen_ids", "rejected_ids", "completion_ids")


class _Rows(NamedTuple):
    """Tokens to learn from, and what became of the records."""

    rows: list[dict[str, Any]]
    counts: dict[str, float]


def preference_pairs(records: Sequence[TrainingRecord]) -> list[Pair]:
    """The pairs among the records, in order."""
    chosen = {(one.source, one.prompt): one for one in records if one.kind == "chosen"}
    rejected = [one for one in records if one.kind == "rejected" and (one.source, one.prompt) in chosen]
    return [Pair(one.prompt, chosen[one.source, one.prompt].completion, one.completion) for one in rejected]


def fitting_pairs(session: Session, records: Sequence[TrainingRecord]) -> _Rows:
    """The tokens of the pairs that fit.

    Raises:
        UserError: There is none.
    """
    pairs = preference_pairs(records)
    tokens = pair_rows(session.tokenizer, pairs, session.longest, session.chat)
    if not tokens.rows:
        raise UserError(
            f"{session.base}: no preference pair can be trained on ({len(pairs)} made, {tokens.n_too_long} longer than "
            f"{session.longest} tokens)"
        )
    return _Rows(tokens.rows, {"n_pairs": float(len(tokens.rows)), "n_dropped_too_long": float(tokens.n_too_long)})


def dpo(session: Session, records: Sequence[TrainingRecord]) -> Trained:
    """Trains on the pairs; ``settings.beta`` is DPO's."""
    from trl import DPOConfig, DPOTrainer

    found = fitting_pairs(session, records)
    own = {"beta": session.settings.beta, "max_length": None, "max_steps": _n_steps(session, found.rows)}
    return _optimise(session, found, DPOTrainer, DPOConfig, own)


def kto(session: Session, records: Sequence[TrainingRecord]) -> Trained:
    """Trains on single answers; the rarer side is weighted up to equal the other."""
    from trl import KTOConfig, KTOTrainer

    rows = []
    pairs = [Pair(one.prompt, one.completion, one.completion) for one in records]
    tokens = pair_rows(session.tokenizer, pairs, session.longest, session.chat)
    for row in tokens.rows:
        desirable = records[row["position"]].kind != "rejected"
        rows.append({"prompt_ids": row["prompt_ids"], "completion_ids": row["chosen_ids"], "label": desirable})
    n_good = sum(row["label"] for row in rows)
    if not 0 < n_good < len(rows):
        raise UserError(f"{session.base}: KTO needs good and bad answers ({n_good} good of {len(rows)})")
    size = session.settings.batch_size
    if len(rows) < size:
        raise UserError(f"{session.base}: {len(rows)} answers are fewer than trainer.batch_size ({size})")
    for start in range(0, len(rows), size):  # KTO's estimate of the KL: each answer with a neighbour's prompt
        group = rows[start : start + size]
        for place, row in enumerate(group):
            row["KL_completion_ids"] = group[place - 1]["completion_ids"]
    n_bad = len(rows) - n_good
    own = {
        "beta": session.settings.beta,
        "max_length": None,
        "max_steps": _n_steps(session, rows),
        "desirable_weight": max(1.0, n_bad / n_good),
        "undesirable_weight": max(1.0, n_good / n_bad),
    }
    counts = {"n_records": float(len(rows)), "n_dropped_too_long": float(tokens.n_too_long)}
    return _optimise(session, _Rows(rows, counts), KTOTrainer, KTOConfig, own)


def _n_steps(session: Session, rows: Sequence[dict[str, Any]]) -> int:
    answers = [(len(row["prompt_ids"]), len(row[name])) for row in rows for name in _ANSWERS if name in row]
    return session.settings.n_steps(len(rows), sum(prompt + answer for prompt, answer in answers))


def _optimise(session: Session, found: _Rows, trainer: Any, config: Any, own: dict[str, Any]) -> Trained:
    from datasets import Dataset
    from transformers import set_seed

    set_seed(session.seed)
    made = silent(trainer, _prepare_dataset=as_it_is)(
        model=load_model(session.base, session.settings),
        args=one_device(config(**arguments(session, **own))),
        train_dataset=Dataset.from_list([{k: v for k, v in row.items() if k != "position"} for row in found.rows]),
        processing_class=session.tokenizer,
        peft_config=lora(session.settings),
    )
    log = run(made, session)
    names = {"loss": "loss", "margin": "rewards/margins", "accuracy": "rewards/accuracies", "kl": "kl"}
    curves = {name: values for name, logged in names.items() if (values := curve(log, logged))}
    losses = curves["loss"]
    n_loss_tokens = sum(len(row[name]) for row in found.rows for name in _ANSWERS if name in row)
    seen = {
        "n_tokens": tokens_read(log),
        "n_loss_tokens_seen": n_loss_tokens * session.settings.n_passes(len(found.rows), len(losses)),
    }
    counts = {"n_steps": float(len(losses)), **found.counts, **seen, "loss_first": losses[0], "loss_last": losses[-1]}
    return Trained(made.model, curves, counts)
