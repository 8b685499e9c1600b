"""The readers on real data, where a copy lies beside the checkout or at HARNESS_DATA."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.rows import AlignmentRow, hijack_prompts, instructions, judged_responses, preference_pairs, prompts

DATA = Path(os.environ.get("HARNESS_DATA") or Path(__file__).resolve().parents[3] / "shared" / "data")


def real(name: str) -> Path:
    if not (DATA / name).is_file():
        pytest.skip(f"no {name} here")
    return DATA / name


def check(rows: list[AlignmentRow]) -> None:
    assert len({row.key for row in rows}) == len(rows)
    assert all(row.source and row.instruction.strip() for row in rows)


def test_pku_pairs_and_responses() -> None:
    path = real("pku_saferlhf/saferlhf_mini_pairs.jsonl")
    rows, dropped = preference_pairs(path)
    assert len(rows) + sum(dropped.values()) == 2000
    assert len(rows) == 370
    assert all(row.good and row.bad for row in rows)
    check(rows)
    judged, counts = judged_responses(path)
    assert len(judged) + sum(counts.values()) == 4000
    check(judged)


def test_beavertails_responses() -> None:
    judged, counts = judged_responses(real("beavertails/beavertails_30k_test.jsonl"))
    assert len(judged) + sum(counts.values()) == 3021


def test_hh_dialogues() -> None:
    rows, dropped = preference_pairs(real("hh_rlhf/harmless_base_test.jsonl"))
    assert len(rows) + sum(dropped.values()) == 2312
    assert len(rows) > 600
    check(rows)


def test_alpaca() -> None:
    rows, dropped = instructions(real("alpaca/alpaca_first_1805.jsonl"))
    assert len(rows) + sum(dropped.values()) == 1805
    assert any(row.input for row in rows)
    check(rows)


def test_alpaca_farm() -> None:
    rows, dropped = prompts(real("alpaca_eval/instructions_805.jsonl"), kind="benign")
    assert (len(rows), dropped) == (805, {})


@pytest.mark.parametrize(
    ("name", "n_rows", "n_kept", "label"),
    [
        ("promptinject_goal_hijack_175.jsonl", 175, 175, "target_string"),
        ("latent_jailbreak_P1.jsonl", 2880, 32, None),
        ("seval_goal_hijacking_en.jsonl", 1000, 1000, "lang"),
    ],
)
def test_hijacks(name: str, n_rows: int, n_kept: int, label: str | None) -> None:
    rows, dropped = hijack_prompts(real(f"goal_hijacking/{name}"))
    assert len(rows) == n_kept
    assert len(rows) + sum(dropped.values()) == n_rows
    assert label is None or all(label in row.labels for row in rows)


@pytest.mark.parametrize(
    ("name", "n"),
    [
        ("advbench_harmful_behaviors", 520),
        ("jailbreakbench_behaviors", 100),
        ("malicious_instruct", 100),
        ("seval_base_risk_en", 1000),
        ("strongreject", 313),
    ],
)
def test_red_team_prompts(name: str, n: int) -> None:
    rows, dropped = prompts(real(f"redteam/{name}.jsonl"))
    assert (len(rows), dropped) == (n, {})
