"""Checkpoint folders: are they whole, and what identifies them.

Reads a Hugging Face checkpoint folder and writes nothing. Weights are safetensors only: a pickle can run code when it
is loaded, so pickled weights are refused with the way to convert them.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from harness.errors import UserError

IDENTITY = (
    "*.safetensors", "*.safetensors.index.json", "config.json", "generation_config.json", "adapter_config.json",
    "tokenizer.json", "tokenizer.model", "spiece.model", "tokenizer_config.json", "special_tokens_map.json",
    "vocab.json", "vocab.txt", "merges.txt", "added_tokens.json", "chat_template.jinja",
)  # fmt: skip
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")
BLOCK_BYTES = 1 << 22


def weights_hash(folder: Path) -> str:
    """SHA-256 over the names and contents of the files that decide what a model answers, wherever it lies."""
    total = hashlib.sha256()
    for path in sorted({path for pattern in IDENTITY for path in folder.glob(pattern)}, key=lambda path: path.name):
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while block := file.read(BLOCK_BYTES):
                digest.update(block)
        total.update(f"{path.name}\0{digest.hexdigest()}\n".encode())
    return total.hexdigest()


def check_checkpoint(folder: Path) -> None:
    """Raises a `UserError` unless a folder holds a checkpoint that can be loaded: configuration, weights, tokenizer."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such checkpoint folder")
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder}: not a checkpoint (no config.json)")
    if not any(folder.glob("*.safetensors")):
        pickled = any(folder.glob("*.bin")) or any(folder.glob("*.pt")) or any(folder.glob("*.pth"))
        mend = (
            "its weights are pickles, which are not loaded: convert them with "
            "AutoModelForCausalLM.from_pretrained(DIR).save_pretrained(NEW_DIR)"
            if pickled
            else "no *.safetensors in it"
        )
        raise UserError(f"{folder}: {mend}")
    if not any((folder / name).is_file() for name in TOKENIZERS):
        raise UserError(
            f"{folder}: the checkpoint has no tokenizer (tokenizer.json or tokenizer.model); "
            "save it there with tokenizer.save_pretrained(DIR)"
        )
