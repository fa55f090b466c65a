# SPDX-License-Identifier: Apache-2.0
"""What the records of connections say."""

from __future__ import annotations

import ipaddress

import pytest
from harness import record, workload

from tracer.kernel import schema

ACCEPTED = schema.FLOW_FLAG["FLOW_ACCEPTED"]
UNCONNECTED = schema.FLOW_FLAG["FLOW_UNCONNECTED"]


def address(e, side: str) -> str:
    raw = bytes(e[side])
    return str(ipaddress.ip_address(raw[:4] if e["family"] == 2 else raw))


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_life_of_a_connection(host):
    found = record(workload("connects", 1, host, 70_001, 1_009))
    (connect,) = found.of("connect")
    (listen,) = found.of("listen")
    opened = {bool(e["flags"] & ACCEPTED): e for e in found.of("flow-open")}
    closed = {bool(e["flags"] & ACCEPTED): e for e in found.of("flow-close")}
    client, server = closed[False], closed[True]
    assert address(connect, "remote") == address(listen, "local") == host
    assert connect["remote_port"] == listen["local_port"] == opened[False]["remote_port"]
    assert opened[True]["local_port"] == listen["local_port"]
    assert connect["protocol"] == 6
    assert connect["cookie"] == opened[False]["cookie"] == client["cookie"]
    assert server["cookie"] not in (0, connect["cookie"], listen["cookie"])
    assert (int(client["sent"]), int(client["received"])) == (70_001, 1_009)
    assert (int(server["sent"]), int(server["received"])) == (1_009, 70_001)
    assert client["error"] == server["error"] == 0
    assert client["established"] and server["established"]
    assert 0 < opened[False]["handshake_ns"] < client["duration_ns"] < 10_000_000_000
    assert {int(e["tgid"]) for e in (connect, listen, client, server)} == {found.root}


def test_a_refused_connection_never_opens():
    found = record(workload("refused", 1))
    (closed,) = found.of("flow-close")
    assert (int(closed["error"]), int(closed["established"])) == (111, 0)
    assert found.of("flow-open") == []


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_datagrams(host):
    (first,) = record(workload("datagrams", 1, host)).of("connect")
    assert first["flags"] & UNCONNECTED
    assert first["protocol"] == 17
    assert address(first, "remote") == host


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_bound_datagram_socket_serves(host):
    (listen,) = record(workload("serve_datagrams", host)).of("listen")
    assert (listen["protocol"], address(listen, "local")) == (17, host)
    assert listen["local_port"] > 0


def test_connect_through_io_uring():
    found = record(workload("io_uring_connect"))
    assert found.status == 0
    (connect,) = found.of("connect")
    assert connect["tgid"] == found.root
    assert len(found.of("flow-open")) == 2
