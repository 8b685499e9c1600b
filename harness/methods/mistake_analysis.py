"""Mistake Analysis: fine-tuning on the good responses and on unguided analyses of mistakes (paper, section 1).

1. Mistakes are given by the data set (``origin``) or induced from the model with template (a) and the harmful hint.
2. The model itself or a stronger one analyses them under the guided template (b); by the settings, good responses too.
3. The analyses become targets of the unguided template (c), mixed with the ordinary pairs, and one model learns both.
4. At inference the recipe may use template (a) with the harmless hint; the paper does.
"""

from harness.methods.base import Prepared, Workbench, good_responses
from harness.methods.mistakes import analyses, analysis_sample, good_answers, mistakes
from harness.prompting import render
from harness.records import Style, TrainingRecord

STYLE: Style = "guided_harmless"
NEEDS: frozenset[str] = frozenset({"mistakes", "analyst"})


def prepare(bench: Workbench) -> Prepared:
    """The good responses, and each usable analysis under the unguided template."""
    good, settings = good_responses(bench), bench.settings
    written = analyses(bench, mistakes(bench), settings.n_of_mistakes(len(good)))
    if settings.harmless_share:
        written += analyses(bench, good_answers(bench), settings.n_of_good(len(written)), "harmless_analysis")
    records = [
        TrainingRecord(
            prompt=render(analysis_sample(analysis), bench.templates, "unguided_analysis"),
            completion=analysis.text,
            kind="analysis",
            source=analysis.response.row.key,
        )
        for analysis in written
    ]
    return bench.finish(good + records)
