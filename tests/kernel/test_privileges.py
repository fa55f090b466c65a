# SPDX-License-Identifier: Apache-2.0
"""Privileges given up for real, in processes of their own: what is left, what is refused, what is missed."""

from __future__ import annotations

import errno
import json
import os
import platform
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import kernel_lacks

from tracer.kernel import cgroup
from tracer.privileges import filter as seccomp
from tracer.privileges import held, outlook
from tracer.privileges.capabilities import NAMES, NEEDED, names_of
from tracer.privileges.syscalls import BPF, CLONE, KILLED, MISSING, REFUSED

PRELUDE = """
import ctypes, json, os, signal, subprocess, sys, threading, time
from tracer.errors import HostError
from tracer.kernel import cgroup, libbpf
from tracer.privileges import capabilities, confine, held, import_numpy_alone
libc = ctypes.CDLL(None, use_errno=True)

def call(number, *arguments):
    # errno of a system call, 0 for success
    ctypes.set_errno(0)
    padded = (*arguments, 0, 0, 0, 0, 0, 0)[:6]
    result = libc.syscall(*(ctypes.c_long(n) for n in (number, *padded)))
    return ctypes.get_errno() if result < 0 else 0

def only(names):
    # have no other capabilities, without the other things that a confinement does
    mask = capabilities.mask_of(names)
    words = [w for part in (mask & 0xFFFFFFFF, mask >> 32) for w in (part, part, 0)]
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    assert libc.capset(header, (ctypes.c_uint32 * 6)(*words)) == 0
"""

EVERYTHING = [name for name in NAMES if any(name in names_of(t.permitted) for t in held())]
MACHINE = seccomp.this_architecture()


@pytest.fixture(autouse=True)
def _filters():
    if why := seccomp.why_not():
        kernel_lacks(f"seccomp filters: {why}")


def child(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", PRELUDE + code, *(str(a) for a in arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def said(code: str, *arguments: object):
    """What ``code`` prints as JSON."""
    done = child(code, *arguments)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.guest
def test_every_thread_keeps_the_same_little():
    threads = said("""
import_numpy_alone()
import numpy
from concurrent.futures import ThreadPoolExecutor
kept = confine()
assert not kept.remarks and kept.filtered
threading.Thread(target=time.sleep, args=(30,), daemon=True).start()
with ThreadPoolExecutor(3) as pool:
    barrier = threading.Barrier(3)
    list(pool.map(lambda _: barrier.wait(), range(3)))
    print(json.dumps([t._asdict() for t in held()]), flush=True)
os._exit(0)
""")
    assert len(threads) == 5
    for thread in threads:
        assert set(names_of(thread["permitted"])) == set(NEEDED) & set(EVERYTHING)
        assert thread["effective"] == thread["permitted"]
        assert thread["inheritable"] == thread["ambient"] == thread["bounding"] == 0
        assert thread["no_new_privs"] is True and thread["seccomp"] == 2


def test_once_more_changes_nothing():
    first, second = said("""
kept = [confine().kept for _ in range(2)]
print(json.dumps(kept))
""")
    assert first == second


def test_every_call_of_the_list_is_refused():
    """With real arguments of nobody: the filter speaks before the kernel looks at them."""
    numbers = {call.name: n for call in REFUSED if (n := MACHINE.number(call)) is not None}
    clone, bpf, clone3 = (MACHINE.number(call) for call in (CLONE, BPF, MISSING[0]))
    found = said(
        """
numbers, clone, bpf, clone3 = json.loads(sys.argv[1])
confine()
found = {name: call(number, -1, -1, -1, -1, -1, -1) for name, number in numbers.items()}
found |= {"clone": call(clone, signal.SIGCHLD), "BPF_PROG_LOAD": call(bpf, 5), "clone3": call(clone3)}
print(json.dumps(found))
""",
        json.dumps([numbers, clone, bpf, clone3]),
    )
    assert found.pop("clone3") == errno.ENOSYS
    assert set(found.values()) == {errno.EPERM}, found
    assert len(found) > 50


def test_what_python_would_do():
    found = said("""
def refused(what):
    try:
        what()
    except PermissionError:
        return True

confine()
ours = os.open("/proc/self/ns/net", os.O_RDONLY)
import socket
print(json.dumps([
    refused(lambda: subprocess.run(["true"])),
    refused(os.fork),
    refused(lambda: os.posix_spawn("/bin/true", ["true"], {})),
    refused(lambda: os.chroot("/")),
    refused(lambda: socket.socket()),
    refused(lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)),
    refused(lambda: os.mknod("/tmp/never-made", 0o600)),
    refused(lambda: os.chown("/tmp", 1, 1)),
    refused(lambda: os.setuid(1)),
    libc.setns(ours, 0) == -1, libc.unshare(0x20000) == -1, libc.mount(b"none", b"/mnt", b"tmpfs", 0, 0) == -1,
]))
""")
    assert found == [True] * 12


@pytest.mark.parametrize("name", [call.name for call in KILLED])
def test_what_only_an_intruder_calls_ends_the_process(name):
    (number,) = [MACHINE.number(call) for call in KILLED if call.name == name]
    # arguments that would do no harm if the filter let them through
    done = child("confine(); call(int(sys.argv[1]), -1, -1, -1, -1, -1); print('alive')", number)
    assert done.returncode == -signal.SIGSYS and done.stdout == ""


def test_the_whole_process_ends_not_a_thread():
    done = child("""
confine()
threading.Thread(target=lambda: os.execv("/bin/echo", ["echo", "executed"])).start()
time.sleep(20)
print("alive")
""")
    assert done.returncode == -signal.SIGSYS and done.stdout == ""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="this kernel has no other modes of x86-64")
def test_other_modes_of_the_machine_are_no_way_around():
    done = child("confine(); call(0x40000000 + 39); print('alive')")  # getpid in x32
    assert done.returncode == -signal.SIGSYS and done.stdout == ""
    done = child("""
import mmap
code = bytes.fromhex("b814000000 cd80 c3")  # mov eax, 20 (getpid); int 0x80; ret
page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
page.write(code)
getpid = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))
confine()
getpid()
print("alive")
""")
    # without CONFIG_IA32_EMULATION there is no such interrupt
    assert done.returncode in {-signal.SIGSYS, -signal.SIGSEGV} and done.stdout == ""


def test_a_thread_that_was_there_before_is_an_error():
    """Its system calls can be filtered, its capabilities can't be taken: better no watch than a lie."""
    message, hint, filters = said("""
threading.Thread(target=time.sleep, args=(30,), daemon=True).start()
try:
    confine()
except HostError as error:
    print(json.dumps([error.message, error.hint, [t.seccomp for t in held()]]))
    sys.stdout.flush()
os._exit(0)
""")
    assert "kept CAP_" in message and "OPENBLAS_NUM_THREADS" in hint
    assert filters == [2, 2]


def test_numpy_starts_no_threads_and_the_environment_is_as_before():
    found = said("""
os.environ.pop("OPENBLAS_NUM_THREADS", None)
before = dict(os.environ)
import_numpy_alone()
same = dict(os.environ) == before
os.environ["OPENBLAS_NUM_THREADS"] = "3"
import_numpy_alone()
print(json.dumps([same, len(held()), "numpy" in sys.modules, os.environ["OPENBLAS_NUM_THREADS"]]))
""")
    assert found == [True, 1, True, "3"]


#: Done by a confined process; each says whether it could.
ABILITIES = """
other, private, number = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
libbpf.library()

def able(what):
    try:
        return bool(what())
    except (OSError, HostError, libbpf.LoadError):
        return False

for name in sys.argv[4:]:
    del capabilities.NEEDED[name]
confine()
print(json.dumps({
    "exe": able(lambda: os.readlink(f"/proc/{other}/exe")),
    "cwd": able(lambda: os.readlink(f"/proc/{other}/cwd")),
    "file": able(lambda: open(private, "rb").read(1)),
    "cgroup": able(lambda: cgroup.path_of(number)),
    "signal": able(lambda: os.kill(other, 0) is None),
    "map": able(lambda: libbpf.create_array(b"t", 8, 3, mappable=True)),
}))
"""
MISSED = {
    "CAP_SYS_PTRACE": {"exe", "cwd"},
    "CAP_DAC_READ_SEARCH": {"file", "cgroup"},
    "CAP_KILL": {"signal"},
    "CAP_BPF": {"map"},
}


@pytest.fixture
def stranger(tmp_path):
    """(process of another user, a file that only that user may read, id of a cgroup)."""
    private = tmp_path / "private"
    private.write_bytes(b"x")
    private.chmod(0o700)
    os.chown(private, 65534, 65534)
    tree = cgroup.TreeCgroup.create()
    with subprocess.Popen(["sleep", "60"], user=65534, group=65534, extra_groups=[]) as process:
        yield process.pid, private, cgroup.identity(tree.path)
        process.kill()
    assert tree.remove()


@pytest.mark.guest
def test_what_is_kept_is_enough(stranger):
    assert set(said(ABILITIES, *stranger).values()) == {True}


@pytest.mark.parametrize("name", NEEDED)
def test_nothing_is_kept_in_vain(name, stranger):
    missed = {what for what, could in said(ABILITIES, *stranger, name).items() if not could}
    allowed = Path("/proc/sys/kernel/unprivileged_bpf_disabled").read_text().strip() == "0"
    assert missed == (set() if name == "CAP_BPF" and allowed else MISSED[name])


def test_where_cap_bpf_is_missing_the_old_one_does(stranger):
    code = "only([n for n in capabilities.NAMES if n in sys.argv[4:] and n != 'CAP_BPF'])\ndel sys.argv[4:]\n"
    found = said(code + ABILITIES, *stranger, *EVERYTHING)
    assert set(found.values()) == {True}
    kept, remarks = said(
        "only(json.loads(sys.argv[1])); kept = confine(); print(json.dumps([kept.kept, kept.remarks]))",
        json.dumps([name for name in EVERYTHING if name != "CAP_BPF"]),
    )
    assert "CAP_SYS_ADMIN" in kept and "CAP_SYS_ADMIN is kept" in remarks[0]


def test_a_container_with_hardly_any_capability():
    kept, remarks, thread = said("""
only(["CAP_BPF", "CAP_KILL"])
kept = confine()
print(json.dumps([kept.kept, kept.remarks, held()[0]._asdict()]))
""")
    assert kept == ["CAP_KILL", "CAP_BPF"]
    assert [r.partition(" ")[0] for r in remarks] == ["CAP_DAC_READ_SEARCH", "CAP_SYS_PTRACE", "the"]
    assert "CAP_SETPCAP" in remarks[2] and thread["bounding"]
    assert names_of(thread["permitted"]) == kept and thread["no_new_privs"]


def test_a_cgroup_at_the_top_is_removed_without_the_capability_that_made_it():
    """The top of the hierarchy has mode 555: root makes a directory there by CAP_DAC_OVERRIDE."""
    before = os.stat(cgroup.host.cgroup2_root()).st_mode
    removed = said("""
tree = cgroup.TreeCgroup.create()
tree.path.rmdir()
tree.path = cgroup.host.cgroup2_root() / tree.path.name
tree.path.mkdir()
confine(writes_to=[tree.path.parent])
print(json.dumps(tree.remove()))
""")
    assert removed is True
    assert os.stat(cgroup.host.cgroup2_root()).st_mode == before


def test_a_place_of_another_user_costs_a_capability(tmp_path):
    os.chown(tmp_path, 65534, 65534)
    (tmp_path / "tree").mkdir()
    code = """
from pathlib import Path
kept = confine(writes_to=[Path(place) for place in sys.argv[1:]])
try:
    os.rmdir("tree")
    print(json.dumps([kept.kept, kept.remarks]))
except PermissionError:
    print("null")
"""
    program = f"os.chdir({str(tmp_path)!r})\n{code}"
    assert said(program) is None
    kept, remarks = said(program, tmp_path)
    assert "CAP_DAC_OVERRIDE" in kept and str(tmp_path) in remarks[0]


def test_asking_changes_nothing():
    before = held()
    text, remarks = outlook()
    assert "CAP_BPF" in text or remarks
    assert held() == before
    assert all(thread.permitted and not thread.seccomp for thread in before)
