"""What the calls of a candidate's run came to: from its ledger, ``calls.jsonl``, and from what should stand there."""

from __future__ import annotations

from harness.clients.ledger import spent
from harness.deciding.gate_records import lines
from harness.deciding.gate_result import Decision, RuleResult
from harness.deciding.sides import Side
from harness.records import Call
from harness.stages.answering import SERVER
from harness.store import read


def cost(candidate: Side, limit: float) -> RuleResult:
    """What the calls of the candidate's whole run came to; an unknown bill counts as the dearest known one."""
    run = candidate.loaded.run
    ledger = read(run.calls_file, Call)
    roles = spent(ledger.records)
    known = sum(one.cost_usd for one in roles.values())
    each = [one.most_usd for one in roles.values()]
    most = None if None in each else sum(one or 0.0 for one in each)
    keys = {call.key for call in ledger.records}
    wanted = {line.row.get("call") for line in lines(run.verdicts_file) if line.row}
    n_absent = len(wanted - keys - {None})
    unbilled = _unbilled(candidate, set(roles))
    decision: Decision = "pass"
    reason = f"{len(ledger.records)} calls"
    if known > limit:
        decision, reason = "fail", f"{len(ledger.records)} calls cost more"
    elif n_absent or ledger.n_torn:
        decision, reason = "inconclusive", f"{n_absent} calls behind verdicts, and {ledger.n_torn} lines, are not known"
    elif unbilled:
        decision, reason = "inconclusive", f"a server's model answered for {', '.join(unbilled)}, and no call is known"
    elif most is None or most > limit:
        decision, reason = "inconclusive", "some calls have no known price; they may have cost more"
    return RuleResult(
        rule="max_cost_usd",
        decision=decision,
        reason=reason,
        value=known,
        bound=most,
        limit=limit,
        n=len(ledger.records),
        settles="prices of the models (models.NAME.price), for the calls to come" if decision == "inconclusive" else "",
    )


def _unbilled(side: Side, roles: set[str]) -> list[str]:
    """Subjects whose answers a server's model gave, where the ledger has no call in any such subject's name."""
    served: dict[str, list[str]] = {}
    for cell in side.loaded.cells.values():
        if cell.model.backend == SERVER:
            served.setdefault(cell.model.weights, []).append(cell.subject)
    rows = lines(side.loaded.run.completions_file)
    answered = {line.row.get("model_key") for line in rows if line.row}
    models = {cell.model.weights for cell in side.loaded.cells.values() if cell.model.key in answered}
    silent = [names for weights, names in served.items() if weights in models and not roles & set(names)]
    return sorted({name for names in silent for name in names})
