"""What a reader must know of the models that a judge asked: what their servers ignored, and which models they served.

Reads the verdicts that count and the ledger's lines behind them; writes nothing. All is read from the records, so that
it holds for replies from the cache and for earlier starts too.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from harness.blocks import JudgeConfig, ModelConfig
from harness.calibration.calls import LONGEST
from harness.judging import Panel
from harness.judging.expected import NO_LOGPROBS
from harness.records import Verdict, VerdictOutcome

MOST_SERVED = 4


class Line(NamedTuple):
    """Of a line of the ledger, what tells how a server behaved; in the order of the file."""

    key: str
    served_model: str | None
    detail: str | None


def remarks(
    panel: Panel, settings: JudgeConfig, models: Mapping[str, ModelConfig], verdicts: Sequence[Verdict],
    lines: Sequence[Line],
) -> Iterator[str]:  # fmt: skip
    """Sentences about a judge's models, each with the model's name where there are several.

    Args:
        panel: Who judges.
        settings: How it is asked, and of which models, in the order of the panel's members.
        models: The run's models.
        verdicts: Its verdicts.
        lines: The ledger's lines of its calls that were answered.
    """
    names = settings.models or ()
    for name, spec in zip(names, panel.members, strict=False):
        own = [verdict for verdict in verdicts if verdict.judge_key == spec.key]
        keys = {verdict.call for verdict in own}
        about = [line for line in lines if line.key in keys]
        found = [*_ignored(own, settings, panel, models[name]), *_said(about), *_served(about)]
        yield from (f"{name}: {one}" if len(names) > 1 else one for one in dict.fromkeys(found))


def _ignored(verdicts: Sequence[Verdict], settings: JudgeConfig, panel: Panel, model: ModelConfig) -> Iterator[str]:
    """What was asked of the server and not given, as its replies show."""
    ok = [verdict for verdict in verdicts if verdict.outcome is VerdictOutcome.OK]
    if settings.mode == "logprobs" and (n := sum(v.reason.startswith(f"[plain verdict: {NO_LOGPROBS}]") for v in ok)):
        yield f"server ignored: logprobs ({n} of {len(ok)} verdicts are what was written, not its expectation)"
    if settings.mode == "schema" and model.json_schema != "never":
        replies = [v.raw for v in verdicts if v.raw and v.outcome in (VerdictOutcome.OK, VerdictOutcome.UNPARSED)]
        if n := sum(not raw.lstrip().startswith("{") for raw in replies):
            yield f"server ignored: schema ({n} of {len(replies)} replies are marked text)"
    if _one_by_one(verdicts, panel):
        yield "server ignored: n (each seat was a request of its own)"


def _one_by_one(verdicts: Sequence[Verdict], panel: Panel) -> bool:
    """Whether most answers had each of their seats asked by itself."""
    orders = 2 if panel.pairwise else 1
    calls: dict[tuple[str, str, int], set[str | None]] = defaultdict(set)
    for verdict in (verdict for verdict in verdicts if verdict.call is not None):
        calls[verdict.completion_key, verdict.text_hash, verdict.seat % orders].add(verdict.call)
    n_draws = panel.n_seats // orders
    return n_draws > 1 and 2 * sum(len(keys) == n_draws for keys in calls.values()) > len(calls)


def _said(lines: Iterable[Line]) -> list[str]:
    """What the client noted beside replies."""
    return list(dict.fromkeys(line.detail for line in lines if line.detail))


def _served(lines: Iterable[Line]) -> Iterator[str]:
    """Whether the server's word for the model changed from one call to the next."""
    served = [" ".join(line.served_model.split())[:LONGEST] for line in lines if line.served_model]
    changes = [i for i in range(1, len(served)) if served[i] != served[i - 1]]
    if len(changes) == 1:
        yield f"served model changed: {served[0]} → {served[-1]} after {changes[0]} calls"
    elif changes:
        counts = Counter(served).most_common(MOST_SERVED)
        yield f"served model changed {len(changes)} times: {', '.join(f'{name} ({n} calls)' for name, n in counts)}"
