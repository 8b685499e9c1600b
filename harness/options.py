"""Options, arguments and an exit code that several verbs of the command line share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Recipe = Annotated[str, typer.Argument(help="A built-in recipe (see: harness list recipes) or a YAML file.")]
RunDir = Annotated[Path, typer.Argument(help="The run's folder, such as runs/demo.")]
Out = Annotated[Path | None, typer.Option(help="The run's folder [default: runs/<recipe name>].")]
Set = Annotated[list[str] | None, typer.Option("--set", help="field=value on top of the recipe; repeatable.")]
Judging = Annotated[Path | None, typer.Option(help="YAML with the blocks models and judging.")]
Include = Annotated[
    list[Path] | None,
    typer.Option("--include-path", help="Folder with tasks/, judges/, reports/ of yours; its code is run. Repeatable."),
]
Budget = Annotated[
    float | None, typer.Option("--budget-usd", min=0, help="Stop cleanly before the calls cost more than this.")
]
INCOMPLETE = 5
"""Exit code of a start that ended well but leaves judgments owed: a budget, or failed calls."""
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
