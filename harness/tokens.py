"""Training records as tokens, with the loss on the completion and its end alone.

Prompt and completion are tokenised apart, as they are at inference, so that no token ever spans the two. Reads
records, gives rows of ``input_ids`` and ``labels`` (-100 where there is no loss).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from harness.errors import UserError
from harness.records import TrainingRecord

NO_LOSS = -100


class TokenRows(NamedTuple):
    """Rows for a causal language model, and how many records were too long for one."""

    rows: list[dict[str, list[int]]]
    n_too_long: int


class Pair(NamedTuple):
    """Two answers to one prompt, the better one first."""

    prompt: str
    chosen: str
    rejected: str


class PairRows(NamedTuple):
    """Rows of ``position`` (of the pair), ``prompt_ids``, ``chosen_ids``, ``rejected_ids``; some pairs do not fit."""

    rows: list[dict[str, Any]]
    n_too_long: int


class SpecialTokens(NamedTuple):
    """What stands before a prompt and after an answer, as text; ``begin`` is empty where the tokenizer adds nothing."""

    begin: str
    end: str


def special_tokens(tokenizer: Any) -> SpecialTokens:
    """The tokens that `token_rows` adds to plain prompts and answers, for tools that add none of their own.

    Raises:
        UserError: The tokenizer has no end-of-text token.
    """
    end_token(tokenizer)
    begins = tokenizer.bos_token_id is not None and prompt_tokens(tokenizer, "", False) == [tokenizer.bos_token_id]
    return SpecialTokens(tokenizer.bos_token if begins else "", tokenizer.eos_token)


def end_token(tokenizer: Any) -> int:
    """The end-of-text token.

    Raises:
        UserError: The tokenizer has none, so that a model could never learn to stop.
    """
    if tokenizer.eos_token_id is None:
        raise UserError(
            f"{tokenizer.name_or_path}: its tokenizer has no end-of-text token, so a model could not learn to stop: "
            'name one of its tokens as "eos_token" in tokenizer_config.json'
        )
    return int(tokenizer.eos_token_id)


def chat_prompt(tokenizer: Any, prompt: str) -> str:
    """A prompt as the user turn of the tokenizer's chat template, the assistant's turn opened.

    Raises:
        UserError: The tokenizer has no chat template.
    """
    if tokenizer.chat_template is None:
        raise UserError(f"{tokenizer.name_or_path}: its tokenizer has no chat template; use other templates than chat")
    turns = [{"role": "user", "content": prompt}]
    return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))


def token_rows(tokenizer: Any, records: Sequence[TrainingRecord], max_length: int, chat: bool) -> TokenRows:
    """Rows of the records that fit; see the module."""
    rows = []
    for record in records:
        prompt = prompt_tokens(tokenizer, record.prompt, chat)
        completion = _completion_ids(tokenizer, record.completion)
        if len(prompt) + len(completion) <= max_length:
            rows.append({"input_ids": prompt + completion, "labels": [NO_LOSS] * len(prompt) + completion})
    return TokenRows(rows, len(records) - len(rows))


def pair_rows(tokenizer: Any, pairs: Sequence[Pair], max_length: int, chat: bool) -> PairRows:
    """Rows of the pairs both of whose answers fit."""
    rows = []
    for position, pair in enumerate(pairs):
        prompt = prompt_tokens(tokenizer, pair.prompt, chat)
        chosen, rejected = (_completion_ids(tokenizer, text) for text in (pair.chosen, pair.rejected))
        if len(prompt) + max(len(chosen), len(rejected)) <= max_length:
            rows.append({"position": position, "prompt_ids": prompt, "chosen_ids": chosen, "rejected_ids": rejected})
    return PairRows(rows, len(pairs) - len(rows))


def prompt_tokens(tokenizer: Any, prompt: str, chat: bool) -> list[int]:
    """A prompt as the model reads it: in training as at inference."""
    return _prompt_ids(tokenizer, chat_prompt(tokenizer, prompt) if chat else prompt)


def _completion_ids(tokenizer: Any, completion: str) -> list[int]:
    ids: list[int] = tokenizer(completion, add_special_tokens=False)["input_ids"]
    return ids + [end_token(tokenizer)]


def _prompt_ids(tokenizer: Any, prompt: str) -> list[int]:
    begun = bool(tokenizer.bos_token) and prompt.startswith(tokenizer.bos_token)
    ids: list[int] = tokenizer(prompt, add_special_tokens=not begun)["input_ids"]
    return ids[:-1] if ids and ids[-1] == tokenizer.eos_token_id else ids
