"""Tables and their renderers, on a small run written by hand: golden Markdown, LaTeX and CSV, escaping, pictures."""

from __future__ import annotations

import csv
import io
import re
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from rich.console import Console

from harness.deciding.compare import DifferenceRow
from harness.reporting.layout import Column, Layout, PublishedRow, PublishedTable, SubjectFilter
from harness.reporting.render.figures.bars import bars_of, bars_plot
from harness.reporting.render.html import to_html
from harness.reporting.render.latex import escape, to_latex
from harness.reporting.render.markdown import to_markdown
from harness.reporting.render.picture import table_png
from harness.reporting.render.tidy import to_csv
from harness.reporting.table import Skipped, Table, build_table, show_difference, show_p
from harness.reporting.terminal import print_table
from harness.scores import Comparison, ComparisonRow, Estimate, MetricInfo, ScoreRow, Scores, SubjectInfo

LAYOUT = Layout(
    title="Small & table",
    caption="A run by hand.",
    baseline=SubjectFilter(method="vanilla"),
    groups=("label", "mistakes"),
    rows=(SubjectFilter(method="vanilla"), SubjectFilter(method="critique_revise")),
    columns=(
        Column(metric="harmless_rate", unit="percent", digits=1),
        Column(metric="helpful", digits=2),
        Column(metric="absent"),
    ),
    note="Nothing else.",
)
PUBLISHED = PublishedTable(
    setting="a 7B model",
    baseline=SubjectFilter(method="vanilla"),
    rows=(
        PublishedRow(method="vanilla", values={"harmless_rate": 52.5, "helpful": 6.21}),
        PublishedRow(method="critique_revise", mistakes="origin", values={"harmless_rate": 62.6, "helpful": None}),
    ),
)


def estimate(value: float | None, half: float, n_scored: int = 48, method: str = "wilson") -> Estimate:
    low, high = (None, None) if value is None else (value - half, value + half)
    return Estimate(value=value, low=low, high=high, method=method, n_scored=n_scored, n_total=48, worst=0.5, best=0.75)


def small_scores(label: str = "Critique_Revise") -> Scores:
    return Scores(
        run="small",
        subjects=(
            SubjectInfo(name="vanilla", method="vanilla", label="Vanilla", seeds=(0,)),
            SubjectInfo(name="cr", method="critique_revise", label=label, mistakes="origin", seeds=(0,)),
            SubjectInfo(name="cr-self", method="critique_revise", label=label, mistakes="self", seeds=(0,)),
        ),
        metrics=(
            MetricInfo(name="harmless_rate", label="Harmless Rate", task="red", judge="j", kind="rate"),
            MetricInfo(name="helpful", label="Helpful Score", task="t", judge="j", kind="score", bounds=(1, 10)),
        ),
        estimates=(
            ScoreRow(subject="vanilla", metric="harmless_rate", seed=None, estimate=estimate(0.525, 0.1)),
            ScoreRow(subject="vanilla", metric="harmless_rate", seed=0, estimate=estimate(0.9, 0.1)),
            ScoreRow(subject="vanilla", metric="helpful", seed=None, estimate=estimate(6.0, 0.5, method="t")),
            ScoreRow(subject="cr", metric="harmless_rate", seed=None, estimate=estimate(0.6504, 0.1, n_scored=40)),
            ScoreRow(subject="cr", metric="helpful", seed=None, estimate=estimate(5.5, 0.5, method="t")),
            ScoreRow(subject="cr-self", metric="harmless_rate", seed=None, estimate=estimate(None, 0, n_scored=0)),
        ),
        comparisons=(
            ComparisonRow(
                subject="cr",
                baseline="vanilla",
                metric="harmless_rate",
                comparison=Comparison(
                    difference=0.1254,
                    low=0.05,
                    high=0.2,
                    p_value=0.004,
                    p_adjusted=0.008,
                    test="exact McNemar",
                    n_pairs=40,
                ),
            ),
            ComparisonRow(
                subject="cr",
                baseline="vanilla",
                metric="helpful",
                comparison=Comparison(difference=-0.5, low=-1.2, high=0.2, p_value=0.2, test="sign-flip", n_pairs=48),
            ),
        ),
    )


@pytest.fixture
def table() -> Table:
    found = build_table("small_table", LAYOUT, small_scores(), PUBLISHED, "A Paper")
    assert isinstance(found, Table)
    return found


MARKDOWN = """\
## Small & table

A run by hand.

| Method | Mistake source | Harmless Rate (%) ↑ | Helpful Score ↑ |
| --- | --- | --: | --: |
| Vanilla | – | 52.5 [42.5, 62.5] n=48/48; paper 52.5 | 6.00 [5.50, 6.50] n=48/48; paper 6.21 |
| Critique\\_Revise | Origin | 65.0 [55.0, 75.0] (+12.5\\*) n=40/48 worst–best 50.0–75.0; paper 62.6 (+10.1) | \
5.50 [5.00, 6.00] (-0.50 n.s.) n=48/48; paper ? |
| Critique\\_Revise | Own | not measured n=0/48 | – |

"""
LATEX = r"""\toprule
Method & Mistake source & \shortstack[r]{Harmless Rate \\ (\%)~$\uparrow$} & Helpful Score~$\uparrow$ \\
 &  &  & \scriptsize {}n=48/48 \\
\midrule
Vanilla & -- & 52.5 & 6.00 \\
 &  & \scriptsize $[42.5, 62.5]$ & \scriptsize $[5.50, 6.50]$ \\
 &  & \scriptsize {}n=48/48 &  \\
\scriptsize paper &  & \scriptsize {}52.5 & \scriptsize {}6.21 \\
\addlinespace
Critique\_Revise & Origin & 65.0$^{(+12.5*)}$ & 5.50$^{(-0.50\ \mathrm{n.s.})}$ \\
 &  & \scriptsize $[55.0, 75.0]$ & \scriptsize $[5.00, 6.00]$ \\
 &  & \scriptsize {}n=40/48 &  \\
 &  & \scriptsize {}worst--best 50.0--75.0 &  \\
\scriptsize paper &  & \scriptsize {}62.6 (+10.1) & \scriptsize {}? \\
\addlinespace
Critique\_Revise & Own & not measured & -- \\
 &  & \scriptsize {}n=0/48 &  \\
\addlinespace
\bottomrule
"""
CSV_LINES = [
    "small_table,vanilla,Vanilla,harmless_rate,percent,52.5,42.5,62.5,0.95,wilson,48,48,50,75,1,,,,,,,,,,52.5",
    "small_table,vanilla,Vanilla,helpful,plain,6,5.5,6.5,0.95,t,48,48,0.5,0.75,1,,,,,,,,,,6.21",
    "small_table,cr,Critique_Revise (origin mistakes),harmless_rate,percent,65.04,55.04,75.04,0.95,wilson,40,48,50,75,1,"
    "12.54,5,20,0.004,0.008,0.008,exact McNemar,higher,40,62.6",
    "small_table,cr,Critique_Revise (origin mistakes),helpful,plain,5.5,5,6,0.95,t,48,48,0.5,0.75,1,"
    "-0.5,-1.2,0.2,0.2,0.2,0.2,sign-flip,no difference,48,?",
    "small_table,cr-self,Critique_Revise (own mistakes),harmless_rate,percent,,,,0.95,wilson,0,48,50,75,1,,,,,,,,,,",
    "small_table,cr-self,Critique_Revise (own mistakes),helpful,plain,,,,,,,,,,,,,,,,,,,,",
]


def test_markdown_is_golden(table: Table) -> None:
    text = to_markdown(table)
    assert text.startswith(MARKDOWN)
    assert "- ?: the published number is unknown to us.\n" in text
    assert "n.s.: the interval of that difference includes zero; *: ".replace("*", "\\*") in text
    assert text.endswith("- Nothing else.\n")


def test_latex_is_golden(table: Table) -> None:
    assert LATEX in to_latex(table)


def test_latex_is_well_formed(table: Table) -> None:
    text = to_latex(table)
    bare = re.sub(r"\\[\\{}$&%#_]", "", text)
    assert bare.count("{") == bare.count("}")
    assert bare.count("$") % 2 == 0
    begun, ended = re.findall(r"\\begin\{(\w+)\}", text), re.findall(r"\\end\{(\w+)\}", text)
    assert begun == ended[::-1]
    rows = [line for line in text.splitlines() if line.endswith(r" \\")]
    assert rows
    assert {len(re.findall(r"(?<!\\)&", line)) for line in rows} == {3}


def test_latex_disarms_every_special_character() -> None:
    assert escape(r"a_b & 5% $x$ #1 {y} ~ ^ \z <|>") == (
        r"a\_b \& 5\% \$x\$ \#1 \{y\} \textasciitilde{} \textasciicircum{} \textbackslash{}z "
        r"\textless{}\textbar{}\textgreater{}"
    )


def test_csv_is_golden_and_tidy(table: Table) -> None:
    text = to_csv(table)
    assert text.splitlines()[1:] == CSV_LINES
    rows = list(csv.DictReader(io.StringIO(text)))
    assert rows[3]["published"] == "?"
    assert rows[4]["value"] == ""


def test_html_is_escaped() -> None:
    found = build_table("small", LAYOUT, small_scores("<script>alert(1)</script>"))
    assert isinstance(found, Table)
    text = to_html(found)
    assert "<script>" not in text
    assert "&lt;script&gt;" in text
    assert "Small &amp; table" in text


def test_markdown_and_terminal_take_labels_as_text() -> None:
    found = build_table("small", LAYOUT, small_scores("[bold]a|b[/bold]"))
    assert isinstance(found, Table)
    assert "\\[bold\\]a\\|b\\[/bold\\]" in to_markdown(found)
    console = Console(width=120, record=True, file=io.StringIO())
    print_table(found, console)
    shown = console.export_text()
    assert "[bold]a|b[/bold]" in shown
    assert "(-0.50 n.s.)" in shown


def size_of(png: bytes) -> tuple[int, int]:
    assert png.startswith(b"\x89PNG")
    width, height = struct.unpack(">II", png[16:24])
    return width, height


def test_pictures_have_a_sane_size_and_repeat(table: Table) -> None:
    png = table_png(table)
    width, height = size_of(png)
    assert 800 < width < 3000
    assert 400 < height < 2000
    assert png == table_png(table)
    figure = bars_plot(table)
    assert size_of(figure.png)[0] >= 900
    assert figure.pdf.startswith(b"%PDF")
    assert b"CreationDate" not in figure.pdf
    assert figure == bars_plot(table)
    assert [(bar.subject, bar.metric, bar.value, bar.low) for bar in bars_of(table)][2:] == [
        ("cr", "harmless_rate", pytest.approx(65.04), pytest.approx(55.04)),
        ("cr", "helpful", 5.5, 5.0),
    ], "the cell that was not measured has no bar"


def test_the_comparisons_of_a_table_are_one_family() -> None:
    whole = build_table("small", LAYOUT, small_scores())
    alone = build_table("small", LAYOUT.model_copy(update={"columns": LAYOUT.columns[:1]}), small_scores())
    assert isinstance(whole, Table)
    assert isinstance(alone, Table)
    assert [table.rows[1].cells[0].difference.p_adjusted for table in (whole, alone)] == [0.008, 0.004]  # type: ignore[union-attr]
    assert "over the 2 comparisons of this table" in whole.footnotes[1]
    assert "over the 1 comparisons of this table" in alone.footnotes[1]
    doubled = build_table("small", LAYOUT.model_copy(update={"columns": LAYOUT.columns[:1] * 2}), small_scores())
    assert isinstance(doubled, Table)
    assert [cell.difference.p_adjusted for cell in doubled.rows[1].cells] == [0.004, 0.004]  # type: ignore[union-attr]


def test_a_star_needs_holm_and_an_interval_without_zero() -> None:
    scores = small_scores()
    weak = scores.comparisons[0].comparison.model_copy(update={"p_value": 0.03})
    rows = (scores.comparisons[0].model_copy(update={"comparison": weak}), scores.comparisons[1])
    found = build_table("small", LAYOUT, scores.model_copy(update={"comparisons": rows}))
    assert isinstance(found, Table)
    assert [cell.text.difference for cell in found.rows[1].cells] == ["(+12.5)", "(-0.50 n.s.)"]


def test_a_star_stands_at_five_per_cent_itself_as_in_a_comparison() -> None:
    scores = small_scores()
    edge = scores.comparisons[0].comparison.model_copy(update={"p_value": 0.05})
    alone = scores.model_copy(update={"comparisons": (scores.comparisons[0].model_copy(update={"comparison": edge}),)})
    found = build_table("small", LAYOUT, alone)
    assert isinstance(found, Table)
    assert found.rows[1].cells[0].text.difference == "(+12.5*)"
    row = DifferenceRow(
        metric="m", first="a", second="b", comparison=found.rows[1].cells[0].difference, outcome="better"
    )
    assert row.holds


LABELS = [
    "a_b & 5% $x$ #1 {y} ~ ^ \\z <|>",
    "错误分析 (Chinese)",
    "Łódź naïve “quoted” … ≥",
    "zero\u200bwidth \u202eright",
    "😀 π",
    "[new] SFT",
    "*starred",
    "a label of twenty letters [new] and *more",
]


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
def test_latex_compiles_whatever_the_labels_are_and_fits_the_page(tmp_path: Path) -> None:
    for number, label in enumerate(LABELS):
        found = build_table(f"t{number}", LAYOUT, small_scores(label * 2), PUBLISHED, "A Paper")
        assert isinstance(found, Table)
        wide = found._replace(
            title=label,
            headings=found.headings * 4,
            rows=tuple(row._replace(cells=row.cells * 4) for row in found.rows),
        )
        (tmp_path / f"t{number}.tex").write_text(to_latex(wide), encoding="utf-8")
    inputs = "".join(rf"\input{{t{number}}}" for number in range(len(LABELS)))
    document = rf"\documentclass{{article}}\usepackage{{booktabs,graphicx}}\begin{{document}}{inputs}\end{{document}}"
    (tmp_path / "all.tex").write_text(document)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout.decode("utf-8", "replace")[-2000:]
    assert b"Overfull" not in done.stdout


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
def test_every_latin_letter_compiles_with_the_packages_that_the_table_asks_for(tmp_path: Path) -> None:
    """U+00A0 to U+017F and control characters, each alone, in the encoding that LaTeX has when nothing is said."""
    codes = [*range(0x20), *range(0x7F, 0x180)]
    lines = "\n".join(rf"\typeout{{at {code:04X}}}\setbox0\hbox{{a{escape(chr(code))}b}}" for code in codes)
    (tmp_path / "t.tex").write_text(
        rf"\documentclass{{article}}\usepackage{{booktabs,graphicx}}\providecommand{{\nonlatin}}[2]{{#2}}"
        rf"\begin{{document}}{lines} x\end{{document}}",
        encoding="utf-8",
    )
    command = ["pdflatex", "-interaction=nonstopmode", "t.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False, timeout=120)
    told = done.stdout.decode("utf-8", "replace")
    assert re.findall(r"at ([0-9A-F]{4})\s+!", told) == []
    assert "Missing character" not in told
    assert done.returncode == 0


def test_latex_prints_the_letters_that_its_fonts_have() -> None:
    assert escape("naïve Łódź ß ñ ő ž") == "naïve Łódź ß ñ ő ž"
    assert escape("naïve ąę") == r"naïve \nonlatin{ąę}{U+0105 U+0119}"
    assert escape("«ja»") == r"\nonlatin{«}{U+00AB}ja\nonlatin{»}{U+00BB}"


@pytest.mark.parametrize("label", ["[new] SFT", "*new SFT", "twenty letters a line [new] and *more, *and more"])
def test_a_bracket_or_a_star_at_the_start_of_a_row_is_printed(tmp_path: Path, label: str) -> None:
    """LaTeX would take it for the option of the line's end before it."""
    found = build_table("t", LAYOUT, small_scores(label))
    assert isinstance(found, Table)
    found = found._replace(
        groups=(label, *found.groups[1:]),
        headings=tuple(heading._replace(label=label) for heading in found.headings),
    )
    text = to_latex(found)
    assert not re.search(r"(\\\\|\\(addlinespace|midrule|toprule))\s*[\[*]", text)
    if shutil.which("pdflatex") is None or shutil.which("pdftotext") is None:
        return
    (tmp_path / "t.tex").write_text(
        rf"\documentclass{{article}}\usepackage{{booktabs,graphicx}}\begin{{document}}{text}\end{{document}}"
    )
    for command in (["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"], ["pdftotext", "t.pdf"]):
        subprocess.run(command, cwd=tmp_path, capture_output=True, check=True, timeout=120)
    printed = (tmp_path / "t.txt").read_text()
    start = label.split(" ")[0]
    assert printed.count(start) >= 2 + 1 + len(found.headings), "two rows, the group and the metrics"
    assert printed.count("[new]") == label.count("[new]") * (2 + 1 + len(found.headings))


def test_what_the_run_lacks_is_left_out_or_skipped(table: Table) -> None:
    assert [heading.metric for heading in table.headings] == ["harmless_rate", "helpful"]
    lonely = LAYOUT.model_copy(update={"rows": (SubjectFilter(method="rlhf"),)})
    assert build_table("x", lonely, small_scores()) == Skipped("x", "none of its subjects is in the run")
    blind = LAYOUT.model_copy(update={"columns": (Column(metric="absent"),)})
    assert build_table("x", blind, small_scores()) == Skipped("x", "none of its metrics was measured (absent)")


def test_rows_that_look_alike_get_their_names() -> None:
    plain = LAYOUT.model_copy(update={"groups": ("label",)})
    found = build_table("x", plain, small_scores())
    assert isinstance(found, Table)
    assert [row.heads[0] for row in found.rows] == [
        "Vanilla",
        "Critique_Revise (origin mistakes)",
        "Critique_Revise (own mistakes)",
    ]


def test_small_numbers_keep_their_sign_and_p_values_their_digits(table: Table) -> None:
    tiny = Comparison(difference=-0.0001, low=-0.1, high=0.1, n_pairs=3)
    assert show_difference(tiny, table.headings[0]) == "(+0.0 n.s.)"
    assert [show_p(p) for p in (0.0004, 0.25, None)] == ["p < 0.001", "p = 0.250", "no p value"]
    unsure = Comparison(difference=0.1, n_pairs=1)
    assert show_difference(unsure, table.headings[0]) == "(+10.0 no interval)"
