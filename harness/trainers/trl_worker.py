"""One of the processes of a launched training: ``python -m harness.trainers.trl_worker WORK``, which the launcher runs.

Reads ``job.json`` and ``records.jsonl`` in ``WORK``; writes (the first process alone) ``checkpoint/``, a byte a step to
``progress``, and at the end ``result.json``. What a user can mend is told in ``error-<rank>``. Ends when the launcher
does.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from harness.errors import UserError
from harness.records import Finite, TrainingRecord
from harness.store import write_atomic

_POLL_SECONDS = 0.5


class Result(BaseModel):
    """What the processes tell at the end: what was measured, and the most memory that they held, all together."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    metrics: dict[str, Finite]
    peak_memory_bytes: int | None


def main() -> int:
    """Trains; the exit status is 1 where a user can mend what went wrong."""
    work = Path(sys.argv[1])
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    from harness.trainers.trl_processes import these_processes

    processes = these_processes()
    try:
        _train(work)
    except UserError as error:
        write_atomic(work / f"error-{processes.rank}", str(error))
        return 1
    return 0


def _train(work: Path) -> None:
    from harness.trainers.ledger import Meter
    from harness.trainers.trl_fit import Job, fit
    from harness.trainers.trl_processes import these_processes

    processes = these_processes()
    job = Job.model_validate_json((work / "job.json").read_bytes())
    lines = (work / "records.jsonl").read_text(encoding="utf-8").split("\n")[:-1]
    records = [TrainingRecord.model_validate_json(line) for line in lines]
    with (work / "progress").open("ab", buffering=0) as file, Meter(job.device) as meter:

        def progress() -> None:
            if processes.writes:
                file.write(b".")

        metrics = fit(job, records, work, work / "checkpoint", progress, processes)
    result = Result(metrics=metrics, peak_memory_bytes=processes.total(meter.peak_memory_bytes or 0) or None)
    if processes.writes:
        write_atomic(work / "result.json", result.model_dump_json())
    _leave()


def _leave() -> None:
    import torch.distributed

    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _end_with(parent: int) -> None:
    """Ends this process when its launcher is gone, however that ended: each rank is in a session of its own."""
    while os.getppid() == parent:
        time.sleep(_POLL_SECONDS)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
