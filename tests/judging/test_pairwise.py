"""Comparisons: both orders, told from the completion's side, and what they amount to."""

import pytest
from scripted import OPENING, asked, completion, item, make_judge

from harness.clients.base import Choice, ChoiceOutcome, Token
from harness.errors import UserError
from harness.judging import Panel, combine, load_judge
from harness.judging.combine import order_pairs

PROMPT = "{fence_note}\n{instruction}\nA:\n{first}\nB:\n{second}\nVerdict: [[X]]"
LABELS = "kind: pairwise\nlabels: {first: A, second: B, tie: C}\n"


def judge_of(root, answer, settings=LABELS, **model):
    model = asked(answer, **model)
    return load_judge("mine", [make_judge(root, settings=settings, prompt=PROMPT)], model), model.transport


def shown(request):
    """What stands first and second in a question."""
    text = request.messages[-1][1]
    return [
        text[m.end() + 1 :].split(f"\n{m.group(2)}")[0]
        for m in OPENING.finditer(text)
        if m.group(1) in ("first", "second")
    ]


def better(*liked):
    """A judge that prefers a text, wherever it stands."""

    def answer(request):
        first, second = shown(request)
        return [f"Verdict: [[{'A' if first in liked else 'B' if second in liked else 'C'}]]"] * request.n

    return answer


def decided(judge, verdicts):
    """What the verdicts on one pair amount to, and whether any changes with the order."""
    verdict = combine(verdicts, Panel((judge.spec,), judge.n_seats, pairwise=True))
    return verdict.score, [one.label != other.label for one, other in order_pairs(verdicts)]


PAIR = item("mine", reference="theirs", seats=(0, 1))


@pytest.mark.parametrize(
    ("answer", "labels", "worth", "flips"),
    [
        (better("mine"), ["win", "win"], 1.0, False),
        (better("theirs"), ["loss", "loss"], 0.0, False),
        (better(), ["tie", "tie"], 0.5, False),
        (lambda request: ["[[A]]"] * request.n, ["win", "loss"], 0.5, True),
        (lambda request: ["[[B]]"] * request.n, ["loss", "win"], 0.5, True),
    ],
)
def test_both_orders_are_asked_and_told_from_the_completion_s_side(tmp_path, answer, labels, worth, flips):
    judge, transport = judge_of(tmp_path, answer)
    assert (judge.n_seats, judge.pairwise) == (2, True)
    verdicts = list(judge.judge([PAIR]))
    assert [(v.seat, v.label) for v in verdicts] == list(enumerate(labels))
    assert [shown(request) for request in transport.requests] == [["mine", "theirs"], ["theirs", "mine"]]
    assert decided(judge, verdicts) == (worth, [flips])
    assert {v.text_hash for v in verdicts} == {PAIR.text_hash} != {PAIR.completion.text_hash}


def test_draws_of_one_order_share_a_request(tmp_path):
    judge, transport = judge_of(tmp_path, better("mine"), n_seats=3)
    verdicts = list(judge.judge([PAIR._replace(seats=tuple(range(judge.n_seats)))]))
    assert sorted(v.seat for v in verdicts) == list(range(6))
    assert {v.label for v in verdicts} == {"win"}
    assert [(r.seat, r.n) for r in transport.requests] == [(0, 3), (1, 1), (3, 1), (5, 1)]
    assert {r.temperature for r in transport.requests} == {1.0}


def test_one_draw_is_asked_at_temperature_zero(tmp_path):
    judge, transport = judge_of(tmp_path, better("mine"))
    list(judge.judge([PAIR]))
    assert {r.temperature for r in transport.requests} == {0.0}


@pytest.mark.parametrize(
    ("pair", "told"),
    [
        (item("mine"), "nothing to compare"),
        (item("", "filtered", reference="theirs"), "the completion is filtered"),
        (PAIR._replace(seats=(0,), reference=completion(PAIR.sample, "", "error")), "the reference is error"),
    ],
)
def test_half_a_pair_is_skipped_and_never_asked_about(tmp_path, pair, told):
    judge, transport = judge_of(tmp_path, better("mine"))
    (verdict,) = judge.judge([pair])
    assert verdict.outcome == "skipped"
    assert told in verdict.reason
    assert transport.requests == []


def test_an_order_without_its_counterpart_says_nothing(tmp_path):
    def answer(request):
        return ["[[A]]" if request.seat == 0 else "who knows"]

    judge, _ = judge_of(tmp_path, answer)
    verdicts = list(judge.judge([PAIR]))
    assert [v.outcome for v in verdicts] == ["ok", "unparsed"]
    assert decided(judge, verdicts) == (None, [])


def test_a_seat_counts_only_with_its_counterpart(tmp_path):
    def answer(request):
        if request.seat == 3:
            return ["who knows"]
        return ["[[A]]" if request.seat % 2 == 0 else "[[B]]"]

    judge, _ = judge_of(tmp_path, answer, n_seats=2)
    verdicts = list(judge.judge([PAIR._replace(seats=(0, 1, 2, 3))]))
    assert sorted((v.seat, v.outcome) for v in verdicts) == [(0, "ok"), (1, "ok"), (2, "ok"), (3, "unparsed")]
    assert decided(judge, verdicts) == (1.0, [False])


def test_probabilities_are_the_completion_s_too(tmp_path):
    def answer(request):
        tokens = (
            Token("[[", 0.0, {}),
            Token("A", -0.5108, {"A": -0.5108, "B": -1.204, "C": -2.3026}),
            Token("]]", 0.0, {}),
        )
        return [Choice(ChoiceOutcome.OK, "[[A]]", tokens)]

    verdicts = list(judge_of(tmp_path, answer, mode="logprobs")[0].judge([PAIR]))
    assert [(v.label, v.score) for v in verdicts] == [
        ("win", pytest.approx(0.65, abs=1e-3)),
        ("loss", pytest.approx(0.35, abs=1e-3)),
    ]


def test_a_judge_may_be_without_ties(tmp_path):
    settings = "kind: pairwise\nlabels: {first: A, second: B}\n"
    judge, _ = judge_of(tmp_path, lambda request: ["[[C]]"], settings)
    assert {v.outcome for v in judge.judge([PAIR])} == {"unparsed"}


@pytest.mark.parametrize(
    "labels", ["{first: A}", "{first: A, second: B, third: C}", "{win: A, loss: B}", "{first: A, second: a}"]
)
def test_other_labels_are_refused(tmp_path, labels):
    with pytest.raises(UserError, match=r"judge.yaml: labels:"):
        judge_of(tmp_path, better(), f"kind: pairwise\nlabels: {labels}\n")
