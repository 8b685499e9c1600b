"""What a run could not do, told before anything is made: answers that leave no room, programs that are missing.

Reads the configuration, the tasks and the ``config.json`` of local checkpoints; writes nothing. What only a loaded
model can tell (a context that its ``config.json`` does not name) is told when it is asked.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from harness.blocks import SubjectConfig
from harness.config import RunConfig
from harness.errors import UserError
from harness.methods import method_trains
from harness.sources import base_folder
from harness.store import Run
from harness.tasks import LoadedTask
from harness.trainers.external_settings import placeholders

_CONTEXT = ("n_positions", "max_position_embeddings", "n_ctx")
"""What a ``config.json`` calls its context; in the order in which lm-eval looks."""


class Length(NamedTuple):
    """How much a model is to write: who, in which field of the recipe it stands, and how many tokens."""

    model: str
    field: str
    n_tokens: int


def refuse_infeasible(config: RunConfig, tasks: Mapping[str, LoadedTask]) -> None:
    """Raises a `UserError` where a model could not write as much as it is to."""
    for length in dict.fromkeys([*_preparing(config), *_answers(config, tasks)]):
        context = context_of(base_folder(length.model))
        if context is not None and length.n_tokens >= context:
            raise UserError(
                f"{length.field}: {length.n_tokens} new tokens leave no room for a prompt in the context of "
                f"{length.model}, {context} tokens: choose fewer, such as --set {length.field}={context // 2}"
            )


def context_of(folder: Path) -> int | None:
    """How many tokens a checkpoint reads and writes at most; ``None`` where its ``config.json`` does not say."""
    try:
        found = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        found = found.get("text_config") or found
        return next((found[name] for name in _CONTEXT if isinstance(found.get(name), int)), None)
    except (OSError, ValueError, AttributeError):  # what is wrong with it is told by who loads it
        return None


def _answers(config: RunConfig, tasks: Mapping[str, LoadedTask]) -> Iterator[Length]:
    """What local models are to write as answers; what is trained has its base's context."""
    for subject in config.subjects:
        owner = config.subject(subject.weights_of or subject.name)
        if config.server_of(owner) is not None or (_trains(owner) and config.trainer_of(owner).name == "openai"):
            continue
        for model in [owner.base] if owner.base is not None else config.bases().values():
            for name, task in tasks.items():
                if task.spec.max_new_tokens is not None:
                    longest = config.tasks[name].max_new_tokens or task.spec.max_new_tokens
                    yield Length(model, f"tasks.{name}.max_new_tokens", longest)


def _preparing(config: RunConfig) -> Iterator[Length]:
    """What local models are to write as training data."""
    longest, field = config.prepare.sampling.max_new_tokens, "prepare.sampling.max_new_tokens"
    for subject in filter(_trains, config.subjects):
        if subject.asks_base:
            yield from (Length(model, field, longest) for model in config.bases().values())
        analyst = config.models.get(subject.analyst or "")
        if analyst is not None and analyst.path is not None:
            yield Length(analyst.path, field, longest)


def _trains(subject: SubjectConfig) -> bool:
    return method_trains(subject.method) and subject.weights_of is None


def missing_programs(config: RunConfig, subjects: Collection[str] | None = None) -> list[str]:
    """What trainings need that is not on this machine.

    Args:
        config: The configuration.
        subjects: Whose trainings; all by default.
    """
    found = []
    for subject in filter(_trains, config.subjects):
        command = config.trainer_of(subject).command
        wanted = subjects is None or subject.name in subjects
        if wanted and command is not None and not placeholders(command.arguments[:1]):
            program = command.arguments[0]
            if shutil.which(program) is None:
                found.append(
                    f"trainer.command.arguments: no program '{program}' is found or may be run, which is to train "
                    f"'{subject.name}': give its path, or install it here"
                )
    return found


def refuse_missing_programs(config: RunConfig, run: Run, trainings: Iterable[tuple[str, int]]) -> None:
    """Raises a `UserError` where one of these trainings (subject, seed) is not done in a run and lacks its program."""
    owed = {subject for subject, seed in trainings if run.checkpoint(subject, seed) is None}
    for missing in missing_programs(config, owed):
        raise UserError(missing)
