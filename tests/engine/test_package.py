"""Imports point one way, and a wheel holds everything that a checkout does."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONTENT = ("tasks", "judges", "reports")


def test_imports_point_one_way():
    found = subprocess.run(
        [Path(sys.executable).with_name("lint-imports")], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stdout


def test_every_module_has_its_layer():
    import tomllib

    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    layers = {name.strip() for layer in settings["contracts"][0]["layers"] for name in layer.replace("|", ":").split(":")}
    modules = {f"harness.{p.stem}" for p in (ROOT / "harness").glob("*.py") if p.stem != "__init__"}
    modules |= {f"harness.{p.parent.name}" for p in (ROOT / "harness").glob("*/__init__.py")}
    assert modules == layers


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (found,) = out.glob("*.whl")
    return found


def test_a_wheel_holds_code_content_recipes_templates_and_bases(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    for kind in CONTENT:
        files = {p.relative_to(ROOT) for p in (ROOT / kind).rglob("*") if p.is_file() and "__pycache__" not in p.parts}
        assert files
        assert {f"harness/_content/{file}" for file in files} <= names
    for folder in ("recipes", "templates", "microworld/bases/vale-0", "microworld/bases/vale-2"):
        files = [p for p in (ROOT / "harness" / folder).iterdir() if p.is_file()]
        assert files
        assert {f"harness/{folder}/{file.name}" for file in files} <= names
    assert {f"harness/{p.relative_to(ROOT / 'harness')}" for p in (ROOT / "harness").rglob("*.py")} <= names
    assert [name for name in names if name.startswith("tests/") or "__pycache__" in name] == []


def test_an_installed_wheel_works_away_from_the_checkout(wheel, tmp_path):
    target, empty = tmp_path / "installed", tmp_path / "empty"
    empty.mkdir()
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(target)]
    subprocess.run([*pip, str(wheel)], check=True, capture_output=True)
    environment = {**os.environ, "PYTHONPATH": str(target), "OMP_NUM_THREADS": "1"}

    def run(*arguments):
        script = f"import harness, sys; assert harness.__file__.startswith({str(target)!r}); sys.argv[0] = 'harness'; "
        command = [sys.executable, "-c", script + "from harness.cli import main; main()", *arguments]
        return subprocess.run(command, cwd=empty, env=environment, capture_output=True, text=True, check=False)

    tasks = run("list", "tasks")
    assert tasks.returncode == 0, tasks.stderr
    assert "vale_harmless" in tasks.stdout
    checked = run("check", "demo")
    assert (checked.returncode, checked.stderr) == (0, ""), checked.stdout
    assert "0 problems" in checked.stdout
    assert list(empty.iterdir()) == []
