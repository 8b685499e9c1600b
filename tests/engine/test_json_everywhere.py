"""Every verb has ``--json``, so that a program can ask anything that people can."""

import click
import pytest
from typer.main import get_command

from harness.cli import app


def verbs(command, name="harness"):
    if isinstance(command, click.Group) or hasattr(command, "commands"):
        return [found for key, one in command.commands.items() for found in verbs(one, f"{name} {key}")]
    return [(name, command)]


@pytest.mark.parametrize(("name", "verb"), verbs(get_command(app)))
def test_a_verb_has_json(name, verb):
    assert any("--json" in option.opts for option in verb.params), name
