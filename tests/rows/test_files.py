"""Rows of files: every kind, and every way in which a file can be broken."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.errors import UserError
from harness.rows import read_rows

ROWS = [
    {"prompt": "a", "n": 1},
    {"prompt": "line one\nline two\u2028and\u0085on", "n": 2},
    {"prompt": "😀 <b>\x00", "n": 3},
]


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8"))
    return path


def jsonl(rows: list[dict[str, Any]]) -> str:
    return "\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n"


@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
def test_jsonl_keeps_every_character_and_counts_lines_from_one(tmp_path: Path, bom: bytes) -> None:
    path = write(tmp_path / "a.jsonl", bom + b"\n" + jsonl(ROWS).encode())
    rows = read_rows(path)
    assert [row.values for row in rows] == ROWS
    assert [row.source for row in rows] == ["a.jsonl:2", "a.jsonl:3", "a.jsonl:4"]


def test_jsonl_with_windows_line_ends(tmp_path: Path) -> None:
    assert len(read_rows(write(tmp_path / "a.jsonl", jsonl(ROWS).replace("\n", "\r\n")))) == 3


@pytest.mark.parametrize("indent", [None, 2])
def test_json_list_names_the_line_where_an_object_starts(tmp_path: Path, indent: int | None) -> None:
    path = write(tmp_path / "a.json", json.dumps(ROWS, indent=indent))
    assert [row.values for row in read_rows(path)] == ROWS
    assert read_rows(path)[1].source == ("a.json:1" if indent is None else "a.json:6")


def test_json_suffix_with_one_object_a_line(tmp_path: Path) -> None:
    assert [row.values for row in read_rows(write(tmp_path / "a.json", jsonl(ROWS)))] == ROWS


def test_csv_with_newlines_quotes_and_a_bom(tmp_path: Path) -> None:
    text = '\ufeffprompt,output\n"two\r\nlines","a ""quoted"" word"\n\nplain,last\n'
    rows = read_rows(write(tmp_path / "a.csv", text))
    assert rows[0].values == {"prompt": "two\r\nlines", "output": 'a "quoted" word'}
    assert [row.source for row in rows] == ["a.csv:2", "a.csv:5"]


def test_parquet(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.Table.from_pylist([{"prompt": "a", "safe": True}, {"prompt": None, "safe": False}])
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    rows = read_rows(tmp_path / "a.parquet")
    assert rows[1] == ("a.parquet:2", {"prompt": None, "safe": False})


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", '{"a": 1}\n{"a": \n', r"a\.jsonl:2: not valid JSON \(.*\): fix or delete the line"),
        ("a.jsonl", '{"a": NaN}\n', r"a\.jsonl:1: not valid JSON \(NaN is no JSON number\)"),
        ("a.jsonl", "[" * 100_000 + "\n", r"a\.jsonl:1: not valid JSON"),
        ("a.jsonl", "[1]\n", r"a\.jsonl:1: an object of columns is needed here, not list"),
        ("a.jsonl", b'{"a": 1}\n{"a": "\xff"}\n', r"a\.jsonl:2: not UTF-8 \(byte 0xff\)"),
        ("a.jsonl", "\ufeff{}".encode("utf-16"), r"a\.jsonl:1: not UTF-8 \(it starts like UTF-16\)"),
        ("a.jsonl", "", r"a\.jsonl: the file holds no rows"),
        ("a.jsonl", "\n \n", r"a\.jsonl: the file holds no rows"),
        ("a.json", "[]", r"a\.json: the file holds no rows"),
        ("a.json", '[{"a": 1},\n{"a": 2}', r"a\.json:2: not valid JSON"),
        ("a.json", '[{"a": 1}\n{"a": 2}]', r"a\.json:2: not valid JSON \(a comma"),
        ("a.json", '[{"a": 1}] x', r"a\.json:1: not valid JSON \(text after"),
        ("a.json", '[{"a": 1},\n3]', r"a\.json:2: an object of columns"),
        ("a.csv", "a,b\n", r"a\.csv: the file holds no rows"),
        ("a.csv", "a,b\n1,2\n1\n", r"a\.csv:3: 1 cells, but the header has 2"),
        ("a.csv", "a,a\n1,2\n", r"a\.csv:1: the column 'a' is there twice"),
        ("a.csv", 'a,b\n1,"2\n3,4\n', r"a\.csv:2: not valid CSV"),
        ("a.csv", b"a,b\n1,2\n\xe9,4\n", r"a\.csv:3: not UTF-8"),
        ("a.parquet", b"no parquet", r"a\.parquet: not a Parquet file"),
        ("a.txt", "x", r"a\.txt: cannot read '\.txt' files: give one of \.jsonl"),
    ],
)
def test_broken_files_are_told_by_line(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        read_rows(write(tmp_path / name, content))
    assert "\n" not in str(error.value)


def test_missing_file_tells_the_nearest_name(tmp_path: Path) -> None:
    write(tmp_path / "prompts_test.jsonl", jsonl(ROWS))
    with pytest.raises(UserError, match=r"prompt_test\.jsonl: no such file; did you mean 'prompts_test\.jsonl'\?"):
        read_rows(tmp_path / "prompt_test.jsonl")
    with pytest.raises(UserError, match="there is no folder"):
        read_rows(tmp_path / "nowhere" / "a.jsonl")
    with pytest.raises(UserError, match="is a folder"):
        read_rows(tmp_path)


ASK_THE_HUB = """
import sys
from harness.errors import UserError
from harness.rows import hub_rows
try:
    hub_rows(sys.argv[1], "test")
except UserError as error:
    print(error)
"""


def asked_of_the_hub(endpoint: str) -> subprocess.CompletedProcess[str]:
    """What a process says that asks a hub at this address for a data set."""
    kept = {name: value for name, value in os.environ.items() if "OFFLINE" not in name and "proxy" not in name.lower()}
    return subprocess.run(
        [sys.executable, "-c", ASK_THE_HUB, "a/b"],
        env={**kept, "HF_ENDPOINT": endpoint}, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip


def test_a_hub_that_is_not_there_is_told_at_once_in_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    began = time.monotonic()
    said = asked_of_the_hub(f"http://127.0.0.1:{port}")
    assert said.stdout == "cannot load 'a/b' (test) from the hub, which cannot be reached: give a file as `data`\n"
    assert said.stderr == ""
    assert time.monotonic() - began < 20  # five retries alone took 23 seconds


def test_a_hub_that_has_no_such_data_set_says_why() -> None:
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:  # answers 501 to whatever it is asked
        threading.Thread(target=server.serve_forever, daemon=True).start()
        said = asked_of_the_hub(f"http://127.0.0.1:{server.server_port}")
        server.shutdown()
    assert re.fullmatch(r"cannot load 'a/b' \(test\) from the hub, \(\w+: .+\): give a file as `data`\n", said.stdout)


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.dictionaries(TEXTS, TEXTS, min_size=1), min_size=1, max_size=5), indent=st.sampled_from([None, 1])
)
def test_any_text_survives_json(tmp_path: Path, rows: list[dict[str, str]], indent: int | None) -> None:
    lines, whole = tmp_path / "p.jsonl", tmp_path / "p.json"
    write(lines, jsonl(rows))
    write(whole, json.dumps(rows, indent=indent, ensure_ascii=False))
    assert [row.values for row in read_rows(lines)] == rows
    assert [row.values for row in read_rows(whole)] == rows


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=5))
def test_any_text_survives_csv(tmp_path: Path, cells: list[tuple[str, str]]) -> None:
    import csv

    with (tmp_path / "p.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows([("a", "b"), *cells])
    assert [tuple(row.values.values()) for row in read_rows(tmp_path / "p.csv")] == cells


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=60), suffix=st.sampled_from([".jsonl", ".json", ".csv"]))
def test_any_bytes_give_rows_or_one_line_of_explanation(tmp_path: Path, content: bytes, suffix: str) -> None:
    path = write(tmp_path / f"p{suffix}", content)
    with suppress(UserError):
        assert read_rows(path)
