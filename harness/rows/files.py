"""Files and hub data sets as lists of rows, each with the place that it came from.

Reads: ``.jsonl``, ``.json`` (a list of objects, or one object a line), ``.csv`` (comma, header) and ``.parquet``, in
UTF-8 with or without a byte order mark. Lines and rows count from 1; a CSV record or JSON object that spans several
lines stands at its first. Every fault is a `UserError` with ``FILE:LINE``. Nothing is altered or dropped here except
empty lines.
"""

from __future__ import annotations

import csv
import difflib
import io
import json
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, NoReturn
from urllib.parse import urlsplit
from urllib.request import getproxies

from harness.errors import UserError

_CONNECT_SECONDS = 3.0
_NEAR_NAME = 0.75
"""Similarity above which a file may be the one that was meant; endings alone are alike to half."""
BOM = b"\xef\xbb\xbf"


class Row(NamedTuple):
    """One row: ``source`` is ``"file:line"``, ``values`` its cells by column name."""

    source: str
    values: dict[str, Any]


def read_rows(path: str | Path) -> list[Row]:
    """All rows of a file, in order.

    Raises:
        UserError: The file is missing, of another kind, broken, or holds no rows.
    """
    path = Path(path)
    _must_exist(path)
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise UserError(f"{path}: cannot read '{path.suffix}' files: give one of {', '.join(_READERS)}")
    rows = [Row(f"{path.name}:{line}", values) for line, values in reader(path)]
    if not rows:
        raise UserError(f"{path}: the file holds no rows")
    return rows


def hub_rows(dataset: str, split: str, **how: Any) -> list[Row]:
    """All rows of a split of a public hub data set.

    Args:
        dataset: Name on the hub, or ``json``/``csv``/``parquet`` with ``data_files``.
        split: Name of the split.
        how: Further arguments of ``datasets.load_dataset``.

    Raises:
        UserError: It cannot be had, most often because the machine is offline.
    """
    import datasets

    name = how.get("data_files", dataset)
    with _offline_if_unreachable() as reachable:
        try:
            loaded = datasets.load_dataset(dataset, split=split, **how)
        except Exception as error:  # offline shows as one of a dozen types, of four libraries
            reason = f"({type(error).__name__}: {str(error).split(chr(10), 1)[0]})"
            why = reason if reachable else "which cannot be reached"
            raise UserError(f"cannot load '{name}' ({split}) from the hub, {why}: give a file as `data`") from error
    return [Row(f"{dataset}/{split}:{number}", dict(values)) for number, values in enumerate(loaded, 1)]


@contextmanager
def _offline_if_unreachable() -> Iterator[bool]:
    """Where the hub is not there, only what was fetched before is looked for: no half minute of retries.

    Yields:
        Whether the hub may be asked.
    """
    import datasets
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE
    reachable = not any(before) and _there(constants.ENDPOINT)
    if not reachable:
        constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = True
    try:
        yield reachable
    finally:
        constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE = before


def _there(url: str) -> bool:
    """Whether anybody takes connections there; behind a proxy only asking can tell."""
    parts = urlsplit(url)
    if getproxies():
        return True
    try:
        socket.create_connection((parts.hostname, parts.port or 443), _CONNECT_SECONDS).close()
    except OSError:
        return False
    return True


def _must_exist(path: Path) -> None:
    if path.is_file():
        return
    if path.is_dir():
        raise UserError(f"{path}: is a folder; give a file in it")
    if not path.parent.is_dir():
        raise UserError(f"{path}: no such file (there is no folder {path.parent})")
    names = [other.name for other in path.parent.iterdir() if other.is_file() and other.suffix.lower() in _READERS]
    near = difflib.get_close_matches(path.name, names, n=1, cutoff=_NEAR_NAME)
    raise UserError(f"{path}: no such file" + (f"; did you mean '{near[0]}'?" if near else ""))


def _bytes(path: Path) -> bytes:
    data = path.read_bytes()
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise UserError(f"{path}:1: not UTF-8 (it starts like UTF-16): save the file as UTF-8")
    return data.removeprefix(BOM)


def _decode(path: Path, raw: bytes, first_line: int = 1) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = first_line + raw.count(b"\n", 0, error.start)
        raise UserError(f"{path}:{line}: not UTF-8 (byte 0x{raw[error.start]:02x}): save the file as UTF-8") from None


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


_DECODER = json.JSONDecoder(parse_constant=_no_constant)


def _bad_json(path: Path, line: int, error: Exception) -> UserError:
    reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
    return UserError(f"{path}:{line}: not valid JSON ({reason}): fix or delete the line")


def _object(path: Path, line: int, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UserError(f"{path}:{line}: an object of columns is needed here, not {type(value).__name__}")
    return value


def _jsonl(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    # Split at b"\n" alone: str.splitlines would also cut at U+2028 and U+0085, which may stand inside JSON strings.
    for line, raw in enumerate(_bytes(path).split(b"\n"), 1):
        text = _decode(path, raw, line).strip()
        if not text:
            continue
        try:
            value = _DECODER.decode(text)
        except (ValueError, RecursionError) as error:
            raise _bad_json(path, line, error) from None
        yield line, _object(path, line, value)


def _json(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    data = _bytes(path)
    if not data.lstrip().startswith(b"["):
        yield from _jsonl(path)
        return
    text = _decode(path, data)
    try:
        for start, value in _elements(text):
            line = text.count("\n", 0, start) + 1
            yield line, _object(path, line, value)
    except json.JSONDecodeError as error:
        raise _bad_json(path, error.lineno, error) from None
    except (ValueError, RecursionError) as error:
        raise _bad_json(path, 1, error) from None


def _elements(text: str) -> Iterator[tuple[int, Any]]:
    """Each element of a JSON list with the place where it starts."""
    place = _skip(text, _skip(text, 0) + 1)
    while not text.startswith("]", place):
        value, end = _DECODER.raw_decode(text, place)
        yield place, value
        place = _skip(text, end)
        if text.startswith(",", place):
            place = _skip(text, place + 1)
        elif not text.startswith("]", place):
            raise json.JSONDecodeError("a comma or the end of the list is missing", text, place)
    if _skip(text, place + 1) != len(text):
        raise json.JSONDecodeError("text after the end of the list", text, place + 1)


def _skip(text: str, place: int) -> int:
    """The first place from here on that is not white space."""
    while place < len(text) and text[place] in " \t\r\n":
        place += 1
    return place


def _csv(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    reader = csv.reader(io.StringIO(_decode(path, _bytes(path)), newline=""), strict=True)
    header: list[str] = []
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise UserError(f"{path}:{line}: not valid CSV ({error}): look for an unclosed quote") from None
        if cells is None:
            return
        if cells and not header:
            header = _header(path, line, cells)
        elif cells:
            if len(cells) != len(header):
                raise UserError(f"{path}:{line}: {len(cells)} cells, but the header has {len(header)}")
            yield line, dict(zip(header, cells, strict=True))


def _header(path: Path, line: int, cells: list[str]) -> list[str]:
    twice = sorted({cell for cell in cells if cells.count(cell) > 1})
    if twice:
        raise UserError(f"{path}:{line}: the column '{twice[0]}' is there twice: rename one")
    return cells


def _parquet(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path)
    except pyarrow.ArrowException as error:
        reason = str(error).split("\n", 1)[0]
        raise UserError(f"{path}: not a Parquet file ({reason})") from None
    yield from enumerate(table.to_pylist(), 1)


_READERS: dict[str, Callable[[Path], Iterator[tuple[int, dict[str, Any]]]]] = {
    ".jsonl": _jsonl,
    ".json": _json,
    ".csv": _csv,
    ".parquet": _parquet,
}
