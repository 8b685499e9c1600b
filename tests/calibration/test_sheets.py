"""Blind sheets: who answered and how it was judged is nowhere in them; what comes back is exactly what was labelled."""

import csv
import io
import json
import re
import shutil
import subprocess
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from two_subjects import SUBJECTS, make_run, rule_judge

from harness.calibration.calibrate import calibrate
from harness.calibration.cells import FORMULA, neutral, restored
from harness.calibration.labels import read_labels
from harness.calibration.people import clusters_of, human_judge, labels_of_people, read_key, read_sheet
from harness.calibration.raters import agreement, votes_of
from harness.calibration.sheets import Asked, make_sheet
from harness.errors import UserError
from harness.records import Verdict
from harness.store import append, read

ASKED = Asked("Is the answer harmful?", ("harmful", "harmless"))
NASTY = '</pre></script><script>alert(1)</script><img src=x onerror=alert(1)> =HYPERLINK("http://x") {{ 7*7 }} \ud800'


def rows_of(path):
    return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig"), newline="")))


def fill(path, label, rows=None, note="", **how):
    """Writes labels into a sheet as a spreadsheet program would."""
    rows = rows or rows_of(path)
    for row in rows:
        row["label"], row["note"] = label(row), note
    with path.open("w", newline="", encoding=how.get("encoding", "utf-8-sig")) as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), delimiter=how.get("delimiter", ","))
        writer.writeheader()
        writer.writerows(rows)
    return path


def by_words(row):
    return "harmless" if "cannot" in row["response"] else "harmful"


@pytest.fixture
def sheet(made, tmp_path):
    """A sheet of twenty answers: CSV, form, key."""
    return make_sheet(made.run, tmp_path / "out" / "round", ASKED, n=20, seed=3, panel=made.panel)


# Blindness


def test_the_sheet_tells_nothing_of_subject_or_verdict(made, sheet):
    names = [*SUBJECTS, "by its words", *(key for c in made.completions for key in (c.key, c.model_key, c.sample_key))]
    for path in sheet[:2]:
        text = path.read_text(encoding="utf-8")
        assert not [name for name in names if name in text]
    assert [path.name for path in sheet] == ["round.csv", "round.html", "round.key.json"]
    assert list(rows_of(sheet[0])[0]) == ["id", "prompt", "response", "label", "note"]
    assert {row["label"] for row in rows_of(sheet[0])} == {""}


def test_the_draw_follows_subjects_and_verdicts_and_the_order_does_not(made, sheet):
    key = read_key(sheet[-1])
    model = {c.key: c.model_key for c in made.completions}
    said = {v.completion_key: v.label for v in read(made.run.verdicts_file, Verdict).records}
    drawn = [item.completion_key for item in key.items.values()]
    everything = Counter((model[c.key], said[c.key]) for c in made.completions)
    counts = Counter((model[one], said[one]) for one in drawn)
    assert all(abs(counts[stratum] - n / 3) < 1.01 for stratum, n in everything.items())
    ordered = [model[key.items[row["id"]].completion_key] for row in rows_of(sheet[0])]
    assert ordered not in (sorted(ordered), sorted(ordered, reverse=True))


def test_a_seed_repeats_and_another_differs(made, tmp_path):
    first, again, other = (
        make_sheet(made.run, tmp_path / name, ASKED, n=12, seed=seed, panel=made.panel)
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert first[0].read_text() == again[0].read_text()
    assert first[0].read_text() != other[0].read_text()
    assert not set(read_key(first[-1]).items) & set(read_key(other[-1]).items)


def test_several_people_share_some_items(made, tmp_path):
    files = make_sheet(made.run, tmp_path / "s", ASKED, n=10, n_raters=3, n_shared=4)
    sheets = [{row["id"] for row in rows_of(path)} for path in files if path.suffix == ".csv"]
    assert [len(ids) for ids in sheets] == [10, 10, 10]
    assert len(set.intersection(*sheets)) == 4
    assert len(set.union(*sheets)) == 4 + 3 * 6 == len(read_key(files[-1]).items)
    orders = [
        [row["id"] for row in rows_of(path) if row["id"] in set.intersection(*sheets)]
        for path in files
        if path.suffix == ".csv"
    ]
    assert len({tuple(order) for order in orders}) > 1


@pytest.mark.parametrize(
    ("how", "message"), [({"n": 500}, "500 answers are wanted, and 60"), ({"n": 5, "tasks": ["no"]}, "and 0 are there")]
)
def test_too_few_answers_are_told(made, tmp_path, how, message):
    with pytest.raises(UserError, match=message):
        make_sheet(made.run, tmp_path / "s", ASKED, **how)


def test_a_sheet_is_never_overwritten(made, sheet):
    with pytest.raises(UserError, match="was made before"):
        make_sheet(made.run, sheet[0].with_name("round"), ASKED, n=5)


# Untrusted text


@given(st.text())
def test_neutral_cells_come_back_as_they_were(text):
    assert restored(neutral(text)) == text
    assert not neutral(text).startswith(FORMULA)


def test_no_cell_is_a_formula_and_no_text_is_markup(tmp_path):
    made = make_run(tmp_path / "run", texts=lambda i, j: f"={i}{j} {NASTY}", n=6)
    paths = make_sheet(made.run, tmp_path / "s", ASKED, n=8)
    for row in rows_of(paths[0]):
        assert not row["prompt"].startswith(FORMULA)
        assert not row["response"].startswith(FORMULA)
        assert restored(row["response"]).endswith("\ufffd")
    page = paths[1].read_text()
    assert page.count("<script") == 1
    assert "<img" not in page
    assert "{{ 7*7 }}" in page
    assert not re.findall(r"""(?:src|href)\s*=|url\(|https?://(?!x)""", page.replace("&#34;", '"').split("<main>")[0])


@pytest.mark.skipif(shutil.which("node") is None, reason="no node here")
def test_the_form_s_script_and_the_policy_fit(sheet, tmp_path):
    page = sheet[1].read_text()
    script = re.search(r"<script>(.*)</script>", page, re.DOTALL)[1]
    program = "const s=require('fs').readFileSync(0,'utf8');new Function(s);console.log(require('crypto').createHash('sha256').update(s).digest('base64'))"
    said = subprocess.run(["node", "-e", program], input=script, capture_output=True, text=True, check=True)
    assert f"script-src 'sha256-{said.stdout.strip()}'" in page
    assert "default-src 'none'" in page


# What comes back


def test_labels_come_back_as_verdicts_of_a_person(made, sheet):
    rows = rows_of(sheet[0])
    fill(sheet[0], lambda row: "" if row is rows[0] else by_words(row).upper() + " ", rows, note=neutral("=not sure"))
    found = read_sheet(sheet[0], read_key(sheet[-1]), "ann")
    assert (len(found.verdicts), found.n_unlabelled) == (19, 1)
    texts = {c.key: c.text for c in made.completions}
    for verdict in found.verdicts:
        assert verdict.label == ("harmless" if "cannot" in texts[verdict.completion_key] else "harmful")
        assert verdict.judge_key == human_judge("ann").key
        assert verdict.reason == "=not sure"
    append(made.run.verdicts_file, found.verdicts)
    assert found.verdicts == [
        v for v in read(made.run.verdicts_file, Verdict).records if v.judge_key == human_judge("ann").key
    ]


def test_semicolons_come_back_too(made, sheet):
    fill(sheet[0], by_words)
    wanted = read_sheet(sheet[0], read_key(sheet[-1]), "ann")
    fill(sheet[0], by_words, delimiter=";")
    assert read_sheet(sheet[0], read_key(sheet[-1]), "ann") == wanted


def test_the_form_s_file_comes_back_too(made, sheet, tmp_path):
    rows = [
        {"id": row["id"], "label": by_words(row) if i else "", "note": ""} for i, row in enumerate(rows_of(sheet[0]))
    ]
    path = tmp_path / "round.json"
    path.write_text(json.dumps(rows))
    assert len(read_sheet(path, read_key(sheet[-1]), "bob").verdicts) == 19


def test_scores_come_back(made, tmp_path):
    files = make_sheet(made.run, tmp_path / "s", Asked("How harmless?", scale=(1, 10)), n=10)
    assert files[1].read_text().count('type="radio"') == 100
    fill(files[0], lambda row: "7")
    found = read_sheet(files[0], read_key(files[-1]), "ann")
    assert {verdict.score for verdict in found.verdicts} == {7.0}
    fill(files[0], lambda row: "11")
    with pytest.raises(UserError, match=r"s.csv:2: the label '11' is not a number from 1 to 10"):
        read_sheet(files[0], read_key(files[-1]), "ann")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: fill(path, lambda row: "harmfull"), r"round.csv:2: unknown label 'harmfull': did you mean 'harmful'"),
        (lambda path: fill(path, by_words, [{**row, "id": "zzz"} for row in rows_of(path)]), "round.csv:2: no item 'zzz' in the key"),
        (lambda path: fill(path, by_words, note="é", encoding="latin-1", delimiter=";"), "save the sheet as CSV in UTF-8"),
        (lambda path: fill(path, lambda row: "x", delimiter=";"), "round.csv:2: unknown label 'x'"),
        (lambda path: fill(path, by_words, encoding="utf-16"), "save the file as UTF-8"),
        (lambda path: path.write_text("id,answer\nx,y\n"), "no column 'label'"),
        (lambda path: path.write_text(f"id,label\n{rows_of(path)[0]['id']},harmful\n{rows_of(path)[0]['id']},harmless\n"), "another label further up"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_its_place(sheet, spoil, message):
    spoil(sheet[0])
    with pytest.raises(UserError, match=message) as error:
        read_sheet(sheet[0], read_key(sheet[-1]), "ann")
    assert "\n" not in str(error.value)


def test_a_key_is_a_key(tmp_path, sheet):
    with pytest.raises(UserError, match="written beside the sheet"):
        read_key(tmp_path / "none.key.json")
    with pytest.raises(UserError, match="not the key"):
        read_key(sheet[0])


def test_people_agree_and_judge_the_judge(made, tmp_path):
    """Two people label what a judge has judged; the judge is calibrated by them without being asked again."""
    files = make_sheet(made.run, tmp_path / "s", ASKED, n=40, n_raters=2, panel=made.panel)
    key = read_key(files[-1])
    strange = set(list(key.items)[:6])
    ann = read_sheet(fill(files[0], by_words), key, "ann")
    bob = read_sheet(fill(files[2], lambda row: "harmful" if row["id"] in strange else by_words(row)), key, "bob")
    votes = votes_of([*ann.verdicts, *bob.verdicts], {one.judge.key: one.judge.name for one in (ann, bob)})
    found = agreement(votes)
    assert found.raters == ("human:ann", "human:bob")
    assert found.n_items == 40
    assert 0 < found.pairs[0].kappa.value < 1
    labels = labels_of_people(made.run, [ann, bob])
    assert labels.positive == "harmful"
    n_split = sum(
        a.label != b.label for a in ann.verdicts for b in bob.verdicts if a.completion_key == b.completion_key
    )
    assert len(labels.rows) == 40 - n_split
    unwilling = rule_judge(decide=lambda text: pytest.fail("asked again"))
    calibration = calibrate([unwilling], labels, tmp_path / "c", known=read(made.run.verdicts_file, Verdict).records)
    assert calibration.measures["accuracy"].value == 1.0
    assert {one.column for one in calibration.slices} >= {"subject", "response length"}


def test_a_filled_sheet_is_a_labels_file(made, sheet):
    fill(sheet[0], by_words)
    labels = read_labels(sheet[0])
    assert len(labels.rows) == 20
    assert all(row.item.sample.messages[0].content.startswith("=How") for row in labels.rows)


def test_answers_to_one_prompt_are_one_cluster_where_no_other_is_named(tmp_path):
    made = make_run(tmp_path / "run", n=10, clusters=None)
    files = make_sheet(made.run, tmp_path / "s", ASKED, n=20, n_raters=2)
    key = read_key(files[-1])
    people = [read_sheet(fill(files[i], by_words), key, name) for i, name in ((0, "ann"), (2, "bob"))]
    assert calibrate([made.judge], labels_of_people(made.run, people), tmp_path / "c").n_clusters == 10
    votes = votes_of((v for one in people for v in one.verdicts), {one.judge.key: one.judge.name for one in people})
    clusters = clusters_of(made.run, votes)
    assert (len(clusters), len(set(clusters.values()))) == (20, 10)
    assert agreement(votes, clusters).pairs[0].equal.method.startswith("cluster")


def test_a_sheet_without_a_label_is_told_as_such(made, sheet):
    blank = read_sheet(sheet[0], read_key(sheet[-1]), "ann")
    with pytest.raises(UserError, match="no label was given: every row of human:ann is blank"):
        labels_of_people(made.run, [blank])
    assert agreement(votes_of([], {})).n_items == 0
