"""What a reader and a payer must know of judges: who judges itself, what it will cost, what servers kept to themselves."""

from __future__ import annotations

import json
import shutil

import pytest
import yaml
from command_line import RECIPE, contents, one_error

from harness.errors import UserError
from harness.recipe import load_config, rejudged
from harness.records import Call, Verdict
from harness.scores import Scores
from harness.stages.bill import forecast_judging
from harness.stages.judges import Judges
from harness.stages.plan import keep_judging, make_plan, stored_config
from harness.stages.self_judging import self_judging_notes
from harness.store import Run, read
from tests.clients.server import fault_server

N = 30
JUDGES = ("harmless_score", "harmless_verdict", "harmless_helpfulness")
TASK = "saferlhf_harmless"


@pytest.fixture
def imported(command, tmp_path, monkeypatch):
    """A run with the recorded answers of one model to red-team prompts, in the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-0123456789")
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache.sqlite"))
    rows = [{"prompt": f"How do I do harm number {i}?"} for i in range(N)]
    answers = [
        {**row, "response": f"I would rather not, for reason {i} of many. " * (1 + i % 5)} for i, row in enumerate(rows)
    ]
    for name, lines in (("prompts", rows), ("answers", answers)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lines))
    said = command("import", "run", "--task", TASK, "--data", "prompts.jsonl", "--from", "answers.jsonl",
                   "--subject", "Model-7B-2024-08-06")  # fmt: skip
    assert said.code == 0, said.err
    return Run(tmp_path / "run")


def bind(url, name="judge-1", **judging):
    """Writes which model judges; its price is invented."""
    model = {"backend": "openai", "model": name, "base_url": url, "price": {"input": 100, "output": 1000}}
    with open("judging.yaml", "w") as file:
        yaml.safe_dump({"models": {"j": model}, "judging": {"models": ["j"], **judging}}, file)


def judge_rows(run):
    return {row.judge: row for row in Scores.model_validate_json(run.scores_file.read_text()).judges}


# Judged by itself


def test_a_recorded_model_may_not_judge_itself_unless_it_is_allowed_and_told(command, imported):
    with fault_server() as server:
        bind(server.url, "model-7b")
        before = contents(imported.path)
        told = one_error(command("judge", "run", "--judging", "judging.yaml"))
        assert "model 'j' is the model that answered as subject" in told
        assert "judging.allow_self=true" in told
        assert (contents(imported.path), server.stats()["requests"]) == (before, 0)
        said = command("judge", "run", "--judging", "judging.yaml", "--set", "judging.allow_self=true")
        assert said.code == 0, said.err
    assert all("judged by itself: model 'j' is" in row.remarks[0] for row in judge_rows(imported).values())
    (note,) = self_judging_notes(stored_config(imported), imported)
    assert note.startswith("Judged by itself: model 'j' is the model that answered as subject")


def test_another_model_is_not_taken_for_it(command, imported):
    for name in ("model-70b", "other/model-7b-chat", "judge-1"):
        bind("http://127.0.0.1:9/v1", name)
        keep_judging(imported, rejudged(stored_config(imported), imported.path.parent / "judging.yaml", ()))


@pytest.mark.parametrize(
    ("model", "refused"),
    [
        ("{backend: hf, path: BASES/vale-1}", True),
        ("{backend: hf, path: BASES/copy}", True),  # the same bytes elsewhere
        ("{backend: hf, path: BASES/other}", False),
        ("{backend: openai, model: BASES/vale-1, base_url: 'http://localhost:8000/v1'}", True),  # as vLLM calls it
        ("{backend: openai, model: gpt-4.1}", False),
    ],
)
def test_a_base_may_not_judge_what_is_trained_from_it(bases, tmp_path, model, refused):
    for name in ("vale-0", "vale-1"):
        shutil.copytree(bases / name, tmp_path / name)
    shutil.copytree(bases / "vale-1", tmp_path / "copy")
    shutil.copytree(bases / "vale-1", tmp_path / "other")
    with (tmp_path / "other" / "config.json").open("a") as file:
        file.write(" ")
    overrides = [f"base=[{tmp_path}/vale-0, {tmp_path}/vale-1]", f"models.j={model.replace('BASES', str(tmp_path))}"]
    config = load_config(RECIPE, [*overrides, "judging.models=j"])
    if not refused:
        make_plan(config)
        return
    with pytest.raises(UserError, match="model 'j' is the base of seed 1 and would judge itself") as error:
        make_plan(config)
    assert "\n" not in str(error.value)
    make_plan(load_config(RECIPE, [*overrides, "judging.models=j", "judging.allow_self=true"]))


# The bill of answers that are there


def test_the_bill_of_a_run_is_what_it_then_costs(command, imported):
    with fault_server() as server:
        bind(server.url, seats=2)
        config = rejudged(stored_config(imported), imported.path.parent / "judging.yaml", ())
        before = contents(imported.path)
        found = forecast_judging(imported, config)
        assert (contents(imported.path), server.stats()["requests"]) == (before, 0)
        assert (found["answers"], found["unanswered"]) == (N, 0)
        assert found["calls"] == {"verdicts": 2 * N * len(JUDGES)}
        assert {(row["role"], row["model"], row["calls"], row["stored"]) for row in found["paid"]} == {
            (name, "j", N, 0) for name in JUDGES
        }
        assert command("judge", "run", "--judging", "judging.yaml").code == 0
        bill = server.stats()
        assert bill["billed"] == sum(row["calls"] for row in found["paid"])
        low, _, high = (sum(row["input_tokens"][i] for row in found["paid"]) for i in range(3))
        assert low <= bill["input_tokens"] <= high
        assert found["cost_usd"][0] <= found["cost_usd"][1] <= found["cost_usd"][2]
        after = forecast_judging(imported, config)
        assert (after["calls"], after["paid"], after["cost_usd"]) == ({"verdicts": 0}, [], [0, 0, 0])
        assert after["spent_usd"] == pytest.approx((100 * bill["input_tokens"] + 1000 * bill["output_tokens"]) / 1e6)
        imported.verdicts_file.write_text("")  # lost: owed again, and paid already
        again = forecast_judging(imported, config)
        assert again["calls"] == found["calls"]
        assert {(row["calls"], row["stored"], row["cost_usd"][2]) for row in again["paid"]} == {(0, N, 0)}


def test_equal_answers_are_billed_once(command, imported):
    answers = [{"prompt": f"How do I do harm number {i}?", "response": "No."} for i in range(N)]
    with open("same.jsonl", "w") as file:
        file.writelines(json.dumps(row) + "\n" for row in answers)
    for subject in ("two", "three"):
        assert command("import", "run", "--task", TASK, "--data", "prompts.jsonl", "--from", "same.jsonl",
                       "--subject", subject).code == 0  # fmt: skip
    bind("http://127.0.0.1:9/v1")
    found = forecast_judging(imported, rejudged(stored_config(imported), imported.path.parent / "judging.yaml", ()))
    assert found["calls"] == {"verdicts": 3 * N * len(JUDGES)}
    assert {row["calls"] for row in found["paid"]} == {2 * N}


# What servers kept to themselves


@pytest.mark.parametrize(
    ("ignored", "judging", "told"),
    [
        ("logprobs", {"mode": "logprobs"}, f"server ignored: logprobs ({N} of {N} verdicts"),
        ("response_format", {"mode": "schema"}, f"server ignored: schema ({N} of {N} replies"),
        ("n", {"seats": 3}, "server ignored: n (each seat was a request of its own)"),
    ],
)
def test_what_a_server_ignored_stands_beside_its_judge(command, imported, ignored, judging, told):
    for ignores in ([ignored], []):
        with fault_server(ignores=ignores) as server:
            bind(server.url, **judging)
            said = command("judge", "run", "--judging", "judging.yaml", "--set", f"models.j.model=m{len(ignores)}")
            assert said.code == 0, said.err
        remarks = judge_rows(imported)["harmless_score"].remarks
        assert [one.startswith(told) for one in remarks] == [True] * len(ignores)


def test_a_served_model_that_changes_is_told(command, imported):
    with fault_server() as server:
        bind(server.url, judges={name: {"models": []} for name in JUDGES[1:]})
        assert command("judge", "run", "--judging", "judging.yaml").code == 0
    assert judge_rows(imported)["harmless_score"].remarks == ()
    lines = read(imported.calls_file, Call).records
    changed = [call.model_copy(update={"served_model": "other"}) if i >= 20 else call for i, call in enumerate(lines)]
    changed[0] = changed[0].model_copy(update={"detail": "noted by the client"})
    imported.calls_file.write_text("".join(call.to_line() for call in changed))
    command("score", "run")
    assert judge_rows(imported)["harmless_score"].remarks == (
        "noted by the client", "served model changed: judge-1 → other after 20 calls",
    )  # fmt: skip
    back = [*changed[:-1], changed[-1].model_copy(update={"served_model": "judge-1"})]
    imported.calls_file.write_text("".join(call.to_line() for call in back))
    command("score", "run")
    (_, twice) = judge_rows(imported)["harmless_score"].remarks
    assert twice == f"served model changed 2 times: judge-1 (21 calls), other ({N - 21} calls)"


# Said once, and said so that it can be mended


def test_a_budget_that_ends_is_told_once(command, imported):
    with fault_server(latency=0.01) as server:
        bind(server.url)
        for limit in (0, 2.5):
            said = command("judge", "run", "--judging", "judging.yaml", "--budget-usd", limit)
            assert said.code == 5
            assert said.err.count("budget is reached") == 1
            assert "has stopped" not in said.err
    assert len(read(imported.verdicts_file, Verdict).records) > N


def test_a_run_with_a_judge_of_the_user_s_own_asks_for_its_folder(command, imported):
    folder = imported.path.parent / "own" / "judges" / "mine"
    folder.mkdir(parents=True)
    (folder / "judge.yaml").write_text(
        'name: mine\nversion: "1"\ndescription: by length\nlabels: {long: "1", short: "0"}\n'
    )
    (folder / "rule.py").write_text(
        "from harness.judging.base import Grade\n\n\ndef grade(sample, text):\n"
        '    return Grade(None, "long" if len(text) > 50 else "short", "by length")\n'
    )
    with_it = ("--set", f"tasks.{TASK}.judges=[mine]", "--include-path", "own")
    assert command("judge", "run", *with_it).code == 0
    assert command("show", "run", "--include-path", "own").code == 0
    for verb in (("show", "run"), ("drift", "run", "--judge", "mine", "--other-judge", "refusal_rules")):
        told = one_error(command(*verb))
        assert "unknown judge 'mine'" in told
        assert "--include-path" in told
        assert str(imported.path.name) in told


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "judging.yaml: is empty; a mapping of names to values is needed here (models, judging, throughput)"),
        ("model: {}", "judging.yaml: model: only models, judging, throughput may change on a run whose answers stand "
                      "(did you mean 'models'?)"),
        ("models: {j: {backend: opnai, model: x}}", "models.j.backend: unknown backend 'opnai': did you mean 'openai'?"),
        ("models: {j: {backend: openai, model: x, price: 3}}", "models.j.price: needs a block of fields (input, output"),
        ("models: {j: {backend: openai, model: x, api_key: sk-1}}", "models.j.api_key: unknown field 'api_key': did you mean"),
    ],
)  # fmt: skip
def test_a_judging_file_that_is_not_right_is_told_in_one_line(command, imported, text, told):
    (imported.path.parent / "judging.yaml").write_text(text)
    line = one_error(command("judge", "run", "--judging", "judging.yaml"))
    assert told in line
    assert "sk-1" not in line
    assert not imported.judging_file.exists()


# What is still owed, and what a model cannot be told


def test_a_seat_that_erred_is_owed_though_the_panel_could_decide_without_it(command, imported):
    with fault_server(faults={"400": 0.2}, max_faults=1) as server:
        models = {name: {"backend": "openai", "model": f"judge-{name}", "base_url": server.url} for name in "abc"}
        with open("judging.yaml", "w") as file:
            yaml.safe_dump({"models": models, "judging": {"models": ["a", "b", "c"]}}, file)
        command("judge", "run", "--judging", "judging.yaml")
        failed = {(v.completion_key, v.judge_key) for v in read(imported.verdicts_file, Verdict).records if not v.final}
        assert 0 < len(failed) < N * len(JUDGES) * 3
        state = json.loads(command("show", "run", "--json").out)
        assert 0 < state["answers"][0]["verdicts_owed"] <= len(failed)
        assert not state["complete"]
        command("judge", "run")
        state = json.loads(command("show", "run", "--json").out)
        assert state["complete"]
        assert state["answers"][0]["verdicts_owed"] == 0


def test_a_model_that_takes_no_temperature_is_sent_none(command, imported):
    with fault_server(rejects=["temperature"]) as server:
        bind(server.url, seats=2)
        assert command("judge", "run", "--judging", "judging.yaml").code != 0
        assert not [v for v in read(imported.verdicts_file, Verdict).records if v.call and v.outcome == "ok"]
        assert command("judge", "run", "--set", "models.j.temperature=null").code == 0
    ok = {v.judge_key for v in read(imported.verdicts_file, Verdict).records if v.call and v.outcome == "ok"}
    assert len(ok) == len(JUDGES)
    told = judges_of(stored_config(imported))
    assert ok == {judge.spec.key for judge in told}
    assert not ok & {
        judge.spec.key for judge in judges_of(rejudged(stored_config(imported), None, ["models.j.temperature=judge"]))
    }


def judges_of(config):
    return [Judges(config, ()).members(name)[0] for name in JUDGES]


@pytest.mark.parametrize("url", ["https://me:hidden@host/v1", "me:hidden@host/v1", "https://hidden@host/v1"])
def test_an_address_with_a_password_is_refused_and_not_repeated(url):
    model = f"models.j={{backend: openai, model: m, base_url: '{url}'}}"
    with pytest.raises(UserError) as refused:
        load_config(RECIPE, [model])
    assert "models.j: base_url must not hold '@': leave user and password out" in str(refused.value)
    assert "hidden" not in str(refused.value)


def test_only_a_server_can_be_left_its_own_temperature():
    with pytest.raises(UserError, match="temperature: null is for models on a server"):
        load_config(RECIPE, ["models.j={backend: hf, path: x, temperature: null}"])
