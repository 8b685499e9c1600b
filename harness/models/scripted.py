"""A model whose answers come from a function: oracles of invented worlds, and tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from harness.models.base import Answer, Request, written
from harness.records import Decoding


class ScriptedModel:
    """Answers with what a function says.

    Args:
        script: Request → text.
    """

    def __init__(self, script: Callable[[Request], str]) -> None:
        self.script = script

    def answer(self, requests: Sequence[Request], decoding: Decoding) -> list[Answer]:
        """The script's text for each request."""
        return [written(self.script(request)) for request in requests]
