# SPDX-License-Identifier: Apache-2.0
"""What the probes send, as NumPy sees it: read from the compiled object, defined in events.h."""

from __future__ import annotations

import hashlib

import numpy as np

from tracer.kernel.btf import Btf
from tracer.kernel.loader import object_path

BTF = Btf(object_path())

KIND = BTF.enum("event_kind")
RING = BTF.enum("event_ring")
EXEC_FLAG = BTF.enum("exec_flag")
FD_KIND = BTF.enum("fd_kind")
FLOW_FLAG = BTF.enum("flow_flag")
ACTION = BTF.enum("action")
TAMPER_WHAT = BTF.enum("tamper_what")
TAMPER_FLAG = BTF.enum("tamper_flag")
GPU_FAMILY = BTF.enum("gpu_family")
GPU_FLAG = BTF.enum("gpu_flag")
GPU_OPEN_FLAG = BTF.enum("gpu_open_flag")
GPU_LIBRARY = BTF.enum("gpu_library")
GPU_USE_FLAG = BTF.enum("gpu_use_flag")
SPAN_WHAT = BTF.enum("span_what")
SPAN_FLAG = BTF.enum("span_flag")
LOSS = BTF.enum("loss_reason")
FIRST_FLAG = BTF.enum("first_flag")
DIRECTION = BTF.enum("first_direction")
KNOWLEDGE_ELEMENT = BTF.enum("knowledge_element")

HEAD = BTF.dtype("event_head")
FORK = BTF.dtype("event_fork")
EXEC = BTF.dtype("event_exec")
EXIT = BTF.dtype("event_exit")
TAMPER = BTF.dtype("event_tamper")
CONNECT = BTF.dtype("event_connect")
LISTEN = BTF.dtype("event_listen")
FLOW_OPEN = BTF.dtype("event_flow_open")
FLOW_CLOSE = BTF.dtype("event_flow_close")
GPU_OPEN = BTF.dtype("event_gpu_open")
GPU_IOCTL = BTF.dtype("event_gpu_ioctl")
GPU_COUNTS = BTF.dtype("event_gpu_counts")
GPU_KIND = BTF.dtype("gpu_kind")
GPU_LIBRARIES = BTF.dtype("event_gpu_libraries")
GPU_USE = BTF.dtype("event_gpu_use")
SPAN = BTF.dtype("event_span")
TASK = BTF.dtype("event_task")
COUNTERS = BTF.dtype("counters")
FIRST_BYTES = BTF.dtype("event_first_bytes")
FILE = BTF.dtype("event_file")
FLOW_SAMPLE = BTF.dtype("event_flow_sample")
FOOTHOLD = BTF.dtype("event_foothold")
EFFORT = BTF.dtype("event_effort")
LOCAL_CONNECT = BTF.dtype("event_local_connect")
EFFORT_FLAG = BTF.enum("effort_flag")
EXEC_REFUSED = BTF.dtype("event_exec_refused")
FOOTHOLD_WHAT = BTF.enum("foothold_what")
FOOTHOLD_FLAG = BTF.enum("foothold_flag")
KNOWLEDGE_HEADER = BTF.dtype("knowledge_header")
KNOWLEDGE_PATTERN = BTF.dtype("knowledge_pattern")
KNOWLEDGE_RULE = BTF.dtype("knowledge_rule")
KNOWLEDGE_RANGE = BTF.dtype("knowledge_range")
CONTROL = BTF.dtype("control")

#: Bytes that may follow a SPAN: as events.h has it; a test compares them.
SPAN_TEXT = 512

#: Layout by kind of event.
LAYOUT: dict[int, np.dtype[np.void]] = {
    KIND["EVENT_FORK"]: FORK,
    KIND["EVENT_EXEC"]: EXEC,
    KIND["EVENT_EXIT"]: EXIT,
    KIND["EVENT_CONNECT"]: CONNECT,
    KIND["EVENT_LISTEN"]: LISTEN,
    KIND["EVENT_FLOW_OPEN"]: FLOW_OPEN,
    KIND["EVENT_FLOW_CLOSE"]: FLOW_CLOSE,
    KIND["EVENT_GPU_OPEN"]: GPU_OPEN,
    KIND["EVENT_GPU_IOCTL"]: GPU_IOCTL,
    KIND["EVENT_GPU_COUNTS"]: GPU_COUNTS,
    KIND["EVENT_TASK"]: TASK,
    KIND["EVENT_FIRST_BYTES"]: FIRST_BYTES,
    KIND["EVENT_FILE"]: FILE,
    KIND["EVENT_TAMPER"]: TAMPER,
    KIND["EVENT_SPAN"]: SPAN,
    KIND["EVENT_FLOW_SAMPLE"]: FLOW_SAMPLE,
    KIND["EVENT_FOOTHOLD"]: FOOTHOLD,
    KIND["EVENT_LOCAL_CONNECT"]: LOCAL_CONNECT,
    KIND["EVENT_EFFORT"]: EFFORT,
    KIND["EVENT_GPU_LIBRARIES"]: GPU_LIBRARIES,
    KIND["EVENT_EXEC_REFUSED"]: EXEC_REFUSED,
    KIND["EVENT_GPU_USE"]: GPU_USE,
}


def fingerprint() -> str:
    """Names what probes and user space must agree upon: whoever has another one can't go on with these probes."""
    shared = (
        *LAYOUT.values(),
        COUNTERS,
        CONTROL,
        KNOWLEDGE_HEADER,
        KNOWLEDGE_PATTERN,
        KNOWLEDGE_RULE,
        KNOWLEDGE_RANGE,
    )
    said = repr([[(n, *map(str, t.fields[n][:2])) for n in t.names] for t in shared if t.fields and t.names])
    said += repr([KIND, RING, ACTION, LOSS, KNOWLEDGE_ELEMENT])
    return hashlib.blake2b(said.encode(), digest_size=16).hexdigest()


#: Human names of kinds: ``exec``, ``flow-open``, …
KIND_NAME: dict[int, str] = {
    number: name.removeprefix("EVENT_").lower().replace("_", "-") for name, number in KIND.items()
}
#: Kinds that probes count as sent and lost, in the order of events.h.
_NEVER_SENT = ("TASK", "FILE", "FLOW_SAMPLE", "FOOTHOLD", "EFFORT", "GPU_LIBRARIES", "GPU_USE")
_UNSENT = {KIND[f"EVENT_{name}"] for name in _NEVER_SENT}
SENT_KINDS: tuple[int, ...] = tuple(k for k in LAYOUT if k not in _UNSENT)
