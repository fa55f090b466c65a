# SPDX-License-Identifier: Apache-2.0
"""Datagrams and pings."""

from __future__ import annotations

import struct
from typing import Any

from wire_bytes import (
    ICMP,
    RFC9001_INITIAL,
    UDP,
    Sample,
    answer,
    echo,
    noise,
    question,
    record,
)


def datagrams() -> list[Sample]:
    def udp(expected: str | None, data: bytes, traits: str = "", **more: Any) -> Sample:
        return Sample(expected, data, UDP, traits=traits, **more)

    sender = noise(5, "zt")
    return [
        udp("dns", question(b"www.Example.org"), port=53, host=b"www.example.org"),
        udp(
            "dns",
            question(b"example.org", 65, edns=True),
            host=b"example.org",
            traits="protocol-on-foreign-port",
        ),
        udp("dns", question(b"x.example", 16), port=53, host=b"x.example", traits="dns-txt-type"),
        udp("dns", question(b"x.example", 29), port=53, host=b"x.example", traits="dns-rare-type"),
        udp(
            "dns",
            answer(b"a.example", record(b"\xc0\x0c", 1, bytes(4))),
            received=True,
            port=53,
            host=b"a.example",
            traits="dns-response",
        ),
        Sample("dns", struct.pack(">H", 29) + question(b"x.example.x"), port=53, host=b"x.example.x"),
        udp(
            "dns",
            question(b"mzxw6ytboi4dsnrq2tqmjwg43demzvgq3tmnzyhe2tcmjz.t.example.org", 16),
            port=53,
            host=b"mzxw6ytboi4dsnrq2tqmjwg43demzvgq3tmnzyhe2tcmjz.t.example.org",
            traits="dns-long-label dns-high-entropy",
        ),
        udp(
            "iodine",
            question(b"vaaaakaxyz.t.example", 10),
            port=53,
            host=b"vaaaakaxyz.t.example",
            traits="dns-null-type",
        ),
        udp(
            "iodine",
            question(b"zb1aA-Aaahhh-Drink-mal-ein-J\xe4germeister-.t.example", 16),
            port=53,
            host=b"zb1aa-aaahhh-drink-mal-ein-j?germeister-.t.example",
        ),
        udp(
            "iodine",
            question(b"0abcd" + b"x9" * 20 + b".t.example.org", 65399),
            port=53,
            host=b"0abcd" + b"x9" * 20 + b".t.example.org",
            traits="dns-null-type",
        ),
        udp("iodine", b"\x10\xd1\x9e\x10" + noise(16)),
        udp(
            "dnscat2",
            question(b"dnscat.9fa0011f3f5d8e3a0000.example", 16),
            port=53,
            host=b"dnscat.9fa0011f3f5d8e3a0000.example",
        ),
        udp(
            "dnscat2",
            question(b"9fa0001f3f5d8e0000.c2.example", 15),
            port=53,
            host=b"9fa0001f3f5d8e0000.c2.example",
        ),
        udp("dns2tcp", question(b"aaaa.=auth.t.example", 16), port=53, host=b"aaaa.=auth.t.example"),
        udp("quic", RFC9001_INITIAL, port=443, first=1200, host=b"example.com"),
        udp("quic", b"\xc0\0\0\0\1\0\x08" + noise(8) + noise(60), received=True, port=443),
        udp("wireguard", b"\1\0\0\0" + noise(144), port=51820),
        udp("wireguard", b"\2\0\0\0" + noise(88), received=True, traits="protocol-on-foreign-port"),
        udp("wireguard", b"\4\0\0\0\1\2\3\4" + struct.pack("<q", 7) + noise(16)),
        udp("openvpn", b"\x38" + noise(8) + b"\0\0\0\0\0", port=1194),
        udp("openvpn", b"\x38" + noise(8) + noise(20, "hmac") + b"\0\0\0\1\x65\0\0\0" + b"\0\0\0\0\0"),
        udp("openvpn", b"\x38" + noise(8) + b"\0\0\0\1\x65\0\0\0" + noise(37)),
        udp("openvpn", b"\x50" + noise(8) + b"\0\0\0\1\x65\0\0\0" + noise(337)),
        udp("openvpn", b"\x40" + noise(8) + b"\1\0\0\0\0" + noise(8, "remote") + b"\0\0\0\0", received=True),
        udp("tailscale", b"TS\xf0\x9f\x92\xac" + noise(60)),
        udp(
            "zerotier",
            noise(8)
            + noise(5, "to")
            + sender
            + b"\0"
            + noise(8, "mac")
            + b"\1"
            + b"\x0c\1\x0e\0\2"
            + noise(8, "ts")
            + sender
            + b"\0"
            + noise(64, "key"),
            port=9993,
        ),
        udp("nebula", b"\x10\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1" + noise(100), port=4242),
        udp("stun", b"\0\1\0\0\x21\x12\xa4\x42" + noise(12), port=3478),
        udp("ntp", b"\x23" + bytes(47), port=123),
        udp("dtls", b"\x16\xfe\xfd\0\0\0\0\0\0\0\0\0\x40" + noise(64)),
        udp(None, noise(300), traits="looks-random"),
        Sample("icmp", echo(struct.pack("<qq", 1700000000, 5) + bytes(range(0x10, 0x38))), ICMP),
        Sample("icmp", echo(b"abcdefghijklmnopqrstuvwabcdefghi"), ICMP),
        Sample("icmp", echo(noise(56)), ICMP, traits="icmp-odd-payload"),
        Sample("icmp-tunnel", echo(b"\xde\xad\xc0\xde" + noise(40)), ICMP),
        Sample("icmp-tunnel", echo(b"\xd5\x20\x08\x80" + noise(40)), ICMP),
        Sample("icmp-tunnel", echo(b"\x45\0\0\x30" + noise(44)), ICMP),
        Sample(
            "icmp", b"\x45\0\0\x54" + noise(5) + b"\1" + noise(10) + echo(bytes(48), 0), ICMP, received=True
        ),
    ]
