# SPDX-License-Identifier: Apache-2.0
"""The machine a figure was taken on, and figures on disk."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench import allowance

RESULTS = Path(__file__).parent / "results"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def foreign_programs() -> list[str]:
    """BPF programs that are loaded already: somebody else's, and they would distort every figure."""
    tool = shutil.which("bpftool")
    if tool is None:
        return ["unknown: bpftool is not installed"]
    listed = subprocess.run([tool, "-j", "prog", "list"], capture_output=True, text=True, check=False)
    if listed.returncode or not listed.stdout.strip():
        return ["unknown: bpftool can't list them"]
    return [f"{p.get('type')}:{p.get('name', '')}" for p in json.loads(listed.stdout)]


def describe() -> dict[str, Any]:
    """What a reader must know to judge a figure."""
    import numba
    import numpy as np

    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "cpu": _processor(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "numba": numba.__version__,
        "numpy": np.__version__,
        "load": os.getloadavg()[0],
        "foreign_bpf": foreign_programs(),
    }


def keep(name: str, figures: dict[str, Any]) -> Path:
    """Write figures to results/NAME.json, and what of them was cut short."""
    RESULTS.mkdir(exist_ok=True)
    target = RESULTS / f"{name}.json"
    whole = {"machine": describe(), "cut_short": allowance.remark(), **figures}
    target.write_text(json.dumps(whole, indent=1) + "\n")
    return target


def headline() -> str:
    """One line about the machine."""
    m = describe()
    foreign = f", foreign BPF programs: {', '.join(m['foreign_bpf'])}" if m["foreign_bpf"] else ""
    return f"{m['cpu']}, {m['cores']} cores, Linux {m['kernel']}, load {m['load']:.1f}{foreign}"
