# SPDX-License-Identifier: Apache-2.0
"""What only the first alert would have to wait for."""

from __future__ import annotations

import json
import socket

import numpy as np

from tracer.alerts import AlertBuilder, Origin
from tracer.engine.engine import Engine, Fired
from tracer.engine.first import keep_record
from tracer.kernel import schema
from tracer.rules import RuleSet
from tracer.sinks.terminal import format_alert


def rehearse(rules: RuleSet, tree: str) -> None:
    """Make one alert that nobody is told: the first real one must not wait for lazy imports."""
    engine = Engine(rules, processes=4, flows=4)
    path = b"/usr/bin/rehearsal"
    record = np.zeros((), schema.EXEC)
    record["kind"], record["tgid"], record["start"] = schema.KIND["EVENT_EXEC"], 1, 1
    record["path_len"], record["args_len"] = len(path), len(path) + 1
    record["size"] = schema.EXEC.itemsize + 2 * len(path) + 1
    for _ in engine.feed([record.tobytes() + path + path + b"\0"]):
        pass
    said = b'{"id":1,"method":"rehearsal","params":{}}\n'
    first = np.zeros((), schema.FIRST_BYTES)
    first["kind"], first["tgid"], first["start"] = schema.KIND["EVENT_FIRST_BYTES"], 1, 1
    first["size"], first["len"] = schema.FIRST_BYTES.itemsize + len(said), len(said)
    first["family"], first["protocol"], first["first"] = socket.AF_INET, socket.IPPROTO_TCP, len(said)
    for _ in engine.feed([first.tobytes() + said]):
        pass
    keep_record(engine.state.record, np.frombuffer(first.tobytes() + said, np.uint8))
    builder = AlertBuilder(engine, Origin(tree, "", lambda _: ""), 0)
    for kind in ("EVENT_EXEC", "EVENT_FIRST_BYTES", "EVENT_CONNECT"):
        fired = Fired(tuple(engine.rules.alternative_rule[:1]), 0, schema.KIND[kind], 0, 0)
        for alert in builder.build(fired, 0):
            json.dumps(alert.to_json())
            format_alert(alert, colour=False)
