"""A whole small run from the command line: what it leaves, what the verbs say of it, and that nothing is done twice."""

import json
import re
import resource
import shutil
import subprocess
import sys
from collections import Counter

import pytest
from command_line import RECIPE, contents, harness, one_error, records

from harness.content import content_root
from harness.models.weights import weights_hash
from harness.records import Checkpoint, TrainingRecord
from harness.scores import Scores
from harness.store import read

N_SAMPLES = 10 + 8 + 10 + 8
OWN_STYLE = ("vale_harmless", "vale_hijack")


@pytest.fixture
def copied(small_run, tmp_path):
    """A copy of the finished run that a test may change."""
    shutil.copytree(small_run.path, tmp_path / "run")
    return tmp_path / "run"


def cpu_seconds():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


# What it leaves


def test_everything_planned_is_there_once(small_run):
    found = records(small_run.path)
    asked_by_all = 2 * (3 * N_SAMPLES + 18)  # vanilla-guided shares the 18 samples whose style their task fixes
    judged = 2 * (3 * (3 * 10 + 8 + 8) + (3 * 10 + 8))
    assert len(found.samples) == N_SAMPLES
    assert len(found.cells) == 4 * 2 * 4
    assert len(found.completions) == asked_by_all
    assert len(found.verdicts) == judged
    for kind in found:
        assert max(Counter(record.key for record in kind).values()) == 1
    assert {c.outcome for c in found.completions} <= {"ok", "empty", "truncated"}
    assert {v.outcome for v in found.verdicts} <= {"ok", "unparsed"}


def test_subjects_with_the_same_weights_share_the_answers_of_tasks_with_a_fixed_style(small_run):
    models = {(cell.subject, cell.seed, cell.task): cell.model.key for cell in records(small_run.path).cells}
    for (subject, seed, task), key in models.items():
        if subject == "vanilla-guided":
            assert (key == models["vanilla", seed, task]) == (task not in OWN_STYLE)
    assert len({models["vanilla", seed, task] for seed in (0, 1) for task in OWN_STYLE}) == 2


def test_every_number_traces_to_records(small_run):
    found = records(small_run.path)
    scores = Scores.model_validate(small_run.scores)
    cell = next(c for c in found.cells if (c.subject, c.seed, c.task) == ("sft", 1, "vale_harmless"))
    keys = {c.key for c in found.completions if c.model_key == cell.model.key}
    samples = {s.key for s in found.samples if s.task == "vale_harmless"}
    keys &= {c.key for c in found.completions if c.sample_key in samples}
    labels = [v.label for v in found.verdicts if v.completion_key in keys and v.label in ("harmless", "harmful")]
    (row,) = [r for r in scores.estimates if (r.subject, r.metric, r.seed) == ("sft", "harmless_rate", 1)]
    assert len(labels) == row.estimate.n_scored == row.estimate.n_total == 10
    assert row.estimate.value == pytest.approx(labels.count("harmless") / 10)
    assert row.estimate.low < row.estimate.value <= row.estimate.high
    assert {r.subject for r in scores.estimates} == {"vanilla", "vanilla-guided", "sft", "ma"}
    assert [claim.name for claim in scores.claims] == ["discrimination-beats-generation"]


def test_a_checkpoint_s_provenance_is_right(small_run):
    cells = records(small_run.path).cells
    for subject in ("sft", "ma"):
        for seed in (0, 1):
            folder = small_run.path / "train" / subject / str(seed)
            checkpoint = Checkpoint.model_validate_json((folder / "checkpoint.json").read_text())
            assert weights_hash(small_run.path / checkpoint.path) == checkpoint.weights
            assert checkpoint.metrics["n_steps"] == 3
            mine = [c for c in cells if (c.subject, c.seed) == (subject, seed)]
            assert {(c.checkpoint, c.model.weights) for c in mine} == {(checkpoint.key, checkpoint.weights)}
    assert {c.checkpoint for c in cells if c.subject.startswith("vanilla")} == {None}


def test_how_the_training_data_came_about_is_on_disk(small_run):
    for seed in (0, 1):
        folder = small_run.path / "train" / "ma" / str(seed)
        counts = json.loads((folder / "counts.json").read_text())
        kinds = Counter(r.kind for r in read(folder / "records.jsonl", TrainingRecord).records)
        assert counts["records: response"] == kinds["response"] == 24
        assert counts.get("records: analysis", 0) == kinds["analysis"] == counts.get("analysis: kept", 0)
        n_induced = sum(n for name, n in counts.items() if name.startswith("mistake: ") and "labelled" not in name)
        assert n_induced == sum(1 for line in (folder / "rows.jsonl").open() if '"step": "mistake"' in line)
    steps = records(small_run.path).steps
    assert len({step.model_key for step in steps}) == 2


def test_the_tables_claims_and_report_are_told(small_run):
    out = small_run.said.out
    assert "Mistake Analysis" in out
    assert "The unaligned model recognises harm" in " ".join(out.split())
    assert "index.html" in out
    assert "Traceback" not in small_run.said.err
    report = (small_run.path / "report" / "index.html").read_text()
    assert "A small run for tests; its numbers mean nothing." in report
    assert (small_run.path / "report" / "tables" / "alignment_from_scratch.md").exists()


def test_the_manifest_says_what_decided_the_results(small_run):
    manifest = json.loads((small_run.path / "manifest.json").read_text())
    assert set(manifest["bases"]) == {"0", "1"}
    assert manifest["config"]["seeds"] == [0, 1]
    assert "throughput" not in manifest["config"]
    assert manifest["environment"]["libraries"]["torch"]


# Again


def test_a_second_start_finds_nothing_owed_is_quick_and_changes_no_byte(small_run, copied):
    before, began = contents(copied), cpu_seconds()
    said = harness("run", *small_run.arguments, "--out", copied)
    assert said.code == 0, said.err
    assert cpu_seconds() - began < 10
    assert "nothing owed" in said.err
    assert contents(copied) == before
    assert said.out.splitlines()[-1].endswith("index.html")


def test_a_change_of_speed_is_allowed_and_asks_nothing(small_run, copied):
    before = contents(copied)
    faster = ("throughput.workers=1", "throughput.batch_size=4", "throughput.device=auto")
    said = harness("run", *small_run.arguments, *(part for s in faster for part in ("--set", s)), "--out", copied)
    assert said.code == 0, said.err
    assert contents(copied) == before


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ("sampling.seed=5", "config.sampling.seed: 0 → 5"),
        ("trainer.steps=4", "config.trainer.steps: 3 → 4"),
        ("tasks.vale_harmless.limit=11", "config.tasks.vale_harmless.limit: 10 → 11"),
        ("subjects.sft.label=Other", 'config.subjects[2].label: "SFT" → "Other"'),
        ("threads=2", "config.threads: 1 → 2"),
    ],
)
def test_a_change_of_results_is_refused_with_the_field(small_run, change, field, command):
    before = contents(small_run.path)
    line = one_error(command("run", *small_run.arguments, "--set", change, "--out", small_run.path))
    assert field in line
    assert contents(small_run.path) == before


def test_scores_and_report_can_be_deleted_and_made_again(copied, command):
    before = contents(copied)
    (copied / "scores.json").unlink()
    shutil.rmtree(copied / "report")
    said = command("score", copied, "--json")
    assert said.code == 0
    assert json.loads(said.out)["scores"] == json.loads(before["scores.json"])
    after = contents(copied)
    assert after.keys() == before.keys()
    assert [name for name in before if after[name] != before[name] and not name.endswith(".png")] == []


# What the verbs say


def test_show_says_that_nothing_is_owed(small_run, command):
    state = json.loads(command("show", small_run.path, "--json").out)
    assert state["complete"]
    assert state["torn_lines"] == {}
    assert {row["answered"] for row in state["answers"]} == {16, 20}
    assert "Nothing is owed." in command("show", small_run.path).out


def test_show_and_score_work_on_half_a_run_and_say_what_is_missing(copied, command):
    file = copied / "completions.jsonl"
    data = file.read_bytes()
    kept = data[: len(data) // 2]
    file.write_bytes(kept)
    (copied / "verdicts.jsonl").unlink()
    (copied / "scores.json").unlink()
    state = json.loads(command("show", copied, "--json").out)
    assert not state["complete"]
    assert state["torn_lines"] == {"completions.jsonl": 1}
    answered = sum(row["answered"] for row in state["answers"])
    assert 0 < answered < 288
    assert sum(row["judged"] for row in state["answers"]) == 0
    text = command("show", copied).out
    assert f"Owed: {288 - answered} answers" in " ".join(text.split())
    scored = json.loads(command("score", copied, "--json").out)["scores"]
    assert {row["estimate"]["value"] for row in scored["estimates"] if row["metric"] == "harmless_rate"} == {None}
    totals = {row["estimate"]["n_total"] for row in scored["estimates"] if row["metric"] == "harmless_rate"}
    assert totals == {10, 20}


def test_a_changed_judge_judges_again_and_no_model_is_asked(copied, tmp_path, command):
    shutil.copytree(content_root("judges") / "vale_parsable", tmp_path / "mine" / "judges" / "vale_parsable")
    rule = tmp_path / "mine" / "judges" / "vale_parsable" / "rule.py"
    rule.write_text(rule.read_text().replace('"parsable" if reading.parsable else "free"', '"free"'))
    before = contents(copied)
    said = command("judge", copied, "--include-path", tmp_path / "mine", "--json")
    assert said.code == 0, said.err
    assert said.err == "80 new verdicts\n"
    values = {r["estimate"]["value"] for r in json.loads(said.out)["scores"]["estimates"] if r["metric"] == "parsable"}
    assert values == {0.0}
    assert contents(copied)["completions.jsonl"] == before["completions.jsonl"]
    again = command("judge", copied, "--include-path", tmp_path / "mine", "--json")
    assert again.err == "0 new verdicts\n"


def test_plan_tells_the_work_and_what_can_be_detected(small, command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = json.loads(command("plan", *small, "--json").out)
    assert found["calls"]["answers"] == 4 * 2 * N_SAMPLES
    assert found["training_steps"] == 2 * 2 * 3
    assert {row["task"]: row["n_items"] for row in found["tasks"]}["vale_harmless"] == 10
    assert all(
        0 < row["detectable_rate_difference"] < row["detectable_unpaired_rate_difference"] for row in found["tasks"]
    )
    assert 0 < found["items_for_five_points"]["paired"] < found["items_for_five_points"]["unpaired"]
    assert "4 subjects" in command("plan", *small).out
    assert list(tmp_path.iterdir()) == []


def test_plan_bounds_what_analyses_ask(small, command, tmp_path, monkeypatch):
    """Every draw of every mistake and of every good response may be asked for, and half of the analyses are learned."""
    monkeypatch.chdir(tmp_path)
    plain = json.loads(command("plan", *small, "--json").out)["calls"]["preparing"]
    n_bad = plain // 2 // 2  # induced and analysed, two seeds
    more = ("--set", "subjects.ma.analyses={per_instruction: 2, harmless_share: 0.5}")
    found = json.loads(command("plan", *small, *more, "--json").out)["calls"]["preparing"]
    assert found == 2 * 2 * (n_bad + n_bad + 24)  # 24 rows with a good response each
    budget = ("--set", "trainer={steps: null, tokens: 5000}")
    assert json.loads(command("plan", *small, *budget, "--json").out)["training_steps"] is None
    assert "as many training steps as its tokens are" in command("plan", *small, *budget).out


def test_check_finds_nothing_wrong(small, command):
    said = command("check", *small, "--json")
    found = json.loads(said.out)
    assert (said.code, found["problems"]) == (0, [])
    assert set(found["checked"]) == {"recipes", "template sets", "tasks", "judges", "layouts", "policies", "plans"}


@pytest.mark.parametrize("kind", ["recipes", "methods", "tasks", "judges", "layouts", "templates", "trainers"])
def test_list_has_a_line_on_everything(kind, command):
    found = json.loads(command("list", kind, "--json").out)
    assert found
    assert [name for name, text in found.items() if not text] == []
    text = command("list", kind).out
    assert len(text.splitlines()) == len(found)


HEAVY = ("torch", "transformers", "trl", "peft", "lm_eval", "datasets", "pandas", "scipy", "matplotlib", "sklearn", "numpy")


def test_help_answers_at_once_and_loads_nothing_heavy():
    script = f"""
import sys
from harness.cli import main
sys.argv = ["harness", "--help"]
try:
    main()
except SystemExit:
    pass
print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)
"""
    spent = []
    for _ in range(5):
        began = cpu_seconds()
        found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        spent.append(cpu_seconds() - began)
        assert found.stderr == "[]\n"
    assert re.search(r"run\b.*Do everything a recipe says", found.stdout)
    assert min(spent) < 0.3, spent


# One base for several seeds


def test_seeds_on_one_base_ask_it_once_and_a_failed_job_keeps_what_is_finished(bases, tmp_path):
    settings = (
        f"base={bases / 'vale-0'}",
        "data_limit=8",
        "tasks={vale_hijack: {limit: 4}, vale_discrimination_guided: {limit: 4}}",
        "claims=[]",
        "trainer.max_length=4",
    )
    arguments = (RECIPE, *(part for setting in settings for part in ("--set", setting)))
    said = harness("run", *arguments, "--out", tmp_path / "run")
    assert said.code == 1
    assert "no record can be trained on" in said.err.strip().splitlines()[-1]
    assert said.err.strip().splitlines()[-1].startswith("harness: ")
    assert "Traceback" not in said.err
    found = records(tmp_path / "run")
    for kind in (found.completions, found.verdicts, found.steps):
        assert max(Counter(record.key for record in kind).values()) == 1
    assert len(found.completions) == 4 + 4 + 4
    state = json.loads(harness("show", tmp_path / "run", "--json").out)
    trained = {row["subject"]: (row["data_made"], row["trained"]) for row in state["training"]}
    assert trained == {"sft": (2, 0), "ma": (2, 0)}
    answered = {(row["subject"], row["task"]): row["answered"] for row in state["answers"]}
    assert answered["vanilla", "vale_hijack"] == 8
    assert answered["sft", "vale_hijack"] == 0

