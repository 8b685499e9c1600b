"""What a run's scores were made from, as bytes: ``scored.json``, so that an edit by hand is noticed.

Written when a run is scored, with the length and SHA-256 of every file that decides what is reported. A record file may
grow afterwards but keeps its first bytes; every other file stays as it is. It stands beside ``scores.json``, not in it:
the order of records depends on when a run was interrupted, the scores do not. It proves nothing against somebody who
scores the run again after an edit; what is derived (text hashes, verdicts of rules) is for that.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from harness.records import Record
from harness.scores import RecordsDigest
from harness.store import Run, write_atomic

GROWING = tuple(f"{name}.jsonl" for name in ("samples", "cells", "completions", "verdicts", "calls", "imports"))
FIXED = ("manifest.json", "judging.json", "scores.json")
_CHUNK = 1 << 20


class Sealed(Record):
    """File name → its bytes when the run was scored; a file that did not exist has none."""

    files: dict[str, RecordsDigest]


class Changed(NamedTuple):
    """A file that is not what was scored, and how."""

    file: str
    how: str


def seal_file(run: Run) -> Path:
    """Where the seal stands."""
    return run.path / "scored.json"


def write_seal(run: Run) -> None:
    """Notes what the scores that were just written were made from."""
    found = Sealed(files={name: _digest(run.path / name) for name in (*GROWING, *FIXED)})
    write_atomic(seal_file(run), json.dumps(found.model_dump(mode="json"), indent=1) + "\n")


def read_seal(run: Run) -> Sealed | None:
    """What a run's scores were made from; ``None`` where it was not scored, or before there were seals.

    Raises:
        ValueError: The file holds something else.
    """
    if not seal_file(run).exists():
        return None
    try:
        found = Sealed.model_validate_json(seal_file(run).read_bytes())
    except ValidationError:
        raise ValueError("holds no seal") from None
    if missing := {*GROWING, *FIXED} - found.files.keys():
        raise ValueError(f"says nothing of {', '.join(sorted(missing))}")
    return found


def changed(run: Run, sealed: Sealed) -> Iterator[Changed]:
    """The files that are not what was scored."""
    for name, was in sealed.files.items():
        path = run.path / name
        size = path.stat().st_size if path.exists() else 0
        if size < was.n_bytes:
            yield Changed(name, f"is {size} bytes long, {was.n_bytes} when the run was scored")
        elif _digest(path, was.n_bytes).sha256 != was.sha256:
            yield Changed(name, f"no longer begins with the {was.n_bytes} bytes that the run was scored from")
        elif size > was.n_bytes and name in FIXED:
            yield Changed(name, "was written after the run was scored")


def grown(run: Run, sealed: Sealed) -> list[str]:
    """The record files that have more bytes than when the run was scored."""
    sizes = {name: path.stat().st_size for name in sealed.files if (path := run.path / name).exists()}
    return [name for name, size in sizes.items() if name in GROWING and size > sealed.files[name].n_bytes]


def _digest(path: Path, n_bytes: int | None = None) -> RecordsDigest:
    """Length and hash of a file, or of its first bytes; a file that does not exist is empty."""
    found, left = hashlib.sha256(), n_bytes
    size = 0
    if path.exists():
        with path.open("rb") as file:
            while data := file.read(_CHUNK if left is None else min(_CHUNK, left)):
                found.update(data)
                size += len(data)
                left = None if left is None else left - len(data)
    return RecordsDigest(n_bytes=size, sha256=found.hexdigest())
