# SPDX-License-Identifier: Apache-2.0
"""Names that the tree looks up are what its connections are told by."""

from __future__ import annotations

import json
from pathlib import Path

from harness import record, talker

RULES = """
[indicators.stand-in]
where = "host"
match = "domain"
values = ["pool.example"]
[rules."net.named"]
title = "t"
on = "connect"
any = ["stand-in"]
severity = "high"
[rules."net.unresolved"]
title = "t"
on = "connect"
any = ["@unresolved"]
severity = "low"
"""


def test_names_and_addresses_without_one(tmp_path: Path):
    rules = tmp_path / "rules.toml"
    rules.write_text(RULES)
    known = {"eu.pool.example": "203.0.113.9", "six.pool.example": "2001:db8::9", "other.test": "203.0.113.8"}
    found = record(talker("look_up", json.dumps(known), "203.0.113.10", "2001:db8::a"), rules=[rules])
    assert found.status == 0
    told = {
        (a.rule.id, a.evidence["remote"], "unresolved" in a.evidence.get("facts", []))
        for a in found.alerts
        if a.rule.id.startswith("net.") and a.evidence["remote_port"] == 4444
    }
    assert told == {
        ("net.named", "eu.pool.example (203.0.113.9:4444)", False),
        ("net.named", "six.pool.example ([2001:db8::9]:4444)", False),
        ("net.unresolved", "203.0.113.10:4444", True),
        ("net.unresolved", "[2001:db8::a]:4444", True),
    }
    assert {a.evidence.get("remote_name") for a in found.alerts if a.rule.id == "net.named"} == {
        "eu.pool.example",
        "six.pool.example",
    }
