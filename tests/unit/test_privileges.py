# SPDX-License-Identifier: Apache-2.0
"""What a watch keeps: the filter's every verdict, and the arithmetic of capabilities. Nothing is given up here."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from naive_seccomp import run, seccomp_data

from tracer.errors import HostError
from tracer.privileges import capabilities, outlook, threads
from tracer.privileges import filter as seccomp
from tracer.privileges.capabilities import BIT, NAMES, NEEDED, mask_of, names_of, plan
from tracer.privileges.filter import ALLOW, ARCHITECTURES, KILL, NO_SUCH_CALL, NOT_PERMITTED, assemble
from tracer.privileges.syscalls import BPF, BPF_COMMANDS, CLONE, KILLED, MISSING, REFUSED

PROGRAMS = {name: assemble(architecture) for name, architecture in ARCHITECTURES.items()}
EITHER = pytest.mark.parametrize("architecture", ARCHITECTURES.values(), ids=ARCHITECTURES)
FOREIGN = {"x86_64": 0x40000003, "aarch64": 0x40000028}  # i386, arm32

# what pthread_create asks for, and what a process is made with
THREAD = 0x3D0F00
FORK, VFORK = 0x01200011, 0x4111
NAMESPACES = [0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000]

#: Calls without which there is no watch, by number on x86-64 and on arm64.
LIVELY = {
    "read": (0, 63), "write": (1, 64), "close": (3, 57), "openat": (257, 56), "readlinkat": (267, 78),
    "mmap": (9, 222), "mprotect": (10, 226), "munmap": (11, 215), "futex": (202, 98), "epoll_pwait": (281, 22),
    "kill": (62, 129), "tgkill": (234, 131), "pidfd_open": (434, 434), "pidfd_send_signal": (424, 424),
    "open_by_handle_at": (304, 265), "unlinkat": (263, 35), "mkdirat": (258, 34), "wait4": (61, 260),
    "exit_group": (231, 94), "rt_sigprocmask": (14, 135), "signalfd4": (289, 74), "eventfd2": (290, 19),
    "setpriority": (141, 140), "sched_setattr": (314, 274), "statx": (332, 291), "getdents64": (217, 61),
    "prctl": (157, 167), "prlimit64": (302, 261), "getrandom": (318, 278), "clock_gettime": (228, 113),
}  # fmt: skip


def verdict(architecture, number: int, *arguments: int) -> int:
    return run(PROGRAMS[architecture.machine], seccomp_data(number, architecture.audit, arguments))


@EITHER
def test_each_call_of_the_tables(architecture):
    for calls, wanted in ((KILLED, KILL), (REFUSED, NOT_PERMITTED), (MISSING, NO_SUCH_CALL)):
        for call in calls:
            number = architecture.number(call)
            if number is not None:
                assert verdict(architecture, number) == wanted, call.name


@EITHER
def test_what_a_watch_lives_on_is_allowed(architecture):
    column = list(ARCHITECTURES).index(architecture.machine)
    for name, numbers in LIVELY.items():
        assert verdict(architecture, numbers[column], *[0xFFFFFFFF] * 6) == ALLOW, name


@EITHER
def test_threads_are_allowed_and_processes_are_not(architecture):
    number = architecture.number(CLONE)
    assert verdict(architecture, number, THREAD) == ALLOW
    for flags in (0, 17, FORK, VFORK, *NAMESPACES, *(THREAD | flag for flag in NAMESPACES)):
        assert verdict(architecture, number, flags) == NOT_PERMITTED, hex(flags)
    # the kernel looks at the lower half alone, and so does the filter
    assert verdict(architecture, number, THREAD << 32 | FORK) == NOT_PERMITTED


@EITHER
def test_maps_are_allowed_and_programs_are_not(architecture):
    number = architecture.number(BPF)
    allowed = {command for command in range(64) if verdict(architecture, number, command) == ALLOW}
    assert allowed == set(BPF_COMMANDS.values())
    assert not allowed & {
        5,
        6,
        7,
        8,
        9,
        10,
        11,
        12,
        13,
        14,
        16,
        17,
        18,
        22,
        29,
        35,
        36,
    }  # PROG_LOAD … TOKEN_CREATE
    assert verdict(architecture, number, 5 << 32 | 1) == ALLOW
    assert verdict(architecture, number, 1 << 32 | 5) == NOT_PERMITTED


@EITHER
def test_foreign_modes_are_killed(architecture):
    program = PROGRAMS[architecture.machine]
    others = [FOREIGN[architecture.machine], 0, 0xFFFFFFFF]
    others += [a.audit for a in ARCHITECTURES.values() if a != architecture]
    for audit in others:
        assert {run(program, seccomp_data(n, audit)) for n in range(512)} == {KILL}
    x32 = {verdict(architecture, 0x40000000 | n) for n in range(600)}
    assert x32 == {KILL if architecture.machine == "x86_64" else ALLOW}  # arm64 has no such calls: ENOSYS


def wanted(architecture, number: int, first: int) -> int:
    """What is meant, said another way than the assembler does."""
    if architecture.machine == "x86_64" and number >= 0x40000000:
        return KILL
    first &= 0xFFFFFFFF
    if number == architecture.number(CLONE):
        is_thread = first & 0x10000 and not any(first & flag for flag in NAMESPACES)
        return ALLOW if is_thread else NOT_PERMITTED
    if number == architecture.number(BPF):
        return ALLOW if first in BPF_COMMANDS.values() else NOT_PERMITTED
    for calls, found in ((KILLED, KILL), (REFUSED, NOT_PERMITTED), (MISSING, NO_SUCH_CALL)):
        if number in {architecture.number(call) for call in calls}:
            return found
    return ALLOW


@EITHER
@given(
    number=st.one_of(st.integers(0, 512), st.integers(0, (1 << 32) - 1)),
    first=st.one_of(
        st.integers(0, 64), st.integers(0, (1 << 64) - 1), st.sampled_from([THREAD, FORK, VFORK, *NAMESPACES])
    ),
    rest=st.tuples(*[st.integers(0, (1 << 64) - 1)] * 5),
)
def test_any_call_with_any_arguments(architecture, number, first, rest):
    assert verdict(architecture, number, first, *rest) == wanted(architecture, number, first)


@EITHER
def test_the_filter_is_one_that_the_kernel_takes(architecture):
    program = PROGRAMS[architecture.machine]
    assert len(program) < 512
    for at, (code, yes, no, _) in enumerate(program):
        if code != seccomp.RETURN:
            assert at + 1 + max(yes, no) < len(program)
    assert program[-1].code == seccomp.RETURN


def test_no_number_is_there_twice():
    for machine in ARCHITECTURES:
        numbers = [getattr(call, machine) for call in (*KILLED, *REFUSED, *MISSING, CLONE, BPF)]
        numbers = [number for number in numbers if number is not None]
        assert len(numbers) == len(set(numbers))


@pytest.mark.parametrize(
    ("machine", "header"),
    [("x86_64", "x86_64-linux-gnu/asm/unistd_64.h"), ("aarch64", "asm-generic/unistd.h")],
)
def test_numbers_are_those_of_the_headers(machine, header):
    path = Path("/usr/include") / header
    if not path.exists():
        pytest.skip(f"there is no {path}")
    found = dict(re.findall(r"^#define __NR(?:3264)?_(\w+)\s+(\d+)", path.read_text(), re.MULTILINE))
    checked = 0
    for call in (*KILLED, *REFUSED, *MISSING, CLONE, BPF, seccomp.SECCOMP):
        number = getattr(call, machine)
        if call.name in found:  # older headers lack the newest
            assert number == int(found[call.name]), call.name
            checked += 1
        elif number is not None:
            assert call.name == "open_tree_attr"
    assert checked > 55


def test_capabilities_by_name():
    assert len(NAMES) == 41 and BIT["CAP_KILL"] == 1 << 5 and BIT["CAP_BPF"] == 1 << 39
    assert names_of(mask_of(NEEDED)) == sorted(NEEDED, key=NAMES.index)
    assert names_of(1 << 63 | 1) == ["CAP_CHOWN", "CAP_63"]
    assert names_of(0) == [] and mask_of([]) == 0


@given(st.integers(0, (1 << 64) - 1))
def test_never_more_is_kept_than_there_was(permitted):
    found = plan(permitted)
    assert found.keep & ~permitted == 0
    assert found.keep & ~(mask_of(NEEDED) | BIT["CAP_SYS_ADMIN"]) == 0
    assert mask_of(names_of(permitted & (1 << 41) - 1)) == permitted & (1 << 41) - 1


def test_root_keeps_what_is_needed():
    found = plan((1 << 41) - 1)
    assert names_of(found.keep) == ["CAP_DAC_READ_SEARCH", "CAP_KILL", "CAP_SYS_PTRACE", "CAP_BPF"]
    assert not found.lacking and not found.remarks


def test_where_there_is_no_cap_bpf_the_old_one_stands_for_it():
    found = plan((1 << 38) - 1)  # Linux 5.7
    assert "CAP_SYS_ADMIN" in names_of(found.keep) and not found.lacking
    assert "CAP_SYS_ADMIN is kept" in found.remarks[0]
    # but not where it is there
    assert "CAP_SYS_ADMIN" not in names_of(plan((1 << 41) - 1).keep)


def test_what_a_container_did_not_grant_is_said():
    found = plan(mask_of(["CAP_BPF", "CAP_PERFMON", "CAP_NET_ADMIN", "CAP_KILL"]))
    assert names_of(found.keep) == ["CAP_KILL", "CAP_BPF"]
    assert found.lacking == ("CAP_DAC_READ_SEARCH", "CAP_SYS_PTRACE")


def test_directories_of_others_cost_a_capability(tmp_path):
    assert capabilities.foreign([tmp_path]) == []
    found = plan((1 << 41) - 1, foreign=[tmp_path])
    assert "CAP_DAC_OVERRIDE" in names_of(found.keep)
    assert str(tmp_path) in found.remarks[0]


STATUS = """Name:\ta b\tc
CapInh:\t0000000000000000
CapPrm:\t{0:016x}
CapEff:\t{0:016x}
CapBnd:\t{1:016x}
CapAmb:\t0000000000000000
NoNewPrivs:\t{2}
Seccomp:\t{3}
"""


def test_what_a_thread_kept_is_told():
    keep = mask_of(NEEDED)
    good = threads.parse(7, STATUS.format(keep, 0, 1, 2))
    assert not threads.excess(good, keep, bounding=True, filtered=True)
    bad = threads.parse(7, STATUS.format(keep | BIT["CAP_SYS_ADMIN"], 1, 0, 0))
    words = threads.excess(bad, keep, bounding=True, filtered=True)
    assert words == "CAP_SYS_ADMIN, a bounding set, new privileges, every system call"
    assert threads.excess(bad, (1 << 41) - 1, bounding=False, filtered=False) == "new privileges"
    assert threads.parse(7, "Name:\tx\n").seccomp == 0  # a kernel without


def test_a_thread_that_kept_more_is_an_error(monkeypatch):
    late = threads.parse(8, STATUS.format(1 << 21, 0, 1, 2).replace("a b\tc", "blas\x1b[0m"))
    monkeypatch.setattr(threads, "held", lambda: [late])
    with pytest.raises(HostError, match=r"thread 8 \(blas\\x1b\[0m\) kept CAP_SYS_ADMIN") as caught:
        threads.require(0, bounding=True, filtered=True)
    assert "OPENBLAS_NUM_THREADS=1" in caught.value.hint


def test_an_architecture_without_a_list_goes_without_a_filter(monkeypatch):
    monkeypatch.setattr(seccomp, "this_architecture", lambda: None)
    assert "no list" in seccomp.why_not()
    text, remarks = outlook()
    assert "refused" not in text and any("not filtered" in remark for remark in remarks)
    assert seccomp.refused_count() == 0


def test_the_outlook_is_one_line():
    text, remarks = outlook()
    assert "\n" not in text and all("\n" not in remark for remark in remarks)
