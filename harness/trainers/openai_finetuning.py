"""Training by a fine-tuning API in the protocol of OpenAI: upload, ask for a job, wait, take the model's name.

Writes ``out/`` with ``model.json`` (see `harness.trainers.served`) and, where the server gives curves,
``training_log.json``; beside it ``fine_tuning/`` with the job (see `harness.trainers.finetuning_job`). A prompt is one
user turn, as it is when the trained model answers. Only what the API knows is used: whole epochs, ``batch_size``,
``beta`` of DPO, the seed; the server's own limits replace ``max_length``. The API key is never written.
"""

from __future__ import annotations

import base64
import contextlib
import csv
import io
import json
import math
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from harness.clients import wire
from harness.clients.base import Server
from harness.clients.faults import Kind, of_error, of_status
from harness.errors import UserError
from harness.records import TrainingRecord, content_hash
from harness.trainers.base import Objective, TrainerSettings, TrainResult
from harness.trainers.export import export, export_text
from harness.trainers.external_settings import FormatName, OpenAISettings
from harness.trainers.finetuning_job import Job, JobFile
from harness.trainers.served import FILE, ServedModel, read_served

if TYPE_CHECKING:
    from openai import OpenAI

_FORMATS: dict[Objective, FormatName] = {"sft": "openai_chat", "dpo": "openai_preference"}
_PASSING = (Kind.BUSY, Kind.OVERLOADED, Kind.AGAIN, Kind.UNREACHABLE)
_REQUEST_SECONDS = 600.0
_MAX_WAIT = 60.0  # seconds between two looks at a job
_NAMELESS_LOOKS = 5  # at a job that has succeeded, until its model has a name
_TOKENS = 1e6
T = TypeVar("T")


class OpenAITrainer:
    """See the module.

    Args:
        poll_seconds: Until the first look at a job; later looks are rarer, at most every minute.
        patience_seconds: How long a server may be out of reach before we give up; the job goes on.
    """

    def __init__(self, poll_seconds: float = 5.0, patience_seconds: float = 3600.0) -> None:
        self.poll_seconds, self.patience_seconds = poll_seconds, patience_seconds

    def train(
        self,
        base: Path,
        records: Sequence[TrainingRecord],
        settings: TrainerSettings,
        seed: int,
        out: Path,
        *,
        objective: Objective,
        chat: bool,
        device: str,
        progress: Callable[[], None],
    ) -> TrainResult:
        """See `harness.trainers.base.Trainer`; the base is the one of the settings. Steps are told at the end."""
        order = _order(records, settings, seed, objective)
        file = JobFile(out.parent / "fine_tuning", order.key)
        with _client(order.server) as client:
            session = _Session(client, order.server, self.poll_seconds, self.patience_seconds)
            resumed = file.load().job_id is not None
            job = session.finish(file, order)
            curves = session.curves(job)
        served = read_served(out)
        if served is None or served.key != order.key:
            _write(out, order, job, curves)
        for _ in range(settings.all_steps(objective, Counter(record.kind for record in records))):
            progress()
        return TrainResult(_metrics(order, job, curves), resumed=resumed)


class _Order(NamedTuple):
    """What is wanted: the server, the file's text and rows, the body of the request, and the key of it all."""

    own: OpenAISettings
    server: Server
    text: str
    n_rows: int
    body: dict[str, Any]
    key: str


def _order(records: Sequence[TrainingRecord], settings: TrainerSettings, seed: int, objective: Objective) -> _Order:
    own = settings.openai
    if own is None:
        raise UserError("trainer openai needs a block trainer.openai with the 'model' to fine-tune")
    if objective not in _FORMATS or (objective != "sft" and settings.sft_first):
        what = f"sft_first and then {objective}" if objective in _FORMATS else objective
        raise UserError(f"trainer openai trains for sft and dpo, not for {what}: the fine-tuning API knows no others")
    if settings.epochs is None or settings.epochs != int(settings.epochs):
        raise UserError("trainer openai takes whole trainer.epochs, not steps: the fine-tuning API knows no others")
    made = export(records, _FORMATS[objective], chat=True)
    text = export_text(made.rows, ".jsonl")
    hyper: dict[str, Any] = {"n_epochs": int(settings.epochs), "batch_size": settings.batch_size}
    if own.learning_rate_multiplier is not None:
        hyper["learning_rate_multiplier"] = own.learning_rate_multiplier
    if objective == "dpo":
        hyper["beta"] = settings.beta
    kind = "supervised" if objective == "sft" else "dpo"
    body: dict[str, Any] = {
        "model": own.model,
        "method": {"type": kind, kind: {"hyperparameters": hyper}},
        "seed": seed,
        **({"suffix": own.suffix} if own.suffix is not None else {}),
    }
    key = content_hash([body, own.base_url, content_hash(text)])
    server = Server(own.model, own.base_url, own.api_key_env, timeout_seconds=_REQUEST_SECONDS)
    return _Order(own, server, text, len(made.rows), body, key)


def _client(server: Server) -> OpenAI:
    import openai

    key = wire.api_key(server)
    return openai.OpenAI(api_key=key, base_url=server.base_url, timeout=_REQUEST_SECONDS, max_retries=0)


class _Session(NamedTuple):
    """A server that is asked with patience."""

    client: OpenAI
    server: Server
    poll_seconds: float
    patience_seconds: float

    def finish(self, file: JobFile, order: _Order) -> Job:
        """The job, once it has succeeded."""
        job = file.load()
        if job.ended is not None:
            return job
        try:
            self._patiently(lambda: file.upload(self.client, job, f"{order.key[:16]}.jsonl", order.text))
            self._patiently(lambda: file.ask(self.client, job, order.body))
        except _Denied as denied:
            open_still = job.asked and job.ended is None
            what = "; a job may exist, and the same command looks again" if open_still else ""
            raise UserError(f"trainer openai, model '{order.own.model}': {denied}{what}") from None
        wait, n_nameless = self.poll_seconds, 0
        while job.ended is None:
            time.sleep(wait)
            wait = min(_MAX_WAIT, 1.5 * wait)
            try:
                found = self._patiently(lambda: file.look(self.client, job))
            except _Denied as denied:
                raise UserError(f"fine-tuning job {job.job_id}: {denied}; the same command takes it up") from None
            n_nameless += found.status == "succeeded" and job.ended is None
            if n_nameless == _NAMELESS_LOOKS:
                raise UserError(
                    f"fine-tuning job {job.job_id} succeeded, but the server names no model (fine_tuned_model): look "
                    "for it at the provider; the same command asks again"
                )
        if job.ended == "succeeded":
            return job
        why = wire.safe(found.error.message or found.error.code, self.server) if found.error else "no reason given"
        told = f"failed: {why}" if job.ended == "failed" else "was cancelled"
        raise UserError(f"fine-tuning job {job.job_id} {told}; the same command begins a new one")

    def curves(self, job: Job) -> dict[str, list[float]]:
        """The curves that the server keeps; empty where it gives none that can be read."""
        import openai

        for name in job.result_files:
            try:
                found = _curves(self.client.files.content(name).content)
            except openai.APIError:
                continue  # the model is there; a curve is not worth its loss
            if found:
                return found
        return {}

    def _patiently(self, step: Callable[[], T]) -> T:
        """A step, tried again while what hinders it passes."""
        import openai

        wait, deadline = self.poll_seconds, time.monotonic() + self.patience_seconds
        while True:
            try:
                return step()
            except openai.APIStatusError as error:
                response = error.response
                failure = of_status(error.status_code, response.headers, response.content, self.server)
            except openai.APIConnectionError as error:
                failure = of_error(error, self.server)
            if failure.kind not in _PASSING:
                raise _Denied(failure.detail)
            if time.monotonic() + wait > deadline:
                minutes = self.patience_seconds / 60
                raise UserError(
                    f"trainer openai: no answer for {minutes:.3g} minutes ({failure.detail}); a job that was begun "
                    "goes on, and the same command takes it up"
                )
            time.sleep(max(wait, failure.pause))
            wait = min(_MAX_WAIT, 1.5 * wait)


class _Denied(Exception):
    """The server answers, and will not."""


def _curves(content: bytes) -> dict[str, list[float]]:
    """The curves of a result file: CSV, plain or in Base64."""
    with contextlib.suppress(ValueError):  # it is plain
        content = base64.b64decode(content, validate=True)
    rows = list(csv.DictReader(io.StringIO(content.decode("utf-8", "replace"))))
    named = {"loss": "train_loss", "accuracy": "train_accuracy"}
    curves = {
        name: [value for row in rows if (value := _real(row.get(column))) is not None] for name, column in named.items()
    }
    return {name: values for name, values in curves.items() if values}


def _real(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _write(out: Path, order: _Order, job: Job, curves: dict[str, list[float]]) -> None:
    """Writes the folder beside its place and moves it there whole."""
    served = ServedModel(
        key=order.key, model=job.model or "", base_url=order.own.base_url, api_key_env=order.own.api_key_env,
        base=order.own.model, job=job.job_id or "",
    )  # fmt: skip
    new = out.with_name(f".{out.name}.partial")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    (new / FILE).write_text(served.model_dump_json(indent=2) + "\n", encoding="utf-8")
    if curves:
        (new / "training_log.json").write_text(json.dumps(curves, indent=1) + "\n", encoding="utf-8")
    shutil.rmtree(out, ignore_errors=True)
    os.replace(new, out)


def _metrics(order: _Order, job: Job, curves: dict[str, list[float]]) -> dict[str, float]:
    """What is known of the training; what the server does not say is absent. Jobs that came to nothing cost, too."""
    metrics = {"n_records": float(order.n_rows)}
    if losses := curves.get("loss"):
        metrics |= {"n_steps": float(len(losses)), "loss_first": losses[0], "loss_last": losses[-1]}
    if job.trained_tokens is not None:
        metrics["n_tokens"] = float(job.trained_tokens)
    billed = job.billed_tokens()
    if job.earlier:
        metrics["n_earlier_jobs"] = float(len(job.earlier))
        metrics |= {"n_billed_tokens": float(billed)} if billed is not None else {}
    if billed is not None and order.own.price is not None:
        metrics["cost_usd"] = billed * order.own.price / _TOKENS
    return metrics
