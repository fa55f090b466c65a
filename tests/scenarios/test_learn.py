# SPDX-License-Identifier: Apache-2.0
"""A policy that is learnt from a run of a job allows that job, and nothing else."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tracer.policy import load_policy
from tracer.scenario.world import World

VIGILES = [sys.executable, "-c", "from tracer.cli import main; main()"]
HERE = Path(__file__).parent

#: Tools, a service, a connection by address, one by name; then what it is told to do besides.
JOB = """
import errno, multiprocessing, socket, subprocess, sys

def talk(host, port):
    with socket.create_connection((host, port), timeout=5) as client:
        client.sendall(b"x")
        assert client.recv(1) == b"x"

def serve(server):
    far, _ = server.accept()
    far.sendall(far.recv(1))

server = socket.create_server(("", 8765))
service = multiprocessing.get_context("fork").Process(target=serve, args=(server,))
service.start()
talk("127.0.0.1", 8765)
service.join()
subprocess.run(["sh", "-c", "id | wc -c"], check=True, stdout=subprocess.DEVNULL)
talk("198.51.100.20", 7001)
talk("models.test", 7002)
for what in sys.argv[1:]:
    if what.startswith("/"):
        print(subprocess.run([what], check=False).returncode)
    else:
        try:
            talk(what.partition(":")[0], int(what.partition(":")[2]))
            print("talked")
        except OSError as error:
            print(errno.errorcode[error.errno])
"""
ECHO = """
import socket, sys, threading
def serve(server):
    while True:
        with server.accept()[0] as far:
            far.sendall(far.recv(1))
for port in map(int, sys.argv[1:]):
    threading.Thread(target=serve, args=(socket.create_server(("", port)),)).start()
"""


def vigiles(*arguments: object, **more) -> subprocess.CompletedProcess[str]:
    words = [str(argument) for argument in arguments]
    return subprocess.run(
        [*VIGILES, *words], capture_output=True, text=True, timeout=100, check=False, **more
    )


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Hosts, with a service at two ports of each, and a server that knows the third one's name."""
    folder = tmp_path_factory.mktemp("world")
    dns = HERE / "services" / "dns.py"
    with World(folder, ("inside", "outside", "third")) as made:
        servers = [
            made.command("outside", sys.executable, str(dns), "models.test=198.51.100.30"),
            *(
                made.command(host, sys.executable, "-c", ECHO, "7001", "7002")
                for host in ("outside", "third")
            ),
        ]
        running = [subprocess.Popen(argv) for argv in servers]
        places = [("outside", "udp", 53)]
        places += [(host, "tcp", port) for host in ("outside", "third") for port in (7001, 7002)]
        deadline = time.monotonic() + 20
        while not all(made.listens(*place) for place in places):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield made
    for server in running:
        server.wait()


@pytest.fixture(scope="module")
def job(world, tmp_path_factory):
    """The command line of the job, with whatever else it is to do."""
    file = tmp_path_factory.mktemp("job") / "job.py"
    file.write_text(JOB)
    return lambda *more: world.command("inside", sys.executable, str(file), *map(str, more))


@pytest.fixture(scope="module")
def learnt(job, tmp_path_factory) -> Path:
    """What has been learnt from one run of it."""
    file = tmp_path_factory.mktemp("policy") / "job.toml"
    done = vigiles("policy", "learn", "-o", file, "--name", "sft", "--", *job())
    assert done.returncode == 0, done.stderr
    assert "lost: 0" in done.stderr and f"see: vigiles policy explain {file}" in done.stderr
    return file


@pytest.fixture
def run(job, tmp_path):
    """Run the job under a policy: what it printed, and its alerts."""

    def run_it(policy: Path, *more: object, options: tuple[str, ...] = ()):
        alerts = tmp_path / "alerts.jsonl"
        done = vigiles("run", "--policy", policy, "--alerts", alerts, *options, "--", *job(*more))
        assert done.returncode == 0, done.stderr
        return done.stdout.split(), [json.loads(line) for line in alerts.read_text().splitlines()]

    return run_it


def test_what_the_policy_has(learnt):
    text = learnt.read_text()
    assert "INCOMPLETE" not in text and "GOOD" not in text
    policy = load_policy(learnt)
    assert (policy.name, policy.mode, policy.gpu_users) == ("sft", "observe", ())
    assert {place.text for place in policy.connect.entries} == {
        "198.51.100.20:7001",
        "198.51.100.20:udp/53",
        "models.test:7002",
    }
    assert [place.text for place in policy.listen.entries] == ["8765"]
    programs = [sys.executable, *map(shutil.which, ("nsenter", "sh", "id", "wc"))]
    for program in programs:
        path = os.path.realpath(program)
        assert any(entry.covers(path) for entry in policy.allow.entries), path
    info = learnt.stat()
    assert (info.st_uid, info.st_mode & 0o777) == (0, 0o640)


def test_the_same_job_raises_nothing(learnt, run):
    assert run(learnt) == ([], [])
    assert run(learnt, options=("--enforce",)) == ([], [])


@pytest.fixture
def stranger(tmp_path) -> Path:
    """A program that the run did not start."""
    path = tmp_path / "stranger"
    shutil.copy("/bin/true", path)
    return path


def test_what_the_job_did_not_do_is_flagged(learnt, run, stranger):
    printed, alerts = run(learnt, "198.51.100.30:7001", "198.51.100.20:7002", stranger)
    assert printed == ["talked", "talked", "0"]
    found = [(a["rule"], a["evidence"].get("remote"), a["exe"]) for a in alerts]
    python = os.path.realpath(sys.executable)
    assert found == [
        ("net.not-allowed", "models.test (198.51.100.30:7001)", python),
        ("net.not-allowed", "198.51.100.20:7002", python),
        ("exec.not-allowed", None, str(stranger)),
    ]


def test_what_the_job_did_not_do_is_refused(learnt, run, stranger, tmp_path):
    strict = tmp_path / "strict.toml"
    text = learnt.read_text()
    for key in ("connect_action", "allow_action"):
        assert f'{key} = "alert"' in text
        text = text.replace(f'{key} = "alert"', f'{key} = "block"')
    strict.write_text(text)
    assert run(strict, options=("--enforce",)) == ([], [])
    printed, alerts = run(strict, "198.51.100.20:7003", "203.0.113.1:443", stranger, options=("--enforce",))
    assert printed == ["EPERM", "EPERM", "-9"]
    assert [(a["rule"], a["action"]) for a in alerts] == [
        ("net.not-allowed", "blocked"),
        ("net.not-allowed", "blocked"),
        ("exec.not-allowed", "killed"),
    ]


def test_a_run_that_was_not_a_good_one(tmp_path):
    miner, file = tmp_path / "xmrig", tmp_path / "job.toml"
    shutil.copy("/bin/true", miner)
    done = vigiles("policy", "learn", "--quiet", "-o", file, "--", "sh", "-c", f"{miner}; exit 3")
    assert done.returncode == 3
    said = "NOT A GOOD RUN: there were alerts of high or above: 1 miner.command."
    assert f"vigiles: {said}" in done.stderr
    assert "vigiles: The command ended with status 3" in done.stderr
    text = file.read_text()
    assert f"# {said}" in text.partition("[policy]")[0]
    assert 'name = "sh"' in text


def test_a_run_of_which_not_all_was_seen(tmp_path):
    file = tmp_path / "job.toml"
    command = ("sh", "-c", "sleep 3 >/dev/null 2>&1 &")
    done = vigiles("policy", "learn", "--json", "--detach-on-exit", "-o", file, "--", *command)
    said = "INCOMPLETE: the watch ended before all processes had ended."
    assert f"# {said}\n" in file.read_text()
    told = json.loads(done.stderr.splitlines()[-1])
    assert told == {"policy": {"file": str(file), "good": True, "complete": False, "remarks": [said]}}


def test_a_computing_program_is_learnt(tmp_path):
    code = 'open(my $f, "+<", "/dev/full"); my $a = pack("L4Q4", 1, 2, 3, 0xc86f, 0, 0, 0, 0);'
    client = (shutil.which("perl"), "-e", f"{code} ioctl($f, 0xc030462b, $a);")
    file = tmp_path / "job.toml"
    assert vigiles("policy", "learn", "--gpu-device", "/dev/full", "-o", file, "--", *client).returncode == 0
    assert load_policy(file).gpu_users == (os.path.realpath(client[0]),)
    assert (
        "alerts: none" in vigiles("run", "--gpu-device", "/dev/full", "--policy", file, "--", *client).stderr
    )
    file.write_text(file.read_text().replace("users = [", 'users = ["train.py"] # '))
    done = vigiles("run", "--gpu-device", "/dev/full", "--policy", file, "--", *client)
    assert "1 gpu.unexpected-client" in done.stderr


def test_the_file_is_whoever_s_called_sudo_to_read(tmp_path):
    os.chown(tmp_path, 65534, 65534)
    environment = {**os.environ, "SUDO_UID": "65534", "SUDO_GID": "65534"}
    done = vigiles("policy", "learn", "-q", "-o", tmp_path / "a", "--", "id", "-u", env=environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, "65534\n", "")
    info = (tmp_path / "a").stat()
    assert (info.st_uid, info.st_gid, info.st_mode & 0o777) == (0, 65534, 0o640)


def test_the_tracer_itself_is_not_judged(tmp_path):
    """The command begins as a copy of it, and no policy need allow Python for that."""
    file = tmp_path / "job.toml"
    file.write_text(f'[exec]\nallow = ["{os.path.realpath("/bin/true")}"]\nallow_action = "kill"\n')
    done = vigiles("run", "--policy", file, "--enforce", "--", "true")
    assert done.returncode == 0, done.stderr
    assert "alerts: none" in done.stderr


def test_what_can_t_be_written_is_said_before_the_command_runs(tmp_path):
    file, ran = tmp_path / "job.toml", tmp_path / "ran"
    file.write_text("mine")
    done = vigiles("policy", "learn", "-o", file, "--", "touch", ran)
    assert done.returncode == 1
    assert done.stderr == f"vigiles: {file} is there already\n  --force replaces it\n"
    assert not ran.exists()
    assert vigiles("policy", "learn", "--force", "-o", file, "--", "touch", ran).returncode == 0
    assert ran.exists() and load_policy(file).allow.entries
    done = vigiles("policy", "learn", "-o", file.with_name("other"), "--", "/no/such/program")
    assert done.returncode == 127
    assert not file.with_name("other").exists()


def test_a_file_that_is_taken_away(tmp_path):
    file = tmp_path / "job.toml"
    done = vigiles("policy", "learn", "-q", "-o", file, "--", "ln", "-sf", "/etc/shadow", file)
    assert done.returncode == 1
    assert done.stderr.startswith(f"vigiles: {file} is not the file that was written")
    assert file.is_symlink()


def test_on_standard_output():
    done = vigiles("policy", "learn", "-o", "-", "--", "true")
    assert done.stdout.startswith("# Written by `vigiles policy learn`")
    assert "/true" in done.stdout
