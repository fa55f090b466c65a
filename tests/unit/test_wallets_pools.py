# SPDX-License-Identifier: Apache-2.0
"""Addresses of mining pools in arguments."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tracer.detect.execfacts import facts_of
from tracer.detect.pools import pool_address_span

sys.path.insert(0, str(Path(__file__).parent.parent))
import naive_facts

POOLS = {
    "stratum+tcp://pool.example.com:3333": "stratum+tcp://pool.example.com:3333",
    "stratum://pool.example.com:3333": "stratum://pool.example.com:3333",
    "STRATUM+SSL://Pool.Example.com:443": "STRATUM+SSL://Pool.Example.com:443",
    "-ostratum+tcp://pool:3333": "stratum+tcp://pool:3333",
    "-o=stratum+tcp://pool:3333": "stratum+tcp://pool:3333",
    "--url=stratum2+tcp://v2.example.com:34254/9bXiEd8boQVhq7WddEcERUL5tyyJ": "stratum2+tcp://v2.example.com:34254",
    "stratum1+tls12://0xabc.rig@eu.example.com:5555": "stratum1+tls12://0xabc.rig@eu.example.com:5555",
    "stratums://0xabc.rig:x@eu.example.com:5555/mail@example.com": "stratums://0xabc.rig:x@eu.example.com:5555",
    "stratumss://0xabc/rig:x@eu.example.com:5555": "stratumss://0xabc/rig:x@eu.example.com:5555",
    "stratum+tcp://kaspa:qqk.rig@eu.example.com:5555": "stratum+tcp://kaspa:qqk.rig@eu.example.com:5555",
    "stratum+tcp://[2001:db8::1]:3333": "stratum+tcp://[2001:db8::1]:3333",
    "stratum+ssl://relay.example.com/pool.example.com:443": "stratum+ssl://relay.example.com/pool.example.com:443",
    "[1]ethproxy+ssl://pool:3333": "ethproxy+ssl://pool:3333",
    "nicehash+tcp://127.0.0.1:3333": "nicehash+tcp://127.0.0.1:3333",
    "daemon+http://127.0.0.1:18081": "daemon+http://127.0.0.1:18081",
    "solo+tcp://node:1234": "solo+tcp://node:1234",
    "alphstratum+tcp://pool:20032": "alphstratum+tcp://pool:20032",
    "zmp+tcp://pool:1": "zmp+tcp://pool:1",
    '{"url": "stratum+tcp://pool:3333"}': "stratum+tcp://pool:3333",
    "curl http://x/y; xmrig -o stratum+tcp://pool:3333 &": "stratum+tcp://pool:3333",
}
NO_POOLS = [
    "stratum+tcp",
    "stratum+tcp://",
    "stratum+tcp://pool",
    "stratum+tcp://pool:",
    "stratum+tcp://pool:0",
    "stratum+tcp://pool:65536",
    "stratum+tcp://:3333",
    "stratum+tcp://pool :3333",
    "stratum+tcp:/pool:3333",
    "stratum+ftp://pool:3333",
    "xstratum+tcp://pool:3333",
    "mystratum://pool:3333",
    "solo://node:1234",
    "daemon://127.0.0.1:80",
    "zil://pool:3333",
    "http://127.0.0.1:8000/v1",
    "https://pool.example.com:443",
    "git+ssh://git@host:22/x",
    "tcp://10.0.0.1:29500",
    "redis://:x@host:6379",
    "grpc+tls://host:443",
    "postgresql+psycopg://u:p@host:5432/db",
    "docker://alpine:3",
    "-e s,stratum+tcp://,,",
]


def found(args: bytes) -> bytes | None:
    """What the kernel finds in arguments that have parts of an address on either side of them."""
    before, after = b"stratum+tcp://", b"://pool:3333"
    data = np.frombuffer(bytearray(before + args + after), np.uint8)
    out = np.zeros(2, np.int64)
    if not pool_address_span(data, len(before), len(before) + len(args), out):
        return None
    assert len(before) <= out[0] < out[1] <= len(before) + len(args)
    return bytes(data[out[0] : out[1]])


@pytest.mark.parametrize("text", POOLS)
@pytest.mark.parametrize("shift", [0, 1, 2])
def test_pool(text, shift):
    args = b"x" * shift + b"\0" + text.encode() + b"\0-p\0x\0"
    assert found(args) == POOLS[text].encode()
    assert facts_of([b"m", text.encode()]) == {"pool-address"}


@pytest.mark.parametrize("text", NO_POOLS)
def test_no_pool(text):
    assert found(text.encode() + b"\0") is None


PIECES = st.sampled_from(
    [text.encode() for text in POOLS]
    + [b"stratum", b"+tcp", b"+", b"://", b":/", b"/", b"//", b":", b"@", b"pool", b":3333", b":0", b"[::1]", b"[", b"]",
       b" ", b"\0", b"-", b"-o", b"\0-o", b'"', b"http", b"solo", b"u:p", b"x" * 390]
) | st.binary(max_size=5)  # fmt: skip


@settings(max_examples=600)
@given(st.lists(PIECES, max_size=10).map(b"".join))
@example(b"stratum+tcp://" + b"u" * 399 + b"@pool:3333")
@example(b"stratum+tcp://" + b"u" * 400 + b"@pool:3333")
def test_agrees_with_the_plain_twin(args):
    assert found(args) == naive_facts.pool(args)
