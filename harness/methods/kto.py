"""KTO: good and bad responses one by one (Ethayarajh 2024), a baseline beyond the paper."""

from harness.methods.base import Prepared, Workbench
from harness.methods.preferences import preferences
from harness.records import Style

STYLE: Style = "ordinary"
NEEDS: frozenset[str] = frozenset({"mistakes"})
OBJECTIVE = "kto"


def prepare(bench: Workbench) -> Prepared:
    """Every good response as desirable, every mistake as undesirable."""
    return bench.finish(preferences(bench))
