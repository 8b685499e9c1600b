"""Which family a model is of, as far as its name or its configuration tells.

A judge may favour answers of its own family, and an analyst share its blind spots: a caveat for the report, no reason
to refuse. A checkpoint is known by ``model_type`` and ``_name_or_path`` of its ``config.json`` and by its folder's
name, a server's model by its name. What nothing is known of belongs to no family; a shared architecture counts as a
shared family, though models of one architecture may have been trained apart.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

_FAMILIES = {
    name: re.compile(pattern)
    for name, pattern in {
        "claude": r"claude",
        "deepseek": r"deepseek",
        "falcon": r"falcon",
        "gemini": r"gemini",
        "gemma": r"gemma",
        "glm": r"glm",
        "gpt": r"gpt-?[345o]|gpt-oss|gpt_oss|\bo[1-9]\b",
        "grok": r"grok",
        "internlm": r"internlm",
        "llama": r"llama|alpaca|vicuna",
        "mistral": r"mistral|mixtral|ministral",
        "olmo": r"olmo",
        "phi": r"\bphi",
        "qwen": r"qwen|qwq",
    }.items()
}


def named_families(name: str) -> frozenset[str]:
    """The families that a model's name tells; a distilled model may be of two."""
    return frozenset(family for family, pattern in _FAMILIES.items() if pattern.search(name.lower()))


def checkpoint_families(folder: Path) -> frozenset[str]:
    """The families that a checkpoint folder tells; none where it has no readable ``config.json``."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return frozenset()
    if not isinstance(config, dict):
        return frozenset()
    kind, origin = (str(config.get(field) or "") for field in ("model_type", "_name_or_path"))
    return (named_families(kind) or frozenset({kind} - {""})) | named_families(origin) | named_families(folder.name)
