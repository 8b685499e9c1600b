"""Trainers of other packages: a real one, installed into a folder on the path with its metadata."""

import subprocess
import sys
from pathlib import Path

import pytest

from harness.errors import UserError
from harness.trainers import TRAINERS, TrainerSettings, get_trainer

ROOT = Path(__file__).parents[2]
MODULE = '''
"""A trainer that hands the base back and says what it was given."""
import shutil
from harness.trainers import TrainResult


class Copier:
    def train(self, base, records, settings, seed, out, *, objective, chat, device, progress):
        shutil.copytree(base, out)
        return TrainResult({"n_records": float(len(records)), "twist": float(settings.options["twist"])})


class Nothing:
    pass


def broken():
    raise OSError("no licence\\nfound")
'''


def install(folder: Path, package: str, entries: dict[str, str], summary: str | None = "Copies the base") -> None:
    """What pip leaves behind: a module and its dist-info."""
    (folder / f"{package}.py").write_text(MODULE)
    info = folder / f"{package}-1.2.dist-info"
    info.mkdir()
    told = f"Summary: {summary}\n" if summary else ""
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.2\n{told}")
    lines = "".join(f"{name} = {package}:{attribute}\n" for name, attribute in entries.items())
    (info / "entry_points.txt").write_text(f"[harness.trainers]\n{lines}")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))
    return site


def test_an_installed_trainer_is_listed_and_trains(site: Path, tmp_path: Path) -> None:
    assert "copier" not in TRAINERS
    install(site, "copier_package", {"copier": "Copier"})
    assert TRAINERS["copier"] == "Copies the base (package copier_package 1.2)"
    assert list(TRAINERS)[:3] == ["trl", "command", "openai"]
    assert "copier_package" not in sys.modules  # listing runs nobody's code
    (tmp_path / "base").mkdir()
    how = TrainerSettings.model_validate({"name": "copier", "steps": 1, "options": {"twist": 3}})
    result = get_trainer("copier").train(
        tmp_path / "base", [], how, 0, tmp_path / "out", objective="sft", chat=False, device="cpu",
        progress=lambda: None,
    )  # fmt: skip
    assert result.metrics == {"n_records": 0, "twist": 3}
    assert (tmp_path / "out").is_dir()


def test_the_command_line_lists_it(site: Path) -> None:
    install(site, "copier_package", {"copier": "Copier"})
    command = [sys.executable, "-c", "from harness.cli import main; main()", "list", "trainers"]
    env = {"PATH": "", "PYTHONPATH": f"{ROOT}:{site}"}
    said = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert said.returncode == 0, said.stderr
    lines = [line for line in said.stdout.splitlines() if line.startswith("copier")]
    assert len(lines) == 1
    assert "Copies the base (package copier_package 1.2)" in lines[0]


def test_what_cannot_be_used_is_told(site: Path) -> None:
    install(
        site, "first", {"nothing": "Nothing", "broken": "broken", "gone": "gone", "twice": "Copier", "trl": "Copier"}
    )
    install(site, "second", {"twice": "Copier"}, summary=None)
    for name, lesson in {
        "nothing": "trainer 'nothing' (first:Nothing) has no method 'train'",
        "broken": "trainer 'broken' (first:broken) cannot be loaded: OSError: no licence found",
        "gone": "cannot be loaded: AttributeError",
        "twice": "is added by several packages (first, second)",
        "nothin": "did you mean 'nothing'?",
    }.items():
        with pytest.raises(UserError) as error:
            get_trainer(name)
        assert lesson in str(error.value)
        assert "\n" not in str(error.value)
    assert type(get_trainer("trl")).__module__ == "harness.trainers.trl_trainer"  # a built-in name is not taken over
    assert "TRL" in TRAINERS["trl"]
    assert len(TRAINERS) == len(list(TRAINERS)) == len(set(TRAINERS))


def test_a_package_found_twice_on_the_path_is_one(site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(site, "copier_package", {"copier": "Copier"}, summary=None)
    other = tmp_path / "other"
    other.mkdir()
    install(other, "copier_package", {"copier": "Copier"}, summary=None)
    monkeypatch.syspath_prepend(str(other))
    assert TRAINERS["copier"] == "copier_package:Copier (package copier_package 1.2)"
    assert get_trainer("copier")
