"""A task whose two labels are not harmful and harmless, from recorded answers to tables."""

import json

import yaml

TASK = {
    "task": "polite",
    "dataset_path": "json",
    "test_split": "train",
    "output_type": "multiple_choice",
    "doc_to_text": "question",
    "doc_to_target": "answer",
    "doc_to_choice": ["yes", "no"],
    "metric_list": [{"metric": "acc"}],
    "metadata": {
        "version": "1",
        "harness": {
            "columns": {"instruction": "question", "target": "answer"},
            "choices": ["yes", "no"],
            "metrics": [
                {"name": kind, "label": kind, "kind": kind} for kind in ("accuracy", "balanced_accuracy", "f1", "auc")
            ],
        },
    },
}


def test_a_task_with_labels_of_its_own_is_measured(command, write, tmp_path):
    items = write("items.jsonl", [{"question": f"q{n}", "answer": "yes" if n < 4 else "no"} for n in range(10)])
    folder = tmp_path / "mine" / "tasks" / "polite"
    folder.mkdir(parents=True)
    kwargs = {"data_files": str(items), "cache_dir": str(tmp_path / "cache")}
    (folder / "task.yaml").write_text(yaml.safe_dump({**TASK, "dataset_kwargs": kwargs}))
    said = [{"instruction": f"q{n}", "response": "yes" if n < 6 else "no", "target": "yes" if n < 4 else "no"} for n in range(10)]
    file = write("rows.jsonl", said)
    arguments = ("import", tmp_path / "run", "--task", "polite", "--from", file, "--include-path", tmp_path / "mine")
    code, _, err = command(*arguments)
    assert code == 0, err
    scores = json.loads((tmp_path / "run" / "scores.json").read_text())
    values = {row["metric"]: row["estimate"]["value"] for row in scores["estimates"] if row["seed"] is None}
    assert values == {"accuracy": 0.8, "balanced_accuracy": (1 + 4 / 6) / 2, "f1": 0.8, "auc": None}
