"""What tells the answers of one local judge from another's: in its verdicts, and in the cache of all runs."""

import pytest

from harness.clients.base import Ask, ChatRequest
from harness.models.weights import weights_hash
from harness.recipe import bare_config
from harness.stages.judge_models import JudgeModels, identity, server_of
from harness.store import Run
from tests.tiny import make_tiny_llama

REQUEST = ChatRequest((("user", "Is it harmless?"),), 4)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return make_tiny_llama(tmp_path_factory.mktemp("weights"), chat=True)


def models(weights, folder, dtype, name="run"):
    config = bare_config().model_validate(
        {**bare_config().model_dump(), "dtype": dtype, "models": {"j": {"backend": "hf", "path": str(weights)}},
         "judging": {"models": ["j"]}, "throughput": {"cache": str(folder / "cache.sqlite"), "device": "cpu"}}
    )  # fmt: skip
    (folder / name).mkdir(exist_ok=True)
    return JudgeModels(config, Run(folder / name))


def told(models):
    judge = models.judge_model("j", models.config.judging.of("harmless_score"), chat=True)
    return judge.spec.key, models.front("j").key(REQUEST)


def test_the_precision_is_part_of_verdicts_and_of_the_cache(weights, tmp_path):
    found = [told(models(weights, tmp_path, dtype)) for dtype in ("float32", "bfloat16", "float16", "auto")]
    assert [len(set(each)) for each in zip(*found, strict=True)] == [4, 4]


def test_an_answer_in_another_precision_is_not_taken_for_ones_own(weights, tmp_path):
    stored = []
    for dtype in ("float32", "bfloat16", "bfloat16"):
        ((_, reply),) = models(weights, tmp_path, dtype).front("j").ask([Ask(REQUEST, 0)])
        stored.append(reply.stored)
    assert stored == [False, False, True]


def test_the_program_is_part_of_it_and_what_is_usual_keeps_its_name(weights, tmp_path):
    model = models(weights, tmp_path, "float32").config.models["j"]
    assert identity(model).weights == server_of(model).model == weights_hash(weights)
    assert not server_of(model).extra
    other = model.model_copy(update={"backend": "vllm"})
    assert server_of(other) != server_of(model)
    assert identity(other).key != identity(model).key
