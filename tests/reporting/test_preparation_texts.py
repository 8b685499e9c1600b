"""What the page says of trainings whose trainer measured little: a dash, and no crash."""

from harness.reporting.page import preparation_texts
from harness.scores import PreparationRow, Scores


def test_what_a_program_does_not_measure_is_a_dash():
    rows = tuple(
        PreparationRow(subject="sft", seed=seed, counts={"records: response": 20}, training=training)
        for seed, training in enumerate([{"n_records": 20.0}, {"n_steps": 6.0, "loss_first": 2.0, "loss_last": 1.0}])
    )
    [found] = preparation_texts(Scores.model_construct(preparations=rows, subjects=()))
    assert tuple(found[2:]) == ("– + 6", "2.00 → 1.00")
    [none] = preparation_texts(Scores.model_construct(preparations=rows[:1], subjects=()))
    assert none[2:] == ("–", "–")
