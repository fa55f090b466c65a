# SPDX-License-Identifier: Apache-2.0
"""Connections are reset beside the loop, and what is too much is counted."""

from __future__ import annotations

import threading

from tracer.respond import acts, resetter
from tracer.respond.resetter import Resetter


def test_there_is_no_thread_until_it_is_needed(monkeypatch):
    done = []
    monkeypatch.setattr(acts, "shut_socket", lambda *task: done.append(task))
    before = threading.active_count()
    made = Resetter()
    made.close()
    assert threading.active_count() == before
    made.reset((1, 2), 3)
    made.reset((4, 5), 6)
    made.close()
    made.close()
    assert done == [((1, 2), 3), ((4, 5), 6)]
    assert (made.skipped, threading.active_count()) == (0, before)


def test_who_has_ended_holds_nobody_up(monkeypatch):
    done = []

    def shut(identity, cookie):
        done.append(cookie)
        raise ProcessLookupError

    monkeypatch.setattr(acts, "shut_socket", shut)
    made = Resetter()
    for cookie in range(3):
        made.reset((1, 2), cookie)
    made.close()
    assert done == [0, 1, 2]


def test_what_can_not_wait_is_counted(monkeypatch):
    go = threading.Event()
    done = []
    monkeypatch.setattr(acts, "shut_socket", lambda _, cookie: (go.wait(60), done.append(cookie)))
    monkeypatch.setattr(resetter, "_WAITING_MAX", 4)
    made = Resetter()
    for cookie in range(20):
        made.reset((1, 2), cookie)
    go.set()
    made.close()
    assert len(done) + made.skipped == 20
    assert 4 <= len(done) <= 5
