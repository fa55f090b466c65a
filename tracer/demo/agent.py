# SPDX-License-Identifier: Apache-2.0
"""The agent of the demonstration. Runs by itself; of ours it imports what marks its tool calls.

Usage: agent.py DEVICE [SSH_PORT SSH_KEY]
"""

from __future__ import annotations

import contextlib
import fcntl
import http.server
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import tracer

# NV_ESC_RM_ALLOC with NVOS64 (48 bytes): client, parent, handle, class, pointers …
RM_ALLOC = 0xC030462B
HOPPER_CHANNEL_GPFIFO_A = 0xC86F
HOPPER_COMPUTE_A = 0xCBC0
ENOTTY_EXPECTED = "the stand-in device refuses every ioctl"

MINER_ARGUMENTS = [
    "-o", "stratum+tcp://pool.example.com:3333",
    "-u", "48edfHu7V9Z84YzzMa6fUueoELZ9ZRXq9VetWzYGzKt52XU5xvqgzYnDK9URnRoJMk1j8nLwEVsaSWJ4fhdUyZijBGUicoD",
    "--donate-level=1",
]  # fmt: skip

PERL_CLIENT = (
    'open(my $f, "+<", $ARGV[0]) or die $!;'
    'for my $class (0xc86f, 0xcbc0) { my $a = pack("L4Q4", 1, 2, 3, $class, 0, 0, 0, 0);'
    "ioctl($f, 0xc030462b, $a); }"
)


def say(text: str) -> None:
    """What the agent would log."""
    print(f"agent: {text}", flush=True)


_steps = count(411)


@contextlib.contextmanager
def tool_call(tool: str, what: str) -> Iterator[None]:
    """Log it, and mark it: alerts about whatever is started meanwhile name it."""
    say(f"tool call: {what}")
    with tracer.span(tool=tool, step=next(_steps)):
        yield


def train(device: str) -> None:
    """Make a compute context, as a training framework does when it starts."""
    say("training: compute context on the GPU")
    with open(device, "r+b", buffering=0) as gpu:
        for number in (HOPPER_CHANNEL_GPFIFO_A, HOPPER_COMPUTE_A):
            arguments = bytearray(struct.pack("<4I4Q", 1, 2, 3, number, 0, 0, 0, 0))
            with contextlib.suppress(OSError):  # ENOTTY_EXPECTED
                fcntl.ioctl(gpu, RM_ALLOC, arguments)


def work(folder: Path) -> None:
    """What agents do all day: compile, fetch, test."""
    source = folder / "sum.py"
    source.write_text("def add(a, b):\n    return a + b\n")
    with tool_call("bash", "compile a file"):
        subprocess.run([sys.executable, "-m", "py_compile", source], check=True)
    handler = type("Handler", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        place = f"http://127.0.0.1:{server.server_port}/"
        with tool_call("fetch", "fetch a page over loopback"), urllib.request.urlopen(place) as page:
            page.read()
        server.shutdown()
    test = folder / "test_sum.py"
    test.write_text(
        "import unittest, sum\n"
        "class T(unittest.TestCase):\n"
        "    def test_add(self): self.assertEqual(sum.add(2, 3), 5)\n"
    )
    command = [sys.executable, "-m", "unittest", "-q", "test_sum"]
    with tool_call("bash", "run the tests"):
        subprocess.run(command, cwd=folder, check=True, stderr=subprocess.DEVNULL)


def mine(folder: Path) -> None:
    """A harmless program under a miner's name, with a miner's arguments."""
    miner = folder / "xmrig"
    shutil.copy(shutil.which("echo") or "/bin/echo", miner)
    arguments = " ".join(MINER_ARGUMENTS)
    with tool_call("bash", "sh -c './xmrig …'"):
        subprocess.run(["/bin/sh", "-c", f"{miner} {arguments} >/dev/null"], check=False)


def tunnel(port: str, key: str) -> None:
    """A reverse tunnel to an sshd on loopback, held open for a moment."""
    options = ["-i", key, "-p", port, "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]
    options += ["-o", "BatchMode=yes", "-o", "LogLevel=ERROR", "-F", "/dev/null"]
    with tool_call("bash", "ssh -R …"):
        ssh = subprocess.Popen(
            ["ssh", *options, "-NR", f"0:127.0.0.1:{port}", "127.0.0.1"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(1)
        ssh.terminate()
        ssh.wait()


def divert_gpu(device: str) -> None:
    """Another program than the trainer makes a compute context."""
    with tool_call("bash", "a second program uses the GPU"):
        subprocess.run(["perl", "-e", PERL_CLIENT, device], check=False)


def main() -> None:
    """Work, then go wrong."""
    device = sys.argv[1]
    train(device)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        work(folder)
        mine(folder)
        if len(sys.argv) > 3:
            tunnel(sys.argv[2], sys.argv[3])
        divert_gpu(device)
    say("done")


if __name__ == "__main__":
    main()
