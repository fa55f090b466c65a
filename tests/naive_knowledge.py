# SPDX-License-Identifier: Apache-2.0
"""The walk of probes/knowledge.bpf.h, place.bpf.h and of what calls them, over the bytes of the image alone."""

from __future__ import annotations

import numpy as np

from tracer.kernel import schema

ELEMENT = 256
CLASSES, EDGES, WIRE_CLASSES, WIRE_EDGES, TRANSITIONS = 1, 2, 3, 4, 8
NAME, PATH, ARGS, SENT, RECEIVED, FILE_NAME = 1, 2, 4, 8, 16, 128
EDGE_HOST, BIT_ALNUM, BIT_DOT = 3, 6, 7
LIST_MAX = 32
ON_EXEC, ON_FLOW, ON_STAY = 0, 2, 6


def fact(number: int) -> int:
    """A fact is written down as 1 + its bit."""
    return 1 << number - 1 if number else 0


class Image:
    """``image`` uint8[elements, stride]."""

    def __init__(self, image: np.ndarray) -> None:
        self.elements = [row.tobytes() for row in image]
        self.header = np.frombuffer(self.elements[0], schema.KNOWLEDGE_HEADER, 1)[0]
        self.cells = image.shape[1] // 4

    def word(self, section: int, place: int) -> int:
        """A 32-bit cell of a list; only the first 256 bytes of an element are used."""
        at = place % 64 * 4
        return int.from_bytes(self.elements[section + place // 64][at : at + 4], "little")

    def pattern(self, number: int) -> np.void:
        element = self.elements[int(self.header["patterns"]) + number // 8]
        return np.frombuffer(element[:ELEMENT], schema.KNOWLEDGE_PATTERN)[number % 8]

    def literal(self, first: int, length: int) -> bytes:
        section = int(self.header["literals"])
        places = range(first, first + length)
        return bytes(self.elements[section + at // ELEMENT][at % ELEMENT] for at in places)

    def holds(self, text: bytes, end: int, number: int, where: int, edges: bytes) -> tuple[int, int] | None:
        """Word and mask of the pattern that ends before ``end``, if it stands as it must."""
        p = self.pattern(number)
        start = end - int(p["length"])
        after = text[end] if end < len(text) else 0
        if not int(p["where"]) & where:
            return None
        if not edges[text[start - 1] if start > 0 else 0] >> int(p["left"]) & 1:
            return None
        if not edges[after] >> int(p["right"]) & 1:
            return None
        dot = int(p["right"]) == EDGE_HOST and edges[after] >> BIT_DOT & 1
        if dot and edges[(text + b"\0\0")[end + 1]] >> BIT_ALNUM & 1:
            return None
        if p["exact"] and text[start:end] != self.literal(int(p["exact"]) - 1, int(p["length"])):
            return None
        return int(p["word"]), int(p["mask"])

    def walk(self, text: bytes, where: int, signals: list[int]) -> None:
        wire = where & (SENT | RECEIVED)
        classes = self.elements[WIRE_CLASSES if wire else CLASSES]
        edges = self.elements[WIRE_EDGES if wire else EDGES]
        header, state = self.header, 0
        for at, byte in enumerate(text):
            place = (classes[byte] & self.cells - 1) * 4
            state = int.from_bytes(self.elements[TRANSITIONS + state][place : place + 4], "little")
            assert state < int(header["states"])
            if state < int(header["first_output"]):
                continue
            output = self.word(int(header["outputs"]), state - int(header["first_output"]))
            assert 0 < output & 63 <= LIST_MAX
            for entry in range(output >> 6, (output >> 6) + (output & 63)):
                number = self.word(int(header["lists"]), entry)
                if found := self.holds(text, at + 1, number, where, edges):
                    signals[found[0]] |= found[1]

    def judge(self, signals: list[int], on: int) -> int:
        """1 + the row of the severest alternative that holds, or 0."""
        first = int(self.header["rules"]) + int(self.header["rule_from"][on])
        for number in range(first, first + int(self.header["rule_count"][on])):
            element = self.elements[number][: schema.KNOWLEDGE_RULE.itemsize]
            rule = np.frombuffer(element, schema.KNOWLEDGE_RULE, 1)[0]
            every, some, none = ([int(w) for w in rule[key]] for key in ("all", "any", "none"))
            if any(w & ~s or n & s for w, n, s in zip(every, none, signals, strict=True)):
                continue
            if sum((w & s).bit_count() for w, s in zip(some, signals, strict=True)) >= int(rule["at_least"]):
                return int(rule["row"]) + 1
        return 0

    def walk_name(self, text: bytes, signals: list[int]) -> None:
        self.walk(text.partition(b"\0")[0].rpartition(b"/")[2], NAME, signals)

    def judge_exec(
        self,
        path: bytes,
        called: bytes,
        args: bytes,
        flags: int = 0,
        stdio: tuple[int, int] = (0, 0),
        file: int = 0,
    ) -> tuple[list[int], int]:
        """The twin in probes/exec.bpf.h; the path has no NUL. ``file``: as numbers.file_number has it."""
        signals = [0] * 6
        self.walk(path, PATH, signals)
        self.walk_name(path, signals)
        name = path.rpartition(b"/")[2].removeprefix(b"-")
        self.walk(name, FILE_NAME, signals)
        self.walk(name.rstrip(b"0123456789."), FILE_NAME, signals)
        self.walk_name(called, signals)
        first, _, rest = args.partition(b"\0")
        self.walk_name(first, signals)
        self.walk(rest, ARGS, signals)
        self.add_range(3, file, signals)
        for bit in range(16):
            if flags >> bit & 1:
                signals[0] |= fact(int(self.header["flag_facts"][bit]))
        for descriptor in range(2):
            signals[0] |= fact(int(self.header["stdio_facts"][descriptor][stdio[descriptor]]))
        return signals, self.judge(signals, ON_EXEC)

    def add_range(self, space: int, number: int, signals: list[int]) -> None:
        """The last range that does not begin behind the number, looked for one by one."""
        last = None
        for place in range(int(self.header["range_count"])):
            element = self.elements[int(self.header["ranges"]) + place // 2][:ELEMENT]
            row = np.frombuffer(element, schema.KNOWLEDGE_RANGE)[place % 2]
            if (int(row["space"]), int(row["high"]) << 64 | int(row["low"])) <= (space, number):
                last = row
        for word in range(len(signals)):
            signals[word] |= int(last["signals"][word])

    def judge_place(self, address, port: int, protocol: int) -> tuple[list[int], bool]:
        """As judge_place in the probe does for connects: signals, and whether it may stay in quarantine."""
        signals = [0] * 6
        number = int(address) if address.version == 6 else 0xFFFF << 32 | int(address)
        self.add_range(0, number, signals)
        header = self.header
        if not signals[0] & (fact(int(header["internal_fact"])) | fact(int(header["loopback_fact"]))):
            signals[0] |= fact(int(header["external_fact"]))
        if protocol != 6:
            signals[0] |= fact(int(header["datagrams_fact"]))
        self.add_range(1, protocol << 16 | port, signals)
        return signals, self.judge(signals, ON_STAY) != 0

    def judge_first(self, text: bytes, received: bool, before: list[int]) -> tuple[list[int], int]:
        """The twin in probes/first.bpf.c; ``before``: what the flow had already."""
        signals = list(before)
        self.walk(text, RECEIVED if received else SENT, signals)
        return signals, self.judge(signals, ON_FLOW)
