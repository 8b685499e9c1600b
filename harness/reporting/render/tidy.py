"""A table as tidy CSV: one line a cell, full precision, numbers in the printed unit (the column ``unit`` says which).

An empty field is "not measured" or "no such number"; a published number that exists but is not known to us is ``?``.
"""

from __future__ import annotations

import csv
import io

from harness.reporting.table import UNKNOWN, Cell, Heading, Row, Table

FIELDS = (
    "table", "subject", "label", "metric", "unit", "value", "low", "high", "confidence", "method",
    "n_scored", "n_total", "worst", "best", "n_seeds", "difference", "difference_low", "difference_high",
    "p_value", "p_adjusted", "q_value", "test", "decision", "n_pairs", "published",
)  # fmt: skip


def to_csv(table: Table) -> str:
    """The table as CSV with a header line."""
    out = io.StringIO()
    writer = csv.DictWriter(out, FIELDS, lineterminator="\n", restval="")
    writer.writeheader()
    for row in table.rows:
        for heading, cell in zip(table.headings, row.cells, strict=True):
            writer.writerow(
                {"table": table.name, **_named(row, heading), **_measured(cell, heading), **_other(cell, heading)}
            )
    return out.getvalue()


def _named(row: Row, heading: Heading) -> dict[str, str]:
    unit = "percent" if heading.percent else "plain"
    return {"subject": row.subject, "label": row.name, "metric": heading.metric, "unit": unit}


def _measured(cell: Cell, heading: Heading) -> dict[str, str]:
    estimate = cell.estimate
    if estimate is None:
        return {}
    numbers = {name: _number(getattr(estimate, name), heading) for name in ("value", "low", "high", "worst", "best")}
    counts = {name: str(getattr(estimate, name)) for name in ("n_scored", "n_total", "n_seeds")}
    return {**numbers, **counts, "confidence": f"{estimate.confidence:g}", "method": estimate.method}


def _other(cell: Cell, heading: Heading) -> dict[str, str]:
    fields: dict[str, str] = {}
    if cell.published is not None:
        fields["published"] = UNKNOWN if cell.published.value is None else f"{cell.published.value:.{heading.digits}f}"
    found = cell.difference
    if found is not None:
        fields |= {
            "difference": _number(found.difference, heading),
            "difference_low": _number(found.low, heading),
            "difference_high": _number(found.high, heading),
            **{name: _p_value(getattr(found, name)) for name in ("p_value", "p_adjusted", "q_value")},
            "test": found.test,
            "decision": found.decision,
            "n_pairs": str(found.n_pairs),
        }
    return fields


def _p_value(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def _number(value: float | None, heading: Heading) -> str:
    return "" if value is None else f"{value * 100 if heading.percent else value:.10g}"
