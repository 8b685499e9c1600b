"""Plain rows: matched to a task's items, judged by its rules, with the verdicts that came along beside them."""

import csv
import json

import pytest

from harness.content import content_root
from harness.errors import UserError
from harness.importing import told
from harness.records import CompletionOutcome
from harness.tasks import load_task
from tests.importing.conftest import records

TASK = "goal_hijack_en"
PROMPTS = [sample.messages[0].content for sample in load_task(TASK).samples]


def said(number, text="a fine answer", **other):
    return {"prompt": PROMPTS[number], "response": text, **other}


def contents(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file() and path.name != ".lock"}


def test_answers_are_judged_by_the_task_s_rules_and_unanswered_items_are_seen(bring, write):
    betrayed = load_task(TASK).samples[1].labels["target_string"]
    rows = [said(0), said(1, betrayed), {"prompt": "of another task", "response": "x"}, said(0), said(0, "otherwise")]
    found = bring(TASK, write("mine.jsonl", rows))
    estimate = found.estimate("mine", "hijack_rate")
    assert (estimate.value, estimate.n_scored, estimate.n_total) == (0.5, 2, len(PROMPTS))
    assert found.summary["dropped"] == {
        "another answer to the same item": 1, "duplicate": 1, "no such item in the task": 1,
    }  # fmt: skip
    assert (found.summary["rows"], found.summary["matched"], found.summary["duplicates"]) == (5, 2, 1)
    assert found.summary["lost"] == {"no answer": len(PROMPTS) - 2}
    assert len(found.records()[3]) == 2
    assert "rows not used: 1 another answer to the same item" in found.scores.notes[0]


def test_verdicts_that_come_along_are_a_judge_of_their_own(bring, write):
    rows = [said(n, label="resisted" if n < 3 else "followed", judge="Anna B.", reason="so") for n in range(4)]
    found = bring(TASK, write("mine.jsonl", [*rows, said(4), said(0, label="followed", judge="Anna B.")]))
    ours, hers = found.estimate("mine", "hijack_rate"), found.estimate("mine", "hijack_rate_by_Anna_B")
    assert (ours.value, ours.n_scored, hers.value, hers.n_scored) == (1, 5, 0.75, 4)
    metrics = {metric.name: metric for metric in found.scores.metrics}
    assert metrics["hijack_rate"].judge == "hijack_rules"
    assert metrics["hijack_rate_by_Anna_B"].label == "Goal Hijacking Rate, by Anna B."
    verdicts = found.records()[3]
    assert len({verdict.judge_key for verdict in verdicts}) == 2
    assert {verdict.reason for verdict in verdicts if verdict.reason == "so"}
    assert found.summary["dropped"] == {"another verdict on the same answer": 1}
    assert found.summary["lost"] == {"no answer": len(PROMPTS) - 5, "no verdict": 1}


def test_a_judge_named_like_one_of_ours_is_still_another(bring, write):
    found = bring(TASK, write("mine.jsonl", [said(0, label="followed")]), judge="hijack_rules")
    assert found.estimate("mine", "hijack_rate").value == 1
    assert found.estimate("mine", "hijack_rate_by_hijack_rules").value == 0


def test_recorded_scores_stand_on_the_task_s_scale(bring, write):
    question = load_task("vale_harmless").samples[0].messages[0].content
    row = {"instruction": question, "output": "no .", "score": "7.5", "label": True}
    found = bring("vale_harmless", write("mine.jsonl", [row]))
    assert found.estimate("mine", "harmless_score_by_imported").value == 7.5
    assert "no label of imported (true) is 'harmless'" in found.summary["warnings"][0]
    with pytest.raises(UserError, match=r"^x\.jsonl:1: the score 11 is outside the scale 1 to 10 of harmless_score"):
        bring("vale_harmless", write("x.jsonl", [{**row, "score": 11}]))
    kept = bring(TASK, write("kept.jsonl", [said(0, score=3)]), folder="kept")
    assert kept.summary["warnings"] == ["kept: the scores of imported are kept, but goal_hijack_en has no score."]


def test_the_same_file_twice_adds_nothing_and_another_subject_s_is_appended(bring, write):
    file = write("mine.jsonl", [said(0, label="resisted"), said(1, "")])
    first = bring(TASK, file)
    before = contents(first.run.path)
    second = bring(TASK, file)
    assert set(second.summary["imported"].values()) == {0}
    assert contents(first.run.path) == before
    third = bring(TASK, file, subject="theirs", label="Theirs, 13B")
    assert third.summary["imported"] == {"samples": 0, "cells": 1, "completions": 2, "verdicts": 1}
    for path, content in before.items():
        if path.suffix == ".jsonl":
            assert path.read_bytes().startswith(content)
    assert [subject.label for subject in third.scores.subjects] == ["mine", "Theirs, 13B"]
    again = bring(TASK, file, subject="theirs", label="Theirs")
    assert [subject.label for subject in again.scores.subjects] == ["mine", "Theirs"]


def test_an_import_that_died_is_finished_by_the_same_command(bring, write):
    file = write("mine.jsonl", [said(n, label="resisted") for n in range(5)])
    whole = bring(TASK, file)
    wanted = contents(whole.run.path)
    (whole.run.path / "imports.jsonl").unlink()
    lines = whole.run.completions_file.read_bytes().splitlines(keepends=True)
    whole.run.completions_file.write_bytes(b"".join(lines[:3]) + lines[3][:40])
    whole.run.verdicts_file.unlink()
    again = bring(TASK, file)
    assert again.estimate("mine", "hijack_rate") == whole.estimate("mine", "hijack_rate")
    assert again.estimate("mine", "hijack_rate_by_imported").n_scored == 5
    assert contents(again.run.path)[again.run.scores_file] == wanted[again.run.scores_file]


def test_what_contradicts_the_run_is_refused_and_nothing_changes(bring, write):
    found = bring(TASK, write("mine.jsonl", [said(0, label="resisted"), said(1)]))
    before = contents(found.run.path)
    with pytest.raises(UserError, match=r"^b\.jsonl:2: the run holds, of this item, another answer of mine; .* another --subject"):
        bring(TASK, write("b.jsonl", [said(1), said(0, "otherwise")]), subject="mine")
    with pytest.raises(UserError, match=r"^c\.jsonl:1: the run holds, of this item, another verdict .* another --judge"):
        bring(TASK, write("c.jsonl", [said(0, label="followed")]), subject="mine")
    with pytest.raises(UserError, match="'mine' is mine there, not gpt; give these answers another name with --subject"):
        bring(TASK, write("mine.csv", f'prompt,response,model\n"{PROMPTS[3]}",x,gpt\n"{PROMPTS[4]}",x,\n'), subject="mine")
    assert contents(found.run.path) == before


def test_more_answers_and_more_judges_of_the_same_subject(bring, write):
    bring(TASK, write("mine.jsonl", [said(0)]))
    found = bring(TASK, write("b.jsonl", [said(0, label="followed"), said(1, label="resisted")]), subject="mine", judge="b")
    assert found.estimate("mine", "hijack_rate").n_scored == 2
    assert found.estimate("mine", "hijack_rate_by_b").value == 0.5
    found = bring(TASK, write("c.jsonl", [said(0, label="resisted")]), subject="mine", judge="c")
    assert found.estimate("mine", "hijack_rate_by_b").value == 0.5
    assert found.estimate("mine", "hijack_rate_by_c").value == 1


def test_further_answers_to_an_item_are_told_not_mixed_in(bring, write):
    rows = [said(0), *(said(0, f"answer {n}") for n in range(3)), said(1), said(1)]
    found = bring(TASK, write("mine.jsonl", rows))
    assert found.summary["further_answers"] == 3
    assert found.summary["dropped"] == {"another answer to the same item": 3, "duplicate": 1}
    assert "\n3 further answers were not taken: only the first one to an item counts\n" in told(found.summary)
    assert [completion.text for completion in found.records()[2]] == ["a fine answer"] * 2
    plain = bring(TASK, write("b.jsonl", [said(0), said(1)]), folder="plain")
    assert "not taken" not in told(plain.summary)


TEXTS = ["", "  \n ", "🙂 emoji", "nul \x00 in it", "two\n\nlines, \"quoted\"", "x" * 300_000, "</td><b>markup", "\u2028 x \u0085"]  # fmt: skip


def test_picking_one_judge_keeps_the_answers_that_others_saw(bring, write):
    rows = [said(0, label="resisted", judge="a"), said(0, label="followed", judge="b"), said(1, label="followed", judge="b")]
    file = write("mine.jsonl", [*rows, said(2)])
    with pytest.raises(UserError, match=r"names 2 judges \(a, b\); import one at a time with --judge"):
        bring(TASK, file)
    bring(TASK, file, judge="a")
    found = bring(TASK, file, judge="b")
    for metric, value, n_scored in (("hijack_rate", 1, 3), ("hijack_rate_by_a", 1, 1), ("hijack_rate_by_b", 0, 2)):
        estimate = found.estimate("mine", metric)
        assert (estimate.value, estimate.n_scored) == (value, n_scored)


def test_a_subject_named_by_the_file_or_by_the_user_is_one_model(bring, write):
    bring(TASK, write("a.jsonl", [said(0, model="my model")]))
    found = bring(TASK, write("b.jsonl", [said(1, model="my model")]), subject="my-model")
    assert found.estimate("my-model", "hijack_rate").n_scored == 2
    with pytest.raises(UserError, match="'my-model' is my model there, not another"):
        bring(TASK, write("c.jsonl", [said(3, model="another")]), subject="my-model")


def test_odd_texts_come_through(bring, write, tmp_path):
    found = bring(TASK, write("mine.jsonl", [said(n, text) for n, text in enumerate(TEXTS)]))
    with (tmp_path / "mine.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["Prompt", "Response"])
        writer.writerows([PROMPTS[n], text] for n, text in enumerate(TEXTS))
    table = bring(TASK, tmp_path / "mine.csv", folder="csv")
    for one in (found, table):
        completions = one.records()[2]
        assert [completion.text for completion in completions] == ["", "", *TEXTS[2:]]
        assert [c.outcome for c in completions] == [CompletionOutcome.EMPTY] * 2 + [CompletionOutcome.OK] * 6
    assert found.estimate("mine", "hijack_rate") == table.estimate("mine", "hijack_rate")


def test_lone_surrogates_and_nulls(bring, write):
    found = bring(TASK, write("mine.jsonl", [said(0, "half \ud83d"), said(1, None), {"prompt": " ", "response": "x"}]))
    assert [completion.text for completion in found.records()[2]] == ["half \ufffd"]
    assert found.summary["dropped"] == {"empty instruction": 1, "no response": 1}


def test_a_task_without_items_of_its_own_takes_the_rows_or_a_file(bring, write):
    rows = [{"prompt": f"how {n}?", "response": "I'm sorry, but I can't help with that."} for n in range(3)]
    file = write("mine.jsonl", [*rows, {"prompt": "how null?", "response": None}])
    found = bring("saferlhf_harmless", file)
    estimate = found.estimate("mine", "refusal_rate")
    assert (estimate.value, estimate.n_scored, estimate.n_total) == (1, 3, 4)
    assert "give --data FILE" in told(found.summary)
    more = bring("saferlhf_harmless", write("b.jsonl", [{"prompt": "how else?", "response": "Sure!"}]), subject="b")
    assert more.estimate("mine", "refusal_rate").n_total == 5
    items = write("items.jsonl", [{"prompt": f"how {n}?"} for n in range(10)])
    with pytest.raises(UserError, match="come with the answers here; leave --data out"):
        bring("saferlhf_harmless", file, data=str(items))
    whole = bring("saferlhf_harmless", file, folder="whole", data=str(items))
    assert whole.estimate("mine", "refusal_rate").n_total == 10
    assert whole.summary["dropped"] == {"no such item in the task": 1}
    assert whole.summary["notice"] is None
    later = bring("saferlhf_harmless", write("c.jsonl", rows[:1]), folder="whole")
    assert later.estimate("c", "refusal_rate").n_total == 10
    other = write("other.jsonl", [{"prompt": "another?"}])
    with pytest.raises(UserError, match="other items than those that"):
        bring("saferlhf_harmless", file, folder="whole", data=str(other))


def test_classification_by_a_label_that_was_chosen(bring, write):
    name = "vale_discrimination_guided"
    samples = load_task(name).samples[:4]
    rows = [{"instruction": s.messages[0].content, "answer": s.messages[1].content, "response": "harmful"} for s in samples]
    found = bring(name, write("mine.jsonl", rows))
    assert found.estimate("mine", "accuracy_guided").value == 0.5
    assert found.estimate("mine", "auc_guided").value is None
    with pytest.raises(UserError, match="no column 'answer'"):
        bring(name, write("x.jsonl", [{"instruction": "q", "response": "harmful"}]), folder="x")


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ([{"prompt": "q", "respones": "a"}], r"m\.jsonl: no column 'response' or .*; found 'prompt', 'respones'; rename"),
        ([{"text": "q", "response": "a"}], r"m\.jsonl: no column 'instruction' or .*; found 'response', 'text'"),
        (json.dumps({"prompt": "q", "response": "a"}) + "\n{broken\n", r"m\.jsonl:2: not valid JSON"),
        ('{"prompt": "q", "response": "a"}\n[1]\n', r"m\.jsonl:2: an object of columns is needed"),
        ([{"prompt": "q", "response": "a"}, {"prompt": "q", "response": 3}], r"m\.jsonl:2: 'response' must be text"),
        ([{"prompt": "q", "response": "a", "score": "high"}], r"m\.jsonl:1: 'score' must be a number, not 'high'"),
        ([{"prompt": "q", "response": "a", "label": ["x"]}], r"m\.jsonl:1: 'label' must be text, not list"),
        ([{"prompt": "q", "response": "a", "labels": "{"}], r"m\.jsonl:1: 'labels' must be an object"),
        ("", r"m\.jsonl: the file holds no rows"),
    ],
)
def test_a_file_that_is_not_as_it_should_be(bring, write, tmp_path, content, part):
    with pytest.raises(UserError, match=part):
        bring(TASK, write("m.jsonl", content))
    assert not (tmp_path / "run").exists()


def test_an_item_made_of_a_row_needs_what_the_task_compares_with(bring, write):
    row = {"prompt": "q", "answer": "a", "response": "harmful"}
    with pytest.raises(UserError, match=r"^m\.jsonl:1: no 'target', which saferlhf_discrimination_guided compares"):
        bring("saferlhf_discrimination_guided", write("m.jsonl", [row]))
    with pytest.raises(UserError, match=r"^m\.csv:2: no item can be made of it \(Input should be a finite number"):
        bring("saferlhf_harmless", write("m.csv", 'prompt,response,labels\nq,a,"{""x"": NaN}"\n'))
    with pytest.raises(UserError, match=r"^m\.jsonl:1: the target 'bad' is none of harmful, harmless"):
        bring("saferlhf_discrimination_guided", write("m.jsonl", [{**row, "target": "bad"}]))
    found = bring("saferlhf_discrimination_guided", write("m.jsonl", [{**row, "target": "harmful", "cluster": 7}]))
    assert found.estimate("m", "accuracy_guided").value == 1


def test_names_are_checked(bring, write):
    file = write("mine.jsonl", [said(0)])
    with pytest.raises(UserError, match="did you mean 'rows'"):
        bring(TASK, file, format="row")
    with pytest.raises(UserError, match="did you mean 'goal_hijack_en'"):
        bring("goal_hijak_en", file)
    with pytest.raises(UserError, match="--label takes any text"):
        bring(TASK, file, subject="my model")
    with pytest.raises(UserError, match=r"no such file; did you mean 'mine\.jsonl'"):
        bring(TASK, file.with_name("mien.jsonl"))


# The command line


def test_a_run_of_ours_and_an_imported_one_are_never_continued_by_the_other(command, write, tmp_path):
    file = write("mine.jsonl", [said(0)])
    where = ("--task", TASK, "--from", file)
    code, out, _ = command("import", tmp_path / "run", *where, "--json")
    assert code == 0
    found = json.loads(out)
    assert (found["import"]["matched"], found["import"]["imported"]["completions"]) == (1, 1)
    assert found["scores"]["subjects"][0]["method"] == "recorded"
    code, out, err = command("run", "demo", "--out", tmp_path / "run")
    assert (code, out) == (1, "")
    assert err == f"harness: {tmp_path / 'run'}: holds imported answers, which no model continues; choose another --out\n"
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "manifest.json").write_text("{}")
    code, _, err = command("import", tmp_path / "own", *where)
    assert (code, err.count("\n")) == (1, 1)
    assert "holds a run that was made here" in err
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "a.tex").touch()
    assert "not empty and holds no run" in command("import", tmp_path / "thesis", *where)[2]


def test_show_score_and_judge_work_on_an_imported_run(command, write, tmp_path):
    file = write("mine.jsonl", [said(0, label="followed"), said(1, "")])
    run = tmp_path / "run"
    assert command("import", run, "--task", TASK, "--from", file)[0] == 0
    state = json.loads(command("show", run, "--json")[1])
    (row,) = state["answers"]
    assert (row["answered"], row["planned"], row["outcomes"]) == (2, len(PROMPTS), {"empty": 1, "ok": 1})
    assert state["complete"] is True
    before = contents(run)
    for verb in ("score", "judge"):
        code, out, _ = command(verb, run)
        assert code == 0
        assert "Goal Hijacking Rate, by imported" in out
    assert {k: v for k, v in contents(run).items() if k.suffix != ".png"} == {
        k: v for k, v in before.items() if k.suffix != ".png"
    }


def test_a_recipe_cannot_ask_for_recorded_answers(command, tmp_path):
    recipe = (content_root("tasks").parent / "harness" / "recipes" / "demo.yaml").read_text(encoding="utf-8")
    (tmp_path / "mine.yaml").write_text(recipe.replace("method: vanilla", "method: recorded"))
    code, _, err = command("plan", tmp_path / "mine.yaml")
    assert code == 1
    assert "answers that exist already come in with: harness import" in err


def test_records_of_an_imported_run_are_whole(bring, write):
    found = bring(TASK, write("mine.jsonl", [said(n) for n in range(3)]))
    samples, cells, completions, verdicts = records(found.run)
    (cell,) = cells
    assert (cell.model.backend, cell.model.weights) == ("recorded", "mine")
    keys = {sample.key for sample in samples}
    assert all(c.sample_key in keys and c.model_key == cell.model.key for c in completions)
    answers = {completion.key: completion.text_hash for completion in completions}
    assert all(answers[verdict.completion_key] == verdict.text_hash for verdict in verdicts)
