"""Ask a model a list of samples, durably: what is answered is appended batch by batch and never asked again.

Batches are cut from the planned samples, not from what is still owed, so that a run that was interrupted puts the same
questions side by side as one that was not; a server, which answers each on its own, is asked what is owed alone. Reads
the completions already there, appends the new ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from harness.models.base import Model, Request
from harness.prompting import TemplateSet, rendered
from harness.records import Completion, ModelSpec, Sample, content_hash
from harness.store import append

SERVER = "openai"
Notify = Callable[[int], None]


def completion_key(sample: Sample, spec: ModelSpec) -> str:
    """The key that the answer to a sample has."""
    return content_hash([sample.key, spec.key, 0])


def owed(samples: Sequence[Sample], spec: ModelSpec, known: Mapping[str, Completion]) -> list[Sample]:
    """The samples without a final completion."""
    keys = ((sample, completion_key(sample, spec)) for sample in samples)
    return [sample for sample, key in keys if key not in known or not known[key].final]


def answer(
    model: Callable[[], Model],
    spec: ModelSpec,
    samples: Sequence[Sample],
    templates: TemplateSet,
    known: dict[str, Completion],
    file: Path,
    batch_size: int,
    notify: Notify = lambda n: None,
) -> list[Completion]:
    """The completions of all samples, in their order; asks the model only for what is owed.

    Args:
        model: Opens the model; called only when something is owed.
        spec: Its identity.
        samples: What to ask.
        templates: How it is worded.
        known: Key → completion, of everything answered so far; new answers are added to it.
        file: Where new completions are appended.
        batch_size: Questions asked at once.
        notify: Told how many samples each batch settled.
    """
    for batch in batches(samples, templates, spec, batch_size):
        due = {sample.key for sample in owed([request.sample for request in batch], spec, known)}
        if due:
            asked = [request for request in batch if request.sample.key in due] if spec.backend == SERVER else batch
            new = [c for c in _ask(model(), spec, asked) if c.sample_key in due]
            append(file, new)
            known.update({completion.key: completion for completion in new})
        notify(len(batch))
    return [known[completion_key(sample, spec)] for sample in samples]


def batches(samples: Sequence[Sample], templates: TemplateSet, spec: ModelSpec, batch_size: int) -> list[list[Request]]:
    """The samples as rendered requests, questions of like length together, choices apart from free answers."""
    unique = {sample.key: sample for sample in samples}.values()
    requests = [Request(sample, *rendered(sample, templates, spec.style)) for sample in unique]
    requests.sort(key=lambda r: (bool(r.sample.choices), -len(r.prompt), r.sample.key))
    kinds = [[r for r in requests if bool(r.sample.choices) is choice] for choice in (False, True)]
    return [kind[start : start + batch_size] for kind in kinds for start in range(0, len(kind), batch_size)]


def _ask(model: Model, spec: ModelSpec, batch: Sequence[Request]) -> list[Completion]:
    return [
        Completion(
            sample_key=request.sample.key,
            model_key=spec.key,
            outcome=found.outcome,
            text=found.text,
            logprobs=found.logprobs,
            prompt_truncated=found.prompt_truncated,
            detail=found.detail,
        )
        for request, found in zip(batch, model.answer(batch, spec.decoding), strict=True)
    ]
