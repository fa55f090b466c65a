# SPDX-License-Identifier: Apache-2.0
"""HTTP and WebSockets, for the plain twin."""

from __future__ import annotations

import re

from naive_wire_flow import SPACE, Flow, has, one_of
from naive_wire_json import (
    json_at,
    json_body,
    json_lines,
)
from naive_wire_ssh import ssh

METHODS = "GET POST PUT HEAD DELETE OPTIONS PATCH TRACE PROPFIND PROPPATCH MKCOL COPY MOVE LOCK UNLOCK REPORT SEARCH PURGE LINK UNLINK CONNECT"
OVER_HTTP = [
    "http-connect",
    "websocket",
    "json-rpc-mining",
    "chisel",
    "frp",
    "gost",
    "wstunnel",
    "pagekite",
    "tailscale",
    "teleport",
    "dev-tunnel",
]


def request_target(data: bytes) -> int | None:
    match = re.match(rb"([A-Z]{1,9}) ", data)
    if not match or match[1].decode() not in METHODS.split():
        return None
    rest = data[match.end() :]
    line, newline, _ = rest.partition(b"\n")
    if newline:
        return match.end() if b" HTTP/1." in line else None
    plain = rest.startswith(b"/") or (rest and match[1] == b"CONNECT") or rest.lower().startswith(b"http://")
    return match.end() if plain else None


def is_answer(data: bytes) -> bool:
    return has(data, rb"HTTP/1\.. ...")


def authority(text: bytes, flow: Flow) -> None:
    text = text.rsplit(b"@", 1)[-1]
    flow.name(text[1:].partition(b"]")[0] if text.startswith(b"[") else text.partition(b":")[0])


def http(data: bytes, target: int | None, flow: Flow) -> str:
    protocol = "http"
    flow.websocket = False
    upgrades: set[str] = set()
    if target is not None:
        protocol = http_target(data, target, flow)
        if not flow.client:
            flow.traits.add("role-reversed")
    lines = data.split(b"\n")
    body = None
    for number, line in enumerate(lines[1:65], 1):
        last = number == len(lines) - 1
        if last:
            break
        if line in (b"", b"\r"):
            body = b"\n".join(lines[number + 1 :])
            break
        given = header(line, upgrades, flow)
        if given and protocol in ("http", "http-connect"):
            protocol = given
    flow.websocket = "websocket" in upgrades
    if "other" in upgrades:
        flow.traits.add("http-upgrade")
    if flow.websocket and protocol == "http":
        protocol = "websocket"
    if target is None:
        if protocol in ("http", "http-connect") and flow.other in OVER_HTTP:
            protocol = flow.other
        if body and (
            flow.other == "http-connect" or upgrades or (flow.other_proxied and flow.other != "http")
        ):
            flow.inner = body
        return protocol
    if body:
        json = json_at(body)
        if protocol == "http-connect" or upgrades:
            flow.inner = body
        elif json is not None and protocol == "http" and json_body(json, flow):
            protocol = "json-rpc-mining"
    return protocol


def http_target(data: bytes, at: int, flow: Flow) -> str:
    match = re.compile(rb"[^\0- ]*").match(data, at)
    assert match
    target = match[0]
    ended = match.end() < len(data)
    if data.startswith(b"CONNECT "):
        if target.lower().startswith(b"pagekite:"):
            return "pagekite"
        flow.traits.add("proxied")
        if ended:
            authority(target, flow)
        return "http-connect"
    absolute = re.match(rb"(?i)https?://([^/]*)(/?)", target)
    if absolute:
        flow.traits.add("proxied")
        if ended or absolute[2]:
            authority(absolute[1], flow)
    if target.startswith(b"/~!frp"):
        return "frp"
    if target == b"/ts2021":
        return "tailscale"
    return "teleport" if target.startswith(b"/webapi/connectionupgrade") else "http"


def header(line: bytes, upgrades: set[str], flow: Flow) -> str | None:
    name, colon, value = line.partition(b":")
    if not colon:
        return None
    value = value.strip(SPACE)
    name = name.lower()
    short = name[:21]
    if one_of(short, "host"):
        authority(value, flow)
    elif one_of(short, "user-agent server"):
        flow.software = value
    elif one_of(short, "x-mining-extensions x-mining-hashrate x-stratum x-roll-ntime"):
        return "json-rpc-mining"
    elif one_of(short, "x-tailscale-handshake"):
        return "tailscale"
    elif one_of(short, "upgrade"):
        value = value.lower()
        if value == b"websocket":
            upgrades.add("websocket")
        elif value in (b"tailscale-control-protocol", b"derp"):
            upgrades.add("other")
            return "tailscale"
        elif not value.startswith(b"h2c"):
            upgrades.add("other")
    elif one_of(short, "sec-websocket-protoco"):
        if value.lower().startswith(b"chisel-v"):
            return "chisel"
        if b"authorization.bearer." in value:
            return "wstunnel"
        if b"tunnel-relay-" in value:
            return "dev-tunnel"
    elif name.startswith((b"gost-", b"x-gost-")):
        return "gost"
    elif name.startswith(b"x-pagekite-"):
        return "pagekite"
    return None


def frame(data: bytes, flow: Flow) -> str | None:
    if len(data) < 2 or data[0] & 0x70 or (data[0] & 15) not in (0, 1, 2, 8, 9, 10):
        return None
    masked, size = data[1] >= 128, data[1] & 127
    payload = data[2 + {126: 2, 127: 8}.get(size, 0) :]
    if not masked:
        if flow.client:
            flow.traits.add("websocket-unmasked")
    else:
        mask, payload = payload[:4], payload[4:260]
        payload = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
        if not payload:
            return None
    protocol = ssh(payload, flow)
    json = json_at(payload)
    if json is not None:
        protocol = json_lines(json, flow)
    if masked:
        flow.software = b""
    return protocol
