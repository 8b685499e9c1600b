"""The fine-tuning backend against a real service in a process of its own: its way, its failures, and crashes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from finetuning_server import Service

from harness.clients.base import Server
from harness.clients.live import LiveTransport
from harness.errors import UserError
from harness.models.base import Request
from harness.models.remote import RemoteModel
from harness.records import Decoding, Message, Sample, TrainingRecord
from harness.stages.training import Training
from harness.train_verbs import _line
from harness.trainers import TrainerSettings, TrainResult
from harness.trainers.ledger import Meter, ledger_entry
from harness.trainers.openai_finetuning import OpenAITrainer, _curves
from harness.trainers.served import read_served

ROOT = Path(__file__).parents[2]
KEY = "sk-test-0123456789abcdef"
RECORDS = [
    TrainingRecord(prompt=f"Is {n} safe?", completion=f"Yes, {n} is.", kind="response", source=str(n)) for n in range(5)
]
PAIRS = [
    TrainingRecord(prompt="Is it safe?", completion=text, kind=kind, source="1")
    for text, kind in ((" Yes.", "chosen"), (" No.", "rejected"))
]


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


def settings(service: Service, **more: object) -> TrainerSettings:
    own = {"model": "gpt-4.1-mini", "base_url": service.url, "suffix": "ma", "price": 3.0, **more.pop("openai", {})}
    return TrainerSettings.model_validate({"name": "openai", "epochs": 2, "batch_size": 4, "openai": own, **more})


def train(service: Service, out: Path, how: TrainerSettings | None = None, **options: object) -> TrainResult:
    trainer = OpenAITrainer(poll_seconds=0.01, patience_seconds=options.pop("patience", 5.0))
    asked = {"objective": "sft", "chat": False, "device": "cpu", "progress": lambda: None, **options}
    records, seed = asked.pop("records", RECORDS), asked.pop("seed", 3)
    return trainer.train(Path("no-folder-is-read"), records, how or settings(service), seed, out, **asked)


def refused(service: Service, out: Path, how: TrainerSettings | None = None, **options: object) -> str:
    with pytest.raises(UserError) as error:
        train(service, out, how, **options)
    assert "\n" not in str(error.value)
    assert KEY not in str(error.value)
    assert not out.exists()
    return str(error.value)


def written(folder: Path) -> bytes:
    return b"".join(p.read_bytes() for p in folder.rglob("*") if p.is_file() and not p.name.startswith("service"))


def test_upload_job_and_model(tmp_path: Path) -> None:
    told: list[int] = []
    with Service(tmp_path, key=KEY) as service:
        result = train(service, tmp_path / "checkpoint", progress=lambda: told.append(1))
        state = service.state
    rows = [json.loads(line) for line in state["files"]["file-0"].splitlines()]
    assert rows[0] == {
        "messages": [{"role": "user", "content": "Is 0 safe?"}, {"role": "assistant", "content": "Yes, 0 is."}]
    }
    assert len(rows) == 5
    hyper = {"n_epochs": 2, "batch_size": 4}
    asked = {"model": "gpt-4.1-mini", "training_file": "file-0", "seed": 3, "suffix": "ma"}
    assert state["bodies"] == [{**asked, "method": {"type": "supervised", "supervised": {"hyperparameters": hyper}}}]
    assert result.metrics == {
        "n_records": 5, "n_steps": 3, "loss_first": 2.5, "loss_last": 0.75, "n_tokens": 100,
        "cost_usd": pytest.approx(100 * 3.0 / 1e6),
    }  # fmt: skip
    served = read_served(tmp_path / "checkpoint")
    assert (served.model, served.job, served.base) == ("ft:gpt-4.1-mini:org:ma:0", "ftjob-0", "gpt-4.1-mini")
    assert json.loads((tmp_path / "checkpoint" / "training_log.json").read_text())["accuracy"] == [0.25, 0.5, 0.875]
    assert len(told) == 4  # 2 epochs of 5 records, 4 a step
    assert KEY.encode() not in written(tmp_path)


def test_the_trained_model_answers_by_its_name(tmp_path: Path) -> None:
    with Service(tmp_path) as service:
        train(service, tmp_path / "checkpoint")
        served = read_served(tmp_path / "checkpoint")
        transport = LiveTransport(Server(served.model, served.base_url, served.api_key_env), 4)
        sample = Sample(task="t", task_version="1", messages=(Message(role="user", content="Is it safe?"),))
        answer = RemoteModel(transport, "subject").answer([Request(sample, "Is it safe?")], Decoding(max_new_tokens=9))[
            0
        ]
        assert answer.text == "ft:gpt-4.1-mini:org:ma:0 says: harmless ."
        assert service.state["chats"][0]["messages"] == [{"role": "user", "content": "Is it safe?"}]


def test_preferences_are_trained_by_dpo(tmp_path: Path) -> None:
    with Service(tmp_path) as service:
        own = {"learning_rate_multiplier": 0.5, "suffix": None, "price": None}
        result = train(service, tmp_path / "c", settings(service, openai=own, beta=0.2), objective="dpo", records=PAIRS)
        body, text = service.state["bodies"][0], service.state["files"]["file-0"]
    assert "suffix" not in body
    hyper = {"n_epochs": 2, "batch_size": 4, "learning_rate_multiplier": 0.5, "beta": 0.2}
    assert body["method"] == {"type": "dpo", "dpo": {"hyperparameters": hyper}}
    assert json.loads(text)["non_preferred_output"] == [{"role": "assistant", "content": " No."}]
    assert "cost_usd" not in result.metrics


def test_what_the_service_cannot_train_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    with Service(tmp_path) as service:
        out = tmp_path / "c"
        assert "not for kto" in refused(service, out, objective="kto")
        assert "not for rlhf" in refused(service, out, objective="rlhf")
        how = settings(service, sft_first=True)
        assert "not for sft_first and then dpo" in refused(service, out, how, objective="dpo", records=PAIRS)
        assert service.state["requests"] == []


def test_a_finished_training_is_not_paid_again(tmp_path: Path) -> None:
    with Service(tmp_path) as service:
        first = train(service, tmp_path / "c")
        again = train(service, tmp_path / "c")
        assert again.metrics == first.metrics
        assert (first.resumed, again.resumed) == (False, True)  # no honest time of the second
        other = settings(service, openai={"api_key_env": "OTHER", "price": 3.0})
        assert train(service, tmp_path / "c", other).metrics == first.metrics
        assert service.count("POST jobs") == service.count("POST files") == 1
        train(service, tmp_path / "c", seed=4)
        assert read_served(tmp_path / "c").job == "ftjob-1"
        train(service, tmp_path / "c", seed=3)  # back again: the model is there still
        assert read_served(tmp_path / "c").job == "ftjob-0"
        assert service.count("POST jobs") == 2


@pytest.mark.parametrize("end", ["failed", "cancelled"])
def test_a_job_that_comes_to_nothing_is_told_in_a_line_and_begun_anew_on_demand(end: str, tmp_path: Path) -> None:
    with Service(tmp_path, ends=[end]) as service:
        told = refused(service, tmp_path / "c")
        what = "failed: The job failed: the file is too small" if end == "failed" else "was cancelled"
        assert told == f"fine-tuning job ftjob-0 {what}; the same command begins a new one"
        train(service, tmp_path / "c")
        assert read_served(tmp_path / "c").job == "ftjob-1"


def test_jobs_that_came_to_nothing_are_kept_and_their_cost_counts(tmp_path: Path) -> None:
    with Service(tmp_path, ends=["cancelled", "cancelled"]) as service:
        for _ in range(2):
            refused(service, tmp_path / "c")
        metrics = train(service, tmp_path / "c").metrics
        again = train(service, tmp_path / "c").metrics
    assert (metrics["n_tokens"], metrics["n_billed_tokens"], metrics["n_earlier_jobs"]) == (100, 160, 2)
    assert metrics["cost_usd"] == pytest.approx(160 * 3.0 / 1e6)
    assert again == metrics
    [file] = (tmp_path / "fine_tuning").iterdir()
    kept = [(one["job_id"], one["ended"], one["trained_tokens"]) for one in json.loads(file.read_text())["earlier"]]
    assert kept == [("ftjob-0", "cancelled", 30), ("ftjob-1", "cancelled", 30)]


def test_the_cost_stands_in_the_ledger_and_in_what_train_tells(tmp_path: Path) -> None:
    with Meter("cpu") as meter:
        pass
    how = TrainerSettings.model_validate({"name": "openai", "epochs": 1, "openai": {"model": "m"}})
    entries = [ledger_entry(tmp_path, how, metrics, meter) for metrics in ({"cost_usd": 1.5}, {})]
    assert [entry.cost_usd for entry in entries] == [1.5, None]
    lines = [_line(Training("sft", 0, Path("c"), metrics, None)) for metrics in ({"cost_usd": 1.5}, {})]
    assert lines == ["c: 1.50 USD", "c: trained"]


def test_what_a_failed_job_cost_is_not_known_where_the_service_does_not_say(tmp_path: Path) -> None:
    with Service(tmp_path, ends=["failed"], faults={"POST jobs": [400]}) as service:
        refused(service, tmp_path / "c")  # no job was made
        refused(service, tmp_path / "c")
        metrics = train(service, tmp_path / "c").metrics
    assert (metrics["n_tokens"], metrics["n_earlier_jobs"]) == (100, 1)
    assert not {"cost_usd", "n_billed_tokens"} & metrics.keys()


def test_a_job_that_succeeds_without_a_model_is_told_and_looked_for_again(tmp_path: Path) -> None:
    with Service(tmp_path, ends=["nameless"]) as service:
        told = refused(service, tmp_path / "c")
        assert told.startswith("fine-tuning job ftjob-0 succeeded, but the server names no model")
        state = service.state
        state["jobs"]["ftjob-0"]["job"]["fine_tuned_model"] = "ft:late"
        service.write(state)
        train(service, tmp_path / "c")
        assert read_served(tmp_path / "c").model == "ft:late"
        assert service.count("POST jobs") == 1


def test_what_passes_is_waited_for(tmp_path: Path) -> None:
    faults = {
        "POST files": [429, 500, "reset"], "POST jobs": [429, 503, 500, "reset"], "GET jobs": [500],
        "GET job": [429, 500, "reset", 408, 502], "GET files": [500],
    }  # fmt: skip
    with Service(tmp_path, faults=faults) as service:
        assert train(service, tmp_path / "c").metrics["n_tokens"] == 100
        assert len(service.state["jobs"]) == len(service.state["files"]) == 1


@pytest.mark.parametrize("fault", ["lose", "reset"])
def test_a_lost_answer_is_looked_for_and_not_asked_again(fault: str, tmp_path: Path) -> None:
    with Service(tmp_path, faults={"POST jobs": [fault]}) as service:
        for name in "ab":  # others' jobs, newer and older, on several pages of the list
            train(service, tmp_path / name / "c", seed=ord(name))
        train(service, tmp_path / "c")
        assert len(service.state["jobs"]) == 3
        assert service.count("POST jobs") == (3 if fault == "lose" else 4)


def test_denials_are_told_with_the_way_to_mend_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Service(tmp_path, key="another", faults={"POST jobs": [400]}) as service:
        told = refused(service, tmp_path / "c")
        assert "refuses the API key: check the environment variable OPENAI_API_KEY" in told
        assert "***" in told  # the service echoes the key
        monkeypatch.setenv("OPENAI_API_KEY", "another")
        assert "400 not now" in refused(service, tmp_path / "c")
        train(service, tmp_path / "c")
        assert len(service.state["jobs"]) == 1
    monkeypatch.delenv("OPENAI_API_KEY")
    how = TrainerSettings.model_validate({"name": "openai", "epochs": 1, "openai": {"model": "m"}})
    assert "set OPENAI_API_KEY in the environment" in refused(service, tmp_path / "d", how)


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_job_whose_answer_was_lost_is_not_paid_again_where_the_look_up_is_denied(status: int, tmp_path: Path) -> None:
    with Service(tmp_path, faults={"POST jobs": ["lose"], "GET jobs": [status, status]}) as service:
        for _ in range(2):
            told = refused(service, tmp_path / "c")
            assert told.endswith("; a job may exist, and the same command looks again")
        train(service, tmp_path / "c")
        assert len(service.state["jobs"]) == len(service.state["files"]) == service.count("POST jobs") == 1


@pytest.mark.parametrize("status", [400, 401, 404, 422])
def test_a_job_that_the_service_denies_to_make_is_asked_for_anew(status: int, tmp_path: Path) -> None:
    with Service(tmp_path, faults={"POST jobs": [status]}) as service:
        assert "a job may exist" not in refused(service, tmp_path / "c")
        train(service, tmp_path / "c")
        assert service.count("POST jobs") == 2
        assert service.count("GET jobs") == 0
        assert len(service.state["jobs"]) == 1


def test_a_denial_while_a_job_runs_forgets_no_job(tmp_path: Path) -> None:
    with Service(tmp_path, faults={"GET job": [403]}) as service:
        assert "fine-tuning job ftjob-0: " in refused(service, tmp_path / "c")
        train(service, tmp_path / "c")
        assert service.count("POST jobs") == 1


def test_a_service_that_stays_away_is_given_up_and_its_job_taken_up_later(tmp_path: Path) -> None:
    with Service(tmp_path, faults={"GET job": [500] * 40}) as service:
        told = refused(service, tmp_path / "c", patience=0.5)
        assert "no answer for" in told
        assert "the same command takes it up" in told
        state = service.state
        service.write({**state, "faults": {}})
        train(service, tmp_path / "c")
        assert service.count("POST jobs") == 1


def test_a_service_that_restarts_loses_nothing(tmp_path: Path) -> None:
    with Service(tmp_path, looks=8) as service:
        client = start(service, tmp_path / "c")
        until(lambda: service.count("GET job") >= 2)
        service.stop()
        time.sleep(0.5)
        assert client.poll() is None
        service.start()
        assert client.wait(30) == 0
        assert read_served(tmp_path / "c").job == "ftjob-0"
        assert len(service.state["jobs"]) == len(service.state["files"]) == 1


DRIVER = """
import sys
from pathlib import Path
from types import SimpleNamespace
sys.path.insert(0, {tests!r})
from test_openai_finetuning import *
train(SimpleNamespace(url=sys.argv[1]), Path(sys.argv[2]), patience=30.0)
"""


def start(service: Service, out: Path) -> subprocess.Popen:
    code = DRIVER.format(tests=str(Path(__file__).parent))
    return subprocess.Popen([sys.executable, "-c", code, service.url, str(out)], cwd=ROOT, env={**os.environ})


def until(found, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("where", "how", "n_files"),
    [
        ("POST files", "stall", 1),  # nothing has arrived
        ("POST files", "hang", 2),  # the file has, and is of no cost
        ("POST jobs", "stall", 1),  # between upload and job
        ("POST jobs", "hang", 1),  # the job is made, and its name unknown here
        ("GET job", "hang", 1),  # while it is looked after
    ],
)
def test_a_killed_client_goes_on_where_it_was(where: str, how: str, n_files: int, tmp_path: Path) -> None:
    with Service(tmp_path, faults={where: [how]}) as service:
        client = start(service, tmp_path / "c")
        until(lambda: service.count(where))
        client.send_signal(signal.SIGKILL)
        client.wait()
        assert not (tmp_path / "c").exists()
        train(service, tmp_path / "c")
        state = service.state
        assert len(state["jobs"]) == 1
        assert len(state["files"]) == n_files
        assert service.count("POST jobs") == (2 if (where, how) == ("POST jobs", "stall") else 1)
        assert read_served(tmp_path / "c").job == "ftjob-0"
        assert KEY.encode() not in written(tmp_path)


def test_a_job_that_cannot_be_read_is_not_paid_again_unasked(tmp_path: Path) -> None:
    with Service(tmp_path) as service:
        train(service, tmp_path / "c")
        file = next((tmp_path / "fine_tuning").iterdir())
        file.write_text(file.read_text()[:40])
        with pytest.raises(UserError, match="look at the provider's list of fine-tuning jobs, then delete the file"):
            train(service, tmp_path / "c")
        assert service.count("POST jobs") == 1


def test_curves_are_read_plain_or_packed_and_never_made_up() -> None:
    assert _curves(b"step,train_loss\n1,2\n2,nan\n3,x\n4,1\n") == {"loss": [2.0, 1.0]}
    assert _curves(b"") == _curves(b"\xff\xfe") == _curves(b"{}") == {}


def test_a_model_file_of_somebody_else_is_told(tmp_path: Path) -> None:
    assert read_served(tmp_path) is None
    (tmp_path / "model.json").write_text("{}")
    with pytest.raises(UserError, match="does not name a model on a server"):
        read_served(tmp_path)
