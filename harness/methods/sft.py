"""SFT: fine-tuning on instruction and good response in the ordinary template (paper, section 1, baselines)."""

from harness.methods.base import Prepared, Workbench, good_responses
from harness.records import Style

STYLE: Style = "ordinary"
NEEDS: frozenset[str] = frozenset()


def prepare(bench: Workbench) -> Prepared:
    """Every row's good response."""
    return bench.finish(good_responses(bench))
