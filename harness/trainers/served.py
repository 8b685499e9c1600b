"""A trained model that a server keeps: the ``model.json`` that stands in a checkpoint folder instead of weights."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from harness.errors import UserError
from harness.records import Record

FILE = "model.json"


class ServedModel(Record):
    """Where a trained model answers.

    Attributes:
        key: SHA-256 of what was trained.
        backend: As under ``models`` in a recipe.
        model: The name that the server knows it by; it stands for the weights.
        base_url: The server; the official one where absent.
        api_key_env: The environment variable that holds the key.
        base: What it was trained from.
        job: The server's name of the training.
    """

    key: str
    backend: Literal["openai"] = "openai"
    model: str
    base_url: str | None = None
    api_key_env: str
    base: str
    job: str


def read_served(folder: Path) -> ServedModel | None:
    """The served model of a checkpoint folder; ``None`` where the folder holds weights.

    Raises:
        UserError: The file is none of ours.
    """
    file = folder / FILE
    if not file.is_file():
        return None
    try:
        return ServedModel.model_validate_json(file.read_bytes())
    except ValidationError:
        raise UserError(f"{file}: does not name a model on a server; delete {folder} and train again") from None
