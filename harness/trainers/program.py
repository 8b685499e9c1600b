"""Runs a program to its end, or ends it: with us, however we end, or when its time is up.

Appends what the program prints to a log. It is given the harmless part of the environment and what is named, no more;
the values of what is named are taken out of the log when the program has ended, and never stand in an error.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from harness.errors import UserError

SUPERVISOR = Path(__file__).with_name("supervisor.py")
_NAMES = {
    *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TERM", "TMPDIR", "LD_LIBRARY_PATH"),
    *("VIRTUAL_ENV", "CONDA_PREFIX", "PYTHONPATH", "HF_HOME", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "HF_DATASETS_CACHE"),
    *("HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE", "XDG_CACHE_HOME", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"),
    *("SCRATCH", "TOKENIZERS_PARALLELISM"),
}
_PREFIXES = (
    *("LC_", "CUDA_", "NVIDIA_", "NCCL_", "GLOO_", "ROCR_", "HIP_", "OMP_", "MKL_", "TORCH_", "PYTORCH_", "TRITON_"),
)
_ANSI = re.compile(r"\x1b\[[\d;?]*[ -/]*[@-~]")
_TAIL_BYTES, _LINE_LETTERS, _N_LINES = 1 << 16, 200, 3
_LOCK_SECONDS = 30.0


def environment(named: Sequence[str]) -> dict[str, str]:
    """The harmless part of the environment, and the variables that are named.

    Raises:
        UserError: One that is named is not set.
    """
    missing = [name for name in named if name not in os.environ]
    if missing:
        raise UserError(f"trainer.command.env names {missing[0]}, which is not set in the environment")
    kept = {name: value for name, value in os.environ.items() if name in _NAMES or name.startswith(_PREFIXES)}
    return kept | {name: os.environ[name] for name in named}


def run_program(
    arguments: Sequence[str], folder: Path, log: Path, named: Sequence[str], timeout_seconds: float | None
) -> None:
    """Runs a program to its end; its exit status stands in ``folder/status`` as soon as it has ended by itself.

    Args:
        arguments: The program and its arguments.
        folder: Holds the lock and the status.
        log: Is appended to.
        named: Variables of the environment to pass on.
        timeout_seconds: ``None`` waits for ever.

    Raises:
        UserError: It cannot be started, took too long, or failed; tells its last lines.
    """
    env = environment(named)
    if shutil.which(arguments[0]) is None:
        raise UserError(f"trainer.command: no program '{arguments[0]}' is found or may be run")
    start = log.stat().st_size if log.exists() else 0
    status, timed_out = None, False
    with _lock(folder) as lock, log.open("ab") as output:
        supervised = [sys.executable, "-I", "-S", str(SUPERVISOR), str(folder / "status"), str(lock), *arguments]
        process = subprocess.Popen(  # noqa: S603  (what the recipe names, without a shell)
            supervised, stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT, env=env,
            start_new_session=True, pass_fds=[lock],
        )  # fmt: skip
        assert process.stdin is not None
        try:
            process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            timed_out = True
        finally:  # also when we are interrupted: the closed pipe ends the program
            process.stdin.close()
            process.wait()
    secrets = {name: env[name] for name in named if env[name]}
    _hide(log, secrets)
    status = exit_status(folder)
    if status == 0:
        return
    how = f"was ended after {timeout_seconds:g} s (timeout_seconds)" if timed_out else _told(status, process.returncode)
    said = last_lines(log, start)
    raise UserError(f"{arguments[0]} {how}{f', having said: {said}' if said else ''}; see {log}")


def exit_status(folder: Path) -> int | None:
    """How the program in a folder ended; ``None`` where it has not, or not by itself."""
    file = folder / "status"
    return int(file.read_text(encoding="ascii")) if file.exists() else None


def last_lines(log: Path, start: int = 0) -> str:
    """The last lines of a log from a byte on, as one line that a terminal can show."""
    with log.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(start, size - _TAIL_BYTES))
        text = _ANSI.sub("", file.read().decode("utf-8", "replace"))
    lines = ["".join(filter(str.isprintable, line)).strip() for line in re.split(r"[\r\n]+", text)]
    return " | ".join([line[-_LINE_LETTERS:] for line in lines if line][-_N_LINES:])


@contextmanager
def _lock(folder: Path) -> Iterator[int]:
    """A lock that the program inherits, so that one of an earlier start that still lives is waited for."""
    with (folder / "lock").open("a") as file:
        deadline = time.monotonic() + _LOCK_SECONDS
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise UserError(
                        f"{folder}: the program of an earlier start is still running; end it first"
                    ) from None
                time.sleep(0.1)
        yield file.fileno()


def _hide(log: Path, secrets: Mapping[str, str]) -> None:
    content = log.read_bytes() if secrets else b""
    hidden = content
    for name, value in secrets.items():
        hidden = hidden.replace(value.encode(), f"<{name}>".encode())
    if hidden != content:
        log.write_bytes(hidden)


def _told(status: int | None, supervisor: int) -> str:
    if status is None:
        return f"could not be run to its end (supervisor's status {supervisor})"
    return f"was killed by signal {-status}" if status < 0 else f"failed with exit status {status}"
