"""Links from a number to the samples behind it."""

from __future__ import annotations

from urllib.parse import urlencode


def samples_link(page: str = "samples.html", **query: str) -> str:
    """The address of the sample browser with a filter set.

    Args:
        page: The browser's page as seen from the linking one.
        query: Names of the browser's filters and their values, such as ``metric`` and ``subject``; a ``counted`` of
            ``scored`` leaves exactly the samples that the estimate rests on.
    """
    return f"{page}#{urlencode(query)}"
