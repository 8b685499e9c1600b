"""The sample browser: every answer of a run with its verdicts, as pages and data that open from ``file://``.

Reads a `LoadedRun` and `Scores`; writes ``samples.html``, ``assets/`` and ``data/`` into the report's folder. A small
columnar index holds all that can be filtered; texts lie in parts that the page loads when they are looked at.
"""

from harness.reporting.browser.links import samples_link
from harness.reporting.browser.write import write_browser

__all__ = ["samples_link", "write_browser"]
