"""Judge completions as soon as they exist.

Reads new records of ``completions.jsonl``, appends to ``verdicts.jsonl``. What a judge has decided once, under the
same key, about the same text, is never judged again. Rules judge at once, in `JudgeStage.step`; judges that ask a model
work beside everything else, a thread for each model, and are waited for in `JudgeStage.finish`. A comparison of two
subjects waits until every answer is there. Cut short, the stage still takes what servers are about to answer, for
`DRAIN_SECONDS`; batches are left to the provider, and taken up by the next start.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from types import TracebackType
from typing import Self

from harness.clients.front import Front
from harness.judging import Judge, JudgeItem
from harness.judging.asking import Asking, ask_judges
from harness.judging.prompt_judge import PromptJudge
from harness.records import Completion, Sample, Verdict, VerdictOutcome
from harness.stages.references import References
from harness.store import Run, append, read_in_parts

IDLE_SECONDS = 0.05
DRAIN_SECONDS = 10.0
BATCH = 32
"""Answers that a local classifier reads side by side."""


class JudgeStage:
    """Follows a run's completions; call `step` now and then, and `finish` when no more will come.

    Args:
        run: The run.
        samples: Every sample of it.
        judges: Task → the judges of its samples.
        references: What pairwise judges compare with.
    """

    def __init__(
        self,
        run: Run,
        samples: Sequence[Sample],
        judges: Mapping[str, Sequence[Judge]],
        references: References | None = None,
    ) -> None:
        self.run = run
        self.samples = {sample.key: sample for sample in samples}
        self.references = references or References(run)
        self.settled = {v.key for batch in read_in_parts(run.verdicts_file, Verdict) for v in batch.records if v.final}
        self.quick = {task: [j for j in each if not asks(j)] for task, each in judges.items()}
        self.slow = {task: [j for j in each if asks(j)] for task, each in judges.items()}
        self.offset = 0
        self.n_judged = 0
        self.n_failed = 0
        self.names = {judge.spec.key: judge.spec.name for each in judges.values() for judge in each}
        self.outcomes: dict[str, Counter[str]] = defaultdict(Counter)
        self.counting = threading.Lock()
        self.all_answered = threading.Event()
        self.stopped = threading.Event()
        self.threads: list[_Thread] = []
        self.told: set[str] = set()

    def __enter__(self) -> Self:
        """Sets the judges that ask models to work."""
        asking = {id(judge): judge for each in self.slow.values() for judge in each}
        groups: dict[int, list[Judge]] = {}
        for judge in asking.values():
            groups.setdefault(id(judge.transport) if isinstance(judge, PromptJudge) else id(judge), []).append(judge)
        self.threads = [_Thread(self, judges) for judges in groups.values()]
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Asks nothing more, and takes what is under way; Ctrl-C ends the waiting."""
        self.stopped.set()
        live = [thread for thread in self.threads if not thread.batched and not thread.finished.is_set()]
        if n_open := sum(thread.n_owed - thread.n_done for thread in live):
            much = f"up to {DRAIN_SECONDS:.0f} s for {n_open} judgments that are under way"
            print(f"harness: waiting {much} (Ctrl-C: no longer)", file=sys.stderr, flush=True)
        until = time.monotonic() + DRAIN_SECONDS
        for thread in live:
            thread.finished.wait(max(0.0, until - time.monotonic()))

    def owes(self) -> bool:
        """Whether any completion on disk waits for a verdict."""
        return any(True for _ in self._owed_quick(0)) or any(True for _ in self.owed_slow())

    def step(self) -> int:
        """Lets the rules judge every whole completion that has appeared since the last step; how many were new.

        A judge that asks a model and has stopped while answers are still to come is told here, once.
        """
        if self.offset:  # not at the start, where there may be nothing to answer and the error is told at once
            self._tell_stopped()
        return self._judge_quick()

    def _tell_stopped(self) -> None:
        for reason in {str(thread.error) for thread in self.threads if thread.error is not None} - self.told:
            self.told.add(reason)
            print(f"harness: judging has stopped, answering goes on: {reason}", file=sys.stderr, flush=True)

    def _judge_quick(self) -> int:
        new = 0
        for batch in read_in_parts(self.run.completions_file, Completion, self.offset):
            for _, pairs in groupby(self._owed(batch.records, self.quick), key=lambda pair: id(pair[0])):
                judges, items = zip(*pairs, strict=True)
                verdicts = list(judges[0].judge(items))
                self.keep(verdicts)
                new += len(verdicts)
            self.offset = batch.offset
        return new

    def finish(self, waiting: Callable[[], None] = lambda: None) -> int:
        """Judges what is left and waits for it; how many verdicts are new since the stage was made.

        Args:
            waiting: Called now and then meanwhile.

        Raises:
            BaseException: What stopped a judge that asks a model: a refused key, a budget that is used up.
        """
        self._judge_quick()
        self.all_answered.set()
        for thread in self.threads:
            while not thread.finished.wait(0.2):  # an interrupted join would take the thread for ended
                waiting()
        for thread in self.threads:
            if thread.error is not None:
                raise thread.error
        return self.n_judged

    def progress(self) -> tuple[int, int]:
        """How many verdicts of judges that ask models are done, of how many owed so far as is known."""
        return sum(t.n_done for t in self.threads), sum(t.n_owed for t in self.threads)

    def keep(self, verdicts: Sequence[Verdict]) -> None:
        """Appends verdicts; on return they are on disk."""
        append(self.run.verdicts_file, verdicts)
        with self.counting:
            self.settled.update(verdict.key for verdict in verdicts if verdict.final)
            self.n_judged += len(verdicts)
            self.n_failed += sum(not verdict.final for verdict in verdicts)
            for verdict in verdicts:
                self.outcomes[self.names[verdict.judge_key]][verdict.outcome] += 1

    def unreadable(self) -> list[str]:
        """A line for each judge whose new judgments are no verdicts more often than one in ten."""
        found = []
        for name, outcomes in self.outcomes.items():
            n_all, n_lost = sum(outcomes.values()), sum(n for kind, n in outcomes.items() if kind != VerdictOutcome.OK)
            if 10 * n_lost > n_all:
                kinds = ", ".join(f"{n} {kind}" for kind, n in outcomes.items() if kind != VerdictOutcome.OK)
                found.append(f"{name}: {n_lost} of {n_all} judgments are no verdict ({kinds}); why: harness show")
        return found

    def _owed_quick(self, offset: int) -> Iterator[tuple[Judge, JudgeItem]]:
        for batch in read_in_parts(self.run.completions_file, Completion, offset):
            yield from self._owed(batch.records, self.quick)

    def owed_slow(self) -> Iterator[tuple[Judge, JudgeItem]]:
        """What the judges that ask models owe on the answers that are there, with the seats that are owed."""
        for batch in read_in_parts(self.run.completions_file, Completion):
            yield from self._owed(batch.records, self.slow)
        yield from self.compared([judge for each in self.slow.values() for judge in each if judge.pairwise])

    def _owed(
        self, completions: Sequence[Completion], judges: Mapping[str, Sequence[Judge]]
    ) -> Iterator[tuple[Judge, JudgeItem]]:
        """What each judge of single answers owes, judge by judge, so that prompts which begin alike stand together."""
        items = [JudgeItem(s, c) for c in completions if c.final and (s := self.samples.get(c.sample_key)) is not None]
        unique = {item.completion.key: item for item in items}.values()
        each = {id(judge): judge for item in unique for judge in judges.get(item.sample.task, ()) if not judge.pairwise}
        for judge in each.values():
            own = (item for item in unique if judge in judges.get(item.sample.task, ()))
            yield from ((judge, due) for item in own if (due := self._due(judge, item)) is not None)

    def _due(self, judge: Judge, item: JudgeItem) -> JudgeItem | None:
        """The item with the seats that have yet to judge it."""
        seats = tuple(seat for seat in range(judge.n_seats) if verdict_key(judge, item, seat) not in self.settled)
        return item._replace(seats=seats) if seats else None

    def following(self, judges: Sequence[Judge]) -> Iterator[tuple[Judge, JudgeItem] | None]:
        """What these judges owe, as answers appear; ``None`` when there is nothing right now."""
        offset = 0
        own = {task: [judge for judge in each if judge in judges] for task, each in self.slow.items()}
        while not self.stopped.is_set():
            last = self.all_answered.is_set()
            for batch in read_in_parts(self.run.completions_file, Completion, offset):
                offset = batch.offset
                yield from self._owed(batch.records, own)
            if last:
                yield from self.compared([judge for judge in judges if judge.pairwise])
                return
            yield None

    def compared(self, judges: Sequence[Judge]) -> Iterator[tuple[Judge, JudgeItem]]:
        """What pairwise judges owe."""
        for judge in judges:
            tasks = {task for task, each in self.slow.items() if judge in each}
            items = self.references.items([s for s in self.samples.values() if s.task in tasks])
            yield from ((judge, due) for item in items if (due := self._due(judge, item)) is not None)


class _Thread(threading.Thread):
    """The judges of one model at work."""

    def __init__(self, stage: JudgeStage, judges: Sequence[Judge]) -> None:
        super().__init__(daemon=True, name=f"judging {', '.join(judge.spec.name for judge in judges)}")
        self.stage, self.judges = stage, judges
        transport = judges[0].transport if isinstance(judges[0], PromptJudge) else None
        self.batched = isinstance(transport, Front) and transport.batched
        self.finished = threading.Event()
        self.error: BaseException | None = None
        self.n_owed = 0
        self.n_done = 0

    def run(self) -> None:
        """Judges until nothing more is owed; an error is kept for `JudgeStage.finish` to raise."""
        try:
            for verdicts in self._verdicts():
                self.stage.keep(verdicts)
                self.n_done += len(verdicts)
        except BaseException as error:
            self.error = error
        finally:
            self.finished.set()

    def _owed(self) -> Iterator[tuple[Judge, JudgeItem] | None]:
        for pair in self.stage.following(self.judges):
            if pair is not None:
                self.n_owed += len(pair[1].seats)
            yield pair

    def _stopped(self) -> bool:
        stopped = self.stage.stopped.is_set()
        if stopped and self.batched:
            raise _LeftToProvider
        return stopped

    def _verdicts(self) -> Iterator[list[Verdict]]:
        first = self.judges[0]
        if isinstance(first, PromptJudge):
            asking: Iterator[Asking | None] = (pair and Asking(pair[0], pair[1]) for pair in self._owed())  # type: ignore[arg-type]
            yield from ask_judges(first.transport, asking, self._stopped)
            return
        items: list[JudgeItem] = []
        for pair in self._owed():
            if pair is not None:
                items.append(pair[1])
            if items and (pair is None or len(items) >= BATCH):
                yield list(first.judge(items))
                items = []
            elif pair is None:
                self.stage.stopped.wait(IDLE_SECONDS)
        if items:
            yield list(first.judge(items))


class _LeftToProvider(BaseException):
    """Ends the stream of a thread whose batches go on without it."""


def asks(judge: Judge) -> bool:
    """Whether a judge asks a model, and so takes its time."""
    return judge.asked is not None


def verdict_key(judge: Judge, item: JudgeItem, seat: int) -> str:
    """The key that a verdict will have."""
    return item.verdict_key(judge.spec.key, seat)
