# SPDX-License-Identifier: Apache-2.0
"""What a policy excuses goes on; the rest of the same rule is stopped by the probe, as if there were no exception."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path

import pytest
from harness import Recording, guarded, record
from test_guard import PORT, RULES, miner, told  # noqa: F401 - a fixture among them

from tracer.policy import apply_policy
from tracer.policy.excuse import excuses
from tracer.policy.parse import parse
from tracer.rules import load_rules

EXCUSED = "127.0.0.2"


def run_under(argv: list[str], tmp_path: Path, rule: str, condition: str) -> Recording:
    """Enforced, under a policy with one exception."""
    file = tmp_path / "rules.toml"
    file.write_text(RULES)
    text = f'[[exceptions]]\nrule = "{rule}"\nreason = "r"\nuntil = 9999-12-31\n{condition}\n'
    parsed = parse(text, "policy.toml")
    assert not parsed.errors
    known = apply_policy(parsed.policy, load_rules([file]))
    return record(argv, known=known, enforce=True, excuse=partial(excuses, parsed.policy))


@pytest.mark.guest
def test_a_program(miner: Path, tmp_path: Path):  # noqa: F811
    for name in ("ours", "theirs"):
        (tmp_path / name).mkdir()
        shutil.copy(miner / "xmrig", tmp_path / name)
    script = "cd ours && ./xmrig; cd ../theirs && ./xmrig"
    run = run_under(
        ["sh", "-c", f"cd {tmp_path}; {script}"], tmp_path, "miner.command", f'exe = "{tmp_path}/ours/xmrig"'
    )
    assert (tmp_path / "ours/mark").exists()
    assert not (tmp_path / "theirs/mark").exists()
    (alert,) = told(run, "miner.command")
    assert alert.response.action == "killed"
    assert alert.hook_ns < alert.response.effect_ns < alert.engine_ns, "the probe did it"
    assert run.summary.acted == {"kill": 1}
    assert run.summary.tally.excused == 1


@pytest.mark.guest
@pytest.mark.parametrize("condition", [f'remote = "{EXCUSED}"', f'remote = "{EXCUSED}:{PORT}"'])
def test_a_place_to_connect_to(tmp_path: Path, condition: str):
    script = (
        "import socket, json, sys\nfound = {}\n"
        f"for address in '127.0.0.1', '{EXCUSED}':\n"
        f" try: socket.create_connection((address, {PORT}))\n"
        " except OSError as error: found[address] = type(error).__name__\n"
        "json.dump(found, open(sys.argv[1], 'w'))"
    )
    out = tmp_path / "out.json"
    run = run_under(["python3", "-c", script, str(out)], tmp_path, "net.bad-port", condition)
    assert json.loads(out.read_text()) == {"127.0.0.1": "PermissionError", EXCUSED: "ConnectionRefusedError"}
    (alert,) = told(run, "net.bad-port")
    assert (alert.evidence["remote_address"], alert.response.action) == ("127.0.0.1", "blocked")
    assert run.summary.tally.excused == 1


@pytest.mark.guest
@pytest.mark.parametrize(("address", "heard"), [("127.0.0.1", "hello"), (EXCUSED, "helloa BADWORDmore")])
def test_a_place_to_speak_to(tmp_path: Path, address: str, heard: str):
    out = tmp_path / "out.json"
    command = guarded("conversation", out, address, 4000, "hello", "a BADWORD", "more")
    run = run_under(command, tmp_path, "net.bad-word", f'remote = "{EXCUSED}"')
    assert json.loads(out.read_text())["heard"] == heard
    assert {a.response.action for a in told(run, "net.bad-word")} == (
        {"blocked"} if address != EXCUSED else set()
    )
    assert bool(run.summary.packets_dropped) == (address != EXCUSED)
