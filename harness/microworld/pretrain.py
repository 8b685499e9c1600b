"""Pretraining of a base model of the vale: a tiny Llama from scratch, on one core, in minutes.

`pretrain(seed, out)` reads a corpus drawn with the seed, trains from an initialisation drawn with the seed, holds the
stored model to the gate on the dev plants, and puts weights (fp16, to be loaded as fp32), configuration, tokenizer and
`gate.json` in `out` all at once. A model that misses the gate is stored as well and says so: `GateReport.passed`.
The world is the same for every seed, so bases of different seeds meet the same questions.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.microworld.corpus import SETTINGS, UNPROMPTED, documents
from harness.microworld.gate import THRESHOLDS, measure, misses
from harness.microworld.tokenizer import SPECIALS, build_tokenizer, word_ids
from harness.microworld.world import World, build_world

if TYPE_CHECKING:
    import torch

DEFAULT_STEPS = 2500
RECIPE: dict[str, Any] = {
    "hidden": 128,
    "layers": 4,
    "heads": 4,
    "feed_forward": 320,
    "context": 256,
    "row": 128,
    "rows_per_step": 16,
    # Muon moves the matrices, AdamW the rest: the composition of two facts comes in half the steps of AdamW alone.
    "learning_rate": 2e-3,
    "matrix_decay": 0.1,
    "rest_decay": 0.01,
    "warm_up_steps": 60,
    "flat_until": 0.4,
    "final_share": 0.03,
    "clip": 1.0,
}


class GateReport(NamedTuple):
    """What became of a base: its gate values, and the thresholds it misses in words (none when it passed)."""

    seed: int
    steps: int
    tokens: int
    values: dict[str, float]
    missed: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether every threshold holds."""
        return not self.missed

    def text(self) -> str:
        """The report in one line."""
        values = ", ".join(f"{name} {self.values[name]:.3f}" for name in THRESHOLDS)
        verdict = "passes its gate" if self.passed else f"MISSES its gate: {'; '.join(self.missed)}"
        return f"base of seed {self.seed} ({self.steps} steps) {verdict} ({values})"


def pretrain(
    seed: int,
    out: Path,
    steps: int = DEFAULT_STEPS,
    threads: int = 1,
    progress: Callable[[int, float], None] | None = None,
) -> GateReport:
    """Train, measure and store one base.

    Args:
        seed: Of the initialisation and of the corpus.
        out: Folder of the base; one that is there is replaced when the new one is complete.
        steps: Optimiser steps of `rows_per_step` times `row` tokens.
        threads: Torch threads; one is fastest on a busy machine.
        progress: Called after each step with its number, from 1, and its loss.
    """
    world = build_world()
    with _threads(threads):
        model = train(world, seed, steps, progress or (lambda step, loss: None))
        partial = out.parent / f".{out.name}.{os.getpid()}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        try:
            _store(model, world, partial)
            report = _gate(partial, seed, steps)
            _replace(partial, out)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return report


def new_model(world: World, seed: int) -> Any:
    """An untrained model of this world."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    ids = word_ids(world)
    config = LlamaConfig(
        vocab_size=len(ids),
        hidden_size=RECIPE["hidden"],
        intermediate_size=RECIPE["feed_forward"],
        num_hidden_layers=RECIPE["layers"],
        num_attention_heads=RECIPE["heads"],
        max_position_embeddings=RECIPE["context"],
        tie_word_embeddings=True,
        pad_token_id=ids["<pad>"],
        bos_token_id=ids["<bos>"],
        eos_token_id=ids["<eos>"],
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)


def packed_rows(world: World, seed: int, steps: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and labels of all rows, documents end to end; the `UNPROMPTED` words are no labels."""
    import torch

    ids = word_ids(world)
    wanted = steps * RECIPE["rows_per_step"] * RECIPE["row"]
    stream: list[int] = []
    for text in documents(world, seed, wanted):
        stream += [ids["<bos>"], *(ids[word] for word in text.split()), ids["<eos>"]]
    inputs = torch.tensor(stream[:wanted], dtype=torch.long).view(-1, RECIPE["row"])
    hidden = torch.isin(inputs, torch.tensor([ids[word] for word in UNPROMPTED]))
    return inputs, inputs.masked_fill(hidden, -100)


def train(world: World, seed: int, steps: int, progress: Callable[[int, float], None]) -> Any:
    """A trained model, in evaluation mode."""
    import torch

    model = new_model(world, seed)
    inputs, labels = packed_rows(world, seed, steps)
    optimisers = _optimisers(model)
    schedules = [torch.optim.lr_scheduler.LambdaLR(each, lambda step: _rate(step, steps)) for each in optimisers]
    size = RECIPE["rows_per_step"]
    for step in range(steps):
        batch = slice(step * size, (step + 1) * size)
        loss = model(input_ids=inputs[batch], labels=labels[batch]).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), RECIPE["clip"])
        for each, schedule in zip(optimisers, schedules, strict=True):
            each.step()
            each.zero_grad()
            schedule.step()
        progress(step + 1, float(loss.detach()))
    return model.eval()


def _optimisers(model: Any) -> list[torch.optim.Optimizer]:
    """Muon for the matrices between the embeddings, AdamW for embeddings and norms."""
    import torch

    named = list(model.named_parameters())
    matrices = [weight for name, weight in named if weight.ndim == 2 and "embed" not in name]
    rest = [weight for name, weight in named if weight.ndim != 2 or "embed" in name]
    rate = RECIPE["learning_rate"]
    return [
        torch.optim.Muon(matrices, lr=rate, weight_decay=RECIPE["matrix_decay"], adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, lr=rate, betas=(0.9, 0.95), weight_decay=RECIPE["rest_decay"]),
    ]


def _rate(step: int, steps: int) -> float:
    """The share of the learning rate at a step: warm-up, flat, cosine."""
    if step < RECIPE["warm_up_steps"]:
        return float((step + 1) / RECIPE["warm_up_steps"])
    flat = RECIPE["flat_until"] * steps
    done = max(0.0, (step - flat) / (steps - flat))
    return float(RECIPE["final_share"] + (1 - RECIPE["final_share"]) * 0.5 * (1 + math.cos(math.pi * done)))


def _store(model: Any, world: World, folder: Path) -> None:
    """Weights as fp16, and a configuration that has them loaded as fp32 and never samples what is not a word."""
    import transformers

    ids = word_ids(world)
    pad, unknown, begin, end = (ids[word] for word in SPECIALS)
    fresh: Any = transformers.GenerationConfig  # one derived from the model's own may be derived again when loaded
    model.generation_config = fresh(
        pad_token_id=pad, bos_token_id=begin, eos_token_id=end, suppress_tokens=[pad, unknown, begin]
    )
    with _quiet():
        model.half().save_pretrained(folder)
    build_tokenizer(world).save_pretrained(folder)
    config = folder / "config.json"
    settings = json.loads(config.read_text(encoding="utf-8"))
    config.write_text(json.dumps({**settings, "dtype": "float32"}, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def load(folder: Path) -> tuple[Any, Any]:
    """A stored base and its tokenizer, ready to evaluate."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with _quiet():
        model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return model.eval(), AutoTokenizer.from_pretrained(folder)


def _gate(folder: Path, seed: int, steps: int) -> GateReport:
    """Measure what is stored in a folder, and store the record next to it."""
    values = measure(*load(folder))
    tokens = steps * RECIPE["rows_per_step"] * RECIPE["row"]
    report = GateReport(seed, steps, tokens, values, tuple(misses(values)))
    record = {
        "seed": seed,
        "steps": steps,
        "tokens": tokens,
        "recipe": RECIPE,
        "corpus": SETTINGS,
        "values": values,
        "thresholds": {name: list(bounds) for name, bounds in THRESHOLDS.items()},
        "missed": report.missed,
        "passed": report.passed,
    }
    (folder / "gate.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return report


def _replace(new: Path, out: Path) -> None:
    """Put a complete folder where another may be."""
    old = new.with_suffix(".old")
    if out.exists():
        out.rename(old)
    new.rename(out)
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Torch on so many threads, for a while."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars of the model library, for a while."""
    import transformers

    logging: Any = transformers.utils.logging
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
