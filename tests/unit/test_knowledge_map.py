# SPDX-License-Identifier: Apache-2.0
"""How the image of the rules gets into the kernel, and others take its place: in one step, or not at all."""

from __future__ import annotations

import mmap
import os

import numpy as np
import pytest
from naive_knowledge import Image
from rule_sets import visible

from tracer.detect.facts import WORDS
from tracer.errors import RuleError
from tracer.kernel import libbpf
from tracer.kernel.knowledge import Knowledge
from tracer.rules import RuleSet
from tracer.rules.model import Group


class FakeMap:
    """Takes the place of the array of maps."""

    def __init__(self) -> None:
        self.images: list[bytes] = []

    def update(self, key: bytes, value: bytes) -> None:
        assert key == bytes(4)
        fd = int.from_bytes(value, "little")
        self.images.append(os.pread(fd, os.fstat(fd).st_size, 0))


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int, int]]:
    """Files in memory instead of maps: their descriptors, sizes of an element, and numbers of them."""
    made = []

    def create(name: bytes, value_size: int, entries: int, *, mappable: bool) -> int:
        assert mappable and name
        fd = os.memfd_create("map")
        os.ftruncate(fd, -(-value_size * entries // mmap.PAGESIZE) * mmap.PAGESIZE)
        made.append((fd, value_size, entries))
        return fd

    monkeypatch.setattr(libbpf, "create_array", create)
    return made


def with_words(count: int, letters: str = "ab") -> RuleSet:
    values = tuple(f"{letters}{number:04x}" for number in range(count))
    return RuleSet((Group("g", ("args",), "substring", False, values, "test", 1),), ())


def is_closed(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return True
    return False


def test_rules_are_replaced_in_one_step(memory):
    outer = FakeMap()
    knowledge = Knowledge(with_words(10))
    assert memory[0][1] == knowledge.cells * 4
    knowledge.install(outer)
    assert is_closed(memory[0][0])
    assert knowledge.replace(outer, with_words(12)) == knowledge.epoch == 2
    assert knowledge.replace(outer, with_words(4)) == 3
    assert all(is_closed(fd) for fd, _, _ in memory)
    assert len({(size, entries) for _, size, entries in memory}) == 1
    for number, content in enumerate(outer.images, 1):
        image = np.frombuffer(content[: len(content) // memory[0][1] * memory[0][1]], np.uint8)
        assert int(Image(image.reshape(-1, memory[0][1])).header["epoch"]) == number


def test_a_narrower_image_keeps_the_shape_of_the_map(memory):
    wide = "".join(chr(code) for code in range(33, 127)) + "äöüéèàçñ"
    rules = RuleSet((Group("g", ("args",), "substring", False, (wide,), "test", 1),), ())
    knowledge = Knowledge(rules)
    assert knowledge.cells == 128
    outer = FakeMap()
    knowledge.install(outer)
    narrow = with_words(4)
    knowledge.replace(outer, narrow)
    size = memory[-1][1]
    content = outer.images[-1][: len(outer.images[-1]) // size * size]
    signals, _ = Image(np.frombuffer(content, np.uint8).reshape(-1, size)).judge_exec(b"", b"", b"x\0ab0003")
    assert visible(narrow, signals) == signals != [0] * WORDS


def test_rules_that_are_too_large_change_nothing(memory):
    knowledge, outer = Knowledge(with_words(10)), FakeMap()
    knowledge.install(outer)
    wide = "".join(chr(code) for code in range(33, 127))
    broad = RuleSet((Group("g", ("args",), "substring", False, (wide,), "test", 1),), ())
    for rules in (with_words(3000), broad):
        with pytest.raises(RuleError, match="too large to be taken in") as caught:
            knowledge.replace(outer, rules)
        assert caught.value.hint
    assert (knowledge.epoch, len(outer.images)) == (1, 1)


def test_a_failure_leaves_nothing_open(memory, monkeypatch: pytest.MonkeyPatch):
    knowledge = Knowledge(with_words(3))

    class Broken(FakeMap):
        def update(self, key: bytes, value: bytes) -> None:
            raise OSError("no room")

    with pytest.raises(OSError, match="no room"):
        knowledge.replace(Broken(), with_words(4))
    assert knowledge.epoch == 1
    knowledge.close()
    knowledge.close()
    assert all(is_closed(fd) for fd, _, _ in memory)
