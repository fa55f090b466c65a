# SPDX-License-Identifier: Apache-2.0
"""A datagram socket that is bound to a port of its choice serves; one that is bound to any port is a client."""

from __future__ import annotations

import json

import pytest
from harness import guarded, record

from tracer.kernel import schema

PORT = 4500
RULES = """
[indicators.home]
where = "network"
values = ["127.0.0.0/8", "::1/128"]
[rules."net.served"]
title = "t"
on = "listen"
all = ["@datagrams"]
none = ["home"]
severity = "high"
action = "block"
"""
BOUND = schema.FLOW_FLAG["FLOW_BOUND"]


@pytest.mark.guest
def test_only_servers_that_others_can_reach_are_refused(tmp_path):
    (tmp_path / "rules.toml").write_text(RULES)
    out = tmp_path / "out.json"
    found = record(guarded("datagram_servers", out, PORT), rules=[tmp_path / "rules.toml"], enforce=True)
    assert found.status == 0
    came = json.loads(out.read_text())
    assert came == {
        "any": "EPERM",
        "any bound": False,  # the port is free again
        "any6": "EPERM",
        "any6 bound": False,
        "loopback": "0",
        "loopback bound": True,
        "loopback6": "0",
        "loopback6 bound": True,
        "client": "0",
        "client bound": True,
        "client6": "0",
        "client6 bound": True,
    }
    told = [(a.evidence["local"], a.response.action) for a in found.alerts if a.rule.id == "net.served"]
    assert told == [(f"0.0.0.0:{PORT}", "blocked"), (f"[::]:{PORT}", "blocked")]
    (first, _) = [a.evidence for a in found.alerts if a.rule.id == "net.served"]
    assert first == {
        "local": f"0.0.0.0:{PORT}",
        "local_address": "0.0.0.0",
        "local_port": PORT,
        "transport": "udp",
        "facts": ["external", "datagrams"],
    }
    events = found.of("listen")
    assert [bool(int(e["flags"]) & BOUND) for e in events] == [True] * 4 + [False] * 2
    assert found.summary.acted == {"block": 2}
    assert found.summary.lost_total == 0


def test_observed_they_are_bound_and_told(tmp_path):
    (tmp_path / "rules.toml").write_text(RULES)
    out = tmp_path / "out.json"
    found = record(guarded("datagram_servers", out, PORT), rules=[tmp_path / "rules.toml"])
    assert "EPERM" not in json.loads(out.read_text()).values()
    told = [(a.evidence["local_port"], a.response.would) for a in found.alerts if a.rule.id == "net.served"]
    assert told == [(PORT, "blocked")] * 2
