"""``claims.json``: every sentence that the run was made to test, with its test, effect, interval and decision.

Effects are differences of measures scaled to 0–1 (multiply by 100 for points). Decisions are taken after Holm's
correction over the run's claims; ``supported (not after Holm)`` says that only the interval lies on the claimed side.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from harness.reporting.files import write_whole
from harness.scores import Claim, Scores


def write_claims(scores: Scores, out: Path) -> Path:
    """Writes ``claims.json`` into the report's folder."""
    content = {"run": scores.run, "claims": [claim_dict(claim) for claim in scores.claims]}
    return write_whole(out / "claims.json", json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def claim_dict(claim: Claim) -> dict[str, Any]:
    """One claim as a program reads it."""
    found = claim.comparison
    return {
        "name": claim.name,
        "claim": claim.text,
        "first": claim.first,
        "second": claim.second,
        "test": found.test,
        "alternative": found.alternative,
        "effect": found.difference,
        "interval": None if found.low is None or found.high is None else [found.low, found.high],
        "p_value": found.p_value,
        "p_adjusted": found.p_adjusted,
        "n_pairs": found.n_pairs,
        "n_seeds": found.n_seeds,
        "decision": claim.decision,
    }
