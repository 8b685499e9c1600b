"""The one exception that a user sees.

Raised for bad input of any kind: its text is one line that says which file, which line, what is wrong and how to mend
it. The command line prints it and exits with 1; a traceback means a defect of ours, never of the user's input.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Bad input, told in one line."""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UserError:
    """An error for a name that does not exist, with the nearest one that does.

    Args:
        kind: What the name should have named, in the singular, such as ``"task"``.
        name: What the user wrote.
        known: Every name that exists.
    """
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
    hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(names) or 'none'}"
    return UserError(f"unknown {kind} '{name}': {hint}")
