"""Record files survive whatever a dying process leaves, and a run's folder is never another run's."""

import json
import os
import subprocess
import sys
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import UserError
from harness.records import Completion, Sample
from harness.store import Run, append, differences, latest, read, share_lock, wait_for_workers, write_atomic


def completion(name, text="answer", outcome="ok"):
    return Completion(sample_key=str(name), model_key="m", outcome=outcome, text=text if outcome == "ok" else "")


def sample(text):
    return Sample(task="t", task_version="1", messages=({"role": "user", "content": text},))


# Files


def test_what_is_appended_is_read_in_order(tmp_path):
    file = tmp_path / "deep" / "records.jsonl"
    assert read(file, Completion) == ([], 0, 0)
    written = [completion(i, f"text {i}\nü\u2028\x85🙂") for i in range(5)]
    append(file, written[:3])
    append(file, [])
    append(file, written[3:])
    found = read(file, Completion)
    assert (found.records, found.n_torn, found.offset) == (written, 0, file.stat().st_size)


def test_a_lone_surrogate_in_a_text_is_read_again(tmp_path):
    written = completion(1, "\ud800 and \udfff")
    append(tmp_path / "f", [written, completion(2)])
    found = read(tmp_path / "f", Completion)
    assert (found.records, found.n_torn) == ([written, completion(2)], 0)
    assert found.records[0].key == written.key


def test_reading_goes_on_where_it_ended(tmp_path):
    append(tmp_path / "f", [completion(1)])
    first = read(tmp_path / "f", Completion)
    append(tmp_path / "f", [completion(2)])
    assert read(tmp_path / "f", Completion, first.offset).records == [completion(2)]


def test_a_torn_last_line_is_counted_and_left_for_the_next_read(tmp_path):
    file = tmp_path / "f"
    append(file, [completion(1), completion(2)])
    whole = file.stat().st_size
    with file.open("ab") as raw:
        raw.write(completion(3).to_line().encode()[:-7])
    found = read(file, Completion)
    assert (found.records, found.n_torn, found.offset) == ([completion(1), completion(2)], 1, whole)
    append(file, [completion(3)])
    assert read(file, Completion).records == [completion(1), completion(2), completion(3)]
    assert read(file, Completion, found.offset).records == [completion(3)]
    assert read(file, Completion).n_torn == 1


@pytest.mark.parametrize(
    "torn", [b'{"sample_key": "x', b"\x00\x00\x00", b"\xff\xfe", b"[]", b"1", b"NaN", b"null", b"{}"]
)
def test_a_torn_line_in_the_middle_costs_that_line_alone(tmp_path, torn):
    file = tmp_path / "f"
    append(file, [completion(1)])
    with file.open("ab") as raw:
        raw.write(torn + b"\n")
    append(file, [completion(2)])
    found = read(file, Completion)
    assert (found.records, found.n_torn) == ([completion(1), completion(2)], 1)


def test_a_record_of_another_kind_or_version_is_not_read_as_one(tmp_path):
    (tmp_path / "f").write_text(completion(1).to_line().replace('"schema_version": 1', '"schema_version": 2'))
    append(tmp_path / "f", [sample("x")])
    assert read(tmp_path / "f", Completion)[:2] == ([], 2)


@settings(max_examples=60)
@given(texts=st.lists(st.text(max_size=12), min_size=1, max_size=5), where=st.floats(0, 1))
def test_a_cut_anywhere_loses_only_what_was_cut_and_writing_it_again_mends_all(tmp_path_factory, texts, where):
    file = tmp_path_factory.mktemp("cut") / "f"
    written = [completion(i, text) for i, text in enumerate(texts)]
    append(file, written)
    data = file.read_bytes()
    cut = round(where * len(data))
    file.write_bytes(data[:cut])
    ends = [sum(len(record.to_line().encode()) for record in written[: i + 1]) for i in range(len(written))]
    kept = [record for record, end in zip(written, ends, strict=True) if end <= cut]
    assert read(file, Completion).records == kept
    owed = [record for record in written if record.key not in latest(read(file, Completion).records)]
    append(file, owed)
    assert latest(read(file, Completion).records) == {record.key: record for record in written}
    assert file.read_bytes().endswith(b"\n")


def test_the_latest_record_wins_but_a_failure_never_replaces_a_final_one():
    first, second, failed = completion(1, "a"), completion(1, "b"), completion(1, outcome="error")
    assert latest([first, second]) == {first.key: second}
    assert latest([first, failed]) == {first.key: first}
    assert latest([failed, first, failed, second, failed]) == {first.key: second}
    again = failed.model_copy(update={"detail": "again"})
    assert latest([failed, again])[failed.key].detail == "again"


def test_replacing_a_file_is_whole_or_not_at_all(tmp_path):
    file = tmp_path / "new" / "f.json"
    write_atomic(file, "one")
    with pytest.raises(TypeError):
        write_atomic(file, 1)
    assert file.read_text() == "one"
    write_atomic(file, "two ü")
    assert file.read_text() == "two ü"
    write_atomic(file, b"\xff three")
    assert file.read_bytes() == b"\xff three"
    assert [path.name for path in file.parent.iterdir()] == ["f.json"]


APPENDING = """
import sys
from pathlib import Path
from harness.records import Completion
from harness.store import append
for i in range(60):
    text = sys.argv[2] * 5000
    append(Path(sys.argv[1]), [Completion(sample_key=f"{sys.argv[2]}{i}", model_key="m", outcome="ok", text=text)])
"""


def test_several_processes_append_whole_lines(tmp_path):
    command = [sys.executable, "-c", APPENDING, str(tmp_path / "f")]
    processes = [subprocess.Popen([*command, name]) for name in "abc"]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    found = read(tmp_path / "f", Completion)
    assert (len(latest(found.records)), len(found.records), found.n_torn) == (180, 180, 0)


# The run's folder

MANIFEST = {"config": {"seeds": [0, 1], "name": "x"}, "environment": {"python": "3"}}


def test_the_same_run_is_confirmed_and_another_is_refused_with_its_differences(tmp_path):
    run = Run(tmp_path / "run")
    run.seal(MANIFEST, [sample("a"), sample("b")])
    before = run.manifest_file.read_bytes(), run.samples_file.read_bytes()
    run.seal({**MANIFEST, "environment": {"python": "4"}}, [])
    with pytest.raises(UserError, match=r'config\.name: "x" → "y"; config\.seeds\[1\]: 1 → 2') as refused:
        run.seal({**MANIFEST, "config": {"seeds": [0, 2], "name": "y"}}, [])
    assert "--out" in str(refused.value)
    assert "\n" not in str(refused.value)
    assert before == (run.manifest_file.read_bytes(), run.samples_file.read_bytes())
    assert read(run.samples_file, Sample).records == [sample("a"), sample("b")]


def test_differences_name_the_fields():
    old, new = {"a": {"b": [1, 2]}, "c": 1, "long": "x" * 90}, {"a": {"b": [1, 3]}, "d": None, "long": "y"}
    found = list(differences(old, new))
    assert found[0] == "a.b[1]: 2 → 3"
    assert found[1] == "c: 1 → null"
    assert found[2].startswith('long: "xxx')
    assert len(found[2]) < 80
    assert list(differences([1], [1, 2], "n")) == ["n: [1] → [1, 2]"]


def test_a_folder_that_holds_something_else_is_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    for act in (lambda: Run(tmp_path).seal(MANIFEST, []), Run(tmp_path).lock().__enter__):
        with pytest.raises(UserError, match="not empty and holds no run"):
            act()
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("precious")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UserError, match="--out"), Run(path).lock():
            pass
    assert (tmp_path / "file").read_text() == "precious"


def test_an_empty_folder_and_one_left_while_sealing_are_taken(tmp_path):
    Run(tmp_path / "new").seal(MANIFEST, [sample("a")])
    for left in (".lock", "samples.jsonl", ".samples.jsonl.123.tmp", ".manifest.json.123.tmp"):
        folder = tmp_path / f"left{left}"
        folder.mkdir()
        (folder / left).write_text("torn")
        Run(folder).seal(MANIFEST, [sample("a")])
        assert read(Run(folder).samples_file, Sample).records == [sample("a")]


def test_what_is_no_run_and_what_is_a_broken_one(tmp_path):
    with pytest.raises(UserError, match="not a run"):
        Run.open(tmp_path)
    for text, told in (("{\n broken", r"manifest\.json:2: not valid JSON"), ("[]", "no manifest")):
        (tmp_path / "manifest.json").write_text(text)
        with pytest.raises(UserError, match=told):
            Run.open(tmp_path).manifest()
    (tmp_path / "manifest.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="not valid JSON"):
        Run.open(tmp_path).manifest()


# Locks

HOLDING = """
import sys, time
from pathlib import Path
from harness.store import Run, share_lock
with Run(Path(sys.argv[1])).lock():
    hold = share_lock(Path(sys.argv[1]))
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    Run(tmp_path).seal(MANIFEST, [])
    process = subprocess.Popen([sys.executable, "-c", HOLDING, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_one_process_holds_a_run_until_it_dies(tmp_path, holder):
    began = time.monotonic()
    with pytest.raises(UserError, match="another process"), Run(tmp_path).lock(wait_seconds=0.3):
        pass
    with pytest.raises(UserError, match="workers of an earlier process"):
        wait_for_workers(tmp_path, wait_seconds=0.3)
    assert time.monotonic() - began < 5
    os.kill(holder.pid, 9)
    with Run(tmp_path).lock(wait_seconds=10):
        wait_for_workers(tmp_path, wait_seconds=10)


def test_workers_share_and_the_next_process_waits_for_all_of_them(tmp_path):
    holds = [share_lock(tmp_path), share_lock(tmp_path)]
    holds.pop().close()
    with pytest.raises(UserError):
        wait_for_workers(tmp_path, wait_seconds=0.2)
    holds.pop().close()
    wait_for_workers(tmp_path, wait_seconds=0.2)


def test_the_manifest_is_json_that_people_can_read(tmp_path):
    Run(tmp_path / "r").seal(MANIFEST, [])
    text = (tmp_path / "r" / "manifest.json").read_text()
    assert json.loads(text) == MANIFEST
    assert len(text.splitlines()) > 5
