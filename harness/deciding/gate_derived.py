"""What of a side's records follows from its other records: it is derived again, and a difference is told with its line.

Reads the run's files. A subject answers with what was trained for it, or with its base; an answer is to a sample of the
run; a choice is the likeliest; a verdict is about the very text that stands there; a rule or a fitted judge says again
what it said; a model's reply, read again, gives the verdict beside it, and stands in the run's ledger.
Not derived: what models wrote, verdicts read from likelihoods, and comparisons of two answers.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from math import isclose
from pathlib import Path
from typing import NamedTuple, TypeGuard

from harness.clients.base import Choice, ChoiceOutcome, Reply
from harness.deciding.gate_records import Fault, judge_keys, lines
from harness.deciding.mismatch import RECORDED
from harness.deciding.sides import Side
from harness.importing import own_judges
from harness.judging import Judge, JudgeItem
from harness.judging.prompt_judge import PromptJudge
from harness.methods import method_trains
from harness.records import Cell, Completion, Verdict, VerdictOutcome
from harness.stages.gather import Item
from harness.stages.judges import Judges
from harness.store import Run
from harness.tasks import load_spec

CLOSE = 1e-6
"""How far a fitted judge's score may move from machine to machine."""
READ = (VerdictOutcome.OK, VerdictOutcome.UNPARSED)
"""Outcomes of a verdict that follow from what the judge's model wrote."""


class _Stored(NamedTuple):
    """A verdict that counts, the line that it stands on, and what it was given on."""

    line: int
    verdict: Verdict
    item: Item


class Derived(NamedTuple):
    """What came of it.

    Attributes:
        faults: Contradictions.
        n_verdicts: How many verdicts were derived again.
        n_owing: Where none was, how many verdicts there are of judges whose verdicts can be.
    """

    faults: list[Fault]
    n_verdicts: int
    n_owing: int = 0


def derive(side: Side, include_paths: Sequence[Path] = ()) -> Derived:
    """Derives again what can be.

    Args:
        side: The side.
        include_paths: Further content folders, for the judges.
    """
    items = {item.completion.key: item for item in _items(side) if item.completion is not None}
    stored = list(_stored(side, items))
    run = side.loaded.run
    faults = [*_other_models(side), *_strays(side), *_orphans(run), *_choices(run, items), *_other_texts(side, stored)]
    by_judge: dict[str, list[_Stored]] = defaultdict(list)
    for one in stored:
        by_judge[one.verdict.judge_key].append(one)
    n_verdicts = n_owing = 0
    for key, judge in _judges(side, include_paths).items():
        n_owing += sum(_derivable(judge) and one.verdict.outcome != VerdictOutcome.SKIPPED for one in by_judge[key])
        faults += _unasked(run, judge, by_judge[key])
        again = {verdict.key: verdict for verdict in _again(judge, by_judge[key])}
        same = [one for one in by_judge[key] if one.verdict.key in again]
        n_verdicts += len(same)
        faults += [
            Fault(f"{run.verdicts_file.name}:{one.line}", _told(judge, again[one.verdict.key]))
            for one in same
            if not _alike(one.verdict, again[one.verdict.key])
        ]
    return Derived(faults, n_verdicts, 0 if n_verdicts else n_owing)


def _items(side: Side) -> Iterator[Item]:
    for (subject, _, _), items in side.loaded.items.items():
        if subject == side.subject:
            yield from items


def _other_models(side: Side) -> Iterator[Fault]:
    """Cells of the side that point to other weights than were trained for them, or than their base has."""
    run, counting = side.loaded.run, {}
    for line in lines(run.cells_file):
        if line.row and line.row.get("subject") == side.subject:
            counting[line.row.get("seed"), line.row.get("task")] = line.number
    for cell in side.loaded.cells.values():
        place = counting.get((cell.seed, cell.task))
        if cell.subject != side.subject or place is None:
            continue
        known = _weights(side, cell.seed)
        if known is not None and known != (cell.model.weights, cell.checkpoint):
            yield Fault(f"{run.cells_file.name}:{place}", "is not the model that was trained for this subject")


def _weights(side: Side, seed: int) -> tuple[str, str | None] | None:
    """Weights and checkpoint that a side answers with in a seed; ``None`` where the run does not say."""
    loaded = side.loaded
    subject = next((one for one in loaded.config.subjects if one.name == side.subject), None)
    if subject is None or subject.method == RECORDED:
        return None
    owner = loaded.config.subject(subject.weights_of or subject.name)
    if method_trains(owner.method):
        checkpoint = loaded.run.checkpoint(owner.name, seed)
        return None if checkpoint is None else (checkpoint.weights, checkpoint.key)
    manifest = loaded.run.manifest()
    base = manifest.get("subject_bases", {}).get(owner.name) or manifest.get("bases", {}).get(str(seed))
    return None if base is None else (base, None)


def _strays(side: Side) -> Iterator[Fault]:
    """Answers of the side's models to what is no sample of the run: the sample was changed or taken out."""
    samples = {sample.key for sample in side.loaded.samples}
    models = {cell.model.key for (subject, _, _), cell in side.loaded.cells.items() if subject == side.subject}
    file = side.loaded.run.completions_file
    for line in lines(file):
        if line.row and line.row.get("model_key") in models and line.row.get("sample_key") not in samples:
            yield Fault(f"{file.name}:{line.number}", "answers what is no sample of the run")


def _orphans(run: Run) -> Iterator[Fault]:
    """Answers of a model that no cell names: a cell is noted before its model is asked, and its line stays."""
    models = set()
    for line in lines(run.cells_file):
        try:
            models.add(Cell.model_validate(line.row).model.key)
        except ValueError:
            continue
    file = run.completions_file
    for line in lines(file):
        if line.row and line.row.get("model_key") not in models:
            yield Fault(f"{file.name}:{line.number}", "is the answer of a model that no line of cells.jsonl names")


def _derivable(judge: Judge) -> bool:
    """Whether a judge's verdicts follow from the records."""
    return judge.asked is None or _reads_text(judge)


def _reads_text(judge: Judge) -> TypeGuard[PromptJudge]:
    """Whether a judge's verdicts follow from what its model wrote."""
    return isinstance(judge, PromptJudge) and not judge.pairwise and judge.mode != "logprobs"


def _unasked(run: Run, judge: Judge, stored: Sequence[_Stored]) -> Iterator[Fault]:
    """Verdicts of a model without its reply, or without the call that it was asked by: such a call is noted first."""
    if not _reads_text(judge):
        return
    known = {line.row.get("key") for line in lines(run.calls_file) if line.row}
    for one in stored:
        if one.verdict.outcome not in READ:
            continue
        place, call = f"{run.verdicts_file.name}:{one.line}", one.verdict.call
        if one.verdict.raw is None:
            yield Fault(place, f"holds no reply of the model that {judge.spec.name} asks")
        elif run.calls_file.exists() and call not in known:
            told = "names no call" if call is None else f"the call {call[:12]} is not in {run.calls_file.name}"
            yield Fault(place, f"{told}, so the model that {judge.spec.name} asks never said it")


def _choices(run: Run, items: dict[str, Item]) -> Iterator[Fault]:
    """An answer that was chosen by likelihood is the likeliest."""
    wrong = {key: item for key, item in items.items() if item.completion and not _likeliest(item.completion)}
    places = _texts(run, wrong.keys()) if wrong else {}
    for key, item in wrong.items():
        place = f"{run.completions_file.name}:{places[key][_hash(item)]}"
        yield Fault(place, "the answer is not the likeliest of its choices")


def _likeliest(completion: Completion) -> bool:
    found = completion.logprobs
    return not found or found.get(completion.text) == max(found.values())


def _stored(side: Side, items: dict[str, Item]) -> Iterator[_Stored]:
    """The verdicts of the judges that count on the side's answers: the last final one of each key."""
    counting, found = judge_keys(side), {}
    for line in lines(side.loaded.run.verdicts_file):
        row = line.row
        if row and row.get("completion_key") in items and row.get("judge_key") in counting:
            try:
                verdict = Verdict.model_validate(row)
            except ValueError:
                continue
            if verdict.final:
                found[verdict.key] = _Stored(line.number, verdict, items[verdict.completion_key])
    yield from found.values()


def _other_texts(side: Side, stored: Sequence[_Stored]) -> Iterator[Fault]:
    """Verdicts on a text that the answer does not have and never had, where there is none on the one that it has."""
    pairwise = {spec.key for panel in side.loaded.judges.values() if panel.pairwise for spec in panel.members}
    own = [one for one in stored if one.verdict.judge_key not in pairwise]
    settled = {_seat(one.verdict) for one in own if one.verdict.text_hash == _hash(one.item)}
    strange = [one for one in own if _seat(one.verdict) not in settled]
    if not strange:
        return
    run = side.loaded.run
    texts = _texts(run, {one.verdict.completion_key for one in strange})
    for one in strange:
        known = texts[one.verdict.completion_key]
        if one.verdict.text_hash not in known:  # else it is on a failure, which was asked again and not yet judged
            where = f"{run.completions_file.name}:{known[_hash(one.item)]}"
            yield Fault(where, f"is not the text that {run.verdicts_file.name}:{one.line} judged")


def _texts(run: Run, keys: Collection[str]) -> dict[str, dict[str, int]]:
    """Key of an answer → every text that it has had, by hash, with its line."""
    found: dict[str, dict[str, int]] = defaultdict(dict)
    for line in lines(run.completions_file):
        try:
            completion = Completion.model_validate(line.row)
        except ValueError:
            continue
        if completion.key in keys:
            found[completion.key][completion.text_hash] = line.number
    return found


def _hash(item: Item) -> str:
    assert item.completion is not None
    return item.completion.text_hash


def _seat(verdict: Verdict) -> tuple[str, str, int]:
    return verdict.completion_key, verdict.judge_key, verdict.seat


def _judges(side: Side, include_paths: Sequence[Path]) -> dict[str, Judge]:
    """Key → judge, of those that judge here and not in a file that was imported."""
    bench, counting = Judges(side.loaded.config, include_paths), judge_keys(side)
    names = dict.fromkeys(
        name for task in side.loaded.config.tasks for name in own_judges(bench.able(load_spec(task, include_paths)))
    )
    found = [judge for name in names for judge in bench.members(name)]
    return {judge.spec.key: judge for judge in found if judge.spec.key in counting}


def _again(judge: Judge, stored: Sequence[_Stored]) -> Iterator[Verdict]:
    """What a judge says now, without asking any model; nothing of one that would have to."""
    due = [one for one in stored if one.verdict.text_hash == _hash(one.item)]
    if judge.asked is None:
        yield from judge.judge([JudgeItem(one.item.sample, one.item.completion) for one in due if one.item.completion])
    elif _reads_text(judge):
        for one in due:
            if one.verdict.outcome in READ and one.verdict.raw is not None and one.item.completion is not None:
                reply = Reply((Choice(ChoiceOutcome.OK, one.verdict.raw),))
                yield from judge.verdicts(
                    JudgeItem(one.item.sample, one.item.completion, (one.verdict.seat,)), reply, one.verdict.call
                )


def _alike(one: Verdict, other: Verdict) -> bool:
    if (one.outcome, one.label) != (other.outcome, other.label):
        return False
    if one.score is None or other.score is None:
        return one.score is other.score
    return isclose(one.score, other.score, rel_tol=CLOSE, abs_tol=CLOSE)


def _told(judge: Judge, new: Verdict) -> str:
    score = None if new.score is None else f"{new.score:g}"
    says = " ".join(part for part in (new.label, score) if part) or str(new.outcome)
    source = "read again, the reply says" if judge.asked is not None else f"{judge.spec.name} says"
    return f"{source} {says}, the record something else"
