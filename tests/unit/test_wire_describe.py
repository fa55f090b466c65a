# SPDX-License-Identifier: Apache-2.0
"""What an alert says of first bytes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracer.detect.wire.describe import describe
from tracer.detect.wire.spans import ICMP, TCP, UDP

sys.path.insert(0, str(Path(__file__).parent.parent))
from wire_bytes import LOGIN, SUBSCRIBE, TLS_DEFAULT, WALLET, client_hello, question
from wire_samples import SAMPLES


def test_tls():
    details = describe(TLS_DEFAULT, direction=0, transport=TCP, remote_port=443)
    assert details["protocol"] == "tls"
    assert details["host"] == "example.org"
    assert details["tls_version"] == "1.3"
    assert details["tls_alpn"] == ["h2", "http/1.1"]
    assert str(details["ja4"]).startswith("t13d") and "incomplete" not in str(details["ja4"])
    cut = describe(TLS_DEFAULT[:200], direction=0, transport=TCP, remote_port=443)
    assert str(cut["ja4"]).endswith("(incomplete)")
    assert describe(client_hello(None), direction=0, transport=TCP)["ja4"] != details["ja4"]


def test_mining():
    details = describe(LOGIN, direction=0, transport=TCP, remote_port=3333)
    assert details["methods"] == ["login"]
    assert details["login"] == WALLET.decode()
    assert str(details["software"]).startswith("XMRig/")
    both = SUBSCRIBE + b'{"id": 2, "method": "mining.authorize", "params": ["wallet.rig", "x"]}\n'
    details = describe(both, direction=0, transport=TCP)
    assert details["methods"] == ["mining.subscribe", "mining.authorize"]
    assert details["login"] == "wallet.rig"


def test_http_and_dns():
    proxied = b"CONNECT a.example:3333 HTTP/1.1\r\n\r\n" + LOGIN
    details = describe(proxied, direction=0, transport=TCP, remote_port=8080)
    assert details["http_request"] == "CONNECT a.example:3333 HTTP/1.1"
    assert details["protocol"] == "stratum" and details["host"] == "a.example"
    details = describe(b"HTTP/1.1 200 OK\r\nServer: x\r\n\r\n", direction=1, transport=TCP)
    assert details["http_status"] == "HTTP/1.1 200 OK"
    details = describe(question(b"a.example", 16), direction=0, transport=UDP, remote_port=53)
    assert (details["host"], details["dns_type"]) == ("a.example", "TXT")
    assert describe(b"", direction=0, transport=TCP) == {"protocol": "unknown"}


def test_bytes_that_are_no_text():
    details = describe(b"SSH-2.0-x\r\n", direction=0, transport=TCP)
    assert details["software"] == "x"
    details = describe(b"GET /\xff HTTP/1.1\r\nHost: \xfe\r\n\r\n", direction=0, transport=TCP)
    assert details["http_request"] == r"GET /\xff HTTP/1.1"
    assert details["host"] == r"\xfe"


@pytest.mark.parametrize("sample", SAMPLES, ids=[f"{n}-{s.expected}" for n, s in enumerate(SAMPLES)])
def test_every_sample(sample):
    details = describe(
        sample.data,
        direction=int(sample.received),
        transport=sample.transport,
        remote_port=sample.port,
        first=sample.first,
        **{name.lower(): value for name, value in sample.look.items()},
    )
    assert details["protocol"] == sample.expected or sample.expected is None


@settings(max_examples=200)
@given(st.binary(max_size=600), st.sampled_from([TCP, UDP, ICMP]), st.integers(0, 1))
def test_any_bytes(data, transport, direction):
    for value in describe(data, direction=direction, transport=transport).values():
        assert isinstance(value, str | int | list)
