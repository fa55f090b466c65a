# SPDX-License-Identifier: Apache-2.0
"""bcc's ring-buffer callback on as many records of the same size. Runs in the distribution's Python.

/usr/bin/python3 bench/bcc_ring.py RECORDS ROUNDS
"""

import ctypes
import json
import os
import sys
import time

PROGRAM = r"""
struct event {
    u64 ts, start, seq; u32 tgid, tid; u16 cpu, size; u8 kind, ring; u16 tree;
    u32 major, minor, cmd, nr, code; u8 family, flags, pad[2];
};
BPF_RINGBUF_OUTPUT(events, 16384);
RAW_TRACEPOINT_PROBE(sys_enter) {
    if ((bpf_get_current_pid_tgid() >> 32) != TARGET || ctx->args[1] != 110) return 0;  // getppid
    struct event e = {};
    e.ts = bpf_ktime_get_ns();
    e.code = e.ts;
    events.ringbuf_output(&e, sizeof(e), BPF_RB_NO_WAKEUP);
    return 0;
}
"""


def main():
    records, rounds = int(sys.argv[1]), int(sys.argv[2])
    try:
        from bcc import BPF
    except ImportError:
        sys.exit("python3-bpfcc is not installed")
    try:
        program = BPF(text=PROGRAM.replace("TARGET", str(os.getpid())), cflags=["-w"])
    except Exception as error:
        sys.exit(f"bcc can't compile here: {str(error).splitlines()[0]}")
    seen = {}

    def on_record(_context, data, _size):
        event = program["events"].event(data)
        seen[event.code] = seen.get(event.code, 0) + 1

    program["events"].open_ring_buffer(on_record)
    getppid = ctypes.CDLL(None).getppid
    times = []
    for _ in range(rounds + 1):
        for _ in range(records):
            getppid()
        began = time.perf_counter()
        program.ring_buffer_consume()
        times.append((time.perf_counter() - began) / records * 1e9)
    print(json.dumps(times[1:]))


if __name__ == "__main__":
    main()
