# SPDX-License-Identifier: Apache-2.0
"""The plainest Python for what first bytes are: regular expressions and slices, written from what each
protocol looks like, and never fast. Families have modules of their own.
"""

from __future__ import annotations

import re

from naive_wire_dns import dns
from naive_wire_flow import RECORD, Flow, Verdict, big, has
from naive_wire_http import (
    frame,
    http,
    is_answer,
    request_target,
)
from naive_wire_json import (
    json_at,
    json_lines,
)
from naive_wire_ssh import socks4, socks5, ssh
from naive_wire_tcp import balanced, begins_as_text, service, shell, tunnel
from naive_wire_tls import tls
from naive_wire_udp import datagram, icmp, openvpn

from tracer.detect.wire.protocols import PROTOCOLS


def identify(data: bytes, look: list[int]) -> Verdict:
    other = PROTOCOLS[look[7] - 1].name if look[7] else None
    flow = Flow(
        bool(look[0]),
        look[1],
        look[2],
        look[3],
        bool(look[4]),
        look[5],
        other,
        look[8],
        bool(look[9]),
        bool(look[10]),
    )
    if not data:
        return Verdict(None, frozenset(), b"", b"")
    if flow.transport == 1:
        protocol = icmp(data, max(flow.first, len(data)), flow)
    elif flow.transport == 6:
        protocol = stream(data, flow)
        if flow.client == flow.other_spoke:
            flow.traits.add("server-first")
    else:
        protocol = datagram(data, flow)
    if flow.transport != 1:
        ports(protocol, data, flow)
    return Verdict(protocol, frozenset(flow.traits), flow.host, flow.software)


def ports(protocol: str | None, data: bytes, flow: Flow) -> None:
    port = flow.local if flow.accepted else flow.remote
    own = next((p.ports for p in PROTOCOLS if p.name == protocol), ())
    if port and own and port not in own:
        flow.traits.add("protocol-on-foreign-port")
    if len(data) < 8:
        return
    expected = True
    web = request_target(data) is not None or is_answer(data) or data.startswith(b"PRI * HTTP/2.0\r\n")
    if port == 53:
        expected = protocol in ("dns", "iodine", "dnscat2", "dns2tcp")
    elif flow.transport == 6 and port in (443, 8443):
        expected = has(data, RECORD)
    elif flow.transport == 6 and port == 80:
        expected = web
    elif flow.transport == 6 and port == 22:
        expected = protocol == "ssh"
    if not expected:
        flow.traits.add("unexpected-on-port")


def stream(data: bytes, flow: Flow) -> str | None:
    protocol = tcp(data, flow.first, flow)
    for _ in range(4):
        if not flow.inner:
            break
        data, flow.inner = flow.inner, b""
        inner = frame(data, flow) if flow.websocket else tcp(data, len(data), flow)
        if inner not in (None, "tls", "http", "http2"):
            protocol = inner
    return protocol


def binary(data: bytes, first: int, flow: Flow) -> str | None:
    protocol = None
    if data[0] == 5:
        protocol = socks5(data, first, flow)
    elif data[0] in (4, 0):
        protocol = socks4(data, flow)
    protocol = protocol or tunnel(data, first)
    if protocol == "yamux" and not flow.client and data[7] & 1:
        flow.traits.add("role-reversed")
    protocol = protocol or service(data, first, flow)
    protocol = protocol or dns(data, flow)
    size = big(data[:2])
    if not protocol and len(data) >= 16 and 14 <= size <= 1500 and openvpn(data[2 : 2 + size], size):
        protocol = "openvpn"
    setup = rb"\0\0\0..\0[\0-\x02]\x02\0\x02\0....(.)...."
    match = re.match(setup, data, re.DOTALL)
    if not protocol and match:
        length = data[3] | data[4] << 8
        if 17 <= length <= 1400 and 16 + match[1][0] <= length:
            protocol = "stratum-v2"
    if not protocol and shell(data, first):
        protocol = "shell"
    if not protocol and b"\nSSH-" in data:
        protocol = ssh(data[data.index(b"\nSSH-") + 1 :], flow)
    return protocol


def tcp(data: bytes, first: int, flow: Flow) -> str | None:
    if has(data, RECORD):
        if data[0] == 22 and data[5:6] == b"\1" and not flow.client:
            flow.traits.add("role-reversed")
        return tls(data, flow)
    target = request_target(data)
    if target is not None or is_answer(data):
        return http(data, target, flow)
    if data.startswith(b"PRI * HTTP/2.0\r\n"):
        if not flow.client:
            flow.traits.add("role-reversed")
        return "http2"
    protocol = ssh(data, flow)
    if protocol:
        return protocol
    bore = rb'\{"(Hello":|(Accept|Authenticate|Challenge|Connection)":")|"Heartbeat"\0'
    if has(data, bore) and b"\0" in data[:256]:
        return "bore"
    json = json_at(data)
    protocol = binary(data, first, flow) if json is None else json_lines(json, flow)
    if not protocol and balanced(data[:first] if first >= 48 else data):
        mine, others = flow.first, flow.other_first
        if not flow.client:
            mine, others = others, mine
        if mine == 64 and others in (170, 234):
            return "stratum-v2"
        if not begins_as_text(data):
            flow.traits.add("looks-random")
    return protocol
