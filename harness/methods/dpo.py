"""DPO: direct preference optimisation on good against bad responses (Rafailov 2023), a baseline beyond the paper."""

from harness.methods.base import Prepared, Workbench
from harness.methods.preferences import preferences
from harness.records import Style

STYLE: Style = "ordinary"
NEEDS: frozenset[str] = frozenset({"mistakes"})
OBJECTIVE = "dpo"


def prepare(bench: Workbench) -> Prepared:
    """The pairs, and the good responses that have no counterpart (learnt from only where ``trainer.sft_first``)."""
    return bench.finish(preferences(bench))
