"""Checkpoints of a training itself (weights, optimiser, schedule, random numbers), from which it goes on.

Each is a folder ``checkpoint-<step>`` that transformers writes; it counts from the moment that ``whole`` lies in it.
What is not weights are pickles; transformers reads them as tensors alone (``weights_only``), so none is executed.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from harness.errors import UserError
from harness.trainers.trl_processes import Processes

WHOLE = "whole"


class Restored(NamedTuple):
    """A checkpoint to go on from: its folder, its step, and the tokens read until then."""

    folder: Path
    step: int
    n_tokens: float


def last_whole(folder: Path, processes: Processes) -> Restored | None:
    """The last whole checkpoint in a folder; the others are deleted.

    Raises:
        UserError: Its state is not as a trainer leaves it.
    """
    found = {int(path.name.rpartition("-")[2]): path for path in folder.glob("checkpoint-*")}
    whole = [step for step in sorted(found) if (found[step] / WHOLE).is_file()]
    if processes.writes:
        for step in found.keys() - set(whole):
            shutil.rmtree(found[step])
    if not whole:
        return None
    last = found[whole[-1]]
    try:
        log = json.loads((last / "trainer_state.json").read_bytes())["log_history"]
        tokens = [float(entry["num_tokens"]) for entry in log if "num_tokens" in entry and "loss" in entry]
    except (OSError, ValueError, KeyError, TypeError):
        raise damaged(last) from None
    return Restored(last, whole[-1], tokens[-1] if tokens else 0.0)


def damaged(checkpoint: Path) -> UserError:
    """What to say of a checkpoint that cannot be read."""
    return UserError(f"{checkpoint}: this checkpoint of an interrupted training cannot be read; delete it to go on")


def mark_whole(processes: Processes) -> Any:
    """A callback that marks each checkpoint once every process has written its part."""
    from transformers import TrainerCallback

    class Mark(TrainerCallback):  # type: ignore[misc]
        """See above."""

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            processes.wait()
            if processes.writes:
                (Path(args.output_dir) / f"checkpoint-{state.global_step}" / WHOLE).touch()

    return Mark()


def train_on(trainer: Any, restored: Restored | None, progress: Callable[[], None]) -> None:
    """Trains to the end, from a checkpoint where there is one; the steps before it are told too.

    Raises:
        UserError: The checkpoint cannot be read.
    """
    from pickle import UnpicklingError

    if restored is None:
        trainer.train()
        return
    for _ in range(restored.step):
        progress()
    trainer._total_train_tokens = restored.n_tokens  # TRL begins to count anew
    try:
        trainer.train(resume_from_checkpoint=str(restored.folder))
    except (UnpicklingError, EOFError) as error:
        raise damaged(restored.folder) from error
