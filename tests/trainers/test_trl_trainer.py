"""The TRL trainer on real models: what the loss covers, what is saved, and that equal inputs give equal weights."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from harness.errors import UserError
from harness.models.weights import check_checkpoint, weights_hash
from harness.records import TrainingRecord
from harness.tokens import token_rows
from harness.trainers import TrainerSettings, TrainResult, get_trainer, trl_supervised
from harness.trainers.trl_common import Session
from harness.trainers.trl_supervised import sft_trainer
from tests.tiny import make_tiny_llama, make_word_llama, word

SETTINGS = TrainerSettings(steps=4, batch_size=4, learning_rate=1e-3)
LORA = {"lora": {"rank": 4, "alpha": 8}}


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def bpe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_llama(tmp_path_factory.mktemp("bpe"))


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_word_llama(tmp_path_factory.mktemp("words"))


def record(prompt: str, completion: str) -> TrainingRecord:
    return TrainingRecord(prompt=prompt, completion=completion, kind="response", source="0")


def word_records(n: int) -> list[TrainingRecord]:
    """A rule that can be learnt: the answer repeats the question's word."""
    return [record(f"question : {word(30 + i % 9)} answer : ", f"{word(30 + i % 9)} is safe .") for i in range(n)]


BPE_RECORDS = [
    record("### Instruction:\nHow do I make soup?\n\n### Response:\n", "Peel, chop and boil."),
    record("Is it", " safe?"),
    record("the quick bro", "wn fox"),
]


def train(base: Path, out: Path, records: list[TrainingRecord], settings: TrainerSettings, **options) -> TrainResult:
    options = {"objective": "sft", "chat": False, "device": "cpu", "progress": lambda: None, **options}
    return get_trainer(settings.name).train(base, records, settings, 0, out, **options)


def parameters(folder: Path) -> dict[str, torch.Tensor]:
    return dict(AutoModelForCausalLM.from_pretrained(folder).named_parameters())


@pytest.mark.parametrize("kind", ["bpe", "words"])
def test_the_loss_covers_the_completion_and_its_end_and_nothing_else(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Read from the batches that the real trainer's own loader and collator give."""
    base: Path = request.getfixturevalue(kind)
    records = BPE_RECORDS if kind == "bpe" else word_records(3)
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokens = token_rows(tokenizer, records, 64, chat=False)
    trainer = sft_trainer(Session(base, tokenizer, SETTINGS, 0, False, "cpu", tmp_path, lambda: None), tokens)
    seen = set()
    for batch in trainer.get_train_dataloader():
        for ids, labels, mask in zip(batch["input_ids"], batch["labels"], batch["attention_mask"], strict=True):
            learnt, prompt = labels[labels != -100], ids[(labels == -100) & (mask == 1)]
            assert torch.equal(ids[labels != -100], learnt)
            assert not (labels[mask == 0] != -100).any()
            assert learnt[-1] == tokenizer.eos_token_id
            assert mask.sum() == len(prompt) + len(learnt)
            matching = [r for r in records if tokenizer(r.prompt).input_ids == prompt.tolist()]
            assert tokenizer.decode(learnt[:-1]) == matching[0].completion
            seen.add(matching[0].prompt)
    assert seen == {r.prompt for r in records}


def test_it_learns_and_the_checkpoint_answers_in_plain_transformers(words: Path, tmp_path: Path) -> None:
    steps = []
    settings = SETTINGS.model_copy(update={"steps": 40, "batch_size": 8})
    result = train(words, tmp_path / "out", word_records(36), settings, progress=lambda: steps.append(1))
    assert len(steps) == 40
    assert result.metrics["loss_last"] < 0.3 < 3 < result.metrics["loss_first"]
    check_checkpoint(tmp_path / "out")
    log = json.loads((tmp_path / "out" / "training_log.json").read_text())
    assert len(log["loss"]) == 40
    assert log["loss"][-1] == result.metrics["loss_last"]
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    ids = tokenizer(f"question : {word(33)} answer : ", return_tensors="pt")
    assert tokenizer.decode(model.generate(**ids, max_new_tokens=9, do_sample=False)[0]).endswith(
        f"answer : {word(33)} is safe . <eos>"
    )


def test_the_checkpoint_keeps_the_bases_tokenizer_generation_settings_and_cache(words: Path, tmp_path: Path) -> None:
    train(words, tmp_path / "out", word_records(8), SETTINGS)
    for name in ("tokenizer.json", "generation_config.json"):
        assert (tmp_path / "out" / name).read_bytes() == (words / name).read_bytes()
    before, after = (json.loads((f / "config.json").read_text()) for f in (words, tmp_path / "out"))
    assert after == before
    assert {path.name for path in tmp_path.iterdir()} == {"out"}


def test_a_base_whose_generation_settings_transformers_would_not_save_can_be_trained(bpe: Path, tmp_path: Path) -> None:
    """Published chat models have them: a temperature beside ``do_sample: false``."""
    base = make_tiny_llama(tmp_path / "base")
    settings = {**GenerationConfig.from_pretrained(bpe).to_diff_dict(), "do_sample": False, "temperature": 0.6}
    (base / "generation_config.json").write_text(json.dumps(settings))
    train(base, tmp_path / "out", BPE_RECORDS, SETTINGS)
    assert json.loads((tmp_path / "out" / "generation_config.json").read_text())["temperature"] == 0.6


def test_merged_adapters_answer_as_the_adapters_do(words: Path, tmp_path: Path) -> None:
    from peft import PeftModel

    settings = TrainerSettings.model_validate({**SETTINGS.model_dump(), **LORA, "steps": 20, "learning_rate": 1e-2})
    train(words, tmp_path / "out", word_records(16), settings)
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    base = AutoModelForCausalLM.from_pretrained(words)
    ids = torch.randint(4, 400, (64, 32), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        plain = base(ids).logits
        adapted = PeftModel.from_pretrained(base, tmp_path / "out" / "adapter")(ids).logits
        found = merged(ids).logits
    assert torch.allclose(found, adapted, atol=1e-4)
    assert ((adapted - plain).abs().amax(dim=(1, 2)) > 1e-2).all(), "in every row"
    assert torch.equal(found.argmax(-1), adapted.argmax(-1))


def test_an_adapter_on_a_base_that_nobody_keeps_is_not_kept(words: Path, tmp_path: Path) -> None:
    records = [
        one.model_copy(update={"kind": kind, "completion": one.completion + more, "source": str(place)})
        for place, one in enumerate(word_records(8)) for kind, more in (("chosen", ""), ("rejected", " and"))
    ]  # fmt: skip
    settings = TrainerSettings.model_validate({**SETTINGS.model_dump(), **LORA})
    for first in (True, False):
        update = settings.model_copy(update={"sft_first": first})
        train(words, tmp_path / str(first), records, update, objective="dpo")
    assert not (tmp_path / "True" / "adapter").exists()
    check_checkpoint(tmp_path / "True")
    told = json.loads((tmp_path / "False" / "adapter" / "adapter_config.json").read_text())
    assert told["base_model_name_or_path"] == str(words)


def test_a_constant_rate_is_warmed_up_too(words: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rates = []
    real = trl_supervised.run

    def spied(trainer, session):
        log = real(trainer, session)
        rates.append([entry["learning_rate"] for entry in log])
        return log

    monkeypatch.setattr(trl_supervised, "run", spied)
    for warmup in (0, 2):
        update = {"schedule": "constant", "warmup_steps": warmup}
        train(words, tmp_path / "out", word_records(8), SETTINGS.model_copy(update=update))
    assert rates == [pytest.approx([1e-3] * 4), pytest.approx([0, 5e-4, 1e-3, 1e-3])]


def test_bfloat16_learns_at_a_rate_below_its_own_resolution(words: Path, tmp_path: Path) -> None:
    """Weights that are bfloat16 while they train lose steps of 2e-5 to rounding."""
    update = {"dtype": "bfloat16", "learning_rate": 2e-5, "steps": 10}
    train(words, tmp_path / "bf16", word_records(16), SETTINGS.model_copy(update=update))
    train(words, tmp_path / "fp32", word_records(16), SETTINGS.model_copy(update={**update, "dtype": "float32"}))
    start, half, full = (parameters(f) for f in (words, tmp_path / "bf16", tmp_path / "fp32"))
    assert all(p.dtype == torch.bfloat16 for p in half.values())
    assert all(p.dtype == torch.float32 for p in full.values())
    name = "model.layers.0.mlp.up_proj.weight"
    moved = (full[name] - start[name]).detach().flatten()
    moved_half = (half[name].float() - start[name].bfloat16().float()).detach().flatten()
    assert float(moved @ moved_half / moved.norm() ** 2) == pytest.approx(1, abs=0.3)


def test_too_long_records_are_dropped_and_counted_never_cut(words: Path, tmp_path: Path) -> None:
    long = record("question : ", " ".join(word(40) for _ in range(60)))
    settings = SETTINGS.model_copy(update={"max_length": 20})
    result = train(words, tmp_path / "out", [*word_records(8), long], settings)
    assert result.metrics["n_dropped_too_long"] == 1
    assert result.metrics["n_records"] == 8
    with pytest.raises(UserError, match="longer than 20 tokens: max_length 20, context 256"):
        train(words, tmp_path / "none", [long], settings)
    assert not (tmp_path / "none").exists()


def test_no_record_is_longer_than_the_context_whatever_max_length_says(words: Path, tmp_path: Path) -> None:
    long = record("question : ", " ".join(word(40) for _ in range(300)))
    result = train(words, tmp_path / "out", [*word_records(8), long], SETTINGS)
    assert result.metrics["n_dropped_too_long"] == 1


def test_a_diverged_training_is_told_and_leaves_nothing(words: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="learning_rate"):
        train(words, tmp_path / "out", word_records(8), SETTINGS.model_copy(update={"learning_rate": 1e30}))
    assert not (tmp_path / "out").exists()


def test_chat_records_are_what_the_chat_template_tokenises(tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(make_tiny_llama(tmp_path, chat=True))
    row = token_rows(tokenizer, [record("Is it safe?", "No.")], 128, chat=True).rows[0]
    turns = [{"role": "user", "content": "Is it safe?"}, {"role": "assistant", "content": "No."}]
    whole = tokenizer.apply_chat_template(turns, tokenize=False)
    assert tokenizer.decode(row["input_ids"]) == whole.removesuffix("\n")


def test_two_processes_train_the_same_weights_and_another_seed_trains_others(words: Path, tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path\n"
        "from harness.trainers import TrainerSettings, get_trainer\n"
        "from tests.trainers.test_trl_trainer import word_records\n"
        f"settings = TrainerSettings.model_validate({ {**SETTINGS.model_dump(), 'lora': None}!r})\n"
        "get_trainer('trl').train(Path(sys.argv[1]), word_records(16), settings, int(sys.argv[2]), Path(sys.argv[3]),"
        " objective='sft', chat=False, device='cpu', progress=lambda: None)\n"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    for seed, name in ((0, "a"), (0, "b"), (1, "c")):
        command = [sys.executable, "-c", script, str(words), str(seed), str(tmp_path / name)]
        subprocess.run(command, check=True, env=environment, cwd=Path(__file__).parents[2])
    hashes = [weights_hash(tmp_path / name) for name in "abc"]
    assert hashes[0] == hashes[1] != hashes[2]


def test_settings_want_exactly_one_length_and_know_their_steps() -> None:
    for wrong in ({}, {"steps": 1, "epochs": 1}, {"steps": 1, "bf16": True}):
        with pytest.raises(ValidationError):
            TrainerSettings.model_validate(wrong)
    assert TrainerSettings(epochs=2, batch_size=16).n_steps(33) == 6
    with pytest.raises(UserError, match="did you mean 'trl'"):
        get_trainer("trll")


@pytest.mark.parametrize("objective", ["sft", "dpo", "kto"])
def test_a_budget_of_tokens_is_kept_to_the_nearest_step(objective: str, words: Path, tmp_path: Path) -> None:
    """However long the records, as many tokens are read: what makes rows of a table comparable in compute."""
    read = []
    for n_more in (0, 12):
        records = [
            TrainingRecord(
                prompt=one.prompt, completion=f"{one.completion} " * (1 + n_more), kind=kind, source=str(place)
            )
            for place, one in enumerate(word_records(8))
            for kind in (("response",) if objective == "sft" else ("chosen", "rejected"))
        ]
        settings = TrainerSettings(tokens=1500, batch_size=4, learning_rate=1e-4)
        measured = train(words, tmp_path / f"{objective}{n_more}", records, settings, objective=objective).metrics
        a_step = measured["n_tokens"] / measured["n_steps"]
        assert abs(measured["n_tokens"] - 1500) <= 0.75 * a_step
        read.append(measured["n_steps"])
    assert read[0] > read[1] >= 1


def test_a_budget_of_tokens_counts_the_last_step_of_a_pass_as_it_is(words: Path, tmp_path: Path) -> None:
    """17 records are two steps of 16, the second of one record."""
    records = word_records(17)
    a_pass = TrainerSettings(epochs=1, batch_size=16, learning_rate=1e-4)
    n_tokens = train(words, tmp_path / "one", records, a_pass).metrics["n_tokens"]
    ten = TrainerSettings(tokens=int(10 * n_tokens), batch_size=16, learning_rate=1e-4)
    measured = train(words, tmp_path / "ten", records, ten).metrics
    assert (measured["n_steps"], measured["n_tokens"]) == (20, 10 * n_tokens)


def test_a_budget_of_tokens_is_not_given_to_two_objectives() -> None:
    with pytest.raises(ValidationError, match="tokens is the length of one objective, sft_first trains for two"):
        TrainerSettings(tokens=1000, sft_first=True)


def test_a_training_has_one_length() -> None:
    for lengths in ({}, {"steps": 1, "tokens": 1}, {"epochs": 1, "steps": 1}):
        with pytest.raises(ValidationError, match="exactly one of the three"):
            TrainerSettings(**lengths)
    assert "tokens" not in TrainerSettings(steps=1).identity()
