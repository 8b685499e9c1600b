"""Keys are stable, change with what identifies a record and with nothing else; only what was measured carries numbers."""

import math

import pytest
from pydantic import ValidationError

from harness.records import (
    Cell,
    Checkpoint,
    Completion,
    Decoding,
    JudgeSpec,
    Message,
    ModelSpec,
    Sample,
    TrainingRecord,
    Verdict,
    content_hash,
)
from harness.rows import AlignmentRow
from harness.scores import Comparison, Estimate

SAMPLE = Sample(
    task="t",
    task_version="1",
    messages=(Message(role="user", content="how?"), Message(role="assistant", content="so.")),
    style="guided_analysis",
    choices=("a", "b"),
    target="a",
    labels={"kind": "red", "n": 1},
    cluster="c",
    source="file.jsonl:3",
)
MODEL = ModelSpec(backend="hf", weights="w", templates="t", decoding=Decoding(stop=("\n",)))
COMPLETION = Completion(sample_key=SAMPLE.key, model_key=MODEL.key, outcome="ok", text="x")
JUDGE = JudgeSpec(name="j", version="1", content="c")
VERDICT = Verdict(
    completion_key=COMPLETION.key, text_hash=COMPLETION.text_hash, judge_key=JUDGE.key, outcome="ok", score=7.0
)
CHECKPOINT = Checkpoint(recipe="r", data="d", base="b", seed=0, weights="w", path="p")
CELL = Cell(subject="s", seed=0, task="t", model=MODEL)
ROW = AlignmentRow(instruction="how?", good="g", bad="b", kind="red", source="file.jsonl:3")

GOLDEN = {
    "sample": (SAMPLE, "7078fc23afb83acbdbaddb78d5e5540662d5c91ac76485ab00fc72cd63781ef8"),
    "model": (MODEL, "7f9c6634ccf9aab37cbe428831b0fce77a28e4233d930bbd66e9e4d6191eb1e6"),
    "completion": (COMPLETION, "7f1900ad1dfd4da5d5d5e19308a18cf3863346b9c0dae01f6f383f7ba56f3fd1"),
    "judge": (JUDGE, "32f53c5dbafd31d2c956bf7e9af2c1f3fd3f3dba4f20a8e8805317b53b0b5405"),
    "verdict": (VERDICT, "1507f9192d89d5c128cd498fd003950b1d7d83c265071c9d5f1e1cefb4fedc41"),
    "checkpoint": (CHECKPOINT, "9ed53c278cd0c656794be5a132f0221a091b9ec2072b5055723e49d6ecf7137f"),
    "cell": (CELL, "ba078819efdca0ff59cb0d553a6ab5488c891e6221a6cfe1b126508733e2462e"),
    "row": (ROW, "f60929f22ead74086256ffc7bb9ca2c54675834c99bf4328fdab41d0a4b62185"),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_keys_are_the_same_on_every_machine_and_in_every_release(name):
    record, key = GOLDEN[name]
    assert record.key == key


def test_a_hash_is_of_canonical_json():
    assert content_hash({"b": 1, "a": ["ü", None]}) == content_hash({"a": ["ü", None], "b": 1})
    assert content_hash({"a": 1}) != content_hash({"a": "1"})
    assert content_hash(["ab", "c"]) != content_hash(["a", "bc"])
    with pytest.raises(ValueError, match="JSON compliant"):
        content_hash(math.nan)


SAMPLE_CHANGES = {
    "task": "u",
    "task_version": "2",
    "messages": (Message(role="user", content="how?"),),
    "style": None,
    "choices": ("b", "a"),
    "target": "b",
    "labels": {"kind": "red", "n": 2},
    "cluster": "d",
}
MODEL_CHANGES = {
    "backend": "vllm",
    "weights": "x",
    "templates": "u",
    "style": "guided_harmless",
    "decoding": Decoding(stop=("\n",), seed=1),
}
IDENTIFYING = [
    *((SAMPLE, field, value) for field, value in SAMPLE_CHANGES.items()),
    *((MODEL, field, value) for field, value in MODEL_CHANGES.items()),
    *((COMPLETION, field, value) for field, value in {"sample_key": "k", "model_key": "k", "repeat": 1}.items()),
    *((JUDGE, f, v) for f, v in {"name": "k", "version": "2", "content": "d", "model_key": "m"}.items()),
    *((VERDICT, f, v) for f, v in {"completion_key": "k", "text_hash": "k", "judge_key": "k", "seat": 1}.items()),
    *((CHECKPOINT, f, v) for f, v in {"recipe": "k", "data": "k", "base": "k", "seed": 1}.items()),
    *((CELL, f, v) for f, v in {"subject": "k", "seed": 1, "task": "k"}.items()),
    *((ROW, f, v) for f, v in {"instruction": "k", "input": "k", "good": None, "bad": "k", "kind": "benign"}.items()),
]
NOT_IDENTIFYING = [
    (SAMPLE, "source", "other.jsonl:9"),
    (ROW, "source", "other.jsonl:9"),
    (COMPLETION, "text", "what came back"),
    (COMPLETION, "outcome", "truncated"),
    (VERDICT, "score", 3.0),
    (VERDICT, "reason", "because"),
    (CHECKPOINT, "weights", "x"),
    (CHECKPOINT, "metrics", {"loss_last": 1.0}),
    (CELL, "checkpoint", "k"),
]


def changed(record, field, value):
    return type(record).model_validate({**record.model_dump(), field: value})


@pytest.mark.parametrize(("record", "field", "value"), IDENTIFYING)
def test_a_key_changes_with_each_identifying_field(record, field, value):
    assert changed(record, field, value).key != record.key


@pytest.mark.parametrize(("record", "field", "value"), NOT_IDENTIFYING)
def test_a_key_does_not_change_with_anything_else(record, field, value):
    assert changed(record, field, value).key == record.key


def test_every_identifying_field_of_a_sample_and_of_a_model_is_tried_above():
    assert SAMPLE_CHANGES.keys() == Sample.model_fields.keys() - {"source", "schema_version"}
    assert MODEL_CHANGES.keys() == ModelSpec.model_fields.keys() - {"schema_version"}


@pytest.mark.parametrize("field", ["max_new_tokens", "temperature", "top_p", "stop", "seed"])
def test_decoding_identifies_a_model(field):
    other = {"max_new_tokens": 3, "temperature": 0.5, "top_p": 0.5, "stop": ("x",), "seed": 3}[field]
    assert changed(MODEL, "decoding", {**MODEL.decoding.model_dump(), field: other}).key != MODEL.key


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_no_number_is_infinite_or_not_a_number(number):
    with pytest.raises(ValidationError):
        changed(VERDICT, "score", number)
    with pytest.raises(ValidationError):
        changed(COMPLETION, "logprobs", {"a": number})
    with pytest.raises(ValidationError):
        changed(CHECKPOINT, "metrics", {"loss_last": number})
    with pytest.raises(ValidationError):
        Estimate(value=number, n_scored=1, n_total=1)
    with pytest.raises(ValidationError):
        Decoding(temperature=number)
    with pytest.raises((ValidationError, ValueError)):
        changed(SAMPLE, "labels", {"x": number}).to_line()


@pytest.mark.parametrize("record", [record for record, _ in GOLDEN.values()], ids=GOLDEN)
def test_records_are_frozen_know_their_fields_and_survive_the_file(record):
    with pytest.raises(ValidationError):
        type(record).model_validate({**record.model_dump(), "extra": 1})
    with pytest.raises(ValidationError):
        record.schema_version = 2
    line = record.to_line()
    assert line.endswith("\n")
    assert line.count("\n") == 1
    again = type(record).model_validate_json(line)
    assert (again, again.key, again.to_line()) == (record, record.key, line)


@pytest.mark.parametrize("text", ["\n\r\n", "\u2028\u2029\x85\x0b\x0c\x1c", "\x00", "🙂 ü", '"\\', "{response}", ""])
def test_any_text_stands_on_one_line_and_comes_back(text):
    record = TrainingRecord(prompt=text, completion=text, kind="response", source="k")
    assert record.to_line().encode().count(b"\n") == 1
    assert record.to_line().encode().count(b"\r") == 0
    assert TrainingRecord.model_validate_json(record.to_line().encode()) == record


@pytest.mark.parametrize("outcome", ["unparsed", "refused", "filtered", "error", "skipped"])
def test_only_an_ok_verdict_carries_a_label_or_a_score(outcome):
    for measured in ({"score": 1.0}, {"label": "harmful"}, {"score": 0.0, "label": ""}):
        with pytest.raises(ValidationError):
            Verdict(completion_key="c", text_hash="t", judge_key="j", outcome=outcome, **measured)
    verdict = Verdict(completion_key="c", text_hash="t", judge_key="j", outcome=outcome)
    assert (verdict.label, verdict.score, verdict.final) == (None, None, outcome != "error")


def test_an_ok_verdict_measures_something():
    with pytest.raises(ValidationError):
        Verdict(completion_key="c", text_hash="t", judge_key="j", outcome="ok")
    assert Verdict(completion_key="c", text_hash="t", judge_key="j", outcome="ok", score=0.0).final


def test_a_judged_text_is_identified_with_its_outcome_and_its_log_likelihoods():
    hashes = {
        COMPLETION.text_hash,
        changed(COMPLETION, "text", "y").text_hash,
        changed(COMPLETION, "outcome", "truncated").text_hash,
        changed(COMPLETION, "logprobs", {"a": -1.0}).text_hash,
    }
    assert len(hashes) == 4


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [(0.1, 0.2, "higher"), (-0.2, -0.1, "lower"), (-0.1, 0.1, "no difference"), (0.0, 0.1, "no difference"),
     (None, None, "not measured")],
)  # fmt: skip
def test_what_an_interval_allows_to_say(low, high, said):
    assert Comparison(difference=0.1, low=low, high=high, n_pairs=3).decision == said
