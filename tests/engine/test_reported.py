"""Claims, layouts and notes may change on a finished run; the records stay, the scores are made again."""

import json
import shutil

from tests.engine.conftest import harness


def test_a_new_note_on_a_finished_run_makes_the_scores_again_and_asks_no_model(small_run, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(small_run.path, copy)
    before = (copy / "completions.jsonl").read_bytes()
    noted = ("run", *small_run.arguments, "--out", copy, "--set", "notes=[Nothing but a note.]")
    said = harness(*noted)
    assert said.code == 0, said.err
    assert (copy / "completions.jsonl").read_bytes() == before
    assert "Nothing but a note." in json.loads((copy / "scores.json").read_text())["notes"]
    assert "nothing owed" not in said.err
    assert "nothing owed" in harness(*noted).err
