# SPDX-License-Identifier: Apache-2.0
"""A story as SARIF 2.1.0 (OASIS), for whoever collects findings of many tools."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_LEVEL = {"low": "note", "medium": "warning", "high": "error", "critical": "error"}
#: What collectors sort by: a number from 0 to 10 in a string (GitHub, code scanning, security-severity).
_SCORE = {"low": "3.0", "medium": "5.0", "high": "8.0", "critical": "9.5"}


def to_sarif(story: dict[str, Any]) -> dict[str, Any]:
    """One run, one result for each part of an incident."""
    parts = [(incident, part) for incident in story["incidents"] for part in incident["parts"]]
    rules: dict[str, dict[str, Any]] = {}
    for _, part in parts:
        rules.setdefault(
            part["rule"],
            {
                "id": part["rule"],
                "shortDescription": {"text": part["title"]},
                "properties": {
                    "tags": ["security", *part["attack"]],
                    "security-severity": _SCORE[part["severity"]],
                },
            },
        )
    places = {name: n for n, name in enumerate(rules)}
    driver = {
        "name": "vigiles",
        "version": story["vigiles"],
        "rules": list(rules.values()),
    }
    recording = story["recording"]
    run = {
        "tool": {"driver": driver},
        "invocations": [
            {
                "executionSuccessful": True,
                "startTimeUtc": recording["began"],
                "endTimeUtc": recording["ended"],
                "machine": recording["host"],
                "toolExecutionNotifications": [
                    {"level": "warning", "message": {"text": line}} for line in story["coverage"]["remarks"]
                ],
            }
        ],
        "results": [_result(incident, part, places[part["rule"]]) for incident, part in parts],
    }
    return {"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}


def _result(incident: dict[str, Any], part: dict[str, Any], place: int) -> dict[str, Any]:
    command = " ".join(map(str, part["argv"])) or part["exe"] or "an unknown process"
    uri = quote(part["exe"] or "unknown", safe="/")
    return {
        "ruleId": part["rule"],
        "ruleIndex": place,
        "level": _LEVEL[part["severity"]],
        "message": {"text": f"{part['title']}: {command}"},
        "occurrenceCount": part["count"],
        "locations": [
            {
                "physicalLocation": {
                    "artifactLocation": {"uri": f"file://{uri}" if uri.startswith("/") else uri}
                },
                "logicalLocations": [{"name": f"pid {part['pid']}", "kind": "process"}],
            }
        ],
        "properties": {
            "incident": incident["number"],
            "incidentSeverity": incident["severity"],
            **{name: part[name] for name in ("time", "pid", "ancestry", "span", "evidence", "actions")},
        },
    }
