"""Where a run's numbers come from: models, judges, hashes, seeds, costs, versions, as rows of text.

Reads the manifest, the configuration and the ledger. Only fields that are named here are told: nothing of a request's
further fields, no path of a machine, of an address no user, password or query.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePath
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from harness.blocks import ModelConfig
from harness.config import RunConfig
from harness.records import Call
from harness.stages.loading import LoadedRun
from harness.store import read


class Fact(NamedTuple):
    """One row: what, and its value."""

    name: str
    value: str


class Facts(NamedTuple):
    """Rows of one kind."""

    title: str
    rows: list[Fact]


def provenance(loaded: LoadedRun) -> list[Facts]:
    """All that is known of a run's making; kinds with nothing to tell are left out."""
    manifest = loaded.run.manifest()
    kinds = [
        Facts("Run", list(_run(loaded.config, manifest))),
        Facts("Models", list(_models(loaded.config, manifest))),
        Facts("Judges", list(_judges(loaded))),
        Facts("Data (SHA-256)", list(_data(manifest))),
        Facts("Costs", _costs(loaded)),
        Facts("Versions", list(_versions(manifest.get("environment", {})))),
    ]
    return [kind for kind in kinds if kind.rows]


def _run(config: RunConfig, manifest: dict[str, Any]) -> Iterator[Fact]:
    yield Fact("seeds", ", ".join(map(str, config.seeds)))
    sampling = config.sampling
    drawn = f"temperature {sampling.temperature:g}, top-p {sampling.top_p:g}, seed {sampling.seed}"
    yield Fact("answers drawn with", drawn)
    if manifest.get("templates"):
        yield Fact("prompt templates (SHA-256)", str(manifest["templates"]))
    if any(subject.weights_of is None and subject.method != "vanilla" for subject in config.subjects):
        trainer = {k: v for k, v in config.trainer.model_dump().items() if v is not None and not isinstance(v, dict)}
        yield Fact("training", ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in trainer.items()))


def _models(config: RunConfig, manifest: dict[str, Any]) -> Iterator[Fact]:
    bases = manifest.get("bases") or {}
    for seed, weights in bases.items():
        yield Fact(f"base, seed {seed} (SHA-256)", str(weights))
    for subject, weights in (manifest.get("subject_bases") or {}).items():
        yield Fact(f"base of {subject} (SHA-256)", str(weights))
    for name, model in config.models.items():
        yield Fact(name, _model(model))


def _model(model: ModelConfig) -> str:
    parts = [model.backend, model.model, model.path and PurePath(model.path).name, address(model.base_url)]
    return ", ".join(part for part in parts if part)


def address(url: str | None) -> str | None:
    """Scheme, host, port and path of a server's address: what else stands in one may be a secret."""
    if url is None:
        return None
    found = urlsplit(url)
    port = "" if found.port is None else f":{found.port}"
    return f"{found.scheme}://{found.hostname or ''}{port}{found.path}"


def _judges(loaded: LoadedRun) -> Iterator[Fact]:
    for name, panel in loaded.judges.items():
        asked = [spec.model_key for spec in panel.members if spec.model_key]
        models = ", ".join(loaded.config.judging.of(name).models or ()) if asked else ""
        seats = f"{panel.n_seats} votes each" if panel.n_seats > 1 else ""
        versions = ", ".join(f"version {spec.version}, key {spec.key[:12]}…" for spec in panel.members)
        yield Fact(name, "; ".join(part for part in (models or "a rule", seats, versions) if part))


def _data(manifest: dict[str, Any]) -> Iterator[Fact]:
    for task, content in (manifest.get("samples") or {}).items():
        yield Fact(f"samples of {task}", str(content))
    rows: dict[str, list[str]] = {}
    for subject, content in (manifest.get("alignment_rows") or {}).items():
        rows.setdefault(str(content), []).append(subject)
    for content, subjects in rows.items():
        yield Fact(f"alignment data of {', '.join(subjects)}", content)


def _costs(loaded: LoadedRun) -> list[Fact]:
    """For each role: calls that were paid, tokens, and what they were billed, as far as that is known."""
    calls: dict[str, list[Call]] = {}
    for call in read(loaded.run.calls_file, Call).records:
        if call.outcome != "stored":
            calls.setdefault(f"{call.role} on {call.served_model or call.model}", []).append(call)
    return [Fact(role, _cost(each)) for role, each in calls.items()]


def _cost(calls: list[Call]) -> str:
    known = [call.cost_usd for call in calls if call.cost_usd is not None]
    tokens = sum((call.input_tokens or 0) + (call.output_tokens or 0) for call in calls)
    billed = f"{sum(known):.2f} USD" if known else "cost not known"
    unknown = f" and {len(calls) - len(known)} calls of unknown cost" if known and len(known) < len(calls) else ""
    return f"{len(calls)} calls, {tokens:,} tokens, {billed}{unknown}"


def _versions(environment: dict[str, Any]) -> Iterator[Fact]:
    known = {"harness": environment.get("harness"), "python": environment.get("python")}
    for name, version in {**known, **(environment.get("libraries") or {})}.items():
        if version:
            yield Fact(name, str(version))
