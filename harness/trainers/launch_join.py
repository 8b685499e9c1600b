"""Takes part in launched trainings from a further machine: ``python -m harness.trainers.launch_join FOLDER RANK``.

Watches a folder on a file system that the machines share (a run, say) for trainings that the first machine has begun on
several machines, and runs this machine's processes of each, until it is interrupted. It writes nothing but its log; a
training that fails here fails there, and its next start is joined again.
"""

from __future__ import annotations

import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from harness.errors import UserError
from harness.trainers.launch import LOG, OPEN, check_devices, command
from harness.trainers.program import run_program
from harness.trainers.trl_fit import Job

POLL_SECONDS = 2.0


def main() -> int:
    """The exit status is 2 for wrong arguments; else it runs until it is interrupted."""
    if len(sys.argv) != 3 or not sys.argv[2].isdigit() or int(sys.argv[2]) < 1:
        print("python -m harness.trainers.launch_join FOLDER RANK, with RANK 1, 2, … for each further machine")
        return 2
    try:
        join(Path(sys.argv[1]), int(sys.argv[2]))
    except KeyboardInterrupt:
        return 0
    return 0


def join(folder: Path, machine_rank: int) -> None:
    """Joins every training that is begun below a folder; see the module."""
    joined: set[str] = set()
    while True:
        for file in _open(folder):
            start = file.read_text(encoding="ascii")
            if start and start not in joined:
                joined.add(start)
                _take_part(file.parent, machine_rank)
        time.sleep(POLL_SECONDS)


def _open(folder: Path) -> Iterator[Path]:
    """The marks of trainings that wait for further machines."""
    yield from [*folder.glob(f".*.trl/*/{OPEN}"), *folder.glob(f"train/*/*/.*.trl/*/{OPEN}")]


def _take_part(work: Path, machine_rank: int) -> None:
    job = Job.model_validate_json((work / "job.json").read_bytes())
    launch = job.settings.launch
    if launch is None or machine_rank >= launch.machines:
        return
    log = work / f"{LOG}.{machine_rank}"
    with tempfile.TemporaryDirectory() as own:  # lock and status: of this machine alone
        try:
            check_devices(launch, job.device)
            run_program(command(launch, work, machine_rank, job.settings.dtype), Path(own), log, (), None)
        except UserError as error:
            print(f"{socket.gethostname()}: {work}: {error}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
