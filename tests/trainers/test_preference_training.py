"""DPO, KTO and RLHF on real models: what they learn, on which tokens, and what they leave behind."""

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer

from harness.errors import UserError
from harness.models.weights import check_checkpoint, weights_hash
from harness.records import TrainingRecord
from harness.tokens import Pair, pair_rows, prompt_tokens
from harness.trainers import TrainerSettings, get_trainer, trl_policy, trl_preference
from harness.trainers.trl_common import Session, load_tokenizer
from harness.trainers.trl_policy import _reward_model, _scores
from harness.trainers.trl_preference import Shuffled, fitting_pairs, neighbours, preference_pairs
from tests.tiny import make_tiny_llama, make_word_llama, word

SETTINGS = TrainerSettings.model_validate(
    {
        "steps": 12, "batch_size": 8, "learning_rate": 1e-3,
        "rlhf": {"steps": 15, "generations": 4, "max_new_tokens": 8, "reward_epochs": 8, "reward_batch_size": 8,
                 "reward_learning_rate": 1e-3},
    }
)  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_word_llama(tmp_path_factory.mktemp("words"))


def pairs(n: int) -> list[TrainingRecord]:
    """Safe answers are chosen, unsafe ones rejected."""
    found = []
    for i in range(n):
        prompt = f"question : {word(30 + i % 9)} answer : "
        for kind, text in (("chosen", "it is safe ."), ("rejected", "eat the red berry .")):
            found.append(TrainingRecord(prompt=prompt, completion=text, kind=kind, source=str(i)))
    return found


def train(base: Path, out: Path, records: list[TrainingRecord], objective: str, seed: int = 0, **update):
    settings = SETTINGS.model_copy(update=update)
    done = []
    result = get_trainer("trl").train(
        base, records, settings, seed, out,
        objective=objective, chat=False, device="cpu", progress=lambda: done.append(1),
    )  # fmt: skip
    return result.metrics, json.loads((out / "training_log.json").read_text()), len(done)


def margin(folder: Path) -> float:
    """Mean log-likelihood of the chosen answers over the rejected ones, in nats."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    total = 0.0
    for row in pair_rows(tokenizer, preference_pairs(pairs(9)), 64, chat=False).rows:
        for sign, name in ((1, "chosen_ids"), (-1, "rejected_ids")):
            ids = torch.tensor([row["prompt_ids"] + row[name]])
            with torch.no_grad():
                logprobs = model(ids).logits[0, :-1].log_softmax(-1)
            start = len(row["prompt_ids"])
            total += sign * float(logprobs[start - 1 :].gather(1, ids[0, start:, None]).sum())
    return total / 9


@pytest.mark.parametrize("objective", ["dpo", "kto"])
def test_chosen_answers_become_likelier_than_rejected_ones(objective: str, words: Path, tmp_path: Path) -> None:
    metrics, curves, n_told = train(words, tmp_path / "out", pairs(16), objective)
    check_checkpoint(tmp_path / "out")
    assert margin(tmp_path / "out") > margin(words) + 1
    assert metrics["loss_last"] < metrics["loss_first"]
    assert curves["margin"][-1] > curves["margin"][0]
    assert n_told == metrics["n_steps"] == len(curves["loss"]) == 12


@pytest.mark.parametrize("optimiser", ["rloo", "grpo"])
def test_the_policy_earns_more_of_the_reward_that_was_learnt_from_pairs(
    optimiser: str, words: Path, tmp_path: Path
) -> None:
    rlhf = SETTINGS.rlhf.model_copy(update={"optimiser": optimiser})
    metrics, curves, n_told = train(words, tmp_path / "out", pairs(16), "rlhf", rlhf=rlhf)
    assert metrics["reward_model_accuracy"] > 0.9
    last = sum(curves["reward"][-3:]) / 3
    assert last > curves["reward"][0] + 0.5
    assert {"reward", "kl", "length", "reward_model_loss"} <= curves.keys()
    assert n_told == metrics["n_steps"] + len(curves["reward_model_loss"])
    kinds = Counter(record.kind for record in pairs(16))
    assert n_told == SETTINGS.all_steps("rlhf", kinds)
    before, after = (json.loads((folder / "config.json").read_text()) for folder in (words, tmp_path / "out"))
    assert after == before


def test_a_supervised_stage_may_come_first(words: Path, tmp_path: Path) -> None:
    metrics, _, n_told = train(words, tmp_path / "out", pairs(16), "dpo", sft_first=True)
    assert metrics["sft_loss_last"] < metrics["sft_loss_first"]
    assert (
        n_told
        == 24
        == SETTINGS.model_copy(update={"sft_first": True}).all_steps(
            "dpo", Counter(record.kind for record in pairs(16))
        )
    )
    assert margin(tmp_path / "out") > margin(words) + 1


@pytest.mark.parametrize("objective", ["dpo", "kto", "rlhf"])
def test_adapters_train_and_equal_seeds_give_equal_weights(objective: str, words: Path, tmp_path: Path) -> None:
    lora = TrainerSettings.model_validate({"steps": 1, "lora": {"rank": 4, "alpha": 8}}).lora
    rlhf = SETTINGS.rlhf.model_copy(update={"steps": 3, "reward_epochs": 1})
    for name in "ab":
        train(words, tmp_path / name, pairs(8), objective, lora=lora, rlhf=rlhf, steps=3)
    assert (tmp_path / "a" / "adapter" / "adapter_model.safetensors").is_file()
    assert weights_hash(tmp_path / "a") == weights_hash(tmp_path / "b") != weights_hash(words)


@pytest.mark.parametrize("micro", [4])
def test_a_last_micro_batch_of_fewer_pairs_weighs_what_its_pairs_do(micro: int, words: Path, tmp_path: Path) -> None:
    rlhf = SETTINGS.rlhf.model_copy(update={"steps": 1, "reward_epochs": 2})
    varied = [
        one.model_copy(update={"completion": f"{word(50 + n)} {one.completion}"}) for n, one in enumerate(pairs(5))
    ]
    for objective, name in (("dpo", "loss"), ("rlhf", "reward_model_loss")):
        found = []
        for size in (None, micro):
            out = tmp_path / f"{objective}-{size}"
            _, curves, _ = train(words, out, varied, objective, rlhf=rlhf, steps=3, micro_batch_size=size)
            found.append(curves[name])
        assert found[0] == pytest.approx(found[1], rel=1e-4)
        assert len(found[0]) > 1


@given(
    prompts=st.lists(st.integers(0, 9), min_size=2, max_size=40).filter(lambda found: len(set(found)) > 1),
    size=st.integers(1, 12), seed=st.integers(0, 3),
)  # fmt: skip
def test_a_mismatched_answer_is_another_prompt_s_and_of_the_same_batch(
    prompts: list[int], size: int, seed: int
) -> None:
    """As TRL's batches read it, of pairs in turn, of repeated prompts, and in every epoch."""
    orders, read = Shuffled(prompts, size, seed), []
    for _ in range(2):
        order = list(orders)
        assert sorted(order) == list(range(len(prompts)))
        assert orders.neighbours == neighbours(order, prompts, size)
        for start in range(0, len(order), size):
            batch = order[start : start + size]
            for row in batch:
                other = orders.neighbours[row]
                assert prompts[other] != prompts[row]
                assert other in batch or len({prompts[one] for one in batch}) == 1
        read.append(order)
    again = Shuffled(prompts, size, seed)
    again.set_epoch(1)
    assert list(again) == read[1]


def test_each_answer_is_mismatched_once_where_prompts_are_not_repeated() -> None:
    found = neighbours([3, 1, 0, 2], "abcd", 2)
    assert found == {3: 1, 1: 3, 0: 2, 2: 0}


def test_kto_reads_the_orders_of_its_seed_with_answers_to_other_prompts(
    words: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[list[tuple[str, str, str]]] = []
    tokenizer = load_tokenizer(words)
    real = trl_preference.run

    def spied(trainer, session):
        step = trainer.compute_loss

        def text(ids, mask):
            return tokenizer.decode(ids[mask == 1], skip_special_tokens=True)

        def compute_loss(model, inputs, *args, **kwargs):
            prompts = [text(*row) for row in zip(inputs["input_ids"],
                       inputs["attention_mask"] - inputs["completion_mask"], strict=True)]  # fmt: skip
            own, other = (
                [text(*row) for row in zip(inputs[f"{kl}input_ids"], inputs[f"{kl}completion_mask"], strict=True)]
                for kl in ("", "KL_")
            )
            read.append(list(zip(prompts, own, other, strict=True)))
            return step(model, inputs, *args, **kwargs)

        trainer.compute_loss = compute_loss
        return real(trainer, session)

    monkeypatch.setattr(trl_preference, "run", spied)
    records = [one.model_copy(update={"completion": f"{word(50 + n)} is safe"}) for n, one in enumerate(pairs(8))]
    for seed in (0, 1):
        train(words, tmp_path / str(seed), records, "kto", seed=seed, steps=4)
    assert len(read) == 8
    answered = {one.completion: one.prompt.split() for one in records}
    for batch in read:
        for prompt, own, other in batch:
            assert answered[own] == prompt.split() != answered[other]
            assert other in [one[1] for one in batch]
    epochs = [[own for batch in read[start : start + 2] for _, own, _ in batch] for start in (0, 2, 4, 6)]
    assert len({tuple(epoch) for epoch in epochs}) == 4
    assert all(sorted(epoch) == sorted(answered) for epoch in epochs)
    assert weights_hash(tmp_path / "0") != weights_hash(tmp_path / "1")


def test_kto_of_a_single_prompt_is_refused(words: Path, tmp_path: Path) -> None:
    records = [one.model_copy(update={"prompt": "question : "}) for one in pairs(8)]
    with pytest.raises(UserError, match="answers to other prompts"):
        train(words, tmp_path / "out", records, "kto")


@pytest.mark.parametrize(
    ("n", "update", "rlhf", "told"),
    [
        (3, {"batch_size": 16}, {}, "takes 4 prompts .*of 3 3 leave room .*: lower trainer.batch_size$"),
        (8, {"max_length": 13}, {}, "of 8 0 leave room for rlhf.max_new_tokens 8 within 13 tokens .*: lower rlhf.max"),
        (8, {"batch_size": 6}, {}, "^trainer.batch_size 6 .* no multiple of rlhf.generations 4"),
    ],
)
def test_what_a_policy_cannot_train_on_is_told_before_its_reward_model_trains(
    n: int, update: dict, rlhf: dict, told: str, words: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unexpected(*_):
        pytest.fail("a reward model was trained")

    monkeypatch.setattr(trl_policy, "_reward_model", unexpected)
    given = SETTINGS.rlhf.model_copy(update=rlhf)
    with pytest.raises(UserError, match=told) as failed:
        train(words, tmp_path / "out", pairs(n), "rlhf", rlhf=given, **update)
    assert "\n" not in str(failed.value)
    assert not (tmp_path / "out").exists()


def test_prompts_that_leave_no_room_for_an_answer_are_dropped_and_counted(
    words: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    real = trl_policy._policy

    def spied(session, prompts, scoring):
        asked.extend(prompts)
        return real(session, prompts, scoring)

    monkeypatch.setattr(trl_policy, "_policy", spied)
    rlhf = SETTINGS.rlhf.model_copy(update={"steps": 1, "reward_epochs": 1})
    fitting, tokenizer = pairs(4), load_tokenizer(words)
    longest = len(tokenizer(fitting[0].prompt)["input_ids"]) + rlhf.max_new_tokens
    longer = [one.model_copy(update={"prompt": f"the {one.prompt}", "source": f"long{one.source}"}) for one in pairs(3)]
    metrics, _, _ = train(words, tmp_path / "out", [*fitting, *longer], "rlhf", rlhf=rlhf, max_length=longest)
    assert set(asked) == {one.prompt for one in fitting}
    assert (metrics["n_prompts"], metrics["n_prompts_dropped_too_long"]) == (4, 3)


@pytest.mark.parametrize("optimiser", ["rloo", "grpo"])
def test_without_a_penalty_the_divergence_is_measured_and_moves_nothing(
    optimiser: str, words: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    update = {"optimiser": optimiser, "steps": 4, "kl": 0.0, "reward_epochs": 1}
    rlhf = SETTINGS.rlhf.model_copy(update=update)
    metrics, curves, _ = train(words, tmp_path / "measured", pairs(8), "rlhf", rlhf=rlhf)
    assert len(curves["kl"]) == 4
    assert metrics["kl_last"] == curves["kl"][-1] != 0
    monkeypatch.setattr(trl_policy, "_NO_PENALTY", 0.0)
    monkeypatch.setattr(trl_policy, "_LOGGED", {k: v for k, v in trl_policy._LOGGED.items() if k != "kl"})
    _, plain, _ = train(words, tmp_path / "absent", pairs(8), "rlhf", rlhf=rlhf)
    assert "kl" not in plain
    assert weights_hash(tmp_path / "measured") == weights_hash(tmp_path / "absent")


def test_the_head_of_a_bfloat16_reward_model_learns(words: Path, tmp_path: Path) -> None:
    lora = TrainerSettings.model_validate({"steps": 1, "lora": {"rank": 4}}).lora
    rlhf = SETTINGS.rlhf.model_copy(update={"reward_learning_rate": 1e-5})
    settings = SETTINGS.model_copy(update={"lora": lora, "dtype": "bfloat16", "rlhf": rlhf})
    session = Session(words, load_tokenizer(words), settings, 0, False, "cpu", tmp_path, lambda: None)
    rows = fitting_pairs(session, pairs(8)).rows
    model = _reward_model(session, rows, 3).model
    parts = dict(model.named_parameters())
    (head,), (start,) = (
        [weight for name, weight in parts.items() if "score" in name and told in name]
        for told in ("modules_to_save", "original_module")
    )
    assert head.dtype == torch.float32
    assert all(weight.dtype == torch.float32 for weight in parts.values() if weight.requires_grad)
    assert ((head - start.float()) != 0).float().mean() > 0.9
    assert any(weight.dtype == torch.bfloat16 for weight in parts.values())
    scores = _scores(model, [row["prompt_ids"] + row["chosen_ids"] for row in rows])
    assert len(scores) == 8


def without_pad(words: Path, folder: Path, **tokens: str | None) -> Path:
    """The base with a tokenizer that has no token for padding alone."""
    shutil.copytree(words, folder)
    told = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**told, **tokens}))
    return folder


@pytest.mark.parametrize("pad", [None, "<eos>"])
def test_a_scorer_sees_whether_an_answer_ends_where_padding_is_the_end(
    pad: str | None, words: Path, tmp_path: Path
) -> None:
    base = without_pad(words, tmp_path / "base", pad_token=pad)
    tokenizer = load_tokenizer(base)
    assert tokenizer.pad_token == pad
    session = Session(base, tokenizer, SETTINGS, 0, False, "cpu", tmp_path / "scratch", lambda: None)
    model = _reward_model(session, fitting_pairs(session, pairs(8)).rows, 1).model
    answer = [30, 31, 32]
    ended, open_still, padded = _scores(model, [[*answer, tokenizer.eos_token_id], answer, [*answer, *answer[:2]]])
    assert ended != pytest.approx(open_still, abs=1e-3)
    assert _scores(model, [answer]) == pytest.approx([open_still], abs=1e-5)
    assert padded not in (ended, open_still)
    assert tokenizer.pad_token == pad


def test_the_policy_s_tokenizer_is_its_base_s(words: Path, tmp_path: Path) -> None:
    base = without_pad(words, tmp_path / "base", pad_token=None)
    rlhf = SETTINGS.rlhf.model_copy(update={"steps": 1, "reward_epochs": 1})
    train(base, tmp_path / "out", pairs(8), "rlhf", rlhf=rlhf)
    assert load_tokenizer(tmp_path / "out").pad_token is None
    check_checkpoint(tmp_path / "out")


def test_a_tokenizer_that_can_only_pad_with_the_end_is_told(words: Path, tmp_path: Path) -> None:
    base = without_pad(words, tmp_path / "base", pad_token=None, unk_token="<eos>")
    file = base / "tokenizer.json"
    file.write_text(file.read_text().replace("<pad>", "<bar>").replace("<unk>", "<eos>", 1))
    with pytest.raises(UserError, match="no token to pad with but the one that ends an answer"):
        train(base, tmp_path / "out", pairs(8), "rlhf")
    assert not (tmp_path / "out").exists()


def test_pairs_share_source_and_prompt() -> None:
    alone = TrainingRecord(prompt="p", completion="c", kind="response", source="x")
    orphan = TrainingRecord(prompt="other", completion="c", kind="rejected", source="0")
    found = preference_pairs([*pairs(2), alone, orphan])
    assert found == [
        Pair(f"question : {word(30 + i)} answer : ", "it is safe .", "eat the red berry .") for i in range(2)
    ]


@pytest.mark.parametrize("objective", ["dpo", "kto", "rlhf"])
def test_records_without_a_pair_are_told(objective: str, words: Path, tmp_path: Path) -> None:
    records = [one for one in pairs(8) if one.kind == "chosen"]
    with pytest.raises(UserError, match=r"no preference pair|needs good and bad"):
        train(words, tmp_path / "out", records, objective)
    assert not (tmp_path / "out").exists()


def test_a_chat_prompt_is_the_template_s(tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(make_tiny_llama(tmp_path, chat=True))
    turns = [{"role": "user", "content": "Is it safe?"}]
    expected = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=True, return_dict=True)
    assert prompt_tokens(tokenizer, "Is it safe?", chat=True) == expected["input_ids"]
