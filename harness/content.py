"""Finds the content folders: tasks, judges, reports and recipes.

Reads: the folders beside the package in a checkout, the copies inside it in a wheel, and the folders that a user adds
with ``--include-path`` (laid out the same way: ``<path>/judges/<name>/judge.yaml`` and so on; a user's folder wins over
a built-in one of the same name). Writes nothing. A name that does not exist is an error that gives the nearest one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from harness.errors import UserError, unknown_name

Kind = Literal["tasks", "judges", "reports"]
PACKAGE = Path(__file__).parent


def content_root(kind: Kind) -> Path:
    """The built-in folder of one kind of content: in a wheel inside the package, in a checkout beside it."""
    packed = PACKAGE / "_content" / kind
    return packed if packed.is_dir() else PACKAGE.parent / kind


def roots(kind: Kind, include_paths: Sequence[Path] = ()) -> list[Path]:
    """The folders to search for one kind of content, the user's first."""
    for path in include_paths:
        if not path.is_dir():
            raise UserError(f"--include-path {path}: no such folder")
    return [path / kind for path in include_paths if (path / kind).is_dir()] + [content_root(kind)]


def find(kind: Kind, pattern: str, include_paths: Sequence[Path] = ()) -> dict[str, Path]:
    """Name → file for every piece of content that matches a pattern, such as ``*/judge.yaml`` or ``layouts/*.yaml``.

    The name is the folder's for ``*/x.yaml`` and the file's stem otherwise.
    """
    found: dict[str, Path] = {}
    for root in roots(kind, include_paths):
        for path in sorted(root.glob(pattern)):
            found.setdefault(path.parent.name if pattern.startswith("*/") else path.stem, path)
    return found


def named(kind: Kind, singular: str, name: str, pattern: str, include_paths: Sequence[Path] = ()) -> Path:
    """The file of one named piece of content.

    Raises:
        UserError: There is none of that name; tells the nearest.
    """
    known = find(kind, pattern, include_paths)
    if name not in known:
        raise unknown_name(singular, name, known)
    return known[name]


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file that holds a mapping, loaded safely.

    Raises:
        UserError: The file is missing, is not YAML (with its line), or holds something else.
    """
    import yaml

    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise UserError(f"{where}: not valid YAML ({getattr(error, 'problem', None) or error})") from None
    if not isinstance(data, dict):
        raise UserError(f"{path}: a mapping of names to values is needed here, not {type(data).__name__}")
    return data
