"""A recipe is read strictly: --set on top, unknown names with the nearest right one, contradictions refused."""

import os
from pathlib import Path

import pytest
import yaml

from harness.config import RunConfig
from harness.errors import UserError
from harness.recipe import load_config, recipe_names
from harness.stages.plan import make_plan

RECIPE = str(Path(__file__).parent / "small.yaml")


def refused(*overrides, recipe=RECIPE):
    with pytest.raises(UserError) as error:
        load_config(recipe, overrides)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_every_shipped_recipe_loads():
    assert {"demo", "pku_saferlhf"} <= set(recipe_names())
    for name in recipe_names():
        assert load_config(name).name


@pytest.mark.parametrize(
    ("override", "read"),
    [
        ("data_limit=5", lambda config: config.data_limit == 5),
        ("trainer.learning_rate=1e-3", lambda config: config.trainer.learning_rate == 0.001),
        ("trainer.lora.rank=4", lambda config: config.trainer.lora.rank == 4),
        ("tasks.vale_harmless.limit=3", lambda config: config.tasks["vale_harmless"].limit == 3),
        ("tasks.vale_helpful.limit=3", lambda config: config.tasks["vale_helpful"].limit == 3),
        ("tasks.vale_hijack=null", lambda config: "vale_hijack" not in config.tasks),
        ("subjects.sft.label=Mine", lambda config: config.subject("sft").label == "Mine"),
        ("subjects.sft.trainer={steps: 9}", lambda config: config.trainer_of(config.subject("sft")).steps == 9),
        (
            "subjects.sft.trainer={epochs: 2, rlhf: {steps: 7}}",  # another length, and one field of a block
            lambda config: (found := config.trainer_of(config.subject("sft"))).steps is None
            and (found.rlhf.steps, found.rlhf.generations) == (7, config.trainer.rlhf.generations),
        ),
        ("claims.discrimination-beats-generation.text=x=y", lambda config: config.claims[0].text == "x=y"),
        ("description=a=b, c", lambda config: config.description == "a=b, c"),
        ("description=[a: b: c", lambda config: config.description == "[a: b: c"),
        ("base=one", lambda config: config.bases() == {0: "one", 1: "one"}),
        ("base=[one, two]", lambda config: config.bases() == {0: "one", 1: "two"}),
        ("layouts=[]", lambda config: config.layouts == ()),
        ("models.strong={backend: hf, path: x}", lambda config: set(config.models) == {"oracle", "strong"}),
        ("data.train=a=b.jsonl", lambda config: config.data["train"] == "a=b.jsonl"),
    ],
)
def test_set_reaches_any_field_and_reads_yaml(override, read):
    assert read(load_config(RECIPE, [override]))


def test_the_last_set_wins():
    assert load_config(RECIPE, ["data_limit=5", "data_limit=6"]).data_limit == 6


@pytest.mark.parametrize("override", ["nonsense", "=3", "name.x=3", "subjects.x=3", "layouts.a.b=1", "description=", "seeds=[0", "seeds=[0, 0]"])
def test_a_set_that_cannot_be_followed(override):
    assert refused(override)


@pytest.mark.parametrize(
    ("override", "nearest"),
    [
        ("seed=1", "seeds"),
        ("trainer.epoch=3", "epochs"),
        ("trainer.lora.rnk=3", "rank"),
        ("tasks.vale_harmless.limt=3", "limit"),
        ("subjects.sft.metod=sft", "method"),
        ("subjects.sfd.label=x", "sft"),
        ("subjects.sft.trainer.epoch=3", "epochs"),
        ("subjects.sft.method=stf", "sft"),
        ("subjects.ma.analyst=oracel", "oracle"),
        ("subjects.vanilla-guided.weights_of=vanila", "vanilla"),
        ("prepare.sampling.temprature=1", "temperature"),
        ("sampling.temprature=1", "temperature"),
        ("throughput.worker=1", "workers"),
        ("models.oracle.pth=x", "path"),
        ("baselines=[vanila]", "vanilla"),
        ("trainer.name=tlr", "trl"),
        ("models.j={backend: opnai, model: x}", "openai"),
        ("models.j={backend: vlm, path: x}", "vllm"),
        ("models.j={backend: openai, model: x, price: {inptu: 1, output: 2}}", "input"),
        ("judging.mode=shema", "schema"),
        ("subjects.ma.mistakes=orgin", "origin"),
    ],
)
def test_an_unknown_name_tells_the_nearest(override, nearest):
    assert f"did you mean '{nearest}'?" in refused(override)


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("subjects.sft.mistakes=self", "sft does not use 'mistakes'"),
        ("subjects.sft.analyst=self", "sft does not use 'analyst'"),
        ("subjects.ma.mistakes=null", "mistake_analysis needs 'mistakes'"),
        ("subjects.ma.analyst=null", "mistake_analysis needs 'analyst'"),
        ("subjects.ma.mistakes=orgin", "mistakes"),
        ("subjects.ma.weights_of=vanilla-guided", "'vanilla-guided' has no weights of its own"),
        ("subjects.sft.weights_of=sft", "'sft' has no weights of its own"),
        ("subjects.sft.name=ma", "two subjects share the name 'ma'"),
        ("subjects.sft.name=../up", "subjects.2.name"),
        ("subjects.sft.trainer={epochs: 1, steps: 2}", "give epochs, steps or tokens"),
        ("trainer.epochs=1", "give epochs, steps or tokens"),
        ("seeds=[0, 1, 0]", "twice"),
        ("seeds=[0, 1, 2]", "base: give one for all seeds or one a seed (2 for 3)"),
        ("trainer.learning_rate=.nan", "learning_rate"),
        ("trainer.learning_rate=-1", "learning_rate"),
        ("sampling.temperature=.inf", "temperature"),
        ("tasks.vale_harmless.limit=0", "limit"),
        ("threads=0", "threads"),
        ("tasks=3", "tasks"),
        ("subjects.sft.trainer={launch: {processes: 2, machines: 2, main_address: h}}", "set throughput.workers to 1"),
        ("subjects.sft.style=polite", "style"),
        ("models.j={backend: openai, model: x, price: 3}", "models.j.price: needs a block of fields (input, output, "),
        ("models.j={backend: hf, model: x}", "models.j: backend hf needs 'path', not 'model'"),
        ("models.j={backend: openai}", "models.j: backend openai needs 'model'"),
        ("models=3", "models: needs a block of names, not a number"),
        ("judging=[j]", "judging: needs a block of fields (models, seats, mode"),
        ("judging.models=3", "judging.models: needs a list, not a number"),
    ],
)
def test_contradictions_and_impossible_values(override, told):
    assert told in refused(override)


def test_files_that_are_no_recipe(tmp_path):
    file = tmp_path / "mine.yaml"
    for text, told in (
        ("name: x\nsubjects: [\n", "mine.yaml:3: not valid YAML"),
        ("name: 'x\n", "not valid YAML"),
        ("- 1\n", "a mapping of names"),
        ("", "mine.yaml: is empty; a mapping of names to values is needed here (name, subjects"),
        ("# later\n\n", "mine.yaml: is empty"),
        ("name: x\n", "subjects: Field required"),
        ("!!python/object/apply:os.system ['false']\n", "mine.yaml:1: not valid YAML"),
    ):
        file.write_text(text)
        assert told in refused(recipe=str(file)), text
    file.write_bytes(b"name: \xff\xfe\n")
    assert "not valid YAML" in refused(recipe=str(file))
    assert "unknown recipe" in refused(recipe=str(tmp_path / "none.yaml"))
    assert "did you mean 'demo'?" in refused(recipe="dmeo")


def test_a_recipe_without_a_base_asks_for_one(tmp_path):
    data = yaml.safe_load(Path(RECIPE).read_text())
    del data["base"]
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(data))
    config = load_config(str(tmp_path / "mine.yaml"))
    with pytest.raises(UserError, match="--set base=DIR"):
        config.bases()


def test_speed_settings_are_no_part_of_what_decides_the_results(small):
    base = small[2]
    slow, fast = (
        make_plan(load_config(RECIPE, [base, *more])).manifest
        for more in ((), ("throughput.workers=7", "throughput.batch_size=3", "throughput.device=auto", "description=x"))
    )
    assert "throughput" not in slow["config"]
    del slow["environment"], fast["environment"]
    assert slow == fast
    changed = make_plan(load_config(RECIPE, [base, "sampling.seed=1", "data_limit=20", "threads=2"])).manifest
    differing = [name for name in slow if slow[name] != changed.get(name)]
    assert differing == ["config", "alignment_rows"]


def test_where_the_base_lies_is_no_part_of_it_but_its_bytes_are(bases, tmp_path):
    def manifest(*paths):
        found = make_plan(load_config(RECIPE, [f"base=[{', '.join(map(str, paths))}]"])).manifest
        return {name: value for name, value in found.items() if name != "environment"}

    (tmp_path / "link").symlink_to(bases / "vale-0")
    first = manifest(bases / "vale-0", bases / "vale-1")
    assert manifest(tmp_path / "link", bases / "vale-1") == first
    assert manifest(bases / "vale-1", bases / "vale-0") != first


def test_workers_are_the_cores_unless_told():
    assert load_config(RECIPE).workers() == 2
    assert load_config(RECIPE, ["throughput.workers=0"]).workers() == (os.cpu_count() or 1)


def test_a_configuration_survives_the_manifest():
    config = load_config(RECIPE)
    assert RunConfig.model_validate_json(config.model_dump_json()) == config
