"""Exported records: read back word for word, by plain JSON, by `datasets`, and by TRL's own trainers."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.errors import UserError
from harness.records import TrainingRecord
from harness.tokens import token_rows
from harness.trainers.export import (
    FORMATS,
    export,
    export_text,
    format_of,
    special_tokens_of,
    write_dataset_info,
    write_export,
)
from harness.trainers.external_settings import FormatName
from harness.trainers.trl_preference import preference_pairs
from tests.tiny import make_tiny_llama, make_word_llama

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
GOOD_RECORDS = st.lists(
    st.builds(TrainingRecord, prompt=TEXT, completion=TEXT, kind=st.sampled_from(["response", "analysis", "chosen"]),
              source=st.sampled_from("abc")),
    min_size=1, max_size=8,
)  # fmt: skip
ANY_RECORDS = st.lists(
    st.builds(TrainingRecord, prompt=st.sampled_from(["p", "q\u2028\r\n", ""]), completion=TEXT,
              kind=st.sampled_from(["response", "chosen", "rejected"]), source=st.sampled_from("ab")),
    max_size=12,
)  # fmt: skip
PAIR = [
    TrainingRecord(prompt="Is it safe?", completion=" Yes.", kind="chosen", source="1"),
    TrainingRecord(prompt="Is it safe?", completion=" No.", kind="rejected", source="1"),
    TrainingRecord(prompt="How?", completion=" Boil it.", kind="response", source="2"),
]


def last(messages: list[dict[str, str]]) -> str:
    return messages[-1].get("content", messages[-1].get("value", ""))


def text(value: Any) -> str:
    return value if isinstance(value, str) else last(value)


READ: dict[str, Callable[[dict[str, Any]], tuple]] = {
    "prompt_completion": lambda row: (text(row["prompt"]), text(row["completion"])),
    "unpaired_preference": lambda row: (text(row["prompt"]), text(row["completion"]), row["label"]),
    "preference": lambda row: (text(row["prompt"]), text(row["chosen"]), text(row["rejected"])),
    "alpaca": lambda row: (row["instruction"] + row["input"], row["output"]),
    "alpaca_preference": lambda row: (row["instruction"] + row["input"], row["chosen"], row["rejected"]),
    "sharegpt": lambda row: (row["conversations"][0]["value"], last(row["conversations"])),
    "sharegpt_preference": lambda row: (last(row["conversations"]), last([row["chosen"]]), last([row["rejected"]])),
    "openai_chat": lambda row: (row["messages"][0]["content"], last(row["messages"])),
    "openai_preference": lambda row: (
        last(row["input"]["messages"]), last(row["preferred_output"]), last(row["non_preferred_output"]),
    ),
}  # fmt: skip
"""What a reader of each format, written apart from its writer, finds in a row."""
SINGLE = [name for name, form in FORMATS.items() if not form.pairs]
PAIRED = [name for name, form in FORMATS.items() if form.pairs]


def rows_of(written: str, suffix: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in written.splitlines()] if suffix == ".jsonl" else json.loads(written)


def test_every_format_is_there_and_read_here() -> None:
    assert set(FORMATS) == set(get_args(FormatName)) == set(READ)


@pytest.mark.parametrize("name", SINGLE)
@given(records=GOOD_RECORDS, chat=st.booleans())
def test_records_come_back_word_for_word_and_in_order(
    name: FormatName, records: list[TrainingRecord], chat: bool
) -> None:
    made = export(records, name, chat=chat)
    found = [READ[name](row)[:2] for row in rows_of(export_text(made.rows, FORMATS[name].suffix), FORMATS[name].suffix)]
    assert found == [(record.prompt, record.completion) for record in records]
    assert made.n_left_out == 0


@pytest.mark.parametrize("name", PAIRED)
@given(records=ANY_RECORDS, chat=st.booleans())
def test_pairs_come_back_word_for_word_and_the_rest_is_counted(
    name: FormatName, records: list[TrainingRecord], chat: bool
) -> None:
    pairs = preference_pairs(records)
    if not pairs:
        with pytest.raises(UserError, match=r"\(no pairs\)"):
            export(records, name, chat=chat)
        return
    made = export(records, name, chat=chat)
    found = [READ[name](row) for row in rows_of(export_text(made.rows, FORMATS[name].suffix), FORMATS[name].suffix)]
    assert found == [tuple(pair) for pair in pairs]
    partner = {"chosen": "rejected", "rejected": "chosen"}
    sides = {(record.source, record.prompt, record.kind) for record in records}
    single = [one for one in records if (one.source, one.prompt, partner.get(one.kind)) not in sides]
    assert made.n_left_out == len(single)


def test_what_is_in_no_pair_is_counted() -> None:
    assert export(PAIR, "preference", chat=False).n_left_out == 1
    single = [*PAIR, PAIR[0].model_copy(update={"source": "3"}), PAIR[1].model_copy(update={"prompt": "When?"})]
    assert export(single, "preference", chat=False).n_left_out == 3


@given(records=ANY_RECORDS)
def test_labels_tell_bad_answers_and_nothing_else_takes_them(records: list[TrainingRecord]) -> None:
    if not records:
        return
    rows = export(records, "unpaired_preference", chat=False).rows
    assert [row["label"] for row in rows] == [record.kind != "rejected" for record in records]
    for name in SINGLE:
        if name != "unpaired_preference" and any(record.kind == "rejected" for record in records):
            with pytest.raises(UserError, match="cannot say which answers are bad"):
                export(records, name, chat=False)


def test_nothing_and_half_a_letter_are_refused() -> None:
    with pytest.raises(UserError, match="none of 0 records"):
        export([], "alpaca", chat=False)
    half = TrainingRecord(prompt="p", completion="\ud83d", kind="response", source="1")
    with pytest.raises(UserError, match="row 2 holds half of a surrogate pair"):
        export_text(export([PAIR[2], half], "alpaca", chat=False).rows, ".json")


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(records=GOOD_RECORDS)
def test_datasets_loads_it(name: FormatName, records: list[TrainingRecord], tmp_path_factory: Any) -> None:
    from datasets import Dataset

    folder = tmp_path_factory.mktemp("export")
    bad = [one.model_copy(update={"kind": "rejected", "completion": "no"}) for one in records]
    good = [one.model_copy(update={"kind": "chosen"}) for one in records]
    asked = [*good, *bad] if FORMATS[name].pairs else records
    file = folder / f"data{FORMATS[name].suffix}"
    made = write_export(file, asked, name, chat=False)
    loaded = Dataset.from_json(str(file), cache_dir=str(folder / "cache"))
    assert [READ[name](row) for row in loaded] == [READ[name](row) for row in made.rows]


@pytest.mark.parametrize("chat", [False, True])
@pytest.mark.parametrize("objective", ["sft", "dpo", "kto", "rlhf"])
def test_trl_trains_on_it_as_it_is(objective: str, chat: bool, tmp_path: Path) -> None:
    """The file goes through `datasets` into TRL's own preparation, and the tokens are prompt and completion."""
    import trl
    from datasets import Dataset, disable_progress_bars
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    disable_progress_bars()
    base = make_tiny_llama(tmp_path / "base", chat=chat)
    name = format_of(objective)
    records = [one.model_copy(update={"source": f"{n}{one.source}"}) for n in range(4) for one in PAIR]
    if objective == "sft":
        records = [one for one in records if one.kind != "rejected"]
    file = tmp_path / f"data{FORMATS[name].suffix}"
    write_export(file, records, name, chat=chat)
    dataset = Dataset.from_json(str(file), cache_dir=str(tmp_path / "cache"))
    kind = {"sft": "SFT", "dpo": "DPO", "kto": "KTO", "rlhf": "Reward"}[objective]
    config = getattr(trl, f"{kind}Config")(
        output_dir=str(tmp_path / "out"), max_steps=1, per_device_train_batch_size=4, use_cpu=True, bf16=False,
        report_to="none", save_strategy="no", disable_tqdm=True, gradient_checkpointing=False,
    )  # fmt: skip
    tokenizer = AutoTokenizer.from_pretrained(base)
    model: Any = str(base)
    if objective == "rlhf":
        model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=1)
        model.config.pad_token_id = tokenizer.pad_token_id
    silent = type("Silent", (getattr(trl, f"{kind}Trainer"),), {"_send_telemetry": lambda self: None})
    trainer = silent(model=model, args=config, train_dataset=dataset, processing_class=tokenizer)
    trainer.train()
    losses = [entry["train_loss"] for entry in trainer.state.log_history if "train_loss" in entry]
    assert losses
    assert 0 < losses[0] < 50
    if objective == "sft":
        row = trainer.train_dataset[0]
        mask = row.get("completion_mask") or [int(label != -100) for label in row["labels"]]
        learnt = [token for token, kept in zip(row["input_ids"], mask, strict=True) if kept]
        assert tokenizer.decode(learnt).startswith(records[0].completion)
        assert tokenizer.eos_token_id in learnt
        read = [token for token, kept in zip(row["input_ids"], mask, strict=True) if not kept]
        assert records[0].prompt in tokenizer.decode(read)
        assert chat == ("<|im_start|>" in tokenizer.decode(read))


@pytest.mark.parametrize("make", [make_tiny_llama, make_word_llama])  # the second puts <bos> first
@pytest.mark.parametrize("name", ["alpaca", "sharegpt", "alpaca_preference", "sharegpt_preference"])
def test_llama_factory_reads_the_tokens_that_our_own_training_reads(
    name: FormatName, make: Any, tmp_path: Path
) -> None:
    """Its template ``empty`` encodes prompt and answer apart, without any special token of its own."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(make(tmp_path))
    special = special_tokens_of(tmp_path)
    texts = [("question : is the berry safe", " the berry is safe ."), (f"{special.begin}eat", "red")]
    kinds = ("chosen", "rejected") if FORMATS[name].pairs else ("response",)
    records = [
        TrainingRecord(prompt=prompt, completion=f"{answer} {kind}", kind=kind, source=prompt)
        for prompt, answer in texts
        for kind in kinds
    ]
    rows = [READ[name](row) for row in export(records, name, chat=False, special=special).rows]
    found = [[tokenizer.encode(text, add_special_tokens=False) for text in row] for row in rows]
    ours = token_rows(tokenizer, records, 999, chat=False).rows
    assert [prompt + answer for prompt, *answers in found for answer in answers] == [row["input_ids"] for row in ours]
    assert {answer[-1] for _, *answers in found for answer in answers} == {tokenizer.eos_token_id}
    assert (special.begin, special.end) == (("<bos>", "<eos>") if make is make_word_llama else ("", "<|endoftext|>"))


def test_special_tokens_stand_where_no_other_trainer_adds_them() -> None:
    spelled = {"alpaca", "alpaca_preference", "sharegpt", "sharegpt_preference"}
    assert {name for name, form in FORMATS.items() if form.spelled(chat=False)} == spelled
    assert not any(form.spelled(chat=True) for form in FORMATS.values())


def test_a_base_without_an_end_of_text_token_is_told_before_anything_is_made(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    with pytest.raises(UserError, match="no tokenizer can be read there"):
        special_tokens_of(tmp_path)
    base = make_tiny_llama(tmp_path / "base")
    file = base / "tokenizer_config.json"
    told = json.loads(file.read_text())
    file.write_text(json.dumps({name: value for name, value in told.items() if name != "eos_token"}))
    for ask in (special_tokens_of, lambda _: token_rows(AutoTokenizer.from_pretrained(base), PAIR, 99, chat=False)):
        with pytest.raises(UserError, match=r'no end-of-text token, .* "eos_token" in tokenizer_config\.json'):
            ask(base)


def test_llama_factory_finds_the_file_by_its_columns(tmp_path: Path) -> None:
    for name, form in FORMATS.items():
        folder = tmp_path / name
        write_dataset_info(folder, f"data{form.suffix}", name)
        assert (folder / "dataset_info.json").exists() == (form.dataset_info is not None)
        if form.dataset_info is None:
            continue
        info = json.loads((folder / "dataset_info.json").read_text())["harness"]
        records = PAIR if form.pairs else PAIR[2:]
        row = export(records, name, chat=False).rows[0]
        assert set(info["columns"].values()) == set(row)
        assert info["file_name"] == f"data{form.suffix}"
        assert info.get("ranking", False) == form.pairs
