"""A run's whole configuration, and what its blocks say together.

Every field decides the results except those under ``throughput``, which only decide the speed and may change between
one start of a run and the next. Relative paths are relative to the working directory. Unknown fields, unknown names and
contradictions are one-line errors that name the field and the nearest right one.
"""

from __future__ import annotations

import os
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from harness.blocks import (
    ClaimConfig,
    JudgingConfig,
    ModelConfig,
    OverlapConfig,
    Part,
    PrepareConfig,
    SamplingConfig,
    SubjectConfig,
    TaskConfig,
    ThroughputConfig,
    as_list,
)
from harness.errors import UserError, unknown_name
from harness.invalid import told
from harness.methods import AnalysisSettings, method_needs, method_objective
from harness.trainers import TRAINERS, TrainerSettings
from harness.trainers.base import LENGTHS

ALIGNMENT_DATA = ("train", "helpful", "hijack")
"""The entries of ``data`` that training reads, in this order; tasks name further ones."""
PREPARING_JUDGES = {"mistake_judge": "[refusal_rules, answered]", "analysis_judge": "verdict_rules"}
"""The judges that training data may need, and a choice that does without a model."""


class RunConfig(Part):
    """Everything that a run is made from.

    ``threads`` is how many a worker computes with on a CPU; it decides how sums are rounded, and so the results.
    """

    name: str
    description: str = ""
    base: Annotated[tuple[str, ...], BeforeValidator(as_list)] = ()
    seeds: tuple[int, ...] = (0,)
    templates: str = "paper"
    backend: str = "hf"
    dtype: Literal["float32", "bfloat16", "float16", "auto"] = "float32"
    threads: int = Field(default=1, gt=0)
    models: dict[str, ModelConfig] = Field(default_factory=dict)
    data: dict[str, str | None] = Field(default_factory=dict)
    data_limit: int | None = Field(default=None, gt=0)
    subjects: tuple[SubjectConfig, ...]
    trainer: TrainerSettings
    sampling: SamplingConfig = SamplingConfig()
    prepare: PrepareConfig = PrepareConfig()
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
        self._check_prepare()
        self._check_judging(names)
        for baseline in self.baselines:
            if baseline not in names:
                raise ValueError(f"baselines: {unknown_name('subject', baseline, names)}")
        return self

    def _check_prepare(self) -> None:
        needs = {s.name: [j for j in s.preparing_judges if getattr(self.prepare, j) is None] for s in self.subjects}
        needing = [name for name, lacking in needs.items() if lacking]
        missing = [judge for judge in PREPARING_JUDGES if any(judge in lacking for lacking in needs.values())]
        if missing:
            lines = ", ".join(f"{judge}: {PREPARING_JUDGES[judge]}" for judge in missing)
            raise ValueError(
                f"prepare: {' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing, without which the "
                f"training data of {', '.join(needing)} cannot be made; by rules that ask no model (others: harness "
                f"list judges): prepare: {{{lines}}}"
            )

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
        optimises = subject.weights_of is None and method_objective(subject.method) == "rlhf"
        if optimises and trainer.name == "trl" and (wrong := trainer.rlhf_problem()):
            raise ValueError(f"subjects.{subject.name}.trainer.{wrong}")
        self._check_analyses(subject)
        shared = self.throughput.device != "cpu" or (trainer.launch is not None and trainer.launch.machines > 1)
        if trainer.launch and shared and self.throughput.workers != 1:
            raise ValueError(
                "trainer.launch takes every device (and one port) for itself: set throughput.workers to 1, "
                "or throughput.device to cpu on one machine without GPUs"
            )
        if subject.analyst not in (None, "self", *self.models):
            raise ValueError(f"subjects.{subject.name}: {unknown_name('model', str(subject.analyst), self.models)}")
        if trainer.name == "openai" and subject.asks_base:
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
