# SPDX-License-Identifier: Apache-2.0
"""What is said of the code cache."""

from __future__ import annotations

from pathlib import Path

import pytest

from tracer import jit


def test_compiled_for_one_processor_is_not_compiled_for_another(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setattr(jit, "cache_directory", lambda: tmp_path)
    monkeypatch.setattr(jit, "_processor", lambda: "generic")
    jit.mark_warm()
    assert jit.is_warm()
    monkeypatch.setattr(jit, "_processor", lambda: "another")
    assert not jit.is_warm()
