"""RLHF with TRL: a reward model from preference pairs, then policy optimisation against it with a KL penalty.

TRL has no PPO trainer any more; the optimiser is RLOO (Ahmadian 2024) or GRPO (Shao 2024), and the recipe says which.
The reward model is a head on the same base, fitted to the pairs by the Bradley–Terry loss; the policy answers the
prompts of all records that leave room for an answer. The curves of reward, KL and length show where the policy learns
to please the reward model rather than to answer well. With ``rlhf.lagrangian`` a cost model joins it: see
`harness.trainers.lagrangian`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from typing import Any, NamedTuple

from harness.errors import UserError
from harness.records import TrainingRecord
from harness.tokens import prompt_tokens
from harness.trainers.cost_model import by_axis, collator, cost_loss, cost_rows, order_right, sides_right, split
from harness.trainers.lagrangian import LagrangianSettings, Multiplier, Rewards, constrained, updating
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
    training_dtype,
)
from harness.trainers.trl_preference import evenly, fitting_pairs

Row = dict[str, Any]
_SCORED_AT_ONCE = 64
_NO_PENALTY = sys.float_info.min  # vanishes beside any reward; TRL measures no KL where its weight is 0 itself
_UNUSED = re.compile(r"(?i)pad|reserved|unused|placeholder|dummy|control_")  # tokens that no text holds
_LOGGED = {"loss": "loss", "reward": "reward", "kl": "kl", "length": "completions/mean_length"}
_LOGGED_CONSTRAINED = {**_LOGGED, "reward": "helpfulness", "cost": "cost", "lambda": "lambda"}


class _Scoring(NamedTuple):
    """What rewards the policy.

    Attributes:
        rewards: Scores its answers.
        logged: Curve → what TRL calls it.
        curves: Of the models that score.
        counts: Of the same; ``…_n_tokens`` is what each read.
        callbacks: What happens between steps.
    """

    rewards: Rewards
    logged: Mapping[str, str]
    curves: dict[str, list[float]]
    counts: dict[str, float]
    callbacks: Sequence[Any] = ()


def rlhf(session: Session, records: Sequence[TrainingRecord]) -> Trained:
    """Trains the reward model on the pairs among the records, then the policy on all their prompts.

    Raises:
        UserError: No pair fits, or fewer prompts than a step takes.
    """
    asked = list(dict.fromkeys(record.prompt for record in records))
    prompts = _fitting_prompts(session, asked)
    lagrangian = session.settings.rlhf.lagrangian
    scoring = _plain(session, records) if lagrangian is None else _constrained(session, records, lagrangian)
    policy = _policy(session, prompts, scoring)
    read = policy.counts["n_tokens"] + sum(n for name, n in scoring.counts.items() if name.endswith("_n_tokens"))
    counts = {**scoring.counts, **policy.counts, "n_tokens": read}
    counts["n_prompts_dropped_too_long"] = float(len(asked) - len(prompts))
    return Trained(policy.model, {**policy.curves, **scoring.curves}, counts)


def _fitting_prompts(session: Session, prompts: Sequence[str]) -> list[str]:
    """The prompts that leave room for an answer, in order.

    Raises:
        UserError: A step takes more.
    """
    settings, longest = session.settings, session.longest
    room = longest - settings.rlhf.max_new_tokens
    found = [one for one in prompts if len(prompt_tokens(session.tokenizer, one, session.chat)) <= room]
    n_taken = settings.batch_size // settings.rlhf.generations
    if len(found) < n_taken:
        raise UserError(
            f"{session.base}: a step of RLHF takes {n_taken} prompts (trainer.batch_size {settings.batch_size} / "
            f"rlhf.generations {settings.rlhf.generations}), and of {len(prompts)} {len(found)} leave room for "
            f"rlhf.max_new_tokens {settings.rlhf.max_new_tokens} within {longest} tokens (max_length, context): lower "
            f"{'trainer.batch_size' if len(found) == len(prompts) else 'rlhf.max_new_tokens or trainer.batch_size'}"
        )
    return found


def _plain(session: Session, records: Sequence[TrainingRecord]) -> _Scoring:
    found = fitting_pairs(session, records)
    fitted = _reward_model(session, found.rows, session.settings.rlhf.scorer_steps(len(found.rows)))
    return _Scoring(_rewards(session, fitted.model), _LOGGED, fitted.curves, {**found.counts, **fitted.counts})


def _constrained(session: Session, records: Sequence[TrainingRecord], lagrangian: LagrangianSettings) -> _Scoring:
    helpfulness, harm = (fitting_pairs(session, axis) for axis in by_axis(records))
    counts = {name: value + harm.counts[name] for name, value in helpfulness.counts.items()}
    useful, harmful = split(helpfulness.rows, harm.rows, lagrangian.held_out, session.seed)
    steps = session.settings.rlhf.scorer_steps(len(helpfulness.rows) + len(harm.rows))
    reward = _reward_model(session, useful.train, steps)
    cost = _cost_model(session, cost_rows(harmful.train, useful.train), steps)
    multiplier = Multiplier(lagrangian)
    score = constrained(_rewards(session, reward.model), _rewards(session, cost.model), multiplier)
    held_out = cost_rows(harmful.held_out, useful.held_out)
    counts |= {
        "n_pairs_harm": float(len(harm.rows)),
        "n_pairs_held_out": float(len(held_out)),
        **reward.counts,
        **cost.counts,
        "reward_accuracy": order_right(*_pair_scores(reward.model, _preferred(useful.held_out))),
        "cost_accuracy": sides_right(*_pair_scores(cost.model, held_out), [row["harmful"] for row in held_out]),
    }
    return _Scoring(score, _LOGGED_CONSTRAINED, {**reward.curves, **cost.curves}, counts, [updating(multiplier)])


def _reward_model(session: Session, pairs: Sequence[Row], n_steps: int) -> Trained:
    model, log = _scorer(session, _preferred(pairs), n_steps)
    curves = {"reward_model_loss": curve(log, "loss"), "reward_model_accuracy": curve(log, "accuracy")}
    last = curves["reward_model_accuracy"][-max(1, len(log) // 4) :]
    counts = {"reward_model_n_tokens": tokens_read(log)}
    return Trained(model, curves, counts | ({"reward_model_accuracy": sum(last) / len(last)} if last else {}))


def _cost_model(session: Session, rows: Sequence[Row], n_steps: int) -> Trained:
    collate = collator(_padding(session).pad_token_id)
    model, log = _scorer(session, rows, n_steps, cost_loss, data_collator=collate)
    return Trained(model, {"cost_model_loss": curve(log, "loss")}, {"cost_model_n_tokens": tokens_read(log)})


def _preferred(pairs: Sequence[Row]) -> list[Row]:
    return [{name: row["prompt_ids"] + row[name] for name in ("chosen_ids", "rejected_ids")} for row in pairs]


class _Scorer(NamedTuple):
    """A model that gives an answer one number, ready to score, and the log of its training."""

    model: Any
    log: list[dict[str, float]]


def _scorer(
    session: Session, rows: Sequence[Row], n_steps: int, loss: Callable[..., Any] | None = None, **given: Any
) -> _Scorer:
    from datasets import Dataset
    from transformers import AutoModelForSequenceClassification, set_seed
    from trl import RewardConfig, RewardTrainer

    settings, tokenizer = session.settings.rlhf, _padding(session)
    set_seed(session.seed)
    model = AutoModelForSequenceClassification.from_pretrained(
        session.base,
        num_labels=1,
        dtype=training_dtype(session.settings),
        use_safetensors=True,
        trust_remote_code=False,
    )
    model.config.pad_token_id = tokenizer.pad_token_id
    own = {
        "max_steps": n_steps,
        "learning_rate": settings.reward_learning_rate,
        "per_device_train_batch_size": settings.reward_batch_size,
        "max_length": None,
        "remove_unused_columns": False,
    }
    trainer = silent(RewardTrainer, _prepare_dataset=as_it_is, **evenly(RewardTrainer, loss))(
        model=model,
        args=one_device(RewardConfig(**arguments(session, **own))),
        train_dataset=Dataset.from_list(list(rows)),
        processing_class=tokenizer,
        peft_config=lora(session.settings, "SEQ_CLS"),
        **given,
    )
    for weight in trainer.model.parameters():  # the head of a bfloat16 base: it would lose its steps to rounding
        weight.data = weight.data.float() if weight.requires_grad else weight.data
    log = run(trainer, session)
    return _Scorer(trainer.model.eval(), log)


def _padding(session: Session) -> Any:
    """A copy of the tokenizer that pads with what ends no answer: a scorer reads the last token that is no padding.

    Raises:
        UserError: There is no such token.
    """
    tokenizer = deepcopy(session.tokenizer)
    if tokenizer.pad_token_id not in (None, tokenizer.eos_token_id):
        return tokenizer
    special = [str(token) for _, token in sorted(tokenizer.added_tokens_decoder.items()) if token.special]
    spare = [*filter(_UNUSED.search, special), *([tokenizer.unk_token] if tokenizer.unk_token else [])]
    free = [token for token in spare if token not in (tokenizer.eos_token, tokenizer.bos_token)]
    if not free:
        raise UserError(
            f"{session.base}: its tokenizer has no token to pad with but the one that ends an answer, so a reward "
            "model could not see whether an answer ends; rlhf needs a tokenizer with a pad_token of its own"
        )
    tokenizer.pad_token = free[0]
    return tokenizer


def _rewards(session: Session, model: Any) -> Rewards:
    """Scores answers on the very tokens that the policy wrote, so that an answer that never ends is scored as such."""

    def reward(prompts: list[Any], completion_ids: list[list[int]], **_: Any) -> list[float]:
        rows = [
            prompt_tokens(session.tokenizer, prompt, session.chat) + list(completion)
            for prompt, completion in zip(prompts, completion_ids, strict=True)
        ]
        return _scores(model, rows)

    return reward


def _pair_scores(model: Any, rows: Sequence[Row]) -> tuple[list[float], list[float]]:
    first, second = ([row[name] for row in rows] for name in ("chosen_ids", "rejected_ids"))
    return _scores(model, first), _scores(model, second)


def _scores(model: Any, rows: Sequence[list[int]]) -> list[float]:
    import torch

    pad = model.config.get_text_config().pad_token_id
    half = any(weight.dtype == torch.bfloat16 for weight in model.parameters())
    scores: list[float] = []
    for start in range(0, len(rows), _SCORED_AT_ONCE):
        batch = rows[start : start + _SCORED_AT_ONCE]
        width = max(map(len, batch))
        ids = torch.tensor([row + [pad] * (width - len(row)) for row in batch], device=model.device)
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in batch], device=model.device)
        with torch.inference_mode(), torch.autocast(model.device.type, torch.bfloat16, half):  # as it was trained
            scores += model(input_ids=ids, attention_mask=mask).logits[:, 0].float().tolist()
    return scores


def _policy(session: Session, prompts: Sequence[str], scoring: _Scoring) -> Trained:
    import trl
    from datasets import Dataset
    from transformers import set_seed

    settings = session.settings.rlhf
    name = settings.optimiser.upper()
    trainer_class, config_class = getattr(trl, f"{name}Trainer"), getattr(trl, f"{name}Config")

    def tokenised(self: Any, asked: list[str]) -> tuple[list[list[int]], None, dict[str, Any]]:
        return [prompt_tokens(session.tokenizer, prompt, session.chat) for prompt in asked], None, {}

    set_seed(session.seed)
    own = {
        "max_steps": settings.steps,
        "num_generations": settings.generations,
        "max_completion_length": settings.max_new_tokens,
        "temperature": settings.temperature,
        "beta": settings.kl or _NO_PENALTY,
        "shuffle_dataset": True,
    }
    trainer = silent(trainer_class, _tokenize_prompts=tokenised)(
        model=load_model(session.base, session.settings),
        reward_funcs=scoring.rewards,
        args=one_device(config_class(**arguments(session, **own))),
        train_dataset=Dataset.from_list([{"prompt": prompt} for prompt in prompts]),
        processing_class=deepcopy(session.tokenizer),  # TRL gives one without a pad token the end's, to be saved
        callbacks=list(scoring.callbacks),
        peft_config=lora(session.settings),
    )
    log = run(trainer, session)
    curves = {name: curve(log, logged) for name, logged in scoring.logged.items()}
    losses = curves["loss"]
    ends = {f"{name}_last": values[-1] for name, values in curves.items() if name in ("kl", "cost", "lambda")}
    counts = {
        "n_steps": float(len(losses)),
        "n_prompts": float(len(prompts)),
        "n_tokens": tokens_read(log),
        "n_loss_tokens_seen": float(round(sum(curves["length"]) * session.settings.batch_size)),
        "loss_first": losses[0],
        "loss_last": losses[-1],
        "reward_first": curves["reward"][0],
        "reward_last": curves["reward"][-1],
        **ends,
    }
    return Trained(trainer.model, curves, counts)
