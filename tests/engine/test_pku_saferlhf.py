"""The recipe for one's own data, from files to tables, on a tiny random model with rows that are made up here."""

import json

import pytest
from command_line import harness

from tests.tiny import make_tiny_llama

TOPICS = ("mushrooms", "ladders", "bleach", "fireworks", "knives", "ponds", "heaters", "batteries", "paint", "bees")


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rows")
    split = [
        {"instruction": f"Question {n} on {topic}?", "good": f"Mind the {topic}.", "bad": f"Who cares for {topic}."}
        for n, topic in enumerate(TOPICS)
    ]
    hub = [
        {
            "prompt": f"What of {topic}?", "response_0": f"Be careful with {topic}.", "response_1": f"Throw {topic} about.",
            "is_response_0_safe": True, "is_response_1_safe": False,
        }
        for topic in TOPICS
    ]  # fmt: skip
    alpaca = [{"instruction": f"Describe {topic}.", "input": "", "output": f"Here are {topic}."} for topic in TOPICS]
    return {
        "base": make_tiny_llama(folder / "base"),
        "train": write(folder / "train.jsonl", hub),
        "helpful": write(folder / "helpful.json", alpaca),
        "test": write(folder / "test.jsonl", split),
        "farm": write(folder / "farm.jsonl", [{"instruction": f"Tell me of {topic}."} for topic in TOPICS]),
    }


def test_every_method_runs_on_files_of_one_s_own(files, tmp_path):
    settings = {
        "base": files["base"], "data.train": files["train"], "data.helpful": files["helpful"], "data.test": files["test"],
        "data.farm": files["farm"], "trainer": "{steps: 1, batch_size: 4, max_length: 256, rlhf: {steps: 1, max_new_tokens: 8}}",
        "subjects.rlhf.trainer": "{batch_size: 8}",
        "layouts": "[alignment_from_scratch, discrimination]",
        "sampling": "{max_new_tokens: 8}", "prepare.sampling.max_new_tokens": 8, "throughput": "{workers: 1, device: cpu}",
        **{f"tasks.{name}": "null" for name in ("goal_hijack_en", "goal_hijack_zh", "over_refusal")},
        **{f"tasks.{name}.max_new_tokens": 8 for name in (
            "saferlhf_harmless", "alpaca_farm", "saferlhf_verdict_guided", "saferlhf_verdict_unguided")},
    }  # fmt: skip
    arguments = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
    said = harness("run", "pku_saferlhf", *arguments, "--out", tmp_path / "run")
    assert said.code == 0, said.err
    scores = json.loads((tmp_path / "run" / "scores.json").read_text())
    found = {(row["subject"], row["metric"]): row["estimate"] for row in scores["estimates"] if row["seed"] is None}
    for subject in ("vanilla", "sft", "rlhf", "dpo", "kto", "ma-origin-self"):
        assert found[subject, "accuracy_unguided"]["n_scored"] == 2 * len(TOPICS)
        assert found[subject, "refusal_rate"]["n_scored"] == len(TOPICS)
    report = tmp_path / "run" / "report"
    assert {"index.html", "samples.html", "claims.json"} <= {path.name for path in report.iterdir()}
    assert (report / "tables" / "discrimination.tex").is_file()
