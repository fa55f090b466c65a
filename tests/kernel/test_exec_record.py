# SPDX-License-Identifier: Apache-2.0
"""What an exec record says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from harness import record, workload

from tracer.kernel import schema
from tracer.launch import user_named

FD = schema.FD_KIND


def last(found):
    return found.execs()[-1]


def test_plain_facts():
    found = record(workload("execs", 1))
    true = found.exec_of(b"true")
    info = os.stat("/bin/true")
    assert true.path == os.path.realpath("/bin/true").encode()
    assert true.name == b"/bin/true"
    assert true.cwd == os.getcwd().encode()
    assert true.argv == [b"/bin/true", b"0"]
    assert true.fixed["ino"] == info.st_ino
    assert true.fixed["dev"] == os.major(info.st_dev) << 20 | os.minor(info.st_dev)
    assert true.fixed["parent_tgid"] == found.root
    assert (true.fixed["uid"], true.fixed["gid"], true.fixed["argc"]) == (0, 0, 2)
    assert true.fixed["flags"] == 0


def test_time_and_start_are_boottime(tmp_path):
    import time

    before = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    found = record(workload("execs", 1))
    after = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    true = found.exec_of(b"true")
    assert before < int(true.fixed["start"]) < int(true.fixed["ts"]) < after


def test_identity_is_the_commands():
    found = record(["/bin/true"], identity=user_named("nobody"))
    assert last(found).fixed["uid"] == last(found).fixed["euid"] == 65534


@pytest.mark.parametrize("size", [0, 1, 4090, 4091, 4092, 100_000])
def test_arguments_up_to_4_kib(size):
    found = last(record(workload("big_arguments", size)))
    whole = b"true\0" + b"x" * size + b"\0"
    assert found.args == whole[:4096]
    assert found.fixed["args_total"] == len(whole)
    assert found.has("EXEC_ARGS_CUT") == (len(whole) > 4096)


def test_memfd():
    found = last(record(workload("memfd")))
    assert found.has("EXEC_MEMFD") and not found.has("EXEC_DELETED")
    assert found.has("EXEC_NEW_FILE")
    assert found.path == b"/memfd:innocent"
    assert found.argv == [b"renamed"]


def test_deleted_file():
    found = last(record(workload("deleted")))
    assert found.has("EXEC_DELETED") and not found.has("EXEC_MEMFD")


def test_a_link_is_resolved(tmp_path):
    found = last(record(workload("through_link", tmp_path)))
    assert found.path == os.path.realpath("/bin/true").encode()
    assert found.name == f"/proc/self/root{tmp_path}/link".encode()
    assert found.cwd == f"{tmp_path}/inner".encode()


def test_script(tmp_path):
    found = last(record(workload("run_script", tmp_path)))
    assert found.has("EXEC_SCRIPT")
    assert found.path == os.path.realpath("/bin/sh").encode()
    assert found.argv == [b"/bin/sh", f"{tmp_path}/script".encode(), b"argument"]


def test_set_uid(tmp_path):
    copy = Path("/var/tmp") / f"vigiles-setid-{os.getpid()}"
    copy.write_bytes(Path("/bin/true").read_bytes())
    copy.chmod(0o4755)
    try:
        found = last(record([str(copy)], identity=user_named("nobody")))
    finally:
        copy.unlink()
    assert found.has("EXEC_SETID")
    assert found.has("EXEC_SECURE")
    assert (found.fixed["uid"], found.fixed["euid"]) == (65534, 0)


def test_standard_streams(tmp_path):
    shell = f"/bin/true </dev/null >{tmp_path}/out 2>&1; /bin/true 0| /bin/true 2>&-"
    found = record(["/bin/sh", "-c", "exec 3</dev/null; " + shell])
    kinds = [tuple(int(k) for k in e.fixed["stdio"]) for e in found.execs() if e.path.endswith(b"/true")]
    assert kinds[0] == (FD["FD_NULL"], FD["FD_FILE"], FD["FD_FILE"])
    assert any(k[0] == FD["FD_PIPE"] and k[2] == FD["FD_CLOSED"] for k in kinds[1:])
    for made, kind in (("socketpair()", "FD_SOCKET"), ("socket(socket.AF_INET6),0", "FD_NETWORK")):
        code = f"import socket,subprocess as s;a,b=socket.{made};s.run(['/bin/true'],stdin=a,stdout=b or a)"
        socketed = last(record([sys.executable, "-c", code]))
        assert tuple(socketed.fixed["stdio"][:2]) == (FD[kind], FD[kind])


def test_terminal():
    script = "import pty; pty.spawn(['/bin/true'])"
    found = last(record([sys.executable, "-c", script]))
    assert tuple(found.fixed["stdio"]) == (FD["FD_TTY"],) * 3


def test_deep_paths_lose_their_front_and_say_so(tmp_path):
    names = [f"{'d' * 60}{n:03}" for n in range(30)]
    here = os.open(tmp_path, os.O_RDONLY)
    for name in names:
        os.mkdir(name, dir_fd=here)
        deeper = os.open(name, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = deeper
    target = f"/proc/self/fd/{here}"
    Path(f"{target}/true").write_bytes(Path("/bin/true").read_bytes())
    os.chmod(f"{target}/true", 0o755)
    code = f"import os; os.fchdir({here}); os.execv('./true', ['true'])"
    os.set_inheritable(here, True)
    try:
        found = last(record([sys.executable, "-c", code]))
    finally:
        os.close(here)
        subprocess.run(["rm", "-rf", str(tmp_path / names[0])], check=True)
    assert found.has("EXEC_PATH_CUT") and found.has("EXEC_CWD_CUT")
    assert found.path.endswith(b"/" + names[-1].encode() + b"/true")
    assert len(found.path) <= 1024


def test_exit_status():
    found = record(["/bin/sh", "-c", "sh -c 'exit 7'; sh -c 'kill -9 $$'; exit 3"])
    statuses = sorted(int(e["status"]) for e in found.of("exit"))
    assert statuses == sorted([7 << 8, 9, 3 << 8])
    assert found.status == 3


@pytest.mark.guest
@pytest.mark.parametrize("how", ["copied", "touched back"])
def test_a_file_of_this_watch(how):
    back = "touch -d @0 true;" if how == "touched back" else ""
    script = (
        f"cd $(mktemp -d); sleep 0.05; cp $(readlink -f /bin/true) true; {back} ./true; /bin/true; rm -r $PWD"
    )
    new, old = (e for e in record(["/bin/sh", "-c", script]).execs() if e.path.endswith(b"/true"))
    assert new.has("EXEC_NEW_FILE") and not old.has("EXEC_NEW_FILE")


LONG = "/usr/lib/" + "x" * 300


@pytest.mark.guest
@pytest.mark.parametrize(
    ("variables", "text", "flags"),
    [
        ({"LD_PRELOAD": "/tmp/a.so:b"}, "/tmp/a.so:b\0", set()),
        ({"LD_AUDIT": "/tmp/a.so", "LD_PRELOAD": "b"}, "/tmp/a.so\0b\0", {"EXEC_AUDIT"}),
        ({"LD_PRELOAD": "b", "LD_AUDIT": "/tmp/a.so"}, "/tmp/a.so\0b\0", {"EXEC_AUDIT"}),
        ({"LD_AUDIT": "/tmp/a.so"}, "/tmp/a.so\0", {"EXEC_AUDIT"}),
        ({"LD_PRELOAD": LONG}, LONG[:239] + "\0", {"EXEC_PRELOAD_CUT"}),
        (
            {"LD_PRELOAD": "b", "LD_AUDIT": LONG},
            LONG[:239] + "\0b\0",
            {"EXEC_AUDIT", "EXEC_PRELOAD_CUT"},
        ),
        (
            {"LD_PRELOAD": "", "LD_AUDIT": "", "XLD_PRELOAD": "a", "LD_PRELOADS": "b", "LD_PRELO": "AD=c"},
            "",
            set(),
        ),
    ],
)
def test_libraries_of_the_environment(variables, text, flags):
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    given = [f"{name}={value}" for name, value in {"TRACEPARENT": trace, **variables, "LAST": "x"}.items()]
    run = record(["/usr/bin/env", "-i", *given, "/bin/true"])
    (found,) = [e for e in run.execs() if e.path.endswith(b"/true")]
    assert found.preload == text.encode()
    assert {flag for flag in ("EXEC_AUDIT", "EXEC_PRELOAD_CUT") if found.has(flag)} == flags
    assert found.fixed["traceparent"].tobytes()[:55] == trace.encode()
    assert found.argv == [b"/bin/true"]
