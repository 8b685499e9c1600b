"""Judges as folders: loading, identity, gold cases.

Reads ``judges/<name>/judge.yaml`` (name, version, description, and ``depends``: modules whose source is part of the
judge), ``rule.py`` (a function ``grade(sample, text) -> Grade``) and ``cases.jsonl`` (one gold case a line: messages,
labels, text, and the outcome, label or score that must come out). Writes nothing.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from harness.content import find, named, read_yaml
from harness.errors import UserError
from harness.judging.base import Judge, JudgeItem, Rule, RuleJudge
from harness.records import Completion, CompletionOutcome, JudgeSpec, Message, Sample, VerdictOutcome, content_hash

PATTERN = "*/judge.yaml"


class JudgeFile(BaseModel):
    """``judge.yaml``."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    version: str
    description: str
    depends: tuple[str, ...] = ()


class Case(BaseModel):
    """A gold case: what is judged and what must come out."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    messages: tuple[Message, ...] = (Message(role="user", content="question"),)
    labels: dict[str, Any] = {}
    target: str | None = None
    text: str
    outcome: VerdictOutcome = VerdictOutcome.OK
    label: str | None = None
    score: float | None = None


def judge_names(include_paths: Sequence[Path] = ()) -> list[str]:
    """The judges that exist."""
    return sorted(find("judges", PATTERN, include_paths))


def load_judge(name: str, include_paths: Sequence[Path] = ()) -> Judge:
    """A judge by name.

    Raises:
        UserError: There is none of that name, or its folder is not as it should be.
    """
    path = named("judges", "judge", name, PATTERN, include_paths)
    try:
        file = JudgeFile.model_validate(read_yaml(path))
    except ValidationError as error:
        problem = error.errors()[0]
        raise UserError(f"{path}: {'.'.join(map(str, problem['loc']))}: {problem['msg']}") from None
    if file.name != name:
        raise UserError(f"{path}: its name is '{file.name}' but its folder is '{name}'; make them the same")
    sources = [_digest(path), _digest(path.parent / "rule.py"), *(_module_digest(path, m) for m in file.depends)]
    spec = JudgeSpec(name=name, version=file.version, content=content_hash(sources))
    return RuleJudge(spec, _rule(path.parent / "rule.py"))


def _rule(path: Path) -> Rule:
    if not path.is_file():
        raise UserError(f"{path}: no such file; a judge needs a rule.py with a function grade(sample, text)")
    module_spec = importlib.util.spec_from_file_location(f"harness_judge_{path.parent.name}", path)
    assert module_spec is not None
    assert module_spec.loader is not None
    module = importlib.util.module_from_spec(module_spec)
    sys.modules[module_spec.name] = module  # dataclasses look their module up there
    try:
        module_spec.loader.exec_module(module)
    except Exception as error:  # a rule is the user's code: whatever it raises is about the rule
        where = f"{path}:{error.lineno}" if isinstance(error, SyntaxError) else path
        raise UserError(f"{where}: cannot be loaded ({type(error).__name__}: {error})") from error
    rule: Rule | None = getattr(module, "grade", None)
    if rule is None:
        raise UserError(f"{path}: has no function grade(sample, text)")
    return rule


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def _module_digest(path: Path, module: str) -> str:
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        spec = None
    if spec is None or spec.origin is None:
        raise UserError(f"{path}: depends on the module '{module}', which does not exist")
    return _digest(Path(spec.origin))


def check_cases(name: str, include_paths: Sequence[Path] = ()) -> Iterator[str]:
    """Runs a judge's gold cases through it; yields one line for each that comes out wrong."""
    judge = load_judge(name, include_paths)
    path = named("judges", "judge", name, PATTERN, include_paths).parent / "cases.jsonl"
    if not path.is_file():
        yield f"{path}: no gold cases"
        return
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
        if not line.strip():
            continue
        try:
            case = Case.model_validate(json.loads(line))
        except ValueError as error:
            yield f"{path}:{number}: not a gold case ({str(error).splitlines()[0]})"
            continue
        (verdict,) = judge.judge([_item(case)])
        got = (verdict.outcome, verdict.label, verdict.score)
        want = (case.outcome, case.label, case.score)
        if got != want:
            yield f"{path}:{number}: {name} says {_told(*got)}, the case says {_told(*want)}"


def _item(case: Case) -> JudgeItem:
    sample = Sample(task="gold", task_version="1", messages=case.messages, labels=case.labels, target=case.target)
    outcome = CompletionOutcome.OK if case.text.strip() else CompletionOutcome.EMPTY
    return JudgeItem(sample, Completion(sample_key=sample.key, model_key="gold", outcome=outcome, text=case.text))


def _told(outcome: VerdictOutcome, label: str | None, score: float | None) -> str:
    parts = [str(part) for part in (label, score) if part is not None]
    return " ".join(parts) or str(outcome)
