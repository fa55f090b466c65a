# SPDX-License-Identifier: Apache-2.0
"""What somebody else needs to reach the probes of a tree: another tracer to go on with them, or a person
to contain the tree. Numbers and names only, so that they can be written down.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

_ID_MAX = 1 << 32
_ENTRIES_MAX = 256
_NAME_MAX = 64


@dataclass(frozen=True, slots=True)
class Remains:
    """Ids of maps and programs by name; ``knowledge``: its shape; ``missing``: hooks that are not there;
    ``layout``: what :func:`tracer.kernel.schema.fingerprint` is where they were made, empty if nobody said.
    """

    maps: dict[str, int]
    programs: dict[str, int]
    knowledge: tuple[int, int, int]
    missing: dict[str, str]
    by_lineage: bool
    layout: str = ""

    def to_json(self) -> dict[str, Any]:
        """As :func:`parse` takes it."""
        return asdict(self)


def _ids(said: object) -> dict[str, int] | None:
    if not isinstance(said, dict) or not 0 < len(said) <= _ENTRIES_MAX:
        return None
    for name, number in said.items():
        if not isinstance(name, str) or len(name) > _NAME_MAX:
            return None
        if type(number) is not int or not 0 < number < _ID_MAX:
            return None
    return said


def parse(said: object) -> Remains | None:
    """What a file says; None if it makes no sense."""
    if not isinstance(said, dict):
        return None
    maps, programs, missing = _ids(said.get("maps")), _ids(said.get("programs")), said.get("missing")
    shape, by_lineage, layout = (said.get(key) for key in ("knowledge", "by_lineage", "layout"))
    if maps is None or programs is None or type(by_lineage) is not bool:
        return None
    if layout is not None and not (isinstance(layout, str) and len(layout) <= _NAME_MAX):
        return None
    if not isinstance(missing, dict) or not all(
        isinstance(k, str) and isinstance(v, str) for k, v in missing.items()
    ):
        return None
    if not isinstance(shape, list) or len(shape) != 3 or not all(type(n) is int and n > 0 for n in shape):
        return None
    return Remains(maps, programs, (shape[0], shape[1], shape[2]), missing, by_lineage, layout or "")
