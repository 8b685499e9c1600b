"""What pydantic says of a block that a user wrote, as one line: the field, what is wrong, and the nearest right name.

Never tells a value that was written where any text may stand, for it may be a secret.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, get_args

from pydantic import BaseModel, ValidationError

from harness.errors import unknown_name

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

_SHAPES = {"model_type": "a block of fields", "dict_type": "a block of names", "tuple_type": "a list"}
_KINDS = {bool: "yes or no", int: "a number", float: "a number", str: "text", list: "a list", dict: "a block"}


def told(error: ValidationError, model: type[BaseModel]) -> str:
    """The first problem in one line; an unknown field comes first, for the field that it should have been is missing.

    Args:
        error: What pydantic says.
        model: The block that was read.
    """
    return all_told(error, model)[0]


def all_told(error: ValidationError, model: type[BaseModel]) -> list[str]:
    """All problems, each in one line, in the order of `told`."""
    problems = sorted(error.errors(), key=lambda problem: problem["type"] != "extra_forbidden")
    return [_line(problem, model) for problem in problems]


def _line(problem: ErrorDetails, model: type[BaseModel]) -> str:
    where = [str(part) for part in problem["loc"]]
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "extra_forbidden":
        message = str(unknown_name("field", where[-1], _fields(where[:-1], model)))
    elif problem["type"] == "literal_error" and isinstance(problem["input"], str):
        known = re.findall(r"'([^']*)'", problem["ctx"]["expected"])
        message = str(unknown_name("value", problem["input"], known))
    elif problem["type"] in _SHAPES:
        fields = _fields(where, model) if problem["type"] == "model_type" else []
        needed = _SHAPES[problem["type"]] + (f" ({', '.join(fields)})" if fields else "")
        message = f"needs {needed}, not {_kind(problem['input'])}"
    return f"{'.'.join(where)}: {message}" if where else message


def _kind(value: Any) -> str:
    return "nothing" if value is None else _KINDS.get(type(value), type(value).__name__)


def _fields(where: Sequence[str], model: type[BaseModel]) -> list[str]:
    """The fields of the innermost block of a place."""
    for part in where:
        field = model.model_fields.get(part)
        model = (field and _block(field.annotation)) or model
    return list(model.model_fields)


def _block(annotation: Any) -> type[BaseModel] | None:
    """The block that a field holds one or several of, if it does."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((block for inner in get_args(annotation) if (block := _block(inner))), None)
