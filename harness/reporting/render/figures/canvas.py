"""What all pictures share: colours, markers and hatches, fonts, and files that repeat byte for byte.

Colours are Okabe and Ito's, which people with a colour blindness tell apart; markers and hatches tell the same apart in
black and white. Drawn on matplotlib's file canvases, without display, dates or versions of the writer; PDFs hold their
fonts. What no installed font can draw, such as Chinese where no Chinese font is, is written as ``\\u4e2d``.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000")
HATCHES = ("", "////", "....", "xxxx", "----", "oooo", "++++")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h", "*")
INK, SOFT, GRID = "#1c2330", "#5a6475", "#d5dae3"
DPI = 160
WIDTH = 7.0
"""Width of a figure, inches: a page of text."""
LINE = 0.145
"""Height of a line of a label, inches."""
FONTS = (
    "DejaVu Sans", "Noto Sans CJK SC", "Noto Sans SC", "Source Han Sans SC", "WenQuanYi Zen Hei", "WenQuanYi Micro Hei",
    "AR PL UMing CN", "Droid Sans Fallback", "PingFang SC", "Hiragino Sans GB", "Microsoft YaHei", "SimHei",
    "Arial Unicode MS",
)  # fmt: skip


class Pictures(NamedTuple):
    """One figure as files."""

    png: bytes
    pdf: bytes


@contextmanager
def style() -> Iterator[None]:
    """Figures that are made inside look alike; matplotlib's settings are put back afterwards."""
    import matplotlib

    settings: dict[Any, Any] = {
        "font.family": _families(),
        "font.size": 8.5,
        "axes.labelsize": 8.5,
        "axes.titlesize": 9,
        "axes.edgecolor": SOFT,
        "axes.linewidth": 0.7,
        "axes.axisbelow": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "grid.color": GRID,
        "grid.linewidth": 0.6,
        "hatch.linewidth": 0.6,
        "legend.frameon": False,
        "legend.fontsize": 8.5,
        "pdf.fonttype": 42,
        "text.parse_math": False,
        "text.color": INK,
    }
    with matplotlib.rc_context(settings):
        yield


def new_figure(height: float) -> Figure:
    """An empty figure of a page's width, which lays itself out."""
    from matplotlib.figure import Figure

    return Figure(figsize=(WIDTH, height), dpi=DPI, facecolor="white", layout="constrained")


def grid_of(n_panels: int, n_columns: int) -> tuple[int, int]:
    """Rows and columns of a grid of panels; the last row may be part empty."""
    columns = min(n_panels, n_columns)
    return -(-n_panels // columns), columns


def panels_of(figure: Figure, n_panels: int, n_columns: int, *, sharex: bool = False) -> list[Axes]:
    """A grid of panels on one vertical axis, with the surplus ones taken away."""
    rows, columns = grid_of(n_panels, n_columns)
    panels: list[Axes] = list(figure.subplots(rows, columns, squeeze=False, sharex=sharex, sharey=True).flat)
    for panel in panels[n_panels:]:
        panel.remove()
    for panel in panels[n_panels - columns : n_panels]:
        panel.xaxis.set_tick_params(labelbottom=True)
    return panels[:n_panels]


def label(text: str, width: int) -> str:
    """A label that every installed font can draw, folded to a width in letters."""
    return "\n".join(textwrap.wrap(drawable(text), width)) or " "


def drawable(text: str) -> str:
    """The text on one line, with ``\\uXXXX`` for what no installed font holds."""
    known = _glyphs()
    return "".join(
        char if ord(char) in known else char.encode("ascii", "backslashreplace").decode()
        for char in " ".join(text.split())
    )


def row_height(labels: Sequence[str], least: float) -> float:
    """Height of a row, inches, that its label fits in."""
    return max(least, LINE * max(text.count("\n") + 1 for text in labels) + 0.05)


def pictures(figure: Figure) -> Pictures:
    """The figure's files, laid out once for both. Call inside `style`, which the writers read."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    return Pictures(file_bytes(figure, "png"), file_bytes(figure, "pdf"))


def file_bytes(figure: Figure, kind: str) -> bytes:
    """One file without dates or versions of the writer."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    out = io.BytesIO()
    metadata: dict[str, Any] = {"Software": None} if kind == "png" else {"CreationDate": None, "Producer": None}
    figure.savefig(out, format=kind, metadata=metadata)
    return out.getvalue()


def legend_above(figure: Figure, handles: Sequence[Any], labels: Sequence[str]) -> None:
    """A legend over the panels."""
    figure.legend(handles, [drawable(text) for text in labels], loc="outside upper left", ncols=min(4, len(handles)))


@cache
def _families() -> list[str]:
    from matplotlib import font_manager

    installed = set(font_manager.fontManager.get_font_names())
    return [name for name in FONTS if name in installed]


@cache
def _glyphs() -> frozenset[int]:
    from matplotlib import font_manager

    files = [font_manager.findfont(name) for name in _families()]
    return frozenset(code for file in files for code in font_manager.get_font(file).get_charmap())
