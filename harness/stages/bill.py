"""What it would cost to judge the answers that a run holds already, before any judge is asked.

Reads the run's folder and the cache of replies; writes nothing. Every question is put together as it would be sent, so
that what is read is as long as it will be; only what the judge writes is a guess (`harness.stages.forecast`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from harness.clients.base import ChatRequest
from harness.clients.cache import ReplyCache
from harness.clients.forecast import Range, estimate_prompt
from harness.clients.ledger import Ledger
from harness.clients.wire import request_key
from harness.config import RunConfig
from harness.importing import imported, own_judges
from harness.judging import Judge, JudgeItem
from harness.judging.prompt_judge import PromptJudge
from harness.records import Cell, Completion, Sample, content_hash
from harness.stages.answering import completion_key
from harness.stages.forecast import REPLY_TOKENS, priced, total
from harness.stages.judge import JudgeStage
from harness.stages.judge_models import cache_file, server_of
from harness.stages.judges import Judges
from harness.stages.references import References
from harness.stages.self_judging import family_notes, refuse_self_judges, stored_manifest
from harness.store import Run, latest, read
from harness.tasks import load_spec


def forecast_judging(run: Run, config: RunConfig, include_paths: Sequence[Path] = ()) -> dict[str, Any]:
    """The bill for judging a run's stored answers: for what no judge has judged and no cache can answer.

    Args:
        run: The run, finished or not, made here or imported.
        config: Its configuration, judged as it is to be judged.
        include_paths: Further content folders.

    Returns:
        ``answers`` that are stored, and ``unanswered`` ones, which are not in the bill; ``calls``: the ``verdicts``
        that judges with a model owe; ``paid``: for each role and server's model its calls, those ``stored`` in the
        cache, and tokens and cost, each low, middle and high; ``cost_usd`` of all; ``spent_usd`` so far, which a budget
        counts too; ``caveats``: judges of the family of a model that they judge.

    Raises:
        UserError: A judge is unknown, or would judge with the very model that is under test.
    """
    refuse_self_judges(config, stored_manifest(run), run)
    judges = Judges(config, include_paths)
    names = {task: own_judges(judges.able(load_spec(task, include_paths))) for task in config.tasks}
    members = {task: [member for name in each for member in judges.members(name)] for task, each in names.items()}
    samples = read(run.samples_file, Sample).records
    stage = JudgeStage(run, samples, members, References(run, config.judging.against))
    models = {
        id(member): model
        for name in dict.fromkeys(name for each in names.values() for name in each)
        for model, member in zip(config.judging.of(name).models or (), judges.members(name), strict=False)
    }
    questions = _Questions(config)
    for judge, item in stage.owed_slow():
        questions.add(judge, models[id(judge)], item)
    paid = [_bill(config, role, model, asked, include_paths) for (role, model), asked in questions.asked.items()]
    return {
        "run": config.name,
        **_answers(run, config, samples),
        "calls": {"verdicts": questions.n_verdicts},
        "paid": paid,
        "cost_usd": total(paid),
        "spent_usd": round(Ledger(run.calls_file).spent_usd(), 4),
        "caveats": family_notes(config, stored_manifest(run), run),
    }


class _Questions:
    """The questions that judges have yet to put to servers' models; equal ones are asked once."""

    def __init__(self, config: RunConfig) -> None:
        file = cache_file(config)
        self.config = config
        self.cache = ReplyCache(file) if file.exists() else None
        self.server = cache(lambda model: server_of(config.models[model]))
        self.seen: set[str] = set()
        self.n_verdicts = 0
        self.asked: dict[tuple[str, str], _Asked] = {}

    def add(self, judge: Judge, model: str, item: JudgeItem) -> None:
        """Counts what a judge asks about an item."""
        self.n_verdicts += len(item.seats)
        if not isinstance(judge, PromptJudge) or not self.config.models[model].remote or judge.unfit(item) is not None:
            return
        asked = self.asked.setdefault((judge.spec.name, model), _Asked())
        for request in judge.requests(item):
            key = request_key(request, self.server(model))
            if key in self.seen:
                continue
            self.seen.add(key)
            if self.cache is not None and self.cache.get(key) is not None:
                asked.n_stored += 1
            else:
                asked.add(estimate_prompt(request.messages), request)


class _Asked:
    """What one role asks of one model: calls, and tokens of all of them."""

    def __init__(self) -> None:
        self.n_calls = self.n_stored = 0
        self.read = self.written = Range(0, 0, 0)

    def add(self, read: Range, request: ChatRequest) -> None:
        """Counts a request."""
        self.n_calls += 1
        self.read = Range(*map(sum, zip(self.read, read, strict=True)))
        written = (min(tokens, request.max_tokens) * request.n for tokens in REPLY_TOKENS)
        self.written = Range(*map(sum, zip(self.written, written, strict=True)))


def _bill(config: RunConfig, role: str, model: str, asked: _Asked, include_paths: Sequence[Path]) -> dict[str, Any]:
    n = max(1, asked.n_calls)
    read, written = (Range(*(tokens / n for tokens in total)) for total in (asked.read, asked.written))
    return {**priced(config, role, model, asked.n_calls, read, written, include_paths), "stored": asked.n_stored}


def _answers(run: Run, config: RunConfig, samples: Sequence[Sample]) -> dict[str, int]:
    """How many answers are stored, and how many the run has yet to get; what an import left out is owed by nobody."""
    final = {key for key, one in latest(read(run.completions_file, Completion).records).items() if one.final}
    if imported(run):
        return {"answers": len(final), "unanswered": 0}
    cells = {(cell.subject, cell.seed, cell.task): cell for cell in latest(read(run.cells_file, Cell).records).values()}
    planned = {
        completion_key(sample, cell.model) if (cell := cells.get((subject.name, seed, sample.task))) else
        content_hash([sample.key, subject.name, seed])
        for subject in config.subjects for seed in config.seeds for sample in samples
    }  # fmt: skip
    return {"answers": len(final), "unanswered": len(planned - final)}
