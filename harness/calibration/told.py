"""Calibrations, drift and agreement as text for people; pure.

A share stands in per cent, a coefficient as it is, each with its interval and how many items it rests on; what is
undefined says why. Text of models and files is printed as it is, never as markup, control characters replaced.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from harness.calibration.drift import AGAIN, Drift, Flip
from harness.calibration.raters import Agreement
from harness.calibration.records import Calibration, Slice
from harness.scores import Comparison, Estimate

WIDTH = 160
NAMES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "precision": "precision",
    "f1": "F1",
    "kappa": "Cohen's kappa",
    "auc": "AUC",
    "spearman": "Spearman",
    "quadratic_kappa": "quadratic kappa",
    "mae": "mean absolute error",
}
PLAIN = ("kappa", "auc", "spearman", "quadratic_kappa", "mae")
"""Measures that are no share of items."""
MOST_FLIPS = 10
LETTERS = 70


def told(calibration: Calibration) -> str:
    """A calibration: what it rests on, the confusion, the measures, and the same by part."""
    c = calibration
    about = f" Positive: {c.positive}." if c.positive is not None else ""
    parts = [
        f"{line(c.judge)} ({c.judge_key[:12]}) by {line(c.labels)} ({c.labels_sha256[:12]})",
        f"{c.n} labelled items in {c.n_clusters} clusters; {c.n_scored} with a usable verdict.{about}",
    ]
    if c.lost:
        lost = ", ".join(f"{count} {what}" for what, count in c.lost.items())
        parts.append(f"Not measured, on neither side: {lost}.")
    if c.served:
        parts.append(f"Judged by what the server calls {', '.join(map(line, c.served))}.")
    parts += [f"{note}." for note in c.notes]
    if c.counts is not None:
        n = c.counts
        rows = [[f"people: {c.positive}", str(n.tp), str(n.fn)], [f"people: {c.negative}", str(n.fp), str(n.tn)]]
        parts.append(text_table("Confusion", ["", f"judge: {c.positive}", f"judge: {c.negative}"], rows))
    rows = [[NAMES[name], show(name, one), basis(one)] for name, one in c.measures.items()]
    parts.append(text_table("Agreement with people", ["measure", "value [95%]", "items, method"], rows))
    if c.slices:
        parts.append(_slices(c.slices))
    return "\n".join(parts)


def _slices(slices: Sequence[Slice]) -> str:
    names = list(slices[0].measures)
    rows = [[one.column, one.value, str(one.n), *(show(name, one.measures[name]) for name in names)] for one in slices]
    return text_table("By part", ["column", "part", "n", *(NAMES[name] for name in names)], rows)


def told_drift(drift: Drift) -> str:
    """Drift: coverage, the paired differences, agreement, and the first outputs that differ."""
    lines = [
        f"{line(drift.first)} → {line(drift.second)}: {drift.n_shared} outputs on both sides, {drift.n_paired} with "
        f"two usable verdicts; only first {drift.only_first}, only second {drift.only_second}."
    ]
    if drift.n_cached:
        lines.append(
            f"Left out, {drift.n_cached} outputs: answered from the cache, so that no new judging happened; {AGAIN}."
        )
    for name, lost in ((drift.first, drift.lost_first), (drift.second, drift.lost_second)):
        if lost:
            lines.append(f"Not measured by {line(name)}: {', '.join(f'{n} {what}' for what, n in lost.items())}.")
    if drift.rate is not None:
        lines.append(f"share of {drift.label}, second - first: {_compared(drift.rate, 100, ' points')}")
    if drift.score is not None:
        lines.append(f"score, second - first: {_compared(drift.score, 1, '')}")
    lines.append(f"{'kappa' if drift.label else 'quadratic kappa'}: {show('kappa', drift.agreement)}; "
                 f"Krippendorff's alpha: {show('kappa', drift.alpha)}")  # fmt: skip
    lines.append(f"{len(drift.flips)} of {drift.n_paired} outputs are judged otherwise.")
    if drift.flips:
        rows = [_flip(flip) for flip in drift.flips[:MOST_FLIPS]]
        title = f"The first {len(rows)}" if len(drift.flips) > len(rows) else "They are"
        lines.append(text_table(title, ["task", "prompt", "answer", "first", "second"], rows))
    return "\n".join(lines)


def told_agreement(found: Agreement) -> str:
    """Raters: every pair, and all together."""
    rows = [
        [f"{one.first} – {one.second}", show("accuracy", one.equal), show("kappa", one.kappa), str(one.kappa.n_scored)]
        for one in found.pairs
    ]
    name = "quadratic kappa" if found.scores else "Cohen's kappa"
    lines = [text_table(f"{len(found.raters)} raters, {found.n_items} items", ["", "equal", name, "items"], rows)]
    if found.fleiss is not None:
        lines.append(f"Fleiss' kappa: {show('kappa', found.fleiss)} ({basis(found.fleiss)})")
    lines.append(f"Krippendorff's alpha: {show('kappa', found.alpha)} ({basis(found.alpha)})")
    return "\n".join(lines)


def show(name: str, estimate: Estimate) -> str:
    """A value with its interval; why there is none."""
    if estimate.value is None:
        return estimate.method if estimate.method.startswith("undefined") else "undefined"
    scale, digits = (1.0, 3) if name in PLAIN else (100.0, 1)
    value = f"{scale * estimate.value:.{digits}f}"
    if estimate.low is None or estimate.high is None:
        return f"{value} [no interval]"
    return f"{value} [{scale * estimate.low:.{digits}f}, {scale * estimate.high:.{digits}f}]"


def basis(estimate: Estimate) -> str:
    """The items behind a value and how its interval was made."""
    method = "" if estimate.method.startswith("undefined") else f", {estimate.method}"
    return f"{estimate.n_scored}/{estimate.n_total}{method}"


def line(text: str) -> str:
    """Text on one line, without control characters."""
    return "".join(char if char.isprintable() else "\ufffd" for char in " ".join(text.split()))


def text_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table as plain text."""
    from io import StringIO

    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    grid = Table(title=Text(title), box=box.SIMPLE, title_justify="left")
    for column in columns:
        grid.add_column(Text(column), overflow="fold")
    for row in rows:
        grid.add_row(*(Text(line(cell)) for cell in row))
    out = StringIO()
    Console(file=out, width=WIDTH, color_system=None, highlight=False).print(grid)
    return "\n".join(one.rstrip() for one in out.getvalue().splitlines() if one.strip())


def _compared(found: Comparison, scale: float, unit: str) -> str:
    if found.difference is None:
        return "not measured"
    ends = "" if found.low is None or found.high is None else f" [{scale * found.low:+.2f}, {scale * found.high:+.2f}]"
    p_value = "" if found.p_value is None else f", p = {found.p_value:.3g} ({found.test})"
    return f"{scale * found.difference:+.2f}{unit}{ends}{p_value}, {found.n_pairs} pairs"


def _flip(flip: Flip) -> list[str]:
    texts = [line(text)[:LETTERS] for text in (flip.prompt, flip.answer)]
    return [flip.task, *texts, _short(flip.first), _short(flip.second)]


def _short(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:g}"
