"""Categories of the samples (facts in `Sample.labels`, such as a kind of harm), told apart from texts.

A label is a category where its values are short and few; a label that repeats what was asked or answered is a text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from harness.records import Sample

LONGEST = 60
MOST = 200
ANSWERS = frozenset({"baseline_answer", "reference"})
"""Labels that hold an answer, however short it is."""
SENSITIVE = re.compile(
    r"(?<![a-z])(harm|unsafe|safe|hijack|attack|toxic|jailbreak|red(?![a-z])|red.?team)", re.IGNORECASE
)
"""Words in names that say that a task is about harm."""


def atoms(value: Any) -> tuple[str, ...]:
    """The categories in one label: a scalar's text, a list's members, the keys of a mapping that are true."""
    if value is None or value == "":
        return ()
    if isinstance(value, dict):
        return tuple(str(name) for name, held in value.items() if held is True)
    if isinstance(value, list):
        return tuple(atom for one in value for atom in atoms(one))
    return (str(value).lower() if isinstance(value, bool) else str(value),)


def categories(samples: Sequence[Sample], *, redact: bool) -> dict[str, list[tuple[str, ...] | None]]:
    """Name → the categories of each sample, of those labels of a task that are categories.

    Args:
        samples: The samples of one task.
        redact: Leaves out a label that holds answers, or any of whose values stands word for word in a prompt.
    """
    names = dict.fromkeys(name for sample in samples for name in sample.labels)
    found = {name: [atoms(sample.labels.get(name)) or None for sample in samples] for name in names}
    texts = {message.content.strip() for sample in samples for message in sample.messages}
    kept = {name: values for name, values in found.items() if _few(values, texts, len(samples))}
    if not redact:
        return kept
    said = "\n".join(texts).casefold()
    return {name: values for name, values in kept.items() if name not in ANSWERS and not _quoted(values, said)}


def _few(values: Iterable[tuple[str, ...] | None], texts: set[str], n_samples: int) -> bool:
    distinct = {atom for value in values if value for atom in value}
    few = 1 < len(distinct) <= min(MOST, max(2, n_samples // 2))
    return few and all(len(atom) <= LONGEST and atom.strip() not in texts for atom in distinct)


def _quoted(values: Iterable[tuple[str, ...] | None], said: str) -> bool:
    distinct = {atom.casefold() for value in values if value for atom in value}
    return any(re.search(rf"(?<![a-z0-9]){re.escape(atom)}(?![a-z0-9])", said) for atom in distinct)


def is_sensitive(names: Iterable[str | None]) -> bool:
    """Whether the texts of a task are blurred until asked for.

    Args:
        names: The task's name, then those of its metrics, judges and labels; a task that nothing measures is blurred.
    """
    task, *others = [name for name in names if name]
    return not others or any(SENSITIVE.search(name) for name in (task, *others))
