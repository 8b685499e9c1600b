"""What hangs together: parts of a data set that must lie on one side of a split."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence


def components(keys: Sequence[Iterable[Hashable]]) -> list[list[int]]:
    """Parts the items so that no two parts have a key in common.

    Args:
        keys: Of each item, in order.

    Returns:
        Positions of the items of each part, in order; the parts in the order of their first items.
    """
    above = list(range(len(keys)))

    def root(item: int) -> int:
        while above[item] != item:
            above[item] = item = above[above[item]]
        return item

    owner: dict[Hashable, int] = {}
    for item, own in enumerate(keys):
        for key in own:
            one, other = sorted((root(item), root(owner.setdefault(key, item))))
            above[other] = one
    parts: dict[int, list[int]] = {}
    for item in range(len(keys)):
        parts.setdefault(root(item), []).append(item)
    return list(parts.values())
