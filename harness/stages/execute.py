"""Train, answer and judge: runs the jobs of a sealed run in worker processes and judges beside them, or trains alone.

The calling process holds the run's lock, gives out jobs, judges what appears and tells progress; the workers append
records themselves. When it dies its workers die with it. After a failed job no further one is given out; what was
finished stays finished, and the same command takes the rest up again.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from queue import Empty
from typing import Any, NamedTuple

from harness.errors import UserError
from harness.records import Cell, Completion
from harness.stages.answering import owed
from harness.stages.jobs import Event, Worker
from harness.stages.judge import JudgeStage
from harness.stages.judges import Judges
from harness.stages.plan import Plan, trained_subjects
from harness.stages.references import References
from harness.store import Run, latest, read, share_lock, wait_for_workers

POLL_SECONDS = 0.3
Counts = dict[str, tuple[int, int]]
Tell = Callable[[Counts], None]


class Job(NamedTuple):
    """A subject to train and to answer with."""

    subject: str
    seed: int


class Executed(NamedTuple):
    """What a start did: whether anything was owed, and how many judgments failed and are owed still."""

    worked: bool
    n_failed: int


def execute(run: Run, plan: Plan, judges: Judges, include_paths: Sequence[Path], tell: Tell) -> Executed:
    """Brings a sealed run to its end: everything trained, answered and judged.

    Scores that are about to become old are deleted before anything is done.

    Args:
        run: The run, sealed and locked.
        plan: Its plan.
        judges: Its judges, able to judge.
        include_paths: Further content folders.
        tell: Called with stage → (done, total) whenever something may have moved.

    Raises:
        UserError: A job failed, or a judge's model cannot be asked; the reason is told.
    """
    members = {
        name: [j for judge in task.spec.judges for j in judges.members(judge)] for name, task in plan.tasks.items()
    }
    stage = JudgeStage(run, plan.samples(), members, References(run, plan.config.judging.against))
    jobs = unfinished(run, plan)
    if not (jobs or stage.owes()):
        return Executed(False, 0)
    run.scores_file.unlink(missing_ok=True)
    with stage as judging:
        judging.step()
        if jobs:
            wait_for_workers(run.path)
            with _pool(run, plan, include_paths, len(jobs)) as (pool, events):
                n_answers = _n_answers(plan, jobs)
                _Drive(plan, jobs, pool, events, _train_and_answer, _beside(judging), tell, n_answers).run()
        judging.finish(lambda: tell({"verdicts": judging.progress()}))
    return Executed(True, judging.n_failed)


def train(run: Run, plan: Plan, jobs: Sequence[Job], include_paths: Sequence[Path], tell: Tell) -> None:
    """Trains subjects of a sealed run and asks them nothing; what is trained already stays.

    Args:
        run: The run, sealed and locked.
        plan: Its plan.
        jobs: Which subjects, with which seeds.
        include_paths: Further content folders.
        tell: Called with stage → (done, total) whenever something may have moved.

    Raises:
        UserError: A training failed; the reason is told.
    """
    _apart(run, plan, jobs, include_paths, tell, _train)


def make_data(run: Run, plan: Plan, jobs: Sequence[Job], include_paths: Sequence[Path], tell: Tell) -> None:
    """Makes the training records of subjects of a sealed run and trains none; otherwise as `train`."""
    _apart(run, plan, jobs, include_paths, tell, None)


def _apart(
    run: Run, plan: Plan, jobs: Sequence[Job], include_paths: Sequence[Path], tell: Tell,
    work: Callable[[Sequence[Job]], None] | None,
) -> None:  # fmt: skip
    """Jobs without any judging beside them."""
    wait_for_workers(run.path)
    with _pool(run, plan, include_paths, len(jobs)) as (pool, events):
        _Drive(plan, list(jobs), pool, events, work, dict, tell).run()


def unfinished(run: Run, plan: Plan) -> list[Job]:
    """The jobs that still owe a checkpoint or an answer, in the order of the configuration."""
    cells = latest(read(run.cells_file, Cell).records)
    known = latest(read(run.completions_file, Completion).records)
    owners = [subject for subject in plan.config.subjects if subject.weights_of is None]
    jobs = [Job(subject.name, seed) for seed in plan.config.seeds for subject in owners]
    return [job for job in jobs if not _finished(run, plan, job, cells, known)]


def _finished(run: Run, plan: Plan, job: Job, cells: dict[str, Cell], known: dict[str, Completion]) -> bool:
    weights = _weights(run, plan, job)
    found = {(cell.subject, cell.task): cell for cell in cells.values() if cell.seed == job.seed}
    sharers = [s.name for s in plan.config.subjects if job.subject in (s.name, s.weights_of)]
    for sharer in sharers:
        for task, loaded in plan.tasks.items():
            cell = found.get((sharer, task))
            if cell is None or cell.model.weights != weights or owed(loaded.samples, cell.model, known):
                return False
    return True


def _weights(run: Run, plan: Plan, job: Job) -> str | None:
    """Hash of the weights that a job's subject answers with; ``None`` while it is not trained."""
    if job.subject not in {subject.name for subject in trained_subjects(plan.config)}:
        return _base(plan, job)
    checkpoint = run.checkpoint(job.subject, job.seed)
    return None if checkpoint is None else checkpoint.weights


def _base(plan: Plan, job: Job) -> str:
    """Hash of the base that an untrained job answers with."""
    return str(plan.manifest["subject_bases"].get(job.subject) or plan.manifest["bases"][str(job.seed)])


def _n_answers(plan: Plan, jobs: Sequence[Job]) -> int:
    sharers = [s.weights_of or s.name for s in plan.config.subjects]
    return sum(sharers.count(job.subject) for job in jobs) * len(plan.samples())


def _beside(judging: JudgeStage) -> Callable[[], Counts]:
    def step() -> Counts:
        judging.step()
        return {"verdicts": judging.progress()}

    return step


class _Drive:
    """Gives out jobs: each seed's data first, then its subjects, the longest first.

    Args:
        plan: The plan.
        jobs: What to do.
        pool: The workers.
        events: On which they tell their progress.
        work: What a worker does with jobs once their data are made; ``None`` where that is all.
        beside: Done here whenever something may have moved; gives counts of its own.
        tell: Told all counts.
        n_answers: Answers that the jobs will give.
    """

    def __init__(
        self,
        plan: Plan,
        jobs: list[Job],
        pool: ProcessPoolExecutor,
        events: Any,
        work: Callable[[Sequence[Job]], None] | None,
        beside: Callable[[], Counts],
        tell: Tell,
        n_answers: int = 0,
    ) -> None:
        self.plan, self.jobs, self.pool, self.events = plan, jobs, pool, events
        self.work, self.beside, self.tell = work, beside, tell
        wanted = {job.subject for job in jobs}
        self.trained = [subject.name for subject in trained_subjects(plan.config) if subject.name in wanted]
        self.seeds = sorted({job.seed for job in jobs if job.subject in self.trained})
        self.running: dict[Future[Any], bool] = {}
        self.failure: BaseException | None = None
        self.done = {"data": 0, "steps": 0, "answers": 0}
        self.totals = {"data": len(self.seeds) * len(self.trained), "steps": 0, "answers": n_answers}

    def run(self) -> None:
        """Until every job has ended.

        Raises:
            UserError: A job failed; after the first failure none is given out any more.
        """
        for group in self._same_base([Job("", seed) for seed in self.seeds]):
            self.running[self.pool.submit(_make_data, [job.seed for job in group], self.trained)] = True
        for group in self._same_base([job for job in self.jobs if job.subject not in self.trained]):
            self._submit(group)
        while self.running:
            finished, _ = wait(self.running, timeout=POLL_SECONDS, return_when=FIRST_COMPLETED)
            for future in finished:
                self._settle(future)
            self._progress()
        if self.failure is not None:
            raise _told(self.failure)

    def _same_base(self, jobs: Sequence[Job]) -> list[list[Job]]:
        """Jobs that ask the same base the same questions, for one worker: what is asked once is known afterwards."""
        groups: dict[str, list[Job]] = {}
        for job in jobs:
            groups.setdefault(_base(self.plan, job), []).append(job)
        return list(groups.values())

    def _submit(self, jobs: Sequence[Job]) -> None:
        if self.work is not None:
            self.running[self.pool.submit(self.work, jobs)] = False

    def _settle(self, future: Future[Any]) -> None:
        made_data = self.running.pop(future)
        if future.cancelled():
            return
        error = future.exception()
        if error is not None:
            self.failure = self.failure or error
            for waiting in self.running:
                waiting.cancel()
        elif made_data and self.failure is None:
            for job in self._ready(future.result()):
                self._submit([job])

    def _ready(self, steps: dict[Job, int]) -> list[Job]:
        """The jobs whose data are made, the longest trainings first."""
        jobs = [job for job in self.jobs if job in steps]
        self.totals["steps"] += sum(steps[job] for job in jobs) if self.work is not None else 0
        return sorted(jobs, key=lambda job: -steps[job])

    def _progress(self) -> None:
        while True:
            try:
                event: Event = self.events.get_nowait()
            except Empty:
                break
            self.done[event.kind] += event.done
        counts = {name: (done, max(done, self.totals[name])) for name, done in self.done.items()}
        self.tell({**counts, **self.beside()})


def _told(error: BaseException) -> BaseException:
    if isinstance(error, BrokenProcessPool):
        return UserError(
            "a worker process was killed, perhaps for want of memory; what is finished is kept: start the same "
            "command again, with fewer workers (--set throughput.workers=1) if memory is short"
        )
    return error


@contextmanager
def _pool(
    run: Run, plan: Plan, include_paths: Sequence[Path], n_jobs: int
) -> Iterator[tuple[ProcessPoolExecutor, Any]]:
    """Worker processes that die with this one, and the queue on which they tell their progress."""
    context = multiprocessing.get_context("spawn")
    events = context.Queue()
    workers = min(plan.config.workers(), n_jobs)
    pool = ProcessPoolExecutor(
        workers,
        mp_context=context,
        initializer=_start,
        initargs=(run.path, plan.config.model_dump_json(), tuple(include_paths), events),
    )
    try:
        yield pool, events
    except BaseException:
        for process in multiprocessing.active_children():
            process.kill()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


# In the worker

_worker: Worker | None = None
_hold: Any = None


def _start(path: Path, config: str, include_paths: tuple[Path, ...], events: Any) -> None:
    global _worker, _hold
    from tqdm import tqdm

    from harness.config import RunConfig

    parsed = RunConfig.model_validate_json(config)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = str(parsed.threads)  # read when torch is loaded, which is later
    for variable in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        os.environ.setdefault(variable, "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    tqdm.set_lock(threading.RLock())  # its own is a semaphore, which a killed worker would leave behind
    _hold = share_lock(path)
    _worker = Worker(path, parsed, include_paths, events.put)


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _make_data(seeds: Sequence[int], subjects: Sequence[str]) -> dict[Job, int]:
    assert _worker is not None
    return {Job(subject, seed): n for seed in seeds for subject, n in _worker.make_data(seed, subjects).items()}


def _train(jobs: Sequence[Job]) -> None:
    assert _worker is not None
    for job in jobs:
        _worker.train(_worker.config.subject(job.subject), job.seed)


def _train_and_answer(jobs: Sequence[Job]) -> None:
    assert _worker is not None
    for job in jobs:
        _worker.train_and_answer(job.subject, job.seed)
