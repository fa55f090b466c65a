# SPDX-License-Identifier: Apache-2.0
"""Who certainly may not use the GPU is ended by the probe, at the call that would make a context.

/dev/full stands in for the GPU: it refuses every call, after the probe has seen it.
"""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest
from harness import Recording, record

from tracer.gpu.devices import stand_in
from tracer.kernel.probes import ProbeOptions
from tracer.policy.files import known_user
from tracer.rules import load_rules

PYTHON = sys.executable
KILLED = 128 + 9
#: Makes a compute context (NV_ESC_RM_ALLOC of a channel); had it come back, there would be a file.
USE = """
import fcntl, os, struct, sys
def use():
    with open("/dev/full", "r+b", buffering=0) as f:
        try: fcntl.ioctl(f, 0xc030462b, bytearray(struct.pack("<4I4Q", 1, 2, 3, 0xc86f, 0, 0, 0, 0)))
        except OSError: pass
    open(sys.argv[-1], "a").write("back\\n")
"""


@pytest.fixture
def job(tmp_path):
    """Run a script under ``gpu_users``; the watch, and how many calls have come back."""
    mark = tmp_path / "mark"

    def run(script: str, users: tuple[str, ...] | None, *, name="train.py", enforce=True, **more):
        file = tmp_path / name
        file.write_text(USE + script)
        found = record(
            [PYTHON, "-I", str(file), *more.pop("arguments", ()), str(mark)],
            ProbeOptions(devices=(stand_in("/dev/full"),)),
            gpu_users=users,
            enforce=enforce,
            **more,
        )
        return found, mark.read_text().count("back") if mark.exists() else 0

    return run


def told(run: Recording) -> list[tuple[str, str, str | None]]:
    return [
        (alert.severity, alert.response.action, alert.response.would)
        for alert in run.alerts
        if alert.rule.id == "gpu.unexpected-client"
    ]


def by_probe(run: Recording) -> bool:
    (alert,) = [alert for alert in run.alerts if alert.rule.id == "gpu.unexpected-client"]
    return alert.hook_ns < alert.response.effect_ns < alert.engine_ns


def test_who_is_not_listed_never_comes_back_from_the_call(job):
    run, back = job("use()", ("other.py",))
    assert (run.status, back) == (KILLED, 0)
    assert told(run) == [("high", "killed", None)]
    assert by_probe(run)
    assert run.summary.acted == {"kill": 1}


def test_nobody_may(job):
    run, back = job("use()", ())
    assert (run.status, back, by_probe(run)) == (KILLED, 0, True)


def test_observed_it_is_said_what_would_be_done(job):
    run, back = job("use()", ("other.py",), enforce=False)
    assert (run.status, back) == (0, 1)
    assert told(run) == [("high", "none", "killed")]


@pytest.mark.parametrize("users", [("train.py",), ("*/train.py",), ("*python*",), ("t*n.p?",), ("*",), None])
def test_who_is_listed_is_left_alone(job, users):
    run, back = job("use(); use()", users)
    assert (run.status, back, told(run)) == (0, 2, [])


@pytest.mark.parametrize("how", ["spawn", "forkserver", "fork"])
def test_workers_may_what_their_parent_may(job, how):
    script = (
        "import multiprocessing as m\n"
        "if __name__ == '__main__':\n"
        f"    m.set_start_method({how!r}); w = m.Process(target=use); w.start(); w.join(); sys.exit(w.exitcode)\n"
    )
    run, back = job(script, ("train.py",))
    assert (run.status, back, told(run)) == (0, 1, [])
    run, back = job(script, ("other.py",))
    assert (run.status != 0, back, told(run)) == (True, 1, [("high", "killed", None)])


def test_what_a_listed_program_starts_is_judged_for_itself(job):
    script = (
        "import subprocess\n"
        "open(sys.argv[-1] + '.py', 'w').write(open(sys.argv[0]).read().partition('import subprocess')[0] + 'use()')\n"
        "use(); sys.exit(subprocess.run([sys.executable, sys.argv[-1] + '.py', sys.argv[-1]]).returncode != -9)\n"
    )
    run, back = job(script, ("train.py",))
    assert (run.status, back) == (0, 1)
    assert told(run) == [("high", "killed", None)]
    assert by_probe(run)


def test_a_thread_and_a_fork_have_no_other_right(job):
    script = "import threading\nif os.fork(): os.wait()\nelse: threading.Thread(target=use).start()\n"
    run, back = job(script, ("other.py",))
    assert (back, told(run)) == (0, [("high", "killed", None)])
    assert by_probe(run)


def test_what_the_probe_can_not_know_is_left_to_the_engine(job):
    """Arguments too long to be seen as a whole could name a listed script."""
    run, _ = job("use(); import time; time.sleep(30)", ("other.py",), arguments=("x" * 5000,))
    assert run.status == KILLED
    assert told(run) == [("high", "killed", None)]
    assert not by_probe(run)


def test_who_may_is_read_again(job, tmp_path):
    """Who started under other rules is not judged by what they said."""
    other = load_rules([])
    go = tmp_path / "go"

    def reload(watch, found):
        if found.of("exec") and not go.exists():
            watch.reload(other.under(replace(other.terms, gpu_users=("train.py",))))
            go.touch()

    script = f"import time\nwhile not os.path.exists({str(go)!r}): time.sleep(0.01)\nuse()\n"
    run, back = job(script, ("other.py",), between=reload)
    assert (run.status, back, told(run)) == (0, 1, [])


def test_who_only_looks_is_no_client(job):
    """NVML's calls: a client, a device, a sub-device."""
    script = (
        "with open('/dev/full', 'r+b', buffering=0) as f:\n"
        "    for kind in (0x41, 0x80, 0x2080):\n"
        "        try: fcntl.ioctl(f, 0xc030462b, bytearray(struct.pack('<4I4Q', 1, 2, 3, kind, 0, 0, 0, 0)))\n"
        "        except OSError: pass\n"
    )
    run, _ = job(script, ())
    assert (run.status, told(run)) == (0, [])


def test_who_is_listed_by_its_file_may(job):
    run, back = job("use()", (known_user(f"file:{PYTHON}"),))
    assert (run.status, back, told(run)) == (0, 1, [])


def test_who_is_another_file_may_not(job):
    run, back = job("use()", (known_user("file:/bin/sh"),))
    assert (run.status, back, by_probe(run)) == (KILLED, 0, True)


@pytest.mark.parametrize("below", ["dash", "file:/bin/sh"])
def test_only_below_another_program(job, below):
    script = (
        "import subprocess\n"
        "if 'again' in sys.argv: use()\n"
        "else: sys.exit(subprocess.run(['sh', '-c', '\"$0\" \"$@\"; exit $?', sys.executable, sys.argv[0], 'again',"
        " sys.argv[-1]]).returncode != 0)\n"
    )
    users = (known_user(f"train.py below {below}"),)
    run, back = job(script, users)
    assert (run.status, back, told(run)) == (0, 1, [])
    run, _ = job("use(); import time; time.sleep(30)", users)  # the engine ends it
    assert told(run) == [("high", "killed", None)]
