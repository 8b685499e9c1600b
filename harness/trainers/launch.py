"""A training in several processes through ``accelerate launch``: on the CPU, on the GPUs of a machine, on several.

Writes the job into a work folder beside the checkpoint, runs `harness.trainers.trl_worker` once for each device, tells
the steps as they are done, and moves the checkpoint to its place whole. The processes end when this one does; when one
of them ends before its time, so do the others.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from uuid import uuid4

from harness.errors import UserError
from harness.records import TrainingRecord
from harness.store import write_atomic
from harness.trainers.base import TrainResult
from harness.trainers.launch_settings import LaunchSettings
from harness.trainers.program import last_lines, run_program
from harness.trainers.trl_fit import Job
from harness.trainers.trl_worker import Result

POLL_SECONDS = 0.3
LOG, OPEN = "launch.log", "open"
_FAILED = re.compile(r"rank\s*:\s*(\d+) \(local_rank: \d+\)\s+exitcode\s*:\s*(-?\d+)")


def launched(
    job: Job, records: Sequence[TrainingRecord], work: Path, out: Path, progress: Callable[[], None]
) -> TrainResult:
    """Trains in the processes that ``job.settings.launch`` asks for; arguments as `harness.trainers.trl_fit.fit`.

    Raises:
        UserError: They cannot be started, or one of them failed; what an earlier checkpoint holds is kept.
    """
    launch = job.settings.launch
    assert launch is not None
    check_devices(launch, job.device)
    for name in ("status", "progress", "result.json", *(path.name for path in work.glob("error-*"))):
        (work / name).unlink(missing_ok=True)
    (work / "progress").touch()
    write_atomic(work / "records.jsonl", "".join(record.to_line() for record in records))
    whole = job.model_copy(update={"base": job.base.resolve()})
    write_atomic(work / "job.json", whole.model_dump_json())
    start = (work / LOG).stat().st_size if (work / LOG).exists() else 0
    with _followed(work / "progress", progress), _opened(work, launch.machines):
        try:
            run_program(command(launch, work, 0, job.settings.dtype), work, work / LOG, (), None)
        except UserError:
            raise _told(work, start, launch.processes) from None
    result = Result.model_validate_json((work / "result.json").read_bytes())
    shutil.rmtree(out, ignore_errors=True)
    os.replace(work / "checkpoint", out)
    return TrainResult(result.metrics, result.peak_memory_bytes)


def command(launch: LaunchSettings, work: Path, machine_rank: int, dtype: str) -> list[str]:
    """What runs on one machine."""
    config = launch.config_file
    port = launch.main_port if launch.machines > 1 else 0
    return [
        *(sys.executable, "-m", "accelerate.commands.launch"),
        *(("--config_file", str(config.resolve())) if config else ("--multi_gpu",)),
        *("--num_processes", str(launch.processes), "--num_machines", str(launch.machines)),
        *("--machine_rank", str(machine_rank), "--main_process_port", str(port), "--rdzv_backend", "static"),
        *(("--main_process_ip", launch.main_address, "--same_network") if launch.main_address else ()),
        *("--mixed_precision", "bf16" if dtype == "bfloat16" else "no", "--dynamo_backend", "no"),
        *("-m", "harness.trainers.trl_worker", str(work.resolve())),
    ]


def check_devices(launch: LaunchSettings, device: str) -> None:
    """Raises a `UserError` where this machine cannot do its part."""
    import torch

    config = launch.config_file
    if config is not None and not config.is_file():
        raise UserError(f"trainer.launch.config: {config} is missing; `accelerate config --config_file` writes one")
    if config is not None and sharding(config) == "DEEPSPEED" and find_spec("deepspeed") is None:
        raise UserError(f"trainer.launch.config: {launch.config} needs DeepSpeed: pip install deepspeed")
    here, n_gpus = launch.processes // launch.machines, torch.cuda.device_count()
    if config is not None and sharding(config) in ("FSDP", "DEEPSPEED") and (device == "cpu" or not n_gpus):
        raise UserError("trainer.launch.config: accelerate shards weights on GPUs alone; leave config out on a CPU")
    if device != "cpu" and 0 < n_gpus < here:
        raise UserError(f"trainer.launch: {here} processes on this machine need as many GPUs, and it has {n_gpus}")


def sharding(config: Path) -> str:
    """What an accelerate configuration asks for, such as ``FSDP``, ``DEEPSPEED`` or ``MULTI_GPU``.

    Raises:
        UserError: It is none.
    """
    from accelerate.commands.config.config_args import load_config_from_file

    try:
        return str(load_config_from_file(str(config)).distributed_type.value)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        told = " ".join(str(error).split())[:200]
        raise UserError(f"trainer.launch.config: {config} is no configuration of accelerate ({told})") from None


@contextmanager
def _opened(work: Path, n_machines: int) -> Iterator[None]:
    """While the block runs, further machines find the training (`harness.trainers.launch_join`) and take part once."""
    if n_machines > 1:
        write_atomic(work / OPEN, uuid4().hex)
    try:
        yield
    finally:
        (work / OPEN).unlink(missing_ok=True)


@contextmanager
def _followed(file: Path, progress: Callable[[], None]) -> Iterator[None]:
    """Tells each byte that is added to a file, until the end of the block."""
    ended = threading.Event()

    def follow() -> None:
        told, last = 0, False
        while not last:
            last = ended.wait(POLL_SECONDS)
            size = file.stat().st_size
            for _ in range(size - told):
                progress()
            told = size

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _told(work: Path, start: int, n: int) -> UserError:
    """Why the processes failed, in one line: what one of them says that a user can mend, or how the first one ended."""
    for told in sorted(work.glob("error-*")):
        return UserError(told.read_text(encoding="utf-8"))
    log = work / LOG
    with log.open("rb") as file:
        file.seek(start)
        text = file.read().decode("utf-8", "replace")
    found = _FAILED.findall(text)
    if not found:
        return UserError(f"the launched training failed, having said: {last_lines(log, start)}; see {log}")
    rank, status = int(found[-1][0]), int(found[-1][1])
    how = f"was killed by signal {-status}" if status < 0 else f"failed with exit status {status}"
    reasons = re.findall(r"^\[?rank\d+\]?:? ?(\w*(?:Error|Exception)\b.*)$", text, re.MULTILINE)
    said = f": {reasons[-1][:200]}" if reasons and status > 0 else ""
    return UserError(
        f"process {rank + 1} of {n} of the launched training {how}{said}, and the others were ended; the same command "
        f"goes on from the last checkpoint (trainer.save_steps) or begins again; see {log}"
    )
