"""What a report says of the trainings: the ledger as rows of text, and the curves that figures draw.

Reads ``ledger.json`` and ``checkpoint/training_log.json`` of each training of a run; writes nothing. What is not there
(an older run, a training that has not ended) is left out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from harness.blocks import SubjectConfig
from harness.config import RunConfig
from harness.errors import UserError
from harness.methods import method_objective
from harness.reporting.table import ABSENT
from harness.stages.plan import trained_subjects
from harness.store import Run
from harness.trainers.ledger import LedgerEntry, read_ledger

LEDGER_NOTE = (
    "Means over seeds, one training each. Tokens: all that the optimiser's steps read, prompts and every pass "
    "included; loss tokens: those that the loss fell on. Compute: 6 N T operations, an estimate for T tokens and N "
    "parameters outside the embeddings (4 N T where only adapters learn); answers that a policy writes while it learns "
    "and passes of a reference model come on top. Time and memory are of one worker beside the others. Cost is what a "
    "service billed, jobs that came to nothing included."
)
UNEQUAL = 0.05
"""Share by which the tokens of two rows may differ before the report says so."""
_PREFIXES = ("", "k", "M", "G", "T", "P", "E")


class LedgerText(NamedTuple):
    """One subject's trainings, per seed, as text; a dash where it was not measured."""

    subject: str
    n_seeds: str
    steps: str
    tokens: str
    loss_tokens: str
    compute: str
    seconds: str
    memory: str
    cost: str
    device: str


class Curves(NamedTuple):
    """What a subject's trainings logged.

    Attributes:
        subject: Its name.
        label: What the tables call it.
        values: Quantity → seed → a value a step.
    """

    subject: str
    label: str
    values: dict[str, dict[int, list[float]]]


def ledger_texts(run: Run, config: RunConfig, names: Mapping[str, str]) -> list[LedgerText]:
    """The ledger, a row a subject that has one, in the order of the recipe.

    Args:
        run: The run.
        config: Its configuration.
        names: What the report calls each subject; its label where it is not there.
    """
    return [_text(names.get(one.name, one.label), entries) for one, entries in _ledgers(run, config)]


def ledger_note(run: Run, config: RunConfig, names: Mapping[str, str]) -> str:
    """What is to be known of the ledger: how it was measured, and whether its rows read equally much and why not.

    Args:
        run: The run.
        config: Its configuration.
        names: As for `ledger_texts`.
    """
    read: dict[str, float] = {}
    budgets, policy = set(), False
    for subject, entries in _ledgers(run, config):
        if (tokens := _mean_of(entries, lambda one: one.n_tokens)) is not None:
            read[names.get(subject.name, subject.label)] = tokens
            if method_objective(subject.method) == "rlhf":
                policy = True
            else:
                budgets.add(config.trainer_of(subject).tokens)
    least, most = (choose(read, key=read.__getitem__, default="") for choose in (min, max))
    if not read or read[most] <= read[least] * (1 + UNEQUAL):
        return LEDGER_NOTE
    told = [f"The rows did not read equally much: {least} {short(read[least])} tokens, {most} {short(read[most])}."]
    if None in budgets:
        told.append("Equal epochs or steps are as many tokens only where records are alike in number and length.")
    if policy:
        told.append("RLHF trains for rlhf.steps, whatever epochs, steps or tokens say, and for its reward model.")
    return " ".join([LEDGER_NOTE, *told])


def _ledgers(run: Run, config: RunConfig) -> list[tuple[SubjectConfig, list[LedgerEntry]]]:
    """The entries of each trained subject that has one, a seed each."""
    found = []
    for subject in trained_subjects(config):
        entries = [one for seed in config.seeds if (one := read_ledger(_folder(run, subject, seed))) is not None]
        if entries:
            found.append((subject, entries))
    return found


def training_curves(run: Run, config: RunConfig, names: Mapping[str, str]) -> list[Curves]:
    """The curves of each trained subject, in the order of the recipe; arguments as `ledger_texts`.

    Raises:
        UserError: A log is not as a trainer leaves it.
    """
    found = []
    for subject in trained_subjects(config):
        values: dict[str, dict[int, list[float]]] = {}
        for seed in config.seeds:
            for quantity, curve in _log(_folder(run, subject, seed) / "checkpoint" / "training_log.json").items():
                values.setdefault(quantity, {})[seed] = curve
        if values:
            found.append(Curves(subject.name, names.get(subject.name, subject.label), values))
    return found


def _folder(run: Run, subject: SubjectConfig, seed: int) -> Path:
    return run.path / "train" / subject.name / str(seed)


def _log(file: Path) -> Mapping[str, list[float]]:
    if not file.exists():
        return {}
    try:
        log = json.loads(file.read_text(encoding="utf-8"))
        return {str(name): [float(value) for value in values] for name, values in log.items() if values}
    except (AttributeError, TypeError, ValueError):
        raise UserError(f"{file}: not a training log (name → list of numbers, one a step)") from None


def _text(name: str, entries: Sequence[LedgerEntry]) -> LedgerText:
    memory = " + ".join(sorted({"GPU" if one.memory == "cuda" else "RSS" for one in entries}))
    return LedgerText(
        subject=name,
        n_seeds=str(len(entries)),
        steps=_mean(entries, lambda one: one.n_steps, "{:.0f}".format),
        tokens=_mean(entries, lambda one: one.n_tokens, short),
        loss_tokens=_mean(entries, lambda one: one.n_loss_tokens, short),
        compute=_mean(entries, lambda one: one.flops, lambda flops: short(flops, "FLOP")),
        seconds=_mean(entries, lambda one: one.seconds, duration),
        memory=_mean(entries, lambda one: one.peak_memory_bytes, lambda size: f"{short(size, 'B')} {memory}"),
        cost=_mean(entries, lambda one: one.cost_usd, "{:.2f} USD".format),
        device=", ".join(sorted({one.device for one in entries})),
    )


def _mean(
    entries: Sequence[LedgerEntry],
    value: Callable[[LedgerEntry], float | None],
    told: Callable[[float], str],
) -> str:
    mean = _mean_of(entries, value)
    return ABSENT if mean is None else told(mean)


def _mean_of(entries: Sequence[LedgerEntry], value: Callable[[LedgerEntry], float | None]) -> float | None:
    """The mean over seeds; a mean over some of them would be another one."""
    values = [one for entry in entries if (one := value(entry)) is not None]
    return sum(values) / len(values) if len(values) == len(entries) else None


def short(number: float, unit: str = "") -> str:
    """A number with three digits, a decimal prefix and its unit, such as ``12.3 k`` or ``1.2 GB``."""
    place = 0
    while abs(number) >= 999.5 and place < len(_PREFIXES) - 1:
        number, place = number / 1000, place + 1
    return f"{number:.3g} {_PREFIXES[place]}{unit}".rstrip()


def duration(seconds: float) -> str:
    """A time as ``12.3 s``, ``4 min 05 s`` or ``2 h 10 min``."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
