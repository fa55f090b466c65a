# SPDX-License-Identifier: Apache-2.0
"""ClientHellos of real libraries, whole, cut and split; the same inside of QUIC."""

from __future__ import annotations

import socket
import ssl
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracer.detect.wire import spans
from tracer.detect.wire.hello import parse_hello, parse_message
from tracer.detect.wire.identify import identify
from tracer.detect.wire.protocols import PROTOCOLS, TRAITS

sys.path.insert(0, str(Path(__file__).parent.parent))
import naive_quic
import naive_wire
from wire_bytes import RFC9001_INITIAL, client_hello, split_records


def verdict(data: bytes, transport: int = spans.TCP, first: int = 0) -> tuple[str | None, set[str], bytes]:
    data = data[: spans.CAPTURE]
    array = np.frombuffer(bytearray(data), np.uint8)
    look = np.zeros(spans.LOOK, np.int64)
    look[spans.TRANSPORT], look[spans.REMOTE_PORT], look[spans.FIRST] = transport, 443, first or len(data)
    text, out = np.zeros(spans.TEXT, np.uint8), np.zeros(spans.OUT, np.int64)
    number = identify(array, 0, len(data), look, text, out)
    source = text if out[spans.HOST_IN] == spans.IN_TEXT else array
    host = bytes(source[out[spans.HOST_LO] : out[spans.HOST_HI]]) if out[spans.HOST_IN] else b""
    traits = {trait.name for bit, trait in enumerate(TRAITS) if out[spans.TRAITS] >> bit & 1}
    plain = naive_wire.identify(data, look.tolist())
    protocol = PROTOCOLS[number - 1].name if number else None
    assert (protocol, frozenset(traits), host) == plain[:3]
    return protocol, traits, host


@pytest.mark.parametrize("host", [None, "a.example", "x" * 60 + ".example.org"])
@pytest.mark.parametrize("alpn", [None, ["http/1.1"], ["h2", "http/1.1"], ["mqtt"]], ids=str)
@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
def test_real_hellos(host, alpn, newest):
    protocol, traits, found = verdict(client_hello(host, alpn, newest=newest))
    assert protocol == "tls"
    assert found == (host or "").encode()
    assert ("tls-without-sni" in traits) == (host is None)
    assert ("tls-without-alpn" in traits) == (alpn is None)
    assert ("tls-http-alpn" in traits) == (alpn is not None and alpn != ["mqtt"])
    assert not traits & {"tls-outdated", "tls-ech", "tls-split-hello", "role-reversed", "unexpected-on-port"}


@pytest.mark.parametrize("size", [1, 3, 5, 40, 100])
def test_split_hellos(size):
    """A name cut in two by a record's header is found all the same, as far as the capture goes."""
    hello = split_records(client_hello("front.example.org", newest=ssl.TLSVersion.TLSv1_2), size)
    protocol, traits, host = verdict(hello)
    assert protocol == "tls"
    assert "tls-split-hello" in traits
    assert host == (b"front.example.org" if size > 1 else b"")


def test_openssl_of_the_command_line():
    """What `openssl s_client` sends, as a server reads it: no SNI by itself for an address."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        port = listener.getsockname()[1]
        command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-noservername"]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ) as client:
            listener.settimeout(10)
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(10)
                hello = connection.recv(4096)
            client.kill()
            client.communicate()
    protocol, traits, host = verdict(hello)
    assert (protocol, host) == ("tls", b"")
    assert {"tls-without-sni", "tls-without-alpn"} <= traits


def hello_with(*extensions: tuple[int, bytes], version: int = 0x0303) -> bytes:
    body = b"".join(struct.pack(">HH", kind, len(data)) + data for kind, data in extensions)
    message = struct.pack(">H", version) + bytes(32) + b"\0" + b"\0\4\x13\1\xc0\x2f" + b"\1\0"
    message += struct.pack(">H", len(body)) + body
    message = b"\1" + struct.pack(">I", len(message))[1:] + message
    return b"\x16\3\1" + struct.pack(">H", len(message)) + message


def test_outdated_and_ech():
    assert "tls-outdated" in verdict(hello_with(version=0x0302))[1]
    assert "tls-outdated" not in verdict(hello_with((43, b"\2\3\4"), version=0x0301))[1]
    assert "tls-outdated" in verdict(hello_with((43, b"\4\x7a\x7a\3\2"), version=0x0301))[1]
    assert "tls-ech" in verdict(hello_with((0xFE0D, b"\0" * 20)))[1]


def test_what_the_capture_lacks_is_not_said_to_lack():
    """A key share of the new kind fills the capture; behind it there may be a name."""
    large = hello_with((51, bytes(1216)), (0, b"\0\x0e\0\0\x0bexample.org"))
    assert not verdict(large)[1] & {"tls-without-sni", "tls-without-alpn"}
    last = hello_with((43, b"\2\3\4"), (51, bytes(1216)))
    assert {"tls-without-sni", "tls-without-alpn"} <= verdict(last)[1]


# -- JA4


def test_ja4_is_the_published_one():
    """The example of JA4's authors: Chrome's ClientHello, from its lists."""
    ciphers = "1301 1302 1303 c02b c02f c02c c030 cca9 cca8 c013 c014 009c 009d 002f 0035"
    kinds = "001b 0000 0033 0010 4469 0017 002d 000d 0005 0023 0012 002b ff01 000b 000a 0015"
    signatures = "0403 0804 0401 0503 0805 0501 0806 0601"
    bodies = {
        0x0000: b"\0\x0e\0\0\x0bexample.org",
        0x0010: b"\0\x0c\2h2\x08http/1.1",
        0x000D: b"\0\x10" + bytes.fromhex(signatures.replace(" ", "")),
        0x002B: b"\6\xfa\xfa\3\4\3\3",
    }
    extensions = [(int(kind, 16), bodies.get(int(kind, 16), b"")) for kind in kinds.split()]
    hello = bytearray(hello_with((0x3A3A, b""), *extensions))
    suites = bytes.fromhex("2a2a" + ciphers.replace(" ", ""))
    at = 5 + 4 + 2 + 32 + 1
    hello[at : at + 6] = struct.pack(">H", len(suites)) + suites
    grown = len(suites) - 4
    hello[3:5] = struct.pack(">H", int.from_bytes(hello[3:5], "big") + grown)
    hello[6:9] = struct.pack(">I", int.from_bytes(hello[6:9], "big") + grown)[1:]
    parsed = parse_hello(bytes(hello))
    assert parsed is not None and parsed.whole
    assert parsed.ja4() == "t13d1516h2_8daaf6152771_e5627efa2ab1"


@pytest.mark.parametrize("size", range(6, 300, 13))
def test_cut_hellos_are_said_to_be(size):
    parsed = parse_hello(client_hello(alpn=["h2"])[:size])
    assert parsed is None or not parsed.whole


@given(st.binary(max_size=200))
def test_any_hello_is_parsed(data):
    parsed = parse_message(b"\1" + data)
    assert parsed is None or len(parsed.ja4()) == 36


# -- QUIC

HELLO = client_hello("quic.example.net", ["h3"])[5:]


def crypto(offset: int, data: bytes) -> bytes:
    return b"\6" + struct.pack(">HH", 0x4000 | offset, 0x4000 | len(data)) + data


@pytest.mark.parametrize("version", naive_quic.SALTS)
@pytest.mark.parametrize("connection", [b"\1" * 8, b"\2" * 20], ids=len)
def test_quic_names(version, connection):
    packet = naive_quic.seal(version, connection, crypto(0, HELLO[:300]))
    assert verdict(packet, spans.UDP, 1200) == ("quic", {"tls-http-alpn"}, b"quic.example.net")


def test_quic_of_the_standard():
    assert verdict(RFC9001_INITIAL, spans.UDP, 1200)[2] == b"example.com"


def test_quic_in_pieces():
    """As browsers send it: frames in any order, padding and pings between."""
    at = HELLO.index(b"quic.example.net")
    parts = [crypto(at - 9, HELLO[at - 9 : at + 30]), b"\1\0\0\0", crypto(0, HELLO[: at - 9]), b"\1"]
    for pieces in (parts, parts[:1], parts[::-1]):
        packet = naive_quic.seal(1, b"12345678", b"".join(pieces))
        assert verdict(packet, spans.UDP, 1200)[2] == b"quic.example.net"
    packet = naive_quic.seal(1, b"12345678", crypto(0, HELLO[: at + 5]))
    assert verdict(packet, spans.UDP, 1200)[2] == b""


def test_quic_tunnel():
    hello = client_hello("region1.v2.argotunnel.com", ["argotunnel"])[5:]
    packet = naive_quic.seal(1, b"12345678", b"\2\0\0\0\0" + crypto(0, hello[:350]))
    assert verdict(packet, spans.UDP, 1200)[0] == "cloudflared"


@settings(max_examples=60)
@given(st.binary(max_size=300), st.binary(max_size=20), st.sampled_from([*naive_quic.SALTS]))
def test_any_frames(payload, connection, version):
    assert verdict(naive_quic.seal(version, connection, payload), spans.UDP, 1200)[0] is not None
