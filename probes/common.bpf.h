/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What every probe includes: options, the two rings, counters, sending. */
#ifndef VIGILES_COMMON_BPF_H
#define VIGILES_COMMON_BPF_H

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_endian.h>

#include "events.h"

#define INLINE static __always_inline

#include "compat.bpf.h"

#define EPERM 1
#define AF_INET 2
#define AF_INET6 10
#ifndef IPPROTO_TCP
#define IPPROTO_TCP 6
#define IPPROTO_UDP 17
#endif

/*
 * Options, set between open and load: the verifier removes what they rule out.
 */

/* Only these network and device events belong to the tree whose task is in it
 * by lineage: set when the cgroup that the hooks hang on is shared with others. */
const volatile __u8 filter_by_lineage = 0;
/* A tree named by its cgroup: whoever executes below it joins. 0: none. */
const volatile __u64 tree_cgroup = 0;
const volatile __u32 tree_cgroup_level = 0;
/* The cgroup that the tree has for itself: whoever leaves it is told. 0: it has none. */
const volatile __u64 own_cgroup = 0;
const volatile __u32 own_cgroup_level = 0;
/* What the ring for flows and devices holds. */
const volatile __u64 bulk_bytes = 16 << 20;

/*
 * Sizes in C are placeholders: user space sets them before load.
 */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 8 << 20);
} ring_critical SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 16 << 20);
} ring_bulk SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct counters);
} counters SEC(".maps");

/*
 * What the reader tells the probes, in memory it maps: while it polls, a wake-up
 * (2 us of the traced program's time) is wasted on a record that is not urgent.
 */
struct reader_state {
	__u64 asleep;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct reader_state);
} reader SEC(".maps");

INLINE struct counters *my_counters(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&counters, &zero);
}

INLINE void count_loss(enum loss_reason reason)
{
	struct counters *c = my_counters();

	if (c && reason < LOSS_REASONS)
		__sync_fetch_and_add(&c->reasons[reason], 1);
}

/*
 * Wake the reader for this record? Urgent ones always; others only when it
 * sleeps without a timer, and then only the first: it polls from there on.
 */
INLINE __u64 wake_flags(int urgent)
{
	__u32 zero = 0;
	struct reader_state *state;

	if (urgent)
		return BPF_RB_FORCE_WAKEUP;
	state = bpf_map_lookup_elem(&reader, &zero);
	if (state && state->asleep && __sync_lock_test_and_set(&state->asleep, 0))
		return BPF_RB_FORCE_WAKEUP;
	return BPF_RB_NO_WAKEUP;
}

/*
 * For records that go out by bpf_ringbuf_output, whose flags have to be known before
 * its space is taken: the reader may have fallen asleep in between. It is woken by
 * an empty record.
 */
INLINE void wake_sleeper(void *ring)
{
	__u32 zero = 0;
	struct reader_state *state = bpf_map_lookup_elem(&reader, &zero);
	void *nothing;

	if (!state || !state->asleep || !__sync_lock_test_and_set(&state->asleep, 0))
		return;
	nothing = bpf_ringbuf_reserve(ring, 8, 0);
	if (nothing)
		bpf_ringbuf_discard(nothing, BPF_RB_FORCE_WAKEUP);
}

INLINE void count_lost(struct counters *c, __u8 kind)
{
	if (kind < EVENT_KINDS)
		__sync_fetch_and_add(&c->lost[kind], 1);
}

/* Fill the head of a record, but for whose it is. */
INLINE void fill_what(struct event_head *head, enum event_kind kind, enum event_ring ring, __u32 size,
		      struct counters *c)
{
	head->ts = bpf_ktime_get_boot_ns();
	head->cpu = bpf_get_smp_processor_id();
	head->size = size;
	head->kind = kind;
	head->ring = ring;
	/* Atomic, since cgroup programs can be preempted by one another. */
	head->seq = __sync_fetch_and_add(&c->seq[ring], 1);
	__sync_fetch_and_add(&c->sent[kind], 1);
}

/* Fill the head of a record about `task`'s process. */
INLINE void fill_head(struct event_head *head, struct task_struct *task, enum event_kind kind,
		      enum event_ring ring, __u32 size, struct counters *c)
{
	head->start = BPF_CORE_READ(task, group_leader, start_boottime);
	head->tgid = BPF_CORE_READ(task, tgid);
	head->tid = BPF_CORE_READ(task, pid);
	fill_what(head, kind, ring, size, c);
}

/*
 * Reserve a zeroed record of a fixed size in the critical ring, with its head
 * filled; a full ring is counted by kind. Ring memory is not zeroed by the
 * kernel: without this, padding would carry bytes of older records.
 */
#define reserve_event(type, task, event_kind) reserve_critical(type, task, event_kind, 1)

/*
 * The same for what a look at all tasks finds out again (tasks.bpf.c): births and ends. A quarter
 * of the ring is left to what nothing tells later, so that whoever forks as fast as it can does
 * not push out what others execute.
 */
#define reserve_repairable(type, task, event_kind)                                                 \
	reserve_critical(type, task, event_kind,                                                   \
			 bpf_ringbuf_query(&ring_critical, BPF_RB_AVAIL_DATA) <                    \
				 bpf_ringbuf_query(&ring_critical, BPF_RB_RING_SIZE) / 4 * 3)

#define reserve_critical(type, task, event_kind, has_room)                                         \
	({                                                                                         \
		type *__e = NULL;                                                                  \
		struct counters *__c = my_counters();                                              \
		if (__c) {                                                                         \
			struct event_head __h = {};                                                \
			fill_head(&__h, task, event_kind, RING_CRITICAL, sizeof(type), __c);       \
			if (has_room)                                                              \
				__e = reserve_headed(ring_critical, type, sizeof(type), &__h,      \
						     __c);                                         \
			else                                                                       \
				count_lost(__c, event_kind);                                       \
		}                                                                                  \
		__e;                                                                               \
	})

/* The first `zeroed` bytes only, where the caller overwrites the others. */
#define reserve_headed(ringmap, type, zeroed, head, counters)                                      \
	({                                                                                         \
		type *__r = bpf_ringbuf_reserve(&ringmap, sizeof(type), 0);                        \
		if (__r) {                                                                         \
			__builtin_memset(__r, 0, zeroed);                                          \
			*(struct event_head *)__r = *(head);                                       \
		} else {                                                                           \
			count_lost(counters, (head)->kind);                                        \
		}                                                                                  \
		__r;                                                                               \
	})

#define submit_event(event, urgent) bpf_ringbuf_submit(event, wake_flags(urgent))

#endif
