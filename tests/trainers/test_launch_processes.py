"""The processes of a training: a killed rank ends all, all end with who asked for them, further machines take part."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from launched import TWO, await_that, free_port, good, losses, ranks_below, records, train

from harness.errors import UserError

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.skipif(sys.platform != "linux", reason="finds the processes in /proc")
def test_a_killed_rank_ends_all_and_the_same_command_goes_on(base: Path, tmp_path: Path) -> None:
    out, told = tmp_path / "out", {"steps": 40, "save_steps": 3}
    steps: list[int] = []

    def kill_after_7() -> None:
        steps.append(1)
        if len(steps) == 7:
            os.kill(ranks_below(tmp_path)["1"], signal.SIGKILL)

    with pytest.raises(
        UserError, match="process 2 of 2 of the launched training was killed by signal 9, and"
    ) as failed:
        train(base, out, records(), {**told, **TWO}, "dpo", kill_after_7)
    assert "\n" not in str(failed.value)
    assert not out.exists()
    assert ranks_below(tmp_path) == {}
    for state in tmp_path.glob(".out.trl/*/trainer/checkpoint-*/trainer_state.json"):
        log = json.loads(state.read_text())
        log["log_history"][0]["loss"] = 123.0  # what only a training that goes on from here can know
        state.write_text(json.dumps(log))
    steps.clear()
    train(base, out, records(), {**told, **TWO}, "dpo", lambda: steps.append(1))
    assert len(steps) == 40
    assert losses(out)[0] == 123.0
    train(base, tmp_path / "one", records(), told, "dpo")
    assert losses(out)[1:] == pytest.approx(losses(tmp_path / "one")[1:], rel=1e-3)
    assert {path.name for path in tmp_path.iterdir()} == {"one", "out"}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="finds the processes in /proc")
def test_the_processes_end_with_whoever_asked_for_them(base: Path, tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path\n"
        "from tests.trainers.launched import TWO, good, train\n"
        "train(Path(sys.argv[1]), Path(sys.argv[2]), good(), {**TWO, 'steps': 5000})\n"
    )
    asked = [sys.executable, "-c", script, str(base), str(tmp_path / "out")]
    with subprocess.Popen(asked, cwd=Path(__file__).parents[2], env={**os.environ, "PYTHONPATH": "."}) as asking:
        await_that(lambda: any(path.stat().st_size for path in tmp_path.glob(".out.trl/*/progress")))
        assert {"0", "1"} <= ranks_below(tmp_path).keys()
        asking.kill()
    await_that(lambda: not ranks_below(tmp_path))
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_what_a_process_says_is_told_and_a_further_machine_takes_part(base: Path, tmp_path: Path) -> None:
    machines = {"launch": {"processes": 2, "machines": 2, "main_address": "127.0.0.1", "main_port": free_port()}}
    joining = subprocess.Popen([sys.executable, "-m", "harness.trainers.launch_join", str(tmp_path), "1"])
    try:
        with pytest.raises(UserError, match=r"the training loss is no longer a number; lower trainer\.learning_rate$"):
            train(base, tmp_path / "none", good(), {**machines, "learning_rate": 1e30})
        train(base, tmp_path / "two", good(), machines)
        train(base, tmp_path / "one", good(), {})
        assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-4)
    finally:
        joining.terminate()
        joining.wait(10)
    await_that(lambda: not ranks_below(tmp_path))
    assert not (tmp_path / "none").exists()
