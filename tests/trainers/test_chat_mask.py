"""LoRA and full training of one recipe on a chat model: the mask token by token, the adapter, the checkpoints.

On a small random Llama with a byte-pair tokenizer and a chat template: a few made-up turns always, and 500 pairs of
PKU-SafeRLHF with a tokenizer trained on them where the data lie beside the checkout or at HARNESS_DATA.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from harness.models.weights import check_checkpoint
from harness.records import TrainingRecord
from harness.tokens import token_rows
from harness.trainers import TrainerSettings, get_trainer
from harness.trainers.trl_common import Session
from harness.trainers.trl_supervised import sft_trainer
from tests.tiny import CHAT_TEMPLATE, make_tiny_llama

DATA = Path(os.environ.get("HARNESS_DATA") or Path(__file__).resolve().parents[3] / "shared" / "data")
ROLES = "{{ '<|begin|>' }}" + CHAT_TEMPLATE
MEANINGS = ({}, {"lora": {"rank": 16, "alpha": 32}})


class World(NamedTuple):
    """A base, what it learns from, and how."""

    base: Path
    records: list[TrainingRecord]
    told: dict[str, Any]


def answer(prompt: str, completion: str, source: object) -> TrainingRecord:
    return TrainingRecord(prompt=prompt, completion=completion, kind="response", source=str(source))


def small(folder: Path) -> World:
    texts = [("Is it safe to eat the red berries?", "No, they are harmful."), ("How do I make soup?", "Peel\n and boil."),
             ("<|im_end|> a fox", " jumps "), ("Write a response", "Ünïcode 苹果 🍎"), ("Is the\n\nforest lazy?", "No.")]  # fmt: skip
    records = [answer(prompt, completion, i) for i, (prompt, completion) in enumerate(texts)]
    told = {"steps": 20, "batch_size": 4, "learning_rate": 1e-2, "max_length": 128}
    return World(make_tiny_llama(folder, chat=True), records, told)


def real(folder: Path) -> World:
    """500 pairs: a safe response to each prompt, where one of the two is safe."""
    file = DATA / "pku_saferlhf" / "saferlhf_mini_pairs.jsonl"
    if not file.is_file():
        pytest.skip("no PKU-SafeRLHF here")
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()[:500]]
    records = [
        answer(row["prompt"], row["response_1" if row["is_response_1_safe"] else "response_0"], i)
        for i, row in enumerate(rows)
    ]
    tokenizer = byte_pairs([f"{record.prompt}\n{record.completion}" for record in records])
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=256, pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id,
        bos_token_id=tokenizer.bos_token_id, tie_word_embeddings=True, initializer_range=0.1,
    )  # fmt: skip
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return World(folder, records, {"steps": 40, "batch_size": 8, "learning_rate": 1e-2, "max_length": 256})


def byte_pairs(texts: list[str]) -> Any:
    from tokenizers import ByteLevelBPETokenizer

    core = ByteLevelBPETokenizer()
    specials = ["<|pad|>", "<|begin|>", "<|im_start|>", "<|im_end|>"]
    core.train_from_iterator(texts, vocab_size=2000, special_tokens=specials, show_progress=False)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core._tokenizer, pad_token="<|pad|>", bos_token="<|begin|>", eos_token="<|im_end|>",
        clean_up_tokenization_spaces=False,
    )  # fmt: skip
    tokenizer.chat_template = ROLES
    return tokenizer


@pytest.fixture(scope="module", params=[small, real], ids=["small", "real"])
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> World:
    torch.set_num_threads(1)
    made: World = request.param(tmp_path_factory.mktemp("world"))
    return made


def test_the_mask_covers_exactly_the_completion_and_its_end(world: World, tmp_path: Path) -> None:
    """Of every row, as the trainer's own loader gives it, against what the template renders of the whole dialogue."""
    tokenizer = AutoTokenizer.from_pretrained(world.base)
    told = TrainerSettings.model_validate(world.told)
    tokens = token_rows(tokenizer, world.records, told.max_length, chat=True)
    fitting, expected = {}, []
    for record in world.records:
        user = [{"role": "user", "content": record.prompt}]
        prompt = tokenizer.apply_chat_template(user, tokenize=False, add_generation_prompt=True)
        whole = tokenizer.apply_chat_template(
            [*user, {"role": "assistant", "content": record.completion}], tokenize=False
        )
        assert whole.startswith(prompt)
        ids = [tokenizer(text, add_special_tokens=False).input_ids for text in (prompt, record.completion)]
        if sum(map(len, ids)) + 1 <= told.max_length:
            fitting[len(expected)] = (ids[0], [*ids[1], tokenizer.eos_token_id], whole)
            expected.append((tuple(ids[0]), (*ids[1], tokenizer.eos_token_id)))
    assert len(tokens.rows) == len(fitting) == len(world.records) - tokens.n_too_long
    session = Session(world.base, tokenizer, told, 0, True, "cpu", tmp_path, lambda: None)
    wholes = {(tuple(prompt), tuple(learnt)): whole for prompt, learnt, whole in fitting.values()}
    seen = []
    for batch in sft_trainer(session, tokens).get_train_dataloader():
        for ids, labels, mask in zip(batch["input_ids"], batch["labels"], batch["attention_mask"], strict=True):
            masked, learnt = ids[(labels == -100) & (mask == 1)].tolist(), labels[labels != -100].tolist()
            n_prompt, n_all = len(masked), int(mask.sum())
            assert mask.tolist() == [1] * n_all + [0] * (len(mask) - n_all)
            assert labels.tolist() == [-100] * n_prompt + learnt + [-100] * (len(mask) - n_all)
            assert ids.tolist()[n_prompt:n_all] == learnt
            assert tokenizer.decode(ids[:n_all]) == wholes[tuple(masked), tuple(learnt)].removesuffix("\n")
            seen.append((tuple(masked), tuple(learnt)))
    assert sorted(seen) == sorted(expected)
    assert {row[0][0] for row in expected} == {
        tokenizer.bos_token_id or tokenizer.convert_tokens_to_ids("<|im_start|>")
    }


@pytest.mark.parametrize("more", MEANINGS, ids=["full", "lora"])
def test_one_recipe_learns_in_full_and_by_adapters_and_its_checkpoint_loads(
    world: World, tmp_path: Path, more: dict[str, Any]
) -> None:
    settings = TrainerSettings.model_validate({**world.told, **more})
    out = tmp_path / "out"
    result = get_trainer("trl").train(
        world.base, world.records, settings, 0, out, objective="sft", chat=True, device="cpu", progress=lambda: None
    )
    losses = json.loads((out / "training_log.json").read_text())["loss"]
    assert sum(losses[-5:]) < 0.98 * sum(losses[:5])
    assert result.metrics["n_records"] + result.metrics["n_dropped_too_long"] == len(world.records)
    check_checkpoint(out)
    tokenizer, merged = AutoTokenizer.from_pretrained(out), AutoModelForCausalLM.from_pretrained(out)
    row = token_rows(tokenizer, world.records[:1], settings.max_length, chat=True).rows[0]
    ids = torch.tensor([row["input_ids"]])
    with torch.no_grad():
        logits = merged(ids).logits
        before = AutoModelForCausalLM.from_pretrained(world.base)(ids).logits
        assert not torch.allclose(logits, before, atol=1e-2)
        if settings.lora is None:
            assert not (out / "adapter").exists()
            return
        adapted = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(world.base), out / "adapter")
        assert torch.allclose(adapted(ids).logits, logits, atol=1e-3)
        layers = {name.rpartition(".")[2] for name in adapted.peft_config["default"].target_modules}
        assert layers == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}


def test_gradient_checkpointing_with_adapters_learns_the_same(tmp_path: Path) -> None:
    world = small(tmp_path / "base")
    losses = []
    for on in (False, True):
        told = {**world.told, **MEANINGS[1], "steps": 4, "gradient_checkpointing": on, "dtype": "bfloat16"}
        get_trainer("trl").train(
            world.base, world.records, TrainerSettings.model_validate(told), 0, tmp_path / str(on), objective="sft",
            chat=True, device="cpu", progress=lambda: None,
        )  # fmt: skip
        losses.append(json.loads((tmp_path / str(on) / "training_log.json").read_text())["loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-2)
    assert losses[0][-1] < losses[0][0]
