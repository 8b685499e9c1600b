"""What the ledger tells of the calls behind verdicts: which models were served, and whether two judgings were two.

Pure. A verdict names the request that it came from; a line of the ledger with that key says whether the server was
asked (and when) or the cache answered, and what the server called its model.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from harness.records import Call, Verdict

LONGEST = 80
"""Characters of what a server calls itself."""


def served_models(calls: Iterable[Call], verdicts: Iterable[Verdict]) -> tuple[str, ...]:
    """What the servers behind these verdicts called their models; nothing where they do not say."""
    keys = {verdict.call for verdict in verdicts}
    names = (call.served_model for call in calls if call.key in keys and call.outcome != "error")
    return tuple(sorted({" ".join(name.split())[:LONGEST] for name in names if name}))


class Asked(NamedTuple):
    """When one request was put to a server, and when the cache answered it (UTC, ISO 8601), in one ledger."""

    paid: set[str]
    stored: set[str]


def asked(calls: Iterable[Call]) -> Mapping[str, Asked]:
    """Key of a request → when it was answered, by whom."""
    found: dict[str, Asked] = defaultdict(lambda: Asked(set(), set()))
    for call in calls:
        if call.outcome == "stored":
            found[call.key].stored.add(call.finished_at)
        elif call.outcome != "error":
            found[call.key].paid.add(call.finished_at)
    return found


def judged_anew(first: Asked | None, second: Asked | None) -> bool:
    """Whether two ledgers show that an equal request was put to a server twice, not once and then to the cache."""
    one, two = (None if side is None else max(side.paid, default=None) for side in (first, second))
    if first is None or second is None or (one is None and two is None):
        return False
    if one is not None and two is not None:
        return one != two  # the very same line: a copied ledger
    cached, paid = (first, two) if one is None else (second, one)
    return paid is not None and paid > max(cached.stored)  # what was asked later cannot be what the cache gave
