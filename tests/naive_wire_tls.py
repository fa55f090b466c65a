# SPDX-License-Identifier: Apache-2.0
"""TLS ClientHellos, for the plain twin."""

from __future__ import annotations

import re

from naive_wire_flow import Flow, big, one_of

from tracer.detect.wire.protocols import PROTOCOLS


def tls(data: bytes, flow: Flow) -> str:
    if len(data) < 6 or data[0] != 22 or data[5] != 1:
        return "tls"
    size = big(data[3:5])
    after = data[5 + size :]
    fits = size >= 4 and (len(data) < 9 or big(data[6:9]) + 4 <= size)
    if fits or len(after) < 5 or after[0] != 22:
        return hello(data[5 : 5 + size], flow)
    flow.traits.add("tls-split-hello")
    message = b""
    while len(data) > 5 and data[0] == 22 and len(message) < 512:
        size = big(data[3:5])
        message += data[5 : 5 + size]
        data = data[5 + size :]
    return hello(message[:512], flow)


def hello(message: bytes, flow: Flow) -> str:
    end = 4 + big(message[1:4])
    at = 38
    newest = big(message[4:6])
    lists = []
    for size in (1, 2, 1):
        if at + size > len(message):
            return "tls"
        start = at + size
        at = start + big(message[at : at + size])
        lists.append(message[start:at])
    borrowed = re.fullmatch(rb"\x13\x01\x13\x03\x13\x02.*\x00\xff", lists[1], re.DOTALL) is not None
    if at + 2 <= min(end, len(message)):
        end = min(end, at + 2 + big(message[at : at + 2]))
        at += 2
    elif at + 2 <= end:
        return "tls"
    name: bytes | None = None
    cut = alpn = False
    ranks: list[str] = []
    for _ in range(128):
        if at + 4 > min(len(message), end):
            break
        kind, size = big(message[at : at + 2]), big(message[at + 2 : at + 4])
        stop = at + 4 + size
        body = message[at + 4 : min(stop, end)]
        if kind == 0 and name is None and not cut and len(body) >= 5 and body[2] == 0:
            length = big(body[3:5])
            if 5 + length <= len(body):
                name = body[5 : 5 + length]
            elif 5 + length <= size:
                cut = True
        elif kind == 16:
            alpn = True
            ranks += alpns(body, flow)
        elif kind == 43:
            versions = [big(body[i : i + 2]) for i in range(1, len(body) - 1, 2)]
            newest = max([newest, *(v for v in versions if v & 0x0F0F != 0x0A0A)])
        elif kind == 0xFE0D:
            flow.traits.add("tls-ech")
        at = stop
    complete = at + 4 > end
    names = [p.name for p in PROTOCOLS]
    protocol = max(ranks, key=names.index) if ranks else None
    if name:
        flow.name(name)
        protocol = protocol or host_protocol(name)
    elif name is None and not cut and complete:
        flow.traits.add("tls-without-sni")
    if not alpn and complete:
        flow.traits.add("tls-without-alpn")
        if not protocol and name and made_up(name, borrowed):
            protocol = "tor"
    if complete and newest < 0x0303:
        flow.traits.add("tls-outdated")
    return protocol or "tls"


def alpns(body: bytes, flow: Flow) -> list[str]:
    found: list[str] = []
    known = {"argotunnel": "cloudflared", "frp": "frp", "dev-tunnels": "dev-tunnel"}
    body = body[2:]
    for _ in range(32):
        if not body or 1 + body[0] > len(body):
            break
        name, body = body[1 : 1 + body[0]], body[1 + body[0] :]
        special = [value for word, value in known.items() if one_of(name, word)]
        if one_of(name, "h2 h3 http/1.1 http/1.0 http/0.9 h2c h3-29 h3-32 h3-Q050 spdy/3.1"):
            flow.traits.add("tls-http-alpn")
        elif special:
            found = special
        elif name.lower().startswith(b"teleport-"):
            found = ["teleport"]
        elif name.lower().startswith(b"ziti-"):
            found = ["ziti"]
        elif b"tunnel" in name:
            flow.traits.add("tls-tunnel-alpn")
    if found:
        flow.traits.add("tls-tunnel-alpn")
    return found


def host_protocol(name: bytes) -> str | None:
    name = name.lower()
    if name.endswith(b".ngrok-agent.com") or name == b"ngrokd.ngrok.com":
        return "ngrok"
    if name.startswith(b"tunnel.") and name.endswith(b".ngrok.com"):
        return "ngrok"
    if name.endswith((b".cftunnel.com", b".argotunnel.com")):
        return "cloudflared"
    if name.startswith(b"derp") and name.endswith(b".tailscale.com"):
        return "tailscale"
    return "dev-tunnel" if name.endswith(b".tunnels.api.visualstudio.com") else None


def made_up(name: bytes, borrowed: bool) -> bool:
    match = re.fullmatch(rb"[wW]{3}\.([a-z2-7]{4,25})\.[cC][oO][mM]", name)
    if not match or borrowed or len(match[1]) < 8:
        return match is not None and borrowed
    digits = len(re.findall(rb"[2-7]", match[1]))
    vowels = len(re.findall(rb"[aeiou]", match[1]))
    share = vowels / len(match[1])
    return (digits >= 1 and share <= 0.2) or (digits >= 2 and share <= 0.25)
