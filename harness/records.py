"""The records that every stage reads and appends, and the keys that identify them.

A record is frozen, rejects unknown fields and non-finite numbers, and carries a schema version. Its key is the SHA-256
of exactly the content that makes it what it is, so that resuming is a set difference and two runs are compared by
pairing on equal keys. "Not measured" is a value of a closed enum, never a number. Imports nothing of ours.
"""

from __future__ import annotations

import hashlib
import json
from enum import StrEnum
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

Finite = Annotated[float, Field(allow_inf_nan=False)]
Role = Literal["user", "input", "assistant", "critique"]
Style = Literal["ordinary", "guided_harmless", "guided_harmful", "guided_analysis", "unguided_analysis", "revision"]


_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def content_hash(content: Any) -> str:
    """SHA-256 (hex, 64 characters) of a JSON value in canonical form: sorted keys, no spaces, UTF-8."""
    return hashlib.sha256(_CANONICAL.encode(content).encode("utf-8", "surrogatepass")).hexdigest()


class Record(BaseModel):
    """A frozen value with a schema version; subclasses name the fields that identify it."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    schema_version: Literal[1] = 1

    def to_line(self) -> str:
        """The record as one line of JSON, newline included; equal records give equal bytes."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


class Message(BaseModel):
    """One turn. ``input`` is Alpaca's second field, ``critique`` an analysis of the turn before it."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    role: Role
    content: str


class Sample(Record):
    """One frozen test item.

    Attributes:
        task: Name of the task that it belongs to.
        task_version: Version of that task.
        messages: What is asked, in order; an analysis sample also holds the answer to be analysed.
        style: How the messages become a prompt; ``None`` leaves it to the model that is asked.
        choices: Labels whose likelihood is compared; empty where the model writes freely.
        target: The right label of a classification sample, else ``None``.
        labels: Facts about the item that judges may read (never shown to a model).
        cluster: Items that share it are not independent (a plant, a red-team prompt, a document).
        source: Where the item came from, such as ``"test.jsonl:17"``; not part of the key.
    """

    task: str
    task_version: str
    messages: tuple[Message, ...]
    style: Style | None = None
    choices: tuple[str, ...] = ()
    target: str | None = None
    labels: dict[str, JsonValue] = {}
    cluster: str | None = None
    source: str | None = None

    @cached_property
    def key(self) -> str:
        """SHA-256 of everything but the source."""
        return content_hash(self.model_dump(mode="json", exclude={"source", "schema_version"}))


class Decoding(BaseModel):
    """How text is drawn from a model. ``temperature`` 0 is greedy; ``seed`` makes sampling repeatable."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    max_new_tokens: int = Field(default=256, gt=0)
    temperature: Finite = Field(default=0.0, ge=0)
    top_p: Finite = Field(default=1.0, gt=0, le=1)
    stop: tuple[str, ...] = ()
    seed: int = 0


class ModelSpec(Record):
    """Everything about a model that can change an answer, and nothing that only changes the speed.

    Attributes:
        backend: What runs it: ``hf``, ``vllm``, another lm-eval model, ``scripted``, ``recorded`` or an oracle.
        weights: SHA-256 over the weight, tokenizer and configuration files, or the served name of a remote model.
        templates: SHA-256 of the template set that renders its prompts.
        style: The prompt it answers with when a sample does not say.
        decoding: How its text is drawn.
    """

    backend: str
    weights: str
    templates: str
    style: Style = "ordinary"
    decoding: Decoding = Decoding()

    @cached_property
    def key(self) -> str:
        """SHA-256 of all fields."""
        return content_hash(self.model_dump(mode="json", exclude={"schema_version"}))


class CompletionOutcome(StrEnum):
    """What became of one question to a model. Only ``ok``, ``empty`` and ``truncated`` are judged."""

    OK = "ok"
    EMPTY = "empty"
    TRUNCATED = "truncated"
    FILTERED = "filtered"
    ERROR = "error"


JUDGED = frozenset({CompletionOutcome.OK, CompletionOutcome.EMPTY, CompletionOutcome.TRUNCATED})


class Completion(Record):
    """A model's answer to one sample.

    Attributes:
        sample_key: Key of the sample.
        model_key: Key of the model that answered.
        repeat: 0, 1, … where a sample is asked several times.
        outcome: What became of the question.
        text: The answer; of a choice sample the most likely label. Empty unless the outcome is judged.
        logprobs: Of a choice sample, the log-likelihood (nats) of each label.
        prompt_truncated: The prompt did not fit the model's context and lost its beginning.
        detail: What went wrong, in one line, where something did.
    """

    sample_key: str
    model_key: str
    repeat: int = Field(default=0, ge=0)
    outcome: CompletionOutcome
    text: str = ""
    logprobs: dict[str, Finite] | None = None
    prompt_truncated: bool = False
    detail: str | None = None

    @cached_property
    def key(self) -> str:
        """SHA-256 of sample, model and repeat: what was asked, not what came back."""
        return content_hash([self.sample_key, self.model_key, self.repeat])

    @property
    def final(self) -> bool:
        """True when asking again would be paying twice; an error is owed again."""
        return self.outcome is not CompletionOutcome.ERROR

    @cached_property
    def text_hash(self) -> str:
        """SHA-256 of what a judge sees."""
        return content_hash([self.outcome, self.text, self.logprobs])


class JudgeSpec(Record):
    """A judge's identity: change a comma of its prompt or its rule and its verdicts are owed again.

    Attributes:
        name: Name of the judge's folder.
        version: Version that its folder declares.
        content: SHA-256 over its prompt, scale, labels, parser, and the source of its rule.
        model_key: Key of the model behind it, ``None`` for a rule.
    """

    name: str
    version: str
    content: str
    model_key: str | None = None

    @cached_property
    def key(self) -> str:
        """SHA-256 of all fields."""
        return content_hash(self.model_dump(mode="json", exclude={"schema_version"}))


class VerdictOutcome(StrEnum):
    """What became of one judgment. Only ``ok`` carries a label or a score."""

    OK = "ok"
    UNPARSED = "unparsed"
    REFUSED = "refused"
    FILTERED = "filtered"
    ERROR = "error"
    SKIPPED = "skipped"


class Verdict(Record):
    """One judgment of one completion.

    Attributes:
        completion_key: Key of the completion judged.
        text_hash: Hash of the text that was judged.
        judge_key: Key of the judge.
        seat: 0, 1, … where one judge is asked several times.
        outcome: What became of the judgment.
        label: The verdict of a labelling judge.
        score: The verdict of a scoring judge, on its own scale.
        reason: Why, in the judge's words.
        raw: The judge's whole reply, kept so that parsing can be applied again.
        call: Key of the request to the judge's model that gave it (see `Call`), ``None`` where no model was asked.
    """

    completion_key: str
    text_hash: str
    judge_key: str
    seat: int = Field(default=0, ge=0)
    outcome: VerdictOutcome
    label: str | None = None
    score: Finite | None = None
    reason: str = ""
    raw: str | None = None
    call: str | None = None

    @model_validator(mode="after")
    def _only_ok_measures(self) -> Verdict:
        measured = self.label is not None or self.score is not None
        if measured != (self.outcome is VerdictOutcome.OK):
            raise ValueError("a verdict carries a label or a score exactly when its outcome is ok")
        return self

    @cached_property
    def key(self) -> str:
        """SHA-256 of what was judged, by whom, in which seat."""
        return content_hash([self.completion_key, self.text_hash, self.judge_key, self.seat])

    @property
    def final(self) -> bool:
        """True when judging again would be paying twice; an error is owed again."""
        return self.outcome is not VerdictOutcome.ERROR


class Call(Record):
    """One request to a remote model and what it was billed: a line of ``calls.jsonl``, the run's ledger.

    Attributes:
        key: SHA-256 of everything on the wire.
        role: What it was for: a judge's or a subject's name.
        model: The model that was asked for.
        served_model: The model that the server says answered.
        outcome: ``ok``, ``truncated``, ``refused``, ``filtered``, ``error``, or ``stored`` (from the cache, unpaid).
        n_attempts: Requests sent, those that failed included.
        input_tokens: Billed; ``None`` where the server did not say, and so for the next two.
        cached_tokens: The part of the input that the provider's prompt cache served.
        output_tokens: Billed.
        cost_usd: By the price table; ``None`` where tokens or price are not known.
        reckoned_usd: What a budget charged for it, in all, where the cost is not wholly known.
        seconds: From the first attempt to the reply.
        finished_at: UTC time, ISO 8601.
        batched: Sent through the Batch API.
        detail: What went wrong, or what the server ignored.
    """

    key: str
    role: str
    model: str
    served_model: str | None = None
    outcome: Literal["ok", "truncated", "refused", "filtered", "error", "stored"]
    n_attempts: int = Field(ge=0)
    input_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int | None = None
    cost_usd: Finite | None = None
    reckoned_usd: Finite | None = None
    seconds: Finite = 0.0
    finished_at: str
    batched: bool = False
    detail: str | None = None


class TrainingRecord(Record):
    """One training pair: the loss falls on the completion alone.

    Attributes:
        prompt: What the model reads.
        completion: What it learns to write (the end-of-text token is the trainer's to add).
        kind: What the pair teaches, such as ``response``, ``analysis``, ``revision`` or ``hindsight``.
        source: Key of the alignment row behind it.
    """

    prompt: str
    completion: str
    kind: str
    source: str


class Checkpoint(Record):
    """What training produced, with its provenance.

    Attributes:
        recipe: SHA-256 of method and training settings.
        data: SHA-256 of the training records, in order.
        base: Weights hash of the model that training began from.
        seed: Training seed.
        weights: Weights hash of the result (see `ModelSpec.weights`).
        path: Folder of the result, relative to the run directory.
        metrics: What the trainer measured: steps, tokens, first and last loss.
    """

    recipe: str
    data: str
    base: str
    seed: int
    weights: str
    path: str
    metrics: dict[str, Finite] = {}

    @cached_property
    def key(self) -> str:
        """SHA-256 of recipe, data, base and seed: what was trained, not what came out."""
        return content_hash([self.recipe, self.data, self.base, self.seed])


class Cell(Record):
    """Which model answered a task for a subject and seed: the link from completions to the rows of the tables.

    Attributes:
        subject: Name of the subject.
        seed: Training seed.
        task: Name of the task.
        model: Identity of the model, whose key the completions carry.
        checkpoint: Key of the checkpoint, ``None`` for a model that was not trained here.
    """

    subject: str
    seed: int
    task: str
    model: ModelSpec
    checkpoint: str | None = None

    @cached_property
    def key(self) -> str:
        """SHA-256 of subject, seed and task; the latest record of a cell counts."""
        return content_hash([self.subject, self.seed, self.task])

    @property
    def final(self) -> bool:
        """A cell never fails."""
        return True
