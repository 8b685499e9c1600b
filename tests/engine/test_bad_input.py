"""Bad input is one line on standard error that names the place and the remedy; nothing is written."""

import json
import shutil
import sys
from pathlib import Path

import pytest
from command_line import RECIPE, contents, harness, one_error

from harness.errors import UserError
from harness.recipe import load_config
from harness.stages.feasible import context_of
from harness.stages.plan import make_plan, seal
from harness.store import Run

ROW = {"instruction": "how?", "good": "no", "bad": "yes"}


@pytest.fixture
def told(command, monkeypatch, tmp_path):
    """Runs the command line in an empty folder, in this process; gives the one line of error that it must say."""
    folder = tmp_path / "working"
    folder.mkdir(exist_ok=True)
    monkeypatch.chdir(folder)

    def run(*arguments):
        before = contents(folder)
        line = one_error(command(*arguments))
        assert contents(folder) == before
        assert not (folder / "runs").exists()
        return line

    return run


def with_set(*settings):
    return [part for setting in settings for part in ("--set", setting)]


def write(name, text):
    Path(name).write_text(text if isinstance(text, str) else "".join(json.dumps(row) + "\n" for row in text))
    return name


# Names


@pytest.mark.parametrize(
    ("setting", "part"),
    [
        ("subjects.sft.method=stf", "unknown method 'stf': did you mean 'sft'?"),
        ("prepare.mistake_judge=[vale_mistak, mistake]", "unknown judge 'vale_mistak': did you mean 'vale_mistake'?"),
        ("prepare.analysis_judge=vale_verdit", "unknown judge 'vale_verdit': did you mean 'vale_verdict'?"),
        ("tasks={vale_harmles: {}}", "unknown task 'vale_harmles': did you mean 'vale_harmless'?"),
        ("layouts=[discriminaton]", "unknown layout 'discriminaton': did you mean 'discrimination'?"),
        ("subjects.ma.analyst=orakle", "unknown model 'orakle': did you mean 'oracle'?"),
        ("base=vale-9", "unknown base model"),
        ("templates=vaal", "unknown template set 'vaal': did you mean 'vale'?"),
        ("baselines=[vanlla]", "unknown subject 'vanlla': did you mean 'vanilla'?"),
        ("trainer.name=tlr", "unknown trainer 'tlr': did you mean 'trl'?"),
        ("models.strong={path: vale-8}", "unknown base model"),
        ("models.strong={backend: hf}", "needs a path"),
        ("backend=vlm", "unknown backend 'vlm': did you mean 'vllm'?"),
        ("models.strong={backend: vale_orakle}", "unknown backend 'vale_orakle': did you mean 'vale_oracle'?"),
        ("models.strong={path: no/such}", "no/such: no such checkpoint folder"),
        ("dtype=floot32", "dtype"),
        ("tasks.vale_harmless.split=tset", "unknown split 'tset': did you mean 'test'?"),
        ("claims.discrimination-beats-generation.first=vanilla.acuracy_guided", "did you mean 'accuracy_guided'?"),
        ("claims.discrimination-beats-generation.second=vanila.harmless_rate", "did you mean 'vanilla'?"),
        ("claims.discrimination-beats-generation.first=vanilla.f1_guided", "unknown metric 'f1_guided'"),
        ("trainer.lerning_rate=1", "did you mean 'learning_rate'?"),
        ("nonsense", "write it as field=value"),
    ],
)
def test_an_unknown_name_in_a_setting(told, small, setting, part):
    assert part in told("run", *small, *with_set(setting))


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("run", "dmeo"), "unknown recipe 'dmeo': did you mean 'demo'?"),
        (("plan", "nowhere.yaml"), "nowhere.yaml: no such file"),
        (("list", "judgs"), "unknown kind 'judgs': did you mean 'judges'?"),
        (("show", "."), "not a run (no manifest.json)"),
        (("score", "nowhere"), "not a run (no manifest.json)"),
        (("judge", "nowhere"), "not a run (no manifest.json)"),
        (("list", "judges", "--include-path", "nowhere"), "--include-path nowhere: no such folder"),
        (("run", "pku_saferlhf"), "--set base=DIR"),
        (("run", "pku_saferlhf", "--set", "base=vale-0"), "data.train is not set"),
    ],
)
def test_an_unknown_name_on_the_command_line(told, arguments, part):
    assert part in told(*arguments)


def test_a_recipe_of_the_user_s_with_a_mistake(told):
    text = RECIPE.read_text()
    write("mine.yaml", text.replace("method: sft", "method: stf"))
    assert "did you mean 'sft'?" in told("run", "mine.yaml")
    write("mine.yaml", text.replace("seeds: [0, 1]", "seeds: [0, 1"))
    assert "mine.yaml:" in (line := told("run", "mine.yaml"))
    assert "not valid YAML" in line
    assert int(line.split("mine.yaml:")[1].split(":")[0]) >= text[: text.index("seeds:")].count("\n")


# Data


@pytest.mark.parametrize(
    ("text", "part"),
    [
        (None, "rows.jsonl: no such file"),
        ([{"question": "how?", "god": "no", "bad": "yes"}], "rename 'god' to 'good'?"),
        ([ROW, ROW], None),
        (json.dumps(ROW) + "\n{broken\n", "rows.jsonl:2: not valid JSON"),
        ([ROW, {**ROW, "good": 3}], "rows.jsonl:2: 'good' must be text"),
        ("", "holds no rows"),
    ],
)
def test_alignment_data_that_is_not_as_it_should_be(told, small, text, part):
    if text is not None:
        write("rows.jsonl", text)
    if part is None:  # the file is fine: what is told is the next mistake
        part, more = "unknown layout", ("layouts=[x]",)
    else:
        more = ()
    assert part in told("run", *small, *with_set("data.train=rows.jsonl", *more))


def test_a_file_is_suggested_only_where_it_may_be_meant(told, small):
    for name in ("container_info.json", "train.yaml", "row.txt"):
        write(name, "")
    assert told("plan", *small, *with_set("data.train=./train.jsonl")) == "harness: train.jsonl: no such file"
    write("rows.jsonl", [ROW])
    line = told("plan", *small, *with_set("data.train=./row.jsonl"))
    assert line == "harness: row.jsonl: no such file; did you mean 'rows.jsonl'?"


def test_test_data_that_is_not_as_it_should_be(told, small):
    task = ("tasks={alpaca_farm: {data: farm.jsonl}}", "claims=[]")
    assert "farm.jsonl: no such file" in told("run", *small, *with_set(*task))
    write("farm.jsonl", '{"instruction": "x"}\n{"instruction": \n')
    assert "farm.jsonl:2: not valid JSON" in told("run", *small, *with_set(*task))
    write("farm.jsonl", [{"instructoin": "x"}])
    assert "instructoin" in told("run", *small, *with_set(*task))


# Checkpoints


@pytest.mark.parametrize(
    ("removed", "part"),
    [
        (("tokenizer.json",), "no tokenizer"),
        (("config.json",), "not a checkpoint (no config.json)"),
        (("model.safetensors",), "no *.safetensors"),
    ],
)
def test_a_checkpoint_folder_that_lacks_something(told, bases, tmp_path, removed, part):
    shutil.copytree(bases / "vale-0", tmp_path / "base")
    for name in removed:
        (tmp_path / "base" / name).unlink()
    assert part in told("run", RECIPE, *with_set(f"base={tmp_path / 'base'}"))


def test_pickled_weights_are_not_loaded(told, bases, tmp_path):
    shutil.copytree(bases / "vale-0", tmp_path / "base")
    (tmp_path / "base" / "model.safetensors").rename(tmp_path / "base" / "pytorch_model.bin")
    line = told("run", RECIPE, *with_set(f"base={tmp_path / 'base'}"))
    assert "pickles, which are not loaded" in line
    assert "save_pretrained" in line


def test_a_folder_that_is_not_there(told):
    assert "no/such/base: no such checkpoint folder" in told("run", RECIPE, *with_set("base=no/such/base"))


# What could not be done


PROGRAM = "subjects.sft.trainer={name: command, command: {arguments: [%s, '{data}', '{out}']}}"


@pytest.mark.parametrize(
    ("settings", "part"),
    [
        (("tasks.vale_harmless.max_new_tokens=256",), "tasks.vale_harmless.max_new_tokens: 256 new tokens leave no room"),
        (("prepare.sampling.max_new_tokens=512",), "prepare.sampling.max_new_tokens: 512 new tokens leave no room"),
        (("prepare.sampling.max_new_tokens=512",), "vale-0, 256 tokens: choose fewer, such as --set prepare.sampling.max"),
    ],
)
@pytest.mark.parametrize("verb", ["plan", "run", "train"])
def test_what_cannot_be_done_is_told_before_anything_is_made(told, small, verb, settings, part):
    assert part in told(verb, *small, *with_set(*settings))


def test_a_program_that_is_missing_is_told_before_anything_is_made(told, command, small):
    lesson = "no program 'nosuchprog' is found or may be run, which is to train 'sft'"
    missing = with_set(PROGRAM % "nosuchprog")
    for verb in ("run", "train"):
        assert lesson in told(verb, *small, *missing)
    planned = command("plan", *small, *missing)  # perhaps for another machine
    assert planned.code == 0
    assert lesson in " ".join(planned.out.split())


def test_what_can_be_done_is_not_refused(command, small):
    fits = ("tasks.vale_harmless.max_new_tokens=255", "prepare.sampling.max_new_tokens=255", PROGRAM % sys.executable)
    chosen = ("tasks.vale_discrimination_guided.max_new_tokens=512",)  # nothing is written there
    found = ("subjects.sft.trainer={name: command, command: {arguments: ['{base}/train.sh', '{data}', '{out}']}}",)
    for settings in (fits, chosen, found):
        assert command("plan", *small, *with_set(*settings)).code == 0


@pytest.mark.parametrize(
    ("config", "context"),
    [
        ('{"max_position_embeddings": 64}', 64),
        ('{"n_positions": 32, "max_position_embeddings": 64}', 32),
        ('{"max_position_embeddings": 9, "text_config": {"max_position_embeddings": 64}}', 64),
        ("{}", None),
        ("[]", None),
        ("{", None),
        (None, None),
    ],
)
def test_the_context_is_what_the_checkpoint_says(tmp_path, config, context):
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    assert context_of(tmp_path) == context


# The run's folder


def test_a_folder_that_holds_a_run_of_another_recipe(small, bases, tmp_path):
    run = Run(tmp_path / "run")
    overrides = [f"base={bases / 'vale-0'}", "seeds=[0]", "subjects=[{name: vanilla, label: V, method: vanilla}]"]
    overrides += ["claims=[]", "tasks={vale_harmless: {limit: 2}}", "layouts=[]"]
    seal(run, make_plan(load_config(str(RECIPE), [*overrides, "name=mine"])))
    with pytest.raises(UserError) as error:
        seal(run, make_plan(load_config(str(RECIPE), overrides)))
    assert str(error.value) == f"{run.path}: holds a run of recipe 'mine', not 'small'; choose another --out"


def test_a_folder_that_holds_something_else(told, small):
    Path("thesis").mkdir()
    write("thesis/thesis.tex", "precious")
    assert "not empty and holds no run" in told("run", *small, "--out", "thesis")
    assert "is a file" in told("run", *small, "--out", "thesis/thesis.tex")


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"environment": {"config": {"name": "x"}}}', "\x00"])
def test_a_broken_manifest(told, small, text):
    Path("run").mkdir()
    write("run/manifest.json", text)
    for verb in ("show", "judge", "score"):
        Path("run/.lock").touch()
        assert "manifest.json" in told(verb, "run")


# One of each in a process of its own


def test_in_a_process_of_its_own(tmp_path, small):
    line = one_error(harness("run", "dmeo", cwd=tmp_path))
    assert line == "harness: unknown recipe 'dmeo': did you mean 'demo'?"
    line = one_error(harness("run", *small, "--set", "data.train=rows.jsonl", cwd=tmp_path))
    assert line.startswith("harness: rows.jsonl: no such file")
    assert list(tmp_path.iterdir()) == []
