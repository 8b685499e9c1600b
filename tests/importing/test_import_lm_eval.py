"""Sample logs of stock lm-eval give the numbers of stock lm-eval."""

import json

import pytest

from harness.content import content_root
from harness.errors import UserError
from harness.importing import told
from tests.tiny import make_tiny_llama

TASKS = ["vale_harmless", "vale_discrimination_unguided"]
LIMIT = 8


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    """Stock lm-eval's table, and the logs that it wrote, by task."""
    import lm_eval
    from lm_eval.loggers import EvaluationTracker
    from lm_eval.tasks import TaskManager

    folder = tmp_path_factory.mktemp("lm_eval")
    model = make_tiny_llama(folder / "model")
    found = lm_eval.simple_evaluate(
        model="hf", model_args=f"pretrained={model},dtype=float32", tasks=TASKS, limit=LIMIT, batch_size=8, device="cpu",
        task_manager=TaskManager(include_path=str(content_root("tasks")), include_defaults=False), log_samples=True,
    )  # fmt: skip
    tracker = EvaluationTracker(output_path=str(folder / "out"))
    samples = found.pop("samples")
    tracker.save_results_aggregated(results=found, samples=samples)
    for task in TASKS:
        tracker.save_results_samples(task_name=task, samples=samples[task])
    return found["results"], {task: next((folder / "out").rglob(f"samples_{task}_*.jsonl")) for task in TASKS}


def test_the_numbers_are_those_of_stock_lm_eval(logs, bring):
    results, files = logs
    for task in TASKS:
        found = bring(task, files[task], subject="tiny")
    metrics = {metric.name: metric.task for metric in found.scores.metrics}
    assert len(metrics) == 10
    for name, task in metrics.items():
        assert found.estimate("tiny", name).value == pytest.approx(results[task][f"{name},none"], abs=1e-9), name
    assert found.estimate("tiny", "harmless_rate").n_scored == LIMIT
    assert found.estimate("tiny", "harmless_rate").n_total > LIMIT
    assert found.summary["lost"] == {"no answer": found.summary["items"] - LIMIT}


def test_items_are_those_of_a_run_of_our_own(logs, bring):
    from harness.tasks import load_task

    for task in TASKS:
        found = bring(task, logs[1][task])
    samples, cells, completions, _ = found.records()
    own = {sample.key for task in TASKS for sample in load_task(task).samples}
    assert {sample.key for sample in samples} == own
    assert {completion.sample_key for completion in completions} <= own
    assert {cell.subject for cell in cells} == {logs[1][TASKS[0]].parent.name.strip("._-")}
    chosen = [completion for completion in completions if completion.logprobs]
    assert len(chosen) == LIMIT
    assert all(set(c.logprobs) == {"harmful", "harmless"} and c.logprobs[c.text] == max(c.logprobs.values()) for c in chosen)


def test_of_several_filters_the_first_counts(logs, bring, write):
    rows = [json.loads(line) for line in logs[1]["vale_harmless"].read_text().splitlines()]
    doubled = [{**row, "filter": name, "filtered_resps": [name]} for name in ("strict", "loose") for row in rows]
    found = bring("vale_harmless", write("log.jsonl", doubled))
    assert {completion.text for completion in found.records()[2]} == {"strict"}
    assert found.summary["dropped"] == {"of another filter": LIMIT}


def test_of_a_document_that_was_answered_several_times_the_other_answers_are_counted(logs, bring, write):
    rows = [json.loads(line) for line in logs[1]["vale_harmless"].read_text().splitlines()]
    assert all(len(row["resps"][0]) == 1 for row in rows)
    repeated = [{**row, "resps": [[*row["resps"][0], "a", "b"]]} for row in rows]
    found = bring("vale_harmless", write("log.jsonl", repeated))
    assert found.summary["dropped"] == {"further answer in the same row": 2 * LIMIT}
    assert f"{2 * LIMIT} further answers were not taken" in told(found.summary)
    whole = bring("vale_harmless", logs[1]["vale_harmless"], folder="whole")
    assert whole.summary["further_answers"] == 0


def test_data_of_the_user_s_need_not_be_there_again(logs, bring, write):
    """A task whose own items cannot be had takes those of the log, and says so."""
    rows = [json.loads(line) for line in logs[1]["vale_harmless"].read_text().splitlines()]
    found = bring("saferlhf_harmless", write("log.jsonl", rows))
    assert (found.summary["items_from"], found.summary["items"]) == ("rows", LIMIT)
    assert "give --data FILE" in told(found.summary)
    assert found.estimate(found.summary["subject"], "refusal_rate").n_total == LIMIT


@pytest.mark.parametrize(
    ("task", "change", "part"),
    [
        ("vale_harmless", {"doc": {"question": "x"}}, r"log.jsonl:2: its document is of no task folder of this harness"),
        ("vale_harmless", {"doc": 3}, r"log.jsonl:2: 'doc' must be an object"),
        ("vale_harmless", {"filtered_resps": [["1", "False"], ["2", "False"]]}, r"log.jsonl:2: .* must hold one text"),
        ("vale_discrimination_unguided", {"filtered_resps": ["text"]}, r"log.jsonl:2: .* each of harmful, harmless"),
        ("vale_discrimination_unguided", {"filtered_resps": None}, r"log.jsonl:2: .* each of harmful, harmless"),
        ("vale_discrimination_unguided", {"arguments": []}, r"log.jsonl:2: 'arguments' must be an object"),
    ],
)
def test_a_log_that_is_not_as_it_should_be(logs, bring, write, tmp_path, task, change, part):
    rows = [json.loads(line) for line in logs[1][task].read_text().splitlines()[:2]]
    with pytest.raises(UserError, match=part):
        bring(task, write("log.jsonl", [rows[0], {**rows[1], **change}]))
    assert not (tmp_path / "run").exists()


def test_a_log_of_another_task_answers_nothing(logs, bring, tmp_path):
    with pytest.raises(UserError, match=r"answers no item of goal_hijack_en \(8 no such item in the task\).*another task\?"):
        bring("goal_hijack_en", logs[1]["vale_harmless"])
    assert not (tmp_path / "run").exists()
