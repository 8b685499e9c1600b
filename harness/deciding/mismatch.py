"""Why the numbers of two sides cannot be compared: other judges, prompts, decoding or tasks.

Reads loaded runs and writes nothing. A mismatch is refused unless its kind is allowed by name, and then stands as a
caveat in every output. What belongs to a method (the style that it answers in) or cannot be known (how recorded answers
were made) is a remark.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple, get_args

from harness.deciding.pairing import corresponding, planned
from harness.deciding.sides import Side
from harness.errors import UserError, unknown_name
from harness.judging import Panel
from harness.records import JudgeSpec, ModelSpec
from harness.scores import MetricInfo
from harness.store import differences

Kind = Literal["judge", "prompt", "decoding", "task"]
KINDS: tuple[Kind, ...] = get_args(Kind)
RECORDED = "recorded"
NOT_SETTINGS = {"seed", "stop"}
"""Of the decoding: another draw is no other setting, and stop texts follow from templates and style."""


class Mismatch(NamedTuple):
    """A reason against a comparison, and the kind under which it can be allowed."""

    kind: Kind
    reason: str


def mismatches(first: Side, second: Side, metric: MetricInfo) -> list[Mismatch]:
    """What stands against comparing a metric of two sides; empty where nothing does.

    Args:
        first: One side.
        second: The other.
        metric: The metric, as the first side has it.
    """
    found = [Mismatch("task", reason) for reason in _task(first, second, metric)]
    found += [Mismatch("judge", reason) for reason in _judge(first, second, metric)]
    ours, theirs = models(first, metric.task), models(second, metric.task)
    if not ours or not theirs or _recorded([*ours, *theirs]):
        return found
    between = f"of task {metric.task} differ between {first.label} and {second.label}"
    if {model.templates for model in ours} != {model.templates for model in theirs}:
        found.append(Mismatch("prompt", f"the prompt templates {between}"))
    if not _chosen(first, metric) and (fields := _decoding(ours, theirs)):
        found.append(Mismatch("decoding", f"the decoding settings {between} ({fields})"))
    return found


def remarks(first: Side, second: Side, tasks: Sequence[str]) -> list[str]:
    """What a reader of the comparison has to know, though it does not stand against it.

    Args:
        first: One side.
        second: The other.
        tasks: The tasks that are compared.
    """
    found: dict[str, list[str]] = {}
    for task in tasks:
        ours, theirs = models(first, task), models(second, task)
        recorded = [side.label for side, own in ((first, ours), (second, theirs)) if _recorded(own)]
        for label in recorded:
            found.setdefault(f"{label}: recorded answers; how they were prompted and drawn is not known", []).append(
                task
            )
        if (told := other_style(first, second, task)) is not None:
            found.setdefault(told, []).append(task)
    return [f"{told} ({', '.join(own)})" for told, own in found.items()]


def seed_remarks(first: Side, second: Side) -> list[str]:
    """What the training seeds of two sides leave open: other seeds are not paired, one seed says nothing of others."""
    one, two = (", ".join(map(str, side.seeds)) for side in (first, second))
    if not corresponding(first.seeds, second.seeds):
        told = f"{first.label} has the training seeds {one}, {second.label} {two}: seeds are not paired"
        few = [side.label for side in (first, second) if len(side.seeds) == 1]
        return [told, *(f"{label} has one training seed, which says nothing of training it again" for label in few)]
    if len(first.seeds) > 1:
        return []
    each = f"{first.label} and {second.label} have one training seed each"
    return [f"{each}: the intervals speak of these weights, not of training again"]


def other_style(first: Side, second: Side, task: str) -> str | None:
    """In which prompt styles two sides answer a task, where they differ and both are known.

    A comparison only remarks it, since the style belongs to the method; a gate does not pass it unasked.
    """
    ours, theirs = models(first, task), models(second, task)
    one, two = (", ".join(sorted({model.style for model in own})) for own in (ours, theirs))
    if not one or not two or one == two or _recorded([*ours, *theirs]):
        return None
    return f"{first.label} answers in the style {one}, {second.label} in the style {two}"


def allowed(found: Iterable[Mismatch], allow: Sequence[str]) -> list[str]:
    """The mismatches as caveats, each once.

    Args:
        found: The mismatches.
        allow: Kinds that are allowed.

    Raises:
        UserError: A kind is unknown, or a mismatch is of a kind that is not allowed.
    """
    for kind in allow:
        if kind not in KINDS:
            raise UserError(f"--allow {kind}: {unknown_name('kind of mismatch', kind, KINDS)}")
    each = list(dict.fromkeys(found))
    refused = [one for one in each if one.kind not in allow]
    if refused:
        kinds = dict.fromkeys(one.kind for one in refused)
        flags = " ".join(f"--allow {kind}" for kind in kinds)
        reasons = "; ".join(one.reason for one in refused[:3])
        more = f"; and {len(refused) - 3} more" if len(refused) > 3 else ""
        raise UserError(f"not comparable: {reasons}{more} (choose metrics with --metric, or allow it with {flags})")
    return [f"allowed ({one.kind}): {one.reason}" for one in each]


def models(side: Side, task: str) -> list[ModelSpec]:
    """Which models answered a task for a side, one a seed that has begun."""
    cells = (side.loaded.cells.get((side.subject, seed, task)) for seed in side.seeds)
    return [cell.model for cell in cells if cell is not None]


def _task(first: Side, second: Side, metric: MetricInfo) -> list[str]:
    ours, theirs = planned(first, metric), planned(second, metric)
    versions = [sorted({item.sample.task_version for item in items.values()}) for items in (ours, theirs)]
    if ours and theirs and versions[0] != versions[1]:
        one, two = (", ".join(each) for each in versions)
        return [f"task {metric.task} is version {one} in {first.label} and {two} in {second.label}"]
    if not ours.keys() & theirs.keys():
        return [f"task {metric.task}: {first.label} and {second.label} have no item in common"]
    return []


def _judge(first: Side, second: Side, metric: MetricInfo) -> list[str]:
    known = [side.loaded.metric(metric.name) for side in (first, second)]
    names = [None if found is None else found.judge for found in known]
    panels = [side.loaded.judges.get(name or "") for side, name in zip((first, second), names, strict=True)]
    if names[0] != names[1]:
        reason = f"{names[0]} judged one and {names[1]} the other"
    elif panels[0] is None or panels[1] is None:
        return []
    else:
        reason = "; ".join(_panel(panels[0], panels[1]))
        if not reason and panels[0].pairwise and _reference(first, metric) != _reference(second, metric):
            reason = "it compared with the answers of another model"
    return [f"{metric.name} of {first.label} and {second.label} has two judges: {reason}"] if reason else []


def _panel(first: Panel, second: Panel) -> list[str]:
    """How two panels of one name differ."""
    found = []
    if {spec.key for spec in first.members} != {spec.key for spec in second.members}:
        found.append(_specs(first.members, second.members))
    if first.n_seats != second.n_seats:
        found.append(f"{first.n_seats} against {second.n_seats} seats a model")
    if first.pairwise != second.pairwise:
        found.append("only one of them compares two answers")
    return found


def _specs(first: Sequence[JudgeSpec], second: Sequence[JudgeSpec]) -> str:
    told = {
        "name": "other names",
        "version": "other versions",
        "content": "other prompts or rules",
        "model_key": "other models",
    }
    ours, theirs = ({field: {getattr(spec, field) for spec in each} for field in told} for each in (first, second))
    found = [text for field, text in told.items() if ours[field] != theirs[field]]
    return ", ".join(found) or "another pairing of prompts and models"


def _reference(side: Side, metric: MetricInfo) -> frozenset[str] | None:
    """The models whose answers a pairwise judge compared with; ``None`` for each item's own reference answer."""
    against = side.loaded.config.judging.against
    return None if against is None else frozenset(m.key for m in models(side._replace(subject=against), metric.task))


def _recorded(found: Sequence[ModelSpec]) -> bool:
    return any(model.backend == RECORDED for model in found)


def _chosen(side: Side, metric: MetricInfo) -> bool:
    """Whether the task's answers are chosen by likelihood, so that nothing is drawn."""
    return all(item.sample.choices for item in planned(side, metric).values())


def _decoding(first: Sequence[ModelSpec], second: Sequence[ModelSpec]) -> str:
    """The fields in which the settings differ."""
    ours, theirs = (_settings(each) for each in (first, second))
    if ours == theirs:
        return ""
    if len(ours) == len(theirs) == 1:
        return "; ".join(differences(ours[0], theirs[0]))
    return "several settings on a side"


def _settings(found: Sequence[ModelSpec]) -> list[dict[str, Any]]:
    each = {model.decoding.model_dump_json(exclude=NOT_SETTINGS): model.decoding for model in found}
    return [each[text].model_dump(mode="json", exclude=NOT_SETTINGS) for text in sorted(each)]
