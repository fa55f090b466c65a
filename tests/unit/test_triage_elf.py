# SPDX-License-Identifier: Apache-2.0
"""What the structure of files tells: files of this host, small ones made for the test, and broken ones."""

from __future__ import annotations

import os
import struct
import sys
from pathlib import Path

import pytest
from elf_files import (
    INTERP,
    LOAD,
    MODULES,
    PATIENT,
    R,
    W,
    X,
    cubin,
    elf_file,
    facts_of,
    fatbin,
    file_of,
    symbol,
)
from elftools.elf.elffile import ELFFile
from hypothesis import given, settings
from hypothesis import strategies as st

from tracer.triage import bounded
from tracer.triage.bounded import Limits, NotRegularError
from tracer.triage.elf import read_elf


def small_program() -> bytes:
    """A file with one of everything."""
    strings = b"\0randomx_create_vm\0randomx_calculate_hash\0memfd_create\0"
    symbols = (
        bytes(24)
        + symbol(1, 1)
        + symbol(strings.index(b"randomx_calc"), 1)
        + symbol(strings.index(b"memfd"), 0)
    )
    build = b"\xff Go buildinf:\x08\x02" + bytes(16) + b"\x061.23.4" + bytes([len(MODULES) & 0x7F | 0x80])
    build += bytes([len(MODULES) >> 7]) + MODULES
    ptx = b".visible .entry ethash_search(\n"
    return elf_file(
        [
            (".text", 1, b"\x90" * 64, 0),
            (".strtab", 3, strings, 0),
            (".symtab", 2, symbols, 2),
            (".go.buildinfo", 1, build, 0),
            (".rodata", 1, b"/rustc/x/.cargo/registry/src/index-1/bore-cli-0.5.0/src/a.rs", 0),
            (".nv_fatbin", 1, fatbin((1, 0, ptx), (2, 0, cubin("_Z4kernPf")), (1, 0x2000, b"zzzzzzzz")), 0),
        ],
        [(LOAD, R | X, b"\x90" * 64), (INTERP, R, b"/lib64/ld.so\0"), (LOAD, R | W, bytes(64))],
    )


def test_one_of_everything():
    found = facts_of(small_program())
    assert found.problems == ()
    assert found.kind == "elf"
    assert (found.bits, found.machine, found.type) == (64, "x86_64", "executable")
    assert found.interpreter == b"/lib64/ld.so"
    assert set(found.defined) == {b"randomx_create_vm", b"randomx_calculate_hash"}
    assert found.imported == (b"memfd_create",)
    assert found.go is not None
    assert (found.go.path, found.go.module) == (b"example.org/a/cmd/a", b"example.org/a v1.2.3")
    assert found.go.dependencies == (b"example.org/b v0.1.0",)
    assert found.crates == (b"bore-cli 0.5.0",)
    assert found.gpu is not None
    assert set(found.gpu.kernels) == {b"ethash_search", b"_Z4kernPf"}
    assert (found.gpu.entries, found.gpu.unread) == (3, 1)
    assert found.facts >= {
        "go-program",
        "rust-program",
        "gpu-code",
        "gpu-code-unread",
        "pow-kernels",
        "pow-functions",
    }
    assert not found.facts & {"stripped", "static", "hostile-elf", "packed", "no-sections", "unread"}


@pytest.mark.parametrize("program", ["/bin/ls", "/bin/sh", "/usr/bin/env", sys.executable])
def test_as_another_reader_sees_it(program: str):
    if not Path(program).exists():
        pytest.skip(f"no {program}")
    with Path(program).open("rb") as file:
        found = read_elf(file.fileno(), limits=PATIENT)
        elf = ELFFile(file)
        dynamic = elf.get_section_by_name(".dynamic")
        needed = [tag.needed.encode() for tag in dynamic.iter_tags() if tag.entry.d_tag == "DT_NEEDED"]
        interpreter = next(s.get_interp_name() for s in elf.iter_segments() if s["p_type"] == "PT_INTERP")
        stripped = elf.get_section_by_name(".symtab") is None
        bits = elf.elfclass
    assert (found.kind, found.problems) == ("elf", ())
    assert list(found.needed) == needed
    assert found.interpreter.decode() == interpreter
    assert ("stripped" in found.facts) == stripped
    assert found.bits == bits
    assert found.machine == os.uname().machine
    assert not found.facts & {
        "packed",
        "hostile-elf",
        "static",
        "random-code",
        "appended",
        "not-elf",
        "unread",
    }


@pytest.mark.parametrize(
    ("data", "kind", "facts"),
    [
        (b"", "empty", {"not-elf"}),
        (b"#!/bin/sh -e\ntrue\n", "script", {"script-file"}),
        (b"MZ\x90\0", "other", {"not-elf"}),
        (b"\x7fELF", "elf", {"hostile-elf"}),
        (b"\x7fELF\x09\x09\x01" + bytes(60), "elf", {"hostile-elf"}),
    ],
)
def test_what_is_no_program(data: bytes, kind: str, facts: set[str]):
    found = facts_of(data)
    assert (found.kind, found.facts) == (kind, facts)


def test_the_interpreter_of_a_script():
    assert facts_of(b"#! /usr/bin/env python3 \nx").interpreter == b"/usr/bin/env python3"


def test_every_truncation():
    data = small_program()
    for size in range(len(data)):
        found = facts_of(data[:size])
        # but for the padding at the very end, the loss is noticed
        assert found.kind in {"elf", "empty", "other"}
        assert size < 5 or "hostile-elf" in found.facts


@given(
    st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), min_size=1, max_size=12), st.booleans()
)
@settings(max_examples=400)
def test_flipped_bytes(changes: list[tuple[int, int]], front: bool):
    """Whatever the headers say: an answer, from no more bytes than the budget allows."""
    data = bytearray(small_program())
    for place, value in changes:
        data[place % (232 if front else len(data))] = value
    limits = Limits(seconds=600, structure_bytes=1 << 16, table_bytes=1 << 12)
    read = 0

    def pread(fd: int, size: int, offset: int) -> bytes:
        nonlocal read
        part = os.pread(fd, size, offset)
        read += len(part)
        return part

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            bounded, "os", type("os", (), {"pread": staticmethod(pread), "fstat": staticmethod(os.fstat)})
        )
        facts_of(bytes(data), limits)
    assert read <= limits.structure_bytes


@pytest.mark.parametrize(
    ("place", "kind", "value"),
    [
        (32, "<Q", 1 << 63),  # program headers beyond everything
        (32, "<Q", 0),  # over the ELF header
        (40, "<Q", (1 << 64) - 64),  # section headers that would wrap around
        (40, "<Q", 64),  # over the program headers
        (56, "<H", 0xFFFF),  # as many program headers as can be
        (60, "<H", 0xFFFF),  # and section headers
        (62, "<H", 3),  # another section's content as names
        (54, "<H", 0),  # headers of no size
        (58, "<H", 1),
    ],
)
def test_headers_that_lie(place: int, kind: str, value: int):
    data = bytearray(small_program())
    struct.pack_into(kind, data, place, value)
    found = facts_of(bytes(data))
    assert found.kind == "elf"
    assert found.bits == 64


def test_more_sections_than_the_header_can_say():
    data = bytearray(small_program())
    table = struct.unpack_from("<Q", data, 40)[0]
    struct.pack_into("<H", data, 60, 0)
    struct.pack_into("<Q", data, table + 32, 1 << 50)
    found = facts_of(bytes(data))
    assert any("section headers, only the first" in problem for problem in found.problems)
    assert "unread" in found.facts


def test_symbols_that_refer_to_themselves():
    data = elf_file([(".symtab", 2, symbol(1, 1) * 4, 1), (".dynsym", 11, symbol(1, 1), 9)])
    assert facts_of(data).defined == ()


def test_tables_beyond_the_budget():
    big = elf_file([(".strtab", 3, b"\0" * 100_000, 0), (".symtab", 2, symbol(0, 1) * 5000, 1)])
    assert "unread" in facts_of(big, Limits(seconds=600, table_bytes=1000)).facts
    found = facts_of(big, Limits(seconds=600, structure_bytes=4000))
    assert found.problems == ("too much to read",)
    assert "unread" in found.facts
    assert facts_of(big, Limits(seconds=0)).problems == ("took too long",)


def test_crates_without_sections():
    source = b"/rustc/x/.cargo/registry/src/index-1/bore-cli-0.5.0/src/a.rs"
    found = facts_of(elf_file(segments=[(LOAD, R, source), (LOAD, R | X, bytes(64))], headers=False))
    assert found.crates == (b"bore-cli 0.5.0",)


def test_a_terabyte_of_nothing():
    with file_of(small_program(), size=1 << 40) as fd:
        found = read_elf(fd, limits=PATIENT)
    assert found.go is not None
    assert "appended" in found.facts


def test_only_regular_files(tmp_path: Path):
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path, tmp_path / "fifo", Path("/dev/null")):
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            with pytest.raises(NotRegularError):
                read_elf(fd)
        finally:
            os.close(fd)


def test_a_file_that_shrinks():
    """The size is what it was a moment ago; the rest is gone."""
    data = small_program()
    with file_of(data) as fd:
        whole = read_elf(fd, limits=PATIENT)
        os.ftruncate(fd, 200)
        cut = read_elf(fd, size=len(data), limits=PATIENT)
    assert whole.problems == ()
    assert "hostile-elf" in cut.facts
