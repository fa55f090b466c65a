/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What each GPU client has done so far, counted in the kernel: a training loop
 * may repeat one ioctl a million times, and only the first tells something new.
 */
#ifndef VIGILES_GPU_STATE_BPF_H
#define VIGILES_GPU_STATE_BPF_H

#include "tree.bpf.h"
#include "share.bpf.h"

/* Slots tried for one kind before its table counts as full for it. */
#define GPU_PROBES 8
#define GPU_FLUSH_NS 1000000000ULL

struct gpu_state {
	__u64 flushed_at;
	__u64 uncounted;
	__u64 dirty;
	__u64 asked; /* see struct event_gpu_counts */
	__u64 largest;
	__u64 unsized;
	struct gpu_kind kinds[GPU_KINDS_MAX];
};

/* In the storage of the group leader: one state for all threads. */
KEPT_OF_TASK(gpu_states, struct gpu_state, 1 << 14)

struct gpu_counts_record {
	struct event_gpu_counts event;
	struct gpu_kind kinds[GPU_KINDS_MAX];
};

/*
 * Send all counters of a process. They are cumulative, so a lost record costs
 * nothing but freshness. Fixed size, since the exit path has no scratch to spare.
 */
INLINE void send_gpu_counts(struct task_struct *leader, int final)
{
	struct gpu_state *state = gpu_states_of(leader, 0);
	struct gpu_counts_record *r;

	if (!state)
		return;
	state->flushed_at = bpf_ktime_get_boot_ns();
	state->dirty = 0;
	r = reserve_shared(struct gpu_counts_record, sizeof(r->event), final,
			   fill_head(&__h, leader, EVENT_GPU_COUNTS, RING_BULK,
				     sizeof(struct gpu_counts_record), __c));
	if (!r)
		return;
	r->event.uncounted = state->uncounted;
	r->event.asked = state->asked;
	r->event.largest = state->largest;
	r->event.unsized = state->unsized;
	r->event.kinds = GPU_KINDS_MAX;
	r->event.final = final;
	bpf_probe_read_kernel(r->kinds, sizeof(r->kinds), state->kinds);
	submit_event(r, final);
}

#endif
