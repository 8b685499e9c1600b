"""The command backend with real programs: what it hands over, what it takes back, and every way that it can go wrong."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pydantic import ValidationError

from harness.errors import UserError
from harness.models.weights import check_checkpoint, weights_hash
from harness.records import TrainingRecord
from harness.trainers import TrainerSettings, TrainResult, get_trainer
from harness.trainers.command import Manifest
from harness.trainers.command_output import check_trained, check_weights
from harness.trainers.external_settings import with_named_files
from harness.trainers.program import environment, last_lines
from tests.tiny import make_tiny_llama, make_word_llama, word

ROOT = Path(__file__).parents[2]
PYTHON = (sys.executable, "-S")
TWENTY_LINES = Path(__file__).with_name("twenty_lines.py")
RECORDS = [
    TrainingRecord(prompt=f"question : {word(30 + i)} answer : ", completion=f"{word(30 + i)} is safe .", kind="response",
                   source=str(i))
    for i in range(4)
]  # fmt: skip
COPY = """
import hashlib, json, os, pathlib, shutil, sys, time
base, data, out, seed = map(pathlib.Path, sys.argv[1:5])
runs = out.parent.parent / "runs"
runs.write_text(runs.read_text() + "x" if runs.exists() else "x")
def manifest(**said):
    found = {"seed": int(str(seed)), "data": hashlib.sha256(data.read_bytes()).hexdigest(), **said}
    (out / "manifest.json").write_text(json.dumps(found))
def copy():
    for path in base.iterdir():
        shutil.copyfile(path, out / path.name)
def train():
    copy()
    weights = bytearray((out / "model.safetensors").read_bytes())
    weights[-2] ^= 0x40
    (out / "model.safetensors").write_bytes(weights)
"""
"""A program without torch: its training changes one bit of one weight."""
GOOD = "train(); manifest(metrics={'n_steps': 7, 'n_tokens': 70}, tool='copier 1.0')"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_llama(tmp_path_factory.mktemp("base"))


def settings(script: str | Path, **command: object) -> TrainerSettings:
    program = (str(script),) if isinstance(script, Path) else ("-c", COPY + script)
    arguments = (*PYTHON, *program, "{base}", "{data}", "{out}", "{seed}")
    return TrainerSettings(name="command", steps=7, command={"arguments": arguments, **command})


def train(base: Path, out: Path, how: TrainerSettings, **options: object) -> TrainResult:
    asked = {"objective": "sft", "chat": False, "device": "cpu", "progress": lambda: None, **options}
    return get_trainer(how.name).train(base, asked.pop("records", RECORDS), how, asked.pop("seed", 3), out, **asked)


def n_runs(out: Path) -> int:
    return len((out.parent / "runs").read_text())


def refused(base: Path, out: Path, how: TrainerSettings, **options: object) -> str:
    with pytest.raises(UserError) as error:
        train(base, out, how, **options)
    assert "\n" not in str(error.value)
    assert not out.exists()
    return str(error.value)


def test_twenty_lines_train_and_give_a_checkpoint_back(tmp_path: Path) -> None:
    lines = [line for line in TWENTY_LINES.read_text().splitlines()[1:] if line and "import" not in line]
    assert len(lines) <= 20
    words = make_word_llama(tmp_path / "words")
    arguments = (sys.executable, str(TWENTY_LINES), "{base}", "{data}", "{out}", "{seed}", "{steps}")
    how = TrainerSettings(name="command", steps=24, command={"arguments": arguments})
    told: list[int] = []
    result = train(words, tmp_path / "checkpoint", how, progress=lambda: told.append(1))
    assert len(told) == result.metrics["n_steps"] == 24
    assert result.metrics["loss_last"] < 3 < result.metrics["loss_first"]
    check_checkpoint(tmp_path / "checkpoint")
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(tmp_path / "checkpoint")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "checkpoint")
    ids = tokenizer(f"question : {word(30)} answer : ", return_tensors="pt")
    before = AutoModelForCausalLM.from_pretrained(words)
    answer = tokenizer(f"question : {word(30)} answer : {word(30)} is safe .", return_tensors="pt").input_ids
    assert model(answer, labels=answer).loss < before(answer, labels=answer).loss - 1
    assert len(model.generate(**ids, max_new_tokens=4)[0]) > len(ids.input_ids[0])


def test_what_is_taken_is_the_checkpoint_and_a_manifest_that_says_it_all(base: Path, tmp_path: Path) -> None:
    script = (
        GOOD
        + "; (out/'training_args.bin').write_bytes(b'pickle'); (out/'checkpoint-5').mkdir(); "
        + ("(out/'checkpoint-5'/'optimizer.pt').write_bytes(b'p'); (out/'notes.txt').symlink_to('/etc/hostname')")
    )
    out = tmp_path / "checkpoint"
    result = train(base, out, settings(script))
    assert result.metrics == {"n_records": 4, "n_steps": 7, "n_tokens": 70}
    found = Manifest.model_validate_json((out / "manifest.json").read_bytes())
    assert (found.seed, found.n_rows, found.objective, found.format) == (3, 4, "sft", "prompt_completion")
    assert (found.weights, found.base) == (weights_hash(out), weights_hash(base))
    assert found.weights != found.base
    assert found.program == {"tool": "copier 1.0"}
    names = {path.name for path in base.iterdir()} | {"manifest.json", "notes.txt"}
    assert {path.name for path in out.iterdir()} == names  # neither pickles nor the trainer's own checkpoints
    assert not (out / "notes.txt").is_symlink()
    assert str(tmp_path) not in (out / "manifest.json").read_text()
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint", "checkpoint.log", "runs"}


def test_the_program_gets_the_records_and_the_placeholders(base: Path, tmp_path: Path) -> None:
    script = (
        "manifest(asked=sys.argv[5:], rows=data.read_text(), info=(data.parent/'dataset_info.json').exists()); train()"
    )
    how = settings(script, format="alpaca")
    more = (
        "{steps}",
        "lr={learning_rate}",
        "{{out}}",
        "{batch_size}/{max_length}",
        "{objective}",
        "{device}",
        '{"a": 1}',
    )
    command = how.command.model_copy(update={"arguments": (*how.command.arguments, *more)})
    train(base, tmp_path / "c", how.model_copy(update={"command": command}))
    said = Manifest.model_validate_json((tmp_path / "c" / "manifest.json").read_bytes()).program
    assert said["asked"] == ["7", "lr=2e-05", "{out}", "16/1024", "sft", "cpu", '{"a": 1}']
    first = {"instruction": RECORDS[0].prompt, "input": "", "output": f"{RECORDS[0].completion}<|endoftext|>"}
    assert json.loads(said["rows"])[0] == first
    assert said["info"]


def test_an_adapter_is_merged_into_the_base(tmp_path: Path) -> None:
    import torch
    from peft import LoraConfig, PeftModel, get_peft_model
    from transformers import AutoModelForCausalLM

    base = make_tiny_llama(tmp_path / "base")
    torch.manual_seed(0)
    adapted = get_peft_model(AutoModelForCausalLM.from_pretrained(base), LoraConfig(r=4, target_modules="all-linear"))
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.2)
    adapted.save_pretrained(tmp_path / "made")
    script = (
        f"[shutil.copyfile(p, out / p.name) for p in pathlib.Path({str(tmp_path / 'made')!r}).iterdir()]; manifest()"
    )
    train(base, tmp_path / "checkpoint", settings(script))
    check_checkpoint(tmp_path / "checkpoint")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "checkpoint")
    unmerged = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(base), tmp_path / "checkpoint" / "adapter"
    )
    ids = torch.arange(5, 25)[None]
    assert torch.allclose(merged(ids).logits, unmerged(ids).logits, atol=1e-4)
    assert not torch.allclose(merged(ids).logits, AutoModelForCausalLM.from_pretrained(base)(ids).logits, atol=0.1)
    other = make_word_llama(tmp_path / "other")
    assert "does not fit the base" in refused(other, tmp_path / "c2", settings(script))


WRONG = {
    "copy()": "manifest.json is missing (programs that write none need trainer.command.manifest: harness)",
    "copy(); manifest(seed=4)": "says that it trained with seed 4 and not 3",
    "copy(); manifest(data='0')": "says that it trained with data '0' and not",
    "copy(); (out/'manifest.json').write_text('[]')": "is no manifest",
    "copy(); (out/'manifest.json').write_text('{\"seed\": 3}')": "is no manifest: data",
    "copy(); manifest(metrics={'loss': 'low'})": "is no manifest: metrics.loss",
    "copy(); manifest(metrics={'loss': float('nan')})": "is no manifest: ",
    "pass": "manifest.json is missing",
    "manifest()": "left nothing in",
    "copy(); manifest(); (out/'model.safetensors').unlink()": "no *.safetensors in it",
    "copy(); manifest(); (out/'model.safetensors').rename(out/'pytorch_model.bin')": "pickles, which are not loaded",
    "copy(); manifest()": "are still those of the base, so nothing was trained",
    "copy(); manifest(); w=out/'model.safetensors'; w.rename(out/'other.safetensors')": (
        "has neither model.safetensors nor model.safetensors.index.json"
    ),
    "train(); manifest(); (out/'checkpoint-9').mkdir(); w=out/'model.safetensors'; w.rename(out/'checkpoint-9'/w.name)": (
        "no *.safetensors in it"
    ),
    "copy(); manifest(); (out/'config.json').unlink()": "not a checkpoint (no config.json)",
    "copy(); manifest(); (out/'tokenizer.json').unlink()": "has no tokenizer",
    "copy(); manifest(); f=out/'model.safetensors'; f.write_bytes(f.read_bytes()[:5000])": "is damaged",
    'copy(); manifest(); (out/\'m.safetensors.index.json\').write_text(\'{"weight_map": {"a": "m-2.safetensors"}}\')': (
        "has no m-2.safetensors, which its index names"
    ),
    "manifest(); (out/'adapter_config.json').write_text('{}'); (out/'adapter_model.bin').write_bytes(b'')": (
        "has no adapter_model.safetensors"
    ),
}


@pytest.mark.parametrize(("script", "lesson"), WRONG.items(), ids=range(len(WRONG)))
def test_output_that_cannot_be_taken_is_told_and_kept_until_it_is_mended(
    script: str, lesson: str, base: Path, tmp_path: Path
) -> None:
    out = tmp_path / "checkpoint"
    told = refused(base, out, settings(script))
    assert lesson in told
    assert f"mend it there, or delete {tmp_path / '.checkpoint.command'} to train again" in told
    assert refused(base, out, settings(script)) == told
    assert n_runs(out) == 1  # what took hours is not done again for a slip at its end
    shutil.rmtree(tmp_path / ".checkpoint.command")
    refused(base, out, settings(script))
    assert n_runs(out) == 2


def test_output_that_was_mended_is_taken_without_training_again(base: Path, tmp_path: Path) -> None:
    out = tmp_path / "checkpoint"
    refused(base, out, settings("train()"))
    assert train(base, out, settings("train()", manifest="harness")).metrics == {"n_records": 4}
    assert n_runs(out) == 1
    assert Manifest.model_validate_json((out / "manifest.json").read_bytes()).program is None


FAILING = {
    "print('\\x1b[31mno memory\\x1b[0m left', flush=True); sys.exit(3)": "failed with exit status 3, having said: no memory left",
    "os.kill(os.getpid(), 9)": "was killed by signal 9; see",
    "copy(); manifest(); raise RuntimeError('late')": "failed with exit status 1, having said: ",
}


@pytest.mark.parametrize(("script", "lesson"), FAILING.items(), ids=range(len(FAILING)))
def test_a_program_that_fails_is_told_with_its_last_lines_and_run_again(
    script: str, lesson: str, base: Path, tmp_path: Path
) -> None:
    out = tmp_path / "checkpoint"
    told = refused(base, out, settings(script))
    assert lesson in told
    assert told.endswith(f"see {tmp_path / 'checkpoint.log'}")
    refused(base, out, settings(script))
    assert n_runs(out) == 2


def test_a_program_that_takes_too_long_is_ended_with_all_that_it_started(base: Path, tmp_path: Path) -> None:
    beat = tmp_path / "beat"
    child = (
        f"import time, pathlib\nwhile True: pathlib.Path({str(beat)!r}).write_text(str(time.time())); time.sleep(0.05)"
    )
    script = f"import subprocess; subprocess.Popen([sys.executable, '-c', {child!r}]); time.sleep(60)"
    told = refused(base, tmp_path / "checkpoint", settings(script, timeout_seconds=1.0))
    assert "was ended after 1 s (timeout_seconds)" in told
    last = beat.read_text()
    time.sleep(0.3)
    assert beat.read_text() == last


def test_programs_that_cannot_be_started(base: Path, tmp_path: Path) -> None:
    (tmp_path / "script").write_text("echo")
    (tmp_path / "broken").write_text("#!/no/such/interpreter\n")
    (tmp_path / "broken").chmod(0o755)
    for program, lesson in (("no-such-program", "no program"), ("script", "no program"), ("broken", "No such file")):
        name = str(tmp_path / program) if program != "no-such-program" else program
        how = TrainerSettings(name="command", steps=1, command={"arguments": (name, "{data}", "{out}")})
        assert lesson in refused(base, tmp_path / "checkpoint", how)


def test_what_was_taken_is_not_trained_again_unless_something_is_different(base: Path, tmp_path: Path) -> None:
    out = tmp_path / "checkpoint"
    train(base, out, settings(GOOD))
    again = train(base, out, settings(GOOD, timeout_seconds=99, env=["PATH"]))
    assert again.metrics["n_steps"] == 7
    assert n_runs(out) == 1
    train(base, out, settings(GOOD), seed=4)
    train(base, out, settings(GOOD), seed=4, records=RECORDS[:2])
    train(base, out, settings(GOOD + "\npass"), seed=4, records=RECORDS[:2])
    assert n_runs(out) == 4
    with (out / "config.json").open("a") as file:
        file.write(" ")  # whoever touched it, it is not what was taken
    train(base, out, settings(GOOD + "\npass"), seed=4, records=RECORDS[:2])
    assert n_runs(out) == 5


def test_a_script_or_configuration_that_was_edited_trains_anew(base: Path, tmp_path: Path) -> None:
    script, config, out = tmp_path / "train.py", tmp_path / "my.yaml", tmp_path / "checkpoint"
    script.write_text(COPY + GOOD)
    config.write_text("layers: 1\n")
    how = settings(script)
    command = how.command.model_copy(update={"arguments": (*how.command.arguments, f"--config={config}")})
    how = how.model_copy(update={"command": command})
    for n, (file, text) in enumerate([(script, ""), (script, "# again\n"), (config, "layers: 2\n"), (config, "")], 1):
        with file.open("a") as end:
            end.write(text)
        train(base, out, how)
        assert n_runs(out) == min(n, 3)  # the last one changes nothing
    found = Manifest.model_validate_json((out / "manifest.json").read_bytes())
    assert found.files[str(script)] == hashlib.sha256(script.read_bytes()).hexdigest()
    assert set(found.files) == {str(script), f"--config={config}"}  # not the interpreter
    assert with_named_files({"arguments": ["a", "{data}"]}) == {"arguments": ["a", "{data}"]}
    assert (
        with_named_files({"arguments": [str(config)]})["files"][str(config)]
        != with_named_files({"arguments": [str(script)]})["files"][str(script)]
    )


@pytest.mark.parametrize("how", ["in half the precision", "in two files"])
def test_the_base_in_another_guise_is_not_trained(how: str, base: Path, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base)
    size = {"in half the precision": "1GB", "in two files": "200KB"}[how]
    (model.to(torch.bfloat16) if how == "in half the precision" else model).save_pretrained(
        tmp_path / "left", max_shard_size=size
    )
    assert (tmp_path / "left" / "model.safetensors.index.json").exists() == (how == "in two files")
    check_weights(tmp_path / "left")
    with pytest.raises(UserError, match="nothing was trained"):
        check_trained(base, tmp_path / "left")
    with torch.no_grad():
        model.get_parameter("model.layers.1.mlp.down_proj.weight")[3, 3] += 1
    model.save_pretrained(tmp_path / "trained", max_shard_size=size)
    check_trained(base, tmp_path / "trained")
    if how == "in two files":
        next((tmp_path / "left").glob("model-00002*")).unlink()
        with pytest.raises(UserError, match="which its index names"):
            check_weights(tmp_path / "left")


DRIVER = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_command import *
train(Path(sys.argv[1]), Path(sys.argv[2]), settings(sys.argv[3], **eval(sys.argv[4])))
"""


def start(base: Path, out: Path, script: str, **command: object) -> subprocess.Popen:
    code = DRIVER.format(tests=str(Path(__file__).parent))
    return subprocess.Popen([sys.executable, "-c", code, base, out, script, repr(command)], cwd=ROOT)


def until(found, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_killed_harness_ends_its_program_and_leaves_nothing_half_taken(sign: int, base: Path, tmp_path: Path) -> None:
    out, pid = tmp_path / "checkpoint", tmp_path / "pid"
    wait = "train(); manifest(); (out.parent.parent/'pid').write_text(str(os.getpid())); "
    polite = "import signal; signal.signal(signal.SIGTERM, lambda *_: sys.exit(0)); "  # saves and exits well when asked
    process = start(base, out, polite + wait + "time.sleep(60)")
    until(lambda: pid.exists() and pid.read_text())
    process.send_signal(sign)
    process.wait(20)
    until(lambda: not alive(int(pid.read_text())))
    assert not out.exists()
    train(base, out, settings(polite + wait + "time.sleep(0)"))
    assert n_runs(out) == 2  # its exit status of 0 was not an end of training
    check_checkpoint(out)


def test_a_program_that_resumes_finds_what_it_left(base: Path, tmp_path: Path) -> None:
    out = tmp_path / "checkpoint"
    script = "(out/'step').exists() or (train(), manifest(), (out/'step').write_text('5'), sys.exit(1))"
    assert "exit status 1" in refused(base, out, settings(script, resume=True))
    assert train(base, out, settings(script, resume=True)).resumed
    assert n_runs(out) == 2
    fresh = tmp_path / "fresh" / "checkpoint"
    fresh.parent.mkdir()
    refused(base, fresh, settings(script))
    refused(base, fresh, settings(script))


@pytest.mark.parametrize("at", ["before it was looked at", "before it was moved", "after it was moved"])
def test_a_kill_after_the_program_has_ended_well_costs_no_second_training(
    at: str, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.trainers import command

    class Killed(BaseException):
        """In the place of SIGKILL: nothing of ours runs after it."""

    def kill(*_: object, **__: object) -> None:
        raise Killed

    out, how = tmp_path / "checkpoint", settings(GOOD)
    with monkeypatch.context() as patched:
        if at == "before it was looked at":
            patched.setattr(command._Training, "take", kill)
        elif at == "before it was moved":
            patched.setattr(command._Training, "_moved", kill)
        else:
            patched.setattr(command, "TrainResult", kill)
        with pytest.raises(Killed):
            train(base, out, how)
    assert train(base, out, how).metrics == {"n_records": 4, "n_steps": 7, "n_tokens": 70}
    assert n_runs(out) == 1
    assert Manifest.model_validate_json((out / "manifest.json").read_bytes()).program == {"tool": "copier 1.0"}


def test_no_secret_is_passed_that_is_not_named_and_none_is_written(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_verysecret")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-alsosecret")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    script = "print(sorted(os.environ), os.environ.get('HF_TOKEN'), flush=True); sys.exit(1)"
    told = refused(base, tmp_path / "checkpoint", settings(script))
    log = (tmp_path / "checkpoint.log").read_text()
    assert "HF_TOKEN" not in log
    assert "OPENAI_API_KEY" not in log
    assert "CUDA_VISIBLE_DEVICES" in log
    told = refused(base, tmp_path / "checkpoint", settings(script, env=["HF_TOKEN"]))
    log = (tmp_path / "checkpoint.log").read_text()
    assert "'HF_TOKEN'" in log
    assert "<HF_TOKEN>" in log
    assert "<HF_TOKEN>" in told
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and b"verysecret" in path.read_bytes()]
    monkeypatch.delenv("HF_TOKEN")
    assert "HF_TOKEN, which is not set" in refused(base, tmp_path / "c", settings(script, env=["HF_TOKEN"]))
    assert "OPENAI_API_KEY" not in environment([])


def test_the_last_lines_of_a_progress_bar_are_one_plain_line(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"old\n" + b"".join(b"\r%d%%|##" % n for n in range(99)) + b"\n\nError: \xff\x07no space\n")
    assert last_lines(log, 4) == "97%|## | 98%|## | Error: \ufffdno space"
    log.write_bytes(b"x" * 300_000)
    assert len(last_lines(log)) == 200


MISTAKES = {
    "{name: command, steps: 1}": "needs a block 'command'",
    "{name: command, steps: 1, command: {arguments: [a, '{data}']}}": "must hold {data}",
    "{name: command, steps: 1, command: {arguments: [a, '{data}', '{out}', '{sead}']}}": "did you mean 'seed'",
    "{name: command, steps: 1, command: {arguments: [a, '{data}', '{out}', '{epochs}']}}": "write {steps}",
    "{name: command, steps: 1, command: {arguments: []}}": "at least 1 item",
    "{name: trl, steps: 1, command: {arguments: [a, '{data}', '{out}']}}": "is for trainer command, not for trl",
    "{name: openai, steps: 1, openai: {model: m}}": "takes whole epochs",
    "{name: openai, epochs: 1.5, openai: {model: m}}": "takes whole epochs",
    "{name: openai, epochs: 2}": "needs a block 'openai'",
    "{name: openai, epochs: 2, openai: {model: m, base_url: 'http://me:pass@host/v1'}}": "leave user and password out",
    "{name: openai, epochs: 2, openai: {model: m, suffix: 'a b'}}": "suffix must be",
}


@pytest.mark.parametrize(("block", "lesson"), MISTAKES.items())
def test_settings_that_cannot_be_are_told_when_they_are_read(block: str, lesson: str) -> None:
    import yaml

    with pytest.raises(ValidationError) as error:
        TrainerSettings.model_validate(yaml.safe_load(block))
    assert lesson in str(error.value)
    assert "me:pass" not in error.value.errors(include_input=False)[0]["msg"]


def test_a_file_of_records_is_hashed_as_the_program_reads_it(base: Path, tmp_path: Path) -> None:
    train(base, tmp_path / "c", settings(GOOD + "\nshutil.copyfile(data, out/'data.txt')"))
    found = Manifest.model_validate_json((tmp_path / "c" / "manifest.json").read_bytes())
    assert found.data == hashlib.sha256((tmp_path / "c" / "data.txt").read_bytes()).hexdigest()
