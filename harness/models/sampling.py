"""Drawing text with one random stream a question.

Sampling from softmax(logits / T) equals taking the largest of logits / T plus Gumbel noise (the Gumbel-max trick). The
noise of a question is a function of the seed and of the question alone (on one kind of
device), so an answer can be drawn again whatever batch it stands in, up to the rounding of the logits themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.records import Decoding, content_hash


def draws(keys: Sequence[str], decoding: Decoding) -> Any:
    """A logits processor list under which greedy decoding samples; empty for temperature 0.

    Args:
        keys: What identifies each row's question.
        decoding: Temperature, top-p and seed.
    """
    import torch
    from transformers import LogitsProcessor, LogitsProcessorList, TopPLogitsWarper

    if decoding.temperature == 0:
        return LogitsProcessorList()
    seeds = [int(content_hash([decoding.seed, key])[:15], 16) for key in keys]
    streams: list[torch.Generator] = []

    class GumbelNoise(LogitsProcessor):  # type: ignore[misc]
        """Adds each row's next noise to its scores, shape (rows, vocabulary)."""

        def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
            device = scores.device  # drawn where it is used: 64 rows of 128,000 words take half a second on a CPU
            if not streams:
                streams.extend(torch.Generator(device).manual_seed(seed) for seed in seeds)
            uniform = torch.stack([torch.rand(scores.shape[1], generator=s, device=device) for s in streams])
            noise = -torch.log(-torch.log(uniform.clamp(1e-20, 1 - 1e-7)))
            return scores.float() / decoding.temperature + noise

    noise: list[Any] = [GumbelNoise()]
    if decoding.top_p < 1:
        noise.insert(0, _Tempered(TopPLogitsWarper(decoding.top_p), decoding.temperature))
    return LogitsProcessorList(noise)


class _Tempered:
    """Top-p on the tempered distribution, given back on the scale of the logits."""

    def __init__(self, warper: Any, temperature: float) -> None:
        self.warper, self.temperature = warper, temperature

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        return self.warper(input_ids, scores / self.temperature) * self.temperature


def stops(texts: Sequence[str], tokenizer: Any, prompt_length: int) -> Any:
    """A stopping criteria list that ends each row of its own when one of the texts is in what it wrote."""
    import torch
    from transformers import StoppingCriteria, StoppingCriteriaList

    if not texts:
        return StoppingCriteriaList()
    longest = 2 + max(len(tokenizer.encode(text, add_special_tokens=False)) for text in texts)

    class StopTexts(StoppingCriteria):  # type: ignore[misc]
        """Looks at the last tokens that each row wrote."""

        def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: Any) -> torch.Tensor:
            ends = tokenizer.batch_decode(input_ids[:, prompt_length:][:, -longest:])
            done = [any(text in end for text in texts) for end in ends]
            return torch.tensor(done, device=input_ids.device)

    return StoppingCriteriaList([StopTexts()])
