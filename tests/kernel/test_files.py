# SPDX-License-Identifier: Apache-2.0
"""Executed files are looked into while a watch runs, whatever has become of their names."""

from __future__ import annotations

import json
from pathlib import Path

from harness import Recording, record, workload

RULES = """
[indicators.marker]
where = "file"
match = "substring"
values = ["vigiles-test-marker"]
[rules."miner.marked"]
title = "t"
on = "file"
any = ["marker"]
severity = "high"
"""


def run(tmp_path: Path, programs: list[list[str]]) -> Recording:
    rules, listing = tmp_path / "rules.toml", tmp_path / "programs.json"
    rules.write_text(RULES)
    listing.write_text(json.dumps(programs))
    found = record(workload("programs", listing), rules=[rules])
    assert found.status == 0
    return found


def marked(tmp_path: Path, name: str, original: str) -> str:
    path = tmp_path / name
    path.write_bytes(Path(original).read_bytes() + b"vigiles-test-marker " + name.encode())
    path.chmod(0o755)
    return str(path)


def test_programs_without_a_name(tmp_path: Path):
    hows = ["plain", "memfd", "deleted", "renamed"]
    programs = [[marked(tmp_path, how, "/bin/sleep"), how, "0.4"] for how in hows]
    found = run(tmp_path, programs)
    alerts = [a for a in found.alerts if a.rule.id == "miner.marked"]
    execs = [e.pid for e in found.execs()][1:]
    assert [a.program.pid for a in alerts if a.program] == execs
    for how, alert in zip(hows, alerts, strict=True):
        file = alert.evidence["file"]
        assert file["groups"] == ["marker"]
        assert [i["literal"] for i in file["indicators"]] == ["vigiles-test-marker"]
        assert file["indicators"][0]["offset"] == Path("/bin/sleep").stat().st_size
        assert file["kind"] == "elf"
        assert (how if how != "memfd" else "memfd:program") in file["path"]


def test_short_lived_programs_are_examined_or_counted(tmp_path: Path):
    programs = [[marked(tmp_path, f"short{n}", "/bin/true"), "plain"] for n in range(20)]
    found = run(tmp_path, programs)
    assert found.summary is not None
    alerts = [a for a in found.alerts if a.rule.id == "miner.marked"]
    of = {e.pid: e.path for e in found.execs()}
    told = set()
    for alert in alerts:
        assert alert.program is not None
        assert alert.program.exe == of[alert.program.pid] == alert.evidence["file"]["path"].encode()
        told.add(alert.program.pid)
    assert len(told) == len(alerts)
    lost = sum(n for what, n in found.summary.tables.items() if what.startswith("files-"))
    assert len(told) + lost == 20, found.summary.tables
