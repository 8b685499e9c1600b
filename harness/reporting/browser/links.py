"""What pages share: links from a number to the samples behind it, and the text of scripts and styles."""

from __future__ import annotations

from urllib.parse import urlencode

from harness.content import content_root


def samples_link(page: str = "samples.html", **query: str) -> str:
    """The address of the sample browser with a filter set.

    Args:
        page: The browser's page as seen from the linking one.
        query: Names of the browser's filters and their values, such as ``metric`` and ``subject``; a ``counted`` of
            ``scored`` leaves exactly the samples that the estimate rests on.
    """
    return f"{page}#{urlencode(query)}"


def asset(name: str) -> str:
    """A script or style of the pages, as text."""
    return (content_root("reports") / "templates" / "assets" / name).read_text("utf-8")
