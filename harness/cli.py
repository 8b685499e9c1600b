"""The command line: one verb a job, each a few lines over the stages.

Results go to standard output, progress and errors to standard error. Exit codes: 0 done, 1 bad input (one line says
what and how to mend it), 3 and 4 a gate that fails or cannot tell, 5 judgments are still owed (a budget was used up, or
calls failed), 130 interrupted. ``--json`` prints one JSON document instead of text, of an error too. Heavy libraries
are imported inside the verbs, so that ``--help`` answers at once.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from harness import __version__, decision_verbs, gate_verb, judge_verbs, look_verbs, run_verbs, train_verbs
from harness.errors import UserError
from harness.options import Json

INTERRUPTED = 130

app = typer.Typer(
    name="harness",
    help="Train aligned models, score them, and print the tables of a paper with their error bars.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
microworld_app = typer.Typer(help="The embedded world: rebuild its models.", no_args_is_help=True)
app.add_typer(microworld_app, name="microworld")


@microworld_app.command()
def pretrain(
    seed: Annotated[int, typer.Argument(help="Of initialisation and corpus; 0 to 4 rebuild the shipped bases.")],
    out: Annotated[Path, typer.Option(help="Folder of the new base.")],
    steps: Annotated[int | None, typer.Option(help="Optimiser steps [default: the shipped bases' number].")] = None,
    threads: Annotated[int, typer.Option(help="Threads; the result is bit-identical for the same number.")] = 1,
    as_json: Json = False,
) -> None:
    """Pretrain a base of the vale from nothing, and say whether it passes its gate."""
    from harness.microworld import pretrain as module

    total = steps or module.DEFAULT_STEPS

    def tell(step: int, loss: float) -> None:
        if step % 50 == 0 or step == total:
            print(f"step {step}/{total}, loss {loss:.3f}", file=sys.stderr, flush=True)

    report = module.pretrain(seed, out, total, threads=threads, progress=tell)
    print(json.dumps({"base": str(out), **report._asdict()}, indent=1) if as_json else report.text())


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        print(__version__)
        raise typer.Exit()


for verbs in (run_verbs, look_verbs, train_verbs, decision_verbs, gate_verb, judge_verbs):
    verbs.register(app)


def main() -> None:
    """The entry point: user errors in one line and exit code 1."""
    try:
        app()
    except UserError as error:
        print(f"harness: {error}", file=sys.stderr)
        if "--json" in sys.argv:
            print(json.dumps({"error": str(error)}))
        sys.exit(1)
    except SystemExit as left:
        if left.code == INTERRUPTED:  # typer turns Ctrl-C into it
            print("harness: interrupted; the same command resumes", file=sys.stderr)
        raise
