# SPDX-License-Identifier: Apache-2.0
"""The evidence of what goes through sockets: who talks to whom, and what was seen of it."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any

import numpy as np

from tracer.detect.dns_evidence import of_names
from tracer.detect.effort_evidence import flow_of, of_effort
from tracer.detect.facts import FACTS
from tracer.detect.ping_evidence import of_pings
from tracer.detect.relay_evidence import of_relay, outside_of
from tracer.detect.session_evidence import beacon_end, of_beacon, of_session, session_end
from tracer.detect.wire.describe import describe as describe_bytes
from tracer.evidence.indicators import facts_there, find
from tracer.kernel import schema
from tracer.text import decode

if TYPE_CHECKING:
    from tracer.engine.engine import Engine, Fired

#: Of first bytes that no protocol explains, so many are shown as they are.
_SHOWN_BYTES = 64
_INET = 2
_TRANSPORT = {6: "tcp", 17: "udp", 1: "icmp", 58: "icmpv6"}
_NET_FACTS = tuple(fact.name for fact in FACTS if "connect" in fact.on)
_LISTEN_FACTS = tuple(fact.name for fact in FACTS if "listen" in fact.on)


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


def of_connect(engine: Engine, fired: Fired) -> dict[str, Any]:
    """To where, and what in its names was looked for."""
    record = np.frombuffer(engine.fired_record(), schema.CONNECT, 1)[0]
    names = engine.names_of(record["remote"].tobytes(), int(record["family"]), fired.time_ns)
    return (
        _ends(engine, record, fired.time_ns)
        | facts_there(engine, _NET_FACTS)
        | find(engine, {"host": [name for name in names if name]})
    )


def of_listen(engine: Engine, _: Fired) -> dict[str, Any]:
    """Where it listens."""
    record = np.frombuffer(engine.fired_record(), schema.LISTEN, 1)[0]
    family, port = int(record["family"]), int(record["local_port"])
    address = _address(record["local"].tobytes(), family)
    return {
        "local": _place(address, port, family),
        "local_address": address,
        "local_port": port,
        "transport": _TRANSPORT.get(int(record["protocol"]), str(int(record["protocol"]))),
    } | facts_there(engine, _LISTEN_FACTS)


def of_relay_legs(engine: Engine, fired: Fired) -> dict[str, Any]:
    """The outer end of two connections that move together."""
    relays = engine.state.relays
    remote, family, _, port = outside_of(relays)
    return {
        **_other_end(engine, remote, family, port, fired.time_ns),
        **of_relay(relays, int(engine.state.signals[0]), fired.time_ns),
    }


def of_busy_process(engine: Engine, fired: Fired) -> dict[str, Any]:
    """How much it has computed, and with whom it speaks meanwhile."""
    efforts, at = engine.state.efforts, flow_of(engine.state.efforts)
    flow = engine.state.flows.table[at] if at is not None else None
    ends = {} if flow is None else _ends(engine, flow, fired.time_ns)
    return {**ends, **of_effort(efforts, flow, int(engine.state.signals[0]), fired.time_ns)}


def of_led_session(engine: Engine, fired: Fired) -> dict[str, Any]:
    """From where programs are started."""
    state = engine.state
    remote, family, port = session_end(state.sessions)
    return {
        **_other_end(engine, remote, family, port, fired.time_ns),
        **of_session(state.sessions, int(state.signals[0]), fired.time_ns),
    }


def of_check_ins(engine: Engine, fired: Fired) -> dict[str, Any]:
    """Where it checks in at even intervals."""
    state = engine.state
    remote, family, port = beacon_end(state.beacons)
    return {
        **_other_end(engine, remote, family, port, fired.time_ns),
        **of_beacon(state.beacons, int(state.signals[0]), fired.time_ns),
    }


def of_question(engine: Engine, fired: Fired) -> dict[str, Any]:
    """Which resolver was asked for what."""
    record = np.frombuffer(engine.fired_record(), schema.FIRST_BYTES, 1)[0]
    state = engine.state
    return {
        **_ends(engine, record, fired.time_ns),
        **of_names(state.domains, state.text, int(state.signals[0]), fired.time_ns),
    }


def of_ping(engine: Engine, fired: Fired) -> dict[str, Any]:
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


def of_first_bytes(engine: Engine, fired: Fired) -> dict[str, Any]:
    """What a flow is, by what was said in it first."""
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
        **facts_there(engine, _NET_FACTS),
        "first_bytes": decode(data[:_SHOWN_BYTES]),
        **find(engine, texts),
    }
