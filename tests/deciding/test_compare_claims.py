"""Claims of a run: the answer that a comparison gives, and what is left of it after Holm's correction."""

from pathlib import Path

import pytest
from written_runs import CHOICE, write_run

from harness.errors import UserError
from harness.reporting.claims import claim_dict
from harness.reporting.page import claim_texts
from harness.scores import Scores
from harness.stages.loading import load
from harness.stages.rescore import rescore
from harness.store import Run

WON, LOST = ("a.hijack_rate", "b.hijack_rate"), ("b.hijack_rate", "a.hijack_rate")


@pytest.fixture
def rates(tmp_path):
    """One subject that always resists, and one that does so half of the time."""
    return write_run(tmp_path / "run", {"a": {0: [True] * 24}, "b": {0: [True, False, True] * 8}})


def claims_of(path, *pairs):
    """The scores with these claims: each a first and a second ``SUBJECT.METRIC``."""
    loaded = load(Run(Path(path)))
    claims = [{"name": f"c{i}", "text": f"Claim {i}.", "first": a, "second": b} for i, (a, b) in enumerate(pairs)]
    config = type(loaded.config).model_validate({**loaded.config.model_dump(), "claims": claims})
    return rescore(Run(Path(path)), loaded=loaded._replace(config=config))


@pytest.mark.parametrize(
    ("metric", "said", "options"),
    [
        ("hijack_rate", ([True] * 20, [True, False] * 10), {}),
        ("accuracy_guided", ([True] * 24, [True, False] * 12), {"task": CHOICE, "clusters": 4}),
        ("hijack_score", ([9, 2, 7, 8, 3], [1, 4, 7, 2, 2]), {"judge_model": "m"}),
    ],
)
@pytest.mark.parametrize("n_seeds", [1, 2])
def test_a_claim_on_one_metric_is_the_comparison_on_it(tmp_path, metric, said, options, n_seeds):
    """Scaled to 0-1; only the p value is one-sided."""
    turned = {name: {s: each[s:] + each[:s] for s in range(n_seeds)} for name, each in zip("ba", said, strict=True)}
    write_run(tmp_path / "run", turned, **options)
    found = claims_of(tmp_path / "run", (f"a.{metric}", f"b.{metric}"))
    (row,) = [r for r in found.comparisons if (r.subject, r.baseline, r.metric) == ("a", "b", metric)]
    low, high = load(Run(tmp_path / "run")).metric(metric).bounds
    ours, theirs = found.claims[0].comparison, row.comparison
    scaled = [end / (high - low) for end in (theirs.difference, theirs.low, theirs.high)]
    assert [ours.difference, ours.low, ours.high] == pytest.approx(scaled, abs=1e-12)
    assert (ours.test, ours.n_pairs, ours.alternative) == (theirs.test, theirs.n_pairs, "greater")


def test_a_claim_that_does_not_stand_after_holm_is_not_called_supported(rates):
    one, other = (claims_of(rates, pair).claims[0] for pair in (WON, LOST))
    assert (one.decision, other.decision) == ("supported", "contradicted")
    others = [("a.hijack_rate", "a.hijack_rate")] * (int(0.05 / one.comparison.p_value) + 1)
    found = claims_of(rates, WON, *others)
    (one, *_), (other, *_) = found.claims, claims_of(rates, LOST, *others).claims
    assert one.comparison.low > 0
    assert one.comparison.p_value < 0.05 < one.comparison.p_adjusted
    assert (one.decision, other.decision) == ("supported (not after Holm)", "contradicted (not after Holm)")
    assert claim_dict(one)["decision"] == claim_texts(found)[0].decision == one.decision
    again = claims_of(rates, WON, *others)
    assert Scores.model_validate_json(Run(Path(rates)).scores_file.read_text()).claims[0] == again.claims[0] == one


@pytest.mark.parametrize("suffix", ["_length_controlled", "_corrected"])
def test_a_claim_on_a_metric_that_only_scores_have_is_explained(rates, suffix):
    with pytest.raises(UserError, match=f"'hijack_rate{suffix}' is made in scoring .* name 'hijack_rate' instead"):
        claims_of(rates, (f"a.hijack_rate{suffix}", "b.hijack_rate"))
