"""The run directory: created once, locked, appended to, read tolerantly.

Writes: ``manifest.json`` once and atomically, record files (``*.jsonl``) by appending whole lines, derived files by
replacing. A record file is never rewritten; the latest record of a key wins, except that a final record is never
superseded by a failure. A torn line (a process died while writing) is counted and its record is owed again. Several
processes may append at once; one process holds the run's lock.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple, Protocol, TypeVar

from pydantic import ValidationError

from harness.errors import UserError
from harness.records import Checkpoint, Record


class Keyed(Protocol):
    """A record that has a key and knows whether it is final."""

    @property
    def key(self) -> str:
        """What it is."""

    @property
    def final(self) -> bool:
        """Whether it is never owed again."""

    def to_line(self) -> str:
        """It as one line."""


K = TypeVar("K", bound=Keyed)
R = TypeVar("R", bound=Record)
_TEMPORARY = re.compile(r"\.(samples\.jsonl|manifest\.json)\.\d+\.tmp")


class Batch(NamedTuple):
    """Lines read from a record file: the records, how many lines were torn, and where the next read begins."""

    records: list[Any]
    n_torn: int
    offset: int


def write_atomic(path: Path, content: str | bytes) -> None:
    """Replaces a file, making its folder, so that a reader sees the old one or the new one, never a part."""
    data = content if isinstance(content, bytes) else str.encode(content, "utf-8", "surrogatepass")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def append(path: Path, records: Iterable[Keyed | Record]) -> None:
    """Appends records as whole lines, durable when it returns; begins a new line after a torn one."""
    data = "".join(record.to_line() for record in records).encode("utf-8", "surrogatepass")
    if not data:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if file.seek(0, os.SEEK_END):  # only now: another process may have appended since it was opened
            file.seek(-1, os.SEEK_END)
            data = data if file.read(1) == b"\n" else b"\n" + data
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def read(path: Path, kind: type[R], offset: int = 0) -> Batch:
    """All whole records of a file from a byte offset on; a line without its end is left for the next read."""
    if not path.exists():
        return Batch([], 0, offset)
    with path.open("rb") as file:
        file.seek(offset)
        data = file.read()
    end = data.rfind(b"\n") + 1
    batch = _batch(data[:end], kind, offset + end)
    return batch._replace(n_torn=batch.n_torn + (end < len(data)))


def read_in_parts(path: Path, kind: type[R], offset: int = 0, n_bytes: int = 1 << 20) -> Iterator[Batch]:
    """The same in parts of about so many bytes, for files that are not to stand in memory as a whole."""
    while path.exists():
        with path.open("rb") as file:
            file.seek(offset)
            data = file.read(n_bytes)
            if len(data) == n_bytes:
                data += file.readline()  # a part ends with a line; a torn last one is left for the next read
        end = data.rfind(b"\n") + 1
        if not end:
            return
        yield _batch(data[:end], kind, offset + end)
        offset += end


def _batch(lines: bytes, kind: type[R], offset: int) -> Batch:
    records: list[R] = []
    n_torn = 0
    for line in lines.splitlines():
        try:
            records.append(_parsed(kind, line))
        except ValueError:  # pydantic's, json's and codecs' errors are all of this kind
            n_torn += 1
    return Batch(records, n_torn, offset)


def _parsed(kind: type[R], line: bytes) -> R:
    try:
        return kind.model_validate_json(line)
    except ValidationError:  # perhaps for a lone surrogate in a text, which Python's own parser takes
        return kind.model_validate(json.loads(line.decode("utf-8", "surrogatepass")))


def latest(records: Iterable[K]) -> dict[str, K]:
    """Key → the record that counts: the last one, but a failure never replaces a final record."""
    kept: dict[str, K] = {}
    for record in records:
        if record.final or record.key not in kept or not kept[record.key].final:
            kept[record.key] = record
    return kept


class Run:
    """A run's folder and the files in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.manifest_file = path / "manifest.json"
        self.samples_file = path / "samples.jsonl"
        self.cells_file = path / "cells.jsonl"
        self.completions_file = path / "completions.jsonl"
        self.verdicts_file = path / "verdicts.jsonl"
        self.calls_file = path / "calls.jsonl"
        self.steps_file = path / "train" / "steps.jsonl"
        self.judging_file = path / "judging.json"
        self.scores_file = path / "scores.json"
        self.report_dir = path / "report"

    @classmethod
    def open(cls, path: Path) -> Run:
        """An existing run.

        Raises:
            UserError: The folder holds no run.
        """
        run = cls(path)
        if not run.manifest_file.is_file():
            raise UserError(f"{path}: not a run (no manifest.json)")
        return run

    def manifest(self) -> dict[str, Any]:
        """What the run was made from."""
        try:
            data: dict[str, Any] = json.loads(self.manifest_file.read_text(encoding="utf-8"))
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            line = getattr(error, "lineno", 1)
            raise UserError(f"{self.manifest_file}:{line}: not valid JSON; the run cannot be trusted") from None
        if not isinstance(data, dict):
            raise UserError(f"{self.manifest_file}: holds no manifest; the run cannot be trusted")
        return data

    def seal(self, manifest: Mapping[str, Any], samples: Sequence[Record]) -> None:
        """Starts the run or confirms that it is the same one.

        Args:
            manifest: What decides the results; ``environment`` in it is recorded but never compared.
            samples: The frozen samples.

        Raises:
            UserError: The folder holds another run (tells the differing fields) or files that are no run's.
        """
        self._refuse_foreign()
        if self.manifest_file.exists():
            self._refuse_changes(manifest)
        else:
            write_atomic(self.samples_file, "".join(sample.to_line() for sample in samples))
            self.note(manifest)

    def note(self, manifest: Mapping[str, Any]) -> None:
        """Replaces the manifest of the same run, whose ``environment`` is another one now."""
        write_atomic(self.manifest_file, json.dumps(manifest, indent=2, sort_keys=True, ensure_ascii=False) + "\n")

    def _refuse_foreign(self) -> None:
        """A folder may be new, empty, a run's, or what a run left that died while it was sealed."""
        if self.manifest_file.exists() or not self.path.exists():
            return
        if not self.path.is_dir():
            raise UserError(f"{self.path}: is a file, not a folder; choose another with --out")
        names = {path.name for path in self.path.iterdir()} - {".lock", "samples.jsonl"}
        if any(not _TEMPORARY.fullmatch(name) for name in names):
            raise UserError(f"{self.path}: the folder is not empty and holds no run; choose another with --out")

    def _refuse_changes(self, manifest: Mapping[str, Any]) -> None:
        wanted = json.loads(json.dumps({k: v for k, v in manifest.items() if k != "environment"}))
        stored = {k: v for k, v in self.manifest().items() if k != "environment"}
        changes = list(differences(stored, wanted))
        if changes:
            shown = "; ".join(changes[:6]) + (f"; and {len(changes) - 6} more" if len(changes) > 6 else "")
            raise UserError(
                f"{self.path}: holds a run with other settings, which would change its results ({shown}); "
                "choose another folder with --out, or go back to its settings"
            )

    def checkpoint(self, subject: str, seed: int) -> Checkpoint | None:
        """What a training left; ``None`` where it has not ended.

        Raises:
            UserError: The file holds something else.
        """
        file = self.path / "train" / subject / str(seed) / "checkpoint.json"
        if not file.exists():
            return None
        try:
            return Checkpoint.model_validate_json(file.read_bytes())
        except ValidationError:
            raise UserError(f"{file}: holds no checkpoint's record; delete it, and harness run trains again") from None

    @contextmanager
    def lock(self, wait_seconds: float = 5.0) -> Iterator[None]:
        """Holds the run for one process; waits a little for the workers of a killed one to end."""
        self._refuse_foreign()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{self.path}: cannot be made ({error.strerror}); choose another with --out") from None
        with (self.path / ".lock").open("w") as file:
            _hold(file, wait_seconds, f"{self.path}: another process is working on this run")
            yield


def share_lock(path: Path) -> Any:
    """A shared hold on a run's worker lock, for as long as the returned file stays open (a worker's lifetime)."""
    file = (path / ".workers").open("a")
    fcntl.flock(file, fcntl.LOCK_SH)
    return file


def wait_for_workers(path: Path, wait_seconds: float = 30.0) -> None:
    """Returns when no worker of an earlier, killed process is left writing to the run."""
    with (path / ".workers").open("a") as file:
        _hold(file, wait_seconds, f"{path}: workers of an earlier process are still writing to this run")


def _hold(file: IO[str], wait_seconds: float, refusal: str) -> None:
    """Takes the lock of an open file for this process alone, or refuses when the wait is over."""
    deadline = time.monotonic() + wait_seconds
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise UserError(refusal) from None
            time.sleep(0.1)


def differences(stored: Any, wanted: Any, at: str = "") -> Iterator[str]:
    """The fields in which two JSON values differ, as ``path: old → new``."""
    if isinstance(stored, dict) and isinstance(wanted, dict):
        for name in sorted(stored.keys() | wanted.keys()):
            yield from differences(stored.get(name), wanted.get(name), f"{at}.{name}" if at else name)
    elif isinstance(stored, list) and isinstance(wanted, list) and len(stored) == len(wanted):
        for index, (old, new) in enumerate(zip(stored, wanted, strict=True)):
            yield from differences(old, new, f"{at}[{index}]")
    elif stored != wanted:
        yield f"{at}: {_short(stored)} → {_short(wanted)}"


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "…"
