# SPDX-License-Identifier: Apache-2.0
"""The walk over an ssh client's arguments: against its plain twin, cut off anywhere, over any bytes."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracer.detect.execfacts import facts_of
from tracer.detect.facts import FACTS
from tracer.detect.ssh import AUTOSSH_OPTIONS, DROPBEAR_OPTIONS, OPENSSH_OPTIONS, ssh_facts, ssh_forwards

sys.path.insert(0, str(Path(__file__).parent.parent))
import naive_ssh
from ssh_lines import ARGV

REVERSE, LOCAL, DYNAMIC, TUN, STDIO = (
    f"ssh-{name}" for name in ("reverse", "local", "dynamic", "tun", "stdio")
)


def as_bytes(argv: list[bytes]) -> bytes:
    return b"".join(argument + b"\0" for argument in argv)


def names(bits: int) -> frozenset[str]:
    return frozenset(fact.name for bit, fact in enumerate(FACTS) if bits >> bit & 1)


def forwards(args: bytes) -> tuple[frozenset[str], bytes]:
    """The facts and the value that decides, of arguments that have others right beside them."""
    lure = b"-R8080:localhost:22\0"
    data = np.frombuffer(bytearray(lure + args + lure), np.uint8)
    out = np.zeros(3, np.int64)
    lo, hi = len(lure), len(lure) + len(args)
    bits = ssh_forwards(data, lo, hi, out)
    assert not bits or lo <= out[0] <= out[1] <= hi
    return names(bits), bytes(data[out[0] : out[1]])


def test_environment_decides_nothing_else():
    """The path, or the name called by, tells the client as well as argv[0]."""
    argv = [b"backup", b"-R", b"8080:localhost:22", b"host"]
    assert facts_of(argv) == frozenset()
    assert facts_of(argv, path=b"/usr/bin/ssh") == {"ssh-reverse"}
    assert facts_of([b"ssh", *argv[1:]], path=b"/usr/sbin/dropbear") == {"ssh-reverse"}
    assert facts_of([b"ssh", b"-R", b"8080", b"host"], path=b"/usr/sbin/dropbear") == frozenset()


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("ssh -L 1:h:2 -fNR8080:h:22 -R 9 host", b"8080:h:22"),
        ("ssh -D 1 -w 0:0 host", b"0:0"),
        ("ssh -o 'RemoteForward 8080 h:22' host", b"RemoteForward 8080 h:22"),
        ("ssh -o ClearAllForwardings=no -R 1:h:2 -W h:22 host", b"1:h:2"),
    ],
)
def test_span_is_the_most_severe(line, value):
    assert forwards(as_bytes([word.encode() for word in shlex.split(line)]))[1] == value


@settings(max_examples=600)
@given(ARGV)
def test_agrees_with_the_plain_twin(argv):
    assert forwards(as_bytes(argv))[0] == naive_ssh.ssh(argv)


@given(ARGV, st.data())
def test_cut_arguments_still_count(argv, data):
    """A line that is cut keeps the forwards that it showed, with or without its host."""
    args = as_bytes(argv)
    cut = args[: data.draw(st.integers(0, len(args)))]
    found, _ = forwards(cut)
    if cut.endswith(b"\0"):
        assert found == naive_ssh.ssh(cut[:-1].split(b"\0"))


@pytest.mark.parametrize(
    ("args", "facts"),
    [
        (b"ssh\0-R", {REVERSE}),
        (b"ssh\0-R8080:local", {REVERSE}),
        (b"ssh\0-fNL\x008080", {LOCAL}),
        (b"ssh\0-D", {DYNAMIC}),
        (b"ssh\0-R\x008080:h:22\0-o\0Stri", {REVERSE}),
        (b"ssh\0-oRemoteForward=8080 loc", {REVERSE}),
        (b"ssh\0-oRemoteForw", set()),
        (b"ssh\0-w", {TUN}),
        (b"ssh\0-W\0tar", {STDIO}),
        (b"ssh\0-R\x008080:h:22\0host\0-O\0for", {REVERSE}),
    ],
)
def test_cut_inside_a_word(args, facts):
    assert forwards(args)[0] == facts


@given(
    st.binary(max_size=200) | st.text(alphabet="-RLDwWoO80:h/[]\\\"' =\0\0\0", max_size=120).map(str.encode),
    st.sampled_from([OPENSSH_OPTIONS, AUTOSSH_OPTIONS, DROPBEAR_OPTIONS]),
    st.booleans(),
)
def test_any_bytes(args, options, cut):
    """The bytes beside the arguments never matter, nor does any byte in them do harm."""
    results = set()
    for around in (b"", b"\0-R\x008080:h:22\0h\0", b":22\0"):
        data = np.frombuffer(bytearray(around + args + around + b"\0"), np.uint8)
        out = np.zeros(3, np.int64)
        lo, hi = len(around), len(around) + len(args)
        results.add(ssh_facts(data, lo, hi, options, cut, out))
    assert len(results) == 1
