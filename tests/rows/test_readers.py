"""The typed readers: layouts, drop rules and their counts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import UserError
from harness.rows import Row, hijack_prompts, instructions, judged_responses, preference_pairs, prompts

PKU = ("prompt", "response_0", "response_1", "is_response_0_safe", "is_response_1_safe")


def rows(*values: dict[str, Any]) -> list[Row]:
    return [Row(f"f.jsonl:{number}", value) for number, value in enumerate(values, 1)]


def pku(*cells: Any) -> dict[str, Any]:
    return dict(zip(PKU, cells, strict=True))


def test_pku_pairs_take_the_safe_and_the_unsafe_response() -> None:
    found, dropped = preference_pairs(
        rows(
            pku("q1", "good", "bad", True, False),
            pku("q2", "bad", "good", "False", "True"),
            pku("q3", "x", "y", 1, "1"),
            pku("q4", "x", "y", 0, "0"),
            pku("  ", "x", "y", 1, 0),
            pku("q5", " \n", "y", 1, 0),
            pku("q1", "bad", "good", False, True),
            pku("q6", "same", "same", True, False),
        )
    )
    assert [(row.instruction, row.good, row.bad, row.kind) for row in found] == [
        ("q1", "good", "bad", "red"),
        ("q2", "good", "bad", "red"),
    ]
    assert dropped == {
        "no unsafe response": 1,
        "no safe response": 1,
        "empty instruction": 1,
        "blank response": 1,
        "duplicate": 1,
        "contradictory labels": 1,
    }
    assert found[1].source == "f.jsonl:2"


@pytest.mark.parametrize("value", ["maybe", None, 2, 0.5, ""])
def test_a_safety_label_that_is_none_is_an_error_with_its_line(value: Any) -> None:
    with pytest.raises(UserError, match=r"f\.jsonl:1: 'is_response_1_safe' must be true or false"):
        preference_pairs(rows(pku("q", "a", "b", True, value)))


def test_other_pair_layouts() -> None:
    split, _ = preference_pairs(rows({"instruction": "q", "input": "i", "good": "a", "bad": "b"}))
    plain, _ = preference_pairs(rows({"Prompt": "q", "chosen": "a", "rejected": "b"}))
    assert (split[0].input, split[0].good, split[0].bad) == ("i", "a", "b")
    assert (plain[0].instruction, plain[0].good, plain[0].bad) == ("q", "a", "b")


def test_dialogues() -> None:
    def talk(*turns: str) -> str:
        return "".join(f"\n\n{'Assistant' if n % 2 else 'Human'}: {turn}" for n, turn in enumerate(turns))

    found, dropped = preference_pairs(
        rows(
            {"chosen": talk("q\n\nmore", "a"), "rejected": talk("q\n\nmore", "b")},
            {"chosen": talk("q", "a", "q2", "a2"), "rejected": talk("q", "a", "q2", "b2")},
            {"chosen": talk("q", "a"), "rejected": talk("p", "b")},
        )
    )
    assert [(row.instruction, row.good, row.bad) for row in found] == [("q\n\nmore", "a", "b")]
    assert dropped == {"several turns": 1, "two different dialogues": 1}


def test_alpaca_rows() -> None:
    found, dropped = instructions(
        rows(
            {"instruction": "do", "input": "", "output": "done"},
            {"instruction": "do", "input": "this", "output": "done"},
            {"instruction": "do", "output": "done"},
            {"instruction": None, "input": "", "output": "done"},
            {"instruction": "do more", "input": "", "output": float("nan")},
        )
    )
    assert [(row.input, row.good, row.bad, row.kind) for row in found] == [
        ("", "done", None, "benign"),
        ("this", "done", None, "benign"),
    ]
    assert dropped == {"duplicate": 1, "empty instruction": 1, "blank response": 1}


@pytest.mark.parametrize(
    "column", ["prompt", "instruction", "goal", "question", "forbidden_prompt", "Goal", "Forbidden Prompt"]
)
def test_prompt_columns(column: str) -> None:
    found, _ = prompts(rows({column: "q", "other": 1}))
    assert (found[0].instruction, found[0].good, found[0].bad) == ("q", None, None)


def test_hijack_labels_are_those_that_the_row_has() -> None:
    found, _ = hijack_prompts(
        rows(
            {"prompt": "p", "target_string": "t", "attack": "ignore", "lang": None},
            {"prompt": "q", "target_string": "u"},
        )
    )
    assert [row.labels for row in found] == [{"target_string": "t", "attack": "ignore"}, {"target_string": "u"}]
    assert found[0].kind == "hijack"
    trained, _ = hijack_prompts(rows({"prompt": "p", "good": "g", "bad": "b"}))
    assert (trained[0].good, trained[0].bad) == ("g", "b")


def test_judged_responses_of_both_layouts() -> None:
    single, dropped = judged_responses(
        rows(
            {"prompt": "q", "response": "a", "is_safe": "true"},
            {"prompt": "q", "response": "b", "is_safe": False},
            {"prompt": "p", "response": "a", "is_safe": True},
            {"prompt": "p", "response": "a", "is_safe": False},
        )
    )
    assert [(row.good, row.bad) for row in single] == [("a", None), (None, "b")]
    assert dropped == {"contradictory labels": 2}
    double, _ = judged_responses(rows(pku("q", "a", "b", True, True), pku("p", "a", "b", False, True)))
    assert [(row.good, row.bad) for row in double] == [("a", None), ("b", None), ("b", None), (None, "a")]


def test_both_responses_of_a_split_pair_are_judged() -> None:
    split, _ = judged_responses(rows({"instruction": "q", "good": "a", "bad": "b"}))
    assert [(row.good, row.bad) for row in split] == [("a", None), (None, "b")]


def test_wrong_columns_are_told_with_the_nearest(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps({"promt": "q", "answer_text": "a"}))
    with pytest.raises(
        UserError,
        match=r"x\.jsonl: no column 'prompt' or .*; found 'answer_text', 'promt'; rename 'promt' to 'prompt'\?",
    ):
        prompts(path)
    path.write_text(json.dumps(pku("q", "a", "b", True, False)).replace("_1_safe", "_1_saef"))
    with pytest.raises(UserError, match=r"known pair layout.*rename 'is_response_1_saef' to 'is_response_1_safe'\?"):
        preference_pairs(path)
    with pytest.raises(UserError, match="no column 'output'"):
        instructions(rows({"instruction": "a"}))


def test_a_row_without_the_column_and_a_cell_of_the_wrong_type() -> None:
    with pytest.raises(UserError, match=r"f\.jsonl:2: no 'prompt' here, though other rows have it"):
        prompts(rows({"prompt": "a"}, {"x": 1}))
    with pytest.raises(UserError, match=r"f\.jsonl:1: 'prompt' must be text, not int"):
        prompts(rows({"prompt": 5}))


def test_strange_text_passes_and_lone_surrogates_are_replaced(tmp_path: Path) -> None:
    strange = "<b>bold</b> 😀 \x00\x07 ' \" , \u2028" + "ä" * 4000
    path = tmp_path / "s.jsonl"
    path.write_text(json.dumps({"prompt": strange}) + '\n{"prompt": "a\\ud800b", "x": 1}\n', encoding="utf-8")
    found, counts = prompts(path)
    assert [row.instruction for row in found] == [strange, "a\ufffdb"]
    assert counts == {"lone surrogate replaced": 1}
    for row in found:
        assert len(row.key) == 64
        row.to_line().encode("utf-8")


def test_the_key_is_the_content_and_not_the_place() -> None:
    first, _ = prompts([Row("a:1", {"prompt": "q"})])
    second, _ = prompts([Row("b:7", {"prompt": "q"})])
    other, _ = prompts([Row("b:7", {"prompt": "q"})], kind="benign")
    assert first[0].key == second[0].key != other[0].key


CELL = st.one_of(st.none(), st.text(max_size=8), st.sampled_from(["a", " ", "\ud800"]))


@settings(max_examples=150)
@given(st.lists(st.tuples(CELL, CELL, CELL, st.booleans(), st.booleans()), min_size=1, max_size=12))
def test_every_pku_row_is_kept_or_counted(cells: list[tuple[Any, ...]]) -> None:
    found, counts = preference_pairs(rows(*(pku(*row) for row in cells)))
    repaired = counts.pop("lone surrogate replaced", 0)
    assert len(found) + sum(counts.values()) == len(cells)
    assert repaired <= len(found)
    assert len({(row.instruction, row.good, row.bad) for row in found}) >= len(found) - repaired
    assert all(
        row.instruction.strip() and row.good and row.good.strip() and row.bad and row.bad.strip() for row in found
    )
