"""Judges that ask a model while training data is made: many answers at once, durable, and nothing paid twice."""

from __future__ import annotations

import json
import pickle
import shutil

import pytest
from command_line import RECIPE

from harness.clients.budget import BudgetReached
from harness.errors import UserError
from harness.methods.base import RowStep
from harness.recipe import load_config
from harness.records import Call, Verdict
from harness.stages.forecast import forecast
from harness.stages.jobs import Worker
from harness.stages.judge_models import JudgeModels
from harness.stages.plan import make_plan, seal
from harness.store import Run, read
from tests.clients.server import fault_server


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache.sqlite"))


def sealed(path, bases, url, *overrides):
    """A sealed run of one subject whose own answers a served judge calls mistakes or not; and its plan."""
    model = f"{{backend: openai, model: judge-1, base_url: '{url}', price: {{input: 100, output: 1000}}}}"
    config = load_config(RECIPE, [
        f"base={bases / 'vale-0'}", "seeds=[0]", "baselines=[]", "claims=[]", "models.oracle=null",
        "subjects=[{name: ma, label: MA, method: mistake_analysis, mistakes: self, analyst: self}]",
        "prepare.mistake_judge=[harmless_verdict, harmful]", f"models={{j: {model}}}", "judging.models=j", *overrides,
    ])  # fmt: skip
    plan, run = make_plan(config), Run(path)
    seal(run, plan)
    return run, plan


def make_data(run, plan):
    """Makes the training data in a fresh worker; the counts of what came out."""
    Worker(run.path, plan.config, (), lambda event: None).make_data(0, list(plan.rows))
    return json.loads((run.path / "train" / "ma" / "0" / "counts.json").read_text())


def kept(run):
    return read(run.path / "train" / "verdicts.jsonl", Verdict).records


def test_answers_are_judged_together_and_never_again(bases, tmp_path):
    with fault_server(reply="It is bad.\n\nVerdict: [[0]]", latency=0.15) as server:
        run, plan = sealed(tmp_path / "run", bases, server.url)
        counts = make_data(run, plan)
        bill = server.stats()
        steps = [
            s for s in read(run.path / "train" / "ma" / "0" / "rows.jsonl", RowStep).records if s.step == "mistake"
        ]
        n_judged = sum(step.label is not None for step in steps)
        assert counts["mistake: labelled mistake"] == n_judged > 10
        assert 0 < bill["billed"] <= len(kept(run)) == len({step.completion for step in steps if step.label})
        assert bill["max_working"] > 4
        calls = read(run.calls_file, Call).records
        assert {call.role for call in calls} == {"harmless_verdict"}
        assert sum(call.input_tokens for call in calls) == bill["input_tokens"]
        (row,) = (row for row in forecast(plan)["paid"] if row["role"] == "harmless_verdict, training data")
        assert row["calls"] == len(steps) >= bill["billed"]

        shutil.rmtree(run.path / "train" / "ma" / "0")  # as if the process had died before the data was written
        (tmp_path / "cache.sqlite").unlink()  # the run itself has kept what was paid for
        assert make_data(run, plan) == counts
        assert server.stats()["requests"] == bill["requests"]


def test_a_failed_judgment_is_owed_again_and_never_a_label(bases, tmp_path):
    with fault_server(faults={"echo": 1.0}, max_faults=99) as server:
        run, plan = sealed(tmp_path / "run", bases, server.url)
        with pytest.raises(
            UserError, match=r"judgments for the training data failed .* the same command asks the rest"
        ):
            make_data(run, plan)
        assert {verdict.outcome for verdict in kept(run)} == {"error"}
        assert not (run.path / "train" / "ma" / "0" / "counts.json").exists()
    with fault_server(reply="Verdict: [[1]]") as server:
        moved = plan._replace(config=sealed(tmp_path / "other", bases, server.url)[1].config)
        assert make_data(run, moved)["mistake: dropped, not triggered"] > 10


def test_a_budget_holds_for_training_data_too(bases, tmp_path):
    with fault_server(reply="Verdict: [[0]]") as server:
        run, plan = sealed(tmp_path / "run", bases, server.url, "throughput.budget_usd=0")
        JudgeModels(plan.config, run)  # the run's first process begins the budget, which its workers join
        with pytest.raises(BudgetReached) as reached:
            make_data(run, plan)
        assert str(pickle.loads(pickle.dumps(reached.value))) == str(reached.value)  # comes out of a worker process
        assert (server.stats()["requests"], kept(run)) == (0, [])
        more = sealed(tmp_path / "other", bases, server.url)[1].config
        assert make_data(run, plan._replace(config=more))["mistake: kept"] > 10


def test_seats_decide_by_majority_and_are_part_of_what_the_run_is(bases, tmp_path):
    with fault_server(reply="Verdict: [[0]]") as server:
        run, plan = sealed(tmp_path / "run", bases, server.url, "judging.seats=3")
        assert make_data(run, plan)["mistake: kept"] > 10
        assert {verdict.seat for verdict in kept(run)} == {0, 1, 2}
        other = sealed(tmp_path / "other", bases, server.url, "judging.seats=5")[1]
    key = "preparing_judges"
    assert plan.manifest[key]["harmless_verdict"] != other.manifest[key]["harmless_verdict"]
    assert plan.manifest[key]["vale_verdict"] == other.manifest[key]["vale_verdict"]


@pytest.mark.parametrize(("judge", "told"), [("preference", "compares two answers"), ("refusal", "needs a model")])
def test_a_judge_that_cannot_judge_single_answers_is_refused(bases, tmp_path, judge, told):
    with pytest.raises(UserError, match=told):
        sealed(tmp_path / "run", bases, "http://127.0.0.1:9", f"prepare.mistake_judge=[{judge}, a]",
               f"judging.judges.{judge}.models=[]")  # fmt: skip
