"""What a run would do, what it would cost and what it could detect, before it is run. Reads a plan, writes nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from harness.blocks import ModelConfig, SubjectConfig
from harness.clients.forecast import Range, estimate_prompt, forecast_cost
from harness.clients.prices import Price
from harness.config import RunConfig
from harness.judging import Judge, JudgeItem
from harness.judging.prompt_judge import PromptJudge
from harness.methods import method_objective
from harness.methods.base import response_record, row_sample
from harness.prompting import rendered
from harness.records import Completion, CompletionOutcome, Sample
from harness.stages.feasible import missing_programs
from harness.stages.judge_models import price_of_model
from harness.stages.plan import Plan, trained_subjects
from harness.stages.self_judging import family_notes
from harness.stats.power import (
    detectable_rate_difference,
    detectable_score_difference,
    detectable_unpaired_rate,
    needed_items_paired_rate,
    needed_items_unpaired_rate,
    over_seeds_factor,
)
from harness.trainers.external_settings import OpenAISettings

REPLY_TOKENS = Range(30, 120, 400)
"""Tokens of a judge's reply: a sentence or two and a verdict; never more than the judge allows."""
ADVISED_SEEDS = 5
"""So many tell a difference from chance better than one seed does; two or three do not."""
N_RENDERED = 50
"""Samples whose prompts are rendered to learn how long they are."""


def forecast(plan: Plan, include_paths: Sequence[Path] = ()) -> dict[str, Any]:
    """Upper bounds of the work by role, its cost, and the smallest differences that one seed's items can show."""
    config = plan.config
    paid = list(_paid(plan, include_paths))
    seeds, subjects = len(config.seeds), len(config.subjects)
    answers = {name: len(task.samples) * subjects * seeds for name, task in plan.tasks.items()}
    verdicts = {
        name: answers[name] * sum(m.n_seats for judge in task.spec.judges for m in plan.judges.members(judge))
        for name, task in plan.tasks.items()
    }
    return {
        "run": config.name,
        "seeds": list(config.seeds),
        "subjects": [subject.name for subject in config.subjects],
        "calls": {
            "preparing": sum(_preparing(plan, s.name) for s in trained_subjects(config)) * seeds,
            "answers": sum(answers.values()),
            "verdicts": sum(verdicts.values()),
        },
        "training_steps": _all_steps(plan),
        "paid": paid,
        "cost_usd": total(paid),
        "tasks": [_task(plan, name) for name in plan.tasks],
        "items_for_five_points": {
            "paired": needed_items_paired_rate(0.05),
            "unpaired": needed_items_unpaired_rate(0.475, 0.525),
        },
        "dropped": {name: data.dropped for name, data in plan.rows.items() if data.dropped},
        "caveats": [*_seeds_notes(seeds), *family_notes(config, plan.manifest), *missing_programs(config)],
    }


def _seeds_notes(n_seeds: int) -> list[str]:
    """What several seeds do to the smallest difference, and that few have little power."""
    if n_seeds < 2:
        return []
    factor, advised = over_seeds_factor(n_seeds), over_seeds_factor(ADVISED_SEEDS)
    found = [
        f"Over {n_seeds} seeds a difference has to stand against their spread too (t, {n_seeds - 1} df): where "
        f"trainings differ by chance alone, the smallest is {factor:.2g} times that of one seed, else more."
    ]
    if n_seeds < ADVISED_SEEDS:
        found.append(f"{n_seeds} seeds have little power: {ADVISED_SEEDS} find {advised:.2g} times that of one seed.")
    return found


def _paid(plan: Plan, include_paths: Sequence[Path]) -> Iterator[dict[str, Any]]:
    """For each role and each server's model that it asks: calls, tokens and cost, each low, middle and high."""
    config = plan.config
    yield from _served(plan, include_paths)
    for subject in trained_subjects(config):
        if subject.analyst is not None and subject.analyst in config.models and config.models[subject.analyst].remote:
            yield _analyst(plan, subject, include_paths)
    for name, n_answers in _judged_while_preparing(plan).items():
        for model, judge in zip(config.judging.of(name).models or (), plan.judges.members(name), strict=False):
            if n_answers and config.models[model].remote and isinstance(judge, PromptJudge):
                rows = [row for subject in trained_subjects(config) for row in plan.rows[subject.name].rows]
                samples = [row_sample(row, "induce", "guided_harmful") for row in rows if row.kind != "benign"]
                read = _tokens_read(judge, samples, config.prepare.sampling.max_new_tokens)
                role = f"{name}, training data"
                yield priced(config, role, model, n_answers, read, _tokens_written(judge), include_paths)
    for name in dict.fromkeys(judge for task in plan.tasks.values() for judge in task.spec.judges):
        for model, judge in zip(config.judging.of(name).models or (), plan.judges.members(name), strict=False):
            if config.models[model].remote and isinstance(judge, PromptJudge):
                yield _judge(plan, name, model, judge, include_paths)


def _served(plan: Plan, include_paths: Sequence[Path]) -> Iterator[dict[str, Any]]:
    """Training at a fine-tuning service, and the answers of models that a server runs."""
    config, seeds = plan.config, len(plan.config.seeds)
    for subject in trained_subjects(config):
        if config.trainer_of(subject).openai is not None:
            yield _fine_tuning(plan, subject)
    for subject in config.subjects:
        owner = config.subject(subject.weights_of or subject.name)
        service = config.trainer_of(owner).openai if owner in trained_subjects(config) else None
        model = config.server_of(owner) if service is None else _model_of(service)
        if model is None:
            continue
        price = price_of_model(model, include_paths)
        if service is not None and price is not None and not price.free:
            price = None  # a fine-tuned model has a price of its own
        for name, task in plan.tasks.items():
            style = task.spec.style or subject.answer_style
            chosen = task.samples[:: max(1, len(task.samples) // N_RENDERED)]
            read = _mean([estimate_prompt((("user", "".join(rendered(s, plan.templates, style))),)) for s in chosen])
            longest = _longest(plan, name)
            written = Range(0.1 * longest, 0.4 * longest, longest)
            n_calls = len(task.samples) * seeds
            yield bill(config, f"{subject.name}, {name}", model.model or "", n_calls, read, written, price)


def _model_of(service: OpenAISettings) -> ModelConfig:
    return ModelConfig(backend="openai", **service.model_dump(include={"model", "base_url", "api_key_env"}))


def _fine_tuning(plan: Plan, subject: SubjectConfig) -> dict[str, Any]:
    """A training at a service, if every row gives its records: each of their tokens is billed in each epoch."""
    settings, rows = plan.config.trainer_of(subject), plan.rows[subject.name].rows
    assert settings.openai is not None
    pairs = method_objective(subject.method) != "sft"
    answers = [(row, text) for row in rows for text in ((row.good, row.bad) if pairs else (row.good or row.bad,))]
    made = [response_record(row, plan.templates, "ordinary", text or "", "response") for row, text in answers]
    read = [estimate_prompt((("user", one.prompt), ("assistant", one.completion))) for one in made]
    longest, asked = plan.config.prepare.sampling.max_new_tokens, _mean(read)
    analysis = Range(asked.low + 0.2 * longest, asked.mid + 0.6 * longest, asked.high + longest)
    per_record = _mean([*read, *[analysis] * _learned(plan, subject)])
    per_record = Range(*((settings.epochs or 1) * each for each in per_record))
    usd = settings.openai.price
    price = (
        None
        if usd is None
        else Price(input=usd, output=0.0, batch_discount=1.0, note="trained tokens, as the recipe says")
    )
    role, model = f"training {subject.name}", settings.openai.model
    n_records = (len(read) + _learned(plan, subject)) * len(plan.config.seeds)
    return bill(plan.config, role, model, n_records, per_record, Range(0, 0, 0), price)


def _mean(ranges: Sequence[Range]) -> Range:
    return Range(*(sum(r[i] for r in ranges) / max(1, len(ranges)) for i in range(3)))


def _judge(plan: Plan, name: str, model: str, judge: PromptJudge, include_paths: Sequence[Path]) -> dict[str, Any]:
    config = plan.config
    tasks = [task for task in plan.tasks.values() if name in task.spec.judges]
    n_answers = sum(len(task.samples) for task in tasks) * len(config.subjects) * len(config.seeds)
    n_calls = n_answers * (2 if judge.pairwise else 1)
    samples = [sample for task in tasks for sample in task.samples]
    read = _tokens_read(judge, samples, max(_longest(plan, task.spec.name) for task in tasks))
    return priced(plan.config, name, model, n_calls, read, _tokens_written(judge), include_paths)


def _tokens_written(judge: PromptJudge) -> Range:
    """Tokens of all the choices of a reply."""
    n_choices = judge.n_seats / (2 if judge.pairwise else 1)
    return Range(*(min(tokens, judge.file.max_tokens) * n_choices for tokens in REPLY_TOKENS))


def _judged_while_preparing(plan: Plan) -> dict[str, int]:
    """Judge → answers that it judges while training data is made, if every row triggers; equal ones count once."""
    prepare, seeds = plan.config.prepare, len(plan.config.seeds)
    asked = [_asked(plan, subject) for subject in trained_subjects(plan.config)]
    mistakes = max((one.mistakes for one in asked), default=0) + sum(one.revisions for one in asked)
    counts: Counter[str] = Counter()
    if prepare.mistake_judge is not None:
        counts[prepare.mistake_judge[0]] += mistakes * seeds
    if prepare.analysis_judge is not None:
        counts[prepare.analysis_judge] += sum(one.analyses for one in asked) * seeds
    return dict(counts)


class _Asked(NamedTuple):
    """What a subject's training data ask of models for one seed, if every row triggers."""

    mistakes: int
    analyses: int
    revisions: int


def _asked(plan: Plan, subject: SubjectConfig) -> _Asked:
    settings, rows = plan.config.analyses_of(subject), plan.rows[subject.name].rows
    n_bad, n_good = sum(row.kind != "benign" for row in rows), sum(bool(row.good) for row in rows)
    mistakes = n_bad if subject.mistakes == "self" else 0
    if subject.method == "critique_revise":
        return _Asked(mistakes, n_bad, n_bad)
    if subject.method != "mistake_analysis":
        return _Asked(mistakes, 0, 0)
    draws = settings.per_instruction
    return _Asked(draws * mistakes, draws * (n_bad + (n_good if settings.harmless_share else 0)), 0)


def _learned(plan: Plan, subject: SubjectConfig) -> int:
    """Analyses that a subject learns from, if none is dropped."""
    settings, rows = plan.config.analyses_of(subject), plan.rows[subject.name].rows
    if subject.method != "mistake_analysis":
        return 0
    of_mistakes = settings.per_instruction * sum(row.kind != "benign" for row in rows)
    most = settings.n_of_mistakes(sum(bool(row.good) for row in rows))
    of_mistakes = of_mistakes if most is None else min(of_mistakes, most)
    return of_mistakes + settings.n_of_good(of_mistakes)


def _analyst(plan: Plan, subject: SubjectConfig, include_paths: Sequence[Path]) -> dict[str, Any]:
    """Analyses of mistakes by a model on a server, if every row has one."""
    rows = [row for row in plan.rows[subject.name].rows if row.kind != "benign"]
    wording = plan.templates.guided_analysis
    read = _mean([estimate_prompt((("user", f"{wording}{row.instruction}{row.bad or row.good}"),)) for row in rows])
    longest = plan.config.prepare.sampling.max_new_tokens
    written = Range(0.2 * longest, 0.6 * longest, longest)
    n_calls = _asked(plan, subject).analyses * len(plan.config.seeds)
    return priced(
        plan.config, f"analyses for {subject.name}", subject.analyst or "", n_calls, read, written, include_paths
    )


def priced(
    config: RunConfig, role: str, name: str, n_calls: int, read: Range, written: Range, include_paths: Sequence[Path]
) -> dict[str, Any]:
    """A role's calls of one model: tokens and cost of all of them, each low, middle and high.

    Args:
        config: The configuration.
        role: What is asked for.
        name: The model, under ``models``.
        n_calls: How many calls.
        read: Input tokens of one, on average.
        written: Output tokens of one, on average.
        include_paths: Further content folders, for a price table of the user's.
    """
    return bill(config, role, name, n_calls, read, written, price_of_model(config.models[name], include_paths))


def bill(
    config: RunConfig, role: str, name: str, n_calls: int, read: Range, written: Range, price: Price | None
) -> dict[str, Any]:
    """What `priced` gives, at a price that is known, or not."""
    cost = forecast_cost(n_calls, read, written, price, batched=config.throughput.batch_api)
    return {
        "role": role,
        "model": name,
        "calls": n_calls,
        "input_tokens": [round(n_calls * tokens) for tokens in read],
        "output_tokens": [round(n_calls * tokens) for tokens in written],
        "cost_usd": None if cost is None else [round(usd, 4) for usd in cost],
        "price": None if price is None else price.note,
    }


def _longest(plan: Plan, task: str) -> int:
    """Tokens that an answer may have."""
    return plan.config.tasks[task].max_new_tokens or plan.tasks[task].spec.max_new_tokens or 0


def _tokens_read(judge: PromptJudge, samples: Sequence[Sample], longest: int) -> Range:
    """Tokens of a question to a judge, on average: its prompt about some samples, and answers of unknown length."""
    chosen = samples[:: max(1, len(samples) // N_RENDERED)]
    ranges = [estimate_prompt(judge.request(_empty(judge, sample), (0,)).messages) for sample in chosen]
    answer = Range(0.1 * longest, 0.4 * longest, longest)
    n_answers = 2 if judge.pairwise else 1
    return Range(*(sum(r[i] for r in ranges) / len(ranges) + n_answers * answer[i] for i in range(3)))


def _empty(judge: Judge, sample: Sample) -> JudgeItem:
    answer = Completion(sample_key=sample.key, model_key="", outcome=CompletionOutcome.EMPTY)
    return JudgeItem(sample, answer, reference=answer if judge.pairwise else None)


def total(paid: Sequence[dict[str, Any]]) -> list[float] | None:
    """Cost of all of them, low, middle and high; ``None`` where one has no price."""
    if any(one["cost_usd"] is None for one in paid):
        return None
    return [round(sum(one["cost_usd"][i] for one in paid), 2) for i in range(3)]


def _preparing(plan: Plan, name: str) -> int:
    """Questions to make a subject's data, if every row triggers; shared ones are asked once but counted here twice."""
    return sum(_asked(plan, plan.config.subject(name)))


def _all_steps(plan: Plan) -> int | None:
    """Of all trainings; ``None`` where one has a budget of tokens, which is steps once its records are tokens."""
    subjects = trained_subjects(plan.config)
    budgets = [s for s in subjects if plan.config.trainer_of(s).tokens and method_objective(s.method) != "rlhf"]
    return None if budgets else sum(_steps(plan, s.name) for s in subjects) * len(plan.config.seeds)


def _steps(plan: Plan, name: str) -> int:
    subject = plan.config.subject(name)
    rows = plan.rows[name].rows
    objective = method_objective(subject.method)
    if objective == "sft":
        kinds = {"response": len(rows) + _learned(plan, subject)}
    else:
        kinds = {"chosen": len(rows), "rejected": len(rows)}
    return plan.config.trainer_of(subject).all_steps(objective, kinds)


def _task(plan: Plan, name: str) -> dict[str, Any]:
    task = plan.tasks[name]
    n_items = len(task.samples)
    n_clusters = len({sample.cluster or sample.key for sample in task.samples})
    return {
        "task": name,
        "n_items": n_items,
        "n_clusters": n_clusters,
        "metrics": [metric.name for metric in task.spec.metrics],
        "detectable_rate_difference": round(detectable_rate_difference(n_items), 4),
        "detectable_unpaired_rate_difference": round(detectable_unpaired_rate(n_items, 0.5), 4),
        "detectable_score_difference": round(detectable_score_difference(n_items, sd=3.0), 3),
        "dropped": task.dropped,
    }
