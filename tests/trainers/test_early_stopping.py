"""Early stopping: what is held out, when training ends, and that the best checkpoint is the one that is kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer

from harness.errors import UserError
from harness.records import TrainingRecord
from harness.tokens import token_rows
from harness.trainers import TrainerSettings, get_trainer
from harness.trainers.trl_stopping import split
from tests.tiny import make_word_llama, word


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return make_word_llama(tmp_path_factory.mktemp("base"))


def record(place: int, source: int) -> TrainingRecord:
    """Answers that no rule gives: learning the training records by heart makes the held-out ones less likely."""
    asked, answer = word(30 + source), word(60 + place * place % 37)
    text = f"{answer} is safe ." + " and" * (place % 5)
    return TrainingRecord(prompt=f"question : {asked} answer : ", completion=text, kind="response", source=str(source))


RECORDS = [record(place, place // 2) for place in range(40)]


@given(st.lists(st.integers(0, 9), min_size=2, max_size=40), st.floats(0.01, 0.9), st.integers(0, 9))
def test_whole_sources_are_held_out_until_the_share_is_reached(sources: list[int], share: float, seed: int) -> None:
    records = [record(place, source) for place, source in enumerate(sources)]
    try:
        parts = split(records, share, seed)
    except UserError:
        assert max(sources.count(source) for source in sources) > (1 - share) * len(sources) - len(sources) / 2
        return
    assert {r.source for r in parts.train}.isdisjoint(r.source for r in parts.dev)
    assert sorted([*parts.train, *parts.dev], key=str) == sorted(records, key=str)
    assert len(parts.dev) >= share * len(records)
    assert len(parts.dev) < share * len(records) + max(sources.count(source) for source in sources)
    assert split(records, share, seed) == parts


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=2, max_size=40), st.floats(0.01, 0.9))
def test_no_prompt_lies_on_both_sides(rows: list[tuple[int, int]], share: float) -> None:
    records = [
        TrainingRecord(prompt=str(prompt), completion=str(n), kind="response", source=str(source))
        for n, (source, prompt) in enumerate(rows)
    ]
    try:
        parts = split(records, share, 0)
    except UserError:
        return
    for name in ("prompt", "source"):
        assert {getattr(r, name) for r in parts.train}.isdisjoint(getattr(r, name) for r in parts.dev)
    assert [r for r in records if r in parts.dev] == parts.dev
    assert len(parts.dev) >= share * len(records)


def test_rows_of_one_prompt_with_other_responses_are_held_out_together() -> None:
    records = [
        TrainingRecord(prompt=f"p{n // 2}", completion=f"c{n}", kind="response", source=f"row-{n}") for n in range(200)
    ]
    parts = split(records, 0.1, 0)
    assert {r.prompt for r in parts.dev}.isdisjoint(r.prompt for r in parts.train)
    assert len(parts.dev) == 20


def dev_loss(checkpoint: Path, records: list[TrainingRecord]) -> float:
    """The mean loss of all tokens of the completions, one record at a time, in plain transformers."""
    tokenizer, model = AutoTokenizer.from_pretrained(checkpoint), AutoModelForCausalLM.from_pretrained(checkpoint)
    total, n_tokens = 0.0, 0
    for row in token_rows(tokenizer, records, 256, chat=False).rows:
        labels = torch.tensor([row["labels"]])
        n = int((labels[:, 1:] != -100).sum())
        with torch.no_grad():
            total += n * float(model(input_ids=torch.tensor([row["input_ids"]]), labels=labels).loss)
        n_tokens += n
    return total / n_tokens


@pytest.mark.parametrize("told", [{}, {"lora": {"rank": 16, "alpha": 32}, "packing": True, "max_length": 60}])
def test_training_ends_early_and_the_best_checkpoint_is_kept(base: Path, tmp_path: Path, told: dict[str, Any]) -> None:
    stopping = {"share": 0.25, "patience": 2, "every": 5}
    settings = TrainerSettings.model_validate(
        {
            "steps": 150,
            "batch_size": 8,
            "learning_rate": 5e-3,
            "schedule": "constant",
            "early_stopping": stopping,
            **told,
        }
    )
    result = get_trainer("trl").train(
        base, RECORDS, settings, 3, tmp_path / "out", objective="sft", chat=False, device="cpu", progress=lambda: None
    )
    curves = json.loads((tmp_path / "out" / "training_log.json").read_text())
    dev, metrics = curves["dev_loss"], result.metrics
    assert metrics["n_steps"] == len(curves["loss"]) == 5 * len(dev) < 150
    assert metrics["best_step"] == 5 * (dev.index(min(dev)) + 1)
    assert metrics["best_step"] == metrics["n_steps"] - 10
    held = split(RECORDS, 0.25, 3).dev
    assert metrics["n_dev_records"] == len(held) == len(RECORDS) - metrics["n_records"]
    assert dev_loss(tmp_path / "out", held) == pytest.approx(min(dev), rel=1e-4)
    assert {path.name for path in tmp_path.iterdir()} == {"out"}


def test_one_source_cannot_be_split() -> None:
    with pytest.raises(UserError, match="4 records of 1 sources"):
        split([record(place, 0) for place in range(4)], 0.5, 0)
