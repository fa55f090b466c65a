# SPDX-License-Identifier: Apache-2.0
"""What first bytes can be: protocols, numbered from 1, and traits, one bit each.

Rules name both as @name. Places are numbers and bits in saved state: add at the end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from tracer.detect.names import Ints

#: Of ports that a protocol has, at most.
_PORTS = 8
UNKNOWN = 0


class Protocol(NamedTuple):
    """``ports``: those that are its own; none if it may be met on any."""

    name: str
    meaning: str
    ports: tuple[int, ...] = ()


class Trait(NamedTuple):
    """Something about first bytes that no name of a protocol says."""

    name: str
    meaning: str


PROTOCOLS: tuple[Protocol, ...] = (
    Protocol("tls", "TLS"),
    Protocol("http", "HTTP/1"),
    Protocol("http-connect", "HTTP CONNECT: a proxy is asked for a tunnel"),
    Protocol("websocket", "an upgrade to WebSocket"),
    Protocol("http2", "HTTP/2 in the clear"),
    Protocol("ssh", "SSH", (22,)),
    Protocol("socks4", "SOCKS 4 or 4a", (1080, 9050)),
    Protocol("socks5", "SOCKS 5", (1080, 9050, 9150)),
    Protocol("dns", "DNS", (53, 5353, 5355)),
    Protocol("quic", "QUIC", (443, 853, 8443)),
    Protocol("dtls", "TLS over datagrams"),
    Protocol("stun", "STUN: what is my public address?", (3478, 5349, 19302)),
    Protocol("ntp", "the time", (123,)),
    Protocol("icmp", "a ping"),
    Protocol("stratum", "a miner and its pool, as JSON lines"),
    Protocol("stratum-v2", "a miner and its pool, Stratum V2"),
    Protocol("json-rpc-mining", "work for a miner, asked from a node by JSON-RPC"),
    Protocol("coin-node", "nodes of a cryptocurrency among themselves"),
    Protocol("tor", "TLS as Tor speaks it to a relay: no ALPN, a made-up server name"),
    Protocol("wireguard", "WireGuard", (51820,)),
    Protocol("openvpn", "OpenVPN", (1194,)),
    Protocol("tailscale", "Tailscale: control, relay or discovery"),
    Protocol("zerotier", "ZeroTier", (9993,)),
    Protocol("nebula", "Nebula", (4242,)),
    Protocol("chisel", "chisel"),
    Protocol("frp", "frp, gradio's share links among them", (7000,)),
    Protocol("ngrok", "ngrok"),
    Protocol("cloudflared", "Cloudflare Tunnel", (7844,)),
    Protocol("rathole", "rathole"),
    Protocol("bore", "bore", (7835,)),
    Protocol("gost", "gost"),
    Protocol("wstunnel", "wstunnel"),
    Protocol("gsocket", "gsocket, gs-netcat", (443, 7350, 67)),
    Protocol("nps", "nps", (8024,)),
    Protocol("pagekite", "PageKite"),
    Protocol("teleport", "Teleport"),
    Protocol("dev-tunnel", "VS Code and dev tunnels"),
    Protocol("ziti", "OpenZiti, zrok among them"),
    Protocol("sshuttle", "sshuttle, outside of SSH"),
    Protocol("yamux", "many streams in one, as tunnels have it (yamux)"),
    Protocol("iodine", "IP over DNS by iodine"),
    Protocol("dnscat2", "a shell over DNS by dnscat2"),
    Protocol("dns2tcp", "TCP over DNS by dns2tcp"),
    Protocol("icmp-tunnel", "a tunnel in the payload of pings"),
    Protocol("shell", "what an interactive shell prints or asks for, over a socket"),
    Protocol("redis", "Redis", (6379,)),
    Protocol("postgres", "PostgreSQL", (5432,)),
    Protocol("mysql", "MySQL", (3306,)),
    Protocol("mqtt", "MQTT", (1883,)),
    Protocol("amqp", "AMQP", (5672,)),
    Protocol("smtp", "mail", (25, 465, 587, 2525)),
    Protocol("ftp", "FTP", (21,)),
    Protocol("git", "git's own protocol", (9418,)),
    Protocol("rdp", "a remote desktop of Windows", (3389,)),
    Protocol("vnc", "a remote desktop", (5900, 5901, 5902, 5903)),
    Protocol("telnet", "telnet", (23,)),
    Protocol("zmq", "ZeroMQ"),
    Protocol("bittorrent", "BitTorrent"),
)
PROTOCOL: dict[str, int] = {protocol.name: number for number, protocol in enumerate(PROTOCOLS, 1)}

TRAITS: tuple[Trait, ...] = (
    Trait("protocol-on-foreign-port", "the protocol has ports of its own, and this is none of them"),
    Trait("unexpected-on-port", "something else than what ports 22, 53, 80, 443 and 8443 are for"),
    Trait("server-first", "the side that was called spoke first"),
    Trait("role-reversed", "the side that was called makes the requests: reverse tunnels do"),
    Trait("proxied", "a proxy is asked to carry the flow on"),
    Trait("looks-random", "nothing known, and bytes as random as encryption makes them"),
    Trait("tls-without-sni", "a ClientHello that names no server"),
    Trait("tls-without-alpn", "a ClientHello that names no protocol"),
    Trait("tls-http-alpn", "a ClientHello that offers HTTP"),
    Trait("tls-tunnel-alpn", "a ClientHello that offers a tunnel's protocol"),
    Trait("tls-ech", "a ClientHello with another, encrypted, inside: its server name may be a front"),
    Trait("tls-outdated", "a ClientHello that knows nothing newer than TLS 1.1"),
    Trait("tls-split-hello", "a ClientHello cut over records, which hides it from simple filters"),
    Trait("http-upgrade", "HTTP that asks to become something else than WebSocket or HTTP/2"),
    Trait("websocket-unmasked", "frames that a WebSocket client must mask and did not"),
    Trait("mining-login", "a miner logs in"),
    Trait("mining-subscribe", "a miner asks for work"),
    Trait("mining-job", "a pool hands out work"),
    Trait("mining-submit", "a miner hands in what it found"),
    Trait("dns-response", "an answer, not a question"),
    Trait("dns-long-label", "a question with a label of 40 or more bytes"),
    Trait("dns-long-name", "a question of 100 or more bytes"),
    Trait("dns-high-entropy", "a question whose labels look like data"),
    Trait("dns-null-type", "a question for NULL or a private type, which only tunnels ask for"),
    Trait("dns-txt-type", "a question for TXT, the roomiest of common types"),
    Trait("dns-rare-type", "a question of a type that programs seldom ask for"),
    Trait("icmp-odd-payload", "a ping with a payload that no ping program sends"),
    Trait("icmp-large", "a ping of more than 128 bytes"),
)
TRAIT_BIT: dict[str, int] = {trait.name: bit for bit, trait in enumerate(TRAITS)}

assert len(PROTOCOLS) <= 62, "a number is also a bit of an int64"
assert len(TRAITS) <= 45, "rules keep them in one word with other facts"


def _port_table() -> Ints:
    table = np.zeros((len(PROTOCOLS) + 1, _PORTS), np.int64)
    for number, protocol in enumerate(PROTOCOLS, 1):
        table[number, : len(protocol.ports)] = protocol.ports
    return table


#: int64[protocols + 1, 8]: the ports of each, then zeros.
PORTS = _port_table()


def numbers(names: str) -> int:
    """The protocols called ``names``, apart by spaces, as a set of bits."""
    return sum(1 << PROTOCOL[name] for name in names.split())


def trait(name: str) -> int:
    """The mask of one trait."""
    return 1 << TRAIT_BIT[name]
