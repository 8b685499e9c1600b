"""The verb that decides whether a candidate may replace a baseline. Registered by `harness.cli`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from harness.options import Include, Json

EXIT_CODES = {"pass": 0, "fail": 3, "inconclusive": 4}

Format = Literal["text", "markdown", "junit", "sarif", "github", "json"]


def gate(
    candidate: Annotated[str, typer.Argument(help="runs/x (a run of one subject) or runs/x:subject.")],
    baseline: Annotated[str, typer.Option(help="What it is compared with, named alike.")],
    policy: Annotated[str, typer.Option(help="The rules: a YAML file, or a built-in policy by name.")],
    format_: Annotated[Format, typer.Option("--format", help="How it is told.")] = "text",
    out: Annotated[Path | None, typer.Option(help="File for that format; the text is printed all the same.")] = None,
    include_path: Include = None,
    as_json: Json = False,
) -> None:
    """Say whether a candidate may replace a baseline: exit code 0 it may, 3 it may not, 4 that is not shown."""
    import gc

    from harness.deciding import gate_ci, gate_text
    from harness.deciding.gate import gate
    from harness.deciding.policy import load_policy
    from harness.deciding.sides import open_sides
    from harness.reporting.files import write_whole

    formats = {
        "text": gate_text.to_text,
        "markdown": gate_text.to_markdown,
        "junit": gate_ci.to_junit,
        "sarif": gate_ci.to_sarif,
        "github": gate_ci.to_github,
        "json": gate_text.to_json,
    }
    rules = load_policy(policy)
    first, second = open_sides([candidate, baseline], include_path or [])
    gc.freeze()  # statsmodels collects garbage at every correction, each time going through all that was loaded
    found = gate(rules, first, second, include_path or [])
    if out is not None:
        write_whole(out, formats[format_](found).encode("utf-8", "replace"))
        print(out, file=sys.stderr)
    shown = "json" if as_json else format_ if out is None else "text"
    print(formats[shown](found).rstrip("\n"))
    raise typer.Exit(EXIT_CODES[found.decision])


def register(app: typer.Typer) -> None:
    """Adds the verb to the command line."""
    app.command()(gate)
