"""What a table looks like: one YAML file, validated, and the published numbers beside it.

Reads ``layouts/<name>.yaml``, ``published/<paper>.yaml`` and ``metrics.yaml`` of a content folder. Whatever is wrong in
one of them is a `UserError` of one line: the file, the field, and the nearest name that would have been right. An unknown
published number is ``null`` there; it is never guessed.
"""

from __future__ import annotations

from collections.abc import Collection
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from harness.errors import UserError, unknown_name
from harness.records import Finite, Style, SubjectInfo

Group = Literal["label", "method", "mistakes", "analysis"]
Unit = Literal["percent", "plain"]
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
    """One table, or a figure with its table.

    Attributes:
        title: Heading.
        kind: ``table``, or ``bars`` for grouped bars beside the table.
        caption: What is compared, in one sentence.
        baseline: The subject that bracketed differences are to.
        groups: Leading columns.
        published: Published numbers to print beside the measured ones.
        exclude: Patterns of subject names that no row takes.
        rows: Filters, in order; a subject stands where the first one takes it.
        columns: Metrics, in order.
        note: More to know, under the table.
    """

    title: str
    kind: Literal["table", "bars"] = "table"
    caption: str
    baseline: SubjectFilter | None = None
    groups: tuple[Group, ...] = Field(default=("label",), min_length=1)
    published: PublishedReference | None = None
    exclude: tuple[str, ...] = ()
    rows: tuple[SubjectFilter, ...] = Field(min_length=1)
    columns: tuple[Column, ...] = Field(min_length=1)
    note: str = ""

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


def layout_path(layout: str | Path, root: Path) -> Path:
    """The file of a layout that is named (``discrimination``) or given as a path.

    Raises:
        UserError: There is no such layout.
    """
    path = Path(layout)
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise UserError(f"{path}: no such report layout")
        return path
    found = root / "layouts" / f"{layout}.yaml"
    if not found.is_file():
        raise unknown_name("report layout", str(layout), layout_names(root))
    return found


def layout_names(root: Path) -> list[str]:
    """Names of the layouts of a content folder, sorted."""
    return sorted(path.stem for path in (root / "layouts").glob("*.yaml"))


def load_layout(path: Path, run_metrics: Collection[str], root: Path) -> Layout:
    """Reads and checks a layout.

    Args:
        path: The file.
        run_metrics: Metrics that the run has.
        root: Content folder whose ``metrics.yaml`` names the metrics that other runs may have.

    Raises:
        UserError: The file is no layout, or names a metric that neither the run nor ``metrics.yaml`` knows.
    """
    layout = _load(path, Layout)
    known = {*run_metrics, *load_meanings(root)}
    for number, column in enumerate(layout.columns, start=1):
        if column.metric not in known:
            raise UserError(f"{path}: column {number}: {unknown_name('metric', column.metric, known)}")
    return layout


def load_meanings(root: Path) -> dict[str, str]:
    """Metric name → what it means, from ``metrics.yaml``."""
    path = root / "metrics.yaml"
    content = _read_yaml(path)
    if not isinstance(content, dict) or not all(isinstance(value, str) for value in content.values()):
        raise UserError(f"{path}: expected lines of the form 'metric: what it means'")
    return {str(name): meaning for name, meaning in content.items()}


def load_published(reference: PublishedReference, layout_file: Path) -> tuple[str, PublishedTable]:
    """Source and published table that a layout refers to, from ``published/`` beside its ``layouts/`` folder.

    Raises:
        UserError: There is no such paper or table.
    """
    folder = layout_file.parent.parent / "published"
    path = folder / f"{reference.paper}.yaml"
    if not path.is_file():
        papers = [one.stem for one in folder.glob("*.yaml")]
        raise UserError(f"{layout_file}: published: {unknown_name('paper', reference.paper, papers)}")
    paper = _load(path, PublishedPaper)
    if reference.table not in paper.tables:
        raise UserError(f"{layout_file}: published: {unknown_name('table', reference.table, paper.tables)}")
    return paper.source, paper.tables[reference.table]


def _load(path: Path, model: type[Model]) -> Model:
    try:
        return model.model_validate(_read_yaml(path))
    except ValidationError as error:
        raise UserError(f"{path}: {_first_problem(error, model)}") from None


def _read_yaml(path: Path) -> object:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None


def _first_problem(error: ValidationError, model: type[BaseModel]) -> str:
    problem = error.errors(include_url=False)[0]
    place = ".".join(str(part + 1) if isinstance(part, int) else part for part in problem["loc"]) or "file"
    if problem["type"] != "extra_forbidden":
        return f"{place}: {problem['msg']}"
    owner = {"rows": SubjectFilter, "baseline": SubjectFilter, "columns": Column, "published": PublishedReference}
    first = str(problem["loc"][0])
    fields = (owner.get(first, model) if len(problem["loc"]) > 1 else model).model_fields
    return f"{place}: {unknown_name('field', str(problem['loc'][-1]), fields)}"
