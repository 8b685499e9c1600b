"""The files of a report's folder: each is whole or not there, and a report replaces all that an earlier one wrote.

`replacing` keeps ``written.json`` in the folder, which lists the files that reports wrote there. What it does not list
was put there by somebody else and stays.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

from harness.errors import UserError
from harness.store import write_atomic

LIST = "written.json"
STAGE = ".report.tmp"


def write_whole(path: Path, content: str | bytes) -> Path:
    """Writes the content (text as UTF-8), making the folder, and gives the path back."""
    write_atomic(path, content)
    return path


@contextmanager
def replacing(out: Path, *, redact: bool = False) -> Iterator[Path]:
    """An empty folder to write a report into; at the end it takes the place of the report that is in ``out``.

    Files are listed before they are moved, so that the next report knows them even if this one dies on the way.

    Args:
        out: Folder of the report.
        redact: The report leaves texts out, so that none of an earlier one may stay.

    Raises:
        UserError: ``redact``, and ``out`` holds a report of which it is not known what it wrote.
    """
    old = listed(out)
    if redact and old is None and (out / "index.html").exists():
        raise UserError(f"{out}: holds a report without {LIST}, so its texts might stay; delete it, or choose --out")
    stage = out / STAGE
    shutil.rmtree(stage, ignore_errors=True)
    stage.mkdir(parents=True)
    try:
        yield stage
        new = {path.relative_to(stage).as_posix() for path in stage.rglob("*") if path.is_file()}
        also_written(out, new)
        for name in sorted(new):
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(stage / name, out / name)
        _remove(out, (old or set()) - new)
        _list(out, new)
    finally:
        shutil.rmtree(stage, ignore_errors=True)
        with suppress(OSError):  # a folder that was made for a report that failed
            out.rmdir()


def listed(out: Path) -> set[str] | None:
    """The files that reports wrote into a folder, relative to it; ``None`` where nothing says which."""
    try:
        names = json.loads((out / LIST).read_text("utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return {name for name in names if isinstance(name, str) and _inside(name)} if isinstance(names, list) else None


def also_written(out: Path, names: Iterable[str]) -> None:
    """Adds files to those that the report in the folder wrote."""
    _list(out, (listed(out) or set()) | set(names))


def _list(out: Path, names: set[str]) -> None:
    write_atomic(out / LIST, json.dumps({"files": sorted(names)}, indent=1, ensure_ascii=False) + "\n")


def _inside(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts


def _remove(out: Path, names: set[str]) -> None:
    """Removes files, and the folders that are empty without them."""
    for name in sorted(names):
        (out / name).unlink(missing_ok=True)
        with suppress(OSError):
            (out / name).parent.rmdir()
