"""Data as scripts: pages opened from ``file://`` may not fetch, but may load a script that hands its data over.

What models wrote can end neither a string, nor a script element, nor a line of it.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from harness.reporting.files import write_whole

_UNSAFE = re.compile("[<\u2028\u2029\ufeff\ud800-\udfff]")


def script_json(value: Any) -> str:
    """A JSON value as JavaScript: ``<``, line separators and lone surrogates are escaped, other characters stay."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return _UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def write_script(path: Path, *arguments: Any) -> Path:
    """Writes a script that calls the page's ``receive`` with these arguments."""
    return write_whole(path, f"receive({','.join(script_json(argument) for argument in arguments)});\n")
