# SPDX-License-Identifier: Apache-2.0
"""HTTP, and what begins as HTTP."""

from __future__ import annotations

from wire_bytes import (
    ESTABLISHED,
    LOGIN,
    SSH_LINE,
    SUBSCRIBE,
    SWITCHED,
    TLS_DEFAULT,
    UPGRADE,
    Sample,
    frame,
    get,
)


def http() -> list[Sample]:
    return [
        Sample(
            "http",
            get("/x", "Host: example.org", "User-Agent: curl/8.5"),
            port=80,
            host=b"example.org",
            software=b"curl/8.5",
        ),
        Sample("http", b"POST /v1/messages HTTP/1.1\r\nhost:[2001:db8::1]:80\r\n\r\n{}", host=b"2001:db8::1"),
        Sample("http", get("http://a.example:81/x"), host=b"a.example", traits="proxied"),
        Sample("http", get("/", "Host: a.example"), received=True, host=b"a.example", traits="role-reversed"),
        Sample("http", get("/", "Host: a.example", "Upgrade: raw"), host=b"a.example", traits="http-upgrade"),
        Sample("http", b"HTTP/1.1 200 OK\r\nServer: nginx\r\n\r\n<html>", received=True, software=b"nginx"),
        Sample("http2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x12\4\0\0\0\0\0"),
        Sample(
            "http-connect", b"CONNECT a.example:443 HTTP/1.1\r\n\r\n", host=b"a.example", traits="proxied"
        ),
        Sample(
            "http-connect",
            b"CONNECT a.example:443 HTTP/1.1\r\n\r\n" + TLS_DEFAULT[:300],
            host=b"a.example",
            traits="proxied tls-http-alpn",
        ),
        Sample(
            "stratum",
            b"CONNECT p.example:3333 HTTP/1.1\r\nHost: p.example:3333\r\n\r\n" + LOGIN,
            host=b"p.example",
            traits="proxied mining-login",
            software=b"XMRig/6.26.0 (Linux x86_64) libuv/1.51.0 gcc/13.2.1",
        ),
        Sample(
            "ssh",
            b"CONNECT g.example:22 HTTP/1.0\r\n\r\n" + SSH_LINE,
            host=b"g.example",
            traits="proxied",
            software=b"OpenSSH_9.2p1 Debian-2",
        ),
        Sample(
            "ssh",
            ESTABLISHED + SSH_LINE,
            received=True,
            software=b"OpenSSH_9.2p1 Debian-2",
            look={"OTHER_PROTOCOL": 3, "OTHER_SPOKE_FIRST": 1},
        ),
        Sample(
            "http-connect", ESTABLISHED, received=True, look={"OTHER_PROTOCOL": 3, "OTHER_SPOKE_FIRST": 1}
        ),
        Sample("websocket", get("/chat", *UPGRADE), host=b"h.example"),
        Sample("websocket", get("/chat", *UPGRADE) + frame(b"hi", b"mask"), host=b"h.example"),
        Sample(
            "websocket", get("/", *UPGRADE) + frame(b"hi"), host=b"h.example", traits="websocket-unmasked"
        ),
        Sample("websocket", SWITCHED + frame(b"hi"), received=True),
        Sample(
            "stratum",
            get("/", *UPGRADE) + frame(SUBSCRIBE, b"\1\2\3\4", 1),
            host=b"h.example",
            traits="mining-subscribe",
        ),
        Sample("chisel", get("/", *UPGRADE, "Sec-WebSocket-Protocol: chisel-v3"), host=b"h.example"),
        Sample("chisel", get("/", *UPGRADE) + frame(b"SSH-chisel-v3-client\r\n", b"mask"), host=b"h.example"),
        Sample("chisel", SWITCHED + frame(b"SSH-chisel-v3-server\r\n"), received=True),
        Sample(
            "ssh",
            get("/", *UPGRADE) + frame(SSH_LINE),
            host=b"h.example",
            software=b"OpenSSH_9.2p1 Debian-2",
            traits="websocket-unmasked",
        ),
        Sample(
            "wstunnel",
            get("/v1/events", *UPGRADE, "Sec-WebSocket-Protocol: v1, authorization.bearer.eyJ0eXAi.x"),
            host=b"h.example",
        ),
        Sample(
            "dev-tunnel",
            get("/", *UPGRADE, "Sec-WebSocket-Protocol: tunnel-relay-host-v2-dev"),
            host=b"h.example",
        ),
        Sample("frp", get("/~!frp", *UPGRADE), host=b"h.example"),
        Sample("gost", get("/ws", *UPGRADE, "X-Gost-Protocol: relay"), host=b"h.example"),
        Sample("pagekite", b"CONNECT PageKite:1 HTTP/1.0\r\nX-PageKite-Features: Zch\r\n\r\n"),
        Sample(
            "tailscale",
            b"POST /ts2021 HTTP/1.1\r\nHost: c.example\r\nUpgrade: tailscale-control-protocol\r\n\r\n",
            host=b"c.example",
            traits="http-upgrade",
        ),
        Sample(
            "tailscale",
            get("/derp", "Host: d.example", "Upgrade: DERP"),
            traits="http-upgrade",
            host=b"d.example",
        ),
        Sample(
            "teleport",
            get("/webapi/connectionupgrade", "Host: t.example", "Upgrade: alpn"),
            host=b"t.example",
            traits="http-upgrade",
        ),
        Sample(
            "json-rpc-mining",
            b'POST / HTTP/1.1\r\nHost: n.example:8332\r\nUser-Agent: cpuminer/2.5\r\n\r\n{"method": "getwork", "params": []}',
            host=b"n.example",
            software=b"cpuminer/2.5",
            traits="mining-subscribe",
        ),
        Sample(
            "json-rpc-mining",
            b'POST /json_rpc HTTP/1.1\r\nHost: n\r\n\r\n{"id":1,"method":"getblocktemplate","params":{"wallet_address":"4"}}',
            host=b"n",
            traits="mining-subscribe",
        ),
        Sample(
            "json-rpc-mining",
            b'POST / HTTP/1.1\r\nHost: n\r\n\r\n{"jsonrpc":"2.0","method":"eth_getWork","params":[],"id":1}',
            host=b"n",
            traits="mining-subscribe",
        ),
        Sample("json-rpc-mining", get("/", "Host: n", "X-Mining-Extensions: midstate"), host=b"n"),
    ]
