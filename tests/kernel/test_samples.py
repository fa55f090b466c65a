# SPDX-License-Identifier: Apache-2.0
"""What samples say of connections adds up, with what their ends say, to what they carried."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from conftest import kernel_lacks
from harness import Recording, record

from tracer.kernel import schema
from tracer.kernel.hooks import LADDERS, SAMPLES, Rung
from tracer.kernel.probes import ProbeOptions, Probes
from tracer.kernel.rungs import taken
from tracer.kernel.trial import usable
from tracer.watch import Watch

pytestmark = pytest.mark.alone

#: Both ends of a connection, which says so much each way with pauses, then ends; for each size.
TALK = """
import socket, sys, time

rounds, family = int(sys.argv[1]), sys.argv[2]
host = "::1" if family == "6" else "127.0.0.1"
server = socket.create_server((host, 0), family=socket.AF_INET6 if family == "6" else socket.AF_INET)
mine = socket.create_connection(server.getsockname()[:2])
theirs = server.accept()[0]
for number in range(rounds):
    for one, other, size in ((mine, theirs, 1000 + number), (theirs, mine, 40_000 + number)):
        one.sendall(b"x" * size)
        while size:
            size -= len(other.recv(size))
    if sys.argv[3:]:
        print("said", flush=True)
        sys.stdin.readline()
    else:
        time.sleep(0.08)
mine.close()
theirs.close()
"""


def talk(rounds: int, family: str = "4", *more: str) -> list[str]:
    return [sys.executable, "-I", "-c", TALK, str(rounds), family, *more]


@pytest.fixture(params=["on_sample", "on_sample_files"])
def rung(request, monkeypatch):
    """Take this program, and not the other one that does the same."""
    name = request.param
    if complaint := usable([name])[name]:
        # not let load at all; what a verifier finds wrong with it is another thing
        assert "EPERM" in complaint, complaint
        assert name == "on_sample", "there is always the other one"
        kernel_lacks("iterator over sockets' storage")
    monkeypatch.setitem(LADDERS, SAMPLES, (Rung(name, (name,)),))
    taken.cache_clear()
    yield name
    taken.cache_clear()


@pytest.mark.guest
@pytest.mark.usefixtures("rung")
@pytest.mark.parametrize("family", ["4", "6"])
def test_samples_and_the_end_add_up(family: str):
    passes: list[list[np.void]] = []

    def listen_in(watch: Watch, _found: Recording) -> None:
        if "samples" not in vars(watch.probes):
            ask = watch.probes.samples

            def samples() -> list[bytes]:
                raw = ask()
                passes.append([np.frombuffer(r, schema.FLOW_SAMPLE)[0] for r in raw])
                return raw

            watch.probes.samples = samples  # type: ignore[method-assign]

    found = record(talk(8, family), between=listen_in)
    assert found.status == 0
    told = [row for rows in passes for row in rows]
    assert len([rows for rows in passes if len(rows) > 1]) > 2, "it was over in a moment"
    for rows in passes:
        assert [int(row["cookie"]) for row in rows].index(0) == len(rows) - 1
    carried: Counter[tuple[int, str]] = Counter()
    for row in told:
        for way in ("sent", "received"):
            carried[int(row["cookie"]), way] += int(row[way])
        if row["cookie"]:
            assert int(row["tgid"]) == found.root
            assert not row["sent"] or row["sent_packets"]
            assert not row["received"] or row["received_packets"]
    closed = found.of("flow-close")
    assert len(closed) == 2
    for end in closed:
        for way in ("sent", "received"):
            # a FIN is counted as a byte, and may come before the last sample
            assert 0 <= carried[int(end["cookie"]), way] + int(end[f"{way}_last"]) - int(end[way]) <= 1
    assert found.summary is not None
    assert found.summary.lost_total == 0


@pytest.mark.usefixtures("rung")
def test_of_flows_that_were_there_before_only_what_is_new():
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    talker = subprocess.Popen(talk(3, "4", "asks"), **pipes)
    assert talker.stdin
    assert talker.stdout
    try:
        talker.stdout.readline()
        probes = Probes(ProbeOptions(by_lineage=True))
        try:
            probes.attach_kernel()
            fd = os.pidfd_open(talker.pid)
            probes.track(fd)
            os.close(fd)
            probes.tasks()
            assert len(probes.sockets()) == 2
            assert len(probes.samples()) == 1, "nothing has moved"
            talker.stdin.write("\n")
            talker.stdin.flush()
            talker.stdout.readline()
            rows = [np.frombuffer(r, schema.FLOW_SAMPLE)[0] for r in probes.samples()][:-1]
            assert sorted(int(row["sent"]) for row in rows) == [1001, 40_001]
            assert sorted(int(row["received"]) for row in rows) == [1001, 40_001]
            assert all(row["flags"] & schema.FLOW_FLAG["FLOW_LATE"] for row in rows)
        finally:
            probes.close()
    finally:
        talker.communicate("\n\n\n")


def test_one_of_the_two_is_taken():
    probes = Probes(ProbeOptions())
    try:
        first = usable(["on_sample"])["on_sample"] is None
        assert ("on_sample" in probes.loaded, "on_sample_files" in probes.loaded) == (first, not first)
        assert "on_sample" not in probes.missing, "its place is taken"
    finally:
        probes.close()
