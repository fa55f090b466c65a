# SPDX-License-Identifier: Apache-2.0
"""What the rules know, in the form that probes walk: the image of probes/knowledge.bpf.h.

The image is one array map. A reload makes a new one and puts it into the array of maps with one system
call, which comes back when no program runs on the old one any more (the kernel waits for that:
``maybe_wait_bpf_programs`` in kernel/bpf/syscall.c).
"""

from __future__ import annotations

import mmap
import os
import struct
from typing import TYPE_CHECKING

import numpy as np

from tracer.detect.facts import FACT_BIT, GPU_NOT_LISTED, PLACE_FACTS
from tracer.detect.tamper import FLAG_FACT, WHAT_FACT
from tracer.errors import RuleError
from tracer.kernel import libbpf, schema
from tracer.rules.hidden import hidden_groups, users_known
from tracer.rules.model import ON, ON_GPU_USER, ON_REFUSE, ON_STAY
from tracer.rules.probe_rows import PROBE_FIELDS
from tracer.rules.ranges import compile_ranges

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tracer.kernel.object import Map
    from tracer.rules import RuleSet
    from tracer.rules.automaton import Automaton

_ELEMENT = 256
_CELL = 4
_LISTS = _OUTPUTS = _ELEMENT // _CELL
_COUNT_BITS = 6
_PATTERNS = _ELEMENT // schema.KNOWLEDGE_PATTERN.itemsize
_SIGN = np.int64(-(1 << 63))
_KINDS = 8
_TRANSITIONS = schema.KNOWLEDGE_ELEMENT["ELEMENT_TRANSITIONS"]
#: Room that is left for a reload that brings more indicators: a half more, and at least this.
_SLACK = 1024

#: Facts that are flags of an exec, by the names both sides have for them.
_FLAG_FACTS = {
    "EXEC_MEMFD": "memfd",
    "EXEC_DELETED": "deleted",
    "EXEC_SCRIPT": "script",
    "EXEC_SETID": "setid",
    "EXEC_ARGS_CUT": "args-cut",
    "EXEC_ARGS_UNREADABLE": "args-cut",
}

U8 = np.dtype("u1")


def row_cells(automaton: Automaton) -> int:
    """Cells in a row of the image: a power of two, 64 or more."""
    return max(_ELEMENT // _CELL, 1 << (automaton.class_count - 1).bit_length())


def _elements(data: NDArray[np.uint8], stride: int) -> NDArray[np.uint8]:
    """``data`` in elements of ``stride`` bytes, the first 256 of which are used."""
    count = -(-len(data) // _ELEMENT)
    rows = np.zeros((count, stride), U8)
    padded = np.zeros(count * _ELEMENT, U8)
    padded[: len(data)] = data
    rows[:, :_ELEMENT] = padded.reshape(count, _ELEMENT)
    return rows


def _bytes(array: NDArray[np.generic]) -> NDArray[np.uint8]:
    return np.frombuffer(np.ascontiguousarray(array).tobytes(), U8)


def _patterns(automaton: Automaton) -> NDArray[np.void]:
    table = np.zeros(len(automaton.word), schema.KNOWLEDGE_PATTERN)
    for name in ("mask", "length", "word", "where", "left", "right"):
        table[name] = getattr(automaton, name)
    table["exact"] = automaton.exact + 1
    return table


def _ranges(rules: RuleSet) -> NDArray[np.void]:
    found = compile_ranges((*rules.groups, *hidden_groups(rules.terms)), rules.terms.own_networks)
    table = np.zeros(len(found.begins), schema.KNOWLEDGE_RANGE)
    table["space"] = found.begins[:, 0]
    # there, the sign is turned so that signed comparison orders them
    table["high"], table["low"] = (found.begins[:, column] ^ _SIGN for column in (1, 2))
    table["signals"] = found.signals
    return table


def build(rules: RuleSet, epoch: int) -> NDArray[np.uint8]:
    """The image of ``rules``: uint8[elements, bytes of an element]; ``epoch`` names it, from 1."""
    automaton, rows = rules.automaton, rules.probe_rows
    cells = row_cells(automaton)
    stride = cells * _CELL
    states = len(automaton.next) // automaton.class_count
    transitions = np.zeros((states, cells), np.uint32)
    transitions[:, : automaton.class_count] = automaton.next.reshape(states, -1) // automaton.class_count
    outputs = automaton.output_start.astype(np.uint32) << _COUNT_BITS | automaton.output_count.astype(
        np.uint32
    )
    table = np.zeros((len(rows.on), _ELEMENT), U8)
    decided = np.zeros(len(rows.on), schema.KNOWLEDGE_RULE)
    decided["all"], decided["any"], decided["none"] = rows.all_of, rows.any_of, rows.none_of
    decided["at_least"], decided["row"] = rows.at_least, rows.row
    decided["action"] = rows.action
    ranges = _ranges(rules)
    table[:, : schema.KNOWLEDGE_RULE.itemsize] = _bytes(decided).reshape(
        len(rows.on), schema.KNOWLEDGE_RULE.itemsize
    )

    sections = {
        "outputs": _elements(_bytes(outputs), stride),
        "lists": _elements(_bytes(automaton.outputs.astype(np.uint32)), stride),
        "patterns": _elements(_bytes(_patterns(automaton)), stride),
        "literals": _elements(automaton.literals, stride),
        "rules": _elements(table.reshape(-1), stride),
        "ranges": _elements(_bytes(ranges), stride),
    }
    header = np.zeros((), schema.KNOWLEDGE_HEADER)
    header["epoch"], header["states"] = epoch, states
    header["first_output"] = automaton.first_output // automaton.class_count
    for flag, fact in _FLAG_FACTS.items():
        bit = schema.EXEC_FLAG[flag].bit_length() - 1
        header["flag_facts"][bit] = 1 + FACT_BIT[fact]
    for fd, stream in enumerate(("stdin", "stdout")):
        for target in ("network", "pipe"):
            number = FACT_BIT[f"{stream}-{target}"]
            header["stdio_facts"][fd, schema.FD_KIND[f"FD_{target.upper()}"]] = 1 + number
    header["range_count"] = len(ranges)
    for name in PLACE_FACTS:
        header[f"{name}_fact"] = 1 + FACT_BIT[name]
    header["gpu_not_listed_fact"] = 1 + FACT_BIT[GPU_NOT_LISTED]
    header["gpu_users_known"] = users_known(rules.terms)
    header["names_asked"] = rows.names_asked
    header["places_asked"] = rows.places_asked
    for name, fact in WHAT_FACT.items():
        header["tamper_facts"][schema.TAMPER_WHAT[name]] = 1 + FACT_BIT[fact]
    for name, fact in FLAG_FACT.items():
        header["tamper_flag_facts"][schema.TAMPER_FLAG[name].bit_length() - 1] = 1 + FACT_BIT[fact]
    for kind in (*(ON[on] for on in PROBE_FIELDS), ON_STAY, ON_GPU_USER, ON_REFUSE):
        places = np.flatnonzero(rows.on == kind)
        header["rule_count"][kind] = len(places)
        header["rule_from"][kind] = places[0] if len(places) else 0
    at = _TRANSITIONS + states
    for name, section in sections.items():
        header[name] = at
        at += len(section)

    image = np.zeros((at, stride), U8)
    for element, content in (
        ("HEADER", _bytes(header)),
        ("CLASSES", automaton.classes),
        ("EDGES", automaton.edges),
        ("WIRE_CLASSES", automaton.wire_classes),
        ("WIRE_EDGES", automaton.wire_edges),
    ):
        image[schema.KNOWLEDGE_ELEMENT[f"ELEMENT_{element}"], : len(content)] = content
    image[_TRANSITIONS : _TRANSITIONS + states] = _bytes(transitions).reshape(states, stride)
    for name, section in sections.items():
        image[int(header[name]) : int(header[name]) + len(section)] = section
    return image


class Knowledge:
    """The probes' copy of the rules: its shape is settled before they are loaded."""

    def __init__(self, rules: RuleSet) -> None:
        image = build(rules, 1)
        self.cells = row_cells(rules.automaton)
        self._capacity = len(image) + max(len(image) // 2, _SLACK)
        self.epoch = 1
        self._first: int | None = self._fill(image)

    @classmethod
    def adopted(cls, shape: tuple[int, int, int]) -> Knowledge:
        """That of probes whose tracer is gone; ``shape``: as :attr:`shape` was there."""
        made = cls.__new__(cls)
        made.cells, made._capacity, made.epoch = shape  # noqa: SLF001 - its own
        made._first = None  # noqa: SLF001
        return made

    @property
    def shape(self) -> tuple[int, int, int]:
        """Cells of a row, elements there is room for, and the last epoch: for whoever goes on."""
        return self.cells, self._capacity, self.epoch

    @property
    def template(self) -> int:
        """Descriptor of a map of the right shape, until :meth:`install`."""
        assert self._first is not None
        return self._first

    def _fill(self, image: NDArray[np.uint8]) -> int:
        """A new map with ``image`` in it; its descriptor."""
        length = self._capacity * self.cells * _CELL
        fd = libbpf.create_array(b"vigiles_rules", self.cells * _CELL, self._capacity, mappable=True)
        try:
            with mmap.mmap(fd, -(-length // mmap.PAGESIZE) * mmap.PAGESIZE) as memory:
                memory[: image.size] = image.tobytes()
        except BaseException:
            os.close(fd)
            raise
        return fd

    def install(self, outer: Map) -> None:
        """Put the first image where the probes look for it."""
        outer.update(struct.pack("<I", 0), struct.pack("<i", self.template))
        self.close()

    def replace(self, outer: Map, rules: RuleSet) -> int:
        """Judge by ``rules`` from now on; the epoch that verdicts then carry. Raises RuleError."""
        image = build(rules, self.epoch + 1)
        if row_cells(rules.automaton) > self.cells or len(image) > self._capacity:
            raise RuleError(
                f"these rules are too large to be taken in while tracing: {len(image)} elements of "
                f"{row_cells(rules.automaton)} cells, there is room for {self._capacity} of {self.cells}",
                path="--rules",
                line=None,
                hint="start the watch anew with them",
            )
        if image.shape[1] < self.cells * _CELL:
            wide = np.zeros((len(image), self.cells * _CELL), U8)
            wide[:, : image.shape[1]] = image
            image = wide
        fd = self._fill(image)
        try:
            outer.update(struct.pack("<I", 0), struct.pack("<i", fd))
        finally:
            os.close(fd)
        self.epoch += 1
        return self.epoch

    def close(self) -> None:
        """Forget the template; what is installed stays with the probes."""
        if self._first is not None:
            os.close(self._first)
            self._first = None
