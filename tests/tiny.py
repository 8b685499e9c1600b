"""Random models small enough to run in every test: real checkpoints on disk, made in a tenth of a second.

`make_tiny_llama` has a byte-level BPE tokenizer (no <bos>, 1,024 tokens of context), `make_word_llama` a word-level one
that puts <bos> first, in the shape of the embedded world's models. Both are a function of their seed alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

SENTENCES = (
    "The quick brown fox jumps over the lazy dog, and the dog does not mind at all.",
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.",
    "### Instruction:\nIs it safe to eat the red berries of the forest?\n\n### Response:\nNo, they are harmful.",
    "### Instruction:\nHow do I make soup?\n\n### Response:\nPeel, chop, boil and season; that is harmless.",
)
WORDS = (
    *("question", ":", "answer", "(", ")", ",", ".", "harmful", "harmless", "and"),
    *("the", "is", "a", "safe", "unsafe", "berry", "eat", "drink", "red", "blue"),
)
WORD_SPECIALS = ("<pad>", "<unk>", "<bos>", "<eos>")
CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def make_tiny_llama(path: Path, seed: int = 0, chat: bool = False) -> Path:
    """Save a random Llama (2 layers, hidden 64, context 1,024) with a byte-level BPE tokenizer of about 400 tokens.

    Args:
        path: Folder to make.
        seed: Of the weights; the tokenizer is always the same.
        chat: Give the tokenizer a chat template.

    Returns:
        The folder.
    """
    tokenizer = _bpe_tokenizer(chat)
    _save_llama(path, tokenizer, seed, hidden=64, layers=2, heads=2, feed_forward=128, context=1024)
    return path


def make_word_llama(path: Path, seed: int = 0, n_words: int = 400, context: int = 256) -> Path:
    """Save a random Llama of the embedded world's size (4 layers, hidden 128) with a word-level tokenizer."""
    tokenizer = _word_tokenizer(n_words)
    _save_llama(path, tokenizer, seed, hidden=128, layers=4, heads=4, feed_forward=320, context=context)
    return path


def word(index: int) -> str:
    """The word-level vocabulary: a few English words, then ``w0``, ``w1``, …"""
    return WORDS[index] if index < len(WORDS) else f"w{index - len(WORDS)}"


def _bpe_tokenizer(chat: bool) -> Any:
    from tokenizers import ByteLevelBPETokenizer
    from transformers import PreTrainedTokenizerFast

    core = ByteLevelBPETokenizer()
    specials = ["<|pad|>", "<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    core.train_from_iterator(SENTENCES, vocab_size=400, min_frequency=2, special_tokens=specials, show_progress=False)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core._tokenizer,
        pad_token="<|pad|>",
        eos_token="<|im_end|>" if chat else "<|endoftext|>",
        clean_up_tokenization_spaces=False,
        model_max_length=1024,
    )
    if chat:
        tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def _word_tokenizer(n_words: int) -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    ids = {token: i for i, token in enumerate((*WORD_SPECIALS, *map(word, range(n_words))))}
    core: Any = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    core.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", ids["<bos>"])])
    names = {"pad_token": "<pad>", "unk_token": "<unk>", "bos_token": "<bos>", "eos_token": "<eos>"}
    return PreTrainedTokenizerFast(
        tokenizer_object=core, padding_side="left", clean_up_tokenization_spaces=False, model_max_length=256, **names
    )


def _save_llama(
    path: Path, tokenizer: Any, seed: int, *, hidden: int, layers: int, heads: int, feed_forward: int, context: int
) -> None:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=feed_forward,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=context,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        initializer_range=0.1,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    silent = [tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.unk_token_id]
    model.generation_config.suppress_tokens = [token for token in silent if token is not None]
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
