# SPDX-License-Identifier: Apache-2.0
"""What made a rule fire: the ``evidence`` of an alert.

indicators    which of those that rules ask for were there
connections   who talks to whom, and what was seen of it
programs      what else programs do
gpu           what clients of a GPU do

What detectors that remember have gathered is told by their neighbours, tracer/detect/*_evidence.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tracer.detect.netscan_evidence import of_scan
from tracer.evidence import connections, programs
from tracer.evidence.gpu import of_gpu_call
from tracer.kernel import schema

if TYPE_CHECKING:
    from tracer.engine.engine import Engine, Fired, Program
    from tracer.triage.report import Examined

    Of = Callable[[Engine, Fired], dict[str, Any]]

_EXEC, _FILE, _TAMPER = (schema.KIND[f"EVENT_{name}"] for name in ("EXEC", "FILE", "TAMPER"))


def _of_places_tried(engine: Engine, fired: Fired) -> dict[str, Any]:
    return of_scan(engine.state.scans, fired.subject)


#: By what the rule is on, where events of several kinds may have made it fire.
_BY_SUBJECT: dict[str, Of] = {
    "session": connections.of_led_session,
    "beacon": connections.of_check_ins,
    "dns": connections.of_question,
    "icmp": connections.of_ping,
    "gpu": of_gpu_call,
}
_BY_KIND: dict[int, Of] = {
    schema.KIND[f"EVENT_{name}"]: of
    for name, of in {
        "FIRST_BYTES": connections.of_first_bytes,
        "CONNECT": connections.of_connect,
        "LISTEN": connections.of_listen,
        "FLOW_CLOSE": _of_places_tried,
        "FLOW_SAMPLE": connections.of_relay_legs,
        "EFFORT": connections.of_busy_process,
        "FOOTHOLD": programs.of_foothold,
        "LOCAL_CONNECT": programs.of_local_connect,
        "EXEC_REFUSED": programs.of_refused,
    }.items()
}


def evidence_of(
    engine: Engine,
    fired: Fired,
    program: Program | None,
    report: Examined | None = None,
    cgroup_path: Callable[[int], str] = lambda _: "",
) -> dict[str, Any]:
    """The evidence for what has just ``fired``, while the engine still stands behind that event."""
    if of := _BY_SUBJECT.get(fired.rules[0][0].on):
        return of(engine, fired)
    if fired.kind == _EXEC:
        return programs.of_exec(engine, program)
    if fired.kind == _FILE:
        return {"file": report.to_evidence()} if report else {}
    if fired.kind == _TAMPER:
        return programs.of_tamper(engine, cgroup_path)
    return _BY_KIND[fired.kind](engine, fired)
