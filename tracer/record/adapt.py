# SPDX-License-Identifier: Apache-2.0
"""Records of an older version's probes, laid out as this version's."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import numpy.typing as npt

from tracer.engine.tap import each, lay_out
from tracer.kernel import schema
from tracer.record.header import event_schema

#: What a field can be: integers, or a few of them. A file must not name anything else.
_FORMAT = re.compile(r"[0-9]{0,4}[<|][iu][1248]")


class Adapter:
    """Turns records laid out as ``events`` (of a header) says into those of this version.

    A field that is new is 0, one that is no more is left out; what follows a structure stays as it is.
    """

    def __init__(self, events: dict[str, Any]) -> None:
        self.needed = events != event_schema()
        #: records of kinds that this version does not know, or that do not fit their own description
        self.skipped = 0
        self._from: dict[int, np.dtype[np.void]] = {}
        if self.needed:
            for kind, said in events.items():
                if int(kind) in schema.LAYOUT:
                    self._from[int(kind)] = _dtype(said)

    def convert(self, laid: bytes) -> bytes:
        """Records as a tap lays them out, in this version's layout."""
        if not self.needed:
            return laid
        found = [self._one(record) for record in each(laid)]
        self.skipped += found.count(None)
        return lay_out(record for record in found if record is not None)

    def _one(self, record: bytes) -> bytes | None:
        if len(record) < schema.HEAD.itemsize:
            return None
        kind = int(np.frombuffer(record, schema.HEAD, 1)[0]["kind"])
        old = self._from.get(kind)
        if old is None or len(record) < old.itemsize:
            return None
        was = np.frombuffer(record, old, 1)[0]
        new = np.zeros((), schema.LAYOUT[kind])
        for name in set(new.dtype.names or ()) & set(old.names or ()):
            _copy(was[name], new, name)
        tail = record[old.itemsize :]
        new["size"] = new.dtype.itemsize + len(tail)
        return new.tobytes() + tail


def _copy(value: Any, new: npt.NDArray[np.void], name: str) -> None:
    """One field, which may have become longer or shorter."""
    if np.ndim(value):
        count = min(len(value), len(new[name]))
        new[name][:count] = value[:count]
    else:
        new[name] = value


def _dtype(said: dict[str, Any]) -> np.dtype[np.void]:
    """Raises ValueError, KeyError or TypeError where a header describes no structure of integers."""
    names, formats, offsets = zip(*said["fields"], strict=True)
    if not all(_FORMAT.fullmatch(form) for form in formats):
        raise ValueError(f"no layout of an event: {said.get('name')}")
    return np.dtype(
        {"names": list(names), "formats": list(formats), "offsets": list(offsets), "itemsize": said["size"]}
    )
