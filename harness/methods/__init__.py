"""How the training data of an aligned model is made: one module a method.

A method reads alignment rows, may ask the base model or another model for more (mistakes, analyses, revisions), and
gives training records. Every question it asks is recorded as it is answered, every row's way through it is on disk,
and what it dropped is counted with the reason. Adding a method is adding a module here and a line to ``METHODS``.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from harness.errors import unknown_name
from harness.methods.analysis_settings import AnalysisSettings
from harness.methods.base import Prepared, RowStep, Workbench
from harness.records import Style
from harness.trainers.base import Objective

METHODS: dict[str, str] = {
    "vanilla": "the base model as it is",
    "sft": "supervised fine-tuning on the good responses",
    "critique_revise": "fine-tuning on the model's own revisions of mistakes",
    "chain_of_hindsight": "fine-tuning on good and bad responses told apart by hindsight phrases",
    "mistake_analysis": "fine-tuning on the good responses and on analyses of mistakes",
    "rlhf": "a reward model from good and bad responses, and policy optimisation against it",
    "dpo": "direct preference optimisation on good and bad responses",
    "kto": "Kahneman-Tversky optimisation on good and bad responses",
    "recorded": "answers that exist already, imported",
}


def _module(name: str) -> ModuleType:
    if name not in METHODS:
        raise unknown_name("method", name, METHODS)
    return import_module(f"harness.methods.{name}")


def method_style(name: str) -> Style:
    """The prompt that a method's models answer with unless a recipe says otherwise."""
    style: Style = _module(name).STYLE
    return style


def method_needs(name: str) -> frozenset[str]:
    """Which of ``mistakes`` and ``analyst`` a recipe must choose for this method."""
    needs: frozenset[str] = _module(name).NEEDS
    return needs


def method_asks(name: str) -> frozenset[str]:
    """Whom a method asks whatever its recipe chooses: ``self``, or nobody."""
    asks: frozenset[str] = getattr(_module(name), "ASKS", frozenset())
    return asks


def method_objective(name: str) -> Objective:
    """What a method's models are trained for; the likelihood of completions unless it says otherwise."""
    objective: Objective = getattr(_module(name), "OBJECTIVE", "sft")
    return objective


def method_trains(name: str) -> bool:
    """Whether the method trains at all."""
    return hasattr(_module(name), "prepare")


def prepare(name: str, bench: Workbench) -> Prepared:
    """Makes a method's training records; see `Prepared`."""
    prepared: Prepared = _module(name).prepare(bench)
    return prepared


__all__ = [
    "METHODS",
    "AnalysisSettings",
    "Prepared",
    "RowStep",
    "Workbench",
    "method_asks",
    "method_needs",
    "method_objective",
    "method_style",
    "method_trains",
    "prepare",
]
