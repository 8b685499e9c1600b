"""Sizes, balance and separation of the items, and that the vocabulary covers them."""

from collections import Counter
from typing import Any

import pytest

from harness.microworld.datasets import SIZES, TASKS, alignment_rows, task_docs
from harness.microworld.language import vocabulary
from harness.microworld.oracle import answer_label, grade_harmless, grade_help, grade_hijack
from harness.microworld.world import build_world

WORLD = build_world()
SPLITS = tuple(SIZES)


def named(row: dict[str, Any]) -> set[str]:
    """The plants that occur in an item."""
    return {word for word in row["instruction"].split() if word in WORLD.plants}


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("task", TASKS)
def test_items_are_deterministic_distinct_and_of_their_split(task: str, split: str) -> None:
    docs = task_docs(task, split)
    assert docs == task_docs(task, split)
    assert len({(doc["instruction"], doc.get("answer")) for doc in docs}) == len(docs)
    assert all(named(doc) <= set(WORLD.splits[split]) and doc["cluster"] == doc["labels"]["plant"] for doc in docs)
    shares = Counter(doc["cluster"] for doc in docs)
    assert max(shares.values()) - min(shares.values()) <= 1


@pytest.mark.parametrize("split", SPLITS)
def test_sizes(split: str) -> None:
    assert {task: len(task_docs(task, split)) for task in SIZES[split]} == SIZES[split]
    assert len(task_docs("discrimination", split)) == 2 * SIZES[split]["harmless"]


@pytest.mark.parametrize("split", SPLITS)
def test_questions_are_what_their_task_says(split: str) -> None:
    hazardous = {
        task: {WORLD.hazardous(doc["labels"]["plant"], doc["labels"]["act"]) for doc in task_docs(task, split)}
        for task in ("helpful", "harmless", "hijack")
    }
    assert hazardous == {"helpful": {False}, "harmless": {True}, "hijack": {False}}
    hard = [WORLD.plants[doc["cluster"]].route is not None for doc in task_docs("helpful", split)]
    assert 0.7 < sum(hard) / len(hard) < 0.85


@pytest.mark.parametrize("split", SPLITS)
def test_every_second_payload_is_harmful_and_none_is_the_question(split: str) -> None:
    labels = [doc["labels"] for doc in task_docs("hijack", split)]
    harmful = [WORLD.hazardous(each["payload_plant"], each["payload_act"]) for each in labels]
    assert sum(harmful) == len(harmful) / 2
    assert all(each["plant"] != each["payload_plant"] and each["act"] != each["payload_act"] for each in labels)


@pytest.mark.parametrize("split", SPLITS)
def test_discrimination_is_balanced_and_follows_the_harmless_task(split: str) -> None:
    docs = task_docs("discrimination", split)
    count = SIZES[split]["harmless"]
    parts = Counter(f"{doc['target']} {doc['form']}" for doc in docs)
    assert parts == {"harmful comply": count, "harmless refusal": count / 2, "harmless comply": count / 2}
    prompts = [doc["instruction"] for doc in task_docs("harmless", split)]
    assert [doc["group"] for doc in docs[::2]] == [doc["group"] for doc in docs[1::2]] == prompts
    assert all(doc["labels"]["answer"] == doc["answer"] for doc in docs)


def test_unknown_names_are_refused() -> None:
    for task, split in (("helpful", "align"), ("poems", "test")):
        with pytest.raises(ValueError, match="no task"):
            task_docs(task, split)
    with pytest.raises(ValueError, match="broad or narrow"):
        alignment_rows("wide")
    with pytest.raises(ValueError, match="asked for"):
        alignment_rows(n_red=10_000)


def test_broad_rows() -> None:
    rows = alignment_rows("broad", seed=3)
    assert rows == alignment_rows("broad", seed=3) != alignment_rows("broad", seed=4)
    assert Counter(row["kind"] for row in rows) == {"red": 48, "benign": 48, "hijack": 24}
    assert len({row["instruction"] for row in rows}) == len(rows)
    assert all(named(row) <= set(WORLD.splits["align"]) for row in rows)
    assert {WORLD.acts[row["labels"]["act"]].route for row in rows if row["kind"] == "red"} == {"drink", "air", "skin"}


def test_good_and_bad_answers_are_what_they_are_called() -> None:
    grades = {"red": grade_harmless, "benign": grade_help, "hijack": grade_hijack}
    for row in alignment_rows():
        labels, grade = row["labels"], grades[row["kind"]]
        assert grade(labels, row["good"]).score == 10
        assert (row["bad"] is None) == (row["kind"] == "benign")
        if row["bad"]:
            assert (grade(labels, row["bad"]).score or 0) <= 2
        assert row["kind"] != "red" or answer_label(labels, row["bad"]) == "harmful"


def test_narrow_rows_cover_one_route() -> None:
    rows = alignment_rows("narrow")
    assert Counter(row["kind"] for row in rows) == {"red": 30, "benign": 30}
    assert {WORLD.acts[row["labels"]["act"]].route for row in rows if row["kind"] == "red"} == {"drink"}


def test_no_word_is_outside_the_vocabulary() -> None:
    known = set(vocabulary(WORLD))
    rows = [doc for task in TASKS for split in SPLITS for doc in task_docs(task, split)]
    rows += [row for coverage in ("broad", "narrow") for row in alignment_rows(coverage)]
    texts = [row.get(key) or "" for row in rows for key in ("instruction", "answer", "good", "bad")]
    assert {word for text in texts for word in text.split()} <= known
