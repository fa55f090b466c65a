# SPDX-License-Identifier: Apache-2.0
"""What the rules about files make of miners, tunnels, packers, and of everything else on this host."""

from __future__ import annotations

import os
import random
import stat
import sys
from pathlib import Path

import numpy as np
import pytest
from elf_files import LOAD, R, W, X, compiled, cubin, elf_file, fatbin, file_of

from tracer.rules import RuleSet, load_rules
from tracer.rules.evaluate import evaluate
from tracer.rules.model import ON_FILE
from tracer.triage.bounded import Limits
from tracer.triage.examine import Examination

PATIENT = Limits(seconds=60)
XMRIG = (
    b"donate.v2.xmrig.com",
    b"XMRig/6.21.0",
    b"randomx-1gb-pages",
    b"stratum+tcp://",
    b"cryptonight",
    b"H/s",
)
CPUMINER = (b"cpuminer/2.5.1", b"mining.subscribe", b"stratum+tcp://", b"scanhash_scrypt")
CLOSED = (b"lolMiner 1.88", b"mining.subscribe", b"autolykos2 Mh/s")


@pytest.fixture(scope="module")
def rules() -> RuleSet:
    return load_rules([])


@pytest.fixture(scope="module")
def examination(rules: RuleSet) -> Examination:
    return Examination(rules.groups, PATIENT)


def fired(rules: RuleSet, examination: Examination, fd: int) -> dict[str, str]:
    rows = np.empty(len(rules.rules), dtype=np.int64)
    count = evaluate(ON_FILE, examination.examine(fd).signals(), rules.table, rows)
    return {rule.id: severity for rule, severity in (rules.alternative_rule[row] for row in rows[:count])}


def fired_by(rules: RuleSet, examination: Examination, data: bytes) -> dict[str, str]:
    with file_of(data) as fd:
        return fired(rules, examination, fd)


def text(*strings: bytes) -> bytes:
    return elf_file([(".text", 1, b"\x90" * 64, 0), (".rodata", 1, b"\0".join([*strings, b""]), 0)])


def go_program(*lines: bytes) -> bytes:
    modules = b"s" * 16 + b"\n".join([*lines, b""]) + b"e" * 16
    build = b"\xff Go buildinf:\x08\x02" + bytes(16) + b"\x061.23.4"
    build += bytes([len(modules) & 0x7F | 0x80, len(modules) >> 7]) + modules
    return elf_file([(".go.buildinfo", 1, build, 0)])


@pytest.mark.parametrize(
    ("strings", "severity"),
    [(XMRIG, "critical"), (CPUMINER, "critical"), (CLOSED, "high"), (CLOSED[:2], "medium")],
)
def test_miners(rules: RuleSet, examination: Examination, strings: tuple[bytes, ...], severity: str):
    assert fired_by(rules, examination, text(*strings)) == {"exec.miner-binary": severity}


@pytest.mark.parametrize(
    "strings",
    [
        (),
        (b"T-REX", b"Rigel", b"randomXorshift"),  # characters and stars have names, too
        (b"mining.subscribe", b"mining.notify", b"eth_submitLogin"),  # a dissector of network traffic
        (b"stratum+tcp://",),  # a rule of a scanner
        (b"hashrate", b"MH/s"),  # a password cracker
        (b"keepalived", b"nicehash"),
        (b"github.com/jpillora/chisel",),  # a license list
        (b"path\tgithub.com/jpillora/chisel",),  # not in a Go program
        (b"bore_cli::client",),
    ],
)
def test_one_kind_of_string_is_not_enough(
    rules: RuleSet, examination: Examination, strings: tuple[bytes, ...]
):
    assert fired_by(rules, examination, text(*strings)) == {}


def test_a_compiled_miner(rules: RuleSet, examination: Examination, tmp_path: Path):
    """By its functions, while it has symbols; by its strings in any case."""
    source = """
    __attribute__((used)) int randomx_create_vm(int x) { return x + 1; }
    __attribute__((used)) int randomx_calculate_hash(int x) { return x + 2; }
    const char *const talk[] = {"nicehash", "mining.subscribe"};
    int main(int argc, char **argv) { return talk[argc & 1][0]; }
    """
    with compiled(tmp_path, source).open("rb") as file:
        assert fired(rules, examination, file.fileno()) == {"exec.miner-binary": "high"}
    with compiled(tmp_path, source, "-s", "-static").open("rb") as file:
        assert fired(rules, examination, file.fileno()) == {}


def test_kernels_of_a_miner(rules: RuleSet, examination: Examination):
    code = fatbin((2, 0, cubin("_Z14autolykos_stepPj")))
    data = elf_file([(".nv_fatbin", 1, code, 0)])
    assert fired_by(rules, examination, data) == {"exec.miner-binary": "medium"}
    assert fired_by(rules, examination, data + b"\0stratum+ssl://") == {"exec.miner-binary": "high"}


@pytest.mark.parametrize(
    ("line", "severity"),
    [
        (b"path\tgithub.com/jpillora/chisel", "high"),
        (b"path\tgithub.com/fatedier/frp/cmd/frpc", "high"),
        (b"path\tgithub.com/cloudflare/cloudflared/cmd/cloudflared", "high"),
        (b"path\ttailscale.com/cmd/tailscaled", "high"),
        (b"path\tgolang.zx2c4.com/wireguard", "high"),
        (b"path\texample.org/agent\ndep\tgithub.com/jpillora/chisel\tv1.9.1\th1:x=", "medium"),
    ],
)
def test_tunnels_in_go(rules: RuleSet, examination: Examination, line: bytes, severity: str):
    assert fired_by(rules, examination, go_program(line)) == {"exec.tunnel-binary": severity}


@pytest.mark.parametrize(
    "line",
    [
        b"path\tk8s.io/kubernetes/cmd/kubectl",
        b"path\tgithub.com/slackhq/nebula/cmd/nebula-cert",
        b"path\tgolang.zx2c4.com/wireguard/wgctrl/cmd/wgctrl",
        b"path\texample.org/x\ndep\tgithub.com/hashicorp/yamux\tv0.1.1\th1:x=",
    ],
)
def test_other_programs_in_go(rules: RuleSet, examination: Examination, line: bytes):
    assert fired_by(rules, examination, go_program(line)) == {}


@pytest.mark.parametrize(
    "crate", [b"bore-cli-0.5.0", b"rathole-0.5.0", b"wstunnel-10.1.0", b"boringtun-0.6.0"]
)
def test_tunnels_in_rust(rules: RuleSet, examination: Examination, crate: bytes):
    data = text(b"/root/.cargo/registry/src/index.crates.io-1/%s/src/main.rs" % crate)
    assert fired_by(rules, examination, data) == {"exec.tunnel-binary": "high"}


def test_packers(rules: RuleSet, examination: Examination):
    noise = random.Random(2).randbytes(1 << 16)
    segments = [(LOAD, R | W, bytes(64)), (LOAD, R | X, noise)]
    plain = elf_file(segments=segments, headers=False)
    assert fired_by(rules, examination, plain) == {"exec.packed": "medium"}
    segments[1] = (LOAD, R | X, b"UPX!" + noise)
    assert fired_by(rules, examination, elf_file(segments=segments, headers=False)) == {
        "exec.packed": "medium"
    }


@pytest.mark.parametrize("program", [sys.executable, "/bin/bash", "/bin/ls", "/usr/bin/grep", "/usr/bin/git"])
def test_everyday_programs(rules: RuleSet, examination: Examination, program: str):
    if not Path(program).exists():
        pytest.skip(f"no {program}")
    with Path(program).open("rb") as file:
        assert fired(rules, examination, file.fileno()) == {}


def programs() -> list[Path]:
    """The executables and libraries of this host, and those of this Python."""
    found = {}
    for folder in ("/usr/bin", "/usr/sbin", "/usr/lib", "/usr/local", sys.prefix):
        for where, _, names in os.walk(folder):
            for name in names:
                path = Path(where, name)
                try:
                    status = path.lstat()
                    if stat.S_ISREG(status.st_mode):
                        with path.open("rb") as file:
                            if file.read(4) == b"\x7fELF":
                                found[status.st_dev, status.st_ino] = path
                except OSError:
                    continue
    return list(found.values())


#: Programs that distributions ship, and what is right to say of them.
ARE_TUNNELS = {
    "bore", "chisel", "cloudflared", "frpc", "frps", "gost", "nebula", "nebula-service", "ngrok", "rathole",
    "tailscale", "tailscaled", "wireguard-go", "wstunnel", "zrok",
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_everything_on_this_host(rules: RuleSet, examination: Examination):
    """High or critical is what is a tunnel, and nothing else."""
    wrong = []
    for path in programs():
        with path.open("rb") as file:
            found = fired(rules, examination, file.fileno())
        loud = bool({"high", "critical"} & set(found.values()))
        if loud != (path.name in ARE_TUNNELS and path.parent.name in {"bin", "sbin"}):
            wrong.append((path, found))
    assert wrong == []
