# SPDX-License-Identifier: Apache-2.0
"""Licences, layering and the build: what no single module would notice."""

from __future__ import annotations

import ast
import importlib.util
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PYTHON_LICENCE = "Apache-2.0"
PROBES_LICENCE = "GPL-2.0-only OR BSD-2-Clause"
MODULE_LICENCE = "GPL-2.0-only"  # what the kernel's own functions are for
OBJECT_NAMES = [f"vigiles.{arch}.{kind}bpf.o" for arch in ("x86", "arm64") for kind in ("", "plain.")]
NUMBA_COMPILERS = {
    "njit",
    "jit",
    "generated_jit",
    "vectorize",
    "guvectorize",
    "cfunc",
    "stencil",
    "jit_module",
}


def project_files() -> list[Path]:
    """List what git tracks or would track; in a source archive, everything."""
    listing = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    found = subprocess.run(listing, check=False, capture_output=True, text=True)
    if found.returncode == 0:
        files = [ROOT / name for name in found.stdout.split("\0") if name]
    else:  # a source archive, or somebody else's checkout
        files = [path for path in ROOT.rglob("*") if not {".venv", "__pycache__"} & set(path.parts)]
    return [path for path in files if path.is_file()]


def is_source(path: Path) -> bool:
    return (
        path.suffix in {".c", ".h", ".py", ".pyi", ".sh"}
        or path.name in {"Makefile", "pyproject.toml"}
        or path.parent == ROOT / ".ci"
    )


SOURCES = sorted(filter(is_source, project_files()))
PYTHON = [path for path in SOURCES if path.suffix == ".py"]
PROBES = [path for path in SOURCES if path.parent == ROOT / "probes" and path.suffix in {".c", ".h"}]


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


# -- licences


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_licence_line(path: Path):
    """Each source names the licence of its folder, first or right after the #! line."""
    head = path.read_text(encoding="utf-8").splitlines()[:2]
    expected = PROBES_LICENCE if path.is_relative_to(ROOT / "probes") else PYTHON_LICENCE
    if path.is_relative_to(ROOT / "tests/vm/nvidia"):
        expected = MODULE_LICENCE
    named = [
        match[1] for line in head if (match := re.search(r"SPDX-License-Identifier: (.*?)(?: \*/)?$", line))
    ]
    assert named == [expected]


def test_licence_of_the_object():
    """The kernel lets only some licences call what the probes call; it goes by this string."""
    declared = re.compile(r'SEC\("license"\)\s*=\s*"([^"]*)"')
    found = {name_of(path): declared.findall(path.read_text(encoding="utf-8")) for path in PROBES}
    assert {name: strings for name, strings in found.items() if strings} == {
        "probes/vigiles.bpf.c": ["Dual BSD/GPL"]
    }


def test_licence_texts():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["license"] == f"{PYTHON_LICENCE} AND ({PROBES_LICENCE})"
    for licence in re.findall(r"[\w.]+-[\w.-]+", project["license"]):
        assert (ROOT / "LICENSES" / f"{licence}.txt").is_file()
    assert (ROOT / "LICENSE").read_text(encoding="utf-8") == (ROOT / "LICENSES" / "Apache-2.0.txt").read_text(
        encoding="utf-8"
    )


# -- the probes


def functions_that_send() -> list[tuple[str, str]]:
    """List (place, text) from each call that can lose a record to the end of what it stands in."""
    places = []
    for path in PROBES:
        text = path.read_text(encoding="utf-8")
        for match in re.finditer(r"\bbpf_ringbuf_(?:reserve|output)\(", text):
            # a function ends with a brace in the first column, a macro with a line that goes no further
            line = text[text.rindex("\n", 0, match.start()) + 1 :]
            end = r"[^\\]\n" if line.splitlines()[0].endswith("\\") else r"\n\}"
            stop = re.search(end, line)
            number = text.count("\n", 0, match.start()) + 1
            places.append((f"{name_of(path)}:{number}", line[: stop.end() if stop else None]))
    return places


def test_every_lost_record_is_counted():
    places = functions_that_send()
    assert places, "no probe sends anything: has this test lost its way?"
    assert [
        place
        for place, text in places
        if not re.search(r"\blost\[|\bcount_lost\(|\bringbuf_discard\(", text.replace("bpf_", ""))
    ] == []


# -- layering


def compiles_by_itself(tree: ast.Module) -> list[int]:
    """List the lines that reach for one of Numba's compilers."""
    aliases = {"numba"}
    lines = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            aliases |= {name.asname for name in node.names if name.name == "numba" and name.asname}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "numba":
            lines += [node.lineno for name in node.names if name.name in NUMBA_COMPILERS]
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in NUMBA_COMPILERS:
            base = node.value
            while isinstance(base, ast.Attribute):
                base = base.value
            if isinstance(base, ast.Name) and base.id in aliases:
                lines.append(node.lineno)
    return lines


@pytest.mark.parametrize(
    "path", [path for path in PYTHON if path.is_relative_to(ROOT / "tracer")], ids=name_of
)
def test_only_jit_compiles(path: Path):
    """How kernels are compiled is said in tracer/jit.py alone."""
    found = compiles_by_itself(ast.parse(path.read_text(encoding="utf-8")))
    assert bool(found) == (path == ROOT / "tracer" / "jit.py"), f"lines {found}"


@pytest.mark.parametrize(
    "text",
    [
        "import numba\n@numba.njit\ndef f(): pass",
        "import numba as nb\ng = nb.core.decorators.jit(cache=True)",
        "from numba import njit as n",
        "from numba.core.decorators import jit",
    ],
)
def test_the_check_finds(text: str):
    assert compiles_by_itself(ast.parse(text))


@pytest.mark.parametrize("module", ["tracer", "tracer.errors", "tracer.cli"])
def test_importing_does_not_load_numba(module: str):
    """`vigiles --help` must not wait for a compiler."""
    code = f"import sys, {module}; print(*sorted({{'numba', 'llvmlite'}} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert result.stdout.split() == []


# -- the build


def load_build():
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "probes" / "hatch_build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def build():
    return load_build()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Copy what the objects are built from."""
    (tmp_path / "tree").mkdir()
    shutil.copytree(
        ROOT / "probes", tmp_path / "tree" / "probes", ignore=shutil.ignore_patterns("__pycache__")
    )
    return tmp_path / "tree"


def test_objects_are_the_same_from_anywhere(build, tree: Path, tmp_path: Path):
    elsewhere = tmp_path / "some" / "where" / "else"
    shutil.copytree(tree, elsewhere)
    one, two = build.build(tree), build.build(elsewhere)
    assert len(one) == len(build.ARCHITECTURES) * len(build.KINDS)
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]


def test_only_what_changed_is_built(build, tree: Path):
    objects = build.build(tree)
    assert build.build(tree) == []
    objects[0].unlink()
    assert build.build(tree) == objects[:1]
    (tree / "probes" / "events.h").touch()
    assert build.build(tree) == objects


def test_a_failed_build_keeps_the_former_object(build, tree: Path):
    before = [path.read_bytes() for path in build.build(tree)]
    (tree / "probes" / "vigiles.bpf.c").write_text("this is no C;\n", encoding="ascii")
    with pytest.raises(build.BuildError, match="could not compile"):
        build.build(tree)
    assert {path.name for path in (tree / build.OBJECTS).iterdir()} == set(OBJECT_NAMES)
    assert [(tree / build.OBJECTS / name).read_bytes() for name in OBJECT_NAMES] == before


def test_missing_clang_is_named(build, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CLANG", raising=False)
    with pytest.raises(build.BuildError, match="clang is missing: install the package clang"):
        build.build(tree)


def test_newest_clang_is_found(build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("clang-9", "clang-16", "clang-format-20", "clang-14"):
        (tmp_path / name).touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CLANG", raising=False)
    assert build.find_clang() == str(tmp_path / "clang-16")


def test_shipped_object(build):
    """What was compiled last: it has its BTF, its licence and no DWARF."""
    from elftools.elf import elffile

    for name in OBJECT_NAMES:
        with (ROOT / build.OBJECTS / name).open("rb") as file:
            elf = elffile.ELFFile(file)
            assert elf.get_section_by_name("license").data() == b"Dual BSD/GPL\0"
            assert elf.get_section_by_name(".BTF")
            assert elf.get_section_by_name(".BTF.ext")
            assert not elf.get_section_by_name(".debug_info")
