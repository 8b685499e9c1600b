"""Trainings in two processes: the curve of one process, a killed rank, sharded weights, a second machine, bad settings."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
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
from pydantic import ValidationError
from transformers import AutoModelForCausalLM
from transformers.integrations.deepspeed import (
    is_deepspeed_zero3_enabled,
    set_hf_deepspeed_config,
    unset_hf_deepspeed_config,
)

from harness.errors import UserError
from harness.models.weights import check_checkpoint
from harness.recipe import load_config
from harness.records import TrainingRecord
from harness.stages.plan import make_plan, seal
from harness.store import Run
from harness.trainers import TrainerSettings, TrainResult, get_trainer
from harness.trainers.base import deciding
from harness.trainers.launch import check_devices, command, sharding
from harness.trainers.launch_settings import SHIPPED, LaunchSettings
from harness.trainers.ledger import Meter, ledger_entry
from harness.trainers.trl_processes import Order, whole_model
from tests.tiny import make_word_llama, word

BASIC = {"steps": 8, "batch_size": 4, "learning_rate": 1e-3}
TWO = {"launch": {"processes": 2}}
MEBI = 1 << 20


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_word_llama(tmp_path_factory.mktemp("base"))


def records(n: int = 18) -> list[TrainingRecord]:
    """Pairs of answers of several lengths; 18 do not fill the last batch of an epoch."""
    return [
        TrainingRecord(
            prompt=f"question : {word(30 + i % 9)} answer : ",
            completion=f"{word(30 + i % 9)} is {answer} ." + " and" * (i % 4),
            kind=kind,
            source=str(i),
        )
        for i in range(n)
        for kind, answer in (("chosen", "safe"), ("rejected", "unsafe"))
    ]


def good() -> list[TrainingRecord]:
    return [record for record in records() if record.kind == "chosen"]


def train(
    base: Path, out: Path, told: list[TrainingRecord], settings: dict[str, Any], objective: str = "sft",
    progress: Callable[[], None] = lambda: None,
) -> TrainResult:  # fmt: skip
    parsed = TrainerSettings.model_validate({**BASIC, **settings})
    return get_trainer("trl").train(
        base, told, parsed, 0, out, objective=objective, chat=False, device="cpu", progress=progress
    )


def losses(out: Path) -> list[float]:
    return json.loads((out / "training_log.json").read_text())["loss"]


def assert_same_weights(base: Path, one: Path, two: Path) -> None:
    """What two trainings moved is the same; Adam makes a step even of a gradient that is all rounding."""
    start, first, second = (
        dict(AutoModelForCausalLM.from_pretrained(f).requires_grad_(False).named_parameters()) for f in (base, one, two)
    )
    moved = sum(float((first[name] - weight).norm()) for name, weight in start.items())
    apart = sum(float((first[name] - second[name]).norm()) for name in start)
    assert apart < 0.01 * moved


def ranks_below(folder: Path) -> dict[str, int]:
    """Rank → process of the launched trainings that work below a folder."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            arguments = (process / "cmdline").read_bytes()
            variables = (process / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"harness.trainers.trl_worker" in arguments and str(folder).encode() in arguments:
            rank = [variable[5:].decode() for variable in variables if variable.startswith(b"RANK=")]
            found[rank[0] if rank else f"launcher {process.name}"] = int(process.name)
    return found


def test_two_processes_learn_as_one_does(base: Path, tmp_path: Path) -> None:
    """Over epochs whose last batch is not full, with several records at once and gradients of several passes."""
    steps: list[int] = []
    one = train(base, tmp_path / "one", good(), {})
    with Meter("cpu") as meter:
        two = train(base, tmp_path / "two", good(), {**TWO, "micro_batch_size": 1}, progress=lambda: steps.append(1))
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-4)
    assert losses(tmp_path / "one")[-1] < losses(tmp_path / "one")[0] / 2
    assert_same_weights(base, tmp_path / "one", tmp_path / "two")
    check_checkpoint(tmp_path / "two")
    assert len(steps) == 8
    assert {path.name for path in tmp_path.iterdir()} == {"one", "two"}
    assert two.metrics == pytest.approx(one.metrics, rel=1e-4)
    settings = TrainerSettings.model_validate({**BASIC, **TWO})
    entry = ledger_entry(tmp_path / "two", settings, two.metrics, meter, two.peak_memory_bytes)
    assert entry.n_tokens == one.metrics["n_tokens"]
    assert (entry.peak_memory_bytes or 0) > 2 * 150 * MEBI
    assert entry.device.startswith("2 × CPU")


def test_two_processes_hold_answers_good_or_bad_as_one_does(base: Path, tmp_path: Path) -> None:
    """KTO: the same order in each epoch, the same mismatched answers, one KL; 36 answers do not fill the last batch."""
    told = {"steps": 7, "batch_size": 8}
    for name, more in (("one", {}), ("two", TWO)):
        train(base, tmp_path / name, records(), {**told, **more}, "kto")
    logs = [json.loads((tmp_path / name / "training_log.json").read_text()) for name in ("one", "two")]
    for quantity in ("loss", "margin"):
        assert logs[0][quantity] == pytest.approx(logs[1][quantity], rel=1e-3)
    assert logs[0]["kl"] == pytest.approx(logs[1]["kl"], abs=1e-3)
    assert_same_weights(base, tmp_path / "one", tmp_path / "two")


@pytest.mark.slow
def test_two_processes_learn_a_reward_as_one_does_and_a_policy_each_with_answers_of_its_own(
    base: Path, tmp_path: Path
) -> None:
    rlhf = {"steps": 3, "generations": 2, "max_new_tokens": 6, "reward_epochs": 2, "reward_batch_size": 8,
            "reward_learning_rate": 1e-3}  # fmt: skip
    for name, more in (("one", {}), ("two", TWO)):
        train(base, tmp_path / name, records(), {"batch_size": 8, "rlhf": rlhf, **more}, "rlhf")
    logs = [json.loads((tmp_path / name / "training_log.json").read_text()) for name in ("one", "two")]
    assert logs[0]["reward_model_loss"] == pytest.approx(logs[1]["reward_model_loss"], rel=1e-3)
    assert [len(logs[1][name]) for name in ("loss", "reward", "kl", "length")] == [3] * 4
    check_checkpoint(tmp_path / "two")


@pytest.mark.skipif(sys.platform != "linux", reason="finds the processes in /proc")
def test_a_killed_rank_ends_all_and_the_same_command_goes_on(base: Path, tmp_path: Path) -> None:
    out, told = tmp_path / "out", {"steps": 40, "save_steps": 3}
    steps: list[int] = []

    def kill_after_7() -> None:
        steps.append(1)
        if len(steps) == 7:
            os.kill(ranks_below(tmp_path)["1"], signal.SIGKILL)

    with pytest.raises(
        UserError, match="process 2 of 2 of the launched training was killed by signal 9, and"
    ) as failed:
        train(base, out, records(), {**told, **TWO}, "dpo", kill_after_7)
    assert "\n" not in str(failed.value)
    assert not out.exists()
    assert ranks_below(tmp_path) == {}
    for state in tmp_path.glob(".out.trl/*/trainer/checkpoint-*/trainer_state.json"):
        log = json.loads(state.read_text())
        log["log_history"][0]["loss"] = 123.0  # what only a training that goes on from here can know
        state.write_text(json.dumps(log))
    steps.clear()
    train(base, out, records(), {**told, **TWO}, "dpo", lambda: steps.append(1))
    assert len(steps) == 40
    assert losses(out)[0] == 123.0
    train(base, tmp_path / "one", records(), told, "dpo")
    assert losses(out)[1:] == pytest.approx(losses(tmp_path / "one")[1:], rel=1e-3)
    assert {path.name for path in tmp_path.iterdir()} == {"one", "out"}


@pytest.mark.slow
@pytest.mark.parametrize("more", [{}, {"lora": {"rank": 4, "alpha": 8}}], ids=["full", "lora"])
def test_sharded_weights_learn_and_stop_as_whole_ones_do(
    base: Path, tmp_path: Path, more: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the shipped configuration and real shards, on the CPU, where `sharded_on_cpu` makes accelerate heed it."""

    def sharded(*arguments: Any) -> list[str]:
        made = command(*arguments)
        return [*made[:-3], str(Path(__file__).with_name("sharded_on_cpu.py")), made[-1]]

    monkeypatch.setattr("harness.trainers.launch.command", sharded)
    monkeypatch.setattr("harness.trainers.launch.check_devices", lambda *_: None)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    more = {**more, "steps": 30, "learning_rate": 5e-3, "early_stopping": {"share": 0.3, "every": 2, "patience": 1}}
    one = train(base, tmp_path / "one", good(), more)
    two = train(base, tmp_path / "two", good(), {**more, "launch": {"processes": 2, "config": "fsdp"}})
    logs = [json.loads((tmp_path / name / "training_log.json").read_text()) for name in ("one", "two")]
    for quantity in ("loss", "dev_loss"):
        assert logs[0][quantity] == pytest.approx(logs[1][quantity], rel=1e-3)
    assert one.metrics == pytest.approx(two.metrics, rel=1e-3)
    assert_same_weights(base, tmp_path / "one", tmp_path / "two")
    assert (tmp_path / "weights_were").read_text() == "DTensor"
    assert (tmp_path / "two" / "adapter" / "adapter_model.safetensors").is_file() == ("lora" in more)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="finds the processes in /proc")
def test_the_processes_end_with_whoever_asked_for_them(base: Path, tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path\n"
        "from tests.trainers.test_launch import TWO, good, train\n"
        "train(Path(sys.argv[1]), Path(sys.argv[2]), good(), {**TWO, 'steps': 5000})\n"
    )
    asked = [sys.executable, "-c", script, str(base), str(tmp_path / "out")]
    with subprocess.Popen(asked, cwd=Path(__file__).parents[2], env={**os.environ, "PYTHONPATH": "."}) as asking:
        await_that(lambda: any(path.stat().st_size for path in tmp_path.glob(".out.trl/*/progress")))
        assert {"0", "1"} <= ranks_below(tmp_path).keys()
        asking.kill()
    await_that(lambda: not ranks_below(tmp_path))
    assert not (tmp_path / "out").exists()


def await_that(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.slow
def test_what_a_process_says_is_told_and_a_further_machine_takes_part(base: Path, tmp_path: Path) -> None:
    machines = {"launch": {"processes": 2, "machines": 2, "main_address": "127.0.0.1", "main_port": free_port()}}
    joining = subprocess.Popen([sys.executable, "-m", "harness.trainers.launch_join", str(tmp_path), "1"])
    try:
        with pytest.raises(UserError, match=r"the training loss is no longer a number; lower trainer\.learning_rate$"):
            train(base, tmp_path / "none", good(), {**machines, "learning_rate": 1e30})
        train(base, tmp_path / "two", good(), machines)
        train(base, tmp_path / "one", good(), {})
        assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-4)
    finally:
        joining.terminate()
        joining.wait(10)
    await_that(lambda: not ranks_below(tmp_path))
    assert not (tmp_path / "none").exists()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


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
