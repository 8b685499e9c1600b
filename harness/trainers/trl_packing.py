"""Packing: several records in one block of tokens, none of which sees another.

A block is one row whose positions begin again with each record; attention that heeds them (flash attention, and the
masks that transformers makes for its others) keeps the records apart. Whether a model's does is measured before it
trains: tokens of a record that are changed must not move what follows in the next record.
"""

from __future__ import annotations

from typing import Any

from harness.errors import UserError

_LENGTH, _FLASH = 12, "flash_attention_2"


def blocks(rows: list[dict[str, list[int]]], max_length: int) -> list[dict[str, list[int]]]:
    """Rows of tokens and labels joined into blocks, with the lengths of what each block holds (``seq_lengths``)."""
    from datasets import Dataset, disable_progress_bars
    from trl import pack_dataset

    disable_progress_bars()
    packed = pack_dataset(Dataset.from_list(rows), max_length, "bfd")
    return [dict(row) for row in packed]


def attention(device: str, dtype: str) -> dict[str, str]:
    """The model's attention: flash attention where it can run, which needs no mask; else the model's own."""
    import torch
    from transformers.utils import is_flash_attn_2_available

    runs = device != "cpu" and dtype == "bfloat16" and torch.cuda.is_available() and is_flash_attn_2_available()
    return {"attn_implementation": _FLASH} if runs else {}


def check_apart(model: Any) -> None:
    """Raises a `UserError` where records in one block would see one another."""
    import torch

    if model.config._attn_implementation == _FLASH:  # heeds positions by its interface, and runs on GPUs alone
        return
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, model.config.vocab_size, (3, _LENGTH), generator=generator).to(model.device)
    positions = torch.arange(_LENGTH, device=model.device)
    was_training = model.training
    model.eval()
    with torch.no_grad():
        alone = model(input_ids=ids[2:], use_cache=False).logits[0].float()
        behind = [
            model(
                input_ids=torch.cat([first, ids[2]])[None], position_ids=positions.repeat(2)[None], use_cache=False
            ).logits[0, _LENGTH:].float()
            for first in ids[:2]
        ]  # fmt: skip
    model.train(was_training)
    scale = float(alone.std())
    rounding = 1e-3 if model.dtype == torch.float32 else 5e-2
    if max(float((one - alone).abs().max()) for one in behind) > rounding * scale:
        raise UserError(
            f"trainer.packing: records in one block would see one another with this model's attention "
            f"({model.config._attn_implementation}); install flash-attn for a GPU and bfloat16, or leave packing out"
        )
