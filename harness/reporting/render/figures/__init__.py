"""Figures, one module a kind: a pure function from scores and items to rows, which are drawn and written as CSV."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.reporting.layout import Layout
from harness.reporting.render.figures.shown import Plot, Source
from harness.reporting.table import Skipped


def draw(name: str, layout: Layout, source: Source, include_paths: Sequence[Path] = ()) -> Plot | Skipped:
    """The figure of a layout that makes no table, or why there is none."""
    if layout.kind == "scatter":
        from harness.reporting.render.figures.scatter import scatter_plot

        return scatter_plot(name, layout, source)
    if layout.kind == "categories":
        from harness.reporting.render.figures.categories import categories_plot

        return categories_plot(name, layout, source)
    if layout.kind == "distribution":
        from harness.reporting.render.figures.distribution import distribution_plot

        return distribution_plot(name, layout, source)
    if layout.kind == "seeds":
        from harness.reporting.render.figures.seeds import seeds_plot

        return seeds_plot(name, layout, source)
    from harness.reporting.render.figures.reliability import reliability_plot

    return reliability_plot(name, layout, source, include_paths)
