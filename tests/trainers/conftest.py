"""What trainings on a small model with words share."""

from pathlib import Path

import pytest
import torch

from tests.tiny import make_word_llama


@pytest.fixture(scope="module")
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_word_llama(tmp_path_factory.mktemp("base"))
