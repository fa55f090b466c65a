# SPDX-License-Identifier: Apache-2.0
"""The facts about an executed file, by name: what rules on "file" refer to as ``@name``."""

from __future__ import annotations

#: In detect/facts.py these are registered with the others.
FILE_FACTS: tuple[tuple[str, str], ...] = (
    ("packed", "the program is compressed or encrypted and unpacks itself when it runs"),
    ("upx", "the file bears the marks of the packer UPX"),
    ("random-code", "most of what is loaded as code looks like random bytes"),
    ("writable-code", "a part of the program is both writable and executable"),
    ("entry-elsewhere", "the first instruction lies outside of all executable parts of the file"),
    ("no-sections", "the ELF file has no section headers"),
    ("stripped", "the ELF file has no symbol table"),
    ("static", "the program needs no dynamic linker"),
    ("appended", "much data lies behind what the ELF headers describe"),
    ("hostile-elf", "the ELF headers contradict each other or the file"),
    ("other-machine", "an ELF file for another kind of processor than this host's"),
    ("go-program", "compiled from Go"),
    ("go-anonymous", "a Go program without its build information"),
    ("rust-program", "compiled from Rust"),
    ("gpu-code", "the file contains code for NVIDIA GPUs"),
    ("gpu-code-unread", "the file's GPU code is compressed: not all kernel names can be told"),
    ("gpu-libraries", "linked to a library that computes on GPUs (CUDA, HIP, OpenCL)"),
    ("pow-functions", "the symbol table defines functions of a proof of work (randomx_…, ethash_…)"),
    ("pow-kernels", "among the GPU kernels are those of a proof of work"),
    ("script-file", "a text whose first line names its interpreter (#!)"),
    ("not-elf", "neither an ELF file nor a script"),
    ("changed", "the file was changed while it was examined"),
    ("unread", "not all of the file was looked at: too big, or out of time"),
)
