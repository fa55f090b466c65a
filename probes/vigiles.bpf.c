/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The one object that is loaded: all probes share maps and options, and user
 * space chooses at open time which programs to load.
 */
#include "process.bpf.c"
#include "net.bpf.c"
#include "first.bpf.c"
#include "gpu.bpf.c"
#include "tamper.bpf.c"
#include "span.bpf.c"
#ifndef WITHOUT_KERNEL_BTF
#include "check.bpf.c"
#include "refuse.bpf.c"
#include "tasks.bpf.c"
#include "sockets.bpf.c"
#include "tcp.bpf.c"
#include "local.bpf.c"
#include "effort.bpf.c"
#else
#include "plain.bpf.c"
#include "fit.bpf.c"
#endif

/*
 * clang drops types that nothing refers to from BTF, and user space reads the
 * layout of events from there: refer to each.
 */
const struct event_head *anchor_head __attribute__((unused));
const struct event_fork *anchor_fork __attribute__((unused));
const struct event_exec *anchor_exec __attribute__((unused));
const struct event_exec_refused *anchor_exec_refused __attribute__((unused));
const struct event_file *anchor_file __attribute__((unused));
const struct event_tamper *anchor_tamper __attribute__((unused));
const struct event_span *anchor_span __attribute__((unused));
const struct span_call *anchor_span_call __attribute__((unused));
const struct event_exit *anchor_exit __attribute__((unused));
const struct event_first_bytes *anchor_first_bytes __attribute__((unused));
const struct knowledge_header *anchor_knowledge_header __attribute__((unused));
const struct knowledge_pattern *anchor_knowledge_pattern __attribute__((unused));
const struct knowledge_rule *anchor_knowledge_rule __attribute__((unused));
const struct knowledge_range *anchor_knowledge_range __attribute__((unused));
const struct control *anchor_control __attribute__((unused));
const enum action *anchor_action __attribute__((unused));
const enum knowledge_element *anchor_knowledge_element __attribute__((unused));
const struct event_connect *anchor_connect __attribute__((unused));
const struct event_listen *anchor_listen __attribute__((unused));
const struct event_flow_open *anchor_flow_open __attribute__((unused));
const struct event_flow_close *anchor_flow_close __attribute__((unused));
const struct event_flow_sample *anchor_flow_sample __attribute__((unused));
const struct event_effort *anchor_effort __attribute__((unused));
const struct event_foothold *anchor_foothold __attribute__((unused));
const struct event_local_connect *anchor_local_connect __attribute__((unused));
const enum effort_flag *anchor_effort_flag __attribute__((unused));
const enum foothold_what *anchor_foothold_what __attribute__((unused));
const enum foothold_flag *anchor_foothold_flag __attribute__((unused));
const struct event_gpu_open *anchor_gpu_open __attribute__((unused));
const struct event_gpu_ioctl *anchor_gpu_ioctl __attribute__((unused));
const struct event_gpu_counts *anchor_gpu_counts __attribute__((unused));
const struct event_gpu_libraries *anchor_gpu_libraries __attribute__((unused));
const struct event_gpu_use *anchor_gpu_use __attribute__((unused));
const struct event_task *anchor_task __attribute__((unused));
const struct counters *anchor_counters __attribute__((unused));
const enum event_kind *anchor_kind __attribute__((unused));
const enum event_ring *anchor_ring __attribute__((unused));
const enum exec_flag *anchor_exec_flag __attribute__((unused));
const enum fd_kind *anchor_fd_kind __attribute__((unused));
const enum tamper_what *anchor_tamper_what __attribute__((unused));
const enum tamper_flag *anchor_tamper_flag __attribute__((unused));
const enum span_what *anchor_span_what __attribute__((unused));
const enum span_flag *anchor_span_flag __attribute__((unused));
const enum span_op *anchor_span_op __attribute__((unused));
const enum flow_flag *anchor_flow_flag __attribute__((unused));
const enum first_flag *anchor_first_flag __attribute__((unused));
const enum first_direction *anchor_first_direction __attribute__((unused));
const enum gpu_family *anchor_gpu_family __attribute__((unused));
const enum gpu_flag *anchor_gpu_flag __attribute__((unused));
const enum gpu_open_flag *anchor_gpu_open_flag __attribute__((unused));
const enum gpu_library *anchor_gpu_library __attribute__((unused));
const enum gpu_use_flag *anchor_gpu_use_flag __attribute__((unused));
const enum loss_reason *anchor_loss __attribute__((unused));

char LICENSE[] SEC("license") = "Dual BSD/GPL";
