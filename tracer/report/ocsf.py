# SPDX-License-Identifier: Apache-2.0
"""A story as OCSF 1.3 Detection Findings (schema.ocsf.io, class 2004), one JSON object a line."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

_CLASS, _CATEGORY, _CREATE = 2004, 2, 1
_SEVERITY = {"low": 2, "medium": 3, "high": 4, "critical": 5}
_NEW = 1
#: action_id and disposition_id of what was done
_ALLOWED, _DENIED = (1, 1), (2, 2)


def to_ocsf(story: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """One finding for each part of an incident."""
    for incident in story["incidents"]:
        for part in incident["parts"]:
            yield _finding(story, incident, part)


def _milliseconds(text: str) -> int:
    return int(datetime.fromisoformat(text[:26] + "+00:00").timestamp() * 1000)


def _finding(story: dict[str, Any], incident: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    recording = story["recording"]
    action, disposition = _ALLOWED if part["action"] == "none" else _DENIED
    process: dict[str, Any] = {
        "pid": part["pid"],
        "cmd_line": " ".join(map(str, part["argv"])),
        "file": {"path": part["exe"], "name": (part["exe"] or "?").rpartition("/")[2] or "?", "type_id": 1},
        "user": {"uid": str(part["uid"])},
    }
    if len(part["ancestry"]) > 1:
        above = part["ancestry"][1]
        process["parent_process"] = {"pid": above["pid"], "file": {
            "path": above["exe"], "name": above["exe"].rpartition("/")[2] or "?", "type_id": 1}}  # fmt: skip
    return {
        "class_uid": _CLASS,
        "category_uid": _CATEGORY,
        "activity_id": _CREATE,
        "type_uid": _CLASS * 100 + _CREATE,
        "time": _milliseconds(part["time"]),
        "severity_id": _SEVERITY[part["severity"]],
        "status_id": _NEW,
        "action_id": action,
        "disposition_id": disposition,
        "count": part["count"],
        "message": part["title"],
        "finding_info": {
            "uid": f"{recording['tree']}/{part['rule']}/{part['pid']}/{part['start_ns']}",
            "title": part["title"],
            "analytic": {"uid": part["rule"], "name": part["rule"], "type_id": 1},
            "attacks": [{"technique": {"uid": technique}} for technique in part["attack"]],
            "related_events": [{"uid": f"{recording['tree']}/incident-{incident['number']}"}],
        },
        "evidences": [{"process": process, "data": part["evidence"]}],
        "device": {"hostname": recording["host"], "type_id": 1, "os": {"name": "Linux", "type_id": 200}},
        "metadata": {
            "version": "1.3.0",
            "product": {"name": "vigiles", "vendor_name": "vigiles", "version": story["vigiles"]},
        },
        "unmapped": {
            "span": part["span"],
            "actions": part["actions"],
            "incident_severity": incident["severity"],
        },
    }
