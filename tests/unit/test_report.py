# SPDX-License-Identifier: Apache-2.0
"""The story of a recording, in every format; what the tree calls itself is never more than a name."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
import stories
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from recordings import EPOCH, Live

from tracer import incidents
from tracer.cli import group
from tracer.incidents import GAP_S, Incidents, join
from tracer.kernel import schema
from tracer.record.reader import in_order
from tracer.report import gather
from tracer.report.html import to_html
from tracer.report.markdown import to_markdown
from tracer.report.ocsf import to_ocsf
from tracer.report.references import attack_name, nist, owasp
from tracer.report.sarif import to_sarif
from tracer.report.story import tell
from tracer.rules import load_rules
from tracer.rules.model import FAMILIES, SEVERITIES

PACKS = load_rules()
EVENTS = dict.fromkeys(("sent", "received", "lost"), 0)


def story_of(path: Path) -> dict:
    (parts,) = in_order([path])
    return tell(parts, PACKS)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("story") / "r"
    live = stories.make(path)
    live.end()
    return path


@pytest.fixture(scope="module")
def story(made) -> dict:
    return story_of(made)


def test_incidents_tell_the_story(story):
    (incident,) = story["incidents"]
    assert incident["severity"] == "critical"
    assert incident["line"].index("tunnel") < incident["line"].index("miner")
    miners = [p for p in incident["parts"] if p["exe"] == "/tmp/xmrig"]
    assert [p["count"] for p in miners] == [5] and miners[0]["pid"] == 6000
    assert "T1496.001" in [a["id"] for a in incident["attack"]]
    assert all(a["name"] for a in incident["attack"])
    assert {"T4 Resource Overload"} < set(incident["owasp"])


def test_processes_flows_and_losses_are_there(story):
    rows = story["processes"]["rows"]
    assert len(rows) == 2 + 40 + 1 + 5 and story["processes"]["left_out"] == 0
    parent = rows[next(r["parent"] for r in rows if r["pid"] == 6000)]
    assert parent["pid"] == 101 and rows[parent["parent"]]["pid"] == 100
    ssh = next(f for f in story["flows"]["rows"] if f["exe"] == "/usr/bin/ssh")
    assert (ssh["remote"], ssh["port"], ssh["sent"], ssh["count"]) == ("203.0.113.9", 22, 4_200_000, 1)
    assert sum(f["failed"] for f in story["flows"]["rows"]) == 40
    assert story["sums"]["flows"] == 41
    assert sum(story["timeline"]["lanes"]["execs"]) == 2 + 40 + 1 + 5
    assert list(story["timeline"]["lanes"]) == ["execs", "flows", "gpu", "spans"]
    assert [loss["records"] for loss in story["timeline"]["losses"]] == [1204]
    assert any("1,204 events were lost" in line for line in story["coverage"]["remarks"])
    assert story["coverage"]["losses"][0]["kinds"] == {"connect": 1204}


def test_coverage_says_what_does_not_add_up(tmp_path):
    live = Live(tmp_path / "r", PACKS)
    live.take([stories.fork(2, 1, 5)])
    live.recorder.end(
        {
            "summary": {
                "events": {"sent": {"fork": 9}, "received": {"fork": 4}, "lost": {"fork": 3}},
                "tables": {"process-table-full": 2, "strings-cut": 0},
            }
        }
    )
    live.recorder.close()
    remarks = story_of(tmp_path / "r")["coverage"]["remarks"]
    assert "fork: 9 were seen, but 4 delivered and 3 lost" in remarks
    assert "fork: 4 were delivered, 1 recorded" in remarks
    assert "2 process-table-full" in remarks and "3 events were lost before they reached the watch" in remarks


def test_coverage_can_be_complete(tmp_path):
    live = Live(tmp_path / "r", PACKS)
    live.take([stories.fork(2, 1, 5)])
    live.recorder.end(
        {"summary": {"events": {"sent": {"fork": 1}, "received": {"fork": 1}, "lost": {"fork": 0}}}}
    )
    live.recorder.close()
    coverage = story_of(tmp_path / "r")["coverage"]
    assert coverage["remarks"] == [] and coverage["ended"]


def test_what_was_there_before_is_said(tmp_path):
    live = Live(tmp_path / "r", PACKS)
    late = schema.FLOW_FLAG["FLOW_LATE"]
    live.feed(
        [
            stories.records.execute([b"sh"], b"/bin/sh", tgid=1),
            stories.records.connect("198.51.100.7", flags=late),
        ]
    )
    live.end()
    remarks = story_of(tmp_path / "r")["coverage"]["remarks"]
    assert "1 flows were there before the watch: how they began was not seen" in remarks
    assert any(line.startswith("1 processes were there before") for line in remarks)


def test_without_an_end_it_is_not_complete(tmp_path):
    live = Live(tmp_path / "r", PACKS)
    live.take([stories.fork(2, 1, 5)])
    live.recorder.close()
    assert any("killed" in line for line in story_of(tmp_path / "r")["coverage"]["remarks"])


def test_many_processes_are_counted_not_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(gather, "PROCESSES_MAX", 20)
    monkeypatch.setattr("tracer.report.story.PROCESSES_MAX", 20)
    live = stories.make(tmp_path / "r", processes=300)
    live.end()
    processes = story_of(tmp_path / "r")["processes"]
    told = {row["pid"] for row in processes["rows"]}
    assert {100, 101, 5000, 6000, 6004} <= told and len(told) < 40
    counted = sum(sum(row["others"].values()) + row["others_more"] for row in processes["rows"])
    assert counted == processes["left_out"] == processes["seen"] - len(told) > 250


def test_a_storm_of_flagged_ones_is_counted_too(tmp_path, monkeypatch):
    monkeypatch.setattr("tracer.report.story.PROCESSES_MAX", 20)
    live = Live(tmp_path / "r", PACKS)
    live.take([stories.records.execute([b"sh"], b"/bin/sh", tgid=1)])
    for pid in range(2, 60):
        miner = stories.records.execute([b"./xmrig"], b"/tmp/xmrig", tgid=pid, ts=pid)
        live.take([stories.fork(pid, 1, pid), miner, stories.finish(pid, pid + 1)])
    live.end()
    processes = story_of(tmp_path / "r")["processes"]
    assert len(processes["rows"]) <= 21 and processes["left_out"] == 59 - len(processes["rows"])
    assert sum(sum(row["others"].values()) for row in processes["rows"]) == processes["left_out"]


class Page(HTMLParser):
    """Which elements there are, as a browser would see them."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)


def test_names_are_never_markup(story):
    page = to_html(story)
    parser = Page()
    parser.feed(page)
    assert parser.tags.count("script") == 2 and "img" not in parser.tags and "svg" not in parser.tags
    assert "\x1b" not in page and "\u202e" not in page and "\u2028" not in page
    data = re.search(r'<script type="application/json" id="story">(.*?)</script>', page, re.DOTALL)
    assert json.loads(data[1]) == json.loads(json.dumps(story))
    text = to_markdown(story)
    assert "\x1b" not in text
    for line in text.splitlines():
        if line.startswith("| ") and "other end" not in line and "delivered" not in line:
            assert len(re.findall(r"(?<!\\)\|", line)) in {6, 7}
    for line in text.splitlines():
        bare = re.sub(r"(`+)(?!`).*?(?<!`)\1(?!`)", "", line)
        assert not re.search(r"(?<!\\)<", bare)


@given(st.text(max_size=60))
def test_any_text_stays_in_the_data(said):
    story = {"recording": {"host": said, "began": "2026-01-01T00:00:00"}, "x": said}
    page = to_html(story)
    data = re.search(r'<script type="application/json" id="story">(.*?)</script>', page, re.DOTALL)
    assert json.loads(data[1]) == story
    parser = Page()
    parser.feed(page)
    assert parser.tags.count("script") == 2


def test_formats_of_others(story):
    sarif = to_sarif(story)
    run = sarif["runs"][0]
    assert sarif["version"] == "2.1.0" and len(run["results"]) == len(story["incidents"][0]["parts"])
    for result in run["results"]:
        assert run["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
        assert result["level"] in {"note", "warning", "error"}
    findings = list(to_ocsf(story))
    assert {f["class_uid"] for f in findings} == {2004} and len(findings) == len(run["results"])
    assert all(f["type_uid"] == 200401 and 1e12 < f["time"] < 4e12 for f in findings)
    assert len({f["finding_info"]["uid"] for f in findings}) == len(findings)


def test_every_rule_has_references():
    for family in FAMILIES:
        assert owasp(f"{family}.x") and nist(f"{family}.x")
    assert {t for rule in PACKS.rules for t in rule.attack if not attack_name(t)} == set()


def alert(ts_s: float, rule: str = "miner.x", severity: str = "high", tree: str = "t", **more) -> dict:
    return {
        "rule": rule, "severity": severity, "tree": tree, "exe": "/x", "evidence": {}, "action": "none", "would": None,
        "times_ns": {"hook": int(ts_s * 1e9)}, **more,
    }  # fmt: skip


def test_what_belongs_together():
    found = join([alert(n, tree=tree) for n in range(1000) for tree in ("a", "b")])
    assert [(i.count, len(i.parts), i.parts[0].count) for i in found] == [(1000, 1, 1000)] * 2
    found = join([alert(0), alert(GAP_S - 1), alert(2 * GAP_S + 1)])
    assert [i.count for i in found] == [2, 1]
    found = join([alert(0, "net.scan", "medium"), alert(1, "tunnel.x"), alert(2, "miner.y")])
    assert found[0].severity == "critical" and found[0].line == "probing, then tunnel, then miner"


def test_what_there_is_no_room_for_counts_all_the_same(monkeypatch):
    monkeypatch.setattr(incidents, "PARTS_MAX", 5)
    cheap = [alert(n / 100, "net.x", "low", exe=f"/{n}") for n in range(100)]
    (found,) = join([*cheap, alert(2, "tunnel.y", "medium"), alert(3, "miner.z", "critical")])
    assert (found.count, len(found.parts), found.left_out) == (102, 5, 97)
    assert found.severity == "critical" and found.line == "probing, then tunnel, then miner"
    kept = Incidents(3)
    for n in range(10):
        kept.add(alert(n * 10 * GAP_S, severity="critical" if n == 0 else "low"))
    assert kept.forgotten == 7 and len(kept.all) == 3
    assert kept.all[0].severity == "critical" and kept.all[-1].first_ns == int(90 * GAP_S * 1e9)


@given(
    st.lists(
        st.tuples(st.integers(0, 5000), st.sampled_from(FAMILIES), st.sampled_from(SEVERITIES)), min_size=1
    )
)
def test_nothing_makes_an_incident_less_grave(rows):
    alerts = [alert(t, f"{family}.x", severity) for t, family, severity in sorted(rows, key=lambda r: r[0])]
    found = join(alerts)
    assert sum(i.count for i in found) == len(alerts) == sum(p.count for i in found for p in i.parts)
    for incident in found:
        gravest = max(SEVERITIES.index(p.alert["severity"]) for p in incident.parts)
        assert SEVERITIES.index(incident.severity) >= gravest
        assert incident.first_ns <= incident.last_ns


def test_the_commands(made, tmp_path):
    def cli(*arguments):
        result = CliRunner().invoke(group, [str(a) for a in arguments])
        return result, result.stdout

    result, _ = cli("report", made, "-o", tmp_path / "r.html")
    assert result.exit_code == 0 and (tmp_path / "r.html").read_text().startswith("<!doctype html>")
    result, _ = cli("report", made, "-o", tmp_path / "r.html")
    assert "is there already" in str(result.exception)
    assert cli("report", made, "-o", tmp_path / "r.html", "--force")[0].exit_code == 0
    assert cli("report", made)[0].exit_code == 2
    for form in ("markdown", "json", "sarif", "ocsf"):
        result, out = cli("report", made, "--format", form)
        assert result.exit_code == 0 and "xmrig" in out and "\x1b" not in out
    _, out = cli("tree", made)
    assert "xmrig" in out and "\x1b]" not in out and out.count("\n") >= 48
    _, out = cli("tree", made, "--flagged")
    assert 8 <= out.count("\n") <= 12
    assert EPOCH
