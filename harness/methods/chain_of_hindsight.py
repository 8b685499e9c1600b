"""Chain of Hindsight: a good and a bad response in one text, told apart by hindsight phrases.

The phrases are the two hints of template (a): the text begins with the harmless header and the good response, and goes
on with the harmful header and the bad one. Inference uses the harmless header and ends before the harmful one (paper,
section 1, baselines; the form is inferred).
"""

from harness.methods.base import Prepared, Workbench, good_responses, response_record
from harness.methods.mistakes import mistakes
from harness.prompting import hindsight
from harness.records import Style

STYLE: Style = "guided_harmless"
NEEDS: frozenset[str] = frozenset({"mistakes"})


def prepare(bench: Workbench) -> Prepared:
    """Good and bad in one text where there is a mistake; the good response alone elsewhere."""
    bad = {mistake.row.key: mistake.text for mistake in mistakes(bench, learned=True)}
    pairs = [row for row in bench.rows if row.key in bad and row.good]
    paired = {row.key for row in pairs}
    records = [
        response_record(
            row, bench.templates, STYLE, hindsight(bench.templates, row.good or "", bad[row.key]), "hindsight"
        )
        for row in pairs
    ]
    return bench.finish(records + [r for r in good_responses(bench, STYLE) if r.source not in paired])
