"""Puts labelled items to a judge and compares what it says with what people say.

Reads `Labels` and, where they exist, earlier verdicts; writes a folder like a run's: ``manifest.json`` (which judge),
``verdicts.jsonl`` as they come, and ``calibration.json``. Killed at any point, the same call goes on without judging
anything twice. The folder belongs to one judge key; other labels may be put to the same judge in it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from harness.calibration.calls import served_models
from harness.calibration.labels import Labelled, Labels
from harness.calibration.measure import measure
from harness.calibration.records import FILE, Calibration, panel_key, save
from harness.clients.budget import BudgetReached
from harness.errors import UserError
from harness.importing.measures import recorded_judge
from harness.judging import Judge, JudgeItem, Panel, combine
from harness.judging.prompt_judge import in_groups
from harness.records import Call, Verdict, VerdictOutcome
from harness.store import Run, append, latest, read

REASON_LENGTH = 200
BATCH = 256
"""Verdicts of a rule that are written together; those of a model are written as its replies become durable."""
KEY_LETTERS = 12
Progress = Callable[[int, int], None]


class Found(NamedTuple):
    """A judge's verdicts by what was judged: key of the completion, hash of the text."""

    verdicts: dict[tuple[str, str], list[Verdict]]

    def of(self, item: JudgeItem, panel: Panel) -> Verdict | None:
        """The one verdict that counts, ``None`` where seats are missing."""
        given = self.verdicts.get((item.completion.key, item.text_hash), [])
        return combine(sorted(given, key=lambda one: (one.judge_key, one.seat)), panel)


def calibration_folder(root: Path, judges: Sequence[Judge]) -> Path:
    """Where a judge's calibration stands: its name and the beginning of its key."""
    return root / f"{judges[0].spec.name}-{panel_key(panel_of(judges))[:KEY_LETTERS]}"


def panel_of(judges: Sequence[Judge]) -> Panel:
    """Who judges: one judge, or the same judge on several models."""
    return Panel(tuple(judge.spec for judge in judges), judges[0].n_seats, judges[0].pairwise)


def calibrate(
    judges: Sequence[Judge],
    labels: Labels,
    folder: Path,
    *,
    opened: Callable[[], Sequence[Judge]] | None = None,
    known: Iterable[Verdict] = (),
    known_calls: Iterable[Call] = (),
    progress: Progress | None = None,
) -> Calibration:
    """Judges what is labelled and not yet judged, and measures.

    Args:
        judges: The judge; several where a panel of models judges under one name.
        labels: What people say.
        folder: Where verdicts and calibration are kept (see `calibration_folder`).
        opened: Gives the same judges with the way to their models, which may keep files in the folder; called once it
            is theirs.
        known: Verdicts from elsewhere, such as a run's; what they decide is not judged again.
        known_calls: The ledger's lines behind these.
        progress: Told (verdicts done, verdicts wanted) after every write.

    Returns:
        The calibration; where verdicts are still owed, because calls failed or a budget was reached, one that is
        ``unfinished`` and not written.

    Raises:
        UserError: The judge compares pairs, the folder is another judge's, or labels and verdicts do not fit.
    """
    panel = panel_of(judges)
    if panel.pairwise:
        raise of_pairs(judges[0].spec.name)
    run, key = Run(folder), panel_key(panel)
    with run.lock():
        _claim(run, judges[0].spec.name, key)
        append(run.verdicts_file, _useful(run, known, labels, panel))
        unfinished = None
        try:
            for done, wanted in _judge(run, opened() if opened is not None else judges, labels):
                if progress is not None:
                    progress(done, wanted)
        except BudgetReached as reached:
            unfinished = str(reached)
        given = read(run.verdicts_file, Verdict).records
        found = _found(given, panel)
        verdicts = [found.of(row.item, panel) for row in labels.rows]
        more = {
            "served": served_models([*read(run.calls_file, Call).records, *known_calls], given),
            "unfinished": unfinished or _failed(found, labels),
        }
        calibration = measure(judges[0].spec.name, key, labels, verdicts).model_copy(update=more)
        if calibration.unfinished is None:
            save(calibration, folder / FILE)
    return calibration


def of_pairs(name: str) -> UserError:
    """Why a judge that compares two answers has no calibration."""
    return UserError(f"judge '{name}' compares two answers, and labels of single answers cannot test that")


def _failed(found: Found, labels: Labels) -> str | None:
    """What became of the judgments that are owed again, ``None`` where none is."""
    places = {(row.item.completion.key, row.item.text_hash) for row in labels.rows}
    reasons = [one.reason for place in places for one in found.verdicts.get(place, []) if not one.final]
    if not reasons:
        return None
    (reason, n), *_ = Counter(" ".join(reason.split())[:REASON_LENGTH] for reason in reasons).most_common()
    often = "all" if n == len(reasons) else f"most often, {n}"
    return f"{len(reasons)} judgments failed ({often}: {reason}); the same command asks again"


def calibrate_recorded(name: str, labels: Labels, folder: Path | None = None) -> Calibration:
    """The calibration of a judge whose verdicts stand in the labels' file; nothing is called.

    Args:
        name: The judge's name; under it ``harness import --judge`` knows the same judge.
        labels: Read with a verdict column.
        folder: Where to write ``calibration.json``, if anywhere.
    """
    spec = recorded_judge(name)
    calibration = measure(name, spec.key, labels, [_recorded(row, spec.key) for row in labels.rows])
    if folder is not None:
        save(calibration, folder / FILE)
    return calibration


def _claim(run: Run, name: str, key: str) -> None:
    """Makes the folder this judge's, or confirms that it is."""
    if not run.manifest_file.exists():
        run.note({"calibration": {"judge": name, "judge_key": key}})
    stored = run.manifest().get("calibration")
    if not isinstance(stored, dict) or stored.get("judge_key") != key:
        whose = stored.get("judge") if isinstance(stored, dict) else "a run"
        raise UserError(f"{run.path}: belongs to {whose}, not to {name} as it is now; choose another folder")


def _useful(run: Run, known: Iterable[Verdict], labels: Labels, panel: Panel) -> list[Verdict]:
    """The verdicts from elsewhere that are about these items, by this judge, and not here yet."""
    members = {spec.key for spec in panel.members}
    texts = {(row.item.completion.key, row.item.text_hash) for row in labels.rows}
    stored = _settled(run)
    found = (v for v in known if v.judge_key in members and (v.completion_key, v.text_hash) in texts)
    return [v for v in latest(found).values() if v.final and v.key not in stored]


def _settled(run: Run) -> set[str]:
    return {key for key, one in latest(read(run.verdicts_file, Verdict).records).items() if one.final}


def _judge(run: Run, judges: Sequence[Judge], labels: Labels) -> Iterator[tuple[int, int]]:
    """Writes the verdicts that are owed, as they come; yields how many are done of how many."""
    unique = {(row.item.completion.key, row.item.text_hash): row.item for row in labels.rows}
    settled = _settled(run)
    owed = [(judge, list(_owed(judge, unique.values(), settled))) for judge in judges]
    wanted = sum(len(item.seats) for _, items in owed for item in items)
    done = 0
    for judge, items in owed:
        for verdicts in in_groups(judge, items, 1 if judge.asked else BATCH):
            append(run.verdicts_file, verdicts)
            done += len(verdicts)
            yield done, wanted


def _owed(judge: Judge, items: Iterable[JudgeItem], settled: set[str]) -> Iterator[JudgeItem]:
    for item in items:
        seats = tuple(seat for seat in range(judge.n_seats) if item.verdict_key(judge.spec.key, seat) not in settled)
        if seats:
            yield item._replace(seats=seats)


def _found(verdicts: Iterable[Verdict], panel: Panel) -> Found:
    members = {spec.key for spec in panel.members}
    found: dict[tuple[str, str], list[Verdict]] = {}
    for verdict in latest(verdicts).values():
        if verdict.judge_key in members and verdict.seat < panel.n_seats:
            found.setdefault((verdict.completion_key, verdict.text_hash), []).append(verdict)
    return Found(found)


def _recorded(row: Labelled, judge_key: str) -> Verdict:
    said = row.recorded
    return Verdict(
        completion_key=row.item.completion.key,
        text_hash=row.item.text_hash,
        judge_key=judge_key,
        outcome=VerdictOutcome.UNPARSED if said is None else VerdictOutcome.OK,
        label=said if isinstance(said, str) else None,
        score=said if isinstance(said, float) else None,
        raw=row.raw,
    )
