"""Packing: records in one block see nothing of one another, or the training is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer, MambaConfig, MambaForCausalLM

from harness.errors import UserError
from harness.records import TrainingRecord
from harness.tokens import TokenRows, token_rows
from harness.trainers import TrainerSettings, get_trainer
from harness.trainers.trl_common import Session
from harness.trainers.trl_packing import blocks, check_apart
from harness.trainers.trl_supervised import sft_trainer
from tests.tiny import make_word_llama, word

RECORDS = [
    TrainingRecord(
        prompt=f"question : {word(30 + i)} answer : ", completion=f"{word(50 + i)} is safe ." + " and" * (i % 6),
        kind="response", source=str(i),
    )
    for i in range(11)
]  # fmt: skip


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return make_word_llama(tmp_path_factory.mktemp("base"))


def rows_of(base: Path) -> TokenRows:
    return token_rows(AutoTokenizer.from_pretrained(base), RECORDS, 64, chat=False)


def log_probs(model: torch.nn.Module, ids: torch.Tensor, labels: torch.Tensor, **inputs: torch.Tensor) -> list[float]:
    """The log-probability of each token with a loss."""
    with torch.no_grad():
        found = model(input_ids=ids, use_cache=False, **inputs).logits[:, :-1].log_softmax(-1)
    targets = labels[:, 1:]
    return found.gather(-1, targets.clamp(min=0)[..., None])[..., 0][targets != -100].tolist()


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_each_token_is_as_likely_in_a_block_as_alone(base: Path, tmp_path: Path, attention: str) -> None:
    """On the very batches that the trainer reads."""
    tokens = rows_of(base)
    model = AutoModelForCausalLM.from_pretrained(base, attn_implementation=attention)
    told = TrainerSettings(steps=1, batch_size=8, micro_batch_size=4, packing=True, max_length=64)
    session = Session(base, AutoTokenizer.from_pretrained(base), told, 0, False, "cpu", tmp_path, lambda: None)
    trainer = sft_trainer(session, tokens)
    packed: list[float] = []
    n_blocks = 0
    for batch in trainer.get_train_dataloader():
        assert "attention_mask" not in batch
        n_blocks += 1
        packed += log_probs(model, batch["input_ids"], batch["labels"], position_ids=batch["position_ids"])
    alone: list[float] = []
    for row in tokens.rows:
        alone += log_probs(model, torch.tensor([row["input_ids"]]), torch.tensor([row["labels"]]))
    assert n_blocks < len(tokens.rows)
    assert sorted(packed) == pytest.approx(sorted(alone), abs=1e-5)


def test_a_packed_step_is_the_step_of_its_records(base: Path, tmp_path: Path) -> None:
    common = {"steps": 3, "learning_rate": 1e-3, "max_length": 64}
    found = []
    for name, told in (
        ("alone", {"batch_size": 11}),
        ("packed", {"batch_size": len(blocks(rows_of(base).rows, 64)), "packing": True}),
    ):
        parsed = TrainerSettings.model_validate({**common, **told})
        found.append(get_trainer("trl").train(
            base, RECORDS, parsed, 0, tmp_path / name, objective="sft", chat=False, device="cpu", progress=lambda: None
        ).metrics)  # fmt: skip
    assert found[0] == pytest.approx(found[1], rel=1e-4)


@settings(max_examples=20)
@given(st.lists(st.integers(2, 12), min_size=1, max_size=12))
def test_blocks_hold_every_record_whole_and_once(lengths: list[int]) -> None:
    rows = [{"input_ids": [n] * n, "labels": [-100] + [n] * (n - 1)} for n in lengths]
    packed = blocks(rows, 12)
    held = []
    for block in packed:
        assert len(block["input_ids"]) == sum(block["seq_lengths"]) <= 12
        start = 0
        for n in block["seq_lengths"]:
            held.append({name: block[name][start : start + n] for name in ("input_ids", "labels")})
            start += n
    assert sorted(held, key=str) == sorted(rows, key=str)


def test_a_model_that_would_mix_records_is_refused(base: Path, tmp_path: Path) -> None:
    """A state-space model carries what it has read from one record to the next."""
    tokenizer = AutoTokenizer.from_pretrained(base)
    config = MambaConfig(vocab_size=len(tokenizer), hidden_size=32, state_size=8, num_hidden_layers=1)
    MambaForCausalLM(config).save_pretrained(tmp_path / "mamba")
    tokenizer.save_pretrained(tmp_path / "mamba")
    told = TrainerSettings(steps=1, packing=True, max_length=64)
    with pytest.raises(UserError, match="see one another"):
        get_trainer("trl").train(
            tmp_path / "mamba", RECORDS, told, 0, tmp_path / "out", objective="sft", chat=False, device="cpu",
            progress=lambda: None,
        )  # fmt: skip
    assert not (tmp_path / "out").exists()
    check_apart(AutoModelForCausalLM.from_pretrained(base))
