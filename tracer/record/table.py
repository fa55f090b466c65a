# SPDX-License-Identifier: Apache-2.0
"""Events as a table on disk, for pandas, DuckDB, Spark and the like."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from tracer.errors import VigilesError

if TYPE_CHECKING:
    from tracer.record.export import Event

_ROWS = 1 << 15
#: Those of every kind; what a kind has of its own is in ``detail``, as JSON.
_COMMON = ("time", "kind", "pid", "tid", "start_ns", "exe")


def write_parquet(events: Iterable[Event], path: Path) -> int:
    """Write a new file, a batch of rows at a time; how many rows. Raises VigilesError."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise VigilesError(
            "no table can be written: pyarrow is not installed", hint="pip install 'vigiles[arrow]'"
        ) from None
    schema = pa.schema(
        [
            ("time", pa.timestamp("ns", "UTC")),
            ("kind", pa.dictionary(pa.int8(), pa.string())),
            ("pid", pa.int64()),
            ("tid", pa.int64()),
            ("start_ns", pa.int64()),
            ("exe", pa.string()),
            ("detail", pa.string()),
        ]
    )
    count = 0
    try:
        with path.open("xb") as file, pq.ParquetWriter(file, schema, compression="zstd") as writer:
            rest = iter(events)
            while batch := list(islice(rest, _ROWS)):
                rows = [_row(event) for event in batch]
                writer.write_table(pa.Table.from_pylist(rows, schema))
                count += len(rows)
    except OSError as error:
        raise VigilesError(f"can't write {path}: {error.strerror or error}") from None
    return count


def _row(event: Event) -> dict[str, object]:
    said = event.to_json()
    row = {name: said.pop(name) for name in _COMMON}
    return row | {"time": event.wall_ns, "detail": json.dumps(said, separators=(",", ":"))}
