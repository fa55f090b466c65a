# SPDX-License-Identifier: Apache-2.0
"""What first bytes say, in words: the evidence of an alert. Plain Python, for once it has fired."""

from __future__ import annotations

import re
from typing import TypeAlias

import numpy as np

from tracer.detect.wire import spans
from tracer.detect.wire.hello import Hello, parse_hello
from tracer.detect.wire.identify import identify
from tracer.detect.wire.protocols import PROTOCOLS, TRAITS
from tracer.text import decode

Details: TypeAlias = dict[str, str | int | list[str]]

_TYPES = {
    1: "A",
    2: "NS",
    5: "CNAME",
    6: "SOA",
    10: "NULL",
    12: "PTR",
    15: "MX",
    16: "TXT",
    25: "KEY",
    28: "AAAA",
    33: "SRV",
    64: "SVCB",
    65: "HTTPS",
    255: "ANY",
    65399: "PRIVATE",
}
_REQUEST = re.compile(rb"[A-Z]{1,10} [^\r\n]*")
_ANSWER = re.compile(rb"HTTP/1\.[^\r\n]*")
_METHOD = re.compile(rb'"method"\s*:\s*"((?:[^"\\]|\\.){0,64})"')
_LOGIN = re.compile(rb'"(?:login|user)"\s*:\s*"((?:[^"\\]|\\.)*)')
_PARAMS = re.compile(rb'"params"\s*:\s*\[\s*"((?:[^"\\]|\\.)*)')
_STRING_MAX = 200


def describe(
    data: bytes,
    *,
    direction: int,
    transport: int,
    remote_port: int = 0,
    local_port: int = 0,
    accepted: bool = False,
    first: int = 0,
    whole: int = 0,
    other_protocol: int = 0,
    other_first: int = 0,
    other_spoke_first: bool = False,
    other_traits: int = 0,
) -> Details:
    """The protocol that ``data`` begins, and what it gives away; see spans for what the arguments are."""
    raw = data[: spans.CAPTURE]
    look = np.zeros(spans.LOOK, np.int64)
    look[:] = (
        direction,
        transport,
        remote_port,
        local_port,
        accepted,
        first or len(data),
        whole or len(data),
        other_protocol,
        other_first,
        other_spoke_first,
        other_traits,
    )
    # a byte more, so that there is an array for no bytes
    array = np.frombuffer(bytearray(raw + b"\0"), np.uint8)
    text = np.zeros(spans.TEXT, np.uint8)
    out = np.zeros(spans.OUT, np.int64)
    number = identify(array, 0, len(raw), look, text, out)
    details: Details = {"protocol": PROTOCOLS[number - 1].name if number else "unknown"}
    traits = [trait.name for bit, trait in enumerate(TRAITS) if out[spans.TRAITS] >> bit & 1]
    if traits:
        details["traits"] = traits
    if out[spans.HOST_IN]:
        source = array if out[spans.HOST_IN] == spans.IN_DATA else text
        details["host"] = decode(bytes(source[out[spans.HOST_LO] : out[spans.HOST_HI]]))
    if out[spans.SOFTWARE_HI]:
        details["software"] = decode(bytes(array[out[spans.SOFTWARE_LO] : out[spans.SOFTWARE_HI]]))
    details |= _http(raw)
    if transport == spans.TCP:
        hello = parse_hello(data)
        if hello is not None:
            details |= _tls(hello)
    if details["protocol"] in ("stratum", "json-rpc-mining"):
        details |= _mining(raw)
    if details["protocol"] in ("dns", "iodine", "dnscat2", "dns2tcp"):
        details |= _dns(raw, transport)
    return details


def _http(data: bytes) -> Details:
    """The first line of a request or of an answer."""
    request = _REQUEST.match(data)
    if request and (b" HTTP/1." in request[0] or request.end() == len(data) > 8):
        return {"http_request": decode(request[0][:_STRING_MAX])}
    answer = _ANSWER.match(data)
    return {"http_status": decode(answer[0][:_STRING_MAX])} if answer else {}


def _tls(hello: Hello) -> Details:
    """What a ClientHello offers, and whose it looks like."""
    details: Details = {
        "tls_version": hello.version_name,
        "tls_ciphers": len(hello.ciphers),
        "ja4": hello.ja4() + ("" if hello.whole else " (incomplete)"),
    }
    if hello.alpn:
        details["tls_alpn"] = [decode(name) for name in hello.alpn]
    return details


def _mining(data: bytes) -> Details:
    """The methods that are called, in order, and who logs in."""
    details: Details = {}
    methods = [decode(method) for method in _METHOD.findall(data)]
    if methods:
        details["methods"] = methods[:8]
    login = _LOGIN.search(data)
    if login is None and any(name in ("mining.authorize", "eth_submitLogin") for name in methods):
        at = max(data.find(b"authorize"), data.find(b"eth_submitLogin"))
        login = _PARAMS.search(data, at) or _PARAMS.search(data)
    if login:
        details["login"] = decode(login[1][:_STRING_MAX])
    return details


def _dns(data: bytes, transport: int) -> Details:
    """The type that is asked for; the name is the host."""
    at = 14 if transport == spans.TCP else 12
    while at < len(data) and data[at]:
        at += 1 + data[at]
    kind = int.from_bytes(data[at + 1 : at + 3], "big")
    return {"dns_type": _TYPES.get(kind, f"TYPE{kind}")}
