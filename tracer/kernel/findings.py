# SPDX-License-Identifier: Apache-2.0
"""What ``vigiles doctor`` has found, for people and for machines."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    section: str
    name: str
    state: str  # ok | no | info
    text: str
    remedy: str | None = None


@dataclass(slots=True)
class Report:
    """All findings; ``able``: can a watch begin?"""

    findings: list[Finding] = field(default_factory=list)

    @property
    def able(self) -> bool:
        """Nothing that a watch needs is missing."""
        return not any(f.state == "no" for f in self.findings if f.section in ("host", "needed"))

    def add(self, section: str, name: str, state: str, text: str, remedy: str | None = None) -> None:
        """Take one in."""
        self.findings.append(Finding(section, name, state, text, remedy))

    def to_json(self) -> dict[str, Any]:
        """For machines."""
        return {
            "able": self.able,
            "findings": [
                {"section": f.section, "name": f.name, "state": f.state, "text": f.text, "remedy": f.remedy}
                for f in self.findings
            ],
        }

    def lines(self) -> list[str]:
        """For people, 80 columns where the facts allow."""
        mark = {"ok": "✓", "no": "✗", "info": "·"}
        titles = {
            "host": "Host",
            "needed": "Hooks a watch needs",
            "hook": "Other hooks",
            "guard": "What --enforce does",
            "gpu": "GPU",
        }
        out: list[str] = []
        for section, title in titles.items():
            rows = [f for f in self.findings if f.section == section]
            if rows:
                out.append(title)
            for f in rows:
                out.append(f"  {mark[f.state]} {f.name:<14} {f.text}")
                if f.remedy:
                    out.append(f"    {'':<14} → {f.remedy}")
        out.append("A watch can begin here." if self.able else "A watch can't begin here.")
        return out
