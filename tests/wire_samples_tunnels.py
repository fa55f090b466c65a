# SPDX-License-Identifier: Apache-2.0
"""SSH, SOCKS, TLS and tunnels over TCP."""

from __future__ import annotations

import hashlib
import struct

from wire_bytes import (
    FRP_LOGIN,
    LOGIN,
    SOCKS_GREETING,
    SOCKS_REQUEST,
    SSH_LINE,
    SUBSCRIBE,
    TLS_DEFAULT,
    YAMUX,
    Sample,
    client_hello,
    noise,
    split_records,
)

#: What Tor 0.4.7 sends first.
TOR_HELLO = bytes.fromhex(
    "1603010200010001fc0303663e9f546957db0950ddcf35cc2eda3d07370688f6bbb7c3383c80d035ea6b872039710a1f6e8fdc16ac2e"
    "edcd4f08fc6d8297f9487aecb6041ac180c88614e22c0024130113031302c02bc02fcca9cca8c02cc030c00ac009c013c014009c009d"
    "002f003500ff0100018f00000011000f00000c7777772e6971716e2e636f6d000b000403000102000a000800060017001d0015002300"
    "000016000000170000000d002a0028040305030603080708080809080a080b0804080508060401050106010303030103020402050206"
    "02002b00050403040303002d0002010100330047004500170041049f4468f7994614e412b892521f13d8269d25967c5902ef8eb67891"
    "a4f121995f2a0b9154faf2a23f01c54b7f6aca94bfa4a4ff742b49617f005db426591ad241001500ce"
).ljust(517, b"\0")


def tunnels() -> list[Sample]:
    return [
        Sample("ssh", SSH_LINE, port=22, software=b"OpenSSH_9.2p1 Debian-2"),
        Sample(
            "ssh",
            b"SSH-1.99-dropbear_2022.83\r\n",
            traits="protocol-on-foreign-port",
            software=b"dropbear_2022.83",
        ),
        Sample(
            "ssh", b"Welcome!\r\nNo entry.\r\n" + SSH_LINE, received=True, software=b"OpenSSH_9.2p1 Debian-2"
        ),
        Sample(
            "ssh",
            SSH_LINE,
            port=443,
            traits="unexpected-on-port protocol-on-foreign-port",
            software=b"OpenSSH_9.2p1 Debian-2",
        ),
        Sample(
            "ssh", SSH_LINE, port=22, received=True, software=b"OpenSSH_9.2p1 Debian-2", traits="server-first"
        ),
        Sample("socks5", SOCKS_GREETING, port=1080),
        Sample("socks5", b"\5\2\0\2", port=1080),
        Sample(
            "socks5", SOCKS_GREETING, received=True, traits="role-reversed", look={"OTHER_SPOKE_FIRST": 1}
        ),
        Sample("socks5", SOCKS_GREETING + SOCKS_REQUEST, first=3, host=b"pool.example.x", traits="proxied"),
        Sample(
            "stratum",
            SOCKS_GREETING + SOCKS_REQUEST + LOGIN,
            first=3,
            host=b"pool.example.x",
            traits="proxied mining-login",
            software=b"XMRig/6.26.0 (Linux x86_64) libuv/1.51.0 gcc/13.2.1",
        ),
        Sample(
            "ssh",
            b"\5\1\2" + b"\1\1u\1p" + b"\5\1\0\1\x0a\0\0\1\0\x16" + SSH_LINE,
            first=3,
            traits="proxied",
            software=b"OpenSSH_9.2p1 Debian-2",
        ),
        Sample("socks5", b"\5\0", received=True, look={"OTHER_PROTOCOL": 8}),
        Sample(
            "ssh",
            b"\5\0\5\0\0\1\0\0\0\0\0\0" + SSH_LINE,
            received=True,
            first=2,
            software=b"OpenSSH_9.2p1 Debian-2",
            look={"OTHER_PROTOCOL": 8},
        ),
        Sample("socks4", b"\4\1\0\x16\x0a\0\0\1user\0", traits="proxied"),
        Sample("socks4", b"\4\1\x0d\5\0\0\0\1\0p.example\0", traits="proxied", host=b"p.example"),
        Sample(
            "stratum",
            b"\4\1\x0d\5\0\0\0\1\0p.example\0" + SUBSCRIBE,
            host=b"p.example",
            traits="proxied",
            software=b"ccminer/2.3.1",
        ),
        Sample("socks4", b"\0\x5a\0\0\0\0\0\0", received=True, look={"OTHER_PROTOCOL": 7}),
        Sample(
            "frp",
            YAMUX + b"\0\0\0\0\0\0\0\1\0\0\0\x5c" + b"o" + struct.pack(">q", len(FRP_LOGIN)) + FRP_LOGIN,
        ),
        Sample("frp", b"o" + struct.pack(">q", len(FRP_LOGIN)) + FRP_LOGIN, port=7000),
        Sample("frp", b"FRP\0\2\r\n" + bytes(8)),
        Sample("frp", b"\x17" + TLS_DEFAULT[:200]),
        Sample("yamux", YAMUX),
        Sample("yamux", YAMUX, received=True, traits="role-reversed"),
        Sample("bore", b'{"Hello":0}\0', port=7835),
        Sample("bore", b'{"Accept":"936da01f-9abd-4d9d-80c7-02af85c822a8"}\0'),
        Sample("bore", b'"Heartbeat"\0', received=True),
        Sample("rathole", b"\0\0\0\0\1" + hashlib.sha256(b"web").digest()),
        Sample("rathole", b"\1\0\0\0\1" + hashlib.sha256(b"key").digest()),
        Sample("gost", b"\1\1\0\x1a" + b"\1\0\5\1u\2pw" + b"\2\0\x0f\3\x0bexample.org\0\x50"),
        Sample("gsocket", b"\1\1\3\x01" + bytes(12) + noise(16, "t") + noise(16, "a") + bytes(80), port=443),
        Sample("nps", b"TST\7\0\0\x000.26.10\7\0\0\x000.26.0"),
        Sample("ngrok", struct.pack("<q", 40) + b'{"Type":"Auth","Payload":{"Version":"2"}}'),
        Sample("sshuttle", b"\0\0SSHUTTLE0001"),
        Sample("tailscale", b"\1\0\0\0\x28DERP\xf0\x9f\x94\x91" + noise(32)),
        Sample(
            "shell",
            b"bash: cannot set terminal process group (7): Inappropriate ioctl for device\nbash: no job control in this shell\n",
        ),
        Sample("shell", b"/bin/sh: 0: can't access tty; job control turned off\n$ "),
        Sample("shell", b"sh-5.2$ "),
        Sample("shell", b"uid=0(root) gid=0(root) groups=0(root)\n"),
        Sample("tls", TLS_DEFAULT, port=443, host=b"example.org", traits="tls-http-alpn"),
        Sample("tls", client_hello(None), port=443, traits="tls-without-sni tls-without-alpn"),
        Sample("tls", client_hello(alpn=["x-tunnel"]), host=b"example.org", traits="tls-tunnel-alpn"),
        Sample("tls", TLS_DEFAULT, received=True, host=b"example.org", traits="role-reversed"),
        Sample("tls", b"\x16\3\3\0\x7a\2\0\0\x76\3\3" + noise(100), received=True),
        Sample("tls", split_records(TLS_DEFAULT, 40), host=b"example.org", traits="tls-split-hello"),
        Sample("tor", client_hello("www.x4vm3q7zkpl2.com"), host=b"www.x4vm3q7zkpl2.com"),
        Sample("tor", TOR_HELLO, host=b"www.iqqn.com"),
        Sample("tls", client_hello("www.iqqn.com"), host=b"www.iqqn.com", traits="tls-without-alpn"),
        Sample(
            "tls",
            TOR_HELLO.replace(b"\0\xff\x01\0", b"\0\x2f\x01\0"),
            host=b"www.iqqn.com",
            traits="tls-without-alpn",
        ),
        Sample("ngrok", client_hello("connect.eu.ngrok-agent.com"), host=b"connect.eu.ngrok-agent.com"),
        Sample("cloudflared", client_hello("h2.cftunnel.com"), host=b"h2.cftunnel.com"),
        Sample(
            "teleport",
            client_hello(alpn=["teleport-reversetunnel"]),
            host=b"example.org",
            traits="tls-tunnel-alpn",
        ),
        Sample("ziti", client_hello(alpn=["ziti-edge"]), host=b"example.org", traits="tls-tunnel-alpn"),
        Sample(
            "dev-tunnel",
            client_hello("eu-data.rel.tunnels.api.visualstudio.com"),
            host=b"eu-data.rel.tunnels.api.visualstudio.com",
        ),
        Sample("openvpn", b"\0\x0e\x38" + noise(8) + b"\0\0\0\0\0", port=1194),
    ]
