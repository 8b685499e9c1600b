"""The verbs that decide: compare runs, sweep over checkpoints. Registered by `harness.cli`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from harness.options import Include, Json

Metrics = Annotated[list[str] | None, typer.Option("--metric", help="A metric [default: all]; repeatable.")]
Allow = Annotated[
    list[str] | None,
    typer.Option(help="Compare all the same though this differs: judge, prompt, decoding or task; repeatable."),
]


def compare(
    runs: Annotated[list[str], typer.Argument(help="Two or more of runs/x (a run of one subject) or runs/x:subject.")],
    metric: Metrics = None,
    allow: Allow = None,
    format_: Annotated[
        Literal["text", "markdown", "csv", "html"], typer.Option("--format", help="How it is printed.")
    ] = "text",
    out: Annotated[Path | None, typer.Option(help="Folder for all formats and every flipped item.")] = None,
    include_path: Include = None,
    as_json: Json = False,
) -> None:
    """Compare runs or subjects, paired item by item: differences, adjusted p, flipped items, tied sets."""
    import gc

    from harness.deciding import compare_text
    from harness.deciding.compare import compare
    from harness.deciding.sides import open_sides

    formats = {
        "text": compare_text.to_text,
        "markdown": compare_text.to_markdown,
        "csv": compare_text.to_csv,
        "html": compare_text.to_html,
    }
    sides = open_sides(runs, include_path or [])
    gc.freeze()  # statsmodels collects garbage at every correction, each time going through all that was loaded
    found = compare(sides, metric or (), allow or ())
    if out is not None:
        _tell_files(compare_text.write_files(found, out))
    print((compare_text.to_json if as_json else formats[format_])(found).rstrip("\n"))


def sweep(
    runs: Annotated[
        list[str],
        typer.Argument(
            help="Checkpoints of one training: runs/x (all its subjects) or runs/x:subject, with @200 for a step."
        ),
    ],
    metric: Annotated[str | None, typer.Option(help="The metric.")] = None,
    allow: Allow = None,
    seed: Annotated[int, typer.Option(help="Of the split into a dev and a test half.")] = 0,
    out: Annotated[Path, typer.Option(help="Folder of the picture and the table.")] = Path("sweeps"),
    include_path: Include = None,
    as_json: Json = False,
) -> None:
    """Draw a metric over checkpoints with intervals; choose the best on one half of the items, report on the other."""
    from harness.deciding import sweep_text
    from harness.deciding.sweep import open_sweep, sweep

    found = sweep(open_sweep(runs, include_path or []), metric, allow or (), seed=seed)
    _tell_files(sweep_text.write_files(found, out))
    print(sweep_text.to_json(found) if as_json else sweep_text.to_text(found))


def _tell_files(files: list[Path]) -> None:
    for file in files:
        print(file, file=sys.stderr)


def register(app: typer.Typer) -> None:
    """Adds the verbs to the command line."""
    for verb in (compare, sweep):
        app.command()(verb)
