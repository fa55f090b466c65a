/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A fair share of the bulk ring: one process's storm must not push out what others send.
 *
 * While no more than a quarter of the ring waits to be read, nothing is asked. Above that, a
 * process may have twice as much waiting as there is room left; what is more is held back, and
 * counted as lost. (Dynamic thresholds: Choudhury and Hahne, IEEE/ACM ToN 6(2), 1998, which
 * switches use for their ports.) One that storms gets half of the ring in that way, and leaves a
 * quarter; n of them leave 3 / (4 + 8n), however long the reader stands still, and whoever has
 * sent little finds room there: eight in 16 MiB leave 700 KiB. A reader that keeps up sets no
 * limit to anybody. A rate by the clock would do neither: a plain loop of connects sends 80,000
 * records a second, and what a clock gives back fills the ring in a second or two if nobody reads.
 *
 * The critical ring has nothing of the kind: a storm there is one of many young processes, none
 * of which has sent much. What it has is a quarter that births and ends leave to the others
 * (reserve_repairable).
 */
#ifndef VIGILES_SHARE_BPF_H
#define VIGILES_SHARE_BPF_H

#include "span.bpf.h"

struct process {
	__u64 start;
	__u32 tgid;
	__u32 _pad;
};

struct share {
	__u64 used; /* of the ring, by what the process has sent and is not read yet: an estimate */
	__u64 consumed; /* where the reader was when `used` was last made smaller */
	__u64 waiting; /* and how much there was to read, of all processes */
	__u32 told;
	__u32 _pad;
};

/* Not in the storage of tasks: much of what belongs to a flow is sent in interrupts. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct process);
	__type(value, struct share);
} shares SEC(".maps");

/* Say once of a process that it is held back. What it means is left to the engine. */
INLINE void tell_flood(const struct event_head *head, struct share *share)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct event_tamper *e;

	if (!head->tgid || __sync_lock_test_and_set(&share->told, 1))
		return;
	e = reserve_event(struct event_tamper, task, EVENT_TAMPER);
	if (!e) {
		share->told = 0;
		return;
	}
	e->head.start = head->start;
	e->head.tgid = head->tgid;
	e->head.tid = head->tid;
	e->by_tgid = head->tgid;
	e->number = head->kind;
	e->what = TAMPER_FLOOD;
	if (FIELD(task, pid) == (__s32)head->tid)
		name_span(e, head->tid);
	submit_event(e, 1);
}

/*
 * Of what waited in the ring, so much has been read: `share` has the same part of it less.
 * Done now and then, by whoever is first to see it.
 */
INLINE void take_off(struct share *share, __u64 waiting)
{
	__u64 consumed = bpf_ringbuf_query(&ring_bulk, BPF_RB_CONS_POS), was = share->consumed;
	__u64 used = share->used, read = consumed - was, less = used;

	if (read < bulk_bytes / 64 || __sync_val_compare_and_swap(&share->consumed, was, consumed) != was)
		return;
	if (read < share->waiting)
		less = used * read / share->waiting;
	share->waiting = waiting;
	__sync_fetch_and_add(&share->used, -less);
}

/* `waiting`: in the ring, of all. `news`: there is more to it than that something happened. */
static __noinline int over_share(const struct event_head *head, __u64 waiting, __u32 news)
{
	struct process key = { .start = head->start, .tgid = head->tgid };
	struct share *share = bpf_map_lookup_elem(&shares, &key), fresh = {};
	__u64 size = head->size + BPF_RINGBUF_HDR_SZ;

	if (!share) {
		fresh.consumed = bpf_ringbuf_query(&ring_bulk, BPF_RB_CONS_POS);
		fresh.waiting = waiting;
		fresh.used = size;
		bpf_map_update_elem(&shares, &key, &fresh, BPF_NOEXIST);
		return 0;
	}
	take_off(share, waiting);
	/* what a rule holds for may use all but an eighth, whoever sends it */
	if (share->used + size > 2 * (bulk_bytes - waiting) && !(news && waiting <= bulk_bytes / 8 * 7)) {
		tell_flood(head, share);
		return 1;
	}
	__sync_fetch_and_add(&share->used, size);
	return 0;
}

/* Is this record one too many? If so it is counted. */
INLINE int held_back(const struct event_head *head, struct counters *c, __u32 news)
{
	__u64 waiting = bpf_ringbuf_query(&ring_bulk, BPF_RB_AVAIL_DATA);

	if (waiting <= bulk_bytes / 4 || !over_share(head, waiting, news))
		return 0;
	count_lost(c, head->kind);
	__sync_fetch_and_add(&c->reasons[LOSS_SHARE], 1);
	return 1;
}

/* Reserve a record of the bulk ring about `task`'s process, as reserve_event does of the other. */
#define reserve_bulk(type, task, event_kind, news)                                                 \
	reserve_shared(type, sizeof(type), news,                                                   \
		       fill_head(&__h, task, event_kind, RING_BULK, sizeof(type), __c))

/* The same about whoever a flow belongs to, whatever the current task is. */
#define reserve_of_flow(type, flow, event_kind)                                                    \
	reserve_shared(type, sizeof(type), 0, ({                                                   \
			       fill_what(&__h, event_kind, RING_BULK, sizeof(type), __c);          \
			       head_of_owner(&__h, flow);                                          \
		       }))

#define reserve_shared(type, zeroed, news, fill)                                                   \
	({                                                                                         \
		type *__e = NULL;                                                                  \
		struct counters *__c = my_counters();                                              \
		if (__c) {                                                                         \
			struct event_head __h = {};                                                \
			fill;                                                                      \
			if (!held_back(&__h, __c, news))                                           \
				__e = reserve_headed(ring_bulk, type, zeroed, &__h, __c);          \
		}                                                                                  \
		__e;                                                                               \
	})

#endif
