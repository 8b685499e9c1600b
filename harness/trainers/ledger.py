"""The training ledger: what one training read, computed and took. Never part of a result's identity.

Writes ``train/<subject>/<seed>/ledger.json`` beside the checkpoint. Steps and tokens are what the trainer measured
(``n_steps``, ``n_tokens``, ``n_loss_tokens_seen``, ``cost_usd``; what it did not measure stays absent), time and memory
`Meter`'s.
The compute is the usual estimate: 6 N T floating-point operations for T tokens through forward and backward passes of a
model with N parameters outside its embeddings (Kaplan 2020), 4 N T where only adapters learn, for then no gradient of
the frozen weights is taken. It leaves out attention over long contexts, answers that a policy writes while it learns,
and passes of a reference model.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from harness.errors import UserError
from harness.records import Finite, Record
from harness.store import write_atomic
from harness.trainers.base import TrainerSettings

FULL, ADAPTERS = 6, 4
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_CLEAR_PEAK = "5"


class LedgerEntry(Record):
    """One training.

    Attributes:
        trainer: Name of the trainer.
        n_steps: Optimiser steps, those of a first supervised stage included, those of a reward model not.
        n_tokens: Tokens that all steps read, a reward model's too, prompts included and every pass counted.
        n_loss_tokens: Those of them that the loss fell on.
        n_parameters: Parameters outside the embeddings; ``None`` where the checkpoint does not tell.
        flops: Estimate, see the module; ``None`` without tokens or parameters.
        seconds: Wall time from the base to the saved checkpoint, beside whatever else the machine did; ``None`` where
            the training went on from an interrupted one, whose time nobody took.
        peak_memory_bytes: The most that was held at once; ``None`` where that cannot be read.
        memory: Whose: the process's resident memory (``rss``), that of a program it started, or the GPU's; that of all
            processes of a launched training together.
        device: What computed, each of them where there are several.
        cost_usd: What a service billed, jobs that came to nothing included; ``None`` where that is not known.
    """

    trainer: str
    n_steps: int | None = None
    n_tokens: int | None = None
    n_loss_tokens: int | None = None
    n_parameters: int | None = None
    flops: Finite | None = None
    seconds: Finite | None = None
    peak_memory_bytes: int | None = None
    memory: Literal["rss", "cuda"]
    device: str
    cost_usd: Finite | None = None


class Meter:
    """Measures time and memory of what runs inside ``with``; read it afterwards."""

    def __init__(self, device: str) -> None:
        """``device`` is the trainer's: ``cpu``, ``cuda`` or ``auto``."""
        self.on_gpu = _on_gpu(device)
        self.device = _device_name(self.on_gpu)
        self.seconds = 0.0
        self.peak_memory_bytes: int | None = None

    def __enter__(self) -> Meter:
        if self.on_gpu:
            import torch

            torch.cuda.reset_peak_memory_stats()
        else:
            _forget_peak()
        self._children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        self._began = time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.monotonic() - self._began
        self.peak_memory_bytes = self._peak()

    def _peak(self) -> int | None:
        if self.on_gpu:
            import torch

            return int(torch.cuda.max_memory_allocated())
        children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        own = _peak_resident()
        return max(own, children * _unit()) if children > self._children else own


def ledger_entry(
    checkpoint: Path,
    settings: TrainerSettings,
    metrics: Mapping[str, float],
    meter: Meter,
    peak_memory_bytes: int | None = None,
    resumed: bool = False,
) -> LedgerEntry:
    """The entry of a training that has ended.

    Args:
        checkpoint: What it left.
        settings: How it was trained.
        metrics: What its trainer measured.
        meter: What ran around it.
        peak_memory_bytes: What the trainer measured of processes of its own; ``None`` leaves it to the meter.
        resumed: The meter ran around the last start alone.
    """
    n_parameters, n_tokens = parameters_outside_embeddings(checkpoint), _count(metrics, "n_tokens")
    flops = None
    if n_parameters is not None and n_tokens is not None:
        flops = float((ADAPTERS if settings.lora else FULL) * n_parameters * n_tokens)
    return LedgerEntry(
        trainer=settings.name,
        n_steps=_count(metrics, "n_steps"),
        n_tokens=n_tokens,
        n_loss_tokens=_count(metrics, "n_loss_tokens_seen"),
        n_parameters=n_parameters,
        flops=flops,
        seconds=None if resumed else meter.seconds,
        peak_memory_bytes=peak_memory_bytes or meter.peak_memory_bytes,
        memory="cuda" if meter.on_gpu else "rss",
        device=f"{settings.launch.processes} × {meter.device}" if settings.launch else meter.device,
        cost_usd=metrics.get("cost_usd"),
    )


def write_ledger(folder: Path, entry: LedgerEntry) -> None:
    """Writes ``ledger.json`` into a training's folder."""
    write_atomic(folder / "ledger.json", entry.model_dump_json(indent=2) + "\n")


def read_ledger(folder: Path) -> LedgerEntry | None:
    """The entry of a training's folder; ``None`` where there is none.

    Raises:
        UserError: The file is none of ours.
    """
    file = folder / "ledger.json"
    if not file.exists():
        return None
    try:
        return LedgerEntry.model_validate_json(file.read_text(encoding="utf-8"))
    except (ValidationError, UnicodeDecodeError):
        raise UserError(f"{file}: not a training ledger of this version; delete it, nothing depends on it") from None


def parameters_outside_embeddings(checkpoint: Path) -> int | None:
    """N of the estimate: the parameters but for those that look tokens and positions up or write tokens out.

    ``None`` where the folder holds no configuration of a causal language model that transformers knows.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        config = AutoConfig.from_pretrained(checkpoint, trust_remote_code=False)
        with torch.device("meta"):  # shapes alone, no weights
            model: Any = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    except (OSError, ValueError):
        return None
    looked_up = [module for module in model.modules() if isinstance(module, torch.nn.Embedding)]
    written = model.get_output_embeddings()
    tables = {id(module.weight) for module in (*looked_up, *([] if written is None else [written]))}
    return sum(int(weight.numel()) for weight in model.parameters() if id(weight) not in tables)


def _count(metrics: Mapping[str, float], name: str) -> int | None:
    """A count with that of the supervised stage before it, where there was one."""
    return round(metrics[name] + metrics.get(f"sft_{name}", 0)) if name in metrics else None


def _on_gpu(device: str) -> bool:
    if device == "cpu":
        return False
    import torch

    return torch.cuda.is_available()


def _device_name(on_gpu: bool) -> str:
    import torch

    if on_gpu:
        return str(torch.cuda.get_device_name())
    n_threads = torch.get_num_threads()
    return f"CPU, {n_threads} thread{'s' if n_threads != 1 else ''}"


def _forget_peak() -> None:
    """A worker trains one subject after the other: without this the largest would stand behind each that follows."""
    try:
        _CLEAR.write_text(_CLEAR_PEAK)
    except OSError:
        return  # not Linux, or not allowed: the peak is then that of the process


def _peak_resident() -> int:
    try:
        line = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _unit()


def _unit() -> int:
    """Bytes of the unit that the system counts resident memory in."""
    return 1 if sys.platform == "darwin" else 1024
