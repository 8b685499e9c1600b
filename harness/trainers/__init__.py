"""What trains: training records and settings in, a checkpoint folder out. See `harness.trainers.base`.

Those built in, and those that installed packages add by the entry-point group ``harness.trainers``: the entry names a
class (or any callable) that gives a `Trainer`. A built-in name is never taken over.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points

from harness.errors import UserError, unknown_name
from harness.trainers.base import Objective, Trainer, TrainerSettings, TrainResult

GROUP = "harness.trainers"
_BUILT_IN = {
    "trl": (
        "harness.trainers.trl_trainer:TrlTrainer",
        "TRL, in one process or several: supervised, DPO, KTO or RLHF; all weights, LoRA, QLoRA",
    ),
    "command": (
        "harness.trainers.command:CommandTrainer",
        "any program: LLaMA-Factory, axolotl, torchtune, a shell script",
    ),
    "openai": (
        "harness.trainers.openai_finetuning:OpenAITrainer",
        "a fine-tuning API in the protocol of OpenAI: supervised or DPO",
    ),
}


class _Trainers(Mapping[str, str]):
    """Name → one line about it. Installed packages are looked through only when a built-in name does not do."""

    def __getitem__(self, name: str) -> str:
        if name in _BUILT_IN:
            return _BUILT_IN[name][1]
        return _about(_installed()[name][0])

    def __iter__(self) -> Iterator[str]:
        yield from [*_BUILT_IN, *sorted(_installed().keys() - _BUILT_IN)]

    def __len__(self) -> int:
        return len(list(iter(self)))


TRAINERS: Mapping[str, str] = _Trainers()


def get_trainer(name: str) -> Trainer:
    """A trainer by name.

    Raises:
        UserError: There is none of that name (tells the nearest), several packages add it, or it cannot be loaded.
    """
    if name in _BUILT_IN:
        module, _, attribute = _BUILT_IN[name][0].partition(":")
        built_in: Trainer = getattr(import_module(module), attribute)()
        return built_in
    found = _installed().get(name, [])
    if not found:
        raise unknown_name("trainer", name, TRAINERS)
    if len(found) > 1:
        packages = ", ".join(sorted(entry.dist.name for entry in found if entry.dist))
        raise UserError(f"trainer '{name}' is added by several packages ({packages}); uninstall all but one")
    return _loaded(found[0])


def _installed() -> dict[str, list[EntryPoint]]:
    """Name → the entries of installed packages, a package counted once however often it is found."""
    entries: dict[str, dict[str, EntryPoint]] = {}
    for entry in entry_points(group=GROUP):
        package = entry.dist.name if entry.dist else entry.value
        entries.setdefault(entry.name, {}).setdefault(package, entry)
    return {name: list(found.values()) for name, found in entries.items()}


def _about(entry: EntryPoint) -> str:
    """What its package says of itself; read without importing it."""
    if entry.dist is None:
        return entry.value
    summary = entry.dist.metadata.json.get("summary", entry.value)
    return f"{summary} (package {entry.dist.name} {entry.dist.version})"


def _loaded(entry: EntryPoint) -> Trainer:
    try:
        trainer: Trainer = entry.load()()
    except Exception as error:  # whatever a foreign package does when it is imported
        told = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise UserError(f"trainer '{entry.name}' ({entry.value}) cannot be loaded: {told}") from error
    if not callable(getattr(trainer, "train", None)):
        raise UserError(f"trainer '{entry.name}' ({entry.value}) has no method 'train'")
    return trainer


__all__ = ["GROUP", "TRAINERS", "Objective", "TrainResult", "Trainer", "TrainerSettings", "get_trainer"]
