"""Overlap of training with testing: test items that stand, word for word or nearly, among the alignment rows.

Reads alignment rows and frozen samples, writes nothing. Texts are compared without case, punctuation and spacing.
Nearly the same are two texts whose character 4-grams, weighted by how rare they are in both data sets (TF-IDF), have a
cosine of at least ``near``; so the wording that all questions of a data set share counts little. Questions are compared
with questions, answers to be judged with responses. An answer that several questions get is a stock phrase, such as a
plain refusal, and no leak. Not found: translations, paraphrases, an item that is a small part of a longer row, and in
Chinese, where four characters are two words or three, short sentences with a character changed.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

from harness.errors import UserError
from harness.records import Finite, Record, Sample
from harness.rows.readers import AlignmentRow

N_GRAM = 4
NEAR = 0.8
"""Of 35 pairs of public red-team prompts this near 34 ask the same; just below, many differ in what they are about."""
LONGEST = 2000
"""Characters of a text that are compared nearly; all of it is compared exactly."""
AT_ONCE = 4_000_000
"""Pairs of texts compared at once: about 50 MB."""
ROUNDING = 1e-6
SHOWN = 160
_BETWEEN = re.compile(r"[\s!-/:-@\[-`{-~\u00a1-\u00bf\u2000-\u206f\u3000-\u303f]+")


class Match(Record):
    """A test item and the alignment row that it stands in.

    Attributes:
        sample_key: Key of the sample.
        sample: Where it comes from.
        row: Where the row comes from.
        part: What of the item is there: its ``prompt``, or the ``answer`` to be judged.
        similarity: 1 for the same text, else the cosine.
        text: Beginning of the item's text.
        row_text: Beginning of the row's.
    """

    sample_key: str
    sample: str
    row: str
    part: Literal["prompt", "answer"]
    similarity: Finite
    text: str
    row_text: str


class TaskOverlap(Record):
    """What of one task's items stands among the alignment rows.

    Attributes:
        task: Its name.
        n_items: Its samples.
        n_exact: Those of which a part stands there word for word.
        n_near: Those of which a part nearly does, and none word for word.
        matches: One for each of these items, the nearest first.
    """

    task: str
    n_items: int
    n_exact: int
    n_near: int
    matches: tuple[Match, ...] = ()

    @property
    def share(self) -> float:
        """Share of the items, 0–1."""
        return (self.n_exact + self.n_near) / self.n_items


class Nearest(NamedTuple):
    """The known text that is nearest to another, and how near it is: 1 for the same text and no other."""

    known: str
    similarity: float


class _Texts(NamedTuple):
    """Normalised text → what it stands for: a row's or a sample's questions, and answers that one question gets."""

    prompts: dict[str, tuple[str, str]]
    answers: dict[str, tuple[str, str]]


def find_overlap(rows: Iterable[AlignmentRow], samples: Sequence[Sample], near: float = NEAR) -> list[TaskOverlap]:
    """The overlap of each task, in the order of the samples.

    Args:
        rows: The alignment rows.
        samples: The frozen samples of all tasks.
        near: Least cosine of texts that count as nearly the same; 1 leaves only texts of the very same 4-grams.
    """
    known, tested = _texts_of_rows(rows), _texts_of_samples(samples)
    prompts = nearest(tested.prompts, known.prompts, near)
    answers = nearest(tested.answers, known.answers, near)
    tasks: dict[str, list[Match | None]] = {}
    for sample in samples:
        found = [
            match
            for match in (
                _match(sample, "prompt", _asked(sample), prompts, known.prompts),
                _match(sample, "answer", _answered(sample), answers, known.answers),
            )
            if match is not None
        ]
        best = max(found, key=lambda match: match.similarity, default=None)
        tasks.setdefault(sample.task, []).append(best)
    return [_task(name, matches) for name, matches in tasks.items()]


def nearest(texts: Iterable[str], known: Iterable[str], near: float) -> dict[str, Nearest]:
    """For each text that stands among the known ones, or nearly does, the nearest.

    Args:
        texts: Normalised texts; an empty one is like nothing.
        known: Normalised texts to look among.
        near: Least cosine.
    """
    among = dict.fromkeys(text for text in known if text)
    texts = [text for text in dict.fromkeys(texts) if text]
    found = {text: Nearest(text, 1.0) for text in texts if text in among}
    rest = [text for text in texts if text not in found and len(text) >= N_GRAM]
    long = [text for text in among if len(text) >= N_GRAM]
    return {**found, **_nearly(rest, long, near)} if rest and long else found


def _nearly(texts: Sequence[str], known: Sequence[str], near: float) -> dict[str, Nearest]:
    import numpy as np
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(analyzer="char", ngram_range=(N_GRAM, N_GRAM), lowercase=False, dtype=np.float32)
    vectors = vectorizer.fit_transform([text[:LONGEST] for text in (*known, *texts)]).tocsr()
    among, asked = vectors[: len(known)].T.tocsr(), vectors[len(known) :]
    found: dict[str, Nearest] = {}
    step = max(1, AT_ONCE // len(known))
    for start in range(0, len(texts), step):
        cosines = asked[start : start + step] @ among
        for place in np.flatnonzero(cosines.max(axis=1).toarray().ravel() >= near - ROUNDING).tolist():
            row = cosines[place]
            best = row.data.argmax()
            found[texts[start + place]] = Nearest(known[row.indices[best]], min(0.9999, float(row.data[best])))
    return found


def normalised(text: str) -> str:
    """A text without case, punctuation, widths of letters and spacing; of one that is nothing else, all of it."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    return _BETWEEN.sub(" ", plain).strip() or plain.strip()


def _texts_of_rows(rows: Iterable[AlignmentRow]) -> _Texts:
    prompts: dict[str, tuple[str, str]] = {}
    answers: dict[str, dict[str, tuple[str, str]]] = {}
    for row in rows:
        asked, place = f"{row.instruction} {row.input}", row.source or row.key[:12]
        prompts.setdefault(normalised(asked), (place, asked))
        for answer in (row.good, row.bad):
            if answer is not None:
                answers.setdefault(normalised(answer), {})[normalised(asked)] = (place, answer)
    return _Texts(prompts, _of_one_question(answers))


def _texts_of_samples(samples: Iterable[Sample]) -> _Texts:
    prompts: dict[str, tuple[str, str]] = {}
    answers: dict[str, dict[str, tuple[str, str]]] = {}
    for sample in samples:
        asked, answered, place = _asked(sample), _answered(sample), sample.source or sample.key[:12]
        prompts.setdefault(normalised(asked), (place, asked))
        answers.setdefault(normalised(answered), {})[normalised(asked)] = (place, answered)
    return _Texts(prompts, _of_one_question(answers))


def _of_one_question(answers: Mapping[str, Mapping[str, tuple[str, str]]]) -> dict[str, tuple[str, str]]:
    return {answer: next(iter(asked.values())) for answer, asked in answers.items() if len(asked) == 1}


def _asked(sample: Sample) -> str:
    return " ".join(message.content for message in sample.messages if message.role in ("user", "input"))


def _answered(sample: Sample) -> str:
    return " ".join(message.content for message in sample.messages if message.role == "assistant")


def _match(
    sample: Sample,
    part: Literal["prompt", "answer"],
    text: str,
    found: Mapping[str, Nearest],
    known: Mapping[str, tuple[str, str]],
) -> Match | None:
    near = found.get(normalised(text))
    if near is None:
        return None
    place, row_text = known[near.known]
    return Match(
        sample_key=sample.key,
        sample=sample.source or sample.key[:12],
        row=place,
        part=part,
        similarity=round(near.similarity, 4),
        text=text[:SHOWN],
        row_text=row_text[:SHOWN],
    )


def _task(name: str, matches: Sequence[Match | None]) -> TaskOverlap:
    found = sorted((match for match in matches if match is not None), key=lambda match: -match.similarity)
    n_exact = sum(match.similarity == 1 for match in found)
    return TaskOverlap(
        task=name, n_items=len(matches), n_exact=n_exact, n_near=len(found) - n_exact, matches=tuple(found)
    )


def refuse_overlap(found: Iterable[TaskOverlap], max_share: float) -> None:
    """Raises a `UserError` for the first task more of whose items are trained on than ``max_share`` (0–1)."""
    for task in found:
        if task.share <= max_share:
            continue
        first = "; ".join(f"{one.sample} is {one.row} ({one.part}, {one.similarity:.2f})" for one in task.matches[:3])
        raise UserError(
            f"task '{task.task}': {_told(task)}, more than overlap.max_share ({max_share:.1%}): {first}. Take these "
            "rows out of the alignment data, or test on other items; --set overlap.max_share=1 runs it all the same"
        )


def overlap_notes(found: Sequence[TaskOverlap]) -> list[str]:
    """A sentence for each task with overlap, or one that there is none; without any text of the items."""
    notes = [f"{task.task}: {_told(task)}." for task in found if task.matches]
    clean = "None of the test items stands among the alignment rows, word for word or nearly."
    return notes or ([clean] if found else [])


def _told(task: TaskOverlap) -> str:
    n_answers = sum(match.part == "answer" for match in task.matches)
    by_answer = f"; {n_answers} of them by the answer that is to be judged" if n_answers else ""
    return (
        f"{len(task.matches)} of {task.n_items} test items ({task.share:.1%}) stand among the alignment rows "
        f"({task.n_exact} word for word, {task.n_near} nearly{by_answer})"
    )
