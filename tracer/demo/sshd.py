# SPDX-License-Identifier: Apache-2.0
"""An sshd of our own on loopback, with keys made for the moment: something for a tunnel to lead to."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PATIENCE_S = 5.0


@dataclass(frozen=True, slots=True)
class Sshd:
    """Where it listens, and the key that opens it."""

    port: int
    key: Path


def is_installed() -> bool:
    """Are server, client and key generator there?"""
    return all(shutil.which(tool, path=_PATH) for tool in ("sshd", "ssh", "ssh-keygen"))


_PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 0.2) as probe:
            return probe.recv(4) == b"SSH-"
    except OSError:
        return False


def make_keys(folder: Path) -> Path:
    """A key for the host and one for the user; returns the user's."""
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    authorised = folder / "authorized_keys"
    authorised.write_bytes((folder / "user.pub").read_bytes())
    authorised.chmod(0o600)
    return folder / "user"


def command(folder: Path, listen: Sequence[str], more: str = "") -> list[str]:
    """The command line of a server with the keys in ``folder``, for the current user alone."""
    addresses = "".join(f"ListenAddress {address}\n" for address in listen)
    config = folder / "sshd_config"
    config.write_text(
        f"{addresses}HostKey {folder / 'host'}\n"
        f"AuthorizedKeysFile {folder / 'authorized_keys'}\nPidFile none\nStrictModes no\nUsePAM no\n"
        f"PermitRootLogin prohibit-password\nAllowUsers {pwd.getpwuid(os.geteuid()).pw_name}\n"
        f"PasswordAuthentication no\nAllowTcpForwarding yes\n{more}"
    )
    sshd = shutil.which("sshd", path=_PATH)
    assert sshd is not None
    return [sshd, "-D", "-f", str(config)]


@contextmanager
def running(folder: Path) -> Iterator[Sshd]:
    """A server for the current user, as long as the block lasts; files go to ``folder`` (private)."""
    key = make_keys(folder)
    port = _free_port()
    separation = Path("/run/sshd")  # root's sshd wants it for privilege separation
    made = os.geteuid() == 0 and not separation.exists()
    if made:
        separation.mkdir(mode=0o755)
    argv = command(folder, [f"127.0.0.1:{port}"], "LogLevel QUIET\n")
    server = subprocess.Popen(argv, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + PATIENCE_S
        while not _answers(port) and time.monotonic() < deadline:
            time.sleep(0.02)
        yield Sshd(port, key)
    finally:
        server.terminate()
        server.wait()
        if made:
            separation.rmdir()
