"""RLHF with TRL: a reward model from preference pairs, then policy optimisation against it with a KL penalty.

TRL has no PPO trainer any more; the optimiser is RLOO (Ahmadian 2024) or GRPO (Shao 2024), and the recipe says which.
The reward model is a head on the same base, fitted to the pairs by the Bradley–Terry loss; the policy answers the
prompts of all records. The curves of reward, KL and length show where the policy learns to please the reward model
rather than to answer well.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from harness.records import TrainingRecord
from harness.tokens import prompt_tokens
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
from harness.trainers.trl_preference import fitting_pairs

Rewards = Callable[..., list[float]]
_SCORED_AT_ONCE = 64


def rlhf(session: Session, records: Sequence[TrainingRecord]) -> Trained:
    """Trains the reward model on the pairs among the records, then the policy on all their prompts."""
    reward_model, fitted = _reward_model(session, records)
    prompts = list(dict.fromkeys(record.prompt for record in records))
    policy = _policy(session, prompts, _rewards(session, reward_model))
    curves = {**policy.curves, **{f"reward_model_{name}": values for name, values in fitted.curves.items()}}
    read = {"n_tokens": policy.counts["n_tokens"] + fitted.counts["reward_model_n_tokens"]}
    return Trained(policy.model, curves, {**fitted.counts, **policy.counts, **read})


def _reward_model(session: Session, records: Sequence[TrainingRecord]) -> tuple[Any, Trained]:
    from datasets import Dataset
    from transformers import AutoModelForSequenceClassification, set_seed
    from trl import RewardConfig, RewardTrainer

    found = fitting_pairs(session, records)
    rows = [
        {"chosen_ids": row["prompt_ids"] + row["chosen_ids"], "rejected_ids": row["prompt_ids"] + row["rejected_ids"]}
        for row in found.rows
    ]
    settings = session.settings.rlhf
    set_seed(session.seed)
    model = AutoModelForSequenceClassification.from_pretrained(
        session.base,
        num_labels=1,
        dtype=training_dtype(session.settings),
        use_safetensors=True,
        trust_remote_code=False,
    )
    model.config.pad_token_id = session.tokenizer.pad_token_id
    own = {
        "max_steps": settings.reward_steps(len(rows)),
        "learning_rate": settings.reward_learning_rate,
        "per_device_train_batch_size": settings.reward_batch_size,
        "max_length": None,
    }
    trainer = silent(RewardTrainer, _prepare_dataset=as_it_is)(
        model=model,
        args=one_device(RewardConfig(**arguments(session, **own))),
        train_dataset=Dataset.from_list(rows),
        processing_class=session.tokenizer,
        peft_config=lora(session.settings, "SEQ_CLS"),
    )
    log = run(trainer, session)
    curves = {"loss": curve(log, "loss"), "accuracy": curve(log, "accuracy")}
    last = curves["accuracy"][-max(1, len(log) // 4) :]
    counts = {**found.counts, "reward_model_n_tokens": tokens_read(log)}
    counts |= {"reward_model_accuracy": sum(last) / len(last)} if last else {}
    return trainer.model.eval(), Trained(None, curves, counts)


def _rewards(session: Session, model: Any) -> Rewards:
    """Scores answers on the very tokens that the policy wrote, so that an answer that never ends is scored as such."""
    import torch

    pad = session.tokenizer.pad_token_id

    def reward(prompts: list[Any], completion_ids: list[list[int]], **_: Any) -> list[float]:
        rows = [
            prompt_tokens(session.tokenizer, prompt, session.chat) + list(completion)
            for prompt, completion in zip(prompts, completion_ids, strict=True)
        ]
        scores: list[float] = []
        for start in range(0, len(rows), _SCORED_AT_ONCE):
            batch = rows[start : start + _SCORED_AT_ONCE]
            width = max(map(len, batch))
            ids = torch.tensor([row + [pad] * (width - len(row)) for row in batch], device=model.device)
            mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in batch], device=model.device)
            with torch.inference_mode():
                scores += model(input_ids=ids, attention_mask=mask).logits[:, 0].float().tolist()
        return scores

    return reward


def _policy(session: Session, prompts: Sequence[str], rewards: Rewards) -> Trained:
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
        "beta": settings.kl,
        "shuffle_dataset": True,
    }
    trainer = silent(trainer_class, _tokenize_prompts=tokenised)(
        model=load_model(session.base, session.settings),
        reward_funcs=rewards,
        args=one_device(config_class(**arguments(session, **own))),
        train_dataset=Dataset.from_list([{"prompt": prompt} for prompt in prompts]),
        processing_class=session.tokenizer,
        peft_config=lora(session.settings),
    )
    log = run(trainer, session)
    names = {"loss": "loss", "reward": "reward", "kl": "kl", "length": "completions/mean_length"}
    curves = {name: curve(log, logged) for name, logged in names.items()}
    losses = curves["loss"]
    counts = {
        "n_steps": float(len(losses)),
        "n_prompts": float(len(prompts)),
        "n_tokens": tokens_read(log),
        "n_loss_tokens_seen": float(round(sum(curves["length"]) * session.settings.batch_size)),
        "loss_first": losses[0],
        "loss_last": losses[-1],
        "reward_first": curves["reward"][0],
        "reward_last": curves["reward"][-1],
        "kl_last": curves["kl"][-1],
    }
    return Trained(trainer.model, curves, counts)
