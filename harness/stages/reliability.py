"""How the judges that ask models did: what came of their judgments, and how far their seats and models agree.

Reads the verdicts and the ledger; what there is to say of the models themselves is in `harness.stages.remarks`.
Agreement is Krippendorff's alpha over all raters of an answer (a model in a seat is a rater), and Cohen's or Fleiss'
kappa for labels; of a pairwise judge the share of comparisons that flip with the order.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from harness.config import RunConfig
from harness.judging import Panel
from harness.judging.combine import order_pairs
from harness.records import Call, Verdict, VerdictOutcome
from harness.scores import Estimate, JudgeRow
from harness.stages.gather import CellId, Item
from harness.stages.remarks import Line, remarks
from harness.stages.self_judging import self_judges, stored_manifest
from harness.stats import agreement, intervals
from harness.store import Run, latest, read, read_in_parts

Place = tuple[str, str]
"""What was judged: a completion's key and the hash of its text."""


def judge_rows(
    run: Run, config: RunConfig, judges: Mapping[str, Panel], cells: Mapping[CellId, Sequence[Item]]
) -> list[JudgeRow]:
    """One row for each judge that asks a model.

    Args:
        run: The run.
        config: Its configuration, which names the models.
        judges: Name → whose verdicts count.
        cells: Its items, for their clusters.
    """
    asking = {name: panel for name, panel in judges.items() if any(spec.model_key for spec in panel.members)}
    if not asking:
        return []
    names = {spec.key: name for name, panel in asking.items() for spec in panel.members}
    found: dict[str, list[Verdict]] = defaultdict(list)
    for verdict in latest(read(run.verdicts_file, Verdict).records).values():
        if verdict.judge_key in names:
            found[names[verdict.judge_key]].append(verdict)
    clusters = {
        item.completion.key: item.sample.cluster or item.sample.key
        for items in cells.values() for item in items if item.completion is not None
    }  # fmt: skip
    ledger = _ledger(run)
    selves = self_judges(config, stored_manifest(run), run)
    rows = []
    for name, panel in asking.items():
        settings = config.judging.of(name)
        told = [f"judged by itself: {one}" for one in selves if one.model in (settings.models or ())]
        told += remarks(panel, settings, config.models, found[name], ledger.lines.get(name, ()))
        row = _row(name, panel, settings.models or (), found[name], clusters)
        rows.append(row.model_copy(update={"cost_usd": ledger.costs.get(name), "remarks": tuple(told)}))
    return rows


def _row(
    name: str, panel: Panel, models: Sequence[str], verdicts: Sequence[Verdict], clusters: Mapping[str, str]
) -> JudgeRow:
    by_place: dict[Place, list[Verdict]] = defaultdict(list)
    for verdict in verdicts:
        by_place[verdict.completion_key, verdict.text_hash].append(verdict)
    places = list(by_place)
    of_place = [clusters.get(key) for key, _ in places]
    rows = [_ratings(by_place[place], panel) for place in places]
    several = not panel.pairwise and len(panel.members) * panel.n_seats > 1
    return JudgeRow(
        judge=name,
        models=tuple(models),
        keys=tuple(spec.key for spec in panel.members),
        n_seats=panel.n_seats,
        outcomes=dict(sorted(Counter(str(verdict.outcome) for verdict in verdicts).items())),
        alpha=_alpha(rows, of_place) if several else None,
        kappa=_kappa(rows, of_place) if several else None,
        flip_rate=_flip_rate([by_place[place] for place in places], of_place) if panel.pairwise else None,
    )


def _ratings(verdicts: Sequence[Verdict], panel: Panel) -> list[agreement.Rating]:
    """What each rater said of one answer, ``None`` where nothing usable."""
    given = {(v.judge_key, v.seat): v.label or v.score for v in verdicts if v.outcome is VerdictOutcome.OK}
    return [given.get((spec.key, seat)) for spec in panel.members for seat in range(panel.n_seats)]


def _labels(rows: Sequence[Sequence[agreement.Rating]]) -> bool:
    return any(isinstance(rating, str) for row in rows for rating in row)


def _alpha(rows: Sequence[Sequence[agreement.Rating]], clusters: Sequence[str | None]) -> Estimate:
    return agreement.krippendorff_alpha(rows, "nominal" if _labels(rows) else "interval", clusters=clusters)


def _kappa(rows: Sequence[Sequence[agreement.Rating]], clusters: Sequence[str | None]) -> Estimate | None:
    if not _labels(rows):
        return None
    if len(rows[0]) == 2:
        return agreement.cohen_kappa([row[0] for row in rows], [row[1] for row in rows], clusters=clusters)
    return agreement.fleiss_kappa(rows, clusters=clusters)


def _flip_rate(judged: Sequence[Sequence[Verdict]], clusters: Sequence[str | None]) -> Estimate:
    """Share of the comparisons whose verdict is another one when the two answers change places."""
    flips = [
        (first.label != second.label, cluster) for pairs, cluster in _pairs(judged, clusters) for first, second in pairs
    ]
    values = [float(flipped) for flipped, _ in flips]
    n_total = sum(max(1, len(verdicts) // 2) for verdicts in judged)
    return intervals.rate(values, n_total, [cluster for _, cluster in flips], higher_is_better=False)


def _pairs(
    judged: Sequence[Sequence[Verdict]], clusters: Sequence[str | None]
) -> Iterator[tuple[list[tuple[Verdict, Verdict]], str | None]]:
    yield from ((order_pairs(verdicts), cluster) for verdicts, cluster in zip(judged, clusters, strict=True))


class _Ledger(NamedTuple):
    """Role → what its calls cost, ``None`` where the price of any is not known; role → its answered calls."""

    costs: dict[str, float | None]
    lines: dict[str, list[Line]]


def _ledger(run: Run) -> _Ledger:
    costs: dict[str, float | None] = {}
    lines: dict[str, list[Line]] = defaultdict(list)
    for batch in read_in_parts(run.calls_file, Call):
        for call in batch.records:
            before = costs.get(call.role, 0.0)
            costs[call.role] = None if before is None or call.cost_usd is None else before + call.cost_usd
            if call.outcome != "error":
                lines[call.role].append(Line(call.key, call.served_model, call.detail))
    return _Ledger(costs, lines)
