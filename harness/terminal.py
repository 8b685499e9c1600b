"""What people see on the terminal: a run's state, its forecast, its tables and claims. Writes to standard output."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.scores import Scores
from harness.store import Run

PLAIN_WIDTH = 160
"""Characters a line where the output goes to a file or a log."""


def _console() -> Any:
    from rich.console import Console

    return Console(highlight=False) if sys.stdout.isatty() else Console(highlight=False, width=PLAIN_WIDTH)


def _table(title: str, columns: Sequence[str]) -> Any:
    from rich import box
    from rich.table import Table

    table = Table(title=title, box=box.SIMPLE, title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def print_status(state: dict[str, Any]) -> None:
    """A run's state: training, answers by outcome, verdicts by outcome, what is missing."""
    console = _console()
    training = _table(f"{state['run']} ({state['path']}): training", ["subject", "data made", "trained", "steps"])
    for row in state["training"]:
        made, trained = (f"{row[count]}/{row['planned']}" for count in ("data_made", "trained"))
        training.add_row(row["subject"], made, trained, str(row["steps"]))
    answers = _table("Answers", ["subject", "task", "answered", "outcomes", "verdicts"])
    clean = [row for row in state["answers"] if _clean(row)]
    for row in (row for row in state["answers"] if not _clean(row)):
        verdicts = f"{row['judged']}/{row['verdicts_planned']} {_counts(row['verdicts'])}"
        truncated = f", {row['prompts_truncated']} prompts cut to fit" if row["prompts_truncated"] else ""
        answers.add_row(
            row["subject"], row["task"], f"{row['answered']}/{row['planned']}", _counts(row["outcomes"]) + truncated,
            verdicts if row["verdicts_planned"] else "–",
        )  # fmt: skip
    if state["training"]:
        console.print(training)
    if len(clean) < len(state["answers"]):
        console.print(answers)
    console.print(_whole(clean, state["answers"]))
    _print_reasons(console, state)
    for name, count in state["torn_lines"].items():
        console.print(f"{name}: {count} torn lines (a process ended while writing; their records are owed again)")
    missing = sum(row["planned"] - row["answered"] for row in state["answers"])
    unjudged = sum(row["verdicts_owed"] for row in state["answers"])
    owed = f"Owed: {missing} answers, {unjudged} verdicts; the same command resumes."
    console.print("Nothing is owed." if state["complete"] else owed)


def _whole(clean: Sequence[dict[str, Any]], cells: Sequence[dict[str, Any]]) -> str:
    """In how many cells nothing was lost, and how many of all answers those hold."""
    n_answered = sum(row["answered"] for row in cells)
    if not clean:
        n_planned = sum(row["planned"] for row in cells)
        return (
            f"None of the {len(cells)} cells (subject × task) is whole; {n_answered} of {n_planned} answers are there."
        )
    n_clean = sum(row["answered"] for row in clean)
    return (
        f"{len(clean)} of {len(cells)} cells (subject × task) are whole, with no answer empty, cut short or unjudged; "
        f"they hold {n_clean} of the {n_answered} answers."
    )


def _print_reasons(console: Any, state: dict[str, Any]) -> None:
    """Why judgments are no verdicts, and what was spent."""
    if state["reasons"]:
        table = _table("Judgments that are no verdict, and why", ["judge", "outcome", "count", "reason"])
        for row in state["reasons"]:
            table.add_row(row["judge"], row["outcome"], str(row["count"]), _plain(row["reason"]))
        console.print(table)
    if state["spent"]:
        table = _table(
            "Asked of models", ["role", "calls", "from the cache", "failed", "input tokens", "output tokens", "USD"]
        )
        for role, spent in state["spent"].items():
            more = "" if not spent["n_unknown_cost"] else f" and {spent['n_unknown_cost']} calls of unknown cost"
            numbers = (spent[name] for name in ("n_calls", "n_stored", "n_errors", "input_tokens", "output_tokens"))
            table.add_row(role, *map(str, numbers), f"{spent['cost_usd']:.2f}{more}")
        console.print(table)


def _plain(text: str) -> Any:
    """A text that may hold a model's words: never read as markup."""
    from rich.text import Text

    return Text(text)


def _clean(row: dict[str, Any]) -> bool:
    """Whether a subject and task needs no word: everything answered, judged and measured."""
    answered = row["outcomes"] == {"ok": row["planned"]} and not row["prompts_truncated"]
    return answered and row["verdicts"].get("ok", 0) == row["verdicts_planned"]


def print_forecast(found: dict[str, Any]) -> None:
    """What a run would do, and what it could detect."""
    console = _console()
    calls, n_steps = found["calls"], found["training_steps"]
    steps = "as many training steps as its tokens are" if n_steps is None else f"{n_steps} training steps"
    console.print(f"{found['run']}: {len(found['subjects'])} subjects × {len(found['seeds'])} seeds")
    console.print(
        f"at most {calls['preparing']} questions to make training data, {steps}, "
        f"{calls['answers']} answers, {calls['verdicts']} verdicts"
    )
    _print_costs(console, found)
    table = _table(
        "Smallest differences that one seed's items can show (80% power, 5% two-sided)",
        ["task", "items", "clusters", "rate, paired, 20% differing", "rate, unpaired, near 50%", "score, paired, SD 3"],
    )
    for row in found["tasks"]:
        table.add_row(
            row["task"], str(row["n_items"]), str(row["n_clusters"]),
            f"{100 * row['detectable_rate_difference']:.1f} points",
            f"{100 * row['detectable_unpaired_rate_difference']:.1f} points",
            f"{row['detectable_score_difference']:.2f}",
        )  # fmt: skip
    console.print(table)
    needed = found["items_for_five_points"]
    console.print(f"Five points take {needed['paired']} such items, {needed['unpaired']} on each side if unpaired.")
    console.print("Items that share a cluster carry less; differences between trainings also vary from seed to seed.")
    for subject, dropped in found["dropped"].items():
        console.print(f"dropped from {subject}'s data: {_counts(dropped)}")
    for caveat in found["caveats"]:
        console.print(caveat)


def print_bill(found: dict[str, Any]) -> None:
    """What judging the answers that a run holds would cost."""
    console = _console()
    console.print(
        f"{found['run']}: {found['answers']} answers are there, {found['calls']['verdicts']} verdicts of judges that "
        "ask models are owed"
    )
    if found["unanswered"]:
        console.print(f"{found['unanswered']} answers are still to come and are not in the bill")
    _print_costs(console, found)
    if found["spent_usd"]:
        console.print(f"Spent so far: {found['spent_usd']:.2f} USD, which --budget-usd counts too.")
    for caveat in found["caveats"]:
        console.print(caveat)


def show_bill(
    target: Any, judging: Path | None, set_: list[str] | None, includes: list[Path], as_json: bool
) -> None:  # fmt: skip
    """Says what judging a run's stored answers would cost."""
    from harness.recipe import rejudged
    from harness.stages.bill import forecast_judging
    from harness.stages.plan import stored_config

    found = forecast_judging(target, rejudged(stored_config(target, includes), judging, set_ or []), includes)
    print(json.dumps(found, indent=1)) if as_json else print_bill(found)


def _print_costs(console: Any, found: dict[str, Any]) -> None:
    """What is asked of servers and what it costs, by role, as low–high with the middle in between."""
    if not found["paid"]:
        console.print("cost 0.00 USD: no server is asked")
        return
    columns = ["role", "model", "calls", "input tokens", "output tokens", "USD (low – expected – high)", "price"]
    stored = sum(row.get("stored", 0) for row in found["paid"])
    cached = f"{stored} more are in the cache" if "stored" in found["paid"][0] else "if nothing is in the cache yet"
    table = _table(f"Asked of servers, {cached}", columns)
    for row in found["paid"]:
        table.add_row(
            row["role"], row["model"], str(row["calls"]), _range(row["input_tokens"]), _range(row["output_tokens"]),
            _usd(row["cost_usd"]), row["price"] or "not known: give models.NAME.price",
        )  # fmt: skip
    console.print(table)
    console.print(f"Together {_usd(found['cost_usd'])} USD; --budget-usd stops before a limit is passed.")


def _range(numbers: Sequence[int]) -> str:
    low, _, high = (f"{number / 1000:.0f}k" if number >= 10_000 else str(number) for number in numbers)
    return f"{low} – {high}"


def _usd(numbers: Sequence[float] | None) -> str:
    return "not known" if numbers is None else " – ".join(f"{number:.2f}" for number in numbers)


def print_report(run: Run, scores: Scores, include_paths: Sequence[Path]) -> None:
    """The tables, the claims, and where the report is."""
    from harness.reporting.terminal import print_scores

    print_scores(run, scores, include_paths)


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())
