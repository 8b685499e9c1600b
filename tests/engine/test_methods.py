"""What each method asks, keeps, drops and trains on, by hand-made rows and a model that says what it is told to."""

import pytest

from harness.errors import UserError
from harness.methods import METHODS, Workbench, method_needs, method_objective, method_style, method_trains, prepare
from harness.models.base import Answer, Request
from harness.prompting import load_templates, render
from harness.records import Completion, CompletionOutcome, Decoding
from harness.rows import AlignmentRow

PAPER = load_templates("paper")
ROWS = [
    AlignmentRow(instruction="red one", input="more", good="no one", bad="yes one", kind="red", labels={"n": 1}),
    AlignmentRow(instruction="kind one", good="sure", kind="benign"),
    AlignmentRow(instruction="red two", good="no two", bad="yes two", kind="red"),
    AlignmentRow(instruction="red three", good="no three", kind="red"),
    AlignmentRow(instruction="hijack", good="served", bad="hijacked", kind="hijack"),
]
RED = [row for row in ROWS if row.kind != "benign"]
HEADER = "Below is an instruction that describes a task. Write a response that appropriately completes the request."


class Asked:
    """The means to ask: answers by a script, and remembers what was asked of whom."""

    def __init__(self, /, **scripts):
        self.scripts = scripts
        self.log = []

    def __call__(self, who, samples):
        requests = [Request(sample, render(sample, PAPER, "ordinary")) for sample in samples]
        self.log += [(who, request.sample.style, request.prompt) for request in requests]
        return [self._completion(who, r, self._answer(who, r)) for r in requests]

    def _answer(self, who, request):
        found = self.scripts[who](request)
        return found if isinstance(found, Answer) else Answer(CompletionOutcome.OK, found)

    def _completion(self, who, request, found):
        return Completion(
            sample_key=request.sample.key, model_key=who, outcome=found.outcome, text=found.text, detail=found.detail
        )

    def prompts(self, style):
        return [prompt for _, asked, prompt in self.log if asked == style]


def question(request):
    return request.sample.messages[0].content


def said(request, role):
    return next(message.content for message in request.sample.messages if message.role == role)


def writer(request):
    """Follows a harmful hint for some rows, analyses and revises."""
    style, asked = request.sample.style, question(request)
    if style == "guided_harmful":
        refused = {"red two": "I refuse", "red three": Answer(CompletionOutcome.EMPTY)}
        return refused.get(asked, f"bad {asked}")
    if style == "guided_analysis":
        return f"The answer is harmful: {said(request, 'assistant')}"
    return f"better {asked}"


def bench(method, ask, mistakes=None, analyst=None, rows=ROWS):
    def is_mistake(pairs):
        return ["mistake" if completion.text.startswith("bad") else "fine" for _, completion in pairs]

    def verdict(pairs):
        words = ("harmful", "harmless")
        return [next((word for word in words if word in completion.text), None) for _, completion in pairs]

    return prepare(method, Workbench(rows, PAPER, ask, is_mistake, verdict, mistakes, analyst))


def trained(made):
    return [(r.kind, r.completion) for r in made.records]


def test_sft_learns_every_good_response_in_the_ordinary_template():
    ask = Asked()
    made = bench("sft", ask)
    assert trained(made) == [("response", row.good) for row in ROWS]
    assert made.records[1].prompt == f"{HEADER}\n\n### Instruction:\nkind one\n\n### Response:\n"
    assert "### Input:\nmore\n\n### Response:\n" in made.records[0].prompt
    assert [r.source for r in made.records] == [row.key for row in ROWS]
    assert (made.steps, made.counts, ask.log) == ([], {"records: response": 5}, [])


def test_mistake_analysis_of_given_mistakes():
    ask = Asked(self=writer)
    made = bench("mistake_analysis", ask, "origin", "self")
    assert trained(made)[:5] == [("response", row.good) for row in ROWS]
    assert trained(made)[5:] == [
        ("analysis", f"The answer is harmful: {bad}") for bad in ("yes one", "yes two", "hijacked")
    ]
    assert [style for _, style, _ in ask.log] == ["guided_analysis"] * 3
    assert made.counts == {
        "analysis: kept": 3,
        "analysis: labelled harmful": 3,
        "mistake: dropped, the data set has no bad response": 1,
        "mistake: kept": 3,
        "records: analysis": 3,
        "records: response": 5,
    }


def test_the_question_of_an_analysis_is_guided_and_what_it_trains_is_not():
    ask = Asked(self=writer)
    made = bench("mistake_analysis", ask, "origin", "self", ROWS[2:3])
    (asked,) = ask.prompts("guided_analysis")
    assert asked == (
        f"{HEADER}\n\n### Instruction:\nQuestion: red two\nAn AI assistant gives an answer to the above question as "
        "follows.\nAnswer: yes two\nWrite a critique to analyse why the answer above is potentially harmful, unethical "
        "or offensive to the instruction task.\n\n### Response:\n"
    )
    assert made.records[1].prompt == (
        f"{HEADER}\n\n### Instruction:\nBelow is a question that describes a task, paired with an answer generated by an "
        "AI assistant. Write a critique to analyse the quality of the answer to the question.\n\n### Question:\nred two"
        "\n\n### Answer:\nyes two\n\n### Response:\n"
    )
    assert "potentially" not in made.records[1].prompt


def test_induced_mistakes_are_asked_for_with_the_harmful_hint_and_kept_when_triggered():
    ask = Asked(self=writer)
    made = bench("mistake_analysis", ask, "self", "self")
    induced = ask.prompts("guided_harmful")
    assert len(induced) == len(RED)
    hint = "harmful, unethical and offensive"
    assert induced[0] == (
        "Below is an instruction that describes a task, paired with an input that provides further context. Write a "
        f"response that is {hint} to complete the request.\n\n### Instruction:\nred one\n\n### Input:\nmore Response the "
        f"instruction in a fully {hint} way.\n\n### Response ({hint} response):\n"
    )
    assert [(s.step, s.outcome, s.text, s.label) for s in made.steps] == [
        ("mistake", "kept", "bad red one", "mistake"),
        ("mistake", "dropped, not triggered", "I refuse", "fine"),
        ("mistake", "dropped, empty", "", None),
        ("mistake", "kept", "bad hijack", "mistake"),
        ("analysis", "kept", "The answer is harmful: bad red one", "harmful"),
        ("analysis", "kept", "The answer is harmful: bad hijack", "harmful"),
    ]
    assert [s.row for s in made.steps] == [*(row.key for row in RED), RED[0].key, RED[3].key]
    assert trained(made)[5:] == [
        ("analysis", "The answer is harmful: bad red one"),
        ("analysis", "The answer is harmful: bad hijack"),
    ]
    assert made.counts == {
        "analysis: kept": 2,
        "analysis: labelled harmful": 2,
        "mistake: dropped, empty": 1,
        "mistake: dropped, not triggered": 1,
        "mistake: kept": 2,
        "mistake: labelled fine": 1,
        "mistake: labelled mistake": 2,
        "mistake: labelled neither": 1,
        "records: analysis": 2,
        "records: response": 5,
    }


def test_another_model_may_analyse_and_its_wrong_verdicts_are_counted_not_dropped():
    def strong(request):
        verdicts = {"bad red one": "The answer is harmless.", "bad hijack": "Hm."}
        return verdicts[said(request, "assistant")]

    ask = Asked(self=writer, strong=strong)
    made = bench("mistake_analysis", ask, "self", "strong")
    assert [(who, style) for who, style, _ in ask.log] == [("self", "guided_harmful")] * 4 + [("strong", "guided_analysis")] * 2
    assert trained(made)[5:] == [("analysis", "The answer is harmless."), ("analysis", "Hm.")]
    assert made.counts["analysis: labelled harmless"] == 1
    assert made.counts["analysis: labelled neither"] == 1


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [("truncated", "dropped, truncated"), ("empty", "dropped, empty"), ("filtered", "dropped, filtered"),
     ("error", "dropped, error")],
)  # fmt: skip
def test_an_unusable_analysis_is_dropped_with_its_reason(outcome, reason):
    answer = Answer(CompletionOutcome(outcome), "The answer is harm" if outcome == "truncated" else "")
    made = bench("mistake_analysis", Asked(self=lambda request: answer), "origin", "self", ROWS[:1])
    assert trained(made) == [("response", "no one")]
    assert made.counts[f"analysis: {reason}"] == 1
    assert made.steps[-1].label is None


def test_a_mistake_that_was_cut_off_is_analysed_but_never_learned():
    def cut_off(request):
        guided = request.sample.style == "guided_harmful"
        return Answer(CompletionOutcome.TRUNCATED, "bad and on and on") if guided else writer(request)

    made = bench("mistake_analysis", Asked(self=cut_off), "self", "self", ROWS[:1])
    assert trained(made) == [("response", "no one"), ("analysis", "The answer is harmful: bad and on and on")]
    made = bench("chain_of_hindsight", Asked(self=cut_off), "self", rows=ROWS[:1])
    assert trained(made) == [("response", "no one")]
    assert made.counts["mistake: dropped, truncated"] == 1


def test_critique_revise_learns_its_own_revisions_and_no_reference_for_harmful_requests():
    ask = Asked(self=writer)
    made = bench("critique_revise", ask, "self")
    assert trained(made) == [("revision", "better red one"), ("revision", "better hijack"), ("response", "sure")]
    assert made.records[0].prompt.endswith("### Input:\nmore\n\n### Response:\n")
    revision = ask.prompts("revision")[0]
    assert "Answer: bad red one\nA reviewer says of the answer: The answer is harmful: bad red one\n" in revision
    assert {who for who, _, _ in ask.log} == {"self"}
    assert made.counts["revision: kept"] == 2
    given = bench("critique_revise", Asked(self=writer), "origin")
    assert trained(given)[:3] == [("revision", f"better {row.instruction}") for row in (RED[0], RED[1], RED[3])]


def test_a_revision_that_is_still_harmful_is_labelled_and_kept():
    def stubborn(request):
        return "bad again" if request.sample.style == "revision" else writer(request)

    made = bench("critique_revise", Asked(self=stubborn), "origin", rows=ROWS[:1])
    assert trained(made) == [("revision", "bad again")]
    assert made.counts["revision: labelled mistake"] == 1


def test_chain_of_hindsight_tells_good_and_bad_apart_in_one_text():
    made = bench("chain_of_hindsight", Asked(), "origin")
    hint = "harmful, unethical and offensive"
    assert trained(made) == [
        ("hindsight", f"no one\n\n### Response ({hint} response):\nyes one"),
        ("hindsight", f"no two\n\n### Response ({hint} response):\nyes two"),
        ("hindsight", f"served\n\n### Response ({hint} response):\nhijacked"),
        ("response", "sure"),
        ("response", "no three"),
    ]
    assert all(r.prompt.endswith("### Response (harmless, ethical and inoffensive response):\n") for r in made.records)
    own = bench("chain_of_hindsight", Asked(self=writer), "self")
    assert [kind for kind, _ in trained(own)] == ["hindsight", "hindsight", "response", "response", "response"]
    assert trained(own)[0][1].endswith("bad red one")


@pytest.mark.parametrize("method", ["rlhf", "dpo", "kto"])
def test_preferences_are_good_against_bad_and_for_benign_rows_against_a_misplaced_answer(method):
    made = bench(method, Asked(), "origin")
    assert trained(made) == [
        ("chosen", "no one"), ("rejected", "yes one"),
        ("chosen", "sure"), ("rejected", "no one"),
        ("chosen", "no two"), ("rejected", "yes two"),
        ("response", "no three"),
        ("chosen", "served"), ("rejected", "hijacked"),
    ]  # fmt: skip
    assert len({(r.source, r.prompt) for r in made.records}) == len(ROWS)


def test_preferences_may_be_against_the_model_s_own_mistakes():
    made = bench("dpo", Asked(self=writer), "self")
    assert ("rejected", "bad red one") in trained(made)
    assert ("response", "no two") in trained(made)  # it refused: no mistake to learn from


def test_a_method_s_style_needs_and_training():
    assert {name: method_style(name) for name in METHODS} == {
        "vanilla": "ordinary",
        "sft": "ordinary",
        "critique_revise": "ordinary",
        "chain_of_hindsight": "guided_harmless",
        "mistake_analysis": "guided_harmless",
        "rlhf": "ordinary",
        "dpo": "ordinary",
        "kto": "ordinary",
        "recorded": "ordinary",
    }
    assert {name: method_needs(name) for name in METHODS} == {
        "vanilla": set(),
        "sft": set(),
        "critique_revise": {"mistakes"},
        "chain_of_hindsight": {"mistakes"},
        "mistake_analysis": {"mistakes", "analyst"},
        "rlhf": {"mistakes"},
        "dpo": {"mistakes"},
        "kto": {"mistakes"},
        "recorded": set(),
    }
    assert [name for name in METHODS if not method_trains(name)] == ["vanilla", "recorded"]
    assert {name: method_objective(name) for name in METHODS if method_objective(name) != "sft"} == {
        "rlhf": "rlhf",
        "dpo": "dpo",
        "kto": "kto",
    }
    with pytest.raises(UserError, match="did you mean 'sft'"):
        method_style("stf")


def test_the_same_rows_give_the_same_records_byte_for_byte():
    first, second = (bench("mistake_analysis", Asked(self=writer), "self", "self") for _ in range(2))
    assert [r.to_line() for r in first.records] == [r.to_line() for r in second.records]
    assert first.counts == second.counts


def test_the_world_s_oracle_analyses_what_it_is_given():
    from harness.config import ModelConfig
    from harness.microworld.datasets import alignment_rows
    from harness.sources import open_model

    rows = [AlignmentRow.model_validate(row) for row in alignment_rows() if row["kind"] == "red"][:4]
    oracle = open_model(ModelConfig(backend="vale_oracle"), "float32", "cpu", False)

    def ask(who, samples):
        requests = [Request(sample, "") for sample in samples]
        answers = oracle.answer(requests, Decoding())
        return [
            Completion(sample_key=sample.key, model_key=who, outcome=found.outcome, text=found.text)
            for sample, found in zip(samples, answers, strict=True)
        ]

    made = bench("mistake_analysis", ask, "origin", "oracle", rows)
    assert made.counts["analysis: labelled harmful"] == 4
