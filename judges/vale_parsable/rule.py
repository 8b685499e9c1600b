"""A text is parsable when it has, whole, one of the world's answer forms."""

from harness.judging.base import Grade
from harness.microworld.oracle import read
from harness.microworld.world import build_world
from harness.records import Sample


def grade(sample: Sample, text: str) -> Grade:
    """Label ``parsable`` or ``free``."""
    reading = read(text, build_world())
    return Grade(None, "parsable" if reading.parsable else "free", f"read as {reading.kind}")
