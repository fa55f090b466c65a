# SPDX-License-Identifier: Apache-2.0
"""The C header is the only definition: what Python assumes about it is checked here."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from tracer.engine import handle
from tracer.kernel import btf, schema
from tracer.kernel.btf import Btf

HEADER = (Path(__file__).parent.parent.parent / "probes" / "events.h").read_text()


def members(struct: str) -> list[str]:
    body = re.search(rf"struct {struct} \{{(.*?)\n\}};", HEADER, re.DOTALL).group(1)
    body = re.sub(r"/\*.*?\*/", "", body, flags=re.DOTALL)
    found = []
    for declaration in body.split(";"):
        words = declaration.split()
        if not words:
            continue
        name = re.sub(r"\[.*\]", "", words[-1])
        if words[0] == "struct" and words[1] in ("event_head", "flow_addr", "verdict"):
            found += members(words[1])
        else:
            found.append(name)
    return found


def test_every_struct_of_the_header_is_in_btf_with_every_field():
    structs = re.findall(r"^struct (\w+) \{", HEADER, re.MULTILINE)
    assert len(structs) > 10
    for struct in structs:
        layout = schema.BTF.dtype(struct)
        assert list(layout.names) == members(struct), struct


def test_every_enum_of_the_header_is_in_btf():
    for enum in re.findall(r"^enum (\w+) \{", HEADER, re.MULTILINE):
        assert schema.BTF.enum(enum), enum


def test_every_kind_has_a_layout_and_a_name():
    kinds = {v for k, v in schema.KIND.items() if k not in ("EVENT_NONE", "EVENT_KINDS")}
    assert set(schema.LAYOUT) == kinds
    assert len({schema.KIND_NAME[k] for k in kinds}) == len(kinds)


def test_every_record_begins_with_the_head():
    for kind, layout in schema.LAYOUT.items():
        for name, (field, offset, *_) in schema.HEAD.fields.items():
            assert layout.fields[name][:2] == (field, offset), (kind, name)


def test_facts_know_the_flags_by_their_value():
    from tracer.detect import execfacts, tamper

    facts = {*schema.TAMPER_WHAT, *schema.TAMPER_FLAG} - {"TAMPER_NONE", "TAMPERS"}
    assert facts == {*tamper.WHAT_FACT, *tamper.FLAG_FACT}
    for name in ("MEMFD", "DELETED", "SCRIPT", "SETID", "ARGS_CUT"):
        assert (
            getattr(execfacts, f"FLAG_{name}", schema.EXEC_FLAG[f"EXEC_{name}"])
            == schema.EXEC_FLAG[f"EXEC_{name}"]
        )


def test_engine_handles_every_kind_that_is_sent():
    text = Path(handle.__file__).read_text()
    for kind in schema.SENT_KINDS:
        name = next(k for k, v in schema.KIND.items() if v == kind)
        assert name.removeprefix("EVENT_") in text or name == "EVENT_GPU_COUNTS", name


def test_dtypes_are_aligned():
    for layout in schema.LAYOUT.values():
        for field, offset, *_ in layout.fields.values():
            base = field.subdtype[0] if field.subdtype else field
            assert offset % base.itemsize == 0
            assert base.kind in "ui"
    assert schema.EXEC.itemsize % 8 == 0
    assert np.dtype(schema.HEAD).itemsize == 40


def test_compiled_code_goes_by_layouts_and_not_by_what_probes_do():
    found = [Btf(schema.BTF.path), Btf(schema.BTF.path)]
    assert found[0].digest == schema.BTF.digest
    functions = [t for t in found[0]._types if t.kind == btf.FUNC]
    assert functions
    found[0]._types = [t for t in found[0]._types if t not in functions]
    assert found[0].digest == schema.BTF.digest
    a_struct = next(number for number, t in enumerate(found[1]._types) if t.name == "event_connect")
    found[1]._types[a_struct] = replace(found[1]._types[a_struct], extra=found[1]._types[a_struct].extra[:-1])
    assert found[1].digest != schema.BTF.digest
