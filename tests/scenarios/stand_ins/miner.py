# SPDX-License-Identifier: Apache-2.0
"""A stand-in for a miner: it says what one says to its pool, and computes nothing.

miner.py --dialect xmr --to 198.51.100.2:3333 [--tls] [--sni NAME] [--socks5 HOST:PORT] [--connect HOST:PORT]

Keys, their order and the blanks between them are those of the client a dialect is named after.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import socket
import ssl
import time

WALLET, RIG = "corpus-wallet", "rig1"
COMPACT = (",", ":")
XMRIG = "XMRig/6.26.0 (Linux x86_64) libuv/1.51.0 gcc/13.3.0"
ALGORITHMS = ["cn/1", "cn/2", "cn/r", "rx/0", "rx/wow", "argon2/chukwa"]


def rpc(number: int, method: str, params: object) -> dict:
    return {"id": number, "jsonrpc": "2.0", "method": method, "params": params}


def spaced(number: int, method: str, *params: object) -> str:
    """As ccminer and cpuminer write by hand."""
    return json.dumps({"id": number, "method": method, "params": list(params)})


def compact(*messages: dict) -> list[str]:
    return [json.dumps(message, separators=COMPACT) for message in messages]


XMR_SHARE = {"id": "session01", "job_id": "job0001", "nonce": "0a0b0c0d", "result": "ab" * 32}
XMR_LOGIN = {"login": WALLET, "pass": RIG, "agent": XMRIG, "algo": ALGORITHMS}
CONFIGURE = (
    '{"id": 0, "method": "mining.configure", "params": [["version-rolling"], '
    '{"version-rolling.mask": "1fffe000", "version-rolling.min-bit-count": 2}]}'
)
TEMPLATE = (
    '{"method": "getblocktemplate", "params": [{"capabilities": ["coinbasetxn", "longpoll"], '
    '"rules": ["segwit"]}], "id":0}\r\n'
)
CPU_LOGIN = (
    '{"method": "login", "params": {"login": "%s", "pass": "x", "agent": "cpuminer-multi/1.3.7"}, "id": 1}'
)
CPU_SHARE = (
    '{"method": "submit", "params": {"id": "session01", "job_id": "job0001", "nonce": "0a0b0c0d", '
    '"result": "%s"}, "id":4}' % ("ab" * 32)
)
PLAIN_PROOF = base64.b64encode(bytes(range(256)) * 96).decode()
IRON = {"version": 3, "name": RIG, "publicAddress": "ab" * 32, "agent": "bzminer"}
GRIN_LOGIN = {"login": WALLET, "pass": "x", "agent": "grin-miner"}
HELLO = {"agent": "ethminer/0.19.0", "host": "pool.example", "port": "d05", "proto": "EthereumStratum/2.0.0"}
PEARL_LOGIN = {"login": f"{WALLET}.{RIG}", "pass": "x", "agent": "alpha-miner/1.0"}

#: What each client sends, a line each; it waits for an answer after each.
LINES: dict[str, list[str]] = {
    "xmr": compact(
        rpc(1, "login", XMR_LOGIN), rpc(2, "submit", XMR_SHARE), rpc(3, "keepalived", {"id": "s"})
    ),
    "xmr-spaced": [CPU_LOGIN % WALLET, CPU_SHARE],
    "v1": [
        spaced(1, "mining.subscribe", "ccminer/2.3.1"),
        spaced(2, "mining.authorize", f"{WALLET}.{RIG}", "x"),
        spaced(3, "mining.extranonce.subscribe"),
        spaced(4, "mining.submit", f"{WALLET}.{RIG}", "job0001", "00000000", "65a1b2c3", "0a0b0c0d"),
    ],
    "v1-configure": [
        CONFIGURE,
        spaced(1, "mining.subscribe", "cgminer/4.12.1"),
        spaced(2, "mining.authorize", f"{WALLET}.{RIG}", "x"),
    ],
    "nicehash": compact(
        rpc(1, "mining.subscribe", ["ethminer/0.19.0", "EthereumStratum/1.0.0"]),
        rpc(2, "mining.extranonce.subscribe", []),
        rpc(3, "mining.authorize", [f"{WALLET}.{RIG}", "x"]),
        rpc(40, "mining.submit", [f"{WALLET}.{RIG}", "job0001", "0a0b0c0d"]),
    ),
    "ethstratum2": compact(
        {"id": 0, "method": "mining.hello", "params": HELLO},
        {"id": 1, "method": "mining.subscribe", "params": []},
        {"id": 2, "method": "mining.authorize", "params": [f"{WALLET}.{RIG}", "x"]},
        {"id": 3, "method": "mining.noop"},
    ),
    "ethproxy": compact(
        {**rpc(1, "eth_submitLogin", [WALLET]), "worker": RIG},
        rpc(5, "eth_getWork", []),
        rpc(9, "eth_submitHashrate", ["0x1", "0x" + "ab" * 32]),
        {**rpc(40, "eth_submitWork", ["0x0a0b", "0x" + "cd" * 32, "0x" + "ef" * 32]), "worker": RIG},
    ),
    "equihash": [
        '{"id": 1, "method":"mining.subscribe", "params":["EWBF/0.6", null,"198.51.100.2", "3333"]}',
        f'{{"id": 2, "method":"mining.authorize", "params":["{WALLET}.{RIG}","x"]}}',
    ],
    "alephium": compact(
        {"id": 0, "method": "mining.hello", "params": ["bzminer/v21", "AlephiumStratum/1.0.0"]},
        {"id": 1, "method": "mining.authorize", "params": [f"{WALLET}.{RIG}", "x"]},
    ),
    "ironfish": compact(
        {"id": 0, "method": "mining.subscribe", "body": IRON},
        {"id": 1, "method": "mining.submit", "body": {"miningRequestId": 1, "randomness": "0a0b"}},
    ),
    "beam": [
        f'{{"method":"login", "api_key":"{WALLET}.{RIG}", "id":"login","jsonrpc":"2.0"}}',
        '{"method":"solution", "id": "1", "nonce": "0a0b", "output": "%s", "jsonrpc":"2.0" }' % ("ab" * 104),
    ],
    "grin": compact(
        {"id": "0", "jsonrpc": "2.0", "method": "login", "params": GRIN_LOGIN},
        {"id": "0", "jsonrpc": "2.0", "method": "getjobtemplate", "params": None},
    ),
    "ckb": compact(rpc(1, "ckb_submitLogin", [f"{WALLET}.{RIG}", "x"]), rpc(2, "ckb_getWork", [])),
    "pearl": compact(
        rpc(1, "mining.subscribe", {"agent": "alpha-miner/1.0"}),
        rpc(2, "mining.authorize", PEARL_LOGIN),
        rpc(3, "mining.submit", {"job_id": "job0001", "plain_proof": PLAIN_PROOF}),
    ),
}

#: (request line, User-Agent, body): work fetched over HTTP.
HTTP: dict[str, list[tuple[str, str, str]]] = {
    "getwork": [("POST /", "cpuminer/2.5.1", '{"method": "getwork", "params": [], "id":0}\r\n')] * 2,
    "gbt": [
        ("POST /", "cpuminer/2.5.1", TEMPLATE),
        ("POST /", "cpuminer/2.5.1", '{"method": "submitblock", "params": ["00"], "id":1}\r\n'),
    ],
    "eth-getwork": [("POST /", "ethminer/0.19.0", *compact(rpc(1, "eth_getWork", [])))] * 2,
    "monero-daemon": [
        ("GET /getheight", XMRIG, ""),
        (
            "POST /json_rpc",
            XMRIG,
            *compact(rpc(1, "getblocktemplate", {"wallet_address": WALLET, "extra_nonce": "0a0b"})),
        ),
    ],
}


def request(line: str, agent: str, body: str, host: str) -> bytes:
    head = [f"{line} HTTP/1.1", f"Host: {host}", "Accept: */*", f"User-Agent: {agent}"]
    if body:
        head += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    if agent.startswith("cpuminer"):
        head.append("X-Mining-Extensions: midstate")
    return "\r\n".join([*head, "", body]).encode()


def messages(dialect: str, host: str) -> list[bytes]:
    if dialect == "sv2":  # a key; then a frame with an encrypted head
        return [os.urandom(64), os.urandom(22 + 32), os.urandom(22 + 32)]
    if dialect == "sv2-plain":
        text = b"".join(
            bytes([len(t)]) + t for t in (host.encode(), b"vendor", b"hardware", b"fw", b"device")
        )
        where, port = text[: len(host) + 1], (3333).to_bytes(2, "little")
        payload = b"\0\2\0\2\0" + bytes(4) + where + port + text[len(host) + 1 :]
        channel = bytes(4) + b"\x04rig1" + bytes(4) + bytes(32)
        return [
            b"\0\0\0" + len(payload).to_bytes(3, "little") + payload,
            b"\0\0\x10" + len(channel).to_bytes(3, "little") + channel,
        ]
    if dialect in HTTP:
        return [request(*step, host) for step in HTTP[dialect]]
    return [line.encode() + b"\n" for line in LINES[dialect]]


def address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)


def through_socks5(connection: socket.socket, host: str, port: int) -> None:
    """As xmrig does: no authentication, the name left to the proxy."""
    connection.sendall(b"\5\1\0")
    assert connection.recv(2) == b"\5\0"
    connection.sendall(b"\5\1\0\3" + bytes([len(host)]) + host.encode() + port.to_bytes(2, "big"))
    assert connection.recv(64)[1] == 0


def through_http(connection: socket.socket, host: str, port: int) -> None:
    connection.sendall(f"CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
    assert b" 200 " in connection.recv(4096)


def connect(options: argparse.Namespace) -> socket.socket:
    host, port = address(options.to)
    via = options.socks5 or options.connect
    connection = socket.create_connection(address(via or options.to), timeout=10)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if options.socks5:
        through_socks5(connection, host, port)
    elif options.connect:
        through_http(connection, host, port)
    if options.tls:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        connection = context.wrap_socket(connection, server_hostname=options.sni)
    return connection


def converse(options: argparse.Namespace) -> None:
    connection = connect(options)
    for message in messages(options.dialect, address(options.to)[0]):
        step = options.fragment or len(message)
        for start in range(0, len(message), step):
            connection.sendall(message[start : start + step])
            if options.fragment:
                time.sleep(0.002)
        if not connection.recv(65536):
            raise SystemExit("the pool has hung up")
        time.sleep(options.pause)
    connection.close()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--dialect", default="xmr", choices=[*LINES, *HTTP, "sv2", "sv2-plain"])
    parser.add_argument("--to")
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--sni", help="without it, no name is sent, as xmrig does")
    parser.add_argument("--socks5")
    parser.add_argument("--connect")
    parser.add_argument("--fragment", type=int, default=0, help="bytes a segment")
    parser.add_argument("--pause", type=float, default=0.1)
    parser.add_argument("--config", help="a file of JSON with these same options")
    options = parser.parse_args()
    if options.config:
        with open(options.config, encoding="utf-8") as file:
            parser.set_defaults(**json.load(file))
        options = parser.parse_args()
    converse(options)


if __name__ == "__main__":
    main()
