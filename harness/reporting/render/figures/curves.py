"""Training curves: every seed's values a step, and their mean; a panel a quantity, or a panel a subject.

Reads `Curves`. A subject whose training measured more than its loss has a figure of its own, with what belongs together
side by side (reward, KL and length of RLHF, and cost and λ of a constrained one); the losses of all others share one.
The CSV holds every value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from harness.reporting.render.figures.canvas import (
    COLOURS,
    INK,
    grid_of,
    label,
    legend_above,
    new_figure,
    pictures,
    style,
)
from harness.reporting.render.figures.shown import Plot, csv_of
from harness.reporting.training_page import Curves

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS, PANEL_HEIGHT, LETTERS = 3, 1.75, 34
POLICY_QUANTITIES = {
    "reward": "Reward (learnt)",
    "cost": "Cost (learnt, harmful above 0)",
    "lambda": "Multiplier λ of the cost",
    "kl": "KL from the base (nats a token)",
    "length": "Answer length (tokens)",
    "reward_model_loss": "Reward model: loss",
    "reward_model_accuracy": "Reward model: pairs right",
    "cost_model_loss": "Cost model: loss",
}
QUANTITIES = {
    "loss": "Loss",
    "dev_loss": "Loss on the held-out share (by measurement)",
    "margin": "Reward margin, good over bad",
    "accuracy": "Pairs ranked right (share)",
    "kl": "KL from the base (nats an answer)",
}
"""What known quantities are called, in the order of the panels; others follow under their own name."""
HOW_TO_READ = "Thin lines: one training seed each. Thick line: their mean, as far as all of them go. No smoothing."
POLICY = (
    "A reward that rises while the answers stop getting better is the policy learning to please the reward model: "
    "look for a KL or a length that runs off with it. The policy's loss is near zero by its construction, tells "
    "nothing, and stands in the CSV alone."
)
CONSTRAINED = (
    "λ is what a step's cost weighed against its reward, whose weight is 1. It grows while the moving average of the "
    "cost is above the limit, and shrinks below it."
)


class CurveRow(NamedTuple):
    """One value: of one seed, or with ``seed`` None the mean of all."""

    subject: str
    quantity: str
    step: int
    seed: int | None
    value: float


class _Panel(NamedTuple):
    """One quantity of one subject: seed → a value a step."""

    title: str
    values: Mapping[int, Sequence[float]]


def curves_plots(trained: Sequence[Curves]) -> list[Plot]:
    """The figures: ``training-<subject>`` of those that measured more than a loss, ``training-loss`` of the others."""
    plain = [one for one in trained if set(one.values) == {"loss"}]
    found = [_own(one) for one in trained if one not in plain]
    return [*found, _losses(plain)] if plain else found


def curve_rows(trained: Sequence[Curves]) -> list[CurveRow]:
    """All values, subject by subject: each seed's, then the mean; steps count from 1."""
    rows = []
    for one in trained:
        for quantity, seeds in one.values.items():
            for seed, values in [*seeds.items(), (None, mean_curve(list(seeds.values())))]:
                rows += [CurveRow(one.subject, quantity, step, seed, value) for step, value in enumerate(values, 1)]
    return rows


def mean_curve(curves: Sequence[Sequence[float]]) -> list[float]:
    """The mean a step, as far as the shortest curve goes: beyond it would be a mean of other trainings."""
    return [sum(values) / len(values) for values in zip(*curves, strict=False)]


def _titles(one: Curves) -> dict[str, str]:
    """Quantity → title of its panel, in order."""
    known = POLICY_QUANTITIES if "reward" in one.values else QUANTITIES
    others = sorted(set(one.values) - {*POLICY_QUANTITIES, *QUANTITIES})
    return {**{name: title for name, title in known.items() if name in one.values}, **{name: name for name in others}}


def _own(one: Curves) -> Plot:
    panels = [_Panel(title, one.values[name]) for name, title in _titles(one).items()]
    told = {"reward": POLICY, "lambda": CONSTRAINED}
    notes = (HOW_TO_READ, *(note for quantity, note in told.items() if quantity in one.values))
    return _plot(f"training-{one.subject}", f"Training curves: {one.label}", panels, [one], notes, same_scale=False)


def _losses(trained: Sequence[Curves]) -> Plot:
    panels = [_Panel(one.label, one.values["loss"]) for one in trained]
    title = "Training curves: loss"
    notes = (HOW_TO_READ, "Subjects learn from different records: only the course of a loss can be compared.")
    return _plot("training-loss", title, panels, trained, notes, same_scale=True)


def _plot(
    name: str, title: str, panels: Sequence[_Panel], of: Sequence[Curves], notes: tuple[str, ...], *, same_scale: bool
) -> Plot:
    with style():
        files = pictures(_draw(panels, same_scale=same_scale))
    caption = "What the trainer measured at each optimiser step."
    return Plot(name, title, caption, notes, files.png, files.pdf, csv_of(curve_rows(of)))


def _draw(panels: Sequence[_Panel], *, same_scale: bool) -> Figure:
    n_rows, n_columns = grid_of(len(panels), COLUMNS)
    figure = new_figure(0.3 + PANEL_HEIGHT * n_rows)
    axes = list(figure.subplots(n_rows, n_columns, squeeze=False, sharey=same_scale).flat)
    for surplus in axes[len(panels) :]:
        surplus.remove()
    lines: dict[str, object] = {}
    seeds = sorted({seed for panel in panels for seed in panel.values})
    for place, (one, panel) in enumerate(zip(axes, panels, strict=False)):
        lines.update(_lines(one, panel, seeds))
        if place >= len(panels) - n_columns:
            one.set_xlabel("Step")
    legend_above(figure, list(lines.values()), list(lines))
    return figure


def _lines(axes: Axes, panel: _Panel, seeds: Sequence[int]) -> dict[str, object]:
    """The lines of a panel by what the legend calls them; a single seed is its own mean."""
    drawn: dict[str, object] = {}
    for seed, values in panel.values.items():
        colour = COLOURS[seeds.index(seed) % (len(COLOURS) - 1)]
        steps = range(1, len(values) + 1)
        (line,) = axes.plot(
            steps, values, color=colour, linewidth=0.8, alpha=0.75, marker=_mark(values), markersize=2.5
        )
        drawn[f"seed {seed}"] = line
    if len(panel.values) > 1:
        mean = mean_curve(list(panel.values.values()))
        (line,) = axes.plot(range(1, len(mean) + 1), mean, color=INK, linewidth=1.5)
        drawn["mean"] = line
    axes.set_title(label(panel.title, LETTERS), loc="left")
    axes.grid(axis="y")
    axes.margins(x=0.02)
    axes.locator_params(axis="x", integer=True)
    return drawn


def _mark(values: Sequence[float]) -> str:
    """One value alone is no line."""
    return "o" if len(values) == 1 else ""
