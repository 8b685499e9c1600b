"""A run's configuration: one YAML file, read strictly, with ``--set`` on top.

Every field decides the results except those under ``throughput``, which only decide the speed and may change between
one start of a run and the next. Relative paths are relative to the working directory. Unknown fields, unknown names and
contradictions are one-line errors that name the field and the nearest right one.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from harness.clients.prices import Price
from harness.content import PACKAGE, read_yaml
from harness.errors import UserError, unknown_name
from harness.invalid import told
from harness.methods import METHODS, AnalysisSettings, method_asks, method_needs, method_style
from harness.records import Finite, Style
from harness.rows.overlap import NEAR
from harness.trainers import TRAINERS, TrainerSettings
from harness.trainers.base import LENGTHS


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class Part(BaseModel):
    """A frozen block of the configuration that knows all of its fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class SubjectConfig(Part):
    """One row of the tables.

    Attributes:
        name: Unique within the run.
        label: What the tables call it.
        method: Name of the method.
        mistakes: ``origin`` or ``self``, for methods that use mistakes.
        analyst: ``self`` or a name under ``models``, for methods that use analyses.
        analyses: Replaces settings of the run's ``prepare.analyses``, for methods that have an analyst.
        style: The prompt that it answers with; the method's own by default.
        data: Replaces entries of the run's ``data``.
        trainer: Replaces settings of the run's ``trainer``.
        base: A model of its own to answer with, of an untrained subject, for comparing models side by side: a
            checkpoint, or a name under ``models`` of one that a server runs.
        weights_of: Answers with the weights of that subject instead of training its own.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    label: str
    method: str
    mistakes: Literal["origin", "self"] | None = None
    analyst: str | None = None
    analyses: dict[str, Any] = {}
    style: Style | None = None
    data: dict[str, str | None] = {}
    trainer: dict[str, Any] = {}
    weights_of: str | None = None
    base: str | None = None

    @model_validator(mode="after")
    def _complete(self) -> SubjectConfig:
        if self.method not in METHODS:
            raise ValueError(str(unknown_name("method", self.method, METHODS)))
        if self.base is not None and (self.method != "vanilla" or self.weights_of is not None):
            raise ValueError("'base' is for vanilla subjects without weights_of; others begin from the run's")
        for choice in ("mistakes", "analyst"):
            if (getattr(self, choice) is not None) != (choice in method_needs(self.method)):
                verb = "needs" if choice in method_needs(self.method) else "does not use"
                raise ValueError(f"{self.method} {verb} '{choice}'")
        if self.analyses and "analyst" not in method_needs(self.method):
            raise ValueError(f"{self.method} does not use 'analyses'")
        return self

    @property
    def answer_style(self) -> Style:
        """The prompt that it answers with."""
        return self.style or method_style(self.method)


BACKENDS = ("openai", "hf", "vllm", "vale_oracle")
"""The usual ones; any other is looked up among lm-eval's models."""


class ModelConfig(Part):
    """A further model that a recipe may ask: a judge's, or a stronger analyst.

    Attributes:
        backend: ``openai`` (any server that speaks its protocol), ``hf`` or another lm-eval model, or ``vale_oracle``.
        path: Folder of a local model.
        model: The name that the server knows the model by.
        base_url: The server; the official one where absent. Moving a model to another address changes no identity. It
            may hold no user or password: what it says stands in files and messages.
        api_key_env: The environment variable that holds the key.
        api: ``chat`` completions or ``responses``.
        max_tokens_field: How the server calls the length limit.
        json_schema: ``never`` does not even try a JSON schema on this server.
        temperature: ``judge`` asks at each judge's own; ``null`` leaves the field out of judges' questions, for
            (reasoning) models that refuse any but their own. Part of what the judge is.
        extra: Further fields of every request's body.
        timeout_seconds: Of one attempt.
        price: Replaces the price table's entry (US dollars per million tokens).
    """

    backend: str = "hf"
    path: str | None = None
    model: str | None = None
    base_url: str | None = None
    api_key_env: str = "OPENAI_API_KEY"
    api: Literal["chat", "responses"] = "chat"
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_completion_tokens"
    json_schema: Literal["auto", "never"] = "auto"
    temperature: Literal["judge"] | None = "judge"
    extra: dict[str, Any] = {}
    timeout_seconds: Finite = Field(default=120.0, gt=0)
    price: Price | None = None

    @field_validator("backend")
    @classmethod
    def _exists(cls, backend: str) -> str:
        if backend not in BACKENDS:
            import lm_eval.models  # noqa: F401  (fills the registry)
            from lm_eval.api.registry import model_registry

            if backend not in model_registry:
                raise ValueError(str(unknown_name("backend", backend, [*BACKENDS, *model_registry])))
        return backend

    @model_validator(mode="after")
    def _complete(self) -> ModelConfig:
        if self.remote and self.model is None:
            raise ValueError("backend openai needs 'model', the name that the server knows")
        if not self.remote and self.model is not None:
            raise ValueError(f"backend {self.backend} needs 'path', not 'model'; on a server, write `backend: openai`")
        if not self.remote and self.temperature is None:
            raise ValueError("temperature: null is for models on a server; a local one is drawn from at the judge's")
        if self.base_url is not None and "@" in self.base_url:  # told without the address, which may hold a password
            raise ValueError("base_url must not hold '@': leave user and password out; api_key_env names the key")
        if self.base_url is not None and not self.base_url.startswith(("http://", "https://")):
            raise ValueError(f"base_url '{self.base_url}' must begin with http:// or https://")
        if self.remote and self.path is not None:
            raise ValueError("backend openai has no path; a local model has another backend, such as hf")
        return self

    @property
    def remote(self) -> bool:
        """Whether a server runs it."""
        return self.backend == "openai"


class JudgeConfig(Part):
    """How one judge is asked; what is left out is as for all judges.

    Attributes:
        models: Names under ``models``; several make a panel.
        seats: How often each model judges each answer.
        mode: How a verdict is read: ``marked`` text, a JSON ``schema``, or the ``logprobs`` of the verdict's token.
    """

    models: Annotated[tuple[str, ...] | None, BeforeValidator(_as_list)] = None
    seats: int | None = Field(default=None, gt=0)
    mode: Literal["marked", "schema", "logprobs"] | None = None


class JudgingConfig(Part):
    """Which models the judges with a prompt are put to. May change on a finished run: new verdicts are then owed.

    Attributes:
        models: Names under ``models``; several make a panel; none leaves what needs such a judge unmeasured.
        seats: How often each model judges each answer.
        mode: See `JudgeConfig`.
        judges: Settings of single judges.
        against: The subject that pairwise judges compare with; each item's own reference answer where absent.
        allow_self: Lets a model judge itself; the report says so.
        calibrations: Files that ``harness calibrate`` wrote; they correct rates of the very same judges.
    """

    models: Annotated[tuple[str, ...], BeforeValidator(_as_list)] = ()
    seats: int = Field(default=1, gt=0)
    mode: Literal["marked", "schema", "logprobs"] = "marked"
    judges: dict[str, JudgeConfig] = {}
    against: str | None = None
    allow_self: bool = False
    calibrations: Annotated[tuple[str, ...], BeforeValidator(_as_list)] = ()

    def of(self, judge: str) -> JudgeConfig:
        """The whole settings of one judge."""
        own = self.judges.get(judge, JudgeConfig())
        return JudgeConfig(
            models=self.models if own.models is None else own.models,
            seats=own.seats or self.seats,
            mode=own.mode or self.mode,
        )


class SamplingConfig(Part):
    """How answers are drawn; their length is set by the task, or by ``max_new_tokens`` where there is no task."""

    temperature: Finite = Field(default=0.0, ge=0)
    top_p: Finite = Field(default=1.0, gt=0, le=1)
    seed: int = 0
    max_new_tokens: int = Field(default=256, gt=0)


class PrepareConfig(Part):
    """How mistakes, analyses and revisions are made.

    Attributes:
        sampling: How they are drawn.
        mistake_judge: The judge that says whether an induced response is a mistake, and the label that means it.
        analysis_judge: The judge that reads an analysis's verdict: counted, and filtered on only where
            ``analyses.contradicting`` says so.
        analyses: Which mistakes and analyses are made and kept, by methods that have an analyst.
    """

    sampling: SamplingConfig = SamplingConfig()
    mistake_judge: tuple[str, str]
    analysis_judge: str
    analyses: AnalysisSettings = AnalysisSettings()


class TaskConfig(Part):
    """A task of the run.

    Attributes:
        data: A file, or the name of an entry of ``data``; the task's own default where absent.
        split: ``dev`` while settings are chosen, ``test`` for reporting; only of tasks that have both.
        limit: At most so many samples, the first ones.
        max_new_tokens: Replaces the task's own length.
        judges: Further judges of its answers; each adds a metric of its own name.
    """

    data: str | None = None
    split: str | None = None
    limit: int | None = Field(default=None, gt=0)
    max_new_tokens: int | None = Field(default=None, gt=0)
    judges: tuple[str, ...] = ()


class ClaimConfig(Part):
    """A sentence to test: ``first`` is larger than ``second``, each ``subject.metric``, paired by prompt."""

    name: str
    text: str
    first: str
    second: str


class OverlapConfig(Part):
    """How much of a test may stand among the alignment rows.

    Attributes:
        max_share: Largest share of a task's items, 0–1; more is refused, less is reported.
        near: Least similarity of texts that count as nearly the same (see `harness.rows.overlap`).
    """

    max_share: Finite = Field(default=0.05, ge=0, le=1)
    near: Finite = Field(default=NEAR, gt=0, le=1)


class ThroughputConfig(Part):
    """What changes the speed and never a result.

    Attributes:
        workers: Processes that train and answer side by side; 0 means one a core.
        batch_size: Questions asked of a local model at once.
        max_concurrency: Most requests to a server at once; what it bears is found out below this.
        batch_api: Sends judgments through the provider's Batch API: within a day, at half the price.
        cache: File of the replies of all runs; the user's cache folder where absent.
        budget_usd: What all calls of the run may cost, those of earlier starts included.
        device: ``cpu``, ``cuda`` or ``auto``; another device rounds and draws differently, so keep to one within a run.
    """

    workers: int = Field(default=0, ge=0)
    batch_size: int = Field(default=64, gt=0)
    device: str = "auto"
    max_concurrency: int = Field(default=512, gt=0)
    batch_api: bool = False
    cache: str | None = None
    budget_usd: Finite | None = Field(default=None, ge=0)


class RunConfig(Part):
    """Everything that a run is made from.

    ``threads`` is how many a worker computes with on a CPU; it decides how sums are rounded, and so the results.
    """

    name: str
    description: str = ""
    base: Annotated[tuple[str, ...], BeforeValidator(_as_list)] = ()
    seeds: tuple[int, ...] = (0,)
    templates: str = "paper"
    backend: str = "hf"
    dtype: Literal["float32", "bfloat16", "float16", "auto"] = "float32"
    threads: int = Field(default=1, gt=0)
    models: dict[str, ModelConfig] = {}
    data: dict[str, str | None] = {}
    data_limit: int | None = Field(default=None, gt=0)
    subjects: tuple[SubjectConfig, ...]
    trainer: TrainerSettings
    sampling: SamplingConfig = SamplingConfig()
    prepare: PrepareConfig
    judging: JudgingConfig = JudgingConfig()
    tasks: dict[str, TaskConfig]
    overlap: OverlapConfig = OverlapConfig()
    baselines: tuple[str, ...] = ()
    claims: tuple[ClaimConfig, ...] = ()
    layouts: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    throughput: ThroughputConfig = ThroughputConfig()

    @model_validator(mode="after")
    def _consistent(self) -> RunConfig:
        names = [subject.name for subject in self.subjects]
        if len(set(names)) < len(names):
            raise ValueError(f"two subjects share the name '{next(n for n in names if names.count(n) > 1)}'")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError("seeds: a seed stands there twice")
        if len(self.base) not in (0, 1, len(self.seeds)):
            raise ValueError(f"base: give one for all seeds or one a seed ({len(self.base)} for {len(self.seeds)})")
        for subject in self.subjects:
            self._check_subject(subject, names)
        self._check_judging(names)
        for baseline in self.baselines:
            if baseline not in names:
                raise ValueError(f"baselines: {unknown_name('subject', baseline, names)}")
        return self

    def _check_judging(self, names: list[str]) -> None:
        judging = self.judging
        if judging.against is not None and judging.against not in names:
            raise ValueError(f"judging.against: {unknown_name('subject', judging.against, names)}")
        for model in [*judging.models, *(m for judge in judging.judges.values() for m in judge.models or ())]:
            if model not in self.models:
                raise ValueError(f"judging: {unknown_name('model', model, self.models)}")

    def _check_subject(self, subject: SubjectConfig, names: list[str]) -> None:
        if subject.weights_of is not None and subject.weights_of not in names:
            raise ValueError(f"subjects.{subject.name}: {unknown_name('subject', subject.weights_of, names)}")
        if subject.weights_of is not None and (owner := self.subject(subject.weights_of)).weights_of is not None:
            raise ValueError(f"subjects.{subject.name}: weights_of: '{owner.name}' has no weights of its own")
        try:
            trainer = self.trainer_of(subject)
        except ValidationError as error:
            raise ValueError(f"subjects.{subject.name}.trainer: {told(error, TrainerSettings)}") from None
        if trainer.name not in TRAINERS:
            raise ValueError(str(unknown_name("trainer", trainer.name, TRAINERS)))
        self._check_analyses(subject)
        shared = self.throughput.device != "cpu" or (trainer.launch is not None and trainer.launch.machines > 1)
        if trainer.launch and shared and self.throughput.workers != 1:
            raise ValueError(
                "trainer.launch takes every device (and one port) for itself: set throughput.workers to 1, "
                "or throughput.device to cpu on one machine without GPUs"
            )
        if subject.analyst not in (None, "self", *self.models):
            raise ValueError(f"subjects.{subject.name}: {unknown_name('model', str(subject.analyst), self.models)}")
        if trainer.name == "openai" and "self" in (subject.mistakes, subject.analyst, *method_asks(subject.method)):
            raise ValueError(
                f"subjects.{subject.name}: {subject.method} asks the base itself for training data, and trainer openai "
                "begins from a model on a server: take mistakes: origin, and an analyst under models"
            )

    def _check_analyses(self, subject: SubjectConfig) -> None:
        try:
            analyses = self.analyses_of(subject)
        except ValidationError as error:
            raise ValueError(f"subjects.{subject.name}.analyses: {told(error, AnalysisSettings)}") from None
        if analyses.per_instruction > 1 and self.prepare.sampling.temperature == 0:
            why = "draws differ only where prepare.sampling.temperature is above 0"
            raise ValueError(f"subjects.{subject.name}: analyses.per_instruction: {why}")

    def bases(self) -> dict[int, str]:
        """Seed → the base that its training begins from.

        Raises:
            UserError: The recipe leaves the base to the user, who gave none.
        """
        if not self.base:
            how = "--set base=DIR (a Hugging Face checkpoint folder)"
            raise UserError(f"recipe '{self.name}' needs a base model: {how}")
        paths = self.base if len(self.base) > 1 else self.base * len(self.seeds)
        return dict(zip(self.seeds, paths, strict=True))

    def base_of(self, subject: SubjectConfig, seed: int) -> str:
        """The model that a subject answers with, or that its training begins from."""
        return subject.base or self.bases()[seed]

    def server_of(self, subject: SubjectConfig) -> ModelConfig | None:
        """The server's model that an untrained subject answers with; ``None`` where it is a checkpoint."""
        model = self.models.get(subject.base or "")
        return model if model is not None and model.remote else None

    def subject(self, name: str) -> SubjectConfig:
        """A subject by name."""
        return next(subject for subject in self.subjects if subject.name == name)

    def trainer_of(self, subject: SubjectConfig) -> TrainerSettings:
        """The trainer settings of a subject: the run's with the subject's on top, blocks field by field.

        A subject that says how long it trains (``epochs``, ``steps``, ``tokens``) need not take back what the run says.
        """
        settings = self.trainer.model_dump()
        if LENGTHS & subject.trainer.keys():
            settings = {name: value for name, value in settings.items() if name not in LENGTHS}
        for name, value in subject.trainer.items():
            known = settings.get(name)
            settings[name] = {**known, **value} if isinstance(known, dict) and isinstance(value, dict) else value
        return TrainerSettings.model_validate(settings)

    def analyses_of(self, subject: SubjectConfig) -> AnalysisSettings:
        """Which mistakes and analyses a subject's data are made of; the defaults where its method has no analyst."""
        if "analyst" not in method_needs(subject.method):
            return AnalysisSettings()
        return AnalysisSettings.model_validate({**self.prepare.analyses.model_dump(), **subject.analyses})

    def workers(self) -> int:
        """How many processes to use."""
        return self.throughput.workers or os.cpu_count() or 1


def with_budget(config: RunConfig, budget_usd: float | None) -> RunConfig:
    """The configuration with a budget for this start, where one is given."""
    if budget_usd is None:
        return config
    return config.model_copy(update={"throughput": config.throughput.model_copy(update={"budget_usd": budget_usd})})


def recipe_names() -> list[str]:
    """The built-in recipes."""
    return sorted(path.stem for path in (PACKAGE / "recipes").glob("*.yaml"))


def recipe_path(name_or_path: str) -> Path:
    """A built-in recipe by name, or a YAML file by path."""
    path = PACKAGE / "recipes" / f"{name_or_path}.yaml"
    if path.is_file():
        return path
    if Path(name_or_path).is_file():
        return Path(name_or_path)
    raise unknown_name("recipe", name_or_path, recipe_names())


def load_config(name_or_path: str, overrides: Sequence[str] = ()) -> RunConfig:
    """A recipe with the ``--set`` values on top.

    Args:
        name_or_path: A built-in recipe's name or a YAML file.
        overrides: ``path.to.field=value`` each; the value is read as YAML.

    Raises:
        UserError: Anything in it that is not as it should be.
    """
    path = recipe_path(name_or_path)
    data = _read(path, "name, subjects, trainer, prepare, tasks")
    for override in overrides:
        _apply(data, override)
    if isinstance(data.get("tasks"), dict):  # a task set to null is dropped
        data["tasks"] = {name: task for name, task in data["tasks"].items() if task is not None}
    try:
        config = RunConfig.model_validate(data)
    except ValidationError as error:
        raise UserError(f"{path}: {told(error, RunConfig)}") from None
    if recorded := [subject.name for subject in config.subjects if subject.method == "recorded"]:
        raise UserError(f"{path}: subjects.{recorded[0]}: answers that exist already come in with: harness import")
    return config


def bare_config() -> RunConfig:
    """A configuration with models and judges alone, for judging what belongs to no run."""
    nothing = PrepareConfig(mistake_judge=("none", "none"), analysis_judge="none")
    return RunConfig(name="judging", subjects=(), trainer=TrainerSettings(steps=1), prepare=nothing, tasks={})


REJUDGED = ("models", "judging", "throughput")
"""The blocks that may change on a run whose answers stand."""


def rejudged(config: RunConfig, file: Path | None, overrides: Sequence[str]) -> RunConfig:
    """A run's configuration with other judges.

    Args:
        config: What the run has.
        file: YAML with any of the blocks ``models``, ``judging`` and ``throughput``, each replacing the run's.
        overrides: ``--set`` values within these blocks, or ``tasks.NAME.judges``.

    Raises:
        UserError: Anything that is not as it should be, or would change the answers.
    """
    data = config.model_dump(mode="json")
    given = _read(file, ", ".join(REJUDGED)) if file is not None else {}
    if foreign := [name for name in given if name not in REJUDGED]:
        near = get_close_matches(str(foreign[0]), REJUDGED, n=1)
        hint = f" (did you mean '{near[0]}'?)" if near else ""
        raise UserError(
            f"{file}: {foreign[0]}: only {', '.join(REJUDGED)} may change on a run whose answers stand{hint}"
        )
    data.update(given)
    for override in overrides:
        parts = override.partition("=")[0].split(".")
        if parts[0] not in REJUDGED and not (parts[0] == "tasks" and parts[2:] == ["judges"]):
            raise UserError(f"--set {override}: only {', '.join(REJUDGED)} and tasks.NAME.judges may change here")
        _apply(data, override)
    try:
        return RunConfig.model_validate(data)
    except ValidationError as error:
        raise UserError(f"{file or '--set'}: {told(error, RunConfig)}") from None


def _read(path: Path, needed: str) -> dict[str, Any]:
    """A YAML file of the user's, which must hold something."""
    if path.is_file() and not any(line.partition(b"#")[0].strip() for line in path.read_bytes().splitlines()):
        raise UserError(f"{path}: is empty; a mapping of names to values is needed here ({needed})")
    return read_yaml(path)


def _apply(data: dict[str, Any], override: str) -> None:
    import yaml

    field, equals, value = override.partition("=")
    if not equals or not field:
        raise UserError(f"--set {override}: write it as field=value, such as base=DIR or tasks.vale_helpful.limit=50")
    *parents, last = field.split(".")
    block: Any = data
    for name in parents:
        block = block.setdefault(name, {}) if isinstance(block, dict) else _entry(block, name, field)
        if block is None:
            raise UserError(f"--set {field}: '{name}' holds no fields")
    if not isinstance(block, dict):
        raise UserError(f"--set {field}: '{parents[-1]}' holds no fields")
    try:
        block[last] = yaml.safe_load(value)
    except yaml.YAMLError:
        block[last] = value


def _entry(block: Any, name: str, field: str) -> Any:
    """An entry of a list of named blocks, such as ``subjects.sft``."""
    named = {entry.get("name"): entry for entry in block if isinstance(entry, dict)} if isinstance(block, list) else {}
    if name not in named:
        raise UserError(f"--set {field}: {unknown_name('entry', name, (str(n) for n in named))}")
    return named[name]
