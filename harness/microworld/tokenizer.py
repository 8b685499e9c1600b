"""The word-level tokenizer of the vale: one word, one token, nothing padded.

`build_tokenizer(world)` gives a fast tokenizer whose calls put <bos> first (unless `add_special_tokens=False`) and
whose decoding joins words with single spaces, just as the oracle reads them. Padding is on the left.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.microworld.language import vocabulary
from harness.microworld.world import World

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

SPECIALS = ("<pad>", "<unk>", "<bos>", "<eos>")


def word_ids(world: World) -> dict[str, int]:
    """The id of every word, special tokens first."""
    return {word: index for index, word in enumerate((*SPECIALS, *vocabulary(world)))}


def build_tokenizer(world: World) -> PreTrainedTokenizerFast:
    """A tokenizer that knows every word of this world."""
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    ids = word_ids(world)
    core: Any = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))  # noqa: S106 - a word, no password
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    core.post_processor = processors.TemplateProcessing(
        single="<bos> $A", pair="<bos> $A $B", special_tokens=[("<bos>", ids["<bos>"])]
    )
    names = {"pad_token": "<pad>", "unk_token": "<unk>", "bos_token": "<bos>", "eos_token": "<eos>"}
    fast: Any = transformers.PreTrainedTokenizerFast
    tokenizer: PreTrainedTokenizerFast = fast(
        tokenizer_object=core, padding_side="left", clean_up_tokenization_spaces=False, model_max_length=256, **names
    )
    return tokenizer
