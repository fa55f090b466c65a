# SPDX-License-Identifier: Apache-2.0
"""What an engine makes of records: everything it tells, and everything it knows afterwards.

    python engine_digest.py RECORDS     prints it as JSON, by the linked engine

The same by Numba's: :func:`digest`.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

#: Addresses, which differ from process to process.
_ADDRESSES = ("calls",)


def _arrays(value: Any, name: str) -> dict[str, str]:
    import numpy as np

    if isinstance(value, np.ndarray):
        return {name: hashlib.blake2b(value.tobytes(), digest_size=16).hexdigest()}
    if isinstance(value, tuple):
        found: dict[str, str] = {}
        for field in value._fields:
            if field not in _ADDRESSES:
                found |= _arrays(getattr(value, field), f"{name}.{field}")
        return found
    return {name: str(int(value))}


def digest(laid: bytes) -> dict[str, Any]:
    """``laid`` as a tap has it: through an engine by itself, then out of a ring into another."""
    from bench.synthetic import MemoryRing
    from tracer.engine.engine import Engine
    from tracer.engine.spans import S_SALT
    from tracer.engine.tap import each
    from tracer.rules import load_rules

    played, drained = (Engine(load_rules([]), processes=256, flows=64) for _ in range(2))
    for engine in (played, drained):
        engine.state.processes.spans.state[S_SALT] = 1  # chance, otherwise
    told = [_told(played, fired) for fired in played.play(laid, count=True)]
    ring, empty = MemoryRing(list(each(laid))), MemoryRing([])
    drained._rings[:] = [(r.consumer, r.producer, r.data, r.size - 1) for r in (empty, ring)]
    left, again = ring.count, []
    while left:
        left -= drained.drain(7)[1]
        if fired := drained.fired():
            again.append(_told(drained, fired))
    # how long records have waited by now is not the same twice
    drained.state.lag[:] = 0
    return {
        "told": told,
        "told again": again,
        "played": _arrays(played.state, "state"),
        "drained": _arrays(drained.state, "state"),
        "losses": played.table_losses(),
        "live": played.live_entries(),
        "found": [
            str(match) for match in played.rules.find("args", b"xmrig -o stratum+tcp://pool.test:3333")
        ],
    }


def _told(engine: Any, fired: Any) -> list[Any]:
    rules = [[rule.id, severity] for rule, severity in fired.rules]
    rest = [fired.entry, fired.kind, fired.time_ns, fired.subject, fired.done, fired.decided_ns, fired.span]
    return [rules, rest, str(engine.describe(fired.entry)), str(engine.lineage(fired.entry))]


def main() -> None:
    """By the linked engine, and without a compiler."""
    from tracer import jit

    jit.prefer_linked()
    found = digest(Path(sys.argv[1]).read_bytes())
    assert jit.linked() is not None, "there is no linked engine"
    assert not {"numba", "llvmlite"} & set(sys.modules)
    found["failures"] = jit.errors()
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
