"""Reading rows of real data.

Reads: JSONL, JSON, CSV and Parquet files (`read_rows`) and public hub data sets (`hub_rows`). The typed readers
recognise columns by name and turn them into `AlignmentRow`s. Each answers ``(rows, dropped)``: what was kept, in file
order, and how many rows fell to each rule; a row is never lost in silence. Text is passed on as it is, markup, emoji
and control characters included; only lone surrogates, which no UTF-8 file can hold, are replaced, and counted.
A broken line, a wrong column or a value of the wrong type is a `UserError` that names file and line.
"""

from harness.rows.files import Row, hub_rows, read_rows
from harness.rows.readers import (
    AlignmentRow,
    ReadResult,
    hijack_prompts,
    instructions,
    judged_responses,
    preference_pairs,
    prompts,
)

__all__ = [
    "AlignmentRow",
    "ReadResult",
    "Row",
    "hijack_prompts",
    "hub_rows",
    "instructions",
    "judged_responses",
    "preference_pairs",
    "prompts",
    "read_rows",
]
