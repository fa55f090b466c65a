# SPDX-License-Identifier: Apache-2.0
"""greetings.py HOST PORT: the first bytes of everyday protocols, a connection each.

Some begin like a tunnel or a miner does, and are none.
"""

import json
import os
import socket
import struct
import sys

HELLO = {"id": 1, "jsonrpc": "2.0", "method": "initialize", "params": {"clientInfo": {"name": "agent"}}}
QUESTION = {
    "model": "m",
    "messages": [{"role": "user", "content": "What is mining.subscribe in stratum+tcp?"}],
}
BODY = json.dumps(QUESTION).encode()

STREAMS = {
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\4\0\0\0\0\0",
    "NATS": b'CONNECT {"verbose":false,"pedantic":false,"lang":"go"}\r\nPING\r\n',
    "STOMP": b"CONNECT\naccept-version:1.2\nhost:queue.example\n\n\0",
    "Redis": b"*1\r\n$4\r\nPING\r\n",
    "AMQP": b"AMQP\0\0\x09\1",
    "MQTT": b"\x10\x10\0\4MQTT\4\2\0\x3c\0\4edge",
    "Kafka": struct.pack(">ihhih", 24, 18, 3, 1, 5) + b"agent" + bytes(9),
    "MongoDB": struct.pack("<iiii", 58, 1, 0, 2013) + bytes(42),
    "Cassandra": b"\4\0\0\1\1\0\0\0\x16\0\1\0\x0bCQL_VERSION\0\0053.0.0",
    "PostgreSQL": struct.pack(">ii", 8, 80877103),
    "ZooKeeper": struct.pack(">iiqiqi", 44, 0, 0, 30000, 0, 16) + bytes(17),
    "memcached": b"get answer\r\n",
    "SMTP": b"EHLO agent.example\r\n",
    "IRC": b"NICK agent\r\nUSER agent 0 * :agent\r\n",
    "statsd": b"job.steps:1|c\n",
    "syslog": b"<14>1 2026-01-01T00:00:00Z host agent - - - hello\n",
    "LSP": b'Content-Length: 40\r\n\r\n{"jsonrpc":"2.0","id":1,"method":"init"}',
    "MCP": json.dumps(HELLO).encode() + b"\n",
    "login": b'{"id":1,"jsonrpc":"2.0","method":"login","params":{"user":"ann","password":"x"}}\n',
    "jobs": b'{"method": "job.submit", "params": {"job_id": "17", "blob": "s3://bucket/x"}, "id": 1}\n',
    "question": b"POST /v1/messages HTTP/1.1\r\nHost: model.example\r\nContent-Type: application/json\r\n"
    + b"Content-Length: %d\r\n\r\n" % len(BODY)
    + BODY,
    "pickle": b"\x80\x05\x95\x1a\0\0\0\0\0\0\0}\x94\x8c\4rank\x94K\0s.",
    "frames": struct.pack(">i", 5) + b"\1rank",  # a length first, as hundreds of private protocols
    "keys": os.urandom(32),  # a handshake of a public key, as many libraries have
    "NumPy": b"\x93NUMPY\1\0" + bytes(64),
}
DATAGRAMS = {
    "NTP": b"\x23" + bytes(47),
    "STUN": b"\0\1\0\0\x21\x12\xa4\x42" + os.urandom(12),
    "statsd": b"job.steps:1|c",
    "syslog": b"<14>agent: hello",
    "RTP": b"\x80\x60\0\1" + bytes(8) + os.urandom(160),
    "metrics": b"\1\0\0\0" + struct.pack("<dd", 1.0, 2.0),
}


def main() -> None:
    where = (sys.argv[1], int(sys.argv[2]))
    for said in STREAMS.values():
        with socket.create_connection(where, 5) as there:
            there.sendall(said)
            assert there.recv(10)
    for said in DATAGRAMS.values():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as there:
            there.settimeout(5)
            there.sendto(said, where)
            assert there.recv(10)


if __name__ == "__main__":
    main()
