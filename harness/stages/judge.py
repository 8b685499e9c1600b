"""Judge completions as soon as they exist.

Reads new records of ``completions.jsonl``, appends to ``verdicts.jsonl``. What a judge has decided once, under the
same key, about the same text, is never judged again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.judging import Judge, JudgeItem
from harness.records import Completion, Sample, Verdict, content_hash
from harness.store import Run, append, latest, read


class JudgeStage:
    """Follows a run's completions; call `step` until there is nothing new.

    Args:
        run: The run.
        samples: Every sample of it.
        judges: Task → the judges of its samples.
    """

    def __init__(self, run: Run, samples: Sequence[Sample], judges: Mapping[str, Sequence[Judge]]) -> None:
        self.run = run
        self.samples = {sample.key: sample for sample in samples}
        self.judges = judges
        known = latest(read(run.verdicts_file, Verdict).records)
        self.settled = {key for key, verdict in known.items() if verdict.final}
        self.offset = 0
        self.n_judged = 0

    def owes(self) -> bool:
        """Whether any completion on disk waits for a verdict."""
        return bool(self._owed(read(self.run.completions_file, Completion, self.offset).records))

    def step(self) -> int:
        """Judges every whole completion that has appeared since the last step; how many verdicts were new."""
        batch = read(self.run.completions_file, Completion, self.offset)
        self.offset = batch.offset
        new = 0
        for judge, items in self._owed(batch.records):
            verdicts = list(judge.judge(items))
            append(self.run.verdicts_file, verdicts)
            self.settled |= {verdict.key for verdict in verdicts if verdict.final}
            new += len(verdicts)
        self.n_judged += new
        return new

    def _owed(self, completions: Sequence[Completion]) -> list[tuple[Judge, list[JudgeItem]]]:
        owed: dict[str, tuple[Judge, list[JudgeItem]]] = {}
        seen: set[str] = set()
        for completion in completions:
            sample = self.samples.get(completion.sample_key)
            if sample is None or not completion.final:
                continue
            for judge in self.judges.get(sample.task, ()):
                key = content_hash([completion.key, completion.text_hash, judge.spec.key, 0])
                if key not in self.settled and key not in seen:
                    seen.add(key)
                    owed.setdefault(judge.spec.key, (judge, []))[1].append(JudgeItem(sample, completion))
        return list(owed.values())
