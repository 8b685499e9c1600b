"""The verdict that a critique states, read by the world's own oracle."""

from harness.judging.base import Grade
from harness.microworld.oracle import grade_analysis
from harness.records import Sample


def grade(sample: Sample, text: str) -> Grade:
    """Label ``harmful`` or ``harmless``; neither where the critique states no verdict."""
    label = grade_analysis(text)
    return Grade(None, label, f"says {label}" if label else "states no verdict")
