# SPDX-License-Identifier: Apache-2.0
"""What made a rule fire, by kind of event: the ``evidence`` of an alert."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from tracer.detect.dns_evidence import of_names
from tracer.detect.effort_evidence import flow_of, of_effort
from tracer.detect.execfacts import describe_facts
from tracer.detect.facts import FACT_BIT, FACTS, WORD_BITS
from tracer.detect.footholds import WHAT_NAME as FOOTHOLD_NAME
from tracer.detect.gpu import JOB_BUSY, KNOWN, TRAINER, TRAINER_START
from tracer.detect.netscan_evidence import of_scan
from tracer.detect.ping_evidence import of_pings
from tracer.detect.preload import PRELOADS
from tracer.detect.preload_evidence import libraries_of
from tracer.detect.relay_evidence import of_relay, outside_of
from tracer.detect.session_evidence import beacon_end, of_beacon, of_session, session_end
from tracer.detect.tamper import WHAT_NAME, bpf_command, signal_name
from tracer.detect.wire.describe import describe as describe_bytes
from tracer.engine.processes import NONE
from tracer.gpu.names import describe as describe_gpu
from tracer.kernel import schema
from tracer.text import decode

if TYPE_CHECKING:
    from tracer.engine.engine import Engine, Fired, Program
    from tracer.triage.report import Examined

#: Sixteen matches are enough to see why; the rest is counted.
EVIDENCE_MAX = 16
#: Of first bytes that no protocol explains, so many are shown as they are.
_SHOWN_BYTES = 64
_INET = 2
_TRANSPORT = {6: "tcp", 17: "udp", 1: "icmp", 58: "icmpv6"}
_EXEC, _FIRST, _CONNECT, _LISTEN, _FILE, _TAMPER, _CLOSE, _SAMPLE, _FOOTHOLD, _LOCAL, _EFFORT, _REFUSED = (
    schema.KIND[f"EVENT_{name}"]
    for name in (
        "EXEC",
        "FIRST_BYTES",
        "CONNECT",
        "LISTEN",
        "FILE",
        "TAMPER",
        "FLOW_CLOSE",
        "FLOW_SAMPLE",
        "FOOTHOLD",
        "LOCAL_CONNECT",
        "EFFORT",
        "EXEC_REFUSED",
    )
)
_NET_FACTS = tuple(fact.name for fact in FACTS if "connect" in fact.on)
_GPU_FACTS = tuple(fact.name for fact in FACTS if "gpu" in fact.on)
_LISTEN_FACTS = tuple(fact.name for fact in FACTS if "listen" in fact.on)


def evidence_of(
    engine: Engine,
    fired: Fired,
    program: Program | None,
    report: Examined | None = None,
    cgroup_path: Callable[[int], str] = lambda _: "",
) -> dict[str, Any]:
    """The evidence for what has just ``fired``, while the engine still stands behind that event."""
    on = fired.rules[0][0].on
    if on == "session":
        return _of_session(engine, fired)
    if on == "beacon":
        return _of_beacon(engine, fired)
    if on == "dns":
        return _of_question(engine, fired)
    if on == "icmp":
        return _of_ping(engine, fired)
    if on == "gpu":
        return _of_gpu(engine, fired)
    if fired.kind == _EXEC:
        return _of_exec(engine, program)
    if fired.kind == _FIRST:
        return _of_flow(engine, fired)
    if fired.kind == _CONNECT:
        return _of_connect(engine, fired)
    if fired.kind == _LISTEN:
        return _of_listen(engine)
    if fired.kind == _FILE:
        return {"file": report.to_evidence()} if report else {}
    if fired.kind == _TAMPER:
        return _of_tamper(engine, cgroup_path)
    if fired.kind == _CLOSE:
        return of_scan(engine.state.scans, fired.subject)
    if fired.kind == _SAMPLE:
        return _of_relay(engine, fired)
    if fired.kind == _FOOTHOLD:
        return _of_foothold(engine)
    if fired.kind == _LOCAL:
        return _of_local(engine)
    if fired.kind == _EFFORT:
        return _of_effort(engine, fired)
    assert fired.kind == _REFUSED
    return _of_refused(engine)


def _matched(found: list[dict[str, str]]) -> dict[str, Any]:
    if not found:
        return {}
    evidence: dict[str, Any] = {"matched": found[:EVIDENCE_MAX]}
    if len(found) > EVIDENCE_MAX:
        evidence["matched_more"] = len(found) - EVIDENCE_MAX
    return evidence


def _find(engine: Engine, texts: dict[str, list[bytes]]) -> dict[str, Any]:
    """The indicators in ``texts``, by field."""
    found: list[dict[str, str]] = []
    for where, pieces in texts.items():
        for text in dict.fromkeys(pieces):
            for match in engine.rules.find(where, text):
                row = {"group": match.group, "indicator": match.literal, "in": where}
                if row not in found:
                    found.append(row)
    return _matched(found)


def _of_exec(engine: Engine, program: Program | None) -> dict[str, Any]:
    if program is None:
        return {}
    facts = int(engine.state.signals[0])
    names = [program.exe, program.called, *program.argv[:1]]
    return {
        **(libraries_of(engine.fired_record(), program.flags) if facts & PRELOADS else {}),
        **describe_facts(program.exe, program.called, list(program.argv), facts),
        **_find(
            engine,
            {
                "name": [name.rpartition(b"/")[2] for name in names],
                "path": [program.exe],
                "args": [b"".join(a + b"\0" for a in program.argv[1:])],
            },
        ),
    }


def refused_path(record: np.void, tail: bytes) -> bytes:
    """Of the program that was not let begin."""
    return tail[: int(record["path_len"])]


def _of_refused(engine: Engine) -> dict[str, Any]:
    data = engine.fired_record()
    record = np.frombuffer(data, schema.EXEC_REFUSED, 1)[0]
    path = refused_path(record, data[schema.EXEC_REFUSED.itemsize :])
    return {"refused": True, "program": decode(path), **_find(engine, {"path": [path]})}


def _net_facts(engine: Engine, known: tuple[str, ...] = _NET_FACTS) -> dict[str, Any]:
    signals = [int(word) for word in engine.state.signals[:2]]
    there = [name for name in known if signals[FACT_BIT[name] // WORD_BITS] >> FACT_BIT[name] % WORD_BITS & 1]
    return {"facts": there} if there else {}


def _address(raw: bytes, family: int) -> str:
    return str(ipaddress.IPv4Address(raw[:4]) if family == _INET else ipaddress.IPv6Address(raw[:16]))


def _other_end(engine: Engine, remote: bytes, family: int, port: int, now_ns: int) -> dict[str, Any]:
    """The other end, with the name it was looked up by, if it was."""
    address = _address(remote, family)
    name, *aliases = (decode(text) for text in engine.names_of(remote, family, now_ns))
    shown = _place(address, port, family)
    return {
        "remote": f"{name} ({shown})" if name else shown,
        "remote_address": address,
        "remote_port": port,
        **({"remote_name": name} if name else {}),
        **({"remote_aliases": aliases} if aliases else {}),
    }


def _ends(engine: Engine, record: np.void, now_ns: int) -> dict[str, Any]:
    """Who talks to whom."""
    family, remote, port = int(record["family"]), record["remote"].tobytes(), int(record["remote_port"])
    return {
        **_other_end(engine, remote, family, port, now_ns),
        "transport": _TRANSPORT.get(int(record["protocol"]), str(int(record["protocol"]))),
    }


def _place(address: str, port: int, family: int) -> str:
    return f"{address}:{port}" if family == _INET else f"[{address}]:{port}"


def _of_connect(engine: Engine, fired: Fired) -> dict[str, Any]:
    record = np.frombuffer(engine.fired_record(), schema.CONNECT, 1)[0]
    names = engine.names_of(record["remote"].tobytes(), int(record["family"]), fired.time_ns)
    return (
        _ends(engine, record, fired.time_ns)
        | _net_facts(engine)
        | _find(engine, {"host": [name for name in names if name]})
    )


def _of_listen(engine: Engine) -> dict[str, Any]:
    """Where it listens."""
    record = np.frombuffer(engine.fired_record(), schema.LISTEN, 1)[0]
    family, port = int(record["family"]), int(record["local_port"])
    address = _address(record["local"].tobytes(), family)
    return {
        "local": _place(address, port, family),
        "local_address": address,
        "local_port": port,
        "transport": _TRANSPORT.get(int(record["protocol"]), str(int(record["protocol"]))),
    } | _net_facts(engine, _LISTEN_FACTS)


def _of_relay(engine: Engine, fired: Fired) -> dict[str, Any]:
    relays = engine.state.relays
    remote, family, _, port = outside_of(relays)
    return {
        **_other_end(engine, remote, family, port, fired.time_ns),
        **of_relay(relays, int(engine.state.signals[0]), fired.time_ns),
    }


def _of_effort(engine: Engine, fired: Fired) -> dict[str, Any]:
    efforts, at = engine.state.efforts, flow_of(engine.state.efforts)
    flow = engine.state.flows.table[at] if at is not None else None
    ends = {} if flow is None else _ends(engine, flow, fired.time_ns)
    return {**ends, **of_effort(efforts, flow, int(engine.state.signals[0]), fired.time_ns)}


def _of_session(engine: Engine, fired: Fired) -> dict[str, Any]:
    state = engine.state
    remote, family, port = session_end(state.sessions)
    return {
        **_other_end(engine, remote, family, port, fired.time_ns),
        **of_session(state.sessions, int(state.signals[0]), fired.time_ns),
    }


def _of_beacon(engine: Engine, fired: Fired) -> dict[str, Any]:
    state = engine.state
    remote, family, port = beacon_end(state.beacons)
    return {
        **_other_end(engine, remote, family, port, fired.time_ns),
        **of_beacon(state.beacons, int(state.signals[0]), fired.time_ns),
    }


def _of_question(engine: Engine, fired: Fired) -> dict[str, Any]:
    """Which resolver was asked for what."""
    record = np.frombuffer(engine.fired_record(), schema.FIRST_BYTES, 1)[0]
    state = engine.state
    return {
        **_ends(engine, record, fired.time_ns),
        **of_names(state.domains, state.text, int(state.signals[0]), fired.time_ns),
    }


def _of_ping(engine: Engine, fired: Fired) -> dict[str, Any]:
    """With which place pings are exchanged, and what the last one held."""
    raw = engine.fired_record()
    record = np.frombuffer(raw, schema.FIRST_BYTES, 1)[0]
    size = schema.FIRST_BYTES.itemsize
    state = engine.state
    return {
        **_ends(engine, record, fired.time_ns),
        **of_pings(state.pings, int(state.signals[0]), fired.time_ns),
        "payload": decode(raw[size : size + min(int(record["len"]), _SHOWN_BYTES)]),
    }


def local_name(record: np.void) -> bytes:
    """Of a UNIX socket; an abstract one's with @ in front, as tools show it."""
    name = record["path"].tobytes()[: int(record["path_len"])]
    return b"@" + name[1:] if record["abstract"] else name.partition(b"\0")[0]


def _of_local(engine: Engine) -> dict[str, Any]:
    name = local_name(np.frombuffer(engine.fired_record(), schema.LOCAL_CONNECT, 1)[0])
    return {"socket": decode(name), **_find(engine, {"path": [name]})}


def _of_foothold(engine: Engine) -> dict[str, Any]:
    raw = engine.fired_record()
    record = np.frombuffer(raw, schema.FOOTHOLD, 1)[0]
    size = schema.FOOTHOLD.itemsize
    flags = int(record["foothold_flags"])
    return {
        "what": FOOTHOLD_NAME.get(int(record["what"]), str(int(record["what"]))),
        "file": decode(raw[size : size + int(record["path_len"])]),
        "linked": bool(flags & schema.FOOTHOLD_FLAG["FOOTHOLD_LINKED"]),
        "by_package_manager": bool(flags & schema.FOOTHOLD_FLAG["FOOTHOLD_PACKAGED"]),
    }


def _of_flow(engine: Engine, fired: Fired) -> dict[str, Any]:
    raw = engine.fired_record()
    record = np.frombuffer(raw, schema.FIRST_BYTES, 1)[0]
    size = schema.FIRST_BYTES.itemsize
    data = raw[size : size + int(record["len"])]
    received = int(record["direction"]) == schema.DIRECTION["DIRECTION_RECEIVED"]
    said = describe_bytes(
        data,
        direction=int(record["direction"]),
        transport=int(record["protocol"]),
        remote_port=int(record["remote_port"]),
        local_port=int(record["local_port"]),
        accepted=bool(int(record["flags"]) & schema.FLOW_FLAG["FLOW_ACCEPTED"]),
        first=int(record["first"]),
        whole=len(data),
    )
    where = "received" if received else "sent"
    texts = {where: [data]}
    if "host" in said:
        texts["host"] = [str(said["host"]).encode()]
    return {
        **_ends(engine, record, fired.time_ns),
        "direction": where,
        "accepted": bool(int(record["flags"]) & schema.FLOW_FLAG["FLOW_ACCEPTED"]),
        **said,
        **_net_facts(engine),
        "first_bytes": decode(data[:_SHOWN_BYTES]),
        **_find(engine, texts),
    }


def _of_tamper(engine: Engine, cgroup_path: Callable[[int], str]) -> dict[str, Any]:
    record = np.frombuffer(engine.fired_record(), schema.TAMPER, 1)[0]
    what, flags = int(record["what"]), int(record["tamper_flags"])
    evidence: dict[str, Any] = {"what": WHAT_NAME.get(what, str(what))}
    if what == schema.TAMPER_WHAT["TAMPER_SIGNAL"]:
        evidence["signal"] = signal_name(int(record["number"]))
        evidence["to_group"] = bool(flags & schema.TAMPER_FLAG["TAMPER_TO_GROUP"])
    if what == schema.TAMPER_WHAT["TAMPER_FLOOD"]:
        number = int(record["number"])
        evidence["records"] = schema.KIND_NAME.get(number, str(number))
    if what == schema.TAMPER_WHAT["TAMPER_BPF"]:
        evidence["command"] = bpf_command(int(record["number"]))
    if record["target_tgid"]:
        evidence["target"] = {"pid": int(record["target_tgid"]), "start_ns": int(record["target_start"])}
    for key, field in (("cgroup", "cgroup"), ("cgroup_to", "cgroup_to")):
        if record[field]:
            evidence[key] = cgroup_path(int(record[field])) or str(int(record[field]))
    if name := record["name"].tobytes().partition(b"\0")[0]:
        evidence["module" if what == schema.TAMPER_WHAT["TAMPER_MODULE"] else "file"] = decode(name)
    if int(record["done"]) & 1 << schema.ACTION["ACTION_BLOCK"]:
        evidence["refused"] = True
    if flags & schema.TAMPER_FLAG["TAMPER_BY_OUTSIDER"]:
        evidence["by"] = int(record["by_tgid"])
    return evidence


def _of_gpu(engine: Engine, fired: Fired) -> dict[str, Any]:
    family, number, code = fired.subject >> 48, fired.subject >> 32 & 0xFFFF, fired.subject & 0xFFFFFFFF
    signals, state = int(engine.state.signals[0]), engine.state.gpu.state
    evidence: dict[str, Any] = {
        "facts": [name for name in _GPU_FACTS if signals >> FACT_BIT[name] & 1],
    }
    if fired.kind == schema.KIND["EVENT_GPU_IOCTL"]:
        evidence["ioctl"] = describe_gpu(family, number, code)
    elif fired.kind == schema.KIND["EVENT_GPU_OPEN"]:
        evidence["held"] = "when the watch began"
    else:  # it works while the job does not
        evidence["job_idle_seconds"] = round((fired.time_ns - int(state[JOB_BUSY])) / 1e9, 3)
    if fired.entry != NONE and (client := engine.gpu_client(fired.entry)):
        evidence["client"] = client
    if fired.entry != NONE:
        evidence |= {f"gpu_{name}": value for name, value in engine.gpu_use(fired.entry).items()}
    if state[KNOWN]:
        evidence["first_client"] = {"pid": int(state[TRAINER]), "start_ns": int(state[TRAINER_START])}
    return evidence
