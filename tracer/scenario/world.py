# SPDX-License-Identifier: Apache-2.0
"""A few hosts that lead nowhere: a network namespace each, on one wire, with addresses from documentation.

Each host is held by a process of ours that reads a pipe. When the pipe closes, because we close it or
because we were killed, that process ends, and with it the host's process namespace: the kernel kills
whatever runs there, the watched tree included, and takes the network down. So nothing is left behind and nothing has a name.

    inside    198.51.100.10   2001:db8:51::10    where the watched tree runs
    outside   198.51.100.20   2001:db8:51::20    the rest of the world; others follow at 30, 40, …

There is no route to anywhere else, and a name that is not in the hosts file is asked of outside.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tracer.errors import HostError
from tracer.scenario.spec import OUTSIDE

NETWORK, NETWORK6 = "198.51.100", "2001:db8:51:"
_CLONE_NEWNS, _CLONE_NEWPID, _CLONE_NEWNET = 0x00020000, 0x20000000, 0x40000000
_NSSWITCH = (
    "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nservices: files\nprotocols: files\n"
)

#: What a host's first process does: say who it is (its /proc is still ours), arrange the files, hold on, reap.
#: A home of its own hides ~/.ssh of whoever runs this; what must be seen below it is mounted into it first.
_HOLD = """
read -r pid rest </proc/self/stat
over() {
    target=$(readlink -m "$2")
    [ -e "$target" ] || { mkdir -p "${target%/*}" && : >"$target"; }
    mount --bind "$1" "$target"
}
mount -t proc proc /proc
mount -t tmpfs -o mode=755 tmpfs /run && mkdir -m 755 /run/sshd
over "$FOLDER/hosts" /etc/hosts
over "$FOLDER/resolv.conf" /etc/resolv.conf
[ ! -e /etc/nsswitch.conf ] || over "$FOLDER/nsswitch.conf" /etc/nsswitch.conf
IFS='
'
for path in $KEEP; do
    mkdir -p "$FOLDER/$NAME/${path#"$HOME"/}" && mount --rbind "$path" "$FOLDER/$NAME/${path#"$HOME"/}"
done
mount --rbind "$FOLDER/$NAME" "$HOME"
echo "$pid"
cat
"""


@dataclass(frozen=True, slots=True)
class Host:
    """One of them. ``pid``: who holds its namespaces, which is not to be found by that number on a host."""

    name: str
    address: str
    address6: str
    pid: int
    pidfd: int


class World:
    """The hosts ``names``, for as long as the object is open. ``folder`` is private and ours."""

    def __init__(
        self, folder: Path, names: tuple[str, ...], aliases: Mapping[str, str] | None = None
    ) -> None:
        self.folder = folder
        self.hosts: dict[str, Host] = {}
        self._stack = ExitStack()
        try:
            numbers = {name: 10 * place for place, name in enumerate(names, 1)}
            self._write_files(numbers, aliases or {})
            for name, number in numbers.items():
                pid = self._hold(name)
                pidfd = os.pidfd_open(pid)
                self._stack.callback(os.close, pidfd)
                self.hosts[name] = Host(name, f"{NETWORK}.{number}", f"{NETWORK6}:{number}", pid, pidfd)
            self._connect()
        except FileNotFoundError as error:
            self.close()
            raise HostError(
                f"{error.filename} is not installed", hint="see: .ci/setup packages test"
            ) from None
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the hosts, and with them every process on them."""
        self._stack.close()

    def home(self, name: str) -> Path:
        """What is the home of root on a host."""
        return self.folder / name

    def command(self, name: str, *argv: str) -> list[str]:
        """The command line that runs ``argv`` on a host, to end when the host does."""
        return ["nsenter", "--target", str(self.hosts[name].pid), "--net", "--mount", "--pid", "--", *argv]

    def variables(self) -> dict[str, str]:
        """Addresses for scripts: $OUTSIDE, $OUTSIDE6, …"""
        found = {}
        for host in self.hosts.values():
            found[host.name.upper()] = host.address
            found[f"{host.name.upper()}6"] = host.address6
        return found

    @contextmanager
    def children_on(self, name: str) -> Iterator[None]:
        """What the caller forks in this block is among a host's processes, and ends when the host does."""
        ours = os.open("/proc/self/ns/pid_for_children", os.O_RDONLY | os.O_CLOEXEC)
        try:
            _setns(self.hosts[name].pidfd, _CLONE_NEWPID)
            yield
        finally:
            _setns(ours, _CLONE_NEWPID)
            os.close(ours)

    def enter(self, name: str) -> None:
        """Put the calling process, which must have one thread, on a host's network and among its files."""
        _setns(self.hosts[name].pidfd, _CLONE_NEWNET | _CLONE_NEWNS)

    def listens(self, name: str, protocol: str, port: int) -> bool:
        """Is somebody on the host waiting at this port? Asks the kernel, so that nobody is disturbed."""
        state = {"tcp": "0A", "udp": "07"}[protocol]
        for table in (protocol, f"{protocol}6"):
            try:
                lines = Path(f"/proc/{self.hosts[name].pid}/net/{table}").read_text().splitlines()[1:]
            except OSError:
                continue  # no IPv6
            if any(f[1].endswith(f":{port:04X}") and f[3] == state for f in map(str.split, lines)):
                return True
        return False

    def _write_files(self, numbers: dict[str, int], aliases: Mapping[str, str]) -> None:
        lines = ["127.0.0.1 localhost", "::1 localhost"]
        for name, number in numbers.items():
            called = [name, f"{name}.example", *(alias for alias, host in aliases.items() if host == name)]
            lines += [
                f"{address} {' '.join(called)}" for address in (f"{NETWORK}.{number}", f"{NETWORK6}:{number}")
            ]
            (self.folder / name).mkdir(mode=0o700)
        (self.folder / "hosts").write_text("\n".join(lines) + "\n")
        options = "options timeout:1 attempts:1"
        (self.folder / "resolv.conf").write_text(f"nameserver {NETWORK}.{numbers[OUTSIDE]}\n{options}\n")
        (self.folder / "nsswitch.conf").write_text(_NSSWITCH)

    def _hold(self, name: str) -> int:
        home = pwd.getpwuid(os.geteuid()).pw_dir
        variables = {
            "FOLDER": str(self.folder),
            "NAME": name,
            "HOME": home,
            "KEEP": "\n".join(_below(home, self.folder)),
        }
        holder = subprocess.Popen(
            ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--", "sh", "-euc", _HOLD],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | variables,
            text=True,
        )
        self._stack.callback(_let_go, holder)
        assert holder.stdout
        assert holder.stderr
        line = holder.stdout.readline()
        if not line:
            complaint = holder.stderr.read().strip() or "unshare failed"
            raise HostError(
                f"can't make a host for a scenario: {complaint}", hint="network namespaces need root"
            )
        return int(line)

    def _connect(self) -> None:
        """One wire: a bridge on outside, to which every other host has a link."""
        outside = self.hosts[OUTSIDE]
        lines = ["link add lan type bridge", *_up(outside, "lan")]
        for host in self.hosts.values():
            if host is not outside:
                lines.append(f"link add {host.name} type veth peer name eth0 netns {host.pid}")
                lines += [f"link set {host.name} master lan", f"link set {host.name} up"]
        self._ip(outside, lines)
        for host in self.hosts.values():
            if host is not outside:
                self._ip(host, _up(host, "eth0"))

    def _ip(self, host: Host, lines: list[str]) -> None:
        done = subprocess.run(
            ["nsenter", "--target", str(host.pid), "--net", "--", "ip", "-batch", "-"],
            input="\n".join(lines),
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"},
        )
        if done.returncode:
            raise HostError(
                f"can't connect the hosts of a scenario: {done.stderr.strip()}", hint="is veth there?"
            )


def _up(host: Host, link: str) -> list[str]:
    return [
        f"addr add {host.address}/24 dev {link}",
        f"addr add {host.address6}/64 dev {link} nodad",
        f"link set {link} up",
        "link set lo up",
    ]


def _below(home: str, folder: Path) -> list[str]:
    """Folders below ``home`` that a scenario needs: its own, Python, its packages, this checkout, the PATH."""
    if home in {"/", ""}:
        return []
    wanted = [str(folder), os.getcwd(), sys.prefix, sys.base_prefix, str(Path(__file__).resolve().parents[2])]
    wanted += os.environ.get("PATH", "").split(":")
    below = sorted(
        {p for p in map(os.path.realpath, wanted) if p.startswith(f"{home}/") and os.path.isdir(p)}
    )
    return [p for p in below if not any(p.startswith(f"{other}/") for other in below)]


def _setns(fd: int, kinds: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(fd, kinds):
        raise OSError(ctypes.get_errno(), "setns")


def _let_go(holder: subprocess.Popen[str]) -> None:
    if holder.stdin:
        holder.stdin.close()
    holder.wait()
    for pipe in (holder.stdout, holder.stderr):
        if pipe:
            pipe.close()
