"""A recipe is read strictly: --set on top, unknown names with the nearest right one, contradictions refused."""

import os
from pathlib import Path

import pytest
import yaml

from harness.config import RunConfig
from harness.errors import UserError
from harness.recipe import load_config, recipe_names
from harness.stages.forecast import forecast
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
    assert refused(recipe=str(tmp_path / "none.yaml")) == f"{tmp_path / 'none.yaml'}: no such file"
    assert refused(recipe="./none") == "./none: no such file"
    assert refused(recipe="demo.yaml") == "demo.yaml: no such file; the built-in recipe is called 'demo'"
    assert "is a folder; a recipe is a YAML file" in refused(recipe=str(tmp_path))
    assert "did you mean 'demo'?" in refused(recipe="dmeo")


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["seeds=0"], "--set seeds: needs a list, not a number"),
        (["data_limit=3", "trainer.epoch=2"], "--set trainer.epoch: unknown field 'epoch': did you mean 'epochs'?"),
        (["seeds=[0, 1, 2]"], "--set seeds: base: give one for all seeds or one a seed (2 for 3)"),
        (["base=[a, b, c]", "seeds=[0]"], "--set base and --set seeds: base: give one for all seeds or one a seed (3 for 1)"),
        (["baselines=[vanila]"], "--set baselines: unknown subject 'vanila': did you mean 'vanilla'?"),
        (["subjects.sft.method=recorded"], "--set subjects.sft.method: subjects.sft: answers that exist already come"),
        (["data.tset=x.jsonl"], "--set data.tset: neither training nor a task of this run reads it: "),
        (["name=.x"], "--set name: '.x' names the run's folder"),
    ],
)
def test_what_a_set_says_wrongly_is_told_of_the_set(overrides, line):
    assert refused(*overrides).startswith(line)


def test_what_the_file_says_wrongly_is_told_of_the_file_whatever_is_set(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(Path(RECIPE).read_text().replace("seeds: [0, 1]", "seeds: 0"))
    assert refused("data_limit=3", "trainer.steps=2", recipe=str(file)) == f"{file}: seeds: needs a list, not a number"
    assert load_config(str(file), ["seeds=[0, 1]"]).seeds == (0, 1)


PKU = "pku_saferlhf"


@pytest.mark.parametrize(
    ("recipe", "override", "line"),
    [
        (RECIPE, "data={train: a, helpfull: b}", "data.helpfull: neither training nor a task of this run reads it: did you mean 'helpful'?"),
        (PKU, "data.tset=x.jsonl", "data.tset: neither training nor a task of this run reads it: did you mean 'test'?"),
        (PKU, "data.hijak=x.jsonl", "did you mean 'hijack'?"),
        (RECIPE, "data.test=x.jsonl", "data.test: neither training nor a task of this run reads it: known: "),
        (RECIPE, "subjects.sft.data={trian: x}", "subjects.sft.data.trian: training does not read it: did you mean 'train'?"),
        (PKU, "subjects.sft.data={test: x}", "subjects.sft.data.test: training does not read it"),
    ],
)
def test_data_that_nothing_reads_are_refused(recipe, override, line):
    assert line in refused(override, recipe=recipe)


@pytest.mark.parametrize(
    "overrides",
    [
        ["data.helpful=null", "data.tset=null"],
        ["data.hijack_en=x.jsonl", "tasks.goal_hijack_en=null"],  # dropped for this run, so its file may stay
        ["data.hijack_en=x.jsonl", "tasks={alpaca_farm: {data: farm}}"],
        ["data.mine=x.jsonl", "tasks.alpaca_farm.data=mine"],
        ["data.train=a", "data.helpful=b", "data.hijack=c", "data.test=d"],
    ],
)
def test_data_that_something_reads_or_would_read_are_not(overrides):
    assert load_config(PKU, overrides)


@pytest.mark.parametrize("name", ["wëird / näme", "a\\b", " x", "x ", ".x", "..", "", "a\nb"])
def test_a_name_that_is_no_folder(name, tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump({**yaml.safe_load(Path(RECIPE).read_text()), "name": name}, allow_unicode=True))
    assert f"{file}: name: {name!r} names the run's folder" in refused(recipe=str(file))


def test_names_that_are_folders():
    for name in ("wëird näme", "a.b", "7"):
        assert load_config(RECIPE, [f'name="{name}"']).name == name


def without_prepare(tmp_path, *subjects):
    data = yaml.safe_load(Path(RECIPE).read_text())
    del data["prepare"]
    data["subjects"] = [subject for subject in data["subjects"] if subject["name"] in subjects]
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(data))
    return str(file)


def test_a_run_that_makes_no_mistakes_needs_no_preparation(tmp_path, bases):
    recipe = without_prepare(tmp_path, "vanilla", "vanilla-guided", "sft")
    plan = make_plan(load_config(recipe, [f"base=[{bases / 'vale-0'}, {bases / 'vale-1'}]"]))
    assert plan.manifest["preparing_judges"] == {}
    assert forecast(plan)["calls"]["preparing"] == 0


@pytest.mark.parametrize(
    ("subject", "missing"),
    [
        ("{name: m, label: M, method: mistake_analysis, mistakes: self, analyst: self}", ["mistake_judge", "analysis_judge"]),
        ("{name: m, label: M, method: mistake_analysis, mistakes: origin, analyst: oracle}", ["analysis_judge"]),
        ("{name: m, label: M, method: critique_revise, mistakes: origin}", ["mistake_judge", "analysis_judge"]),
        ("{name: m, label: M, method: chain_of_hindsight, mistakes: self}", ["mistake_judge"]),
        ("{name: m, label: M, method: dpo, mistakes: self}", ["mistake_judge"]),
        ("{name: m, label: M, method: dpo, mistakes: origin}", []),
        ("{name: m, label: M, method: chain_of_hindsight, mistakes: origin}", []),
    ],
)
def test_all_that_is_missing_of_the_preparation_is_told_at_once(tmp_path, subject, missing):
    recipe = without_prepare(tmp_path, "vanilla", "sft")
    overrides = [f"subjects=[{{name: vanilla, label: V, method: vanilla}}, {subject}]", "claims=[]"]
    if not missing:
        assert load_config(recipe, overrides)
        return
    line = refused(*overrides, recipe=recipe)
    assert f"prepare: {' and '.join(missing)} {'are' if len(missing) == 2 else 'is'} missing" in line
    assert "training data of m cannot" in line
    to_copy = yaml.safe_load(line[line.index("prepare: {") :])["prepare"]
    assert list(to_copy) == missing
    given = [f"prepare.{name}={yaml.safe_dump(value, default_flow_style=True).strip()}" for name, value in to_copy.items()]
    assert load_config(recipe, [*overrides, *(line.removesuffix("...").strip() for line in given)]).prepare.judges


CHANGED = "Changed from the recipe as it ships, which the notes below describe: "


@pytest.mark.parametrize(
    ("recipe", "overrides", "changed"),
    [
        ("ablations", ["base=vale-0", "seeds=[0]", "trainer.epochs=null", "trainer.steps=4"],
         "base, seeds, trainer.epochs, trainer.steps"),
        ("demo", ["tasks.vale_hijack=null", "subjects.sft.trainer={epochs: 1}"], "tasks.vale_hijack, subjects.sft.trainer"),
        ("demo", ["data_limit=8", "data_limit=9", "tasks.vale_helpful={limit: 5}"], "data_limit, tasks.vale_helpful"),
        (PKU, ["base=x", "data.train=y", "data.test=z"], None),
        (PKU, ["data={train: y, test: z}", "base=[x]"], None),
        (PKU, ["base=x", "seeds=[1]"], "seeds"),
        ("demo", ["throughput.workers=1", "models.j={backend: openai, model: m}", "judging.models=j"], None),
        ("demo", ["claims=[]", "layouts=[]", "description=x", "name=mine", "overlap.max_share=0.1"], None),
        ("demo", ["tasks.vale_helpful.judges=[harmless_verdict]"], None),
        ("demo", ["seeds=[0, 1, 2, 3, 4]", "threads=1", "subjects.sft.label=SFT"], None),
        ("demo", ["seeds=[4, 3, 2, 1, 0]", "notes=[Mine.]"], None),
        ("demo", [], None),
        (RECIPE, ["data_limit=3"], None),  # whoever wrote the notes knows what was changed
    ],
)  # fmt: skip
def test_notes_that_may_no_longer_hold_say_what_was_changed(recipe, overrides, changed):
    notes = load_config(recipe, overrides).notes
    if changed is None:
        assert not any(note.startswith("Changed") for note in notes)
    else:
        assert notes == (f"{CHANGED}{changed}.", *load_config(recipe).notes)


def test_what_was_changed_is_no_part_of_a_run_s_identity(bases):
    overrides = [f"base={bases / 'vale-0'}", "seeds=[0]", "data_limit=8", "subjects=[{name: v, label: V, method: vanilla}]"]
    overrides += ["claims=[]", "baselines=[]", "tasks={vale_harmless: {limit: 2}}"]
    told, mine = (load_config("demo", [*overrides, *more]) for more in ((), ("notes=[Mine.]",)))
    assert told.notes[0].startswith(CHANGED)
    assert load_config("demo", overrides) == told
    first, second = ({k: v for k, v in make_plan(one).manifest.items() if k != "environment"} for one in (told, mine))
    assert first == second


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
