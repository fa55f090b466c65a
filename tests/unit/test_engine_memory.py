# SPDX-License-Identifier: Apache-2.0
"""Compiled code gives back what it takes: most of it doesn't count references."""

from __future__ import annotations

import numpy as np
from numba.core.runtime import _nrt_python as runtime
from numba.core.runtime import rtsys
from wire_samples_datagrams import datagrams

from tracer.engine.engine import Engine
from tracer.kernel import schema
from tracer.rules import load_rules

_WALLET = b"44AFFq5kSiGBoZ4NMDwYtN18obc8AemS33DBLWs3H7otXft3XjrpDtQGv7SqSsaBYBb98uNbr2VBBEt7f2wfn3RVGQBEP3A"
_COMMANDS = (
    (b"/usr/bin/ssh", b"ssh\0-oRemoteForward=80 localhost:80\0-R8080:localhost:22\0h\0"),
    (b"/usr/bin/dbclient", b"dbclient\0-R\x0080:a:80\0h\0"),
    (b"/usr/bin/worker", b"worker\0-u\0" + _WALLET + b"\0"),
)


def _execs() -> list[bytes]:
    found = []
    for path, args in _COMMANDS:
        record = np.zeros((), schema.EXEC)
        record["kind"], record["tgid"], record["start"] = schema.KIND["EVENT_EXEC"], 1, 1
        record["path_len"], record["args_len"] = len(path), len(args)
        record["size"] = schema.EXEC.itemsize + len(path) + len(args)
        found.append(record.tobytes() + path + args)
    return found


def _datagrams() -> list[bytes]:
    found = []
    for sample in datagrams():
        data = sample.data[:512]
        record = np.zeros((), schema.FIRST_BYTES)
        record["kind"], record["tgid"], record["start"] = schema.KIND["EVENT_FIRST_BYTES"], 1, 1
        record["family"], record["protocol"], record["remote_port"] = 2, 17, 443
        record["len"] = record["first"] = len(data)
        record["size"] = schema.FIRST_BYTES.itemsize + len(data)
        found.append(record.tobytes() + data)
    return found


def test_what_is_allocated_is_freed():
    engine = Engine(load_rules([]), processes=16, flows=16)
    records = _execs() + _datagrams()
    runtime.memsys_enable_stats()
    try:
        before = rtsys.get_allocation_stats()
        for _ in range(20):
            for _fired in engine.feed(records):
                pass
        after = rtsys.get_allocation_stats()
    finally:
        runtime.memsys_disable_stats()
    assert after.alloc - before.alloc >= 20 * len(_COMMANDS)
    assert after.alloc - before.alloc == after.free - before.free
