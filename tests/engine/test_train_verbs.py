"""Training alone, and training data for other trainers: the command line, on the engine's small recipe."""

import json
import shutil

import pytest
from command_line import contents, harness, one_error

from harness.records import TrainingRecord
from harness.store import read

TWICE = """[{name: one, label: One, method: dpo, mistakes: origin}, {name: two, label: Two, method: dpo, mistakes: self}]"""


@pytest.fixture(scope="module")
def brief(small, bases):
    """The small recipe with one seed, two subjects and one task."""
    sft = "{name: sft, label: SFT, method: sft}, {name: dpo, label: DPO, method: dpo, mistakes: origin}"
    changes = [f"base={bases / 'vale-1'}", "seeds=[1]", f"subjects=[{sft}]", "tasks={vale_harmless: {limit: 4}}"]
    return (*small, *(word for change in [*changes, "baselines=[]", "claims=[]"] for word in ("--set", change)))


def test_one_subject_is_trained_and_the_run_goes_on_from_there(brief, small_run, tmp_path):
    path = tmp_path / "run"
    said = harness("train", *brief, "--subject", "sft", "--out", path)
    assert said.code == 0, said.err
    folder, weights = path / "train" / "sft" / "1", "checkpoint/model.safetensors"
    [line] = said.out.splitlines()
    assert line.startswith(f"{folder / 'checkpoint'}: 3 steps, loss ")
    assert {file.parent.parent.name for file in path.glob("train/*/*/counts.json")} == {"sft"}
    assert not (path / "completions.jsonl").exists()
    assert not (path / "scores.json").exists()
    assert (folder / weights).read_bytes() == (small_run.path / "train" / "sft" / "1" / weights).read_bytes()
    before = (folder / weights).stat().st_mtime_ns
    run = harness("run", *brief, "--out", path)
    assert run.code == 0, run.err
    assert (folder / weights).stat().st_mtime_ns == before
    assert (path / "scores.json").exists()
    again = harness("train", *brief, "--out", path, "--json")
    assert again.code == 0, again.err
    told = json.loads(again.out)
    assert [(one["subject"], one["seed"], one["metrics"]["n_steps"]) for one in told] == [("sft", 1, 3), ("dpo", 1, 3)]


def test_data_are_made_for_another_trainer_and_nothing_is_trained(small, small_run, tmp_path):
    run = tmp_path / "run"
    said = harness("export-data", "sft", *small, "--run", run, "--seed", 0, "--format", "alpaca", "--json")
    assert said.code == 0, said.err
    [told] = json.loads(said.out)
    rows = json.loads((run / "export" / "sft" / "0" / "alpaca.json").read_text())
    records = read(small_run.path / "train" / "sft" / "0" / "records.jsonl", TrainingRecord).records
    rendered = [(f"<bos>{r.prompt}", f"{r.completion}<eos>") for r in records]  # LLaMA-Factory's `empty` adds neither
    assert [(row["instruction"], row["output"]) for row in rows] == rendered
    assert told == {"path": str(run / "export" / "sft" / "0" / "alpaca.json"), "format": "alpaca",
                    "n_rows": len(records), "n_left_out": 0}  # fmt: skip
    info = json.loads((run / "export" / "sft" / "0" / "dataset_info.json").read_text())
    assert info["harness_alpaca"]["file_name"] == "alpaca.json"
    assert not list(run.glob("train/*/*/checkpoint*"))


def test_data_of_a_finished_run_are_written_beside_it(small_run, command, tmp_path):
    before = contents(small_run.path)
    said = command("export-data", "sft", small_run.path, "--seed", 1, "--format", "openai_chat", "--out", tmp_path)
    assert said.code == 0, said.err
    lines = (tmp_path / "openai_chat.jsonl").read_text().splitlines()
    assert said.out.strip() == f"{tmp_path / 'openai_chat.jsonl'}: {len(lines)} rows, openai_chat"
    assert {tuple(m["role"] for m in json.loads(line)["messages"]) for line in lines} == {("user", "assistant")}
    assert contents(small_run.path) == before


@pytest.mark.parametrize(
    ("arguments", "lesson"),
    [
        (("train", "--subject", "sfx"), "unknown subject or method 'sfx': did you mean 'sft'?"),
        (("train", "--subject", "vanilla"), "trains no subject by method 'vanilla'"),
        (("train", "--seed", 7), "has no seed 7, only 0, 1"),
        (("export-data", "sft", "--format", "alpacca"), "unknown format 'alpacca': did you mean 'alpaca'?"),
        (("export-data", "sft", "--out", "one"), "--out is for one file, and there are 2 seeds: say which with --seed"),
    ],
)
def test_what_cannot_be_meant_is_told_and_nothing_is_written(small, command, tmp_path, monkeypatch, arguments, lesson):
    monkeypatch.chdir(tmp_path)
    verb, *more = arguments
    first = [more.pop(0)] if verb == "export-data" else []
    assert lesson in one_error(command(verb, *first, *small, *more))
    assert list(tmp_path.iterdir()) == []


def test_formats_beside_each_other_are_all_found(small_run, command, tmp_path):
    (tmp_path / "dataset_info.json").write_text('{"mine": {"file_name": "mine.json"}}')
    for name in ("alpaca", "sharegpt"):
        assert command("export-data", "sft", small_run.path, "--seed", 0, "--format", name, "--out", tmp_path).code == 0
    info = json.loads((tmp_path / "dataset_info.json").read_text())
    assert set(info) == {"mine", "harness_alpaca", "harness_sharegpt"}
    (tmp_path / "dataset_info.json").write_text("[")
    wrong = ("export-data", "sft", small_run.path, "--seed", 0, "--format", "alpaca", "--out", tmp_path)
    assert "dataset_info.json: is not a list of data sets" in one_error(command(*wrong))
    file = tmp_path / "dataset_info.json"
    assert f"{file} is a file" in one_error(command("export-data", "sft", small_run.path, "--seed", 0, "--out", file))


def test_several_subjects_of_a_method_are_told_apart(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = one_error(command("export-data", "dpo", "demo", "--set", "baselines=[]", "--set", "subjects=" + TWICE))
    assert said.endswith("several subjects of the recipe are made by dpo: name one of one, two")
    assert list(tmp_path.iterdir()) == []


def test_a_run_without_these_data_says_so(small_run, command, tmp_path):
    path = tmp_path / "run"
    shutil.copytree(small_run.path, path)
    shutil.rmtree(path / "train" / "sft" / "0")
    assert "the data of sft, seed 0 are not made yet" in one_error(command("export-data", "sft", path))
    assert "--set and --run go with a recipe" in one_error(command("export-data", "sft", path, "--set", "name=x"))
