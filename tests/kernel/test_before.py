# SPDX-License-Identifier: Apache-2.0
"""The probe's verdict is there before the program's first instruction, and before the packet is."""

from __future__ import annotations

import json
import shutil
import socket
import struct
import subprocess
import threading
import time
from pathlib import Path

import pytest
from harness import record, talker, workload

SO_TIMESTAMPNS = 35

#: Says when it began to run, and nothing else.
PROGRAM = """
#include <fcntl.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

static struct timespec first;

__attribute__((constructor(101))) static void begin(void)
{
    clock_gettime(CLOCK_BOOTTIME, &first);
}

int main(int argc, char **argv)
{
    char line[64];
    int fd = open(argv[1], O_WRONLY | O_APPEND | O_CREAT, 0600);
    int n = snprintf(line, sizeof line, "%d %lld\\n", getpid(),
                     first.tv_sec * 1000000000LL + first.tv_nsec);

    return fd < 0 || write(fd, line, n) != n;
}
"""


@pytest.fixture(scope="module")
def early(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("early")
    (folder / "early.c").write_text(PROGRAM)
    if not shutil.which("cc"):
        pytest.skip("this host has no C compiler")
    subprocess.run(["cc", "-O1", "-o", folder / "xmrig", folder / "early.c"], check=True)
    return folder / "xmrig"


def test_before_the_first_instruction(tmp_path: Path, early: Path):
    said, listing = tmp_path / "said", tmp_path / "commands"
    listing.write_text(json.dumps([[str(said), "-o", "stratum+tcp://pool.example:3333"]] * 50))
    found = record(workload("execs_of", listing, early))
    assert found.status == 0
    began = {int(pid): int(ns) for pid, ns in (line.split() for line in said.read_text().splitlines())}
    assert len(began) == 50
    execs = {e.pid: e.fixed for e in found.execs() if e.path.endswith(b"/xmrig")}
    assert execs.keys() == began.keys()
    for pid, e in execs.items():
        assert int(e["row"])
        assert int(e["took_ns"]) > 0
        assert int(e["ts"]) + int(e["took_ns"]) <= began[pid]


class Clocks:
    """CLOCK_REALTIME against CLOCK_BOOTTIME: what their difference was at least, and at most."""

    def __init__(self) -> None:
        self.low, self.high = 1 << 62, 0
        self.read()

    def read(self) -> None:
        for _ in range(20):
            before = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
            real = time.clock_gettime_ns(time.CLOCK_REALTIME)
            after = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
            self.low, self.high = min(self.low, real - after), max(self.high, real - before)


class Receiver:
    """Outside of the tree: notes when each word arrived, by the kernel's stamp if it has one, and answers."""

    def __init__(self, kind: int) -> None:
        self.socket = socket.socket(socket.AF_INET, kind)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.settimeout(20)
        self.socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        if kind == socket.SOCK_STREAM:
            self.socket.listen(1)
        self.port = self.socket.getsockname()[1]
        self.arrived: dict[bytes, int] = {}
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        if self.socket.type == socket.SOCK_STREAM:
            near, _ = self.socket.accept()
        else:
            near = self.socket
        with near:
            near.settimeout(20)
            while True:
                data, extra, _, peer = near.recvmsg(1000, 256)
                if not data or data == b"end":
                    if peer:
                        near.sendto(b"ok", peer)
                    return
                # the kernel begins to stamp a moment after the first socket has asked for it
                self.arrived[data] = time.clock_gettime_ns(time.CLOCK_REALTIME)
                for _, what, raw in extra:
                    if what == SO_TIMESTAMPNS:
                        seconds, ns = struct.unpack("qq", raw)
                        self.arrived[data] = seconds * 1_000_000_000 + ns
                near.sendto(b"ok", peer) if peer else near.send(b"ok")

    def close(self) -> None:
        self._thread.join(30)
        self.socket.close()
        assert not self._thread.is_alive()


LOGIN = b'{"id":1,"jsonrpc":"2.0","method":"login","params":{"login":"4","pass":"x","agent":"XMRig/6.21"}}\n'
SUBSCRIBE = b'{"id":1,"method":"mining.subscribe","params":["cpuminer/2.5"]}\n'


@pytest.mark.parametrize("transport", ["tcp", "udp"])
@pytest.mark.parametrize("words", [[LOGIN, b"and so on"], [SUBSCRIBE, b"and so on"]])
def test_before_the_packet(transport: str, words: list[bytes]):
    clocks = Clocks()
    receiver = Receiver(socket.SOCK_STREAM if transport == "tcp" else socket.SOCK_DGRAM)
    found = record(
        talker(
            "say", "127.0.0.1", receiver.port, transport, *(w.decode() for w in words),
            *(["end"] if transport == "udp" else []),
        )
    )  # fmt: skip
    receiver.close()
    clocks.read()
    assert found.status == 0
    sent = [e for e in found.firsts() if e.sent]
    assert sent[0].data == words[0]
    if transport == "tcp" or words[0] == SUBSCRIBE:
        assert "miner.stratum" in {a.rule.id for a in found.alerts}
    if words[0] == SUBSCRIBE:  # a login is told by its JSON, which the engine reads
        assert int(sent[0].fixed["row"])
    assert list(receiver.arrived) == words
    # of the second word there is no record of a datagram: only the first one counts
    for e, word in zip(sent, words, strict=False):
        judged = int(e.fixed["ts"]) + int(e.fixed["took_ns"])
        assert int(e.fixed["took_ns"]) > 0
        assert judged <= receiver.arrived[word] - clocks.low
    assert clocks.high - clocks.low < 50_000_000
