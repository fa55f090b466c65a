# SPDX-License-Identifier: Apache-2.0
"""The engine as one shared object: the same as Numba's, to the byte, and all that Python calls is in it."""

from __future__ import annotations

import ast
import json
import os
import random
import shutil
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import records
from engine_digest import digest
from wire_samples import HARMLESS, SAMPLES

from tracer import jit
from tracer import linked as linking
from tracer.engine import processes
from tracer.engine.tap import lay_out
from tracer.kernel import schema
from tracer.linked import Linked, types_of
from tracer.linked import lay_out as words_of_arguments

ROOT = Path(__file__).parents[2]
TRACER = ROOT / "tracer"
DECORATORS = {"njit", "allocating", "inline", "kernel", "entry", "compiled_entry", "inline_kernel", "gate"}


# -- what Python calls


def kernels() -> dict[str, set[str]]:
    """The names of compiled functions, by module."""
    found = {}
    for path in TRACER.rglob("*.py"):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        found[module] = {node.name for node in ast.parse(path.read_text()).body if is_kernel(node)}
    return found


def is_kernel(node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef) and any(
        isinstance(decorator, ast.Name) and decorator.id in DECORATORS for decorator in node.decorator_list
    )


def called_from_python(module: str, tree: ast.Module, known: dict[str, set[str]]) -> set[str]:
    """Kernels that code of ``tree`` calls which isn't compiled itself."""
    names = {name: f"{module}.{name}" for name in known.get(module, ())}
    modules = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                called = alias.asname or alias.name
                if alias.name in known.get(node.module, ()):
                    names[called] = f"{node.module}.{alias.name}"
                if f"{node.module}.{alias.name}" in known:
                    modules[called] = f"{node.module}.{alias.name}"
    found = set()

    def visit(node: ast.AST) -> None:
        if is_kernel(node):
            return
        if isinstance(node, ast.Call):
            function = node.func
            if isinstance(function, ast.Name) and function.id in names:
                found.add(names[function.id])
            elif isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name):
                inside = modules.get(function.value.id)
                if inside and function.attr in known[inside]:
                    found.add(f"{inside}.{function.attr}")
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(tree)
    return found


def test_whatever_python_calls_has_a_gate():
    from tracer.engine.gates import gates
    from tracer.linked import name_of

    known = kernels()
    found = set()
    for path in TRACER.rglob("*.py"):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        found |= called_from_python(module, ast.parse(path.read_text()), known)
    listed = {name_of(gate.function.py_func) for gate in gates()}
    assert found == listed


def test_calls_are_found_wherever_they_are():
    known = {"tracer.a": {"f"}, "tracer.b": {"g"}, "tracer.c": {"h"}}
    text = """
from tracer.a import f as x
from tracer import b
@njit
def h(): x()
class C:
    def m(self): return [b.g(1) for _ in x()]
h()
"""
    assert called_from_python("tracer.c", ast.parse(text), known) == {
        "tracer.a.f",
        "tracer.b.g",
        "tracer.c.h",
    }


# -- the same


@pytest.fixture(scope="module")
def engine() -> Path:
    """The linked engine of these very sources."""
    if shutil.which("ld") is None:
        pytest.skip("there is no linker")
    path = jit.linked_path()
    if path is None:
        pytest.skip("no directory here is safe from others")
    if not path.exists():
        from tracer.linker import link

        assert link() == path
    return path


def everything() -> list[bytes]:
    """Records of every kind: some that mean something, and some whose every byte is made up."""
    found = [
        records.execute([b"bash"], b"/bin/bash", tgid=1, ts=1),
        records.fork(2, 2000, 1, 1000, (1, 1000, 7), ts=2),
        records.execute([b"/opt/xmrig", b"-o", b"stratum+tcp://pool.test:3333"], b"/opt/xmrig", tgid=2, ts=3),
        records.execute(
            [b"ssh", b"-NR", b"8080:localhost:80", b"u@203.0.113.9"], b"/usr/bin/ssh", tgid=2, ts=4
        ),
        records.execute(
            [b"w", b"-a", b"4" + b"A" * 94, b"bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4"], b"/w", tgid=2
        ),
        records.span_begin((1, 1000, 7), b'{"tool":"bash"}', ts=5),
        records.span_end((1, 1000, 7), ts=6),
        records.tamper("TAMPER_SIGNAL", tgid=2, ts=7, number=9),
        records.file(np.ones(schema.FILE["signals"].shape, np.int64), tgid=2, ts=8),
        records.foothold("STARTUP", b"/root/.bashrc", tgid=2, ts=9),
        records.local_connect(b"/run/docker.sock", tgid=2, ts=10),
        *(records.connect(f"10.0.{n >> 8}.{n & 255}", 22, tgid=2, ts=20 + n, cookie=n) for n in range(300)),
        *(
            records.close(n, f"10.0.{n >> 8}.{n & 255}", 22, tgid=2, ts=400 + n, error=111)
            for n in range(300)
        ),
        *(
            records.sample(1 + n % 4, tgid=2, ts=10**9 + n * 10**7, sent=n * 99, received=n * 77)
            for n in range(400)
        ),
    ]
    found += [
        records.first(
            sample.data[:512],
            port=(443, 53, 3333, 22)[number % 4],
            received=received,
            tgid=2,
            ts=10**10 + number,
            cookie=5000 + number,
            protocol=sample.transport,
        )
        for number, sample in enumerate((*SAMPLES, *HARMLESS))
        for received in (False, True)
    ]
    chance = random.Random(1)
    for _ in range(40):
        for kind, layout in schema.LAYOUT.items():
            row = np.frombuffer(chance.randbytes(layout.itemsize), layout).copy()
            row["kind"], row["tgid"], row["start"] = (
                kind,
                chance.choice((1, 2, 3)),
                chance.choice((1000, 2000)),
            )
            row["size"] = layout.itemsize
            found.append(row.tobytes() + chance.randbytes(chance.choice((0, 40, 600))))
    return found


def test_it_makes_the_same_of_everything_as_numba_does(engine: Path, tmp_path: Path):
    stream = everything()
    kinds = {record[schema.HEAD.fields["kind"][1]] for record in stream}
    assert kinds == set(schema.LAYOUT)
    laid = lay_out(stream)
    (tmp_path / "records").write_bytes(laid)
    run = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "engine_digest.py"), str(tmp_path / "records")],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert run.returncode == 0, run.stderr
    linked = json.loads(run.stdout)
    assert linked.pop("failures") == 0
    here = json.loads(json.dumps(digest(laid)))
    assert len(here["told"]) > 30
    assert here["told"] == here["told again"]
    assert linked == here


# -- what may go wrong


def test_arguments_of_other_types_are_refused():
    types = (None, (np.dtype(np.int64), 1))
    for wrong in (np.zeros(2, np.int32), np.zeros((2, 2), np.int64), np.zeros(4, np.int64)[::2]):
        with pytest.raises(TypeError, match="contiguous"):
            words_of_arguments((1, wrong), list(types), [])
    words: list[int] = []
    right = np.zeros(3, np.int64)
    words_of_arguments((7, right), list(types), words)
    assert words == [7, right.ctypes.data, 3]


def test_a_tuple_is_laid_out_once_and_anew_when_it_is_another(engine: Path, monkeypatch: pytest.MonkeyPatch):
    laid = []

    def lay_out_and_note(value, *rest):
        laid.append(value)
        words_of_arguments(value, *rest)

    monkeypatch.setattr(linking, "lay_out", lay_out_and_note)
    kernel = Linked(engine).kernel(processes.find)
    tables = [processes.make_processes(16) for _ in range(2)]
    entries = [processes.add_process(table, 7, start, -1, 0) for start, table in enumerate(tables)]
    processes.add_process(tables[0], 8, 1, -1, 0)
    for one, entry in zip(tables, entries, strict=True):
        laid.clear()
        assert [kernel(one, pid) for pid in (7, 8, 7)] == [entry, 1 if one is tables[0] else -1, entry]
        assert sum(value is one for value in laid) == 1


def test_threads_do_not_share_what_they_hand_over(engine: Path):
    kernel = Linked(engine).kernel(processes.find)
    table = processes.make_processes(1024)
    entries = {pid: processes.add_process(table, pid, 0, -1, 0) for pid in range(1, 500)}
    with ThreadPoolExecutor(4) as pool:
        for _ in range(20):
            assert list(pool.map(lambda pid: kernel(table, pid), entries)) == list(entries.values())


def test_types_come_back_as_they_went():
    from tracer.linked import _types

    said = json.loads(json.dumps(types_of((1, np.zeros((2, 2), schema.EXEC), (np.zeros(1, np.uint8),)))))
    assert _types(said) == [None, (schema.EXEC, 2), [(np.dtype(np.uint8), 1)]]


def test_what_has_no_gate_says_so(engine: Path):
    with pytest.raises(LookupError, match=r"everything has no gate"):
        Linked(engine).kernel(everything)()


@pytest.mark.parametrize("spoil", ["writable", "link", "other", "gone"])
def test_a_file_that_others_may_have_made_is_not_loaded(
    spoil: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "engine.so"
    path.touch(mode=0o600)
    assert jit._our_own(path)
    if spoil == "writable":
        path.chmod(0o620)
    elif spoil == "link":
        path.rename(tmp_path / "real")
        path.symlink_to(tmp_path / "real")
    elif spoil == "other":
        monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    else:
        path.unlink()
    assert not jit._our_own(path)


def test_it_is_private(engine: Path):
    assert stat.S_IMODE(engine.stat().st_mode) == 0o600


def test_it_asks_for_nothing_that_python_or_numba_would_have_to_give(engine: Path):
    from io import BytesIO

    from elftools.elf.elffile import ELFFile

    from tracer.linker import FROM_C

    table = ELFFile(BytesIO(engine.read_bytes())).get_section_by_name(".dynsym")
    wanted = {s.name for s in table.iter_symbols() if s.name and s["st_shndx"] == "SHN_UNDEF"}
    assert wanted and wanted <= FROM_C


def test_a_start_with_it_loads_no_compiler(engine: Path):
    code = (
        "import sys; from tracer import jit; jit.prefer_linked(); from tracer.engine.engine import Engine;"
        "from tracer.rules import load_rules; from tracer.triage.examiner import Examiner;"
        "from tracer.rehearsal import rehearse; rules = load_rules([]); Engine(rules).warm();"
        "Examiner(rules.groups).close(); rehearse(rules, 'x'); assert jit.linked();"
        "print(*{'numba', 'llvmlite'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT)
    assert run.stdout.split() == []
