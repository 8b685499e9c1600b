"""What identifies a checkpoint folder, and what is said of one that is not whole."""

import shutil
from pathlib import Path

import pytest

from harness.errors import UserError
from harness.models.weights import check_checkpoint, weights_hash
from tests.tiny import make_tiny_llama


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_llama(tmp_path_factory.mktemp("tiny"))


def test_the_hash_is_of_the_content_wherever_it_lies(tiny: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(tiny, tmp_path / "copy"))
    (copy / "training_log.json").write_text("{}")
    (copy / "README.md").write_text("notes")
    assert weights_hash(copy) == weights_hash(tiny) != weights_hash(make_tiny_llama(tmp_path / "other", seed=1))


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "generation_config.json", "tokenizer.json"])
def test_the_hash_changes_with_every_file_that_decides_an_answer(tiny: Path, tmp_path: Path, name: str) -> None:
    copy = Path(shutil.copytree(tiny, tmp_path / "copy"))
    with (copy / name).open("ab") as file:
        file.write(b" ")
    assert weights_hash(copy) != weights_hash(tiny)


def test_a_whole_checkpoint_passes(tiny: Path) -> None:
    check_checkpoint(tiny)


@pytest.mark.parametrize(
    ("missing", "told"),
    [
        ("config.json", "no config.json"),
        ("model.safetensors", "no \\*.safetensors"),
        ("tokenizer.json", "no tokenizer"),
    ],
)
def test_what_is_missing_is_told_in_one_line(tiny: Path, tmp_path: Path, missing: str, told: str) -> None:
    copy = Path(shutil.copytree(tiny, tmp_path / "copy"))
    (copy / missing).unlink()
    with pytest.raises(UserError, match=told) as error:
        check_checkpoint(copy)
    assert str(copy) in str(error.value)
    assert "\n" not in str(error.value)


def test_pickled_weights_are_refused_with_the_way_to_convert_them(tiny: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(tiny, tmp_path / "copy"))
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    with pytest.raises(UserError, match="save_pretrained"):
        check_checkpoint(copy)
    with pytest.raises(UserError, match="no such checkpoint folder"):
        check_checkpoint(copy / "nowhere")
