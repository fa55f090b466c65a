# SPDX-License-Identifier: Apache-2.0
"""First bytes as programs send them: from their documentation, their sources, or made by the real thing."""

from __future__ import annotations

from wire_bytes import (
    ICMP,
    UDP,
    Sample,
    client_hello,
    noise,
    question,
)
from wire_samples_datagrams import datagrams
from wire_samples_http import http
from wire_samples_services import services
from wire_samples_stratum import stratum
from wire_samples_tunnels import tunnels

#: What resembles something that it is not.
HARMLESS: tuple[Sample, ...] = (
    Sample(None, b'{"jsonrpc":"2.0","method":"eth_blockNumber","params":[],"id":1}\n'),
    Sample(
        None,
        b'{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-03-26","capabilities":{}}}\n',
    ),
    Sample(None, b'Content-Length: 52\r\n\r\n{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}'),
    Sample("http", b'POST / HTTP/1.1\r\nHost: n\r\n\r\n{"method":"getblockcount","params":[]}', host=b"n"),
    Sample(
        None,
        b'{"jsonrpc":"2.0","method":"call","params":{"service":"common","method":"login","args":["db","u","p"]}}',
    ),
    Sample(None, b'{"id":1,"method":"login","params":["root","secret"]}'),
    Sample(None, b'{"method":"job","params":{"job_id":"42","name":"nightly"}}'),
    Sample(None, b'{"method":"submit","params":{"job_id":"42","payload":"x"}}'),
    Sample(None, b'{"text":"what is mining.subscribe in \\"method\\":\\"mining.subscribe\\"?"}'),
    Sample(None, b"Welcome to the jungle\nSSH is not spoken here\n"),
    Sample(None, b"\5\1\0 and more in the same segment"),
    Sample(None, b"\4\1hello"),
    Sample(None, b"GET the milk\n"),
    Sample("tls", client_hello("www.nvidia.com"), host=b"www.nvidia.com", traits="tls-without-alpn"),
    Sample("tls", client_hello("www.web2print.com"), host=b"www.web2print.com", traits="tls-without-alpn"),
    Sample(
        "dns",
        question(b"da39a3ee5e6b4b0d3255bfef95601890afd80709.hash.example.com", 16),
        UDP,
        53,
        host=b"da39a3ee5e6b4b0d3255bfef95601890afd80709.hash.example.com",
    ),
    Sample(
        "dns",
        question(b"a-rather-long-name-of-a-service.eu-central-1.elb.amazonaws.com"),
        UDP,
        53,
        host=b"a-rather-long-name-of-a-service.eu-central-1.elb.amazonaws.com",
    ),
    Sample(None, b"\x85\0\x7b\xb8" + noise(60), ICMP),  # a router solicitation
    Sample(None, bytes(512)),
    Sample(None, b"\0" * 148, UDP),
    Sample(None, b"plain text, and some more of it, as a chat would have. " * 4),
)

SAMPLES: tuple[Sample, ...] = (*stratum(), *http(), *tunnels(), *datagrams(), *services())
