"""A table as LaTeX (booktabs): the value with its difference as a superscript, interval, coverage and published number
in small type below it. Needs ``\\usepackage{booktabs}`` and a Unicode-aware engine or UTF-8 input, nothing else.
"""

from __future__ import annotations

import textwrap

from harness.reporting.table import Cell, Row, Table

HEADING_LETTERS = 18
ESCAPES = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "–": "--",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
}


def to_latex(table: Table) -> str:
    """The table as a floating environment, ending in a newline."""
    head = [*(escape(group) for group in table.groups), *(heading.title() for heading in table.headings)]
    columns = "l" * len(table.groups) + "r" * len(table.headings)
    lines = [
        r"\begin{table}[tbp]",
        r"\centering",
        r"\small",
        rf"\caption{{{escape(table.title)}. {escape(table.caption)}}}",
        rf"\label{{tab:{table.name.replace('_', '-')}}}",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        _line([*head[: len(table.groups)], *(_stacked(text) for text in head[len(table.groups) :])]),
        r"\midrule",
    ]
    rows = [line for row in table.rows for line in _row(row)]
    notes = [rf"{{\footnotesize {escape(note)}\par}}" for note in table.footnotes]
    ends = [r"\bottomrule", r"\end{tabular}", r"\par\smallskip", *notes, r"\end{table}"]
    return "\n".join([*lines, *rows, *ends]) + "\n"


def escape(text: str) -> str:
    """Text as LaTeX, every special character disarmed."""
    return "".join(ESCAPES.get(char, char) for char in " ".join(text.split()))


def _row(row: Row) -> list[str]:
    """The value line, then a small line for each part that any of the row's cells has, then a little space."""
    lines = [_line([*(escape(head) for head in row.heads), *(_value(cell) for cell in row.cells)])]
    for part in ("interval", "coverage", "bounds", "published"):
        texts = [getattr(cell.text, part) for cell in row.cells]
        if any(texts):
            small = [rf"{{\footnotesize {_small(text)}}}" if text else "" for text in texts]
            lines.append(_line([""] * len(row.heads) + small))
    lines.append(r"\addlinespace")
    return lines


def _value(cell: Cell) -> str:
    difference = cell.text.difference
    if not difference:
        return escape(cell.text.value)
    number, _, mark = difference.strip("()").partition(" ")
    raised = rf"({number}\ \mathrm{{{mark.replace(' ', chr(92) + ' ')}}})" if mark else f"({number})"
    return rf"{escape(cell.text.value)}$^{{{raised}}}$"


def _small(text: str) -> str:
    """Numbers in brackets go into math mode, where the minus is a minus and no bracket is taken for an option."""
    return f"${text}$" if text.startswith("[") and text[1] in "-0123456789" else f"{{}}{escape(text)}"


def _stacked(heading: str) -> str:
    """A heading over several lines, so that the table fits a page."""
    lines = textwrap.wrap(heading, HEADING_LETTERS)
    stack = r" \\ ".join(escape(line) for line in lines)
    return stack if len(lines) < 2 else rf"\shortstack[r]{{{stack}}}"


def _line(cells: list[str]) -> str:
    return " & ".join(cells) + r" \\"
