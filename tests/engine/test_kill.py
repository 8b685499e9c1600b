"""Killed at any moment, a run takes itself up again and ends with the very scores of one that was left in peace.

Three kills of the main process and one of a worker by default; HARNESS_KILLS=10 asks for ten of the main process.
"""

import json
import os
import random
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

from command_line import COMMAND, ENVIRONMENT, contents, harness, records

from harness.records import Completion
from harness.store import latest, read

N_KILLS = int(os.environ.get("HARNESS_KILLS", "3"))
PATIENCE = 240


def descendants(pid):
    """Every process below one, by id, but the tracker of the standard library's own resources."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    found = [child for child, parent in parents.items() if parent == pid]
    return found + [below for child in found for below in descendants(child)]


def workers(pid):
    return [child for child in descendants(pid) if b"resource_tracker" not in command_line(child)]


def command_line(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def n_answered(path):
    return sum(
        file.read_bytes().count(b"\n") for file in (path / "completions.jsonl", path / "train" / "steps.jsonl") if file.exists()
    )


def start(arguments, path):
    return subprocess.Popen(
        [*COMMAND, "run", *map(str, arguments), "--out", str(path)],
        env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def wait_until(process, reached):
    """Whether it was reached before the process ended."""
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and not reached():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return process.poll() is None


def kill_main(process):
    below = workers(process.pid)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    deadline = time.monotonic() + 5
    while any(map(alive, below)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert [pid for pid in below if alive(pid)] == []
    return len(below)


def kill_worker(process):
    os.kill(workers(process.pid)[0], signal.SIGKILL)
    _, errors = process.communicate(timeout=PATIENCE)
    last = errors.strip().splitlines()[-1]
    assert (process.returncode, last.startswith("harness: a worker process was killed")) == (1, True), errors
    assert "Traceback" not in errors


def test_killed_and_taken_up_again_it_ends_with_the_same_scores(small_run, tmp_path):
    path, rng = tmp_path / "run", random.Random(20231010)
    total = n_answered(small_run.path)
    n_kills, n_killed_workers = 0, 0
    targets = sorted(rng.randrange(total) for _ in range(N_KILLS))
    for number, target in enumerate([*targets, total * 2 // 3]):
        process = start(small_run.arguments, path)
        pause = rng.uniform(0, 1.5)
        running = wait_until(process, lambda target=target: n_answered(path) >= target and (path / "manifest.json").exists())
        time.sleep(pause)
        if running and process.poll() is None and number < N_KILLS:
            n_killed_workers += kill_main(process)
            n_kills += 1
        elif running and process.poll() is None and workers(process.pid):
            kill_worker(process)
        else:
            assert process.wait() == 0
    assert n_kills >= 2
    assert n_killed_workers >= 1

    said = harness("run", *small_run.arguments, "--out", path)
    assert said.code == 0, said.err
    assert (path / "scores.json").read_bytes() == (small_run.path / "scores.json").read_bytes()
    assert_the_same_records(path, small_run.path)
    left = [name for name in contents(path) if ".tmp" in name or ".partial" in name]
    assert set(contents(path)) - set(left) == set(contents(small_run.path))


def assert_the_same_records(path, peaceful):
    found, expected = records(path), records(peaceful)
    for kind, same in zip(found, expected, strict=True):
        final = [record for record in kind if getattr(record, "final", True)]
        assert max(Counter(record.key for record in final).values()) == 1
        assert {r.key: r.to_line() for r in kind} == {r.key: r.to_line() for r in same}
    ends = latest(read(path / "completions.jsonl", Completion).records)
    assert len(ends) == len(expected.completions)
    for file in sorted(peaceful.rglob("train/*/*/*.json*")):
        other = path / file.relative_to(peaceful)
        if file.name == "ledger.json":
            assert untimed(other) == untimed(file)
        else:
            assert other.read_bytes() == file.read_bytes(), file
    for file in sorted(peaceful.rglob("*.safetensors")):
        assert (path / file.relative_to(peaceful)).read_bytes() == file.read_bytes(), file


def untimed(ledger):
    """A training's ledger without what differs from one run of it to the next: its time and its memory."""
    return {key: value for key, value in json.loads(ledger.read_text()).items() if key not in ("seconds", "peak_memory_bytes")}
