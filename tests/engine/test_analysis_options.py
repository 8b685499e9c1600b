"""Options of Mistake Analysis: what each changes, counts and leaves as it was, and that data are made durably."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest
from command_line import ENVIRONMENT, RECIPE
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from scripted_bench import RED, ROWS, Asked, bench, question, said, trained, writer

from harness.errors import UserError
from harness.methods import AnalysisSettings
from harness.methods.analysis_settings import repeated
from harness.microworld.datasets import alignment_rows
from harness.models.base import Answer
from harness.recipe import load_config
from harness.records import Completion, CompletionOutcome
from harness.rows import AlignmentRow
from harness.stages.jobs import Worker
from harness.stages.plan import make_plan, seal
from harness.store import Run, read
from tests.clients.server import fault_server

GOOD = {row.good for row in ROWS}
WORLD = [AlignmentRow.model_validate(row) for row in alignment_rows()]


def lines(made):
    return [record.to_line() for record in made.records]


def analyst(request):
    """Says of each response what it is, and of one the contrary."""
    if request.sample.style == "guided_harmful":
        return writer(request)
    text = said(request, "assistant")
    return f"{text} is {'harmless' if text in GOOD or text == 'bad red one' else 'harmful'}"


def analysed(made):
    return [text for kind, text in trained(made) if kind == "analysis"]


def steps(made, step):
    return Counter(one.outcome for one in made.steps if one.step == step)


# Defaults


def test_the_defaults_make_the_records_that_they_have_always_made():
    def sha(made):
        return hashlib.sha256("".join(lines(made)).encode()).hexdigest()[:16]

    ask = Asked(self=writer)
    assert sha(bench("mistake_analysis", ask, "self", "self")) == "281e6513fe79b58a"
    assert sha(bench("critique_revise", ask, "self")) == "51e06fb8d9ce8f4a"
    assert sha(bench("chain_of_hindsight", ask, "self")) == "3a1405dc4bf3b1e3"


def test_other_methods_are_not_changed_by_the_run_s_settings(bases):
    config = load_config(RECIPE, ["prepare.analyses={per_instruction: 3, harmless_share: 0.5}"])
    assert config.analyses_of(config.subject("sft")) == AnalysisSettings()
    assert config.analyses_of(config.subject("ma")).per_instruction == 3
    own = load_config(RECIPE, ["prepare.analyses={per_instruction: 3}", "subjects.ma.analyses={guided: false}"])
    assert own.analyses_of(own.subject("ma")) == AnalysisSettings(per_instruction=3, guided=False)


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("subjects.ma.analyses={shar: 0.5}", "'share'"),
        ("subjects.ma.analyses={share: 0}", "subjects.ma.analyses: share"),
        ("prepare.analyses.harmless_share=1", "harmless_share"),
        ("prepare.analyses.not_triggered=maybe", "not_triggered"),
        ("subjects.sft.analyses={guided: false}", "sft does not use 'analyses'"),
    ],
)
def test_a_wrong_setting_is_told_in_one_line(override, told):
    with pytest.raises(UserError) as error:
        load_config(RECIPE, [override])
    assert told in str(error.value)
    assert "\n" not in str(error.value)


def test_several_draws_at_temperature_0_are_refused():
    overrides = ["prepare.sampling.temperature=0", "subjects.ma.analyses={per_instruction: 2}"]
    with pytest.raises(UserError, match=r"per_instruction: draws differ only where prepare\.sampling\.temperature"):
        load_config(RECIPE, overrides)


def test_every_row_of_the_ablations_differs_from_the_paper_s_method_in_one_thing():
    config = load_config("ablations")
    paper = config.subject("ma")
    assert config.analyses_of(paper) == AnalysisSettings()
    for subject in config.subjects:
        if subject.method != "mistake_analysis" or subject == paper:
            continue
        theirs = config.analyses_of(subject).model_dump().items()
        changed = [field for field, value in theirs if value != AnalysisSettings().model_dump()[field]]
        assert len(changed) + (subject.analyst != paper.analyst) + (subject.mistakes != paper.mistakes) == 1, (
            subject.name
        )


# Filters


def test_responses_that_were_not_triggered_may_be_kept():
    kept = bench("mistake_analysis", Asked(self=writer), "self", "self", not_triggered="keep")
    assert steps(kept, "mistake") == {"kept": 3, "dropped, empty": 1}
    assert "The answer is harmful: I refuse" in analysed(kept)
    assert kept.counts["mistake: labelled fine"] == 1


def test_an_analysis_that_contradicts_what_is_known_is_dropped_and_counted():
    made = bench("mistake_analysis", Asked(self=analyst), "self", "self", contradicting="drop", harmless_share=0.5)
    assert made.counts["analysis: dropped, contradicts the label"] == 1
    assert analysed(made)[0] == "bad hijack is harmful"
    assert "bad red one is harmless" not in analysed(made)
    (dropped,) = [s for s in made.steps if s.outcome == "dropped, contradicts the label"]
    assert (dropped.row, dropped.text, dropped.label) == (RED[0].key, "bad red one is harmless", "harmless")


def test_nothing_contradicts_where_nothing_is_known():
    def mild(request):
        return writer(request) if request.sample.style == "guided_harmful" else "It is harmless."

    made = bench("mistake_analysis", Asked(self=mild), "origin", "self", contradicting="drop")
    assert analysed(made) == ["It is harmless."]  # of the hijack: wrong, and perhaps without harm
    assert made.counts["analysis: dropped, contradicts the label"] == 2
    silent = bench("mistake_analysis", Asked(self=lambda r: "Hm."), "origin", "self", contradicting="drop")
    assert analysed(silent) == ["Hm."] * 3


def test_short_texts_and_loops_are_dropped_whether_mistakes_or_analyses():
    loop = "it is bad and " * 12

    def odd(request):
        if request.sample.style == "guided_harmful":
            return "bad" if question(request) == "red one" else f"bad {question(request)} and so on"
        return loop if "hijack" in question(request) else "This answer is plainly harmful to people."

    made = bench("mistake_analysis", Asked(self=odd), "self", "self", min_words=3, max_repeated=0.5)
    assert steps(made, "mistake") == {"dropped, too short": 1, "kept": 3}
    assert steps(made, "analysis") == {"dropped, repeats itself": 1, "kept": 2}
    assert [s.label for s in made.steps if s.outcome == "dropped, repeats itself"] == [None]
    assert loop in analysed(bench("mistake_analysis", Asked(self=odd), "self", "self"))


@given(st.lists(st.sampled_from("abc"), max_size=30))
def test_the_repeated_share_is_a_share_and_grows_when_a_text_is_said_again(words):
    assert 0 <= repeated(words) < 1
    assert repeated(words * 3) >= repeated(words) or len(words) < 4
    assert repeated(list("abcdefgh")) == 0
    assert AnalysisSettings().degenerate(completion("好" * 40)) is None
    assert AnalysisSettings(max_repeated=0.5).degenerate(completion("好" * 40)) == "dropped, repeats itself"
    assert AnalysisSettings(min_words=5).degenerate(completion("这是有害的回答")) is None


def completion(text):
    return Completion(sample_key="s", model_key="m", outcome=CompletionOutcome.OK, text=text)


# Number, balance, share, guidance


def test_each_instruction_may_be_answered_and_analysed_several_times():
    def drawn(request, draw):
        if request.sample.style == "guided_harmful":
            return f"bad {question(request)} {min(draw, 1)}"
        return f"{said(request, 'assistant')} is harmful"

    made = bench("mistake_analysis", Asked(draws=True, self=drawn), "self", "self", per_instruction=3)
    assert steps(made, "mistake") == {"kept": 3 * len(RED)}
    assert steps(made, "analysis") == {"kept": 2 * len(RED), "dropped, duplicate": len(RED)}
    assert len(set(lines(made))) == len(made.records) == len(ROWS) + 2 * len(RED)
    assert len({s.completion for s in made.steps}) == len(made.steps)
    given_ones = bench("mistake_analysis", Asked(draws=True, self=lambda r, draw: f"harmful, draw {draw}"), "origin",
                       "self", per_instruction=2)  # fmt: skip
    assert analysed(given_ones) == ["harmful, draw 0"] * 3 + ["harmful, draw 1"] * 3
    assert steps(given_ones, "mistake")["kept"] == 3  # given once, analysed twice


def test_equal_rows_of_the_data_are_not_taken_for_draws():
    twice = [*ROWS[:1], *ROWS[:1]]
    assert len(analysed(bench("mistake_analysis", Asked(self=writer), "origin", "self", twice))) == 2


def test_good_responses_are_analysed_for_balance_with_the_same_template():
    ask = Asked(self=analyst)
    made = bench("mistake_analysis", ask, "origin", "self", harmless_share=0.4)
    assert made.counts["analysis: kept"] == 3
    assert made.counts["harmless_analysis: kept"] == 2
    assert made.counts["harmless_analysis: labelled harmless"] == 2
    assert made.counts["records: analysis"] == 5
    assert {style for _, style, _ in ask.log} == {"guided_analysis"}
    assert made.records[-1].prompt.count("analyse the quality of the answer") == 1
    short = bench("mistake_analysis", Asked(self=analyst), "origin", "self", harmless_share=0.9)
    assert short.counts["harmless_analysis: kept"] == len(GOOD)  # no more of them are there


def test_what_is_dropped_of_the_good_responses_is_made_up_for_by_others():
    def harsh(request):
        text = said(request, "assistant")
        return f"{text} is {'harmless' if text in ('sure', 'served', 'no two') else 'harmful'}"

    made = bench("mistake_analysis", Asked(self=harsh), "origin", "self", harmless_share=0.5, contradicting="drop")
    assert steps(made, "harmless_analysis") == {"kept": 3, "dropped, contradicts the label": 2}


@pytest.mark.parametrize(("share", "harmless"), [(0.05, 0.0), (0.1, 0.0), (0.2, 0.5), (0.3, 0.25), (0.999, 0.0)])
def test_the_share_of_the_analyses_holds_and_no_more_are_asked_for(share, harmless):
    ask = Asked(self=lambda request: f"{said(request, 'assistant')} is harmful")
    made = bench("mistake_analysis", ask, "origin", "self", WORLD, share=share, harmless_share=harmless)
    n = made.counts.get("records: analysis", 0)
    assert n / len(made.records) <= share
    assert (n + 2) / (len(made.records) + 2) > share or made.counts["analysis: kept"] == 72
    assert len(ask.log) == n
    assert made.counts.get("analysis: not asked for, the share is reached", 0) + made.counts["analysis: kept"] == 72
    assert made.counts.get("harmless_analysis: kept", 0) == round(
        made.counts["analysis: kept"] * harmless / (1 - harmless)
    )


def test_a_smaller_share_is_part_of_a_larger_one_whatever_the_order_of_the_rows():
    def some(share, rows=WORLD):
        ask = Asked(self=lambda request: f"{said(request, 'assistant')} is harmful")
        made = bench("mistake_analysis", ask, "origin", "self", rows, share=share)
        return [record.source for record in made.records if record.kind == "analysis"]

    assert set(some(0.1)) < set(some(0.2)) < set(some(0.3))
    assert some(0.2, WORLD[::-1]) == some(0.2)[::-1]  # the same rows, and in their order


def test_without_guidance_the_analyst_is_asked_what_the_model_learns_to_answer():
    ask = Asked(self=writer)
    made = bench(
        "mistake_analysis", Asked(self=writer, strong=lambda r: "It is harmful."), "self", "strong", guided=False
    )
    assert [s.outcome for s in made.steps if s.step == "analysis"] == ["kept"] * 2
    bench("mistake_analysis", ask, "origin", "self", guided=False)
    assert ask.prompts("guided_analysis") == []
    assert sorted(ask.prompts("unguided_analysis")) == sorted(
        record.prompt for record in made_of_origin().records if record.kind == "analysis"
    )


def made_of_origin():
    return bench("mistake_analysis", Asked(self=writer), "origin", "self")


def test_an_analysis_that_was_cut_off_is_never_learned_from():
    cut = Answer(CompletionOutcome.TRUNCATED, "The answer is harm")
    made = bench("mistake_analysis", Asked(self=lambda r: cut), "origin", "self", per_instruction=2, share=0.5)
    assert analysed(made) == []
    assert steps(made, "analysis") == {"dropped, truncated": 6}


@given(st.floats(0.01, 0.99), st.floats(0, 0.9), st.integers(0, 500))
def test_the_numbers_of_a_share_never_pass_it(share, harmless, n_others):
    settings = AnalysisSettings(share=share, harmless_share=harmless)
    n = settings.n_of_mistakes(n_others)
    assert n >= 0
    total = n + settings.n_of_good(n)
    assert total <= share / (1 - share) * n_others + 1  # rounding of the harmless part
    with pytest.raises(ValidationError):
        AnalysisSettings(share=1 + share)


# Real models and servers


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache.sqlite"))


def sealed(path, bases, *overrides):
    config = load_config(RECIPE, [
        f"base={bases / 'vale-0'}", "seeds=[0]", "baselines=[]", "claims=[]",
        "subjects=[{name: ma, label: MA, method: mistake_analysis, mistakes: self, analyst: self}]", *overrides,
    ])  # fmt: skip
    run = Run(path)
    seal(run, make_plan(config))
    return run, config


def make_data(run, config):
    Worker(run.path, config, (), lambda event: None).make_data(0, ["ma"])
    return (run.path / "train" / "ma" / "0" / "records.jsonl").read_text()


def asked(run):
    return read(run.steps_file, Completion).records


def test_draws_are_questions_of_their_own_kept_and_never_asked_again(bases, tmp_path):
    run, config = sealed(tmp_path / "run", bases, "subjects.ma.analyses={per_instruction: 3}", "data_limit=12")
    made, before = make_data(run, config), run.steps_file.read_bytes()
    counts = json.loads((run.path / "train" / "ma" / "0" / "counts.json").read_text())
    assert len({completion.model_key for completion in asked(run)}) == 3
    texts = Counter(completion.sample_key for completion in asked(run))
    assert max(texts.values()) == 3
    assert counts["analysis: kept"] > 10
    first = make_data(*sealed(tmp_path / "once", bases, "data_limit=12"))
    assert set(first.splitlines()) < set(made.splitlines())  # more draws add to the first and change nothing of it
    shutil.rmtree(run.path / "train" / "ma" / "0")
    assert make_data(run, config) == made
    assert run.steps_file.read_bytes() == before


@pytest.fixture
def backend():
    """A backend that a package adds to lm-eval's: asked as vLLM's is, on this machine's processor."""
    import torch
    from lm_eval.api.registry import model_registry, register_model
    from lm_eval.models.huggingface import HFLM

    if "hf-of-a-package" not in model_registry:

        @register_model("hf-of-a-package")
        class OfAPackage(HFLM):
            def __init__(self, **arguments):
                super().__init__(device="cpu", **arguments)

            def _model_generate(self, *arguments, seed, **others):
                torch.manual_seed(seed)
                return super()._model_generate(*arguments, **others)

    return "hf-of-a-package"


def test_the_run_s_backend_is_the_one_that_induces_and_analyses(bases, tmp_path, backend):
    run, config = sealed(tmp_path / "run", bases, f"backend={backend}", "data_limit=6")
    assert make_data(run, config).count('"analysis"') > 0
    own, other = sealed(tmp_path / "own", bases, "data_limit=6")
    make_data(own, other)
    assert {c.model_key for c in asked(run)}.isdisjoint({c.model_key for c in asked(own)})


def test_another_checkpoint_may_analyse_through_a_backend_of_its_own(bases, tmp_path, backend):
    strong = f"models.strong={{backend: {backend}, path: {bases / 'vale-1'}}}"
    run, config = sealed(tmp_path / "run", bases, strong, "subjects.ma.analyst=strong", "data_limit=6")
    assert make_data(run, config).count('"analysis"') > 0


def served(url):
    return f"models={{big: {{backend: openai, model: big-1, base_url: '{url}', price: {{input: 1, output: 1}}}}}}"


def test_a_failed_analysis_on_a_server_is_owed_and_asked_again_alone(bases, tmp_path):
    overrides = ("subjects.ma.analyst=big", "subjects.ma.mistakes=origin", "throughput.batch_size=4", "data_limit=24")
    with fault_server(faults={"echo": 0.5}, max_faults=1, reply="the answer is harmful") as server:
        run, config = sealed(tmp_path / "run", bases, served(server.url), *overrides)
        with pytest.raises(
            UserError, match=r"'big': \d+ of \d+ questions failed .* the same command asks the rest again"
        ):
            make_data(run, config)
        assert not (run.path / "train" / "ma" / "0" / "counts.json").exists()
        n_failed = sum(one.outcome is CompletionOutcome.ERROR for one in asked(run))
        n_whole = sum(one.text == "the answer is harmful" for one in asked(run))
        assert n_failed > 0
        assert server.stats()["billed"] == n_whole > 0
        assert make_data(run, config).count("the answer is harmful") == n_failed + n_whole
        assert server.stats()["billed"] == n_failed + n_whole


KILLED = """
import sys
from harness.config import RunConfig
from harness.stages.jobs import Worker
from pathlib import Path
Worker(Path(sys.argv[1]), RunConfig.model_validate_json(sys.argv[2]), (), lambda event: None).make_data(0, ["ma"])
"""


def test_a_kill_loses_at_most_one_batch(bases, tmp_path):
    overrides = ("subjects.ma.analyst=big", "subjects.ma.mistakes=origin", "throughput.batch_size=4", "data_limit=30")
    with fault_server(reply="the answer is harmful", latency=0.4) as server:
        run, config = sealed(tmp_path / "run", bases, served(server.url), *overrides)
        command = [sys.executable, "-c", KILLED, str(run.path), config.model_dump_json()]
        process = subprocess.Popen(command, env={**ENVIRONMENT, "HARNESS_CACHE": os.environ["HARNESS_CACHE"]})
        ended = time.monotonic() + 60
        while sum(one.text == "the answer is harmful" for one in asked(run)) < 8 and time.monotonic() < ended:
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.wait()
        n_kept = sum(one.text == "the answer is harmful" for one in asked(run))
        n_billed = server.stats()["billed"]
        (tmp_path / "cache.sqlite").unlink()  # the run alone must have kept them
        n_all = make_data(run, config).count("the answer is harmful")
        assert n_kept >= 8
        assert n_kept % 4 == 0
        assert n_billed <= n_kept + 4
        assert server.stats()["billed"] <= n_all + 4
        assert n_all > n_kept
