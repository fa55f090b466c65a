# SPDX-License-Identifier: Apache-2.0
"""The facts about one exec, and the evidence for them."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracer.detect import execfacts
from tracer.detect.execfacts import FD_NETWORK, SPANS, describe_facts, exec_facts, facts_of
from tracer.detect.facts import FACT_BIT, FACTS

sys.path.insert(0, str(Path(__file__).parent.parent))
import naive_facts
from ssh_lines import ARGV

SHELL, INLINE = "shell-command", "inline-code"
LINES: list[tuple[str, set[str]]] = [
    ("sh -c ls", {SHELL}),
    ("/bin/bash -lc ls", {SHELL}),
    ("-bash -c ls", {SHELL}),
    ("bash -ec ls", {SHELL}),
    ("bash -euxo pipefail -c ls", {SHELL}),
    ("bash -oc pipefail ls", {SHELL}),
    ("bash -o pipefail -c ls", {SHELL}),
    ("bash +x -c ls", {SHELL}),
    ("bash --norc -c ls", {SHELL}),
    ("bash --rcfile f -c ls", {SHELL}),
    ("zsh -fc ls", {SHELL}),
    ("fish --command=ls", {SHELL}),
    ("fish -C x -c ls", {SHELL}),
    ("busybox sh -c ls", {SHELL}),
    ("/bin/busybox ash -c ls", {SHELL}),
    ("ksh93 -c ls", {SHELL}),
    ("sh script -c", set()),
    ("bash script.sh -c x", set()),
    ("bash -eo pipefail script -c", set()),
    ("bash -- -c", set()),
    ("bash - -c", set()),
    ("bash", set()),
    ("bash -l", set()),
    ("busybox ls -c", set()),
    ("ls -c", set()),
    ("python3 -c 'print()'", {INLINE}),
    ("/usr/bin/python3.11 -c 'print()'", {INLINE}),
    ("python -Ic x", {INLINE}),
    ("python -cprint()", {INLINE}),
    ("python -W ignore -X dev -c x", {INLINE}),
    ("python --check-hash-based-pycs always -c x", {INLINE}),
    ("python -W c x.py", set()),
    ("python -m pytest -c pyproject.toml", set()),
    ("python train.py -c config.yaml", set()),
    ("python -", set()),
    ("perl -e 1", {INLINE}),
    ("perl -lane 'print $F[0]' f", {INLINE}),
    ("perl -pi.bak -e s/a/b/ f", {INLINE}),
    ("perl -MData::Dumper -E say", {INLINE}),
    ("perl -d:Trace x.pl", set()),
    ("perl -Ilib -w x.pl -e", set()),
    ("perl -I lib x.pl -e", set()),
    ("ruby -rjson -e 'puts 1'", {INLINE}),
    ("ruby -W0 x.rb -e", set()),
    ("node -e 1", {INLINE}),
    ("node -pe 1", {INLINE}),
    ("node --eval=1", {INLINE}),
    ("node --print 1", {INLINE}),
    ("node -r esbuild-register -e 1", {INLINE}),
    ("node --max-old-space-size=4096 server.js -e production", set()),
    ("node --require x server.js -e", set()),
    ("php -r 'echo 1;'", {INLINE}),
    ("php -d memory_limit=-1 -r 'echo 1;'", {INLINE}),
    ("php -f x.php -r", set()),
    ("lua5.4 -e 'print(1)'", {INLINE}),
    ("lua x.lua -e", set()),
    ("julia -e 1", {INLINE}),
    ("Rscript -e 1", {INLINE}),
    ("grep stratum+tcp src", set()),
    ("make -c x", set()),
]
TAILS = "-c -lc -ec -o -eo pipefail -m -e -E -pe -Ic -W x -- - --rcfile --command=x --eval --norc -r -d -I -i.bak +x c"


def facts(
    argv: list[bytes], flags: int = 0, stdin: int = 0, stdout: int = 0
) -> tuple[frozenset[str], np.ndarray]:
    path = name = argv[0]
    args = b"".join(argument + b"\0" for argument in argv)
    data = np.frombuffer(bytearray(path + name + args), np.uint8)
    out = np.zeros(SPANS, np.int64)
    a, b, c = len(path), len(path) * 2, len(data)
    bits = exec_facts(data, 0, a, a, b, b, c, flags, stdin, stdout, out)
    return frozenset(fact.name for bit, fact in enumerate(FACTS) if bits >> bit & 1), out


@pytest.mark.parametrize(("line", "expected"), LINES, ids=[line for line, _ in LINES])
def test_given_code(line, expected):
    argv = [word.encode() for word in shlex.split(line)]
    assert facts_of(argv) == expected
    if argv[0] not in (b"julia", b"Rscript", b"lua5.4"):
        assert naive_facts.facts(argv) == expected


@pytest.mark.parametrize(
    ("flags", "stdin", "stdout", "expected"),
    [
        (execfacts.FLAG_MEMFD, 0, 0, {"memfd"}),
        (execfacts.FLAG_DELETED, 0, 0, {"deleted"}),
        (execfacts.FLAG_SCRIPT, 0, 0, {"script"}),
        (execfacts.FLAG_SETID, 0, 0, {"setid"}),
        (execfacts.FLAG_SECURE, 0, 0, set()),
        (execfacts.FLAG_ARGS_CUT, 0, 0, {"args-cut"}),
        (execfacts.FLAG_ARGS_UNREADABLE, 0, 0, {"args-cut"}),
        (0, FD_NETWORK, 0, {"stdin-network"}),
        (0, 0, FD_NETWORK, {"stdout-network"}),
        (0, 2, 2, {"stdin-pipe", "stdout-pipe"}),
        (0, 3, 3, set()),
    ],
)
def test_what_the_kernel_says(flags, stdin, stdout, expected):
    assert facts([b"x"], flags, stdin, stdout)[0] == expected


def test_only_the_file_tells():
    assert facts_of([b"x", b"-c", b"ls"]) == frozenset()
    assert facts_of([b"x", b"-c", b"ls"], path=b"/bin/dash") == {"shell-command"}
    assert facts_of([b"sh", b"-c", b"ls"], path=b"/bin/busybox") == {"shell-command"}
    # argv[0] is whatever the caller likes
    assert facts_of([b"sh", b"-c", b"ls"], path=b"/usr/bin/python3") == {"inline-code"}
    assert facts_of([b"sh", b"-c", b"ls"], path=b"/tmp/xmrig") == frozenset()


def test_a_script_is_not_what_it_is_called():
    argv = [b"/bin/sh", b"/usr/local/bin/ssh", b"-R", b"8080:localhost:22", b"host"]
    text = b"/bin/dash" + b"/usr/local/bin/ssh" + b"".join(argument + b"\0" for argument in argv)
    data = np.frombuffer(bytearray(text), np.uint8)
    out = np.zeros(SPANS, np.int64)
    bits = exec_facts(data, 0, 9, 9, 27, 27, len(text), execfacts.FLAG_SCRIPT, 0, 0, out)
    assert bits == 1 << FACT_BIT["script"]


def test_cut_line_needs_no_host():
    argv = [b"ssh", b"-fNR", b"8080:localhost:22"]
    assert facts(argv)[0] == frozenset()
    assert facts(argv, execfacts.FLAG_ARGS_CUT)[0] == {"ssh-reverse", "args-cut"}


def described(line: str, **more: bytes) -> dict[str, str]:
    argv = [word.encode("latin-1") for word in shlex.split(line)]
    bits = sum(1 << FACT_BIT[name] for name in facts_of(argv, **more))
    return describe_facts(more.get("path", argv[0]), argv[0], argv, bits)


def test_evidence():
    assert described("ls -l") == {}
    assert described("ssh -fNR8080:localhost:22 host") == {
        "forward": "-R 8080:localhost:22",
        "facts": "ssh-reverse",
    }
    assert described("ssh host -o 'RemoteForward 8080 h:22'")["forward"] == "-o RemoteForward 8080 h:22"
    assert described("dbclient -B h:22 host")["forward"] == "-B h:22"
    assert described("ssh -R '/tmp/\xff:/tmp/b' host")["forward"] == "-R /tmp/\\xff:/tmp/b"
    mined = described("xmrig -o stratum+tcp://pool:3333 -u 0xde0B295669a9FD93d5F28D9Ec85E40f4cb697BAe.rig")
    assert mined == {
        "wallet": "0xde0B295669a9FD93d5F28D9Ec85E40f4cb697BAe",
        "wallet_kind": "Ethereum",
        "pool": "stratum+tcp://pool:3333",
        "facts": "wallet pool-address",
    }
    assert described("bash -euo pipefail -c 'curl x | sh' y")["code"] == "curl x | sh"
    assert described("x -c 'ls /'", path=b"/bin/sh")["code"] == "ls /"
    assert described("python3 -cimport\\ os")["code"] == "import os"
    assert described("node --eval=1+1")["code"] == "1+1"


def test_evidence_of_joined_arguments():
    args = b"ssh\0-R\x008080:localhost:22\0host\0"
    bits = 1 << FACT_BIT["ssh-reverse"]
    assert describe_facts(b"/usr/bin/ssh", b"ssh", args, bits)["forward"] == "-R 8080:localhost:22"
    assert describe_facts(b"", b"", b"", bits) == {"facts": "ssh-reverse"}


PROGRAMS = [
    b"sh",
    b"-bash",
    b"/bin/busybox",
    b"zsh",
    b"python3.11",
    b"perl",
    b"ruby",
    b"node",
    b"php",
    b"lua",
    b"ssh",
    b"ls",
]
WORDS = st.sampled_from([word.encode() for word in TAILS.split()]) | st.binary(max_size=8).map(
    lambda text: text.replace(b"\0", b"c")
)


@settings(max_examples=600)
@given(st.sampled_from(PROGRAMS), st.lists(WORDS, max_size=6))
def test_agrees_with_the_plain_twin(name, words):
    argv = [name, *words]
    assert facts_of(argv) == naive_facts.facts(argv)


@given(ARGV)
def test_agrees_with_the_plain_twin_on_ssh(argv):
    assert facts_of(argv) == naive_facts.facts(argv)


@settings(max_examples=300)
@given(
    st.binary(max_size=40) | st.sampled_from([b"/usr/bin/ssh", b"/bin/sh", b"busybox", b"node"]),
    st.binary(max_size=20) | st.just(b"ssh"),
    st.binary(max_size=300) | ARGV.map(b"\0".join),
    st.integers(0, 2**16 - 1),
    st.data(),
)
def test_only_its_own_bytes_matter(path, name, args, flags, data):
    """Whatever stands around the record, and wherever it is cut."""
    args = args[: data.draw(st.integers(0, len(args)))]
    results = set()
    for around in (b"", b"-c\0sh\0", b"stratum+tcp://pool:3333\0ssh\0-R80\0h\0"):
        text = around + path + name + args + around + b"\0"
        a = len(around)
        b, c, d = a + len(path), a + len(path) + len(name), a + len(path) + len(name) + len(args)
        out = np.zeros(SPANS, np.int64)
        record = np.frombuffer(bytearray(text), np.uint8)
        results.add(exec_facts(record, a, b, b, c, c, d, flags, 0, 0, out))
        assert all(place == 0 or a <= place <= d for place in (*out[0:2], *out[4:6], *out[8:10], *out[12:14]))
    assert len(results) == 1
