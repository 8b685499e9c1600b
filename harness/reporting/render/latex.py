"""A table as LaTeX (booktabs): the value with its difference as a superscript, interval, coverage and published number
in small type below it.

Needs ``\\usepackage{booktabs,graphicx}`` (a table that is wider than the text is shrunk to it) and UTF-8 input. What
pdflatex cannot write with its own fonts, such as Chinese or ``ą``, stands as ``\\nonlatin{text}{code points}``, which
prints the code points until the document defines it otherwise: the first line of each file says how.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator

from harness.reporting.table import Cell, Row, Table

HEADING_LETTERS, LABEL_LETTERS = 16, 20
PAPER = "paper "
PARTS = ("interval", "coverage", "bounds", "published")
HEAD = r"""% With CJKutf8: \newcommand{\nonlatin}[2]{\begin{CJK*}{UTF8}{gbsn}#1\end{CJK*}}; with xeCJK: {#1}
\providecommand{\nonlatin}[2]{#2}
\begin{table}[tbp]
\centering
\footnotesize
\setlength{\tabcolsep}{4pt}"""
FIT = r"\ifdim\wd0>\linewidth\resizebox{\linewidth}{!}{\usebox0}\else\usebox0\fi"
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
    "\u00a0": "~",
    "–": "--",
    "—": "---",
    "‘": "`",
    "’": "'",
    "“": "``",
    "”": "''",
    "…": r"\dots{}",
    "×": r"$\times$",
    "±": r"$\pm$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "→": r"$\to$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
}
NOT_IN_OT1 = "«»ÐÞðþĄąĐđĘęĦħĮįĸĿŀŉŊŋŦŧŲųſ"
"""Latin letters and quotes that the fonts of a document without ``fontenc`` do not have."""
NON_LATIN = re.compile(rf"(?:[^\u0020-\u007e\u00a0-\u017f–—‘’“”…≤≥→↑↓]|[{NOT_IN_OT1}])+")


def to_latex(table: Table) -> str:
    """The table as a floating environment, ending in a newline."""
    columns = "l" * len(table.groups) + "r" * len(table.headings)
    shared = _shared_coverage(table)
    lines = [
        HEAD,
        rf"\caption{{{escape(table.title)}. {escape(table.caption)}}}",
        rf"\label{{tab:{table.name.replace('_', '-')}}}",
        r"\smallskip",
        rf"\sbox0{{\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        _line(
            [_stacked(title, "l") for title in table.groups] + [_stacked(one.title(), "r") for one in table.headings]
        ),
    ]
    if any(shared):
        lines.append(_line([""] * len(table.groups) + [_small(text) for text in shared]))
    rows = [line for row in table.rows for line in _row(row, shared)]
    notes = [rf"{escape(note)}\par" for note in table.footnotes]
    ends = [r"\bottomrule", r"\end{tabular}}", FIT, "", r"\smallskip", r"\parbox{\linewidth}{\scriptsize\raggedright"]
    return "\n".join([*lines, r"\midrule", *rows, *ends, *notes, "}", r"\end{table}"]) + "\n"


def escape(text: str) -> str:
    """Text as LaTeX on one line, every special character disarmed."""
    return "".join(_escaped(part) for part in _runs(text.replace("\n", " ")))


def _runs(text: str) -> Iterator[str]:
    """The text cut where what pdflatex can write ends or begins."""
    end = 0
    for found in NON_LATIN.finditer(text):
        yield from (text[end : found.start()], found.group())
        end = found.end()
    yield text[end:]


def _escaped(run: str) -> str:
    plain = "".join(ESCAPES.get(char, char) for char in run)
    if not NON_LATIN.fullmatch(run):
        return plain
    points = " ".join(f"U+{ord(char):04X}" for char in run)
    return rf"\nonlatin{{{plain}}}{{{points}}}" if run.isprintable() else rf"\nonlatin{{}}{{{points}}}"


def _shared_coverage(table: Table) -> list[str]:
    """The coverage of each column where all measured cells have the same, to stand in its heading instead."""
    found = []
    for number in range(len(table.headings)):
        texts = {row.cells[number].text.coverage for row in table.rows if row.cells[number].estimate is not None}
        found.append(texts.pop() if len(texts) == 1 else "")
    return found


def _row(row: Row, shared: list[str]) -> list[str]:
    """The value line, then a small line for each part that any of the row's cells has, then a little space.

    A long label goes on over the small lines.
    """
    label = textwrap.wrap(row.heads[0], LABEL_LETTERS) or [""]
    blank = [""] * (len(row.heads) - 1)
    yielded = [_line([escape(label.pop(0)), *(escape(head) for head in row.heads[1:]), *map(_value, row.cells)])]
    for part in PARTS:
        texts = [getattr(cell.text, part) for cell in row.cells]
        if part == "coverage":
            texts = [text if text != known else "" for text, known in zip(texts, shared, strict=True)]
        if not any(texts):
            continue
        head = escape(label.pop(0)) if label else ""
        if part == "published" and not head:
            head, texts = rf"\scriptsize {PAPER.strip()}", [text.removeprefix(PAPER) for text in texts]
        yielded.append(_line([head, *blank, *(_small(text) for text in texts)]))
    yielded += [_line([escape(part), *blank, *[""] * len(row.cells)]) for part in label]
    return [*yielded, r"\addlinespace"]


def _value(cell: Cell) -> str:
    difference = cell.text.difference
    if not difference:
        return escape(cell.text.value)
    number, _, mark = difference.strip("()").partition(" ")
    raised = rf"({number}\ \mathrm{{{mark.replace(' ', chr(92) + ' ')}}})" if mark else f"({number})"
    return rf"{escape(cell.text.value)}$^{{{raised}}}$"


def _small(text: str) -> str:
    """Numbers in brackets go into math mode, where the minus is a minus and no bracket is taken for an option."""
    if not text:
        return ""
    numbers = text.startswith("[") and text[1] in "-0123456789"
    return rf"\scriptsize ${text}$" if numbers else rf"\scriptsize {{}}{escape(text)}"


def _stacked(heading: str, side: str) -> str:
    """A heading over several lines, so that the table fits a page."""
    lines = textwrap.wrap(heading, HEADING_LETTERS, break_long_words=False)
    stack = r" \\ ".join(_first(escape(line)) for line in lines)
    return stack if len(lines) < 2 else rf"\shortstack[{side}]{{{stack}}}"


def _line(cells: list[str]) -> str:
    return _first(" & ".join(cells)) + r" \\"


def _first(text: str) -> str:
    r"""Text behind a line's end, where ``\\`` and booktabs would take a bracket for an option and a star for theirs."""
    return f"{{}}{text}" if text.startswith(("[", "*")) else text
