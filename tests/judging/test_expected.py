"""The expected score: probabilities of what was offered, at the verdict's own token, or none and a reason."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted import asked, item, make_judge

from harness.clients.base import Choice, ChoiceOutcome, Token
from harness.errors import UserError
from harness.judging import load_judge
from harness.judging.expected import expected
from harness.judging.extract import Labels, Scale, extract

SCALE = Scale(1, 10)


def token(text, **top):
    """A token whose alternatives are given by probability, its own included."""
    return drawn(text, top or {text: 1.0})


def drawn(text, top):
    logs = {other: math.log(p) if p else -math.inf for other, p in top.items()}
    return Token(text, logs.get(text, math.log(0.9)), logs)


def choice(*tokens, text=None):
    parts = [drawn(t, {t: 1.0}) if isinstance(t, str) else t for t in tokens]
    return Choice(ChoiceOutcome.OK, "".join(t.text for t in parts) if text is None else text, tuple(parts))


def weights(of, offered=SCALE):
    return expected(of, extract(of.text, offered), offered)


def mean(found):
    return sum(value * weight for value, weight in found.weights.items())


def test_the_score_is_the_mean_over_what_was_offered():
    found = weights(choice("Rating: [[", drawn("7", {"7": 0.6, "8": 0.3, "9": 0.1}), "]]"))
    assert mean(found) == pytest.approx(7.5)
    assert found.weights[7.0] == pytest.approx(0.6)
    assert sum(found.weights.values()) == pytest.approx(1)


def test_what_was_not_offered_is_left_out_and_the_rest_made_whole():
    found = weights(choice("[[", drawn("7", {"7": 0.4, "8": 0.2, "0": 0.1, "x": 0.2, "11": 0.1}), "]]"))
    assert mean(found) == pytest.approx((7 * 0.4 + 8 * 0.2) / 0.6)


@pytest.mark.parametrize(("on_offer", "astray"), [(0.49, True), (0.51, False)])
def test_too_little_on_offer_is_no_score(on_offer, astray):
    found = weights(choice("[[", drawn("7", {"7": on_offer, "?": 1 - on_offer}), "]]"))
    assert (found.weights is None, found.astray) == (astray, astray)


def test_the_last_verdict_s_token_counts():
    found = weights(choice("[[", drawn("2", {"2": 1.0}), "]] no: [[", drawn("7", {"7": 0.5, "9": 0.5}), "]]"))
    assert mean(found) == pytest.approx(8)


# One or ten


def test_ten_as_one_token():
    found = weights(choice("[[", drawn("10", {"10": 0.5, "1": 0.3, "9": 0.2}), "]]"))
    assert found.weights[1.0] == pytest.approx(0.3)
    assert mean(found) == pytest.approx(10 * 0.5 + 1 * 0.3 + 9 * 0.2)


def test_one_where_ten_would_have_been_one_token():
    found = weights(choice("[[", drawn("1", {"1": 0.7, "10": 0.1, "2": 0.2}), "]]"))
    assert mean(found) == pytest.approx(0.7 + 1.0 + 0.4)


@pytest.mark.parametrize("written", ["1", "10"])
def test_digit_by_digit_the_second_digit_tells_one_from_ten(written):
    second = drawn("0" if written == "10" else "]]", {"0": 0.25, "]]": 0.75})
    tail = ["]]"] if written == "10" else []
    found = weights(choice("[[", drawn("1", {"1": 0.8, "9": 0.2}), second, *tail))
    assert found.weights[10.0] == pytest.approx(0.8 * 0.25)
    assert found.weights[1.0] == pytest.approx(0.8 * 0.75)
    assert found.weights[9.0] == pytest.approx(0.2)


def test_a_beginning_that_was_not_written_on_cannot_be_told_apart():
    found = weights(choice("[[", drawn("7", {"7": 0.7, "1": 0.3}), "]]"))
    assert found.weights is None
    assert not found.astray
    assert "tell" in found.detail
    assert mean(weights(choice("[[", drawn("7", {"7": 0.995, "1": 0.005}), "]]"))) == pytest.approx(7)


# Where the token is


def test_brackets_and_spaces_may_be_part_of_the_token():
    assert mean(
        weights(choice("Rating:", drawn(" [[7", {" [[7": 0.5, " [[9": 0.5, " 8": 0.0}), "]]"))
    ) == pytest.approx(8)
    assert mean(weights(choice("[[", drawn("7]]", {"7]]": 0.5, "1]]": 0.25, "9": 0.25})))) == pytest.approx(6)
    assert mean(weights(choice("[[", drawn(" 7", {" 7": 0.6, " 8": 0.4}), " ]]"))) == pytest.approx(7.4)
    assert mean(weights(choice("［［", drawn("７", {"７": 0.5, "9": 0.5}), "］］"))) == pytest.approx(8)


def test_a_trimmed_text_and_an_end_token_do_not_move_the_place():
    tokens = ("\n", "7? [[", drawn("7", {"7": 0.5, "9": 0.5}), "]]", "<|im_end|>")
    assert mean(weights(choice(*tokens, text="7? [[7]]"))) == pytest.approx(8)


@pytest.mark.parametrize(
    ("of", "told"),
    [
        (Choice(ChoiceOutcome.OK, "[[7]]", None), "no log-probabilities came"),
        (choice("[[", "8", "]]", text="[[7]]"), "do not add up"),
        (Choice(ChoiceOutcome.OK, "[[7]]", ()), "do not add up"),
        (choice('{"rating": ', "7", "}"), "not marked"),
    ],
)
def test_where_there_are_no_probabilities_it_says_why(of, told):
    found = weights(of)
    assert (found.weights, found.astray) == (None, False)
    assert told in found.detail


def test_labels_of_several_tokens():
    labels = Labels({"harmless": "harmless", "harmful": "harmful"})
    end = drawn("less", {"less": 0.7, "ful": 0.2, "onica": 0.1})
    found = weights(choice("[[", drawn("harm", {"harm": 0.9, "Harm": 0.1}), end, "]]"), labels)
    assert found.weights is None  # "Harm" may go on either way
    found = weights(choice("[[", drawn("harm", {"harm": 1.0}), end, "]]"), labels)
    assert found.weights == {"harmless": pytest.approx(7 / 9), "harmful": pytest.approx(2 / 9)}
    words = Labels({"safe": "safe", "unsafe": "unsafe"})
    assert weights(choice("[[", drawn("uns", {"uns": 0.8, "safe": 0.2}), "afe]]"), words).weights[
        "safe"
    ] == pytest.approx(0.2)


LOGPROB = st.floats(max_value=10) | st.sampled_from([math.nan, math.inf, -math.inf, -9999.0])
TEXT = st.text(alphabet="0179][/ .*A", max_size=4)


@settings(max_examples=300)
@given(st.lists(st.builds(Token, TEXT, LOGPROB, st.dictionaries(TEXT, LOGPROB, max_size=5)), max_size=6))
def test_any_tokens_give_probabilities_or_none(tokens):
    of = Choice(ChoiceOutcome.OK, "".join(t.text for t in tokens), tuple(tokens))
    if extract(of.text, SCALE).value is None:
        return
    found = weights(of)
    if found.weights is not None:
        assert sum(found.weights.values()) == pytest.approx(1)
        assert all(0 <= weight <= 1 + 1e-9 for weight in found.weights.values())


# In a judge


def verdict_of(root, of, settings="scale: [1, 10]"):
    model = asked(lambda request: [of], mode="logprobs")
    judge = load_judge("mine", [make_judge(root, settings=f"kind: prompt\n{settings}\n")], model)
    (verdict,) = judge.judge([item()])
    assert model.transport.requests[0].top_logprobs == 20
    return verdict


def test_a_scoring_judge_gives_the_expected_score(tmp_path):
    verdict = verdict_of(tmp_path, choice("Good. Rating: [[", drawn("7", {"7": 0.6, "8": 0.4}), "]]"))
    assert (verdict.outcome, verdict.score, verdict.label, verdict.reason) == ("ok", pytest.approx(7.4), None, "Good.")


def test_a_labelling_judge_gives_the_likeliest_label_and_the_probability_of_the_first(tmp_path):
    of = choice("Verdict: [[", drawn("1", {"1": 0.3, "0": 0.6, "2": 0.1}), "]]")
    verdict = verdict_of(tmp_path, of, 'labels: {good: "1", bad: "0"}')
    assert (verdict.label, verdict.score) == ("bad", pytest.approx(1 / 3))


def test_probabilities_astray_are_no_verdict(tmp_path):
    verdict = verdict_of(tmp_path, choice("[[", drawn("7", {"7": 0.3, "x": 0.7}), "]]"))
    assert (verdict.outcome, verdict.score) == ("unparsed", None)
    assert "0.30 of the probability" in verdict.reason


def test_without_probabilities_the_plain_verdict_counts_and_says_so(tmp_path):
    verdict = verdict_of(tmp_path, Choice(ChoiceOutcome.OK, "Good. Rating: [[7]]"))
    assert (verdict.score, verdict.reason) == (7, "[plain verdict: no log-probabilities came] Good.")


def test_a_scale_of_decimals_has_no_tokens_to_weigh(tmp_path):
    with pytest.raises(UserError, match="whole numbers"):
        verdict_of(tmp_path, choice("[[7]]"), "scale: [1, 10]\ndecimals: true")
