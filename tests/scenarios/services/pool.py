# SPDX-License-Identifier: Apache-2.0
"""A stand-in for a mining pool: it answers every dialect that miners speak, and there is no coin behind it.

stand-in pool --port 3333                        tells the dialect by what it is told
stand-in pool --port 3443 --tls                  the same within TLS, its certificate made on the spot
stand-in pool --port 34254 --dialect sv2         Stratum V2: the sizes of its Noise handshake, with random bytes
stand-in pool --port 34254 --dialect sv2-plain   Stratum V2 without encryption
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import socket
import socketserver
import ssl
import subprocess
import tempfile

HEX32, HEX80 = "c0" * 32, "10" * 80
COINBASE = "01000000010000000000000000000000000000000000000000000000000000000000000000ffffffff"
XMR_JOB = {
    "blob": HEX80,
    "job_id": "job0001",
    "target": "b88d0600",
    "algo": "rx/0",
    "height": 3000000,
    "seed_hash": HEX32,
}
# Stratum V1: job, previous block, coinbase in two parts, branches, version, bits, time, "drop what you have"
V1_JOB = ["job0001", HEX32, COINBASE, "00000000", [HEX32], "20000000", "1a2b3c4d", "65a1b2c3", True]
ETH_JOB = ["job0001", HEX32, "d0" * 32, True]
EQUIHASH_JOB = ["job0001", "04000000", HEX32, HEX32, "00" * 32, "65a1b2c3", "1a2b3c4d", True]
ETH_WORK = ["0x" + "d0" * 32, "0x" + "5e" * 32, "0x" + "00" * 4 + "ff" * 28, "0x12d687"]


def push(method: str, params: object, key: str = "params") -> dict:
    return {"id": None, "method": method, key: params}


def first_job(agent: str) -> list[dict]:
    """What a Stratum V1 pool sends as soon as a client may work."""
    if "EthereumStratum" in agent:
        return [push("mining.set_difficulty", [0.5]), push("mining.notify", ETH_JOB)]
    if "equihash" in agent:
        return [push("mining.set_target", ["00" * 4 + "ff" * 28]), push("mining.notify", EQUIHASH_JOB)]
    return [push("mining.set_difficulty", [1024]), push("mining.notify", V1_JOB)]


def subscribed(message: dict, result: dict) -> list[dict]:
    params = message.get("params") or []
    if "body" in message:  # IronFish
        body = {"clientId": 1, "graffiti": "corpus", "xn": "0a0b"}
        return [
            push("mining.subscribed", body, "body"),
            push("mining.notify", {"miningRequestId": 1, "header": HEX80}, "body"),
        ]
    if len(params) > 1 and "EthereumStratum/1" in str(params[1]):
        details = ["mining.notify", "ae6812eb4cd7735a302a8a9dd95cf71f", params[1]]
        return [{**result, "result": [details, "0a0b"]}]
    if len(params) > 2:  # equihash: agent, session, host, port
        return [{**result, "result": ["session01", "0a0b0c0d"]}]
    return [{**result, "result": [[["mining.set_difficulty", "b4"], ["mining.notify", "ae"]], "08000002", 4]}]


def answers(message: dict, agent: str) -> list[dict]:
    """Answer one line of any dialect whose lines are JSON."""
    method = message.get("method")
    params = message.get("params")
    result = {"id": message.get("id"), "jsonrpc": "2.0", "error": None, "result": True}
    if method == "mining.subscribe":
        return subscribed(message, {"id": message.get("id"), "error": None})
    if method == "mining.authorize":
        return [result, *first_job(agent)]
    if method == "mining.hello":
        if isinstance(params, dict):  # EthereumStratum/2.0.0
            hello = {"proto": "EthereumStratum/2.0.0", "encoding": "plain", "resume": 0, "timeout": "b4"}
            return [{"id": message.get("id"), "result": hello}]
        return [result, push("mining.set_extranonce", ["0a0b"]), push("mining.notify", [XMR_JOB])]
    if method == "login":
        if "api_key" in message:  # Beam
            done = {"id": "login", "method": "result", "code": 0, "nonceprefix": "ab", "forkheight": 1}
            work = {"id": "1", "method": "job", "difficulty": 1024, "height": 9, "input": HEX32}
            return [done, work]
        if message.get("id") == "0":  # Grin
            return [{**result, "result": "ok", "method": "login"}]
        session = {"id": "session01", "job": XMR_JOB, "extensions": ["algo", "keepalive"], "status": "OK"}
        return [{**result, "result": session}]
    if method == "getjobtemplate":
        work = {"difficulty": 1, "height": 9, "job_id": 1, "pre_pow": HEX80}
        return [{**result, "result": work, "method": method}]
    if method in {"eth_getWork", "ckb_getWork"}:
        return [{**result, "result": ETH_WORK}]
    if method == "getwork":
        return [{**result, "result": {"data": "00" * 128, "target": "ff" * 32}}]
    if method == "getblocktemplate":
        template = {"blocktemplate_blob": HEX80, "previousblockhash": HEX32, "height": 9, "bits": "207fffff"}
        return [{**result, "result": template}]
    return [result]


class Session(socketserver.StreamRequestHandler):
    def setup(self) -> None:
        if self.server.tls:
            self.request = self.server.tls.wrap_socket(self.request, server_side=True)
        super().setup()

    def handle(self) -> None:
        dialect = self.server.dialect
        if dialect == "sv2":
            return self.noise()
        if dialect == "sv2-plain":
            return self.setup_connection()
        agent = ""
        while line := self.rfile.readline():
            if not line.lstrip().startswith(b"{"):
                return self.http(line)
            message = json.loads(line)
            agent = agent or self.agent_of(message)
            for answer in answers(message, agent):
                self.wfile.write(json.dumps(answer).encode() + b"\n")
        return None

    @staticmethod
    def agent_of(message: dict) -> str:
        params = message.get("params") or []
        if isinstance(params, list) and len(params) > 2:
            return "equihash"
        return str(params)

    def http(self, request: bytes) -> None:
        while request:
            length = 0
            while (header := self.rfile.readline()) not in {b"\r\n", b""}:
                name, _, value = header.partition(b":")
                if name.lower() == b"content-length":
                    length = int(value)
            if request.startswith(b"GET"):
                body = {"height": 9, "hash": HEX32, "status": "OK"}
            else:
                (body,) = answers(json.loads(self.rfile.read(length)), "")
            text = json.dumps(body).encode()
            head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(text)}\r\n"
            self.wfile.write(head.encode() + b"X-Long-Polling: /lp\r\nX-Roll-NTime: expire=10\r\n\r\n" + text)
            request = self.rfile.readline()

    def noise(self) -> None:
        """The second act: a key of 64 bytes, our own encrypted (80), a signature encrypted (90)."""
        if len(self.rfile.read(64)) == 64:
            self.wfile.write(os.urandom(64 + 80 + 90))
            while self.rfile.read(22 + 32):
                self.wfile.write(secrets.token_bytes(22 + 48))

    def setup_connection(self) -> None:
        while head := self.rfile.read(6):
            self.rfile.read(int.from_bytes(head[3:], "little"))
            # SetupConnection.Success, OpenStandardMiningChannel.Success
            kind, payload = (0x01, b"\2\0" + bytes(4)) if head[2] == 0 else (0x11, bytes(52))
            self.wfile.write(b"\0\0" + bytes([kind]) + len(payload).to_bytes(3, "little") + payload)


class Pool(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True

    def handle_error(self, request, client_address) -> None:
        """A client that goes away is no error."""


def tls_context(name: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:
        key, certificate = f"{folder}/key", f"{folder}/certificate"
        command = [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
        ]
        files = ["-keyout", key, "-out", certificate, "-days", "2", "-subj", f"/CN={name}"]
        subprocess.run([*command, *files], check=True, capture_output=True)
        context.load_cert_chain(certificate, key)
    return context


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--host", default="::")
    parser.add_argument("--dialect", default="json", help="sv2, sv2-plain, or any name for lines of JSON")
    parser.add_argument("--tls", action="store_true")
    options = parser.parse_args()
    Pool.address_family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    with Pool((options.host, options.port), Session, bind_and_activate=False) as pool:
        pool.dialect = options.dialect
        pool.tls = tls_context("pool.example") if options.tls else None
        pool.server_bind()
        pool.server_activate()
        pool.serve_forever()


if __name__ == "__main__":
    main()
