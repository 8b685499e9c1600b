"""Which of several candidates cannot be told apart, by the p values of paired tests.

Reads one p value a pair, or one a candidate where all are tested against the best. Those are told apart that a test,
Holm-adjusted over all that were made, tells apart at 5 %; one without a p value is told from nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from typing import Generic, NamedTuple, TypeVar

from harness.scores import ALPHA as ALPHA
from harness.stats.paired import holm

Key = TypeVar("Key", bound=Hashable)


class Told(NamedTuple, Generic[Key]):
    """What tests say.

    Attributes:
        adjusted: Holm's p value of each test.
        apart: Those that are told apart.
    """

    adjusted: dict[Key, float | None]
    apart: frozenset[Key]


def told_apart(p_values: Mapping[Key, float | None]) -> Told[Key]:
    """Corrects the tests that were made together.

    Args:
        p_values: Pair, or candidate that was tested against the best → p value.
    """
    adjusted = dict(zip(p_values, holm(list(p_values.values())), strict=True))
    return Told(adjusted, frozenset(key for key, p in adjusted.items() if p is not None and p <= ALPHA))


def tied_sets(order: Sequence[str], apart: Collection[frozenset[str]]) -> list[list[str]]:
    """The largest groups without two members that are told apart, each and all in the given order.

    A candidate may be in several: a can be tied with b and b with c although a and c differ. One that differs from all
    others is a group of its own.

    Args:
        order: All names, best first.
        apart: Pairs of names.
    """
    found: list[set[str]] = []
    for name in order:
        near = {other for other in order if frozenset((name, other)) not in apart}
        grown = [*found, *([group & near | {name} for group in found] or [{name}])]
        found = [one for i, one in enumerate(grown) if not any(one < other for other in grown) and one not in grown[:i]]
    return sorted((sorted(group, key=order.index) for group in found), key=lambda g: [order.index(n) for n in g])
