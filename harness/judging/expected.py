"""The probabilities of all that a judge was offered, read at the token of the verdict that it wrote.

A number may be one token or several: "1" can be the number or the beginning of "10". What the judge wrote is followed
token by token until its alternatives can be told apart. Where they cannot, there are no probabilities, and it is said
why; nothing is split by guess.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from harness.clients.base import Choice, Token
from harness.judging.extract import Extraction, Offered, cleaned, plain

N_ALTERNATIVES = 20
"""The most that the official API gives for a token."""
LEAST_MASS = 0.5
"""What was offered has to hold this share of the probability."""
MOST_AMBIGUOUS = 0.01
"""The share that may fall to beginnings which cannot be told apart; on a scale of 1 to 10 it moves a mean by 0.09."""
NO_LOGPROBS = "no log-probabilities came"
"""What is said where a server gave none, though it was asked."""


class Expected(NamedTuple):
    """What was read.

    Attributes:
        weights: Value → probability, summing to 1; ``None`` where there is none.
        detail: Why there is none.
        astray: Because too little of the probability lies on what was offered.
    """

    weights: Mapping[float | str, float] | None
    detail: str = ""
    astray: bool = False


def expected(choice: Choice, found: Extraction, offered: Offered) -> Expected:
    """The probability of each value that was offered, at a marked verdict.

    Args:
        choice: A reply with the log-probabilities of its tokens.
        found: What was read from its text.
        offered: What was offered.
    """
    if choice.tokens is None:
        return Expected(None, NO_LOGPROBS)
    if found.at is None:
        return Expected(None, "the verdict is not marked in the text")
    place = _place(choice.tokens, choice.text, found.at)
    if place is None:
        return Expected(None, "the tokens do not add up to the reply")
    forms = {cleaned(form).casefold(): value for form, value in offered.written.items()}
    masses = _masses(choice.tokens, place, frozenset(forms))
    if masses is None or masses.ambiguous > MOST_AMBIGUOUS:
        return Expected(None, "its tokens do not tell the verdicts apart")
    mass = math.fsum(masses.of.values())
    if mass < LEAST_MASS:
        return Expected(None, f"{mass:.2f} of the probability lies on the offered verdicts", astray=True)
    return Expected({value: masses.of[form] / mass for form, value in forms.items()})


class _Place(NamedTuple):
    """A token, and how many of its characters stand before the verdict."""

    token: int
    before: int


def _place(tokens: tuple[Token, ...], text: str, at: int) -> _Place | None:
    joined = "".join(token.text for token in tokens)
    begin = joined.find(text)  # a server may trim the text, or leave an end token among the tokens
    if begin < 0:
        return None
    left = begin + at
    for index, token in enumerate(tokens):
        if left < len(token.text):
            return _Place(index, left)
        left -= len(token.text)
    return None


class _Masses(NamedTuple):
    of: dict[str, float]
    ambiguous: float


def _masses(tokens: tuple[Token, ...], place: _Place, forms: frozenset[str]) -> _Masses | None:
    """Probability of each form, and of what may still become several; ``None`` where the text itself does not end."""
    of, ambiguous = dict.fromkeys(forms, 0.0), 0.0
    written, reached, lead = "", 1.0, tokens[place.token].text[: place.before]
    for token in tokens[place.token :]:
        own = _continued(written, token.text[len(lead) :])
        others = {text: _probability(logprob) for text, logprob in token.top.items() if text != token.text}
        options = [(_continued(written, text[len(lead) :]), p) for text, p in others.items() if text.startswith(lead)]
        whole = {own.text, *(piece.text for piece, _ in options)}
        for piece, probability in options:
            meant = _meant(piece, forms, whole)
            if len(meant) == 1:
                of[meant[0]] += reached * probability
            elif meant:
                ambiguous += reached * probability
        meant = _meant(own, forms, whole)
        reached *= _probability(token.logprob)
        if len(meant) <= 1:
            for form in meant:
                of[form] += reached
            return _Masses(of, ambiguous)
        written, lead = own.text, ""
    return None


def _probability(logprob: float) -> float:
    return 0.0 if math.isnan(logprob) else math.exp(min(logprob, 0.0))


class _Piece(NamedTuple):
    """What has been written of a form, and whether it is known to end there."""

    text: str
    ended: bool


def _continued(written: str, more: str) -> _Piece:
    more = plain(more).casefold()
    end = next((index for index, character in enumerate(more) if character in "]*/\n" or character.isspace()), None)
    if not written and end is not None and not more[:end]:
        return _Piece("", True)
    return _Piece(written + (more if end is None else more[:end]), end is not None)


def _meant(piece: _Piece, forms: frozenset[str], whole: set[str]) -> list[str]:
    """The forms that a piece is or may become; ``whole`` are the pieces that the tokenizer writes in one token."""
    if piece.ended or not piece.text:
        return [piece.text] if piece.text in forms else []
    meant = sorted(form for form in forms if form.startswith(piece.text))
    longer = [form for form in meant if form != piece.text]
    if piece.text in forms and longer and all(form in whole for form in longer):
        return [piece.text]  # a longer form would have been a token of its own
    return meant
