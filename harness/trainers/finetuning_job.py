"""A fine-tuning job on disk, and the steps that the server sees: upload, ask, look.

Reads and writes one file a training, replaced before and after every step, so that a process that is killed at any
moment goes on with the job that it asked for and never asks for a second one. The uploaded file belongs to this job
alone, so a job whose answer was lost is found in the server's list by its file. Jobs that came to nothing stay in the
file, for they may have been billed.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError

from harness.errors import UserError
from harness.store import write_atomic

if TYPE_CHECKING:
    from openai import OpenAI
    from openai.types.fine_tuning import FineTuningJob

_DAY_SECONDS = 86400
_UNSURE = (408, 409, 425, 429)  # a gateway's too: whether the request has reached the service, they do not say
LIVE = (None, "succeeded")
"""How a job may stand that is not to be begun anew."""


class EndedJob(BaseModel):
    """A job that came to nothing; fields as in `Job`."""

    model_config = ConfigDict(extra="forbid")
    job_id: str
    ended: str
    trained_tokens: int | None = None


class Job(BaseModel):
    """One job.

    Attributes:
        key: SHA-256 of what is trained.
        made_at: Seconds of the Unix epoch.
        file_id: Of the uploaded records.
        asked: A job may exist on the server though we do not know its id.
        job_id: The server's.
        ended: ``succeeded``, ``failed``, ``cancelled``, or ``refused`` where the server never took it.
        model: The name of the trained model.
        trained_tokens: Billed, where the server says so.
        result_files: Where the server keeps the curves.
        earlier: Jobs of the same training before this one, the oldest first.
    """

    model_config = ConfigDict(extra="forbid")
    key: str
    made_at: float
    file_id: str | None = None
    asked: bool = False
    job_id: str | None = None
    ended: str | None = None
    model: str | None = None
    trained_tokens: int | None = None
    result_files: tuple[str, ...] = ()
    earlier: tuple[EndedJob, ...] = ()

    def billed_tokens(self) -> int | None:
        """Tokens of this job and of those before it; ``None`` where the server does not say it of each."""
        told = [self.trained_tokens, *(one.trained_tokens for one in self.earlier)]
        known = [tokens for tokens in told if tokens is not None]
        return sum(known) if len(known) == len(told) else None


class JobFile:
    """The file of one training's job."""

    def __init__(self, folder: Path, key: str) -> None:
        self.path = folder / f"{key[:16]}.json"
        self.key = key

    def load(self) -> Job:
        """The job as it stands, or a new one where there is none or the last one came to nothing.

        Raises:
            UserError: The file cannot be read: a job may be under way that is not known any more.
        """
        if not self.path.exists():
            return Job(key=self.key, made_at=time.time())
        try:
            job = Job.model_validate_json(self.path.read_bytes())
        except ValidationError:
            raise UserError(
                f"{self.path}: is not readable, so a job that is paid for may be unknown; look at the provider's list "
                "of fine-tuning jobs, then delete the file and a new job is begun"
            ) from None
        return job if job.ended in LIVE else Job(key=self.key, made_at=time.time(), earlier=_with(job))

    def save(self, job: Job) -> None:
        """Writes how far it has come, durable when it returns."""
        write_atomic(self.path, job.model_dump_json(indent=2) + "\n")

    def upload(self, client: OpenAI, job: Job, name: str, text: str) -> None:
        """Uploads the records, unless they are."""
        if job.file_id is None:
            self.save(job)
            job.file_id = client.files.create(file=(name, text.encode()), purpose="fine-tune").id
            self.save(job)

    def ask(self, client: OpenAI, job: Job, body: dict[str, Any]) -> None:
        """Asks for the job, unless the server has it; where it answers that it makes none, the next start begins anew.

        Any other failure, also of the look-up of a lost answer, leaves open whether there is a job.
        """
        from openai import APIStatusError

        if job.job_id is not None:
            return
        found = self._found(client, job) if job.asked else None
        job.asked = True
        self.save(job)
        if found is None:  # a lost answer is looked for, not asked again
            try:
                found = client.fine_tuning.jobs.create(training_file=job.file_id or "", **body)
            except APIStatusError as error:
                if 400 <= error.status_code < 500 and error.status_code not in _UNSURE:
                    job.ended = "refused"
                    self.save(job)
                raise
        job.job_id = found.id
        self.save(job)

    def look(self, client: OpenAI, job: Job) -> FineTuningJob:
        """How it stands on the server; what became of it is written down when it has ended."""
        found = client.fine_tuning.jobs.retrieve(job.job_id or "")
        if found.status in ("failed", "cancelled") or (found.status == "succeeded" and found.fine_tuned_model):
            job.ended, job.model = found.status, found.fine_tuned_model
            job.trained_tokens, job.result_files = found.trained_tokens, tuple(found.result_files or ())
            self.save(job)
        return found

    def _found(self, client: OpenAI, job: Job) -> FineTuningJob | None:
        """The job that the server has though its answer was lost; the list begins with the newest."""
        for found in client.fine_tuning.jobs.list(limit=100):
            if found.training_file == job.file_id:
                return found
            if found.created_at < job.made_at - _DAY_SECONDS:
                return None
        return None


def _with(job: Job) -> tuple[EndedJob, ...]:
    """The jobs before a new one: those before this one, and this one where the server took it."""
    if job.job_id is None or job.ended is None:
        return job.earlier
    return (*job.earlier, EndedJob(job_id=job.job_id, ended=job.ended, trained_tokens=job.trained_tokens))
