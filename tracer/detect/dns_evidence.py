# SPDX-License-Identifier: Apache-2.0
"""What names that carry data look like to people."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tracer.detect.dns_data import D_DOMAIN_LO, D_NAME_HI, D_NAME_LO, D_TOLD, Domains
from tracer.detect.facts import FACT_BIT, FACTS
from tracer.text import decode


def of_names(domains: Domains, text: npt.NDArray[np.uint8], signals: int, now_ns: int) -> dict[str, Any]:
    """The evidence in a domain that has just fired a rule; ``text``: where the engine has the name."""
    row = domains.table[domains.state[D_TOLD]]
    lo, begin, hi = (int(domains.state[place]) for place in (D_NAME_LO, D_DOMAIN_LO, D_NAME_HI))
    names = int(row["names"])
    return {
        "facts": [f.name for f in FACTS if "dns" in f.on and signals >> FACT_BIT[f.name] & 1],
        "domain": decode(text[begin:hi].tobytes()),
        "example": decode(text[lo:hi].tobytes()),
        "questions": int(row["asked"]),
        "names": names,
        "bytes_per_name": round(int(row["bytes"]) / names, 1),
        "longest_label": round(int(row["longest"]) / names, 1),
        "odd_types": int(row["odd"]),
        "seconds": round((now_ns - int(row["since"])) / 1e9, 3),
    }
