# SPDX-License-Identifier: Apache-2.0
"""The report in a real browser: drawn, silent, alone, usable by keys and on a narrow screen."""

from __future__ import annotations

import os
from pathlib import Path

import browser as browsers
import pytest
import stories

from tracer.record.reader import in_order
from tracer.report.html import to_html
from tracer.report.story import tell
from tracer.rules import load_rules


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if browsers.PROGRAM is None:
        pytest.skip("not installed: chromium")
    with browsers.Browser(tmp_path_factory.mktemp("chromium")) as found:
        yield found


def page(folder: Path, processes: int = 40) -> Path:
    live = stories.make(folder / "r", processes)
    live.end()
    (parts,) = in_order([folder / "r"])
    path = folder / "report.html"
    path.write_text(to_html(tell(parts, load_rules())))
    return path


def test_it_is_drawn_and_silent(browser, tmp_path):
    path = page(tmp_path)
    browser.requests.clear()
    browser.resize(1200, 900)
    browser.open(path)
    assert browser.run("document.title").startswith("vigiles: ")  # nobody has changed it
    assert browser.complaints == []
    assert browser.requests == [path.as_uri()]
    assert browser.run("document.querySelectorAll('main section').length") == 5
    assert browser.run("document.querySelectorAll('article.card').length") == 1
    assert browser.run("document.querySelectorAll('#main img, #main script, #main iframe').length") == 0
    assert browser.run("document.querySelectorAll('.tree li').length") == 2 + 40 + 1 + 5
    assert browser.run("[...document.querySelectorAll('code')].some(c => c.textContent.includes('<script>'))")
    assert "[object" not in browser.run("document.body.textContent.split('svg')[0]")
    assert browser.run("document.querySelectorAll('.mark').length") >= 6
    assert browser.run("document.querySelectorAll('.lost').length") == 1
    keep(browser, "wide")


def test_keys_move_the_timeline(browser, tmp_path):
    browser.open(page(tmp_path))
    shown = "document.querySelector('.tools span').textContent"
    whole = browser.run(shown)
    browser.run("document.querySelector('.chart').focus()")
    browser.press("+")
    browser.press("+")
    near = browser.run(shown)
    assert near != whole
    browser.press("ArrowRight")
    assert browser.run(shown) not in {near, whole}
    browser.press("0")
    assert browser.run(shown) == whole
    browser.run("document.querySelector('#flows ~ .tools input').focus()")
    for key in "ssh":
        browser.press(key)
    assert browser.run("document.querySelectorAll('#flows ~ .scroll tbody tr').length") == 1
    assert browser.complaints == []


@pytest.mark.parametrize("dark", [False, True])
def test_a_narrow_window(browser, tmp_path, dark):
    browser.resize(360, 700, dark=dark)
    browser.open(page(tmp_path))
    assert browser.run("document.documentElement.scrollWidth") <= 360
    keep(browser, f"narrow-{'dark' if dark else 'light'}")
    browser.resize(1200, 900)


def test_many_events_are_no_burden(browser, tmp_path):
    """What the page holds is bounded, whatever the recording holds."""
    path = page(tmp_path, processes=6000)
    assert path.stat().st_size < 3_000_000
    browser.open(path)
    assert browser.run("document.querySelectorAll('*').length") < 30_000
    assert "counted, not shown" in browser.run("document.body.textContent")
    assert browser.complaints == []


def keep(browser, name: str) -> None:
    """Pictures to look at, where they are asked for."""
    if folder := os.environ.get("VIGILES_PICTURES"):
        browser.picture(Path(folder) / f"{name}.png")
