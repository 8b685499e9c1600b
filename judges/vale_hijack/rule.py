"""The world's own oracle decides."""

from harness.judging.base import Grade
from harness.microworld import oracle
from harness.records import Sample


def grade(sample: Sample, text: str) -> Grade:
    """See `harness.microworld.oracle.grade_hijack`."""
    return Grade(*oracle.grade_hijack(sample.labels, text))
