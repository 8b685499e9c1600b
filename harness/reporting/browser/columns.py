"""Dictionary-coded columns: each distinct value once, and a small integer for every row, packed as base64."""

from __future__ import annotations

import base64
import sys
from array import array
from collections.abc import Hashable, Iterable
from typing import Any

WIDTHS = ((1, "B"), (2, "H"), (4, "I"))
"""Bytes of a code, and its typecode in `array`."""


def column(values: Iterable[Hashable | None]) -> dict[str, Any]:
    """One column as the page reads it.

    Args:
        values: One value a row, in order; ``None`` where there is none.

    Returns:
        ``v``: the distinct values, ``None`` first; ``b``: bytes of a code; ``d``: the codes, little-endian, in base64.
    """
    codes: dict[Hashable | None, int] = {None: 0}
    coded = [codes.setdefault(value, len(codes)) for value in values]
    width, typecode = next((width, code) for width, code in WIDTHS if len(codes) <= 256**width)
    packed = array(typecode, coded)
    if sys.byteorder == "big":
        packed.byteswap()
    return {"v": list(codes), "b": width, "d": base64.b64encode(packed.tobytes()).decode("ascii")}
