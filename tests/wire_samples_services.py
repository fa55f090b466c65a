# SPDX-License-Identifier: Apache-2.0
"""Other services."""

from __future__ import annotations

from wire_bytes import (
    Sample,
    noise,
)


def services() -> list[Sample]:
    return [
        Sample("redis", b"*2\r\n$4\r\nLLEN\r\n$6\r\nmylist\r\n", port=6379),
        Sample("postgres", b"\0\0\0\x08\x04\xd2\x16\x2f", port=5432),
        Sample("postgres", b"\0\0\0\x17\0\3\0\0user\0me\0database\0d\0\0"),
        Sample("mysql", b"\x4a\0\0\0\x0a8.0.36\0" + noise(66), received=True, port=3306),
        Sample("mqtt", b"\x10\x10\0\4MQTT\4\2\0\x3c\0\4test", port=1883),
        Sample("amqp", b"AMQP\0\0\x09\1", port=5672),
        Sample("smtp", b"220 mx.example ESMTP Postfix\r\n", received=True, port=25),
        Sample("smtp", b"EHLO me\r\n", port=587),
        Sample("ftp", b"220 (vsFTPd 3.0.5)\r\n", received=True, port=21),
        Sample("git", b"0033git-upload-pack /project.git\0host=example.org\0", port=9418),
        Sample("rdp", b"\3\0\0\x13\x0e\xe0\0\0\0\0\0\1\0\x08\0\3\0\0\0", port=3389),
        Sample("vnc", b"RFB 003.008\n", received=True, port=5900),
        Sample("telnet", b"\xff\xfd\x18\xff\xfd\x20", received=True, port=23),
        Sample("zmq", b"\xff\0\0\0\0\0\0\0\1\x7f\3\0NULL"),
        Sample("bittorrent", b"\x13BitTorrent protocol" + bytes(8) + noise(40)),
        Sample("coin-node", b"\xf9\xbe\xb4\xd9version\0\0\0\0\0\x66\0\0\0" + noise(4)),
        Sample("coin-node", b"\x01\x21\x01\x01\x01\x01\x01\x01" + noise(40)),
    ]
