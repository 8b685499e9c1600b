"""Judges and analysts of the family of a model under test: told, never refused, and nothing claimed of the unknown."""

import shutil

import pytest
from command_line import RECIPE
from hypothesis import given
from hypothesis import strategies as st

from harness.recipe import load_config
from harness.stages.family import checkpoint_families, named_families
from harness.stages.loading import load
from harness.stages.plan import make_plan, seal
from harness.stages.self_judging import family_notes
from harness.store import Run

SERVED = "{{backend: openai, model: '{}', base_url: 'http://127.0.0.1:9/v1'}}"


@pytest.mark.parametrize(
    ("name", "families"),
    [
        ("gpt-4.1-mini", {"gpt"}), ("openai/gpt-4o-2024-08-06", {"gpt"}), ("o3-mini", {"gpt"}), ("gpt-oss-120b", {"gpt"}),
        ("ft:gpt-4.1-nano-2025-04-14:org::id", {"gpt"}), ("meta-llama/Meta-Llama-3-8B-Instruct", {"llama"}),
        ("lmsys/vicuna-7b-v1.5", {"llama"}), ("Qwen/Qwen2.5-72B-Instruct", {"qwen"}), ("mixtral-8x7b", {"mistral"}),
        ("DeepSeek-R1-Distill-Qwen-7B", {"deepseek", "qwen"}), ("chatglm-6b", {"glm"}), ("microsoft/phi-4", {"phi"}),
        ("gpt2", set()), ("EleutherAI/gpt-neox-20b", set()), ("my-judge", set()), ("dolphin", set()), ("", set()),
    ],
)  # fmt: skip
def test_a_name_tells_its_family_or_nothing(name, families):
    assert named_families(name) == families


@given(st.text())
def test_any_name_can_be_asked_and_case_does_not_matter(name):
    assert named_families(name.upper().lower()) == named_families(name.upper())


def test_a_checkpoint_tells_by_its_configuration_and_its_folder_s_name(tmp_path):
    def folder(name, text):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(text)
        return checkpoint_families(tmp_path / name)

    assert folder("base", '{"model_type": "qwen3_moe"}') == {"qwen"}
    assert folder("tuned", '{"model_type": "llama", "_name_or_path": "org/alpaca-7b"}') == {"llama"}
    assert folder("Distill-Qwen", '{"model_type": "llama", "_name_or_path": "deepseek-v3"}') == {
        "deepseek",
        "llama",
        "qwen",
    }
    assert folder("new", '{"model_type": "mamba2"}') == {"mamba2"}
    assert folder("torn", '{"model_type":') == folder("odd", "[]") == folder("bare", "{}") == frozenset()
    assert checkpoint_families(tmp_path / "gone") == frozenset()


def notes(bases, *overrides):
    plan = make_plan(load_config(RECIPE, [f"base={bases / 'vale-0'}", "seeds=[0]", *overrides]))
    return family_notes(plan.config, plan.manifest), plan


def test_a_served_judge_of_the_base_s_family_is_told_and_in_the_report_too(bases, tmp_path):
    found, plan = notes(bases, f"models.j={SERVED.format('meta-llama/Llama-3.1-70B-Instruct')}", "judging.models=j")
    assert found == [
        "Same family (llama): model 'j', which judges, and the base of seed 0; a judge may favour answers of its own family."
    ]
    run = Run(tmp_path / "run")
    seal(run, plan)
    assert found[0] in load(run).notes


@pytest.mark.parametrize("name", ["gpt-4.1", "a-judge-of-our-own"])
def test_a_judge_of_another_or_of_no_known_family_is_not(bases, name):
    assert notes(bases, f"models.j={SERVED.format(name)}", "judging.models=j")[0] == []


def test_an_analyst_is_told_and_the_oracle_and_the_model_itself_are_not(bases, tmp_path):
    kin = shutil.copytree(bases / "vale-1", tmp_path / "kin")
    assert notes(bases)[0] == []
    assert notes(bases, "subjects.ma.analyst=oracle")[0] == []
    found, _ = notes(bases, f"models.strong={{backend: hf, path: {kin}}}", "subjects.ma.analyst=strong")
    assert [note.partition(":")[0] for note in found] == ["Same family (llama)"]
    assert "'strong', which analyses mistakes, and the base of seed 0" in found[0]
    itself = f"models.strong={{backend: hf, path: {bases / 'vale-0'}}}"
    assert notes(bases, itself, "subjects.ma.analyst=strong")[0] == []


def test_a_subject_on_a_server_has_a_family_too(bases):
    overrides = [f"models.big={SERVED.format('gpt-4.1')}", f"models.j={SERVED.format('gpt-5-mini')}",
                 "subjects=[{name: big, label: Big, method: vanilla, base: big}]", "baselines=[]", "claims=[]",
                 "tasks={vale_harmless: {limit: 5}}", "judging.models=j"]  # fmt: skip
    found, _ = notes(bases, *overrides)
    assert found == [
        "Same family (gpt): model 'j', which judges, and the base of subject 'big'; a judge may favour answers of its own family."
    ]


def test_a_base_that_is_gone_tells_nothing(bases, tmp_path):
    base = shutil.copytree(bases / "vale-0", tmp_path / "base")
    config = load_config(RECIPE, [f"base={base}", f"models.j={SERVED.format('llama-3')}", "judging.models=j"])
    plan = make_plan(config)
    assert len(family_notes(config, plan.manifest)) == 1
    shutil.rmtree(base)
    assert family_notes(config, plan.manifest) == []
