"""Judges that ask a model, from the command line to the tables, against a real server that counts what it bills."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
import yaml

from harness.clients.ledger import spent
from harness.errors import UserError
from harness.recipe import rejudged
from harness.records import Call, Sample, Verdict
from harness.scores import Scores
from harness.stages.judge import JudgeStage
from harness.stages.judge_models import JudgeModels
from harness.stages.judges import Judges
from harness.stages.plan import stored_config
from harness.store import Run, latest, read
from tests.clients.batch_server import BatchServer, Fate
from tests.clients.server import fault_server
from tests.engine.command_line import in_this_process

HARNESS = str(Path(sys.executable).with_name("harness"))
KEY = "sk-test-0123456789abcdef-secret"
N = 40
JUDGES = {"harmless_score": "score", "harmless_verdict": "label", "harmless_helpfulness": "score"}


def harness(*arguments: object, cwd: Path, check: int | None = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [HARNESS, *map(str, arguments)], cwd=cwd, env=environment(cwd), text=True,
        capture_output=True, check=False,
    )  # fmt: skip
    if check is not None:
        assert done.returncode == check, done.stderr[-2000:]
    return done


def here(*arguments: object, cwd: Path, check: int | None = 0) -> subprocess.CompletedProcess[str]:
    """The same command in this process, which has loaded everything already."""
    said = in_this_process(*arguments, cwd=cwd, env=environment(cwd))
    if check is not None:
        assert said.code == check, said.err[-2000:]
    return subprocess.CompletedProcess(arguments, said.code, said.out, said.err)


def environment(cwd: Path) -> dict[str, str]:
    return {**os.environ, "OPENAI_API_KEY": KEY, "HARNESS_CACHE": str(cwd / "cache.sqlite")}


def imported(cwd: Path, *subjects: str, n: int = N) -> Run:
    """A run of recorded answers to red-team prompts."""
    rows = [{"prompt": f"How do I do harm number {i}?"} for i in range(n)]
    (cwd / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for subject in subjects:
        answers = [{**row, "response": f"{subject} says: I would rather not, for reason {i % 7} of {i}."}
                   for i, row in enumerate(rows)]  # fmt: skip
        (cwd / f"{subject}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in answers))
        here("import", "run", "--task", "saferlhf_harmless", "--data", "prompts.jsonl", "--from", f"{subject}.jsonl",
             "--subject", subject, cwd=cwd)  # fmt: skip
    return Run(cwd / "run")


def bind(cwd: Path, url: str, **judging: object) -> Path:
    """The file that says which model judges; its price is invented."""
    model = {"backend": "openai", "model": "judge-1", "base_url": url, "price": {"input": 100, "output": 1000}}
    file = cwd / "judging.yaml"
    file.write_text(yaml.safe_dump({"models": {"j": model}, "judging": {"models": ["j"], **judging}}))
    return file


def verdicts(run: Run) -> list[Verdict]:
    """Those of judges that ask a model, the latest of each key."""
    return [v for v in latest(read(run.verdicts_file, Verdict).records).values() if v.call is not None]


def calls(run: Run) -> list[Call]:
    return list(read(run.calls_file, Call).records)


def estimates(run: Run) -> dict[tuple[str, str], object]:
    scores = Scores.model_validate_json(run.scores_file.read_text())
    return {(row.subject, row.metric): row.estimate for row in scores.estimates if row.seed is None}


def test_every_verdict_is_there_paid_once_and_never_again(tmp_path):
    run = imported(tmp_path, "one", "two")
    before = estimates(run)
    assert "harmless_score" not in {metric for _, metric in before}
    with fault_server(faults={"429": 0.03, "500": 0.03, "reset": 0.02, "malformed": 0.02}) as server:
        bind(tmp_path, server.url)
        here("judge", "run", "--judging", "judging.yaml", cwd=tmp_path)
        bill = server.stats()
        assert len(verdicts(run)) == 2 * N * len(JUDGES)
        assert {v.outcome for v in verdicts(run)} <= {"ok", "unparsed"}
        assert bill["billed"] - bill["forced"] == len(bill["bodies"]) == len({c.key for c in calls(run)})
        assert sum(c.input_tokens or 0 for c in calls(run)) <= bill["input_tokens"]
        here("judge", "run", cwd=tmp_path)
        (tmp_path / "run" / "verdicts.jsonl").write_text("")  # lost: the cache gives them again
        here("judge", "run", cwd=tmp_path)
        assert server.stats()["requests"] == bill["requests"]
    assert len(verdicts(run)) == 2 * N * len(JUDGES)
    found = estimates(run)["one", "harmless_score"]
    assert (found.n_scored, found.n_total) == (N, N)
    assert 1 <= found.low <= found.value <= found.high <= 10


def test_the_ledger_is_what_the_server_billed(tmp_path):
    run = imported(tmp_path, "one")
    with fault_server() as server:
        bind(tmp_path, server.url)
        here("judge", "run", "--judging", "judging.yaml", cwd=tmp_path)
        bill = server.stats()
    sums = spent(calls(run))
    assert set(sums) == set(JUDGES)
    assert sum(s.input_tokens for s in sums.values()) == bill["input_tokens"]
    assert sum(s.output_tokens for s in sums.values()) == bill["output_tokens"]
    cost = (100 * bill["input_tokens"] + 1000 * bill["output_tokens"]) / 1e6
    assert sum(s.cost_usd for s in sums.values()) == pytest.approx(cost)


def test_the_key_reaches_no_file_and_no_message(tmp_path):
    imported(tmp_path, "one", n=5)
    said = []
    for settings, code in (({}, 0), ({"key": "another"}, 1), ({"faults": {"echo": 1.0}}, 5)):
        with fault_server(**settings) as server:
            bind(tmp_path, server.url)
            done = harness("judge", "run", "--judging", "judging.yaml", "--set", f"models.j.model=m{code}",
                           cwd=tmp_path, check=code)  # fmt: skip
            said.append(done.stdout + done.stderr)
    assert KEY not in "".join(said)
    assert "OPENAI_API_KEY" in said[1]
    for file in tmp_path.rglob("*"):
        assert not file.is_file() or KEY.encode() not in file.read_bytes(), file


def test_a_budget_stops_before_it_is_passed_and_the_run_goes_on_later(tmp_path):
    run = imported(tmp_path, "one")
    with fault_server(latency=0.01) as server:
        bind(tmp_path, server.url)
        limit = 2.5
        stopped = here("judge", "run", "--judging", "judging.yaml", "--budget-usd", limit, cwd=tmp_path, check=5)
        assert "budget" in stopped.stderr
        bill = server.stats()
        cost = (100 * bill["input_tokens"] + 1000 * bill["output_tokens"]) / 1e6
        assert 0 < cost <= limit
        assert 0 < len(verdicts(run)) < N * len(JUDGES)
        here("judge", "run", "--judging", "judging.yaml", "--budget-usd", 1000, cwd=tmp_path)
        assert server.stats()["billed"] == N * len(JUDGES)
    assert len(verdicts(run)) == N * len(JUDGES)


def panel(cwd: Path, url: str) -> list[str]:
    """Two models of one server judge; the command that has them do so."""
    models = {name: {"backend": "openai", "model": f"judge-{name}", "base_url": url,
                     "price": {"input": 100, "output": 1000}} for name in "ab"}  # fmt: skip
    (cwd / "judging.yaml").write_text(yaml.safe_dump({"models": models, "judging": {"models": ["a", "b"]}}))
    return [HARNESS, "judge", "run", "--judging", "judging.yaml"]


def started(command: list[str], cwd: Path) -> subprocess.Popen[str]:
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a shell's background jobs inherit deaf ears
    return subprocess.Popen(command, cwd=cwd, env=environment(cwd), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                            text=True, preexec_fn=heard)  # fmt: skip


def until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds
        time.sleep(0.02)


def test_killed_at_any_moment_nothing_finished_is_lost_or_paid_again(tmp_path):
    run = imported(tmp_path, "one")
    n, n_kills, draw = 2 * N * len(JUDGES), 3, random.Random(7)
    with fault_server(latency=0.2, capacity=16) as server:
        command = panel(tmp_path, server.url)
        kept: set[str] = set()
        for _ in range(n_kills):
            process, seen = started(command, tmp_path), len(verdicts(run))
            until(lambda p=process, seen=seen: len(verdicts(run)) >= seen + 20 or p.poll() is not None)
            time.sleep(draw.uniform(0, 0.3))
            process.kill()
            process.communicate()
            assert kept <= {v.key for v in verdicts(run)}
            kept = {v.key for v in verdicts(run)}
            assert len(kept) < n  # it was killed at work
        harness("judge", "run", cwd=tmp_path)
        bill = server.stats()
    assert kept <= {v.key for v in verdicts(run)}
    assert len(verdicts(run)) == len(bill["bodies"]) == n
    # a kill costs what was on its way: no more than the server ever worked on at once
    assert bill["billed"] - n <= n_kills * bill["max_working"] <= n_kills * 16
    assert sum(body["billed"] > 1 for body in bill["bodies"].values()) <= n_kills * bill["max_working"]
    paid = Counter(call.key for call in calls(run) if call.outcome not in ("stored", "error"))
    assert set(paid) == cached(tmp_path)
    assert len(paid) == n


def cached(cwd: Path) -> set[str]:
    with closing(sqlite3.connect(cwd / "cache.sqlite")) as db:
        return {key for (key,) in db.execute("select key from replies")}


def test_ctrl_c_takes_what_is_under_way_and_asks_nothing_more(tmp_path):
    run = imported(tmp_path, "one", n=20)
    with fault_server(latency=2.0) as server:
        process = started(panel(tmp_path, server.url), tmp_path)
        until(lambda: server.stats()["max_working"] >= 40)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
        bill = server.stats()
        (told,) = re.findall(r"waiting up to 10 s for (\d+) judgments", said)
        assert 40 <= int(told) <= len(verdicts(run))  # what is being sent at that moment is told only as it leaves
        assert process.returncode == 130
        assert len(verdicts(run)) == bill["billed"] == bill["requests"] >= 40
        harness("judge", "run", cwd=tmp_path)
        assert server.stats()["billed"] == len(verdicts(run)) == 2 * 20 * len(JUDGES)


def test_a_key_that_is_not_set_is_told_before_the_run_is_judged_otherwise(tmp_path):
    run = imported(tmp_path, "one", n=2)
    model = "models.j={backend: openai, model: judge-1, api_key_env: NO_SUCH_KEY}"
    said = here("judge", "run", "--set", model, "--set", "judging.models=j", cwd=tmp_path, check=1)
    assert "set NO_SUCH_KEY in the environment" in said.stderr
    assert not run.judging_file.exists()


def test_a_second_ctrl_c_ends_at_once(tmp_path):
    imported(tmp_path, "one", n=5)
    with fault_server(latency=60.0) as server:
        process = started(panel(tmp_path, server.url), tmp_path)
        until(lambda: server.stats()["max_working"] == 2 * 5 * len(JUDGES))
        process.send_signal(signal.SIGINT)
        assert any("Ctrl-C: no longer" in line for line in process.stderr)
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
        assert time.monotonic() - began < 5
        assert process.returncode == 130


def test_a_start_that_fails_leaves_its_batches_to_the_provider(tmp_path, monkeypatch):
    run = imported(tmp_path, "one", n=3)
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache.sqlite"))
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with BatchServer([Fate(looks=10**6)] * 9) as server:
        config = rejudged(stored_config(run), bind(tmp_path, server.url), ["throughput.batch_api=true"])
        for _ in range(2):
            judge = Judges(config, (), JudgeModels(config, run)).members("harmless_score")
            judge[0].transport.transport.linger_seconds = 0.1
            stage = JudgeStage(run, read(run.samples_file, Sample).records, {"saferlhf_harmless": judge})
            with pytest.raises(UserError, match="a training job failed"), stage:  # noqa: PT012
                stage.all_answered.set()
                until(lambda: bool(server.batches))
                began = time.monotonic()
                raise UserError("a training job failed")
            assert time.monotonic() - began < 5  # the batch would have taken a day
            assert stage.threads[0].finished.wait(5)
        assert len(server.batches) == 1
    assert verdicts(run) == []


def test_seats_and_panels_agree_or_abstain(tmp_path):
    run = imported(tmp_path, "one")
    with fault_server() as first, fault_server(ignores=["n"]) as second:
        models = {name: {"backend": "openai", "model": f"judge-{name}", "base_url": s.url}
                  for name, s in (("a", first), ("b", second))}  # fmt: skip
        judging = {"models": ["a", "b"], "seats": 3}
        (tmp_path / "judging.yaml").write_text(yaml.safe_dump({"models": models, "judging": judging}))
        here("judge", "run", "--judging", "judging.yaml", cwd=tmp_path)
        assert first.stats()["billed"] == N * len(JUDGES)  # three seats in one request
        assert second.stats()["billed"] == 3 * N * len(JUDGES)  # n was ignored: the other seats were asked again
    assert len(verdicts(run)) == 2 * 3 * N * len(JUDGES)
    scores = Scores.model_validate_json(run.scores_file.read_text())
    rows = {row.judge: row for row in scores.judges}
    assert set(rows) == set(JUDGES)
    assert rows["harmless_score"].alpha is not None
    assert rows["harmless_verdict"].kappa is not None
    assert rows["harmless_score"].models == ("a", "b")
    assert "Krippendorff" in (run.report_dir / "index.html").read_text()


def test_subjects_are_compared_in_both_orders(tmp_path):
    run = imported(tmp_path, "one", "two")
    with fault_server() as server:
        bind(tmp_path, server.url, against="one", judges={name: {"models": []} for name in JUDGES})
        here("judge", "run", "--judging", "judging.yaml", "--set", "tasks.saferlhf_harmless.judges=[preference]",
             cwd=tmp_path)  # fmt: skip
        assert server.stats()["billed"] == 2 * N
    assert {v.seat for v in verdicts(run)} == {0, 1}
    scores = Scores.model_validate_json(run.scores_file.read_text())
    (row,) = scores.judges
    assert row.flip_rate is not None or set(row.outcomes) == {"unparsed"}
    raw, controlled = (
        {row.subject: row.estimate for row in scores.estimates if row.metric == f"saferlhf_harmless_preference{twin}"}
        for twin in ("", "_length_controlled")
    )
    assert set(controlled) == {"two"}, "the other side is compared with nothing"
    assert (controlled["two"].n_scored, controlled["two"].n_total) == (raw["two"].n_scored, N)


def test_a_server_that_is_down_is_told_and_nothing_becomes_a_score(tmp_path):
    run = imported(tmp_path, "one", n=3)
    bind(tmp_path, "http://127.0.0.1:9/v1")
    done = here("judge", "run", "--judging", "judging.yaml", cwd=tmp_path, check=None)
    assert done.returncode != 0
    assert "127.0.0.1:9" in done.stderr
    assert all(v.outcome == "error" for v in verdicts(run))
