# SPDX-License-Identifier: Apache-2.0
"""The seccomp filter of a running watch: assembled here, walked by the kernel before each system call.

It is a program for the kernel's first, "classic" BPF machine (Documentation/networking/filter.rst) over
struct seccomp_data. What does not depend on arguments the kernel finds out once, when the filter is set, and
never asks again (since 5.11): so the length of the list costs nothing.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from typing import NamedTuple

from tracer.errors import HostError
from tracer.privileges import syscalls
from tracer.privileges.syscalls import BPF, CLONE, KILLED, MISSING, REFUSED, SECCOMP, TO_RESET, Call

# opcodes (include/uapi/linux/filter.h, bpf_common.h)
LOAD = 0x20  # BPF_LD | BPF_W | BPF_ABS
EQUAL = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
AT_LEAST = 0x35  # … BPF_JGE
ANY_BIT = 0x45  # … BPF_JSET
RETURN = 0x06  # BPF_RET | BPF_K

# places in struct seccomp_data; the lower half of an argument, as both of our architectures store it
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16

# verdicts (include/uapi/linux/seccomp.h)
ALLOW = 0x7FFF0000
KILL = 0x80000000  # the whole process
_ERRNO = 0x00050000
NOT_PERMITTED = _ERRNO | errno.EPERM
NO_SUCH_CALL = _ERRNO | errno.ENOSYS

_SET_MODE_FILTER = 1
_GET_ACTION_AVAIL = 2
_TSYNC = 1  # for all threads, or for none
_SPEC_ALLOW = 4  # before 5.16 a filter slowed its process down, in fear of what it might run: we run our own
_X32 = 0x40000000


class Instruction(NamedTuple):
    """struct sock_filter. ``yes`` and ``no``: how many instructions to skip."""

    code: int
    yes: int
    no: int
    value: int


class Architecture(NamedTuple):
    """How the kernel calls it (include/uapi/linux/audit.h), and the column of its numbers."""

    machine: str
    audit: int
    #: the same architecture value, other numbers, from this one on
    foreign_from: int | None = None

    def number(self, call: Call) -> int | None:
        """The call's number here."""
        found: int | None = getattr(call, self.machine)
        return found


ARCHITECTURES = {
    "x86_64": Architecture("x86_64", 0xC000003E, foreign_from=_X32),
    "aarch64": Architecture("aarch64", 0xC00000B7),
}


def this_architecture() -> Architecture | None:
    """That of this process; None if we have no numbers for it."""
    return ARCHITECTURES.get(os.uname().machine) if struct.calcsize("P") == 8 else None


def _return(verdict: int) -> Instruction:
    return Instruction(RETURN, 0, 0, verdict)


def _when(number: int | None, body: list[Instruction]) -> list[Instruction]:
    """``body``, which ends with a verdict, for this call alone."""
    if number is None:
        return []
    return [Instruction(EQUAL, 0, len(body), number), *body]


def _clone() -> list[Instruction]:
    """Threads yes, processes and namespaces no."""
    return [
        Instruction(LOAD, 0, 0, _FIRST_ARGUMENT),
        Instruction(ANY_BIT, 2, 0, syscalls.CLONE_NAMESPACES),
        Instruction(ANY_BIT, 0, 1, syscalls.CLONE_THREAD),
        _return(ALLOW),
        _return(NOT_PERMITTED),
    ]


def _bpf() -> list[Instruction]:
    """Only the commands on the list: CAP_BPF would allow more."""
    body = [Instruction(LOAD, 0, 0, _FIRST_ARGUMENT)]
    for command in syscalls.BPF_COMMANDS.values():
        body += [Instruction(EQUAL, 0, 1, command), _return(ALLOW)]
    return [*body, _return(NOT_PERMITTED)]


def assemble(architecture: Architecture, *, resets: bool = False) -> list[Instruction]:
    """The filter for processes of one architecture; its other modes (i386, x32, arm32) are killed.

    ``resets``: connections of the tree may be ended.
    """
    refused = [call for call in REFUSED if not (resets and call in TO_RESET)]
    program = [
        Instruction(LOAD, 0, 0, _ARCHITECTURE),
        Instruction(EQUAL, 1, 0, architecture.audit),
        _return(KILL),
        Instruction(LOAD, 0, 0, _NUMBER),
    ]
    if architecture.foreign_from is not None:
        program += [Instruction(AT_LEAST, 0, 1, architecture.foreign_from), _return(KILL)]
    for calls, verdict in ((KILLED, KILL), (refused, NOT_PERMITTED), (MISSING, NO_SUCH_CALL)):
        for call in calls:
            program += _when(architecture.number(call), [_return(verdict)])
    program += _when(architecture.number(CLONE), _clone())
    program += _when(architecture.number(BPF), _bpf())
    return [*program, _return(ALLOW)]


def refused_count() -> int:
    """How many system calls the filter refuses or kills for here."""
    architecture = this_architecture()
    if architecture is None:
        return 0
    return sum(architecture.number(call) is not None for call in (*KILLED, *REFUSED))


class _Program(ctypes.Structure):
    """struct sock_fprog"""

    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


def _seccomp(number: int, operation: int, flags: int, argument: object) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    return int(libc.syscall(ctypes.c_long(number), ctypes.c_uint(operation), ctypes.c_uint(flags), argument))


def why_not() -> str:
    """What keeps us from a filter here; empty if nothing does."""
    architecture = this_architecture()
    if architecture is None:
        return f"there is no list of system calls for {os.uname().machine}"
    number = architecture.number(SECCOMP)
    assert number is not None
    if _seccomp(number, _GET_ACTION_AVAIL, 0, ctypes.byref(ctypes.c_uint32(KILL))):
        return "this kernel has no seccomp filters, or refuses them"
    return ""


def install(*, resets: bool = False) -> None:
    """Set the filter for all threads of this process, for good; ``no_new_privs`` must be set.

    ``resets``: see :func:`assemble`.
    """
    architecture = this_architecture()
    assert architecture is not None
    number = architecture.number(SECCOMP)
    assert number is not None
    program = assemble(architecture, resets=resets)
    raw = b"".join(struct.pack("<HBBI", *instruction) for instruction in program)
    argument = ctypes.byref(_Program(len(program), raw))
    code = _seccomp(number, _SET_MODE_FILTER, _TSYNC | _SPEC_ALLOW, argument)
    if code > 0:
        raise HostError(f"thread {code} has a seccomp filter of its own, and can't be given ours")
    if code:
        raise HostError(f"the kernel refused the seccomp filter: {os.strerror(ctypes.get_errno())}")
