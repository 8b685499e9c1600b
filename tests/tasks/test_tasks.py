"""Task folders: what is built in, and what becomes of a user's good and bad ones."""

from __future__ import annotations

import json
import os
import unicodedata
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.content import content_root
from harness.errors import UserError
from harness.judging.folders import load_judge_file
from harness.prompting import load_templates, render
from harness.tasks import load_spec, load_task, stock_results, task_names

DATA = Path(os.environ.get("HARNESS_DATA") or Path(__file__).resolve().parents[3] / "shared" / "data")
VALE = [name for name in task_names() if name.startswith("vale_")]
OWN = ["goal_hijack_en", "goal_hijack_zh", "over_refusal"]
RESPONSES = [
    {"prompt": f"q{number // 2}", "response": f"answer {number}", "is_safe": number % 3 == 0} for number in range(30)
]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Responses with safety labels, 10 safe and 20 unsafe."""
    path = tmp_path / "responses.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in RESPONSES))
    return path


def lm_eval_task(name: str, **metadata: Any) -> Any:
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=str(content_root("tasks")), include_defaults=False, metadata=metadata)
    return manager.load(name)["tasks"][name]


def templates_of(name: str) -> str:
    return "vale" if name.startswith("vale") else "paper"


@pytest.mark.parametrize("name", task_names())
def test_folder_is_complete(name: str) -> None:
    spec = load_spec(name)
    readme = (content_root("tasks") / name / "README.md").read_text(encoding="utf-8")
    assert readme.startswith(f"# {name}\n")
    for heading in ("**Paper.**", "**Data.**", "**Metrics.**", "**Expected ranges.**", "**Licence of the data.**"):
        assert heading in readme
    for metric in spec.metrics:
        assert f"`{metric.name}`" in readme
        assert metric.task == name


@pytest.mark.parametrize("name", task_names())
def test_stock_lm_eval_measures_the_same_under_the_same_names(name: str, data: Path) -> None:
    spec, task = load_spec(name), lm_eval_task(name, **({} if name in VALE + OWN else {"data": str(data)}))
    listed = {entry["metric"]: entry for entry in task.config.metric_list}
    stock = [metric for metric in spec.metrics if metric.judge is None or load_judge_file(metric.judge).kind == "rule"]
    assert list(listed) == [metric.name for metric in stock]  # a model that judges is beyond stock lm-eval
    for metric in stock:
        assert listed[metric.name]["higher_is_better"] is metric.higher_is_better
        expected = {
            "recall": f"recall_{metric.rate_label}",
            "score": "mean",
            "rate": "mean",
            "accuracy": "mean",
            "invalid": "mean",
        }
        aggregation = listed[metric.name]["aggregation"]
        assert getattr(aggregation, "__name__", aggregation) == expected.get(metric.kind, metric.kind)
    if spec.choices:
        assert (tuple(task.config.doc_to_choice), task.config.target_delimiter) == (spec.choices, "")
    else:
        wanted = {"max_gen_toks": spec.max_new_tokens, "until": list(load_templates(templates_of(name)).stop)}
        assert {key: task.config.generation_kwargs[key] for key in wanted} == wanted


@pytest.mark.parametrize("name", task_names())
def test_stock_prompts_are_byte_identical_to_those_of_a_run(name: str, data: Path) -> None:
    metadata = {} if name in VALE + OWN else {"data": str(data)}
    task, loaded = lm_eval_task(name, **metadata), load_task(name, metadata=metadata)
    assert len(loaded.samples) == len(task.eval_docs)
    for doc, sample in zip(task.eval_docs, loaded.samples, strict=True):
        assert task.doc_to_text(doc) == render(sample, load_templates(templates_of(name)), "ordinary")


@pytest.mark.parametrize("name", VALE)
def test_vale_splits_differ_and_repeat(name: str) -> None:
    test, dev = load_task(name), load_task(name, metadata={"split": "dev"})
    assert [sample.key for sample in test.samples] == [sample.key for sample in load_task(name).samples]
    assert not {sample.key for sample in test.samples} & {sample.key for sample in dev.samples}
    assert all(sample.cluster for sample in test.samples)
    assert len(load_task(name, metadata={"limit": 7}).samples) == 7
    with pytest.raises(UserError, match=f"task '{name}': unknown split 'tset': did you mean 'test'"):
        load_task(name, metadata={"split": "tset"})


def test_the_vale_group_loads_every_task() -> None:
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=str(content_root("tasks")), include_defaults=False)
    assert sorted(manager.load("vale")["tasks"]) == VALE


def test_metric_names_of_the_vale_are_unique() -> None:
    names = [metric.name for task in VALE for metric in load_spec(task).metrics]
    assert len(set(names)) == len(names)
    assert {"helpful", "over_refusal", "harmless_rate", "hijack_rate", "auc_guided", "parsable"} <= set(names)


@pytest.mark.parametrize("mode", ["guided", "unguided"])
def test_real_responses_are_balanced_and_do_not_depend_on_row_order(mode: str, data: Path) -> None:
    name = f"saferlhf_discrimination_{mode}"
    found = load_task(name, metadata={"data": str(data)})
    assert Counter(sample.target for sample in found.samples) == {"harmful": 10, "harmless": 10}
    assert found.dropped == {"more of one label than of the other": 10}
    assert [sample.target for sample in found.samples[:4]] == ["harmful", "harmless"] * 2
    lines = data.read_text().splitlines(keepends=True)
    data.write_text("".join(reversed(lines)))
    again = load_task(name, metadata={"data": str(data)})
    assert [sample.key for sample in again.samples] == [sample.key for sample in found.samples]
    clusters = {sample.messages[0].content: sample.cluster for sample in found.samples}
    assert len(set(clusters.values())) == len(clusters)


def test_real_tasks_without_data_or_network_say_what_to_do() -> None:
    for name in ("alpaca_farm", "saferlhf_harmless", "saferlhf_verdict_guided"):
        with pytest.raises(
            UserError, match=f"^task '{name}': cannot load .* cannot be reached: give a file as `data`$"
        ):
            load_task(name)


CLASSIFYING = ("discrimination_guided", "discrimination_unguided", "verdict_guided", "verdict_unguided")


@pytest.mark.parametrize("name", [f"saferlhf_{kind}" for kind in CLASSIFYING])
def test_pairs_of_one_s_own_are_two_responses_to_judge(name: str, tmp_path: Path) -> None:
    rows = [{"instruction": f"q{n}", "good": f"mild answer {n}", "bad": f"rash answer {n}"} for n in range(5)]
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = load_task(name, metadata={"data": str(path)})
    assert {(s.messages[1].content, s.target) for s in found.samples} == {
        pair for row in rows for pair in ((row["good"], "harmless"), (row["bad"], "harmful"))
    }
    assert found.dropped == {}


def test_data_that_a_task_would_not_read_are_refused() -> None:
    for name in VALE:
        with pytest.raises(
            UserError, match=rf"^task '{name}': .* not read from a file: leave data \('mine\.jsonl'\) out"
        ):
            load_task(name, metadata={"data": "mine.jsonl"})


def test_one_label_alone_leaves_no_items(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps({"prompt": "q", "response": "a", "is_safe": True}) + "\n")
    with pytest.raises(UserError, match="no items are left"):
        load_task("saferlhf_discrimination_guided", metadata={"data": str(path)})


@pytest.mark.parametrize("language", ["en", "zh"])
def test_hijack_prompts_are_sound(language: str) -> None:
    samples = load_task(f"goal_hijack_{language}").samples
    assert len(samples) == 40
    assert len({sample.labels["attack"] for sample in samples}) == 10
    for sample in samples:
        prompt, target = sample.messages[0].content, str(sample.labels["target_string"])
        assert unicodedata.normalize("NFKC", target).strip() == unicodedata.normalize("NFKC", target)
        # An order to print something quotes it; an order to do something else must not give its answer away.
        assert (target in prompt) == (
            sample.labels["attack"] != "new_task" or target in ("Steam at Dawn", "晨雾里的蒸汽")
        )
        assert sample.labels["lang"] == language
        assert stock_results(_stock_doc(sample), [f"Well: {target}!"]) == {_metric(language): 0.0}
        assert stock_results(_stock_doc(sample), ["A proper answer."]) == {_metric(language): 1.0}


def _metric(language: str) -> str:
    return "hijack_rate" if language == "en" else "hijack_rate_zh"


def _stock_doc(sample: Any) -> dict[str, Any]:
    text = (content_root("tasks") / sample.task / "task.yaml").read_text(encoding="utf-8")
    harness = yaml.safe_load(text)["metadata"]["harness"]
    return {"instruction": sample.messages[0].content, "labels": sample.labels, "harness": harness}


def test_verdicts_that_are_none_are_wrong_and_counted() -> None:
    doc = next(iter(lm_eval_task("vale_verdict_guided").eval_docs))
    right = stock_results(doc, [f"the answer is {doc['target']} : because ."])
    assert right["accuracy_generated_guided"] == 1.0
    assert right["f1_generated_guided"] == (doc["target"], doc["target"], None)
    none = stock_results(doc, ["no verdict at all"])
    assert (none["accuracy_generated_guided"], none["invalid_generated_guided"]) == (0.0, 1.0)
    assert none["f1_generated_guided"] == (doc["target"], "invalid", None)


def test_what_cannot_be_judged_is_no_rate() -> None:
    doc = next(iter(lm_eval_task("over_refusal").eval_docs))
    assert stock_results(doc, ["Sure: like this."]) == {"over_refusal_alarming": 0.0}
    assert stock_results(doc, [" "]) == {}


# A user's tasks


GOOD = {
    "task": "mine",
    "dataset_path": "json",
    "test_split": "train",
    "output_type": "generate_until",
    "doc_to_text": "{{question}}",
    "doc_to_target": "",
    "generation_kwargs": {"until": [], "max_gen_toks": 8},
    "metric_list": [{"metric": "bypass"}],
    "metadata": {
        "version": 3,
        "harness": {
            "columns": {"instruction": "question", "labels": "facts", "cluster": "topic"},
            "max_new_tokens": 8,
            "judges": ["refusal_rules"],
            "metrics": [{"name": "m", "label": "M", "judge": "refusal_rules", "kind": "rate", "rate_label": "refused"}],
        },
    },
}


def user_task(tmp_path: Path, docs: list[dict[str, Any]] | None = None, **changes: Any) -> Path:
    folder = tmp_path / "tasks" / "mine"
    folder.mkdir(parents=True)
    docs = docs or [
        {"question": "q1", "facts": {"a": 1}, "topic": "t"},
        {"question": "q1", "facts": {"a": 1}, "topic": "t"},
    ]
    (tmp_path / "docs.jsonl").write_text("".join(json.dumps(doc) + "\n" for doc in docs))
    kwargs = {"data_files": str(tmp_path / "docs.jsonl"), "cache_dir": str(tmp_path / "cache")}
    harness = {**GOOD["metadata"]["harness"], **changes.pop("harness", {})}  # type: ignore[index]
    config = {**GOOD, "dataset_kwargs": kwargs, "metadata": {"version": 3, "harness": harness}, **changes}
    (folder / "task.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    return tmp_path


def test_a_users_task_with_an_ordinary_dataset(tmp_path: Path) -> None:
    root = user_task(tmp_path)
    assert "mine" in task_names([root])
    spec, samples, dropped = load_task("mine", [root])
    assert (spec.version, spec.style, spec.max_new_tokens) == ("3", None, 8)
    assert [(s.messages[0].content, s.labels, s.cluster, s.source) for s in samples] == [
        ("q1", {"a": 1}, "t", "mine:1")
    ]
    assert dropped == {"duplicate": 1}


def test_a_users_task_replaces_the_built_in_one_of_its_name(tmp_path: Path) -> None:
    root = user_task(tmp_path, task="vale_helpful")
    (root / "tasks" / "mine").rename(root / "tasks" / "vale_helpful")
    assert load_task("vale_helpful", [root]).spec.version == "3"


def test_a_plain_lm_eval_task_is_refused_with_advice(tmp_path: Path) -> None:
    root = user_task(tmp_path, metadata={"version": 1})
    with pytest.raises(
        UserError, match=r"mine/task\.yaml: no metadata\.harness block, so only stock lm_eval.*example:"
    ):
        load_task("mine", [root])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"columns": {}}, r"metadata\.harness: instruction: Field required"),
        ({"columns": {"instruction": "question", "anwser": "x"}}, "anwser: Extra inputs"),
        (
            {"columns": {"instruction": "qestion"}},
            "document 0 has no such column; unknown column 'qestion': did you mean 'question'",
        ),
        ({"judges": []}, "judge 'refusal_rules' is not among the judges"),
        ({"style": "gided_analysis"}, "style: Input should be"),
        ({"max_new_tokens": 0}, "max_new_tokens: Input should be greater than 0"),
        ({"choices": ["a", "b"]}, "give max_new_tokens or choices"),
        ({"metrics": [{"name": "m", "label": "M", "kind": "accuracy"}]}, r"columns\.target is needed"),
        ({"metrics": [{"name": "m", "label": "M", "kind": "score"}]}, "a score needs a judge"),
        ({"metrics": [{"name": "m", "label": "M", "kind": "rate", "judge": "refusal_rules"}]}, "needs a rate_label"),
        ({"metrics": [{"name": "m", "label": "M", "kind": "mean"}]}, "kind: Input should be"),
        ({"metrics": "many"}, r"metadata\.harness: "),
        ({"colums": {}}, "colums: Extra inputs"),
        ({"choices": ["a"], "max_new_tokens": None}, "choices: give two labels"),
        ({"choices": ["a", "b", "c"], "max_new_tokens": None}, "choices: give two labels"),
        ({"choices": ["a", "a"], "max_new_tokens": None}, "choices: give two labels"),
        (
            {
                "choices": ["a", "b"],
                "max_new_tokens": None,
                "metrics": [{"name": "m", "label": "M", "kind": "recall", "rate_label": "c"}],
            },
            "metric 'm': 'c' is none of a, b",
        ),
    ],
)
def test_a_malformed_block_is_told_with_its_file(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    root = user_task(tmp_path, harness=changes)
    with pytest.raises(UserError, match=rf"mine/task\.yaml: .*{message}") as error:
        load_task("mine", [root])
    assert "\n" not in str(error.value)


def test_a_target_that_is_no_choice_is_told_with_its_document(tmp_path: Path) -> None:
    block = {"columns": {"instruction": "question", "target": "t"}, "choices": ["a", "b"], "max_new_tokens": None,
             "judges": [], "metrics": [{"name": "m", "label": "M", "kind": "accuracy"}]}  # fmt: skip
    root = user_task(tmp_path, [{"question": "q", "t": "a"}, {"question": "p", "t": "c"}], harness=block)
    with pytest.raises(UserError, match="document 1: the target 'c' is none of a, b"):
        load_task("mine", [root])


def test_a_target_that_is_no_label_is_told_with_its_file_and_line(tmp_path: Path) -> None:
    metrics = [{"name": "m", "label": "M", "kind": "f1", "judge": "verdict_rules"}]
    block = {"columns": {"instruction": "question", "target": "t"}, "judges": ["verdict_rules"], "metrics": metrics}
    rows = [
        {"question": "q", "t": "harmful", "source": "mine.jsonl:1"},
        {"question": "p", "t": "bad", "source": "mine.jsonl:2"},
    ]
    root = user_task(tmp_path, rows, harness=block)
    with pytest.raises(
        UserError, match=r"^mine\.jsonl:2: the target 'bad' is none of harmful, harmless, the labels of mine$"
    ):
        load_task("mine", [root])


def test_other_faults_of_a_task_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unknown task 'vale_helpfull': did you mean 'vale_helpful'"):
        load_task("vale_helpfull")
    root = user_task(tmp_path)
    path = root / "tasks" / "mine" / "task.yaml"
    good = path.read_text()
    for text, message in [
        (good + "\n  - [", r"task\.yaml:\d+: not valid YAML"),
        ("- a\n", "Expected YAML dict"),
        (good.replace("task: mine", "task: yours"), "must be the name of the folder, 'mine'"),
        (good + "include: nowhere.yaml\n", "nowhere"),
        (good.replace("docs.jsonl", "lost.jsonl"), "lm-eval cannot load this task"),
    ]:
        path.write_text(text)
        with pytest.raises(UserError, match=message) as error:
            load_task("mine", [root])
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "file", "n"),
    [
        ("alpaca_farm", "alpaca_eval/instructions_805.jsonl", 805),
        ("saferlhf_harmless", "redteam/strongreject.jsonl", 313),
        ("saferlhf_discrimination_unguided", "beavertails/beavertails_30k_test.jsonl", 2574),
        ("goal_hijack_en", "goal_hijacking/promptinject_goal_hijack_175.jsonl", 175),
    ],
)
def test_real_data(name: str, file: str, n: int) -> None:
    if not (DATA / file).is_file():
        pytest.skip(f"no {file} here")
    loaded = load_task(name, metadata={"data": str(DATA / file)})
    assert len(loaded.samples) == n
