# SPDX-License-Identifier: Apache-2.0
"""Who may use the GPU when nobody has said, and when somebody has. /dev/full stands in for the GPU."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "kernel"))
from harness import record

from tracer.gpu.devices import stand_in
from tracer.kernel.probes import ProbeOptions

PYTHON = sys.executable

GPU = """
import fcntl, struct
def use(number=0xc86f, command=0xc030462b):
    with open("/dev/full", "r+b", buffering=0) as f:
        try: fcntl.ioctl(f, command, bytearray(struct.pack("<4I4Q", 1, 2, 3, number, 0, 0, 0, 0)))
        except OSError: pass
"""
COMPUTE = GPU + "use()\n"
#: What NVML does: a client, a device, a sub-device, and questions.
NVML = GPU + "use(0x41); use(0x80); use(0x2080); use(0, 0xc020462a)\n"
PERL = (
    'open(my $f, "+<", "/dev/full"); my $a = pack("L4Q4", 1, 2, 3, 0xc86f, 0, 0, 0, 0);'
    "ioctl($f, 0xc030462b, $a);"
)


@pytest.fixture
def job(tmp_path):
    """Write files, run one of them, and give back (rule, severity, what it ran) of each alert."""

    def run(files: dict[str, str], *command: str, gpu_users=None):
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(text.replace("PYTHON", PYTHON).replace("HERE", str(tmp_path)))
        argv = [part.replace("HERE", str(tmp_path)) for part in command]
        options = ProbeOptions(devices=(stand_in("/dev/full"),))
        found = record(argv, options, gpu_users=gpu_users)
        assert found.status == 0, found.status
        return [(a.rule.id, a.severity, a.program.argv) for a in found.alerts if a.rule.family == "gpu"]

    return run


def spawn(*argv: str) -> str:
    return f"import subprocess; subprocess.run({list(argv)!r}, check=True)\n"


def test_a_shell_script_that_starts_the_trainer(job):
    files = {"train.sh": "PYTHON HERE/train.py\n", "train.py": COMPUTE}
    assert job(files, "bash", "HERE/train.sh") == []


def test_a_launcher_that_starts_four_ranks(job):
    launcher = (
        "import subprocess, sys\n"
        "ranks = [subprocess.Popen([sys.executable, 'HERE/train.py', f'--rank={n}']) for n in range(4)]\n"
        "sys.exit(any(rank.wait() for rank in ranks))\n"
    )
    assert job({"launch.py": launcher, "train.py": COMPUTE}, PYTHON, "HERE/launch.py") == []


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_multiprocessing_workers(job, method):
    train = GPU + (
        "import multiprocessing as m\n"
        "if __name__ == '__main__':\n"
        f"    use(); m.set_start_method('{method}')\n"
        "    workers = [m.Process(target=use) for _ in range(3)]\n"
        "    [w.start() for w in workers]; [w.join() for w in workers]\n"
    )
    assert job({"train.py": train}, PYTHON, "HERE/train.py") == []


def test_workers_come_before_their_launcher(job):
    """torch.multiprocessing.spawn: the parent itself never touches the GPU."""
    train = GPU + (
        "import multiprocessing as m\n"
        "if __name__ == '__main__':\n"
        "    m.set_start_method('spawn')\n"
        "    workers = [m.Process(target=use) for _ in range(4)]\n"
        "    [w.start() for w in workers]; [w.join() for w in workers]\n"
    )
    assert job({"train.py": train}, PYTHON, "HERE/train.py") == []


def test_trainer_with_loaders_and_an_inference_engine(job):
    train = COMPUTE + (
        "import os, subprocess, sys\n"
        "for _ in range(2):\n"
        "    if os.fork() == 0: use(); os._exit(0)\n"
        "    os.wait()\n"
        "subprocess.run([sys.executable, '-m', 'engine', '--port', '0'], cwd='HERE', check=True)\n"
    )
    assert job({"train.py": train, "engine.py": COMPUTE}, PYTHON, "HERE/train.py") == []


def test_readers_of_gauges_are_quiet_whoever_they_are(job):
    perl = PERL.replace("0xc86f", "0x2080")
    files = {"train.py": COMPUTE + spawn("perl", "-e", perl), "gauge.py": NVML}
    files["train.sh"] = "PYTHON HERE/train.py; PYTHON HERE/gauge.py; (PYTHON HERE/gauge.py)\n"
    assert job(files, "bash", "HERE/train.sh") == []


def test_stages_of_a_pipeline(job):
    """What the job's own script starts, one after the other, is the job."""
    files = {"train.py": COMPUTE, "evaluate.py": COMPUTE}
    files["all.sh"] = "PYTHON HERE/train.py && PYTHON HERE/evaluate.py\n"
    assert job(files, "bash", "HERE/all.sh") == []


def test_another_executable_is_unexpected(job):
    ((rule, severity, argv),) = job(
        {"train.py": COMPUTE + spawn("perl", "-e", PERL)}, PYTHON, "HERE/train.py"
    )
    assert (rule, severity, argv[0]) == ("gpu.unexpected-client", "high", b"perl")


def test_another_executable_beside_the_trainer_is_unexpected(job):
    files = {"train.py": COMPUTE, "all.sh": f"PYTHON HERE/train.py; perl -e '{PERL}'\n"}
    ((rule, severity, _),) = job(files, "bash", "HERE/all.sh")
    assert (rule, severity) == ("gpu.unexpected-client", "high")


def test_a_copy_of_the_interpreter_is_another_executable(job, tmp_path):
    copy = tmp_path / "innocent"
    shutil.copy(Path(PYTHON).resolve(), copy)
    files = {"train.py": COMPUTE + spawn(str(copy), "-I", str(tmp_path / "other.py")), "other.py": COMPUTE}
    alerts = job(files, PYTHON, "HERE/train.py")
    assert [a[:2] for a in alerts] == [("gpu.unexpected-client", "high")]


def test_another_script_below_a_shell(job, tmp_path):
    rogue = spawn("sh", "-c", f"{PYTHON} {tmp_path}/other.py; true")
    ((rule, severity, argv),) = job(
        {"train.py": COMPUTE + rogue, "other.py": COMPUTE}, PYTHON, "HERE/train.py"
    )
    assert (rule, severity) == ("gpu.unexpected-client", "medium")
    assert argv[1].endswith(b"other.py")


def test_a_module_below_a_shell(job):
    rogue = spawn("sh", "-c", f"cd HERE; {PYTHON} -m other; true")
    alerts = job({"train.py": COMPUTE + rogue, "other.py": COMPUTE}, PYTHON, "HERE/train.py")
    assert [a[:2] for a in alerts] == [("gpu.unexpected-client", "medium")]


def test_one_alert_a_program(job):
    perl = PERL + PERL.replace("my ", "")
    assert len(job({"train.py": COMPUTE + spawn("perl", "-e", perl)}, PYTHON, "HERE/train.py")) == 1


@pytest.mark.parametrize("pattern", ["train.py", "*/train.py", "python3*", "*/python3*"])
def test_who_is_named_may(job, pattern):
    assert job({"train.py": COMPUTE}, PYTHON, "HERE/train.py", gpu_users=(pattern,)) == []


def test_who_is_not_named_may_not_even_first(job):
    ((rule, severity, _),) = job({"other.py": COMPUTE}, PYTHON, "HERE/other.py", gpu_users=("train.py",))
    assert (rule, severity) == ("gpu.unexpected-client", "high")


def test_workers_of_the_named_may(job):
    train = GPU + (
        "import multiprocessing as m\n"
        "if __name__ == '__main__':\n"
        "    m.set_start_method('spawn'); w = m.Process(target=use); w.start(); w.join()\n"
    )
    assert job({"train.py": train}, PYTHON, "HERE/train.py", gpu_users=("train.py",)) == []


def test_nobody_may(job):
    alerts = job({"train.py": COMPUTE}, PYTHON, "HERE/train.py", gpu_users=())
    assert [a[:2] for a in alerts] == [("gpu.unexpected-client", "high")]
