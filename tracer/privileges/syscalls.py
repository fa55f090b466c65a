# SPDX-License-Identifier: Apache-2.0
"""The system calls that a running watch is refused, by number.

It is a list of what is refused, not of what is allowed: NumPy, Numba, LLVM and two C libraries call more than
anybody can list, differently with every version, and a watch that ends for a harmless call is no watch. So the
list names what would undo the confinement, or turn what is kept into more.
"""

from __future__ import annotations

from typing import NamedTuple


class Call(NamedTuple):
    """One system call: its number on x86-64 and on arm64, None where it has none."""

    name: str
    x86_64: int | None
    aarch64: int | None


def _everywhere(name: str, number: int) -> Call:
    """Calls from 424 on have one number on all architectures."""
    return Call(name, number, number)


#: Nothing of ours, and no library in a corner of its own, calls these once a watch runs: they would have to fork
#: first, and that is refused. Who gets here is an intruder with the process in hand. To refuse would be to let
#: them try the next thing, and a watch in their hands is worth nothing: so it ends, and the kernel logs
#: why. The watched tree goes on, as after any death of the tracer.
KILLED = (
    Call("execve", 59, 221),
    Call("execveat", 322, 281),
    Call("ptrace", 101, 117),
    Call("init_module", 175, 105),
    Call("finit_module", 313, 273),
    Call("delete_module", 176, 106),
    Call("kexec_load", 246, 104),
    Call("kexec_file_load", 320, 294),
    Call("reboot", 169, 142),
)

PIDFD_GETFD = _everywhere("pidfd_getfd", 438)
CONNECT = Call("connect", 42, 203)
#: A watch that enforces takes a connection it has cut from its process, and disconnects it, so that neither side
#: waits. It still makes no socket of its own.
TO_RESET = (PIDFD_GETFD, CONNECT)

#: Refused with EPERM, since a library might try: it takes a no for an answer.
REFUSED = (
    # other processes: clone is judged by its flags, see filter.py
    Call("fork", 57, None),
    Call("vfork", 58, None),
    # what CAP_SYS_PTRACE would allow, when all we do is to read links in /proc
    Call("process_vm_readv", 310, 270),
    Call("process_vm_writev", 311, 271),
    Call("kcmp", 312, 272),
    Call("move_pages", 279, 239),
    Call("migrate_pages", 256, 238),
    PIDFD_GETFD,
    _everywhere("process_madvise", 440),
    # another view of the file system, other namespaces
    Call("mount", 165, 40),
    Call("umount2", 166, 39),
    Call("pivot_root", 155, 41),
    Call("chroot", 161, 51),
    Call("setns", 308, 268),
    Call("unshare", 272, 97),
    _everywhere("open_tree", 428),
    _everywhere("move_mount", 429),
    _everywhere("fsopen", 430),
    _everywhere("fsconfig", 431),
    _everywhere("fsmount", 432),
    _everywhere("fspick", 433),
    _everywhere("mount_setattr", 442),
    _everywhere("open_tree_attr", 467),
    Call("mknod", 133, None),
    Call("mknodat", 259, 33),
    # whom could it have to talk to? Docker's and systemd's sockets obey any process of root's
    Call("socket", 41, 198),
    CONNECT,
    # doors into the kernel that have been open before
    Call("userfaultfd", 323, 282),
    _everywhere("io_uring_setup", 425),
    _everywhere("io_uring_enter", 426),
    _everywhere("io_uring_register", 427),
    Call("perf_event_open", 298, 241),
    Call("add_key", 248, 217),
    Call("request_key", 249, 218),
    Call("keyctl", 250, 219),
    Call("fanotify_init", 300, 262),
    Call("personality", 135, 92),
    Call("modify_ldt", 154, None),
    Call("syslog", 103, 116),
    Call("lookup_dcookie", 212, 18),
    # the machine's own affairs
    Call("swapon", 167, 224),
    Call("swapoff", 168, 225),
    Call("acct", 163, 89),
    Call("quotactl", 179, 60),
    _everywhere("quotactl_fd", 443),
    Call("nfsservctl", 180, 42),
    Call("settimeofday", 164, 170),
    Call("clock_settime", 227, 112),
    Call("adjtimex", 159, 171),
    Call("clock_adjtime", 305, 266),
    Call("sethostname", 170, 161),
    Call("setdomainname", 171, 162),
    Call("vhangup", 153, 58),
    Call("iopl", 172, None),
    Call("ioperm", 173, None),
    Call("uselib", 134, None),
    Call("_sysctl", 156, None),
)

#: Said not to exist, whereupon the C library makes its threads with clone, whose flags can be seen here.
MISSING = (_everywhere("clone3", 435),)

CLONE = Call("clone", 56, 220)
BPF = Call("bpf", 321, 280)
SECCOMP = Call("seccomp", 317, 277)

#: Of clone's flags: a thread is made with the first, none of the others makes one.
CLONE_THREAD = 0x00010000
CLONE_NAMESPACES = 0x7E020000  # NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET

#: What a running watch does with maps and iterators; no program is loaded, attached, pinned or looked up by its
#: number (enum bpf_cmd, include/uapi/linux/bpf.h).
BPF_COMMANDS = {
    "MAP_CREATE": 0,
    "MAP_LOOKUP_ELEM": 1,
    "MAP_UPDATE_ELEM": 2,
    "MAP_DELETE_ELEM": 3,
    "MAP_GET_NEXT_KEY": 4,
    "OBJ_GET_INFO_BY_FD": 15,
    "MAP_LOOKUP_AND_DELETE_ELEM": 21,
    "MAP_LOOKUP_BATCH": 24,
    "MAP_LOOKUP_AND_DELETE_BATCH": 25,
    "MAP_UPDATE_BATCH": 26,
    "MAP_DELETE_BATCH": 27,
    "LINK_CREATE": 28,  # of the iterators, each time one is read
    "ITER_CREATE": 33,
}
