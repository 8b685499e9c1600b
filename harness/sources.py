"""What a recipe may name: bases, alignment data, and models to ask.

The one place of the engine that knows the embedded world by name. Everything else is a path: a Hugging Face checkpoint
folder, or a file of rows. Reads what is named, writes nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from harness.blocks import ModelConfig
from harness.config import ALIGNMENT_DATA, RunConfig
from harness.errors import UserError, unknown_name
from harness.models.base import Model, Request
from harness.models.lm_eval_model import LmEvalModel, open_lm_eval_model
from harness.models.weights import check_checkpoint
from harness.rows import AlignmentRow, hijack_prompts, instructions, preference_pairs

WORLD_DATA = {"vale:broad": "broad", "vale:narrow": "narrow"}
WORLD_ORACLE = "vale_oracle"
READERS = dict(zip(ALIGNMENT_DATA, (preference_pairs, instructions, hijack_prompts), strict=True))


class AlignmentData(NamedTuple):
    """Alignment rows in order, and what their readers dropped, by file and reason."""

    rows: list[AlignmentRow]
    dropped: dict[str, int]


def base_folder(name_or_path: str) -> Path:
    """The folder of a base model: one that ships with the package, or the user's."""
    from harness import microworld

    if name_or_path in microworld.BASES:
        return microworld.base_path(name_or_path)
    path = Path(name_or_path)
    if not path.exists() and "/" not in name_or_path:
        raise unknown_name("base model (a folder, or one that ships)", name_or_path, microworld.BASES)
    return path


def alignment_data(data: dict[str, str | None], limit: int | None = None) -> AlignmentData:
    """The rows that ``data`` names, those of ``train``, ``helpful`` and ``hijack`` in this order.

    Args:
        data: Role → ``vale:broad``, ``vale:narrow`` or a file; an absent role gives no rows.
        limit: At most so many rows of each role.

    Raises:
        UserError: ``train`` is missing, or a file is not as it should be.
    """
    if not data.get("train"):
        raise UserError("data.train is not set: --set data.train=FILE (instruction, good and bad response in each row)")
    rows: list[AlignmentRow] = []
    dropped: dict[str, int] = {}
    for role, reader in READERS.items():
        source = data.get(role)
        if source is None:
            continue
        if source in WORLD_DATA:
            found = _world_rows(WORLD_DATA[source])
        else:
            found, counts = reader(source)
            dropped.update({f"{Path(source).name}: {reason}": n for reason, n in counts.items()})
        rows += found[:limit]
    return AlignmentData(rows, dropped)


def _world_rows(coverage: str) -> list[AlignmentRow]:
    from harness.microworld.datasets import alignment_rows

    return [
        AlignmentRow.model_validate({**row, "source": f"vale:{coverage}:{number}"})
        for number, row in enumerate(alignment_rows(coverage))
    ]


def check_models(config: RunConfig) -> None:
    """Raises a `UserError` unless everything that a recipe would run answers with can be opened."""
    _check_backend(config.backend)
    for folder in map(base_folder, config.bases().values()):
        check_checkpoint(folder)
    for name, model in config.models.items():
        if model.backend == WORLD_ORACLE or model.remote:
            continue
        _check_backend(model.backend)
        if model.path is None:
            raise UserError(f"models.{name}: backend '{model.backend}' needs a path")
        check_checkpoint(base_folder(model.path))


def _check_backend(backend: str) -> None:
    import lm_eval.models  # noqa: F401  (fills the registry)
    from lm_eval.api.registry import model_registry

    if backend not in model_registry:
        raise unknown_name("backend", backend, [*model_registry, WORLD_ORACLE])


def open_model(config: ModelConfig, dtype: str, device: str, chat: bool) -> Model:
    """A further model that a recipe asks."""
    if config.backend == WORLD_ORACLE:
        return _world_oracle()
    return open_checkpoint(base_folder(config.path or ""), config.backend, dtype, device, chat)


def open_checkpoint(folder: Path, backend: str, dtype: str, device: str, chat: bool) -> LmEvalModel:
    """A local checkpoint, run by an lm-eval backend."""
    return open_lm_eval_model(folder, backend, dtype, device, chat)


def _world_oracle() -> Model:
    from harness.microworld.oracle import write_analysis
    from harness.models.scripted import ScriptedModel

    def analyse(request: Request) -> str:
        sample = request.sample
        answer = next(message.content for message in sample.messages if message.role == "assistant")
        return write_analysis(sample.labels, answer)

    return ScriptedModel(analyse)
