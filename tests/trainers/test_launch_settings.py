"""Settings of trainings in several processes: what ships, what is refused, what is part of the identity."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import trl
from accelerate.commands.config.config_args import load_config_from_file
from hypothesis import given
from hypothesis import strategies as st
from launched import BASIC, TWO, good, records, train
from pydantic import ValidationError
from transformers.integrations.deepspeed import (
    is_deepspeed_zero3_enabled,
    set_hf_deepspeed_config,
    unset_hf_deepspeed_config,
)

from harness.errors import UserError
from harness.recipe import load_config
from harness.stages.plan import make_plan, seal
from harness.store import Run
from harness.trainers import TrainerSettings
from harness.trainers.base import deciding
from harness.trainers.launch import check_devices, sharding
from harness.trainers.launch_settings import SHIPPED, LaunchSettings
from harness.trainers.trl_processes import Order, whole_model

pytestmark = pytest.mark.usefixtures("one_thread")


@given(st.integers(1, 40), st.integers(1, 4), st.integers(1, 3), st.booleans())
def test_the_processes_of_a_step_read_what_one_would(n_rows: int, n: int, each: int, empty: bool) -> None:
    size = n * each
    order = list(Order(range(n_rows), size, empty))
    assert len(order) % size == 0
    assert order[:n_rows] == list(range(n_rows))
    filled = order[n_rows:]
    last = list(range(n_rows - n_rows % size, n_rows))
    assert set(filled) <= (set(range(n_rows, n_rows + size)) if empty else set(last))
    if filled and not empty and size % len(last) == 0:
        assert all((last + filled).count(row) == size // len(last) for row in last)


@pytest.mark.parametrize("name", SHIPPED)
def test_the_shipped_configurations_are_accelerates(name: str) -> None:
    file = LaunchSettings(processes=2, config=name).config_file
    assert file is not None
    config = load_config_from_file(str(file))
    assert sharding(file) == ("FSDP" if name == "fsdp" else "DEEPSPEED")
    if name == "fsdp":
        assert config.fsdp_config["fsdp_auto_wrap_policy"] == "TRANSFORMER_BASED_WRAP"
        assert config.fsdp_config["fsdp_state_dict_type"] == "FULL_STATE_DICT"
    else:
        assert config.deepspeed_config["zero_stage"] == int(name[-1])
        assert config.mixed_precision == "bf16"


def test_what_this_machine_cannot_do_is_told_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="accelerate config"):
        check_devices(LaunchSettings(processes=2, config=str(tmp_path / "none.yaml")), "cpu")
    (tmp_path / "odd.yaml").write_text("distributed_type: ODD\n")
    with pytest.raises(UserError, match="no configuration of accelerate"):
        check_devices(LaunchSettings(processes=2, config=str(tmp_path / "odd.yaml")), "cpu")
    if find_spec("deepspeed") is None:
        with pytest.raises(UserError, match="pip install deepspeed"):
            check_devices(LaunchSettings(processes=2, config="zero2"), "cpu")
    with pytest.raises(UserError, match="on GPUs alone"):
        check_devices(LaunchSettings(processes=2, config="fsdp"), "cpu")


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"launch": {"processes": 3}}, "batch_size 4 is no multiple of 3 processes"),
        ({"launch": {"processes": 2}, "micro_batch_size": 4}, "2 processes of 4 records"),
        ({"launch": {"processes": 2, "machines": 2}}, "main_address"),
        ({"launch": {"processes": 3, "machines": 2, "main_address": "a"}}, "equal parts"),
        ({"launch": {"processes": 2, "config": "zero"}}, "fsdp, zero2 or a file"),
        ({"launch": {"processes": 2, "config": "zero3"}}, "fsdp, zero2 or a file"),
        ({"launch": {"processes": 2, "config": "zero2"}}, "bfloat16"),
        ({"launch": {"processes": 2, "config": "fsdp"}, "lora": {"quantize": "nf4"}}, "quantize"),
        ({"early_stopping": {"every": 4}, "save_steps": 3}, "save_steps"),
        ({"save_steps": 3, "name": "openai", "openai": {"model": "m"}, "steps": None, "epochs": 1}, "save_steps is a"),
    ],
)
def test_settings_that_contradict_one_another_are_refused(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        TrainerSettings.model_validate({**BASIC, **wrong})


def test_what_an_objective_does_not_know_is_refused(base: Path, tmp_path: Path) -> None:
    for wrong, objective in (
        ({"packing": True}, "dpo"), ({"early_stopping": {"every": 2}}, "kto"), ({"save_steps": 2}, "rlhf"),
        ({"launch": {"processes": 2, "config": "fsdp"}}, "rlhf"), ({"micro_batch_size": 2}, "kto"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=f"trainer.{next(iter(wrong))}"):
            train(base, tmp_path / "out", records(), wrong, objective)
    assert list(tmp_path.iterdir()) == []


def test_a_setting_that_is_absent_leaves_no_trace_in_what_is_hashed() -> None:
    later = {"micro_batch_size", "packing", "save_steps", "early_stopping", "launch"}
    plain = TrainerSettings(steps=1)
    assert not later & plain.model_dump().keys()
    again = TrainerSettings.model_validate({**BASIC, **TWO, "save_steps": 2, "packing": True})
    assert TrainerSettings.model_validate_json(again.model_dump_json()) == again
    assert "save_steps" not in again.identity()


ELSEWHERE = {"launch": {"processes": 2, "machines": 2, "main_address": "b", "main_port": 1}, "save_steps": 9}
HERE = {"launch": {"processes": 2, "machines": 2, "main_address": "a"}}
PROGRAM = {"name": "command", "command": {"arguments": ["train", "{data}", "{out}"]}}
PROGRAM_RUN_OTHERWISE = {"manifest": "harness", "env": ["HF_TOKEN"], "timeout_seconds": 9, "resume": True}
SERVICE = {"name": "openai", "steps": None, "epochs": 1, "openai": {"model": "m"}}
SAME = (
    (HERE, ELSEWHERE),
    (PROGRAM, {**PROGRAM, "command": {**PROGRAM["command"], **PROGRAM_RUN_OTHERWISE}}),
    (SERVICE, {**SERVICE, "openai": {"model": "m", "price": 3, "api_key_env": "OTHER"}}),
)


@pytest.mark.parametrize(("one", "other"), SAME, ids=["launch", "command", "openai"])
def test_what_decides_no_weights_is_no_part_of_what_is_hashed(one: dict[str, Any], other: dict[str, Any]) -> None:
    first, second = (TrainerSettings.model_validate({**BASIC, **told}) for told in (one, other))
    assert first != second
    assert first.identity() == second.identity()
    assert deciding({"steps": 3, "command": {"timeout_seconds": 9}, "save_steps": 2}) == {"steps": 3}
    assert deciding({"launch": None}) == {"launch": None}


def test_the_text_of_a_configuration_decides_and_the_shipped_ones_are_known_by_name(tmp_path: Path) -> None:
    file = tmp_path / "my.yaml"
    told = {**BASIC, "launch": {"processes": 2, "config": str(file)}}
    settings = TrainerSettings.model_validate(told)
    with pytest.raises(UserError, match=r"^trainer\.launch\.config: .*my\.yaml cannot be read") as missing:
        settings.identity()
    assert "\n" not in str(missing.value)
    file.write_text("gradient_clipping: 1.0\n")
    first = settings.identity()
    assert settings.identity() == first
    assert deciding({"launch": told["launch"]})["launch"].items() <= first["launch"].items()
    moved = file.rename(tmp_path / "moved.yaml")
    elsewhere = settings.model_copy(update={"launch": settings.launch.model_copy(update={"config": str(moved)})})
    assert elsewhere.identity() == first
    file.write_text("gradient_clipping: 0.5\n")
    assert settings.identity() != first
    shipped = TrainerSettings.model_validate({**BASIC, "launch": {"processes": 2, "config": "fsdp"}}).identity()
    assert shipped["launch"] == {"processes": 2, "machines": 1, "config": "fsdp"}


RECIPE = """
name: small
templates: vale
data: {train: "vale:broad"}
data_limit: 6
trainer: {steps: 2, batch_size: 4}
prepare: {mistake_judge: [vale_mistake, mistake], analysis_judge: vale_verdict}
subjects: [{name: sft, label: SFT, method: sft}]
tasks: {vale_harmless: {limit: 2}}
throughput: {workers: 1, device: cpu}
"""


def test_a_run_goes_on_with_settings_that_decide_no_weights_and_with_no_others(base: Path, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    (tmp_path / "my.yaml").write_text("{}")
    run = Run(tmp_path / "run")

    def begin(run_trainer: dict[str, Any], own: dict[str, Any]) -> None:
        told = [f"base={base}", f"trainer.launch={json.dumps(run_trainer)}", f"subjects.sft.trainer={json.dumps(own)}"]
        with run.lock():
            seal(run, make_plan(load_config(str(tmp_path / "recipe.yaml"), told)))

    owned = {"launch": {"config": str(tmp_path / "my.yaml")}}
    begin(HERE["launch"], owned)
    begin(ELSEWHERE["launch"], {**owned, "save_steps": 5})
    with pytest.raises(UserError, match=r"config\.trainer\.launch\.machines"):
        begin({"processes": 2}, owned)
    (tmp_path / "my.yaml").write_text("{a: 1}")
    with pytest.raises(UserError, match=r"launch\.config: "):
        begin(HERE["launch"], owned)
    (tmp_path / "my.yaml").unlink()
    with pytest.raises(UserError, match=r"my\.yaml cannot be read"):
        begin(HERE["launch"], owned)


def test_weights_are_loaded_once_it_is_known_how_and_gathered_into_a_whole_model(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a plugin of DeepSpeed tells transformers, which then loads in shards: with all processes, or never."""

    class Sharded:
        def is_zero3(self) -> bool:
            return True

    config, sharded = trl.SFTConfig, Sharded()

    def configured(**told: Any) -> Any:
        set_hf_deepspeed_config(sharded)
        return config(**told)

    def loaded(*_: Any, **__: Any) -> Any:
        assert is_deepspeed_zero3_enabled()
        raise StopIteration

    monkeypatch.setattr("trl.SFTConfig", configured)
    monkeypatch.setattr("harness.trainers.trl_supervised.load_model", loaded)
    try:
        with pytest.raises(StopIteration):
            train(base, tmp_path / "out", good(), {})
        weights = torch.nn.Linear(2, 2).state_dict()
        accelerator = SimpleNamespace(get_state_dict=lambda _: weights, is_main_process=True)
        trainer = SimpleNamespace(
            accelerator=accelerator, is_fsdp_enabled=False, is_deepspeed_enabled=True, model_wrapped=None
        )

        def fresh() -> Any:
            assert not is_deepspeed_zero3_enabled()
            return torch.nn.Linear(2, 2)

        assert torch.equal(whole_model(trainer, fresh).weight, weights["weight"])
    finally:
        unset_hf_deepspeed_config()


def test_four_bits_need_what_this_machine_may_lack(base: Path, tmp_path: Path) -> None:
    if torch.cuda.is_available() and find_spec("bitsandbytes"):
        pytest.skip("this machine has a GPU and bitsandbytes")
    with pytest.raises(UserError, match="pip install bitsandbytes"):
        train(base, tmp_path / "out", good(), {"lora": {"quantize": "nf4"}})
    assert not (tmp_path / "out").exists()
