"""No verdict: this judge is a name for verdicts that were recorded elsewhere."""

from harness.judging.base import Grade
from harness.records import Sample


def grade(sample: Sample, text: str) -> Grade:
    """Neither a score nor a label, whatever the answer."""
    return Grade(None, None, "its verdicts are imported with the answers, and none was imported for this one")
