# SPDX-License-Identifier: Apache-2.0
"""One guest: a kernel of Debian's under QEMU, without KVM, on the host's own files.

The guest sees all of the host's ``/``, read-only, below a file system of its own in memory: nothing is
installed in it, and nothing that it writes is left. It runs one command as root and ends. QEMU writes to pipes
of ours and dies with us, so that nothing is left of it, either, however we end.
"""

from __future__ import annotations

import os
import selectors
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

import initrd
from kernels import Kernel, UnavailableError

QEMU = "qemu-system-x86_64"
MEMORY_MIB = 2048
#: Debian's own order, with BPF and without.
LSM = {
    True: "lockdown,capability,landlock,yama,apparmor,bpf",
    False: "lockdown,capability,landlock,yama,apparmor",
}
#: Emulated, what makes the kernel zero a page byte by byte, or walk one more level of page tables, costs time alone.
PROCESSOR = "max,-erms,-la57"
#: Emulated, self-tests and mitigations cost seconds and show nothing. With each program in a place of its own QEMU would
#: have to translate the same libraries for each.
COMMAND_LINE = (
    "console=ttyS0 panic=-1 loglevel=4 mitigations=off nokaslr no_timer_check tsc=unstable clocksource=hpet random.trust_cpu=1"
    " cryptomgr.notests rcupdate.rcu_expedited=1 audit=0 norandmaps"
)
_CONSOLE_KEPT = 200
_TICK_S = 0.5
_READY = b"vigiles-guest: ready"


class GuestError(Exception):
    """The guest did not get as far as an exit status; the text ends with its console's last lines."""


@dataclass(frozen=True, slots=True)
class Setting:
    """How a guest is booted: BPF among the security modules or not, the cgroup hierarchy, what is at /usr/src."""

    bpf_lsm: bool = True
    cgroup: str = "unified"  # or hybrid, or v1
    headers: Path | None = None


@dataclass(slots=True)
class Result:
    """What came of a command."""

    status: int
    output: bytes
    boot_s: float
    wall_s: float


@dataclass(slots=True)
class _Running:
    output: bytearray = field(default_factory=bytearray)
    status: bytearray = field(default_factory=bytearray)
    console: bytearray = field(default_factory=bytearray)
    boot_s: float = 0.0


def require() -> None:
    """Raise UnavailableError unless there is a QEMU."""
    if shutil.which(QEMU) is None:
        raise UnavailableError(f"{QEMU} is not installed; as root: .ci/setup packages vm")


def run(
    kernel: Kernel,
    command: list[str],
    setting: Setting = Setting(),
    *,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
    timeout_s: float = 600.0,
    on_output: Callable[[bytes], None] | None = None,
    on_console: Callable[[bytes], None] | None = None,
    stop: Event | None = None,
) -> Result:
    """Run ``command`` in ``folder`` as root of a guest. Raises GuestError, TimeoutError, UnavailableError."""
    require()
    began = time.monotonic()
    image = initrd.make(
        kernel,
        _script(command, folder or Path.cwd(), environment or {}),
        cgroup=setting.cgroup,
        headers=str(setting.headers or ""),
    )
    seen = _Running()
    with ExitStack() as stack, selectors.DefaultSelector() as selector:
        memory = os.memfd_create("initrd")
        stack.callback(os.close, memory)
        os.write(memory, image)
        theirs = {}
        for name, told in (("console", on_console), ("output", on_output), ("status", None)):
            ours, theirs[name] = os.pipe()
            stack.callback(os.close, ours)
            selector.register(ours, selectors.EVENT_READ, (getattr(seen, name), told))
        process = subprocess.Popen(
            _qemu(kernel, setting, memory, theirs),
            stdin=subprocess.DEVNULL,
            stdout=theirs["console"],
            stderr=theirs["console"],
            pass_fds=[memory, *theirs.values()],
        )
        stack.callback(process.wait)
        stack.callback(process.kill)
        for fd in theirs.values():
            os.close(fd)
        while selector.get_map():
            for key, _ in selector.select(_TICK_S):
                data = os.read(key.fd, 1 << 16)
                if not data:
                    selector.unregister(key.fd)
                    continue
                kept, told = key.data
                kept += data
                if told:
                    told(data)
            if not seen.boot_s and _READY in seen.console:
                seen.boot_s = time.monotonic() - began
            if stop is not None and stop.is_set():
                raise GuestError(f"{kernel.release}: stopped")
            if time.monotonic() - began > timeout_s:
                raise TimeoutError(f"{kernel.release}: not done after {timeout_s:.0f} s{_last_words(seen)}")
    if not seen.status.strip().isdigit():
        raise GuestError(f"{kernel.release}: the guest ended by itself{_last_words(seen)}")
    return Result(int(seen.status), bytes(seen.output), seen.boot_s, time.monotonic() - began)


def _script(command: list[str], folder: Path, environment: Mapping[str, str]) -> str:
    settings = {"HOME": "/root", "LC_ALL": "C.UTF-8", "PATH": os.environ["PATH"], **environment}
    lines = [f"export {name}={shlex.quote(value)}" for name, value in settings.items()]
    return "\n".join([*lines, f"cd {shlex.quote(str(folder))} && {shlex.join(command)}", ""])


def _qemu(kernel: Kernel, setting: Setting, memory: int, pipes: dict[str, int]) -> list[str]:
    command = [
        "setpriv",
        "--pdeathsig",
        "KILL",
        QEMU,
        "-accel",
        "tcg,thread=multi",
        "-machine",
        "q35",
        "-cpu",
        PROCESSOR,
    ]
    command += [
        "-smp",
        "1",
        "-m",
        str(MEMORY_MIB),
        "-nodefaults",
        "-no-user-config",
        "-display",
        "none",
        "-no-reboot",
    ]
    command += ["-kernel", str(kernel.image), "-initrd", f"/dev/fd/{memory}"]
    command += ["-append", f"{COMMAND_LINE} lsm={LSM[setting.bpf_lsm]}"]
    for name in ("console", "output", "status"):  # ttyS0, ttyS1, ttyS2
        command += ["-chardev", f"file,id={name},path=/dev/fd/{pipes[name]}", "-serial", f"chardev:{name}"]
    command += ["-fsdev", "local,id=host,path=/,security_model=none,readonly=on,multidevs=remap"]
    command += ["-device", "virtio-9p-pci,fsdev=host,mount_tag=host", "-device", "virtio-rng-pci"]
    return command


def _last_words(seen: _Running) -> str:
    lines = seen.console.decode(errors="replace").splitlines()[-_CONSOLE_KEPT:]
    return "".join(f"\n  | {line.rstrip()}" for line in lines)
