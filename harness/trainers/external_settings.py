"""The blocks of trainers that hand the work to somebody else: a program, or a fine-tuning service.

Pure settings, without a default that spends money or passes a secret on. `problem` tells what a trainer's name asks
for and the block leaves out.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from harness.errors import UserError, unknown_name
from harness.records import Finite

FormatName = Literal[
    "prompt_completion",
    "preference",
    "unpaired_preference",
    "alpaca",
    "alpaca_preference",
    "sharegpt",
    "sharegpt_preference",
    "openai_chat",
    "openai_preference",
]
PLACEHOLDERS = (
    *("base", "data", "data_dir", "out", "seed", "steps", "epochs", "batch_size", "learning_rate"),
    *("max_length", "objective", "device"),
)
_PLACEHOLDER = re.compile(r"\{\{([a-z_]+)\}\}|\{([a-z_]+)\}")
SCRIPTS = (".py", ".sh", ".bash", ".yaml", ".yml", ".toml", ".json", ".cfg", ".ini")
"""Endings of files that say what is trained; what a program writes belongs under ``{out}``."""
_SUFFIX = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


def filled(argument: str, values: Mapping[str, str]) -> str:
    """An argument with its placeholders filled in, in one pass; ``{{name}}`` stands for ``{name}``."""
    return _PLACEHOLDER.sub(lambda match: f"{{{match[1]}}}" if match[1] else values[match[2]], argument)


def placeholders(arguments: tuple[str, ...]) -> set[str]:
    """The names that are to be filled in."""
    return {match[2] for argument in arguments for match in _PLACEHOLDER.finditer(argument) if match[2]}


def named_files(arguments: Sequence[str]) -> dict[str, str]:
    """Argument → SHA-256, hex, of the script or configuration that it names, alone or after ``=``.

    Known by their endings (`SCRIPTS`): what a program writes, such as a log, tells nothing of what it does.

    Raises:
        UserError: One of them cannot be read.
    """
    found = {}
    for argument in arguments:
        for name in (argument, argument.partition("=")[2]):
            if name.endswith(SCRIPTS) and os.path.isfile(name):
                try:
                    with open(name, "rb") as file:
                        found[argument] = hashlib.file_digest(file, "sha256").hexdigest()
                except OSError as error:
                    raise UserError(f"trainer.command.arguments: {name}: {error.strerror}") from None
    return found


def with_named_files(command: Mapping[str, Any]) -> dict[str, Any]:
    """A dumped block ``command`` with the hashes of the files that its arguments name, if they name any."""
    files = named_files(command.get("arguments", ()))
    return {**command, **({"files": files} if files else {})}


class CommandSettings(BaseModel):
    """A program that trains.

    Attributes:
        arguments: The program and its arguments, run without a shell in the working directory. ``{data}`` is the
            file of records, ``{out}`` the folder for the checkpoint; see ``PLACEHOLDERS`` for the others. Scripts
            and configurations that they name decide what is trained by their text (`named_files`); what those read
            does not.
        format: Of ``{data}``; the one of TRL that suits what is trained for, where absent.
        manifest: Who writes ``manifest.json`` into ``{out}``. ``program``: it says what it did, and that is held
            against what it was asked. ``harness``: for programs that write none; the harness then writes it alone.
        env: Names of environment variables to pass on beside the harmless ones, such as ``HF_TOKEN``.
        timeout_seconds: After which the program is ended.
        resume: Leaves ``{out}`` as an interrupted program left it, for programs that go on from their own checkpoints.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    arguments: tuple[str, ...] = Field(min_length=1)
    format: FormatName | None = None
    manifest: Literal["program", "harness"] = "program"
    env: tuple[str, ...] = ()
    timeout_seconds: Finite | None = Field(default=None, gt=0)
    resume: bool = False

    @field_validator("arguments")
    @classmethod
    def _known(cls, arguments: tuple[str, ...]) -> tuple[str, ...]:
        used = placeholders(arguments)
        if foreign := sorted(used - set(PLACEHOLDERS)):
            wrong = unknown_name("placeholder", foreign[0], PLACEHOLDERS)
            raise ValueError(f"{wrong}; for the text itself write {{{{{foreign[0]}}}}}")
        if not used & {"data", "data_dir"} or "out" not in used:
            raise ValueError("the arguments must hold {data} (the records) and {out} (where the checkpoint belongs)")
        return arguments


class OpenAISettings(BaseModel):
    """A fine-tuning API in the protocol of OpenAI.

    Attributes:
        model: What to fine-tune, as the server calls it.
        base_url: The server; the official one where absent.
        api_key_env: The environment variable that holds the key.
        suffix: Becomes part of the fine-tuned model's name.
        learning_rate_multiplier: Of the server's own learning rate; the server's choice where absent.
        price: US dollars for a million trained tokens; the cost is not known where absent.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    model: str
    base_url: str | None = None
    api_key_env: str = "OPENAI_API_KEY"
    suffix: str | None = Field(default=None, max_length=64)
    learning_rate_multiplier: Finite | None = Field(default=None, gt=0)
    price: Finite | None = Field(default=None, ge=0)

    @field_validator("base_url")
    @classmethod
    def _an_address(cls, base_url: str | None) -> str | None:
        if base_url is not None and "@" in base_url:  # told without the address, which may hold a password
            raise ValueError("base_url must not hold '@': leave user and password out; api_key_env names the key")
        if base_url is not None and not base_url.startswith(("http://", "https://")):
            raise ValueError("base_url must begin with http:// or https://")
        return base_url

    @field_validator("suffix")
    @classmethod
    def _plain(cls, suffix: str | None) -> str | None:
        if suffix is not None and not _SUFFIX.fullmatch(suffix):
            raise ValueError("suffix must be of letters, digits, - and _, and begin with a letter or digit")
        return suffix


def problem(
    name: str, command: CommandSettings | None, openai: OpenAISettings | None, epochs: float | None, steps: int | None
) -> str | None:
    """What is wrong with the settings of a trainer of this name, if anything is."""
    if name == "command" and command is None:
        return "trainer command needs a block 'command' with its 'arguments'"
    if name == "command" and command is not None and epochs is None and "epochs" in placeholders(command.arguments):
        return "command.arguments hold {epochs}, but the length is given as steps: write {steps}, or give epochs"
    if name == "command" and epochs is None and steps is None:
        return "trainer command takes epochs or steps: how many tokens a step reads is the program's to know"
    if name == "openai" and openai is None:
        return "trainer openai needs a block 'openai' with the 'model' to fine-tune"
    if name == "openai" and (epochs is None or epochs != int(epochs)):
        return "trainer openai takes whole epochs, not steps: the fine-tuning API knows no others"
    for block, given in (("command", command), ("openai", openai)):
        if given is not None and name != block:
            return f"a block '{block}' is for trainer {block}, not for {name}"
    return None
