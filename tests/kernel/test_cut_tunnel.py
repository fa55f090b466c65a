# SPDX-License-Identifier: Apache-2.0
"""A real ssh tunnel to another host: observed it works, cut it carries no byte after the verdict, as the far end counts."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from harness import Recording, record

from tracer import clock
from tracer.demo import sshd
from tracer.rules import load_rules
from tracer.scenario.world import World

#: At the far end: when a TCP segment with bytes in it came from the address (CLOCK_REALTIME), and how many.
SNIFFER = """
import json, socket, struct, sys
SO_TIMESTAMPNS = 35  # include/uapi/asm-generic/socket.h: _OLD
wire = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800))
wire.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
wire.settimeout(0.1)
print("ready", flush=True)
found = []
import select
while True:
    ready, _, _ = select.select([wire, sys.stdin], [], [])
    if sys.stdin in ready:
        break
    packet, ancillary, _, _ = wire.recvmsg(1 << 16, 64)
    seconds, nanoseconds = struct.unpack("qq", ancillary[0][2][:16])
    header = (packet[0] & 15) * 4
    if packet[9] == 6 and socket.inet_ntoa(packet[12:16]) == sys.argv[1]:
        data = struct.unpack(">H", packet[2:4])[0] - header - (packet[header + 12] >> 4) * 4
        if data:
            found.append((seconds * 10**9 + nanoseconds, data))
json.dump(found, sys.stdout)
"""
GREETER = """
import socket
server = socket.create_server(("127.0.0.1", 8000))
print("ready", flush=True)
while True:
    client, _ = server.accept()
    client.sendall(b"inside"); client.close()
"""
#: At the far end: goes in through the tunnel, as soon as there is one.
VISITOR = """
import socket, sys, time
print("ready", flush=True)
while True:
    try:
        with socket.create_connection(("127.0.0.1", 8080)) as client:
            if client.recv(100) == b"inside":
                break
    except OSError:
        pass
    time.sleep(0.05)
open(sys.argv[1], "w").close()
"""
#: A copy of ssh by another name, its forward in a file: nothing that is executed gives it away.
PLAN = """Host relay
  HostName {address}
  User root
  IdentityFile {key}
  StrictHostKeyChecking no
  UserKnownHostsFile /dev/null
  RemoteForward 8080 127.0.0.1:8000
"""
SCRIPT = """
cd "$1"
./sync -N -F plan relay & pid=$!
for try in $(seq 600); do
    [ -e reached ] && break
    kill -0 $pid 2>/dev/null || break
    sleep 0.05
done
kill $pid 2>/dev/null
wait
"""


@contextmanager
def helper(world: World, host: str, *argv: str) -> Iterator[subprocess.Popen[str]]:
    """A process on a host that says when it is ready, and ends with the block."""
    with subprocess.Popen(
        argv,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: world.enter(host),  # noqa: PLW1509 - there are no threads yet
    ) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def tunnel(tmp_path: Path, *, enforce: bool) -> tuple[Recording, list[tuple[int, int]], bool]:
    """The run; when bytes came at the far end (CLOCK_BOOTTIME), and how many; was anybody let in?"""
    python = (sys.executable, "-I", "-c")
    with World(tmp_path, ("inside", "outside")) as world:
        here, there = world.hosts["inside"], world.hosts["outside"]
        keys = tmp_path / "keys"
        keys.mkdir(mode=0o700)
        key = sshd.make_keys(keys)
        (tmp_path / "plan").write_text(PLAN.format(address=there.address, key=key))
        (tmp_path / "sync").write_bytes(Path("/usr/bin/ssh").read_bytes())
        (tmp_path / "sync").chmod(0o755)
        server = ["sh", "-c", 'echo ready; exec "$@"', "sh", *sshd.command(keys, [f"{there.address}:22"])]
        rules = load_rules([])
        rules = rules.under(replace(rules.terms, act_from="medium"))
        reached = tmp_path / "reached"
        with (
            helper(world, "outside", *server),
            helper(world, "inside", *python, GREETER),
            helper(world, "outside", *python, VISITOR, str(reached)),
            helper(world, "outside", *python, SNIFFER, here.address) as sniffer,
        ):
            run = record(
                world.command("inside", "sh", "-c", SCRIPT, "sh", str(tmp_path)), known=rules, enforce=enforce
            )
            told, _ = sniffer.communicate("enough\n")
    offset = clock.wall_offset_ns()
    return run, [(at - offset, size) for at, size in json.loads(told)], reached.exists()


@pytest.mark.skipif(not sshd.is_installed(), reason="no ssh, sshd or ssh-keygen here")
def test_a_tunnel_that_is_only_watched_works(tmp_path: Path):
    run, bytes_came, reached = tunnel(tmp_path, enforce=False)
    assert reached
    (alert,) = [a for a in run.alerts if a.rule.id == "tunnel.ssh-wire"]
    assert alert.response.would == "blocked"
    assert sum(size for _, size in bytes_came) > 2000


@pytest.mark.skipif(not sshd.is_installed(), reason="no ssh, sshd or ssh-keygen here")
def test_a_tunnel_that_is_cut_carries_no_byte_after_the_verdict(tmp_path: Path):
    run, bytes_came, reached = tunnel(tmp_path, enforce=True)
    assert not reached
    (alert,) = [a for a in run.alerts if a.rule.id == "tunnel.ssh-wire"]
    assert (alert.response.action, alert.response.error) == ("blocked", None)
    late = [size for at, size in bytes_came if at > alert.response.effect_ns]
    assert late == [], "bytes that came after the verdict"
    print(f"{sum(size for _, size in bytes_came)} bytes had left when the flow was cut")
