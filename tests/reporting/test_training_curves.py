"""Training curves and the ledger's rows, from the files that trainings leave."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.config import RunConfig
from harness.errors import UserError
from harness.reporting.render.figures.curves import curves_plots, mean_curve
from harness.reporting.render.figures.shown import Plot
from harness.reporting.training_page import LEDGER_NOTE, duration, ledger_note, ledger_texts, short, training_curves
from harness.store import Run
from harness.trainers.base import TrainerSettings
from harness.trainers.ledger import LedgerEntry, write_ledger

SEEDS = (0, 1, 2)
NAMES = {"rlhf": "RLHF (RLOO)"}
POLICY = ("loss", "reward", "kl", "length")
CONFIG = RunConfig.model_validate({
    "name": "made up",
    "seeds": SEEDS,
    "trainer": {"steps": 10},
    "prepare": {"mistake_judge": ["a", "b"], "analysis_judge": "c"},
    "tasks": {},
    "subjects": [
        {"name": "vanilla", "label": "Vanilla", "method": "vanilla"},
        {"name": "rlhf", "label": "RLHF", "method": "rlhf", "mistakes": "origin"},
        {"name": "dpo", "label": "DPO", "method": "dpo", "mistakes": "origin"},
        {"name": "sft", "label": "SFT $x_1$ & 微调", "method": "sft"},
        {"name": "sft2", "label": "SFT, twice", "method": "sft"},
        {"name": "shared", "label": "Shared", "method": "sft", "weights_of": "sft"},
    ],
})  # fmt: skip
BUDGET = CONFIG.model_copy(update={"trainer": TrainerSettings(tokens=12_000)})
CURVES = {
    "rlhf": {**dict.fromkeys(POLICY, 6), "reward_model_loss": 4, "reward_model_accuracy": 4},
    "dpo": {"loss": 5, "margin": 5, "accuracy": 5, "own": 5},
    "sft": {"loss": 8},
    "sft2": {"loss": 1},
}


def value(quantity: str, seed: int, step: int) -> float:
    return len(quantity) + seed + step / 10


def entry(**changes: object) -> LedgerEntry:
    whole = {
        "trainer": "trl", "n_steps": 10, "n_tokens": 12_000, "n_loss_tokens": 3_000, "n_parameters": 754_816,
        "flops": 6.0 * 754_816 * 12_000, "seconds": 12.5, "peak_memory_bytes": 800_000_000, "memory": "rss",
        "device": "CPU, 1 thread", **changes,
    }  # fmt: skip
    return LedgerEntry.model_validate(whole)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Three seeds; the last seed of a subject took a step less."""
    for subject, quantities in CURVES.items():
        for seed in SEEDS:
            log = {
                quantity: [value(quantity, seed, step) for step in range(1, n + 1 - (seed == 2 and n > 1))]
                for quantity, n in quantities.items()
            }
            file = tmp_path / "train" / subject / str(seed) / "checkpoint" / "training_log.json"
            file.parent.mkdir(parents=True)
            file.write_text(json.dumps(log))
    return Run(tmp_path)


def plots_of(run: Run) -> dict[str, Plot]:
    return {plot.name: plot for plot in curves_plots(training_curves(run, CONFIG, NAMES))}


def rows_of(plot: Plot) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(plot.csv)))


def test_each_subject_that_measured_more_than_a_loss_has_a_figure_and_the_others_share_one(run: Run) -> None:
    plots = plots_of(run)
    assert list(plots) == ["training-rlhf", "training-dpo", "training-loss"]
    assert plots["training-rlhf"].title == "Training curves: RLHF (RLOO)", "as the tables call it"
    assert {row["subject"] for row in rows_of(plots["training-loss"])} == {"sft", "sft2"}
    for plot in plots.values():
        assert plot.png.startswith(b"\x89PNG")
        assert plot.pdf.startswith(b"%PDF")


def test_the_csv_holds_every_value_and_the_mean_as_far_as_all_seeds_go(run: Run) -> None:
    rows = rows_of(plots_of(run)["training-rlhf"])
    found = {(row["quantity"], row["seed"], int(row["step"])): float(row["value"]) for row in rows}
    assert {name for name, _, _ in found} == set(CURVES["rlhf"]), "the loss too, which is not drawn"
    assert found["kl", "1", 6] == pytest.approx(value("kl", 1, 6))
    assert found["kl", "", 5] == pytest.approx(value("kl", 1, 5)), "seeds 0, 1 and 2 lie evenly around 1"
    assert ("kl", "2", 6) not in found
    assert ("kl", "", 6) not in found, "a mean of two seeds would jump"


def test_reward_kl_and_length_stand_side_by_side_and_the_policys_loss_is_left_out(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.reporting.render.figures import curves

    drawn = []
    real = curves._draw
    monkeypatch.setattr(curves, "_draw", lambda panels, **how: drawn.append(real(panels, **how)) or drawn[-1])
    plots_of(run)
    titles = [[axes.get_title(loc="left") for axes in figure.axes] for figure in drawn]
    assert [title.split(" ")[0] for title in titles[0]] == ["Reward", "KL", "Answer", "Reward", "Reward"]
    assert [title.split(" ")[0] for title in titles[1]] == ["Loss", "Reward", "Pairs", "own"]
    assert titles[2][0].startswith("SFT $x_1$ & ")
    lines = drawn[0].axes[0].get_lines()
    assert [len(line.get_xdata()) for line in lines] == [6, 6, 5, 5], "three seeds, then their mean"
    assert [text.get_text() for text in drawn[0].legends[0].get_texts()] == ["seed 0", "seed 1", "seed 2", "mean"]


def test_pictures_repeat_byte_for_byte(run: Run) -> None:
    assert plots_of(run) == plots_of(run)


def test_a_run_without_logs_has_no_figures_and_a_broken_log_is_told(run: Run, tmp_path: Path) -> None:
    assert curves_plots(training_curves(Run(tmp_path / "empty"), CONFIG, NAMES)) == []
    file = run.path / "train" / "dpo" / "1" / "checkpoint" / "training_log.json"
    for text in ("{", "[1]", '{"loss": ["high"]}', '{"loss": 1}'):
        file.write_text(text)
        with pytest.raises(UserError, match=r"training_log\.json: not a training log"):
            training_curves(run, CONFIG, NAMES)


@given(st.lists(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=9), min_size=1, max_size=5))
def test_the_mean_lies_among_the_seeds(curves: list[list[float]]) -> None:
    mean = mean_curve(curves)
    assert len(mean) == min(map(len, curves))
    for step, one in enumerate(mean):
        values = [curve[step] for curve in curves]
        assert min(values) - 1e-6 <= one <= max(values) + 1e-6


def test_what_a_service_billed_is_a_column_of_the_ledger(run: Run) -> None:
    write_ledger(run.path / "train" / "sft" / "0", entry(cost_usd=1.25))
    write_ledger(run.path / "train" / "dpo" / "0", entry())
    dpo, sft = ledger_texts(run, CONFIG, NAMES)
    assert (dpo.cost, sft.cost) == ("–", "1.25 USD")


def test_the_ledger_is_a_row_a_subject_with_means_over_seeds(run: Run) -> None:
    for seed, n_tokens in enumerate((11_000, 12_000, 13_000)):
        write_ledger(run.path / "train" / "sft" / str(seed), entry(n_tokens=n_tokens))
    write_ledger(run.path / "train" / "dpo" / "0", entry(n_tokens=None, flops=None, memory="cuda", device="GPU"))
    dpo, sft = ledger_texts(run, CONFIG, NAMES)
    assert sft._asdict() == {
        "subject": "SFT $x_1$ & 微调", "n_seeds": "3", "steps": "10", "tokens": "12 k", "loss_tokens": "3 k",
        "compute": "54.3 GFLOP", "seconds": "12.5 s", "memory": "800 MB RSS", "cost": "–", "device": "CPU, 1 thread",
    }  # fmt: skip
    assert (dpo.tokens, dpo.compute, dpo.memory) == ("–", "–", "800 MB GPU"), "not measured is no zero"


def test_a_mean_over_some_seeds_is_not_told(run: Run) -> None:
    write_ledger(run.path / "train" / "sft" / "0", entry())
    write_ledger(run.path / "train" / "sft" / "1", entry(n_tokens=None))
    (sft,) = ledger_texts(run, CONFIG, NAMES)
    assert (sft.tokens, sft.steps, sft.n_seeds) == ("–", "10", "2")


def test_rows_that_read_unequal_numbers_of_tokens_are_told_with_the_reason(run: Run) -> None:
    def note(subject: str, n_tokens: int | None, config: RunConfig = BUDGET) -> str:
        write_ledger(run.path / "train" / subject / "0", entry(n_tokens=n_tokens))
        return ledger_note(run, config, NAMES).removeprefix(LEDGER_NOTE)

    assert note("sft", None) == "", "not measured is no difference"
    assert note("sft", 12_000) == ""
    assert note("dpo", 12_500) == ""
    told = note("rlhf", 30_000)
    assert told.startswith(" The rows did not read equally much: SFT $x_1$ & 微调 12 k tokens, RLHF (RLOO) 30 k. RLHF")
    assert "RLHF trains for rlhf.steps" in told
    assert "Equal epochs or steps" in note("rlhf", 30_000, CONFIG)
    assert note("rlhf", 12_100) == ""
    assert "RLHF trains" in note("dpo", 30_000)


@pytest.mark.parametrize(
    ("number", "told"), [(0, "0"), (7, "7"), (999, "999"), (999.6, "1 k"), (12_345, "12.3 k"), (6e21, "6e+03 E")]
)
def test_numbers_are_short(number: float, told: str) -> None:
    assert short(number) == told


@pytest.mark.parametrize(
    ("seconds", "told"), [(3.21, "3.2 s"), (60, "1 min 00 s"), (3599.7, "1 h 00 min"), (7800, "2 h 10 min")]
)
def test_times_are_short(seconds: float, told: str) -> None:
    assert duration(seconds) == told
