# SPDX-License-Identifier: Apache-2.0
"""Which capabilities a running watch keeps, and how the others are given up.

Those of a process are those of its threads, each with sets of its own (capabilities(7)). What a thread starts
inherits them, so whoever drops while alone has dropped for all.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from tracer.errors import HostError

#: By number (include/uapi/linux/capability.h).
NAMES = (
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL",
    "CAP_SETGID", "CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST", "CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO", "CAP_SYS_CHROOT", "CAP_SYS_PTRACE", "CAP_SYS_PACCT", "CAP_SYS_ADMIN", "CAP_SYS_BOOT",
    "CAP_SYS_NICE", "CAP_SYS_RESOURCE", "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE",
    "CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL", "CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG",
    "CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND", "CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
)  # fmt: skip
BIT = {name: 1 << number for number, name in enumerate(NAMES)}

#: What a running watch can't do without, and what for. tests/kernel/test_privileges.py takes each away and
#: shows what fails. Not here: CAP_PERFMON, CAP_NET_ADMIN and CAP_SYS_ADMIN, which load and attach programs,
#: and CAP_SYS_NICE, which is used up when the watch begins.
NEEDED = {
    # to read what may not be read: files of mode 0700, and cgroups by their number (open_by_handle_at)
    "CAP_DAC_READ_SEARCH": "programs that only their owner may read, names of cgroups",
    # PTRACE_MODE_READ on whoever is of another user, not dumpable, or setuid (kernel/ptrace.c)
    "CAP_SYS_PTRACE": "what other users' processes run: /proc/PID/exe, cwd",
    "CAP_KILL": "signals to other users' processes",
    # Linux before 5.18 asks for it at every bpf(2), later ones where a map is made
    "CAP_BPF": "maps, the list of the tree's processes, rules read again",
}


class Plan(NamedTuple):
    """What is to be kept. ``lacking``: needed, but this process never had it."""

    keep: int
    lacking: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


def names_of(mask: int) -> list[str]:
    """The names of the capabilities in a set; those that have none here as ``CAP_41``."""
    return [NAMES[n] if n < len(NAMES) else f"CAP_{n}" for n in range(mask.bit_length()) if mask >> n & 1]


def mask_of(names: Iterable[str]) -> int:
    """The set with these capabilities in it."""
    mask = 0
    for name in names:
        mask |= BIT[name]
    return mask


def plan(permitted: int, *, foreign: Iterable[Path] = ()) -> Plan:
    """What to keep of ``permitted``. ``foreign``: directories of other users that the watch must write to."""
    keep = permitted & mask_of(NEEDED)
    remarks = []
    lacking = [name for name in NEEDED if not permitted & BIT[name]]
    if "CAP_BPF" in lacking and permitted & BIT["CAP_SYS_ADMIN"]:
        # a kernel or a container that does not know it: there this stands for it (bpf_capable())
        keep |= BIT["CAP_SYS_ADMIN"]
        lacking.remove("CAP_BPF")
        remarks.append("CAP_SYS_ADMIN is kept: there is no CAP_BPF here, for which it stands")
    for place in foreign:
        keep |= permitted & BIT["CAP_DAC_OVERRIDE"]
        remarks.append(f"CAP_DAC_OVERRIDE is kept: {place} is not root's, and what is below must be removed")
    return Plan(keep, tuple(lacking), tuple(remarks))


def foreign(paths: Iterable[Path]) -> list[Path]:
    """Those of these directories that root without capabilities can't make writable for itself."""
    return [path for path in paths if path.stat().st_uid != os.geteuid()]


_PR_CAPBSET_READ, _PR_CAPBSET_DROP = 23, 24
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
_VERSION_3 = 0x20080522
_WORD = 0xFFFFFFFF

_libc = ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, *arguments: int) -> int:
    """prctl(2); -1 and errno if refused. All five arguments are given: the kernel wants zeros."""
    padded = (*arguments, 0, 0, 0, 0)[:4]
    return int(_libc.prctl(option, *(ctypes.c_ulong(argument) for argument in padded)))


def _refused(what: str) -> HostError:
    number = ctypes.get_errno()
    return HostError(f"can't give up {what}: {os.strerror(number)} ({errno.errorcode.get(number, number)})")


def _empty_bounding_set() -> bool:
    """Nothing that is executed from here on can have any capability; false without CAP_SETPCAP."""
    number = 0
    while (there := _prctl(_PR_CAPBSET_READ, number)) >= 0:
        if there and _prctl(_PR_CAPBSET_DROP, number):
            if ctypes.get_errno() == errno.EPERM:
                return False
            raise _refused(f"{names_of(1 << number)[0]} from the bounding set")
        number += 1
    return True


def drop(keep: int) -> bool:
    """Have the calling thread keep ``keep`` and nothing else, not even through an exec.

    False: the bounding set stayed as it was, which wants CAP_SETPCAP. It matters little: with
    ``no_new_privs`` an exec adds nothing to what is permitted (cap_bprm_creds_from_file()).
    """
    if _prctl(_PR_SET_NO_NEW_PRIVS, 1):
        raise _refused("new privileges")
    emptied = _empty_bounding_set()
    if _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL):
        raise _refused("ambient capabilities")
    header = (ctypes.c_uint32 * 2)(_VERSION_3, 0)
    words = []
    for part in (keep & _WORD, keep >> 32):
        words += [part, part, 0]  # effective, permitted, inheritable
    if _libc.capset(header, (ctypes.c_uint32 * 6)(*words)):
        raise _refused("capabilities")
    return emptied
