# SPDX-License-Identifier: Apache-2.0
"""What probes there are: what each shows, where it is attached, and which of them show the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Hook:
    """One program: what it shows, whether the watch can do without it, where it is attached."""

    program: str
    shows: str
    place: str  # kernel | modules | lsm | cgroup | local (a cgroup's, from Linux 6.7 on) | gpu | iterator
    needed: bool = False


HOOKS: tuple[Hook, ...] = (
    Hook("on_fork", "forks", "kernel", needed=True),
    Hook("on_exec", "execs", "kernel", needed=True),
    Hook("on_exit", "exits", "kernel", needed=True),
    Hook("on_free", "tasks given back", "kernel", needed=True),
    Hook("on_task", "processes that were there before", "iterator", needed=True),
    Hook("on_socket", "flows that were there before", "iterator"),
    Hook("on_gpu_file", "GPUs that were held before", "iterator"),
    Hook("on_sample", "what flows carry, ten times a second", "iterator"),
    Hook("on_sample_files", "the same, among the host's open files", "iterator"),
    Hook("on_effort", "how much processes compute, once a second", "iterator"),
    Hook("on_signal", "signals to the tracer", "kernel"),
    Hook("on_cgroup", "processes leaving the tree's cgroup, the tracer moved", "kernel"),
    Hook("on_freeze", "the tracer frozen", "kernel"),
    Hook("on_module", "kernel modules loaded", "modules"),
    Hook("on_exec_check", "programs refused before they begin", "lsm"),
    Hook("on_kill", "signals to the tracer, refused", "lsm"),
    Hook("on_ptrace", "the tracer traced, its memory and descriptors taken", "lsm"),
    Hook("on_bpf", "bpf(2)", "lsm"),
    Hook("on_bpf_map", "descriptors of our maps", "lsm"),
    Hook("on_bpf_prog", "descriptors of our programs", "lsm"),
    Hook("on_perf", "perf_event_open(2)", "lsm"),
    Hook("on_mount", "mounts where the watch looks", "lsm"),
    Hook("on_move_mount", "mounts moved there", "lsm"),
    Hook("on_umount", "unmounts there", "lsm"),
    Hook("on_file_open", "files of the watch opened for writing", "lsm"),
    Hook("on_unlink", "files of the watch removed", "lsm"),
    Hook("on_rename", "files of the watch renamed", "lsm"),
    Hook("on_read_file", "kernel modules, refused (from a file)", "lsm"),
    Hook("on_load_data", "kernel modules, refused (from memory)", "lsm"),
    Hook("on_tcp_state", "TCP connections: begin, end, result; listening", "kernel"),
    Hook("on_tcp_ops", "TCP connections: begin, end, result; listening", "cgroup"),
    Hook("on_connect4", "connects, IPv4", "cgroup"),
    Hook("on_connect6", "connects, IPv6", "cgroup"),
    Hook("on_sendmsg4", "datagrams sent without connect, IPv4", "cgroup"),
    Hook("on_sendmsg6", "datagrams sent without connect, IPv6", "cgroup"),
    Hook("on_ask4", "ports that datagram servers ask for, IPv4", "cgroup"),
    Hook("on_ask6", "ports that datagram servers ask for, IPv6", "cgroup"),
    Hook("on_bind4", "datagram servers, IPv4", "cgroup"),
    Hook("on_bind6", "datagram servers, IPv6", "cgroup"),
    Hook("on_egress", "first bytes sent", "cgroup"),
    Hook("on_ingress", "first bytes received", "cgroup"),
    Hook("on_span", "spans: tool calls and steps that the tree marks", "cgroup"),
    Hook("on_connect_local", "connects to UNIX sockets", "local"),
    Hook("on_device", "GPU devices opened", "cgroup"),
    Hook("on_ioctl_lsm", "GPU ioctls", "gpu"),
    Hook("on_ioctl_lsm_compat", "GPU ioctls of 32-bit calls", "gpu"),
    Hook("on_ioctl_fentry", "GPU ioctls", "gpu"),
    Hook("on_ioctl_fentry_compat", "GPU ioctls of 32-bit calls", "gpu"),
    Hook("on_ioctl_kprobe", "GPU ioctls", "gpu"),
    Hook("on_ioctl_kprobe_compat", "GPU ioctls of 32-bit calls", "gpu"),
    Hook("on_sys_enter", "GPU ioctls (at every system call of the host)", "gpu"),
)


class Rung(NamedTuple):
    """One way to see something: what it is called, its programs, and those for what not every kernel has."""

    name: str
    programs: tuple[str, ...]
    where_there: tuple[str, ...] = ()


#: Of what a watch can do without.
NOT_AT_ALL = Rung("not at all", ())

GPU, REFUSING, SAMPLES = "GPU ioctls", "what is refused", "what flows carry"
#: What can be seen in several ways, or not at all; the best way first. Every other program is simply taken.
LADDERS: dict[str, tuple[Rung, ...]] = {
    "the life of TCP connections": (
        Rung("tracepoint", ("on_tcp_state",)),
        Rung("sockops", ("on_tcp_ops",)),
    ),
    SAMPLES: (
        Rung("sockets that carry our mark", ("on_sample",)),
        Rung("open files", ("on_sample_files",)),
    ),
    "UNIX sockets": (Rung("cgroup/connect_unix", ("on_connect_local",)), NOT_AT_ALL),
    "modules": (Rung("tracepoint", ("on_module",)), NOT_AT_ALL),
    REFUSING: (Rung("BPF LSM", tuple(hook.program for hook in HOOKS if hook.place == "lsm")), NOT_AT_ALL),
    # the last one costs every system call of the host
    GPU: (
        Rung("BPF LSM", ("on_ioctl_lsm",), ("on_ioctl_lsm_compat",)),
        Rung("fentry", ("on_ioctl_fentry",), ("on_ioctl_fentry_compat",)),
        Rung("kprobe", ("on_ioctl_kprobe",), ("on_ioctl_kprobe_compat",)),
        Rung("every system call", ("on_sys_enter",)),
    ),
}


class LeftOut(NamedTuple):
    """Why the probes for kernels without BTF have no such program; the kinds of event that rules then have not, and
    rules that go by others, too, and hold less often.
    """

    why: str
    on: tuple[str, ...] = ()
    in_part: tuple[str, ...] = ()


_ITERATES = "only a kernel with BTF takes iterators"
#: All that they leave out, but for what nothing else is missed by.
LEFT_OUT: dict[str, LeftOut] = {
    "on_socket": LeftOut(_ITERATES),
    "on_gpu_file": LeftOut(_ITERATES),
    # what a connection that stays open checks in with; one that closes says so
    "on_sample": LeftOut(_ITERATES, ("relay", "session"), ("tunnel.beacon",)),
    # who computes with what was mapped of a GPU, and asks it for nothing more
    "on_effort": LeftOut(_ITERATES, ("effort",), ("gpu.goes-on",)),
    "on_connect_local": LeftOut("the socket's name is a type's, which takes BTF", ("local",)),
}
