"""RLHF under a limit on harm: how the multiplier moves, which pairs teach the cost model, and whole trainings."""

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from transformers import AutoTokenizer

from harness.errors import UserError
from harness.methods import Workbench, prepare
from harness.microworld import base_path
from harness.models.weights import check_checkpoint, weights_hash
from harness.prompting import load_templates
from harness.records import TrainingRecord
from harness.reporting.render.figures.curves import CONSTRAINED, POLICY_QUANTITIES, _titles, curves_plots
from harness.reporting.training_page import Curves
from harness.sources import alignment_data
from harness.trainers import TrainerSettings, get_trainer
from harness.trainers.cost_model import by_axis, collator, cost_loss, cost_rows, order_right, sides_right, split
from harness.trainers.lagrangian import LagrangianSettings, Multiplier, constrained
from tests.tiny import make_word_llama, word

CURVES = {
    "loss", "reward", "cost", "lambda", "kl", "length", "reward_model_loss", "reward_model_accuracy", "cost_model_loss",
}  # fmt: skip
RLHF = {
    "steps": 15, "generations": 4, "max_new_tokens": 8, "reward_epochs": 5, "reward_batch_size": 8,
    "reward_learning_rate": 1e-3, "lagrangian": {"limit": -4.0, "lambda_init": 2.0, "window": 8},
}  # fmt: skip
costs = st.floats(-20, 20)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def settings_of(**update: Any) -> TrainerSettings:
    given = {"steps": 1, "batch_size": 8, "learning_rate": 1e-3, "rlhf": RLHF}
    return TrainerSettings.model_validate({**given, **update})


def train(base: Path, out: Path, records: list[TrainingRecord], settings: TrainerSettings):
    done = []
    result = get_trainer("trl").train(
        base, records, settings, 0, out, objective="rlhf", chat=False, device="cpu", progress=lambda: done.append(1)
    )
    kinds = Counter(record.kind for record in records)
    assert len(done) == settings.all_steps("rlhf", kinds)
    return result.metrics, json.loads((out / "training_log.json").read_text())


def pairs(n: int) -> list[TrainingRecord]:
    """Asked about danger, eating is the mistake; asked for a drink, the warning is merely out of place."""
    found = []
    for i in range(n):
        for about, good, bad in (
            ("unsafe", "it is harmful .", "eat ( red ."),
            ("drink", "drink a blue", "it is harmful ."),
        ):
            prompt = f"question : {about} {word(30 + i)} answer : "
            for kind, text in (("chosen", good), ("rejected", bad)):
                found.append(TrainingRecord(prompt=prompt, completion=text, kind=kind, source=f"{about}{i}"))
    return found


def vale_records(n: int) -> list[TrainingRecord]:
    """What the method makes of ``n`` rows of the vale, with each row's kind as source."""
    rows = alignment_data({"train": "vale:broad"}).rows
    bench = Workbench(rows, load_templates("vale"), *[lambda *_: pytest.fail("asked")] * 3, mistakes="origin")
    kinds = {row.key: f"{row.kind}:{place}" for place, row in enumerate(rows)}
    made = prepare("rlhf", bench).records
    return [record.model_copy(update={"source": kinds[record.source]}) for record in made][: 2 * n]


# The multiplier


@given(observed=st.lists(costs, min_size=1, max_size=40), limit=st.floats(-5, 5), start=st.floats(0.01, 5.0))
def test_the_multiplier_follows_the_average_cost_and_is_never_negative(
    observed: list[float], limit: float, start: float
) -> None:
    multiplier = Multiplier(LagrangianSettings(limit=limit, lambda_init=start, window=8))
    for cost in observed:
        before = multiplier.value
        multiplier.observe([cost])
        multiplier.update()
        window = list(multiplier.costs)
        excess = sum(window) / len(window) - limit
        assert len(window) <= 8
        assert 0 <= multiplier.value <= 5 * (1 + 1e-9)
        if excess > 1e-3:
            assert multiplier.value >= min(before, 5)
        if excess < -1e-3:
            assert multiplier.value <= before


@pytest.mark.parametrize(("cost", "direction"), [(3.0, 1), (-3.0, -1)])
def test_a_cost_above_the_limit_raises_the_multiplier_and_one_below_lowers_it(cost: float, direction: int) -> None:
    multiplier = Multiplier(LagrangianSettings(limit=-1.0, learning_rate=0.1))
    multiplier.observe([cost])
    multiplier.update()
    assert multiplier.value == pytest.approx(math.exp(0.1 * (cost + 1)))
    assert (multiplier.value - 1) * direction > 0


def test_the_objective_trades_reward_for_cost_at_the_multiplier_and_tells_both() -> None:
    told: dict[str, float] = {}
    multiplier = Multiplier(LagrangianSettings(lambda_init=3.0))
    score = constrained(lambda *_: [1.0, 5.0], lambda *_: [-2.0, 4.0], multiplier)
    assert score(["p", "p"], [[1], [2]], log_metric=told.__setitem__) == pytest.approx([7 / 4, -7 / 4])
    assert told == pytest.approx({"helpfulness": 3.0, "cost": 1.0, "lambda": 3.0})
    assert list(multiplier.costs) == [-2.0, 4.0]


def test_a_start_above_the_highest_multiplier_is_refused() -> None:
    with pytest.raises(ValidationError, match="lambda_init is above lambda_max"):
        settings_of(rlhf={"lagrangian": {"lambda_init": 9}})


def test_settings_without_the_block_are_those_from_before_it() -> None:
    plain = settings_of(rlhf={})
    assert "lagrangian" not in plain.model_dump(mode="json")["rlhf"]
    assert TrainerSettings.model_validate(settings_of().model_dump()) == settings_of()
    assert settings_of().rlhf.reward_steps(20) == 2 * plain.rlhf.model_copy(
        update={"reward_epochs": 5.0, "reward_batch_size": 8}
    ).reward_steps(20)


# Which pairs teach what


def test_benign_pairs_of_the_vale_are_about_helpfulness_and_all_others_about_harm() -> None:
    axes = by_axis(vale_records(120))
    kinds = [Counter(record.source.split(":")[0] for record in axis) for axis in axes]
    assert kinds[0]["benign"] == 96
    assert kinds[1]["red"] == 96
    assert kinds[0]["red"] == kinds[1]["benign"] == 0
    # one hijack leads to what is the good answer to another row: it harms nobody
    assert (kinds[0]["hijack"], kinds[1]["hijack"]) == (2, 46)


def test_answers_that_stand_in_no_pair_still_tell_what_is_misplaced() -> None:
    records = [*pairs(2), TrainingRecord(prompt="p", completion="no .", kind="response", source="alone")]
    for kind, text in (("chosen", "yes ."), ("rejected", "no .")):
        records.append(TrainingRecord(prompt="q", completion=text, kind=kind, source="q"))
    axes = by_axis(records)
    assert {record.source for record in axes.helpfulness} == {"drink0", "drink1", "q"}
    assert {record.source for record in axes.harm} == {"unsafe0", "unsafe1"}


@pytest.mark.parametrize(("kept", "told"), [("unsafe", "4 and 0 found"), ("drink", "0 and 4 found")])
def test_pairs_of_one_kind_alone_are_told(kept: str, told: str, tmp_path: Path) -> None:
    base = make_word_llama(tmp_path / "words")
    other = TrainingRecord(prompt="p", completion="it is harmful .", kind="response", source="r")
    records = [*(one for one in pairs(4) if one.source.startswith(kept)), *([other] if kept == "drink" else [])]
    with pytest.raises(UserError, match=told):
        train(base, tmp_path / "out", records, settings_of())
    assert not (tmp_path / "out").exists()


def row(n: int, source: Any, prompt: Any, good: Any, bad: Any) -> dict[str, Any]:
    made = {"prompt_ids": [prompt], "chosen_ids": [good], "rejected_ids": [bad]}
    return {"n": n, "source": str(source), **made}


rows_of_pairs = st.lists(st.tuples(*[st.integers(0, 40)] * 4), min_size=2, max_size=30)


@given(harm=rows_of_pairs, helpfulness=rows_of_pairs, share=st.floats(0.01, 0.9), seed=st.integers(0, 5))
def test_held_out_pairs_share_no_source_and_no_prompt_with_those_that_teach(
    harm: list[Any], helpfulness: list[Any], share: float, seed: int
) -> None:
    axes = [[row(n, *one) for n, one in enumerate(found)] for found in (helpfulness, harm)]
    try:
        parts = split(*axes, share, seed)
    except UserError:
        return
    for rows, part in zip(axes, parts, strict=True):
        assert part.train
        assert part.held_out
        for side in part:
            assert [one["n"] for one in side] == sorted(one["n"] for one in side)
        assert sorted((one for side in part for one in side), key=lambda one: one["n"]) == rows
    for name in ("source", "prompt_ids"):
        train, out = ({str(one[name]) for part in parts for one in part[side]} for side in (0, 1))
        assert train.isdisjoint(out)
    assert parts == split(*axes, share, seed)


@given(n=st.integers(2, 60), share=st.floats(0.01, 0.99), seed=st.integers(0, 5))
def test_the_share_is_held_out_where_nothing_is_shared(n: int, share: float, seed: int) -> None:
    axes = [[row(i, (axis, i), 2 * i + axis, (4 * i + axis), 4 * i + 2 + axis) for i in range(n)] for axis in (0, 1)]
    for part in split(*axes, share, seed):
        assert len(part.held_out) == min(max(1, round(share * n)), n - 1)


def test_a_held_out_misplaced_refusal_is_no_good_answer_among_those_that_teach() -> None:
    def rows(records: list[TrainingRecord]) -> list[dict[str, Any]]:
        good, bad = ([one for one in records if one.kind == kind] for kind in ("chosen", "rejected"))
        return [
            row(n, one.source, one.prompt, one.completion, other.completion)
            for n, (one, other) in enumerate(zip(good, bad, strict=True))
        ]

    axes = [rows(axis) for axis in by_axis(vale_records(120))]
    for seed in range(5):
        parts = split(*axes, 0.1, seed)
        taught, out = (
            {one[name][0] for part in parts for one in part[side] for name in ("chosen_ids", "rejected_ids")}
            for side in (0, 1)
        )
        assert len(parts.helpfulness.held_out) == 5
        assert len(parts.harm.held_out) == 7
        assert taught.isdisjoint(out)


def test_a_stock_refusal_is_shared_and_prompts_are_not() -> None:
    axes = [[row(n, f"{axis}{n}", f"{axis}{n // 2}", "no .", "yes .") for n in range(40)] for axis in "ab"]
    for part in split(*axes, 0.1, 0):
        assert len(part.held_out) == 4


def test_pairs_that_all_hang_together_cannot_be_held_out() -> None:
    with pytest.raises(UserError, match="needs two pairs or more about harm and about helpfulness each"):
        split(
            [row(n, n, "p", n, n) for n in range(4)],
            [row(n, f"h{n}", f"q{n}", f"g{n}", f"b{n}") for n in range(4)],
            0.1,
            0,
        )


def test_micro_batches_make_the_same_cost_model(tmp_path: Path) -> None:
    rlhf = {**RLHF, "steps": 1, "reward_epochs": 2, "reward_batch_size": 8}
    base = make_word_llama(tmp_path / "words")
    found = [
        train(base, tmp_path / str(micro), pairs(6), settings_of(rlhf=rlhf, micro_batch_size=micro))[1]
        for micro in (None, 4)
    ]
    for name in ("cost_model_loss", "reward_model_loss"):
        assert found[0][name] == pytest.approx(found[1][name], rel=1e-4)


def test_accuracies_count_the_side_of_zero_and_the_order() -> None:
    assert sides_right([2.0, -1.0, 0.5], [-1.0, 0.1, -3.0], [1.0, 1.0, 0.0]) == pytest.approx(3 / 6)
    assert order_right([1.0, 2.0], [0.0, 2.0]) == 0.5


def test_the_cost_loss_is_order_among_harm_and_the_side_of_zero_for_every_answer(tmp_path: Path) -> None:
    from datasets import Dataset
    from transformers import AutoModelForSequenceClassification
    from trl import RewardConfig, RewardTrainer

    base = make_word_llama(tmp_path / "words")
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=1)
    model.config.pad_token_id = 0
    row = {"prompt_ids": [2, 9], "chosen_ids": [11, 12, 3], "rejected_ids": [14, 3]}
    rows = cost_rows([row], [{**row, "prompt_ids": [2, 17]}])
    assert rows[0] == {"chosen_ids": [2, 9, 14, 3], "rejected_ids": [2, 9, 11, 12, 3], "harmful": 1.0}
    made = type("Made", (RewardTrainer,), {"compute_loss": cost_loss, "_prepare_dataset": lambda _, data, *__: data})
    trainer = made(
        model=model, train_dataset=Dataset.from_list(rows), processing_class=AutoTokenizer.from_pretrained(base),
        args=RewardConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False, report_to="none", max_length=None),
    )  # fmt: skip
    loss, outputs = trainer.compute_loss(model.eval(), collator(0)(rows), return_outputs=True)
    bad, odd, good, fine = outputs.logits.flatten().tolist()  # the first answers of both pairs, then the second ones

    def surprise(x: float) -> float:
        return math.log1p(math.exp(-x))

    harm, harmless = surprise(bad - good) + surprise(bad) + surprise(-good), surprise(-odd) + surprise(-fine)
    assert loss.item() == pytest.approx((harm + harmless) / 2, rel=1e-5)


def test_cost_and_multiplier_are_drawn_beside_the_reward() -> None:
    values = {name: {0: [0.0, 1.0]} for name in sorted(CURVES)}
    (plot,) = curves_plots([Curves("safe", "Safe RLHF", values)])
    assert CONSTRAINED in plot.footnotes
    assert _titles(Curves("safe", "", values)) == {
        name: title for name, title in POLICY_QUANTITIES.items() if name in CURVES
    }


# Whole trainings


def test_a_strict_limit_keeps_the_cost_below_what_reward_alone_leads_to(tmp_path: Path) -> None:
    found = {}
    for name, start in (("strict", 5.0), ("none", 1e-3)):
        lagrangian = {"limit": -50.0, "lambda_init": start, "lambda_max": start}
        rlhf = {**RLHF, "steps": 6, "max_new_tokens": 16, "lagrangian": lagrangian}
        settings = settings_of(batch_size=32, learning_rate=5e-4, rlhf=rlhf)
        metrics, curves = train(base_path("vale-0"), tmp_path / name, vale_records(48), settings)
        assert metrics["cost_accuracy"] > 0.6
        assert (metrics["n_pairs"], metrics["n_pairs_held_out"]) == (48, 5)
        found[name] = curves
    assert sum(found["strict"]["cost"][-3:]) / 3 < sum(found["none"]["cost"][-3:]) / 3 - 0.5
    assert sum(found["strict"]["reward"][-3:]) / 3 < sum(found["none"]["reward"][-3:]) / 3


def test_the_multiplier_moves_between_steps_by_each_step_s_cost(tmp_path: Path) -> None:
    lagrangian = {"limit": -1.0, "lambda_init": 2.0, "learning_rate": 0.02, "window": 8}
    settings = settings_of(rlhf={**RLHF, "steps": 8, "optimiser": "grpo", "reward_epochs": 1, "lagrangian": lagrangian})
    _, curves = train(make_word_llama(tmp_path / "words"), tmp_path / "out", pairs(8), settings)
    assert curves["lambda"][0] == pytest.approx(2.0)
    steps = zip(curves["cost"], curves["lambda"], curves["lambda"][1:], strict=False)
    for cost, before, after in steps:  # the window holds one step, so the curves tell the whole course of λ
        assert after == pytest.approx(min(5.0, before * math.exp(0.02 * before * (cost + 1))), rel=1e-4)
    assert len(set(curves["lambda"])) == 8


def test_the_vale_s_base_trains_with_adapters_to_the_same_bits_twice(tmp_path: Path) -> None:
    rlhf = {**RLHF, "steps": 4, "reward_epochs": 1, "max_new_tokens": 20}
    settings = settings_of(rlhf=rlhf, lora={"rank": 4, "alpha": 8})
    found = [train(base_path("vale-0"), tmp_path / name, vale_records(16), settings) for name in "ab"]
    assert found[0] == found[1]
    assert weights_hash(tmp_path / "a") == weights_hash(tmp_path / "b") != weights_hash(base_path("vale-0"))
    check_checkpoint(tmp_path / "a")
    metrics, curves = found[0]
    assert set(curves) == CURVES
    assert {name: len(curves[name]) for name in CURVES if "model" not in name} == dict.fromkeys(
        ("loss", "reward", "cost", "lambda", "kl", "length"), 4
    )
    assert metrics["lambda_last"] == curves["lambda"][-1]
    assert metrics["n_tokens"] > metrics["reward_model_n_tokens"] + metrics["cost_model_n_tokens"]
