"""What a table or a figure looks like: one YAML file, validated, and the published numbers beside it.

Reads ``layouts/<name>.yaml``, ``published/<paper>.yaml`` and ``metrics.yaml`` of a content folder. Whatever is wrong in
one of them is a `UserError` of one line: the file, the field, and the nearest name that would have been right. An
unknown published number is ``null`` there; it is never guessed.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from harness.content import find, named, read_yaml, roots
from harness.errors import UserError, unknown_name
from harness.records import Finite, Style
from harness.scores import SubjectInfo

Group = Literal["label", "method", "mistakes", "analysis"]
Unit = Literal["percent", "plain"]
Kind = Literal["table", "bars", "scatter", "categories", "distribution", "seeds", "reliability"]
TABLES = ("table", "bars")
"""The kinds that make a table; ``bars`` makes a figure as well, and all others make a figure alone."""
N_METRICS = {"scatter": (2, 2), "categories": (1, 1), "distribution": (1, 4), "seeds": (1, 6)}
"""Fewest and most metrics that a figure can show."""
STRONGER = "stronger"
"""Any analyst but the model itself."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SubjectFilter(_Part):
    """Which subjects a row takes; a field that is left out takes all.

    Attributes:
        subject: Name or pattern (``*``, ``?``) of the subject.
        method: Name of its method.
        mistakes: Where its mistakes came from.
        analysis: Who analysed them: ``self``, a model's name, or ``stronger``.
        style: The prompt that it answers with.
    """

    subject: str | None = None
    method: str | None = None
    mistakes: str | None = None
    analysis: str | None = None
    style: Style | None = None

    def takes(self, subject: SubjectInfo) -> bool:
        """True when the subject fits every field that was given."""
        return (
            (self.subject is None or fnmatchcase(subject.name, self.subject))
            and self.method in (None, subject.method)
            and self.mistakes in (None, subject.mistakes)
            and self.analysis in (None, subject.analysis, analyst(subject))
            and self.style in (None, subject.style)
        )


class Column(_Part):
    """One metric: its heading if not the metric's own label, its unit and its digits."""

    metric: str
    label: str | None = None
    unit: Unit = "plain"
    digits: int = Field(default=2, ge=0, le=6)


class PublishedReference(_Part):
    """A table of a published paper."""

    paper: str
    table: str


class Layout(_Part):
    """One table, or one figure.

    Attributes:
        title: Heading.
        kind: ``table``; ``bars``, a table with grouped bars; ``scatter``, the first metric across, the second
            up; ``categories``, one metric by a label of the samples; ``distribution``, histograms of item values;
            ``seeds``, every training seed by itself; ``reliability``, the judges, which needs no rows and columns.
        caption: What is compared, in one sentence.
        by: Of ``categories``: the sample's label whose values are the categories.
        baseline: The subject that bracketed differences are to.
        groups: Leading columns.
        published: Published numbers to print beside the measured ones.
        exclude: Patterns of subject names that no row takes.
        rows: Filters, in order; a subject stands where the first one takes it.
        columns: Metrics, in order.
        note: More to know, under the table.
    """

    title: str
    kind: Kind = "table"
    caption: str
    by: str | None = None
    baseline: SubjectFilter | None = None
    groups: tuple[Group, ...] = Field(default=("label",), min_length=1)
    published: PublishedReference | None = None
    exclude: tuple[str, ...] = ()
    rows: tuple[SubjectFilter, ...] = ()
    columns: tuple[Column, ...] = ()
    note: str = ""

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Layout:
        if self.kind == "reliability":
            return self
        for field in ("rows", "columns"):
            if not getattr(self, field):
                raise ValueError(f"{field}: at least one is needed")
        fewest, most = N_METRICS.get(self.kind, (1, len(self.columns)))
        if not fewest <= len(self.columns) <= most:
            wanted = f"{fewest}" if fewest == most else f"{fewest} to {most}"
            raise ValueError(f"columns: kind '{self.kind}' takes {wanted}, not {len(self.columns)}")
        if self.kind == "bars" and len({column.unit for column in self.columns}) > 1:
            raise ValueError("columns: kind 'bars' draws one axis, so all need the same unit")
        if (self.by is not None) != (self.kind == "categories"):
            raise ValueError("by: names the sample's label that kind 'categories' needs, and no other kind takes it")
        return self

    def subjects(self, known: Collection[SubjectInfo]) -> list[SubjectInfo]:
        """The subjects of the table in row order, each once."""
        open_to_rows = [one for one in known if not any(fnmatchcase(one.name, pattern) for pattern in self.exclude)]
        chosen: dict[str, SubjectInfo] = {}
        for row in self.rows:
            chosen.update({one.name: one for one in open_to_rows if row.takes(one) and one.name not in chosen})
        return list(chosen.values())


class PublishedRow(SubjectFilter):
    """A published row: which subjects it is the counterpart of, and its numbers as printed; ``None`` is unknown."""

    values: dict[str, Finite | None]


class PublishedTable(_Part):
    """A published table, its setting and the row that its differences are to."""

    setting: str
    baseline: SubjectFilter
    rows: tuple[PublishedRow, ...]


class PublishedPaper(_Part):
    """``published/<paper>.yaml``."""

    source: str
    tables: dict[str, PublishedTable]


Model = TypeVar("Model", bound=BaseModel)


def analyst(subject: SubjectInfo) -> str | None:
    """The analysis source as layouts and published rows name it: ``self``, ``stronger`` or none."""
    return subject.analysis if subject.analysis in (None, "self") else STRONGER


def layout_path(layout: str | Path, include_paths: Sequence[Path] = ()) -> Path:
    """The file of a layout that is named (``discrimination``) or given as the path of a YAML file.

    Raises:
        UserError: There is no such layout.
    """
    path = Path(layout)
    if path.suffix not in (".yaml", ".yml"):
        return named("reports", "report layout", str(layout), "layouts/*.yaml", include_paths)
    if not path.is_file():
        raise UserError(f"{path}: no such report layout")
    return path


def layout_names(include_paths: Sequence[Path] = ()) -> list[str]:
    """Names of all layouts, sorted."""
    return sorted(find("reports", "layouts/*.yaml", include_paths))


def load_layout(layout: str | Path, include_paths: Sequence[Path] = (), run_metrics: Collection[str] = ()) -> Layout:
    """Reads and checks a layout and the published table that it refers to.

    Args:
        layout: Its name, or the path of a YAML file.
        include_paths: The user's content folders.
        run_metrics: Metrics that the run has, known besides those of ``metrics.yaml``.

    Raises:
        UserError: The file is no layout, or names a metric or a published table that nobody knows.
    """
    path = layout_path(layout, include_paths)
    found = _load(path, Layout)
    known = {*run_metrics, *load_meanings(include_paths)}
    for number, column in enumerate(found.columns, start=1):
        if column.metric not in known:
            raise UserError(f"{path}: column {number}: {unknown_name('metric', column.metric, known)}")
    if found.published is not None:
        load_published(found.published, path, include_paths)
    return found


def load_meanings(include_paths: Sequence[Path] = ()) -> dict[str, str]:
    """Metric name → what it means, from the ``metrics.yaml`` of every content folder, the user's first."""
    meanings: dict[str, str] = {}
    for root in roots("reports", include_paths):
        if (root / "metrics.yaml").is_file():
            meanings = {**read_yaml(root / "metrics.yaml"), **meanings}
    return {name: str(meaning) for name, meaning in meanings.items()}


def load_published(
    reference: PublishedReference, layout_file: Path, include_paths: Sequence[Path] = ()
) -> tuple[str, PublishedTable]:
    """Source and published table that a layout refers to.

    Raises:
        UserError: There is no such paper or table.
    """
    papers = find("reports", "published/*.yaml", include_paths)
    if reference.paper not in papers:
        raise UserError(f"{layout_file}: published: {unknown_name('paper', reference.paper, papers)}")
    paper = _load(papers[reference.paper], PublishedPaper)
    if reference.table not in paper.tables:
        raise UserError(f"{layout_file}: published: {unknown_name('table', reference.table, paper.tables)}")
    return paper.source, paper.tables[reference.table]


def _load(path: Path, model: type[Model]) -> Model:
    try:
        return model.model_validate(read_yaml(path))
    except ValidationError as error:
        raise UserError(f"{path}: {_first_problem(error, model)}") from None


def _first_problem(error: ValidationError, model: type[BaseModel]) -> str:
    problem = error.errors(include_url=False)[0]
    place = ".".join(str(part + 1) if isinstance(part, int) else part for part in problem["loc"])
    if problem["type"] == "value_error" and not place:
        return str(problem["msg"]).removeprefix("Value error, ")
    if problem["type"] != "extra_forbidden":
        return f"{place or 'file'}: {problem['msg']}"
    owner: dict[str, type[BaseModel]] = {
        "rows": SubjectFilter,
        "baseline": SubjectFilter,
        "columns": Column,
        "published": PublishedReference,
    }
    first = str(problem["loc"][0])
    nested = owner[first] if len(problem["loc"]) > 1 and first in owner else model
    return f"{place}: {unknown_name('field', str(problem['loc'][-1]), nested.model_fields)}"
