"""The blocks of a run's configuration: subjects, models, judges, preparation, tasks, claims, overlap, speed.

Each is frozen, knows all of its fields and refuses unknown ones. What concerns several blocks at once is checked by
:class:`harness.config.RunConfig`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from harness.clients.prices import Price
from harness.errors import unknown_name
from harness.methods import METHODS, AnalysisSettings, method_asks, method_needs, method_style, method_trains
from harness.records import Finite, Style
from harness.rows.overlap import NEAR


def as_list(value: Any) -> Any:
    """One name where several may stand."""
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

    @property
    def preparing_judges(self) -> list[str]:
        """The fields of ``prepare`` that name the judges which its training data need."""
        if not method_trains(self.method) or self.weights_of is not None:
            return []
        asks = bool(method_asks(self.method))  # for critiques and revisions, whatever the recipe chooses
        needed = {"mistake_judge": asks or self.mistakes == "self", "analysis_judge": asks or self.analyst is not None}
        return [name for name, is_needed in needed.items() if is_needed]

    @property
    def asks_base(self) -> bool:
        """Whether the model itself is asked for training data."""
        return "self" in (self.mistakes, self.analyst, *method_asks(self.method))


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

    models: Annotated[tuple[str, ...] | None, BeforeValidator(as_list)] = None
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

    models: Annotated[tuple[str, ...], BeforeValidator(as_list)] = ()
    seats: int = Field(default=1, gt=0)
    mode: Literal["marked", "schema", "logprobs"] = "marked"
    judges: dict[str, JudgeConfig] = {}
    against: str | None = None
    allow_self: bool = False
    calibrations: Annotated[tuple[str, ...], BeforeValidator(as_list)] = ()

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
    """How mistakes, analyses and revisions are made; a run without any leaves the judges out.

    Attributes:
        sampling: How they are drawn.
        mistake_judge: The judge that says whether an induced response is a mistake, and the label that means it.
        analysis_judge: The judge that reads an analysis's verdict: counted, and filtered on only where
            ``analyses.contradicting`` says so.
        analyses: Which mistakes and analyses are made and kept, by methods that have an analyst.
    """

    sampling: SamplingConfig = SamplingConfig()
    mistake_judge: tuple[str, str] | None = None
    analysis_judge: str | None = None
    analyses: AnalysisSettings = AnalysisSettings()

    @property
    def judges(self) -> list[str]:
        """The judges that are given."""
        named = (self.mistake_judge and self.mistake_judge[0], self.analysis_judge)
        return [name for name in named if name is not None]


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
