"""Adapters that a program left instead of a whole checkpoint: merged into the base that they were trained on."""

from __future__ import annotations

import shutil
from pathlib import Path

from harness.errors import UserError
from harness.models.weights import TOKENIZERS


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter of PEFT and no whole model."""
    return (folder / "adapter_config.json").is_file() and not (folder / "config.json").is_file()


def merge(base: Path, adapter: Path, out: Path) -> None:
    """Writes the base with the adapter merged into it as a whole checkpoint, the adapter itself under ``adapter/``.

    Args:
        base: Checkpoint that the adapter belongs to.
        adapter: Folder of the adapter, perhaps with a tokenizer of its own.
        out: Folder to write; replaced when it exists.

    Raises:
        UserError: The adapter is a pickle, or not one of this base.
    """
    if not (adapter / "adapter_model.safetensors").is_file():
        raise UserError(f"{adapter}: the adapter has no adapter_model.safetensors (pickles are not loaded)")
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    shutil.rmtree(out, ignore_errors=True)
    model = AutoModelForCausalLM.from_pretrained(base, dtype="auto", use_safetensors=True, trust_remote_code=False)
    try:
        merged = PeftModel.from_pretrained(model, adapter, use_safetensors=True).merge_and_unload()
    except (RuntimeError, ValueError, KeyError) as error:
        told = " ".join(str(error).split())[:200]
        raise UserError(f"{adapter}: the adapter does not fit the base {base} ({told})") from None
    merged.save_pretrained(out)
    source = adapter if any((adapter / name).is_file() for name in TOKENIZERS) else base
    AutoTokenizer.from_pretrained(source, trust_remote_code=False).save_pretrained(out)
    (out / "adapter").mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copyfile(adapter / name, out / "adapter" / name)
