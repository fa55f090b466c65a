# SPDX-License-Identifier: Apache-2.0
"""Our reading of ssh's command lines against ssh's own: ``ssh -G`` prints what it made of them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import assume, example, given, settings

from tracer.detect.execfacts import facts_of

sys.path.insert(0, str(Path(__file__).parent.parent))
from ssh_lines import ARGV, SOUND

# Where CI runs, set-up has installed it: there its absence is a failure.
pytestmark = pytest.mark.skipif(
    shutil.which("ssh") is None and not os.environ.get("CI"), reason="ssh is not installed"
)

#: What we do not look for, or what only the machine it runs on can know.
OTHER_COMPLAINTS = (b"Bad configuration option", b"contains invalid characters", b"Only a single -J")


def opened(output: str) -> frozenset[str]:
    """The facts in the configuration that ssh prints."""
    found = set()
    dynamic: list[str] = []
    to_sockets: list[str] = []
    for line in output.splitlines():
        keyword, *words = line.split(" ")
        if keyword == "remoteforward":
            found.add("ssh-reverse-socks" if words[-1] == "[socks]:0" else "ssh-reverse")
        elif keyword == "localforward":
            found.add("ssh-local")
            to_sockets += words[:1] if not words[-1].startswith("[") else []
        elif keyword == "dynamicforward":
            dynamic.append(words[0])
        elif keyword == "tunnel" and words != ["false"]:
            found.add("ssh-tun")
    for listening in to_sockets:  # printed twice
        if listening in dynamic:
            dynamic.remove(listening)
    return frozenset(found | {"ssh-dynamic"} if dynamic else found)


def check(argv: list[bytes]) -> None:
    ours = facts_of(argv)
    # -W with a path did nothing until OpenSSH 9.3 or so, and then clears the other forwards
    assume("ssh-stdio" not in ours or len(ours) == 1)
    done = subprocess.run(
        ["ssh", "-G", "-F", "none", *argv[1:]],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        env={"PATH": "/usr/bin:/bin", "PORT": "8080"},
    )
    assume(done.returncode == 0 or not any(text in done.stderr for text in OTHER_COMPLAINTS))
    theirs = opened(done.stdout.decode("latin-1")) if done.returncode == 0 else frozenset()
    assert ours - {"ssh-stdio"} == theirs, done.stderr


@settings(max_examples=500)
@given(ARGV)
@example([b"ssh", b"-R", b"8080/host/22", b"host"])
@example([b"ssh", b"-oRemoteForward=8080:localhost:22", b"host"])
@example([b"ssh", b"-l", b"--", b"host", b"-R", b"8080"])
@example([b"ssh", b"-D", b"8080:/b", b"host"])
@example([b"ssh", b"-w", b"0:0", b"-oClearAllForwardings=yes", b"host"])
@example([b"ssh", b"-W", b"a:22", b"-R", b"80:h:22", b"host"])
def test_command_lines(argv):
    check(argv)


@given(SOUND)
def test_likely_command_lines(argv):
    check(argv)
