"""What a program left as weights: are they whole, where transformers looks for them, and other than the base's.

Reads checkpoint folders and writes nothing.
"""

from __future__ import annotations

import json
from pathlib import Path

from harness.errors import UserError

_WEIGHTS, _INDEX = "model.safetensors", "model.safetensors.index.json"


def check_weights(folder: Path) -> None:
    """Raises a `UserError` for weights that are cut short, of which a part is missing, or that no model would load."""
    from safetensors import SafetensorError, safe_open

    if not any((folder / name).is_file() for name in (_WEIGHTS, _INDEX)):
        raise UserError(f"{folder} has neither {_WEIGHTS} nor {_INDEX}, by which a model finds its weights")
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, framework="numpy"):
                pass
        except SafetensorError as error:
            raise UserError(f"{path} is damaged ({error})") from None
    for index in folder.glob("*.safetensors.index.json"):
        try:
            parts = {str(part) for part in json.loads(index.read_bytes())["weight_map"].values()}
        except (ValueError, KeyError, TypeError, AttributeError):
            raise UserError(f"{index} is no index of weights") from None
        for name in sorted(parts):
            if Path(name).name != name or not (folder / name).is_file():
                raise UserError(f"{folder} has no {name}, which its index names")


def check_trained(base: Path, folder: Path) -> None:
    """Raises a `UserError` where every tensor is the base's, in whatever files and precision: nothing was learnt.

    Reads no further than to the first tensor that differs.
    """
    from safetensors import safe_open

    before, after = _tensors(base), _tensors(folder)
    both = [name for name in after if name in before]
    for name in both:
        with safe_open(before[name], framework="pt") as old, safe_open(after[name], framework="pt") as new:
            ours, theirs = old.get_tensor(name), new.get_tensor(name)
        if ours.shape != theirs.shape or not bool((ours.to(theirs.dtype) == theirs).all()):
            return
    if both:
        raise UserError(f"all weights in {folder} are still those of the base, so nothing was trained")


def _tensors(folder: Path) -> dict[str, Path]:
    """Name of a tensor → its file."""
    from safetensors import safe_open

    found = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="numpy") as file:
            found.update(dict.fromkeys(file.keys(), path))
    return found
