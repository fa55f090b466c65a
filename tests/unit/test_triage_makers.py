# SPDX-License-Identifier: Apache-2.0
"""What files tell about their makers: Go, Rust, GPU code, packers, and the host's own compiler."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import pytest
from elf_files import DYNAMIC, LOAD, MODULES, PATIENT, R, W, X, compiled, cubin, elf_file, facts_of, fatbin

from tracer.triage.elf import read_elf
from tracer.triage.packing import entropy
from tracer.triage.work import is_work_kernel

NOISE = random.Random(1).randbytes(1 << 17)


# -- Go


def test_go_by_pointers():
    """As before Go 1.18: the addresses of string headers."""
    at = 64 + 56 + 8  # behind ELF and program header, aligned
    at += -at % 16
    base = 0x400000 + at
    text = b"go1.16.5"
    body = b"\xff Go buildinf:\x08\0" + struct.pack("<QQ", base + 32, base + 48)
    body += struct.pack("<QQ", base + 64, len(text)) + struct.pack("<QQ", base + 64 + len(text), len(MODULES))
    body += text + MODULES
    found = facts_of(elf_file(segments=[(LOAD, R | W, body)], headers=False))
    assert found.go is not None
    assert (found.go.version, found.go.module) == (b"go1.16.5", b"example.org/a v1.2.3")


@pytest.mark.parametrize(
    "flags", [b"\x00\x00", b"\x08\x00", b"\x08\x01", b"\x04\x00", b"\x08\x02", b"\xff\xff"]
)
@pytest.mark.parametrize("rest", [b"\xff" * 32, b"\x00" * 32, b"\x80" * 64])
def test_go_nonsense(flags: bytes, rest: bytes):
    found = facts_of(elf_file([(".go.buildinfo", 1, b"\xff Go buildinf:" + flags + rest, 0)]))
    assert found.facts >= {"go-program", "go-anonymous"}


def test_go_without_build_information():
    assert facts_of(elf_file([(".gopclntab", 1, b"x", 0)])).facts >= {"go-program", "go-anonymous"}
    assert "go-program" not in facts_of(elf_file([(".text", 1, b"x", 0)])).facts


# -- GPU code


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 4096,
        b"nonsense" * 8,
        fatbin((2, 0, b"no elf")),
        fatbin((9, 0, b"what")),
        fatbin((1, 0, b".entry a(")) * 3,
        fatbin((1, 0, b".entry a("))[:-8],
        struct.pack("<IHHQ", 0xBA55ED50, 1, 16, 1 << 60),
        struct.pack("<IHHQ", 0xBA55ED50, 1, 0, 0) * 100,
        struct.pack("<IHHQ", 0xBA55ED50, 1, 16, 64) + bytes(64),
    ],
)
def test_gpu_code_of_any_form(content: bytes):
    found = facts_of(elf_file([(".nv_fatbin", 1, content, 0)]))
    assert "gpu-code" in found.facts
    assert found.gpu is not None
    assert set(found.gpu.kernels) <= {b"a"}


def test_gpu_code_without_end():
    found = facts_of(elf_file([(".nv_fatbin", 1, fatbin(*[(1, 0, b"x")] * 3000), 0)]))
    assert found.facts >= {"gpu-code-unread", "unread"}


@pytest.mark.parametrize(
    "name",
    [b"ethash_search", b"_Z14progpow_searchPf", b"x11_luffa512_gpu_hash_64", b"cryptonight_core_gpu_phase1"],
)
def test_kernels_of_miners(name: bytes):
    assert is_work_kernel(name)


@pytest.mark.parametrize(
    "name",
    [
        b"_ZN2at6native29vectorized_elementwise_kernelILi4E", b"ampere_sgemm_128x64_tn", b"flash_fwd_kernel",
        b"hash_table_insert", b"m01000_sxx", b"cub_DeviceReduceKernel", b"ncclKernel_AllReduce_RING_LL_Sum_float",
    ],
)  # fmt: skip
def test_kernels_of_others(name: bytes):
    assert not is_work_kernel(name)


# -- packers


def test_entropy():
    assert entropy(b"") == 0
    assert entropy(b"a" * 100) == 0
    assert entropy(bytes(range(256))) == 8
    assert entropy(NOISE) > 7.9


def test_as_upx_leaves_it():
    stub = b"UPX!" + NOISE
    found = facts_of(elf_file(segments=[(LOAD, R | W, bytes(16)), (LOAD, R | X, stub)], headers=False))
    assert found.facts >= {"packed", "upx", "no-sections", "random-code", "static", "stripped"}


def test_a_packer_without_marks():
    found = facts_of(elf_file(segments=[(LOAD, R | W | X, NOISE)], headers=False))
    assert found.facts >= {"packed", "writable-code", "no-sections"}
    assert "upx" not in found.facts


def test_the_mark_alone_is_not_enough():
    """Scanners and UPX itself contain it."""
    found = facts_of(elf_file([(".text", 1, b"UPX!" * 4, 0)], [(LOAD, R | X, b"UPX!" * 4096)]))
    assert "upx" in found.facts
    assert "packed" not in found.facts


def test_an_entry_in_the_data():
    data = elf_file(segments=[(LOAD, R | X, b"\x90" * 64), (LOAD, R | W, bytes(64))], entry=0x400000 + 300)
    assert "entry-elsewhere" in facts_of(data).facts


def test_appended_data():
    data = elf_file([(".text", 1, b"x", 0)], [(LOAD, R | X, b"\x90" * 64)])
    assert "appended" not in facts_of(data + bytes(1000)).facts
    assert "appended" in facts_of(data + NOISE).facts


def test_another_machine():
    assert "other-machine" in facts_of(elf_file(machine=22)).facts


def test_libraries_without_sections():
    """The dynamic section is found as the dynamic linker finds it."""
    names = b"\0libcuda.so.1\0libc.so.6\0"
    probe = elf_file(segments=[(LOAD, R, names), (DYNAMIC, R, bytes(80))], headers=False)
    address = 0x400000 + probe.index(names)
    entries = ((1, 1), (1, 14), (5, address), (10, len(names)), (0, 0))
    dynamic = b"".join(struct.pack("<QQ", *entry) for entry in entries)
    found = facts_of(elf_file(segments=[(LOAD, R, names), (DYNAMIC, R, dynamic)], headers=False))
    assert found.needed == (b"libcuda.so.1", b"libc.so.6")
    assert "gpu-libraries" in found.facts


# -- programs of the host's own compiler

SOURCE = """
#define KEEP __attribute__((noinline, used))
KEEP int randomx_create_vm(int x) { return x + 1; }
KEEP int randomx_calculate_hash(int x) { return x + 2; }
int main(int argc, char **argv) { return randomx_create_vm(argc) + randomx_calculate_hash(argc) == 0; }
"""


def test_a_compiled_program(tmp_path: Path):
    program = compiled(tmp_path, SOURCE)
    with program.open("rb") as file:
        found = read_elf(file.fileno(), limits=PATIENT)
    assert set(found.defined) >= {b"randomx_create_vm", b"randomx_calculate_hash"}
    assert "pow-functions" in found.facts
    assert not found.facts & {"stripped", "static", "packed", "hostile-elf"}


def test_a_static_and_stripped_program(tmp_path: Path):
    program = compiled(tmp_path, SOURCE, "-static", "-s")
    with program.open("rb") as file:
        found = read_elf(file.fileno(), limits=PATIENT)
    assert found.facts >= {"static", "stripped"}
    assert not found.facts & {"pow-functions", "packed", "hostile-elf"}


def test_a_program_without_sections(tmp_path: Path):
    program = compiled(tmp_path, SOURCE)
    data = bytearray(program.read_bytes())
    data[40:48] = bytes(8)
    data[60:62] = bytes(2)
    found = facts_of(bytes(data))
    assert found.facts >= {"no-sections", "stripped"}
    assert b"libc.so.6" in found.needed
    assert "packed" not in found.facts


def test_a_section_of_gpu_code(tmp_path: Path):
    blob = tmp_path / "blob"
    blob.write_bytes(fatbin((2, 0, cubin("ethash_search", "other"))))
    source = SOURCE + f'__asm__(".section .nv_fatbin,\\"a\\"\\n.incbin \\"{blob}\\"\\n.text");'
    with compiled(tmp_path, source).open("rb") as file:
        found = read_elf(file.fileno(), limits=PATIENT)
    assert found.gpu is not None
    assert set(found.gpu.kernels) == {b"ethash_search", b"other"}
    assert "pow-kernels" in found.facts


def test_what_is_kept_is_bounded():
    """A file may not fill our memory by way of what is remembered of it."""
    ptx = b"".join(b".entry k%d%s(" % (n, b"x" * 1000) for n in range(600)) + b".entry ethash_search("
    lines = b"".join(b"dep\texample.org/%d%s\tv1\n" % (n, b"y" * 400) for n in range(600))
    build = b"\xff Go buildinf:\x08\x02" + bytes(16) + b"\x01v"
    build += bytes([len(lines) & 0x7F | 0x80, len(lines) >> 7 & 0x7F | 0x80, len(lines) >> 14]) + lines
    data = elf_file([(".nv_fatbin", 1, fatbin((1, 0, ptx)), 0), (".go.buildinfo", 1, build, 0)])
    found = facts_of(data)
    assert found.gpu is not None
    assert found.go is not None
    for strings in (found.gpu.kernels, found.go.dependencies):
        assert len(strings) == PATIENT.strings
        assert max(map(len, strings)) <= PATIENT.string_bytes
    assert found.gpu.kernels[0] == b"ethash_search"
    assert "pow-kernels" in found.facts
