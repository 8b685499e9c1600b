"""Every question is asked until it has a final answer, batch by batch, and never again."""

import pytest

from harness.models.base import Answer
from harness.models.scripted import ScriptedModel
from harness.prompting import load_templates
from harness.records import Completion, CompletionOutcome, Message, ModelSpec, Sample
from harness.stages.answering import answer, batches, completion_key, owed
from harness.store import latest, read

PAPER = load_templates("paper")
SPEC = ModelSpec(backend="scripted", weights="w", templates=PAPER.hash)


def sample(text, choices=()):
    return Sample(task="t", task_version="1", messages=(Message(role="user", content=text),), choices=choices)


SAMPLES = [sample("x" * n) for n in (3, 9, 1, 7, 5, 2, 8)]


class Model(ScriptedModel):
    """Answers with the question; remembers each batch; may die at one."""

    def __init__(self, dies_at=None, fails=()):
        super().__init__(lambda request: request.sample.messages[0].content)
        self.batches = []
        self.dies_at, self.fails = dies_at, fails

    def answer(self, requests, decoding):
        if len(self.batches) == self.dies_at:
            raise KeyboardInterrupt
        self.batches.append([request.sample.messages[0].content for request in requests])
        found = super().answer(requests, decoding)
        return [
            Answer(CompletionOutcome.ERROR, detail="timeout") if said.text in self.fails else said for said in found
        ]


def ask(model, file, samples=SAMPLES, batch_size=3, opened=None, notify=lambda n: None):
    known = latest(read(file, Completion).records)

    def opens():
        if opened is not None:
            opened.append(1)
        return model

    return answer(opens, SPEC, samples, PAPER, known, file, batch_size, notify)


def test_answers_come_in_the_samples_order_and_are_on_disk(tmp_path):
    told, model = [], Model()
    found = ask(model, tmp_path / "f", notify=told.append)
    assert [c.text for c in found] == [s.messages[0].content for s in SAMPLES]
    assert [c.key for c in found] == [completion_key(s, SPEC) for s in SAMPLES]
    assert sorted(c.key for c in read(tmp_path / "f", Completion).records) == sorted(c.key for c in found)
    assert told == [3, 3, 1]
    assert [len(batch) for batch in model.batches] == [3, 3, 1]


def test_what_is_answered_is_never_asked_again_and_no_model_is_opened(tmp_path):
    first = ask(Model(), tmp_path / "f")
    opened, before = [], (tmp_path / "f").read_bytes()
    assert ask(Model(dies_at=0), tmp_path / "f", opened=opened) == first
    assert (opened, (tmp_path / "f").read_bytes()) == ([], before)


@pytest.mark.parametrize("dies_at", [0, 1, 2])
def test_an_interrupted_run_keeps_whole_batches_and_asks_the_rest_in_the_same_batches(tmp_path, dies_at):
    whole, begun, resumed = Model(), Model(dies_at=dies_at), Model()
    expected = ask(whole, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        ask(begun, tmp_path / "f")
    assert len(read(tmp_path / "f", Completion).records) == 3 * dies_at
    assert ask(resumed, tmp_path / "f") == expected
    assert begun.batches + resumed.batches == whole.batches
    assert (tmp_path / "f").read_bytes() == (tmp_path / "whole").read_bytes()


def test_a_batch_of_which_a_part_was_written_is_asked_whole_and_written_once(tmp_path):
    whole, resumed = Model(), Model()
    expected = ask(whole, tmp_path / "f")
    lines = (tmp_path / "f").read_bytes().splitlines(keepends=True)
    (tmp_path / "f").write_bytes(b"".join(lines[:4]) + lines[4][:20])
    assert ask(resumed, tmp_path / "f") == expected
    assert resumed.batches == whole.batches[1:]
    found = read(tmp_path / "f", Completion)
    assert (len(found.records), found.n_torn) == (7, 1)
    assert len({c.key for c in found.records}) == 7


def test_an_error_is_owed_again_and_its_second_answer_counts(tmp_path):
    found = ask(Model(fails=("xxxxx",)), tmp_path / "f")
    assert [c.outcome for c in found].count("error") == 1
    known = latest(read(tmp_path / "f", Completion).records)
    assert [s.messages[0].content for s in owed(SAMPLES, SPEC, known)] == ["xxxxx"]
    again = Model()
    assert [c.outcome for c in ask(again, tmp_path / "f")] == ["ok"] * 7
    assert len(again.batches) == 1
    found = read(tmp_path / "f", Completion).records
    assert len(found) == 8
    assert len({c.key for c in found if c.final}) == 7


def test_an_empty_answer_is_final(tmp_path):
    ask(ScriptedModel(lambda request: " \n"), tmp_path / "f")
    found = read(tmp_path / "f", Completion).records
    assert {c.outcome for c in found} == {"empty"}
    assert owed(SAMPLES, SPEC, latest(found)) == []


def test_another_model_owes_everything(tmp_path):
    ask(Model(), tmp_path / "f")
    known = latest(read(tmp_path / "f", Completion).records)
    other = SPEC.model_copy(update={"weights": "other"})
    assert len(owed(SAMPLES, ModelSpec.model_validate(other.model_dump()), known)) == 7


def test_the_same_question_is_asked_once_and_answered_wherever_it_stands(tmp_path):
    model = Model()
    found = ask(model, tmp_path / "f", [SAMPLES[0], SAMPLES[1], SAMPLES[0]])
    assert [c.text for c in found] == ["xxx", "x" * 9, "xxx"]
    assert [len(batch) for batch in model.batches] == [2]
    assert len(read(tmp_path / "f", Completion).records) == 2


def test_batches_do_not_depend_on_the_order_and_hold_like_questions():
    samples = [*SAMPLES, *(sample(s.messages[0].content, ("a", "b")) for s in SAMPLES)]
    found = batches(samples, PAPER, SPEC, 4)
    assert found == batches(samples[::-1], PAPER, SPEC, 4)
    assert [len(batch) for batch in found] == [4, 3, 4, 3]
    assert all(len({bool(r.sample.choices) for r in batch}) == 1 for batch in found)
    lengths = [len(r.prompt) for batch in found[:2] for r in batch]
    assert lengths == sorted(lengths, reverse=True)


def test_nothing_to_ask(tmp_path):
    assert ask(Model(), tmp_path / "f", []) == []
    assert not (tmp_path / "f").exists()
