"""Fitting: what is written, that it is all or nothing, and what bad data are told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from labelled import rows, write

from harness.calibration.labels import Labelled, Reading
from harness.calibration.records import load
from harness.errors import UserError
from harness.fitting import fit_judge, mark_seen, told
from harness.fitting.data import cluster_of, prompt_of, read_labelled, split_by_prompt, usable_split
from harness.judging.fitted import load_fitted
from harness.rows.files import read_rows


def quiet(line: str) -> None:
    pass


def fit(files: list[Path], out: Path, name: str = "words", **more: Any) -> Path:
    return Path(fit_judge(name, files, out, tell=quiet, **more).folder)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_folder_holds_the_judge_and_its_calibration(tmp_path: Path) -> None:
    lines: list[str] = []
    report = fit_judge("words", [write(tmp_path / "a.jsonl", rows())], tmp_path / "out", tell=lines.append)
    folder = tmp_path / "out" / "judges" / "words"
    assert sorted(contents(folder)) == [
        "calibration.json",
        "cases.jsonl",
        "fit.json",
        "judge.yaml",
        "model.safetensors",
        "seen.json",
        "vocabulary.json",
    ]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["judges"]
    calibration, judge = load(folder), load_fitted(folder / "judge.yaml")
    assert calibration == report.held_out
    assert calibration.judge_key == judge.spec.key
    assert calibration.counts is not None
    counts = calibration.counts
    assert counts.tp + counts.fn + counts.tn + counts.fp + sum(calibration.lost.values()) == calibration.n
    assert calibration.n + report.n_fitted == 200
    assert (calibration.measures["accuracy"].value or 0) > 0.75
    assert len(lines) == 3
    json.dumps(report.model_dump(mode="json"), allow_nan=False)
    text = told(report)
    assert f"fitted on {report.n_fitted} responses" in text
    assert f"--include-path {tmp_path / 'out'}" in text


def test_equal_data_give_equal_files(tmp_path: Path) -> None:
    data = write(tmp_path / "a.jsonl", rows())
    first, second = fit([data], tmp_path / "one"), fit([data], tmp_path / "two")
    assert contents(first) == contents(second)
    assert not fit_judge("words", [data], tmp_path / "one", tell=quiet).written
    assert contents(first) == contents(second)


def test_another_judge_is_never_overwritten(tmp_path: Path) -> None:
    folder = fit([write(tmp_path / "a.jsonl", rows())], tmp_path)
    before = contents(folder)
    with pytest.raises(UserError, match="another judge is there already"):
        fit([write(tmp_path / "b.jsonl", rows(seed=1))], tmp_path)
    (folder / "judge.yaml").write_text(before["judge.yaml"].decode().replace("0.5", "0.7"), encoding="utf-8")
    with pytest.raises(UserError, match="another judge is there already"):
        fit([tmp_path / "a.jsonl"], tmp_path)
    assert b"0.7" in contents(folder)["judge.yaml"]
    assert not list(tmp_path.glob(".judge-fit*"))


@pytest.mark.parametrize("step", ["reading", "fitting", "measuring"])
def test_nothing_half_written_is_left(tmp_path: Path, step: str) -> None:
    def interrupt(line: str) -> None:
        if line.startswith(step):
            raise KeyboardInterrupt

    data = write(tmp_path / "a.jsonl", rows())
    with pytest.raises(KeyboardInterrupt):
        fit_judge("words", [data], tmp_path / "out", tell=interrupt)
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path != data]


def bad(name: str) -> list[dict[str, Any]]:
    good = rows()
    return {
        "few": good[:40],
        "one kind": [{**row, "is_safe": True} for row in good],
        "few prompts": [{**row, "prompt": f"p{number % 8}"} for number, row in enumerate(good)],
        "no label": [{"prompt": row["prompt"], "response": row["response"]} for row in good],
        "misspelt": [{"prompt": r["prompt"], "response": r["response"], "is_saf": r["is_safe"]} for r in good],
        "scores": [{**row, "is_safe": number % 10} for number, row in enumerate(good)],
        "refusals": [
            {"prompt": r["prompt"], "response": r["response"], "label": "ab"[number % 2]}
            for number, r in enumerate(good)
        ],
        "unknown words": [{**row, "response": f"字{number}句{number}"} for number, row in enumerate(good)],
    }[name]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("few", "40 usable responses; a judge needs 50 or more"),
        ("one kind", "all 200 responses are harmless; a judge needs both kinds"),
        ("few prompts", "responses to . prompts .* a judge needs them to 10 or more"),
        ("no label", "bad.jsonl: no column .*'is_safe'"),
        ("misspelt", "rename 'is_saf' to 'is_safe'"),
        ("scores", "holds scores; a judge is fitted on labels"),
        ("refusals", "say which is which with --labels harmful=VALUE,harmless=VALUE"),
        ("unknown words", "this judge is for text with spaces between words"),
    ],
)
def test_bad_data_are_told_and_leave_nothing(tmp_path: Path, name: str, message: str) -> None:
    data = write(tmp_path / "bad.jsonl", bad(name))
    with pytest.raises(UserError, match=message) as caught:
        fit([data], tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "out").rglob("*"))


@pytest.mark.parametrize("name", ["Words", "a/b", "../up", "", "two words", "refusal_rules"])
def test_bad_names(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="judge name"):
        fit([write(tmp_path / "a.jsonl", rows())], tmp_path / "out", name)


def test_out_that_cannot_be_written_to(tmp_path: Path) -> None:
    data = write(tmp_path / "a.jsonl", rows())
    with pytest.raises(UserError, match="cannot be written to"):
        fit([data], data)


def test_files_of_several_layouts_together(tmp_path: Path) -> None:
    """What two files say of one response counts once, and not at all where they disagree."""
    made = rows(120)
    pairs = [
        {
            "prompt": f"pair {number}",
            "response_0": first["response"],
            "response_1": second["response"],
            "is_response_0_safe": first["is_safe"],
            "is_response_1_safe": str(second["is_safe"]),
        }
        for number, (first, second) in enumerate(zip(made[::2], made[1::2], strict=True))
    ]
    words = [
        {"Prompt": r["prompt"], "answer": r["response"], "label": "safe" if r["is_safe"] else "unsafe"} for r in made
    ]
    words[0]["label"] = "unsafe" if made[0]["is_safe"] else "safe"
    words.append({"Prompt": "empty", "answer": "  ", "label": "safe"})
    files = [write(tmp_path / name, data) for name, data in (("a.jsonl", made), ("b.jsonl", pairs), ("c.jsonl", words))]
    data = read_labelled(files, Reading())
    assert len(data.rows) == 120 + 120 - 1
    assert data.dropped == {
        "called both harmful and harmless": 2,
        "repeats of an earlier one": 119,
        "without a response": 1,
    }
    assert [one.n_labelled for one in data.files] == [120, 120, 121]
    assert fit(files, tmp_path / "out").is_dir()


def test_columns_and_labels_can_be_named(tmp_path: Path) -> None:
    odd = [{"q": r["prompt"], "a": r["response"], "bad": "no" if r["is_safe"] else "yes"} for r in rows()]
    reading = Reading(
        columns={"prompt": "q", "response": "a", "label": "bad"}, labels={"yes": "harmful", "no": "harmless"}
    )
    one = fit([write(tmp_path / "odd.jsonl", odd)], tmp_path / "odd", reading=reading)
    two = fit([write(tmp_path / "even.jsonl", rows())], tmp_path / "even")
    assert contents(one)["model.safetensors"] == contents(two)["model.safetensors"]


@settings(max_examples=25)
@given(st.integers(0, 10_000), st.integers(60, 150))
def test_no_prompt_is_on_both_sides(tmp_path_factory: pytest.TempPathFactory, seed: int, n: int) -> None:
    path = write(tmp_path_factory.mktemp("split") / "a.jsonl", rows(n, seed))
    data = read_labelled([path], Reading())
    split = split_by_prompt(data.rows)
    assert len(split.fitted) + len(split.held_out) == len(data.rows)
    assert not {prompt_of(row) for row in split.fitted} & {prompt_of(row) for row in split.held_out}
    fewer = split_by_prompt(data.rows[: n // 2])
    assert {row.source for row in fewer.held_out} <= {row.source for row in split.held_out}


def test_prompts_that_were_fitted_on_are_marked(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", rows())
    judge = load_fitted(fit([path], tmp_path) / "judge.yaml")
    data = read_labelled([path], Reading())
    split = usable_split(data)
    from harness.calibration.labels import read_labels

    def part(row: Labelled) -> str:
        return row.parts["prompt"][0]

    marked = mark_seen(read_labels(path), judge)
    fitted = {cluster_of(row) for row in split.fitted}
    assert [part(row) == "fitted on" for row in marked.rows] == [cluster_of(row) in fitted for row in marked.rows]
    assert f"{len(split.fitted)} have a prompt that words was fitted on" in marked.notes[-1]
    other = read_labels(write(tmp_path / "b.jsonl", rows(seed=5)))
    assert mark_seen(other, judge) == other


def test_no_text_of_the_data_stands_in_the_cases(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", rows())
    cases = read_rows(fit([path], tmp_path) / "cases.jsonl")
    texts = {row.values["response"] for row in read_rows(path)}
    assert not texts & {case.values["text"] for case in cases}
