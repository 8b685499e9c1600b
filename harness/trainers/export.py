"""Training records in the formats that other trainers read.

Writes one file: JSON (a list) for the Alpaca and ShareGPT families, else JSONL. A prompt is what the model reads, word
for word. With chat templates it is the user's turn, TRL's formats hold messages, and the other trainer applies the
model's chat template. Else the run's templates have rendered it, and the other trainer must add none of its own: the
Alpaca and ShareGPT families are then made for LLaMA-Factory's ``template: empty``, which adds no token at all, so that
the base's special tokens stand in them as text; in the other formats they are the other trainer's to add (TRL, axolotl
and torchtune do). Formats without preferences refuse records of bad answers, so that none is ever taught; formats of
pairs leave out, and count, what is in no pair.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from harness.errors import UserError
from harness.records import TrainingRecord
from harness.store import write_atomic
from harness.tokens import Pair, SpecialTokens, special_tokens
from harness.trainers.base import Objective
from harness.trainers.external_settings import FormatName
from harness.trainers.trl_preference import preference_pairs

Row = dict[str, Any]
_LINE_ENDS = {ord(end): f"\\u{ord(end):04x}" for end in "\x85\u2028\u2029"}
"""What some readers take for the end of a line although JSON does not."""


class Export(NamedTuple):
    """Rows of a format, and how many records are in none of them."""

    rows: list[Row]
    n_left_out: int


class Format(NamedTuple):
    """A format.

    Attributes:
        about: One line about it.
        suffix: Of its files: ``.json`` is one list, ``.jsonl`` a row a line.
        row: Makes a row of a record or a pair, for plain prompts or chat.
        dataset_info: How LLaMA-Factory's ``dataset_info.json`` describes it; ``None`` where it cannot be read there.
    """

    about: str
    suffix: str
    row: Callable[[Any, bool], Row]
    pairs: bool = False
    rejects: bool = False
    dataset_info: Row | None = None

    def spelled(self, chat: bool) -> bool:
        """Whether the base's special tokens stand in it as text: in what LLaMA-Factory reads, but for chats."""
        return self.dataset_info is not None and not chat


def _turn(role: str, text: str) -> list[Row]:
    return [{"role": role, "content": text}]


def _said(who: str, text: str) -> Row:
    return {"from": who, "value": text}


def _prompt_completion(record: TrainingRecord, chat: bool) -> Row:
    if chat:
        return {"prompt": _turn("user", record.prompt), "completion": _turn("assistant", record.completion)}
    return {"prompt": record.prompt, "completion": record.completion}


def _preference(pair: Pair, chat: bool) -> Row:
    if chat:
        answers = {"chosen": _turn("assistant", pair.chosen), "rejected": _turn("assistant", pair.rejected)}
        return {"prompt": _turn("user", pair.prompt), **answers}
    return pair._asdict()


def _unpaired(record: TrainingRecord, chat: bool) -> Row:
    return {**_prompt_completion(record, chat), "label": record.kind != "rejected"}


def _alpaca(record: TrainingRecord, _: bool) -> Row:
    return {"instruction": record.prompt, "input": "", "output": record.completion}


def _alpaca_preference(pair: Pair, _: bool) -> Row:
    return {"instruction": pair.prompt, "input": "", "chosen": pair.chosen, "rejected": pair.rejected}


def _sharegpt(record: TrainingRecord, _: bool) -> Row:
    return {"conversations": [_said("human", record.prompt), _said("gpt", record.completion)]}


def _sharegpt_preference(pair: Pair, _: bool) -> Row:
    answers = {"chosen": _said("gpt", pair.chosen), "rejected": _said("gpt", pair.rejected)}
    return {"conversations": [_said("human", pair.prompt)], **answers}


def _openai_chat(record: TrainingRecord, _: bool) -> Row:
    return {"messages": [*_turn("user", record.prompt), *_turn("assistant", record.completion)]}


def _openai_preference(pair: Pair, _: bool) -> Row:
    return {
        "input": {"messages": _turn("user", pair.prompt)},
        "preferred_output": _turn("assistant", pair.chosen),
        "non_preferred_output": _turn("assistant", pair.rejected),
    }


_COLUMNS = {"prompt": "instruction", "query": "input"}
_ANSWERS = {"chosen": "chosen", "rejected": "rejected"}
FORMATS: dict[FormatName, Format] = {
    "prompt_completion": Format("TRL: prompt and completion, plain or as messages", ".jsonl", _prompt_completion),
    "preference": Format("TRL: prompt, chosen and rejected (DPO, reward models)", ".jsonl", _preference, pairs=True),
    "unpaired_preference": Format("TRL: prompt, completion and label (KTO)", ".jsonl", _unpaired, rejects=True),
    "alpaca": Format(
        "Alpaca: instruction, input and output", ".json", _alpaca,
        dataset_info={"columns": {**_COLUMNS, "response": "output"}},
    ),
    "alpaca_preference": Format(
        "Alpaca with chosen and rejected", ".json", _alpaca_preference, pairs=True,
        dataset_info={"ranking": True, "columns": {**_COLUMNS, **_ANSWERS}},
    ),
    "sharegpt": Format(
        "ShareGPT: conversations of human and gpt", ".json", _sharegpt,
        dataset_info={"formatting": "sharegpt", "columns": {"messages": "conversations"}},
    ),
    "sharegpt_preference": Format(
        "ShareGPT with chosen and rejected", ".json", _sharegpt_preference, pairs=True,
        dataset_info={
            "formatting": "sharegpt", "ranking": True, "columns": {"messages": "conversations", **_ANSWERS},
        },
    ),
    "openai_chat": Format("OpenAI fine-tuning: messages of user and assistant", ".jsonl", _openai_chat),
    "openai_preference": Format(
        "OpenAI fine-tuning: preferred and non-preferred output (DPO)", ".jsonl", _openai_preference, pairs=True
    ),
}  # fmt: skip
_OF_OBJECTIVE: dict[Objective, FormatName] = {
    "sft": "prompt_completion",
    "dpo": "preference",
    "rlhf": "preference",
    "kto": "unpaired_preference",
}


def format_of(objective: Objective) -> FormatName:
    """The format of TRL for what is trained for."""
    return _OF_OBJECTIVE[objective]


def special_tokens_of(base: Path) -> SpecialTokens:
    """The special tokens of a base, for the formats in which they stand as text.

    Raises:
        UserError: The base has no tokenizer that can be read, or it has no end-of-text token.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(base, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError):
        raise UserError(
            f"{base}: no tokenizer can be read there, and the Alpaca and ShareGPT formats hold its end-of-text token; "
            "bring the base back, or choose prompt_completion or preference"
        ) from None
    return special_tokens(tokenizer)


def export(
    records: Sequence[TrainingRecord], name: FormatName, *, chat: bool, special: SpecialTokens | None = None
) -> Export:
    """Records as the rows of a format.

    Args:
        records: What to learn, in order.
        name: The format.
        chat: Prompts are user turns for a chat template, not text that is rendered already.
        special: What is to stand around prompt and answer, where the format is `Format.spelled`.

    Raises:
        UserError: The format cannot carry them, or no row is left.
    """
    form = FORMATS[name]
    if special is not None:
        records = [_spelled(record, special) for record in records]
    if form.pairs:
        made = Export([form.row(pair, chat) for pair in preference_pairs(records)], _n_single(records))
    else:
        n_bad = sum(record.kind == "rejected" for record in records)
        if n_bad and not form.rejects:
            raise UserError(f"format '{name}' cannot say which answers are bad, and {n_bad} of the records are")
        made = Export([form.row(record, chat) for record in records], 0)
    if not made.rows:
        raise UserError(f"format '{name}': none of {len(records)} records gives a row{' (no pairs)' * form.pairs}")
    return made


def export_text(rows: Sequence[Row], suffix: str) -> str:
    """Rows as the text of a file.

    Raises:
        UserError: A row holds half of a surrogate pair, which readers of JSON do not take.
    """
    lines = [json.dumps(row, ensure_ascii=False, allow_nan=False).translate(_LINE_ENDS) for row in rows]
    for number, line in enumerate(lines, 1):
        if not line.isascii() and any("\ud800" <= letter <= "\udfff" for letter in line):
            raise UserError(f"row {number} holds half of a surrogate pair, which is no text; mend the data")
    return "".join(f"{line}\n" for line in lines) if suffix == ".jsonl" else "[\n" + ",\n".join(lines) + "\n]\n"


def _spelled(record: TrainingRecord, special: SpecialTokens) -> TrainingRecord:
    begin = "" if record.prompt.startswith(special.begin) else special.begin
    return record.model_copy(
        update={"prompt": f"{begin}{record.prompt}", "completion": f"{record.completion}{special.end}"}
    )


def write_export(
    path: Path, records: Sequence[TrainingRecord], name: FormatName, *, chat: bool, special: SpecialTokens | None = None
) -> Export:
    """Writes records to a file in a format; see `export`."""
    made = export(records, name, chat=chat, special=special)
    write_atomic(path, export_text(made.rows, FORMATS[name].suffix))
    return made


def write_dataset_info(folder: Path, file_name: str, name: FormatName, dataset: str = "harness") -> None:
    """Adds a file to the ``dataset_info.json`` by which LLaMA-Factory finds it, where it can read the format.

    Raises:
        UserError: The folder holds a ``dataset_info.json`` that is none.
    """
    info, file = FORMATS[name].dataset_info, folder / "dataset_info.json"
    if info is None:
        return
    try:
        known = json.loads(file.read_bytes()) if file.exists() else {}
        found = {**known, dataset: {"file_name": file_name, **info}}
    except (ValueError, TypeError):
        raise UserError(f"{file}: is not a list of data sets; move it away, or choose another --out") from None
    write_atomic(file, json.dumps(found, indent=2) + "\n")


def _n_single(records: Sequence[TrainingRecord]) -> int:
    """Records that are in no pair."""
    sides = {kind: {(one.source, one.prompt) for one in records if one.kind == kind} for kind in ("chosen", "rejected")}
    both = sides["chosen"] & sides["rejected"]
    return sum(one.kind not in sides or (one.source, one.prompt) not in both for one in records)
