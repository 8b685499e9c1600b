"""Writes the sample browser into a report's folder."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from harness.content import roots
from harness.reporting.browser.grid import axes, grids
from harness.reporting.browser.index import build_index
from harness.reporting.browser.links import asset
from harness.reporting.browser.scripts import script_json
from harness.reporting.browser.texts import write_texts
from harness.reporting.files import write_whole
from harness.scores import Scores
from harness.stages.loading import LoadedRun

PAGE = "samples.html"
DATA = re.compile(r"index\.js|(prompts|answers)-\d+\.js")
SCRIPTS = ("theme.js", "data.js", "safe.js", "detail.js", "browser.js")
STYLES = ("report.css", "browser.css")


def write_browser(
    loaded: LoadedRun, scores: Scores, out: Path, include_paths: Sequence[Path] = (), *, redact: bool
) -> list[Path]:
    """Writes the page, its scripts and styles, the index and the texts.

    Args:
        loaded: The run.
        scores: Its scores.
        out: Folder of the report; what an earlier browser left there is removed first.
        include_paths: The user's content folders, whose judges declare labels too.
        redact: Leaves out everything that a model, a prompt or a judge says: no such text is in any file.

    Returns:
        The files written.
    """
    folder = out / "data"
    remove_data(folder)
    on = axes(loaded, scores)
    rows = grids(loaded, on)
    files: list[Path] = []
    starts: dict[str, list[int]] = {}
    if not redact:
        files, starts = write_texts(loaded, rows, folder)
    content = script_json({**build_index(loaded, scores, on, rows, include_paths, redact=redact), "parts": starts})
    index = write_whole(folder / "index.js", f'receive("index",0,{content});\n')
    nonce = nonce_of(content)
    page = write_whole(out / PAGE, render("samples.html", run=scores.run, redacted=redact, nonce=nonce))
    return [page, *write_assets(out, (*STYLES, *SCRIPTS)), index, *files]


def remove_data(folder: Path) -> None:
    """Removes the data of an earlier browser, so that a report made again without texts has none left."""
    for path in folder.glob("*.js"):
        if DATA.fullmatch(path.name):
            path.unlink()


def nonce_of(content: str) -> str:
    """The mark by which a page knows its own scripts and styles: it hashes what model texts cannot know before."""
    return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def write_assets(out: Path, names: Sequence[str]) -> list[Path]:
    """Copies scripts and styles beside the pages."""
    return [write_whole(out / "assets" / name, asset(name)) for name in names]


def render(template: str, include_paths: Sequence[Path] = (), **values: object) -> str:
    """A page from its template in ``templates/``, everything escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    loader = FileSystemLoader([root / "templates" for root in roots("reports", include_paths)])
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template(template).render(**values)
