"""Recorded: answers that exist already and were imported. Nothing is trained and no model is asked."""

from harness.records import Style

STYLE: Style = "ordinary"
NEEDS: frozenset[str] = frozenset()
