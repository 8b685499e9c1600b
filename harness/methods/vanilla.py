"""Vanilla: the base model as it is. Nothing is trained."""

from harness.records import Style

STYLE: Style = "ordinary"
NEEDS: frozenset[str] = frozenset()
