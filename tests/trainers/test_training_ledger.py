"""The training ledger: counts, the estimate, what time and memory are measured, and its file."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from harness.errors import UserError
from harness.records import TrainingRecord
from harness.trainers import TrainerSettings, get_trainer
from harness.trainers.ledger import (
    LedgerEntry,
    Meter,
    ledger_entry,
    parameters_outside_embeddings,
    read_ledger,
    write_ledger,
)
from tests.tiny import make_tiny_llama

SETTINGS = TrainerSettings(steps=2, batch_size=2)
MEBI = 1 << 20


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_llama(tmp_path_factory.mktemp("base"))


def block(hidden: int, feed_forward: int, layers: int) -> int:
    """Parameters of a Llama with as many key heads as query heads, but for its embeddings, by hand."""
    return layers * (4 * hidden**2 + 3 * hidden * feed_forward + 2 * hidden) + hidden


@pytest.mark.parametrize("tied", [True, False])
def test_parameters_are_those_between_the_embeddings(tmp_path: Path, tied: bool) -> None:
    config = LlamaConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=2, num_key_value_heads=2,
        vocab_size=500, tie_word_embeddings=tied,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(tmp_path)
    assert parameters_outside_embeddings(tmp_path) == block(32, 48, 3)


def test_a_folder_that_does_not_tell_has_no_parameters_and_no_estimate(tmp_path: Path) -> None:
    assert parameters_outside_embeddings(tmp_path) is None
    with Meter("cpu") as meter:
        pass
    entry = ledger_entry(tmp_path, SETTINGS, {"n_tokens": 10.0}, meter)
    assert (entry.n_parameters, entry.flops, entry.n_tokens) == (None, None, 10)


@pytest.mark.parametrize(("lora", "factor"), [(None, 6), ({"rank": 4, "alpha": 8}, 4)])
def test_compute_is_6_n_t_and_4_n_t_for_adapters(base: Path, lora: dict[str, int] | None, factor: int) -> None:
    with Meter("cpu") as meter:
        pass
    settings = TrainerSettings.model_validate({**SETTINGS.model_dump(), "lora": lora})
    metrics = {"n_steps": 2.0, "n_tokens": 1000.0, "n_loss_tokens_seen": 400.0}
    entry = ledger_entry(base, settings, metrics, meter)
    assert entry.flops == factor * block(64, 128, 2) * 1000
    assert (entry.n_steps, entry.n_tokens, entry.n_loss_tokens) == (2, 1000, 400)


def test_a_supervised_stage_before_the_preferences_is_counted(base: Path) -> None:
    with Meter("cpu") as meter:
        pass
    metrics = {"sft_n_steps": 3.0, "sft_n_tokens": 500.0, "n_steps": 2.0, "n_tokens": 1000.0}
    entry = ledger_entry(base, SETTINGS, metrics, meter)
    assert (entry.n_steps, entry.n_tokens, entry.n_loss_tokens) == (5, 1500, None)


def test_what_a_trainer_did_not_measure_is_absent_and_no_zero(base: Path) -> None:
    with Meter("cpu") as meter:
        pass
    entry = ledger_entry(base, SETTINGS, {}, meter)
    assert (entry.n_steps, entry.n_tokens, entry.n_loss_tokens, entry.flops) == (None, None, None, None)


def test_around_a_real_training(base: Path, tmp_path: Path) -> None:
    records = [
        TrainingRecord(prompt=f"Is {n} safe?", completion=" Yes.", kind="response", source=str(n)) for n in range(4)
    ]
    with Meter("cpu") as meter:
        result = get_trainer("trl").train(
            base, records, SETTINGS, 0, tmp_path / "checkpoint", objective="sft", chat=False, device="cpu",
            progress=lambda: time.sleep(0.05),
        )  # fmt: skip
    entry = ledger_entry(base, SETTINGS, result.metrics, meter)
    assert (entry.trainer, entry.n_steps, entry.memory) == ("trl", 2, "rss")
    assert entry.seconds >= 0.1
    assert "thread" in entry.device
    weights = sum(p.numel() for p in AutoModelForCausalLM.from_pretrained(base).parameters())
    assert (entry.peak_memory_bytes or 0) > 4 * weights
    write_ledger(tmp_path, entry)
    assert read_ledger(tmp_path) == entry


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the peak is that of the process")
def test_a_large_training_does_not_stand_behind_the_small_one_after_it() -> None:
    with Meter("cpu") as large:
        held = bytearray(b"x" * 256 * MEBI)
    del held
    with Meter("cpu") as small:
        pass
    assert large.peak_memory_bytes is not None
    assert small.peak_memory_bytes is not None
    assert large.peak_memory_bytes - small.peak_memory_bytes > 200 * MEBI


def test_a_program_that_trains_is_measured_too() -> None:
    """In a process of its own, whose other children cannot have been larger."""
    code = (
        "import subprocess, sys\n"
        "from harness.trainers.ledger import Meter\n"
        "with Meter('cpu') as meter:\n"
        "    subprocess.run([sys.executable, '-c', 'held = bytearray(b\"x\" * (600 << 20))'], check=True)\n"
        "print(meter.peak_memory_bytes)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) > 600 * MEBI


def test_a_failure_inside_passes_through_and_is_measured() -> None:
    meter = Meter("cpu")

    def fail() -> None:
        with meter:
            time.sleep(0.02)
            raise RuntimeError("no luck")

    with pytest.raises(RuntimeError, match="no luck"):
        fail()
    assert meter.seconds >= 0.02


def test_there_may_be_no_ledger_and_a_broken_one_says_how_to_mend_it(tmp_path: Path) -> None:
    assert read_ledger(tmp_path) is None
    for text in (
        "{",
        '{"trainer": "trl"}',
        LedgerEntry(trainer="trl", seconds=1, memory="rss", device="CPU").to_line()[:-3],
    ):
        (tmp_path / "ledger.json").write_text(text)
        with pytest.raises(UserError, match=r"ledger\.json: .*delete it"):
            read_ledger(tmp_path)


def test_processes_of_the_trainers_own_are_counted_as_it_measured_them(base: Path) -> None:
    with Meter("cpu") as meter:
        pass
    launched = TrainerSettings.model_validate({**SETTINGS.model_dump(), "launch": {"processes": 2}})
    entry = ledger_entry(base, launched, {}, meter, peak_memory_bytes=3 * MEBI)
    assert entry.peak_memory_bytes == 3 * MEBI
    assert entry.device == f"2 × {meter.device}"
    assert ledger_entry(base, SETTINGS, {}, meter).peak_memory_bytes == meter.peak_memory_bytes
