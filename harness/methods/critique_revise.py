"""Critique-Revise: the model criticises a mistake, revises it, and is fine-tuned on its revisions.

Mistakes come from the data set or from the model itself; critique and revision are always its own. No reference
response is used for harmful instructions; the helpful instructions keep theirs (paper, section 1, baselines; the
details are inferred).
"""

from harness.methods.base import Prepared, Workbench, good_responses, response_record
from harness.methods.mistakes import analyses, mistakes, revisions
from harness.records import Style

STYLE: Style = "ordinary"
NEEDS: frozenset[str] = frozenset({"mistakes"})
ASKS = frozenset({"self"})


def prepare(bench: Workbench) -> Prepared:
    """The model's revisions of its mistakes, and the helpful rows' good responses."""
    revised = revisions(bench, analyses(bench, mistakes(bench)))
    records = [response_record(row, bench.templates, "ordinary", text, "revision") for row, text in revised]
    return bench.finish(records + good_responses(bench, only="benign"))
