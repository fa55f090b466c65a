/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Which span (tool call, step) a thread is in: inherited at fork, by lineage and not by time.
 *
 * By thread and not by process: a trainer has thousands of rollouts at once, some in threads. What a
 * span is called is not kept here: a name that contains its owner can't be another's, so nothing has
 * to be looked up to know that it isn't forged, and nothing can be filled up but one entry a task.
 *
 * A hash and not the tasks' storage: programs on cgroups may not look into that (see `kin`).
 */
#ifndef VIGILES_SPAN_BPF_H
#define VIGILES_SPAN_BPF_H

#include "tree.bpf.h"
#include "span_call.h"

struct span_name {
	__u64 start; /* owner */
	__u32 tgid;
	__u32 token; /* 0: no span */
};

/* Spans that a shell has open: its children open and end them. */
#define SPAN_FRAMES 6

struct span_frame {
	__u64 secret;
	__u32 token;
	__u32 _pad;
};

struct task_span {
	__u64 start; /* of the task */
	struct span_name now;
	struct span_name born; /* of the process: what it was forked or executed in */
	__u32 own;	       /* it has opened spans itself: no child does so for it */
	__u32 frames_used;
	struct span_frame frames[SPAN_FRAMES];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1 << 17);
	__type(key, __u32);
	__type(value, struct task_span);
} task_spans SEC(".maps");

INLINE struct task_span *span_of(__u32 tid)
{
	return bpf_map_lookup_elem(&task_spans, &tid);
}

/*
 * What a worker of io_uring does, it does for the thread that has asked for it. Workers are made without passing the
 * fork tracepoint, so none has a span of its own. (Whoever polls for what is asked, IORING_SETUP_SQPOLL, may do so
 * for several threads, and is in none.)
 */
INLINE struct task_span *span_of_asker(struct task_struct *task)
{
	struct io_wq *wq = NULL;
	void *worker;

	if (!(BPF_CORE_READ(task, flags) & PF_IO_WORKER))
		return NULL;
	worker = BPF_CORE_READ(task, worker_private);
	if (!worker)
		return NULL;
	if (bpf_core_field_exists(struct io_worker, wq))
		wq = BPF_CORE_READ((struct io_worker *)worker, wq);
	else if (bpf_core_field_exists(struct io_worker___old, wqe))
		wq = BPF_CORE_READ((struct io_worker___old *)worker, wqe, wq);
	return wq ? span_of(BPF_CORE_READ(wq, task, pid)) : NULL;
}

INLINE int same_span(const struct span_name *a, const struct span_name *b)
{
	return a->token == b->token && a->tgid == b->tgid && a->start == b->start;
}

INLINE int set_span(__u32 tid, const struct task_span *span)
{
	if (!bpf_map_update_elem(&task_spans, &tid, span, BPF_ANY))
		return 1;
	count_loss(LOSS_SPAN);
	return 0;
}

/* The child is in the span of the thread that forks it. */
INLINE void inherit_span(struct task_struct *parent, struct task_struct *child)
{
	struct task_span *mine = span_of(FIELD(parent, pid)), its = {};
	int thread;

	if (!mine || !mine->now.token)
		return;
	its.start = FIELD(child, start_boottime);
	its.now = mine->now;
	thread = FIELD(child, tgid) == FIELD(parent, tgid);
	its.born = thread ? mine->born : mine->now;
	its.own = thread && mine->own;
	set_span(FIELD(child, pid), &its);
}

/*
 * The process executes something: whatever it was in, the new program was born in, and has opened
 * nothing yet. A thread that executes takes its leader's number. Not static, so that the verifier looks
 * at it by itself, and not again for each way that leads here: see judge_exec.
 */
__noinline int keep_span(struct event_exec *e, __u64 start, __u32 tid, __u32 old_tid)
{
	struct task_span *mine = span_of(old_tid), its = {};

	if (!mine || !e)
		return 0;
	its.start = start;
	its.now = its.born = mine->now;
	e->span_start = its.now.start;
	e->span_tgid = its.now.tgid;
	e->span_token = its.now.token;
	if (old_tid != tid)
		bpf_map_delete_elem(&task_spans, &old_tid);
	return set_span(tid, &its);
}

INLINE void leave_span(struct task_struct *task)
{
	__u32 tid = FIELD(task, pid);

	bpf_map_delete_elem(&task_spans, &tid);
}

/* Fill in the span that the thread is in. */
#define name_span(event, tid)                                                                      \
	({                                                                                         \
		struct task_span *__s = span_of(tid);                                              \
		if (__s) {                                                                         \
			(event)->span_start = __s->now.start;                                      \
			(event)->span_tgid = __s->now.tgid;                                        \
			(event)->span_token = __s->now.token;                                      \
		}                                                                                  \
	})

/* The same of what a worker may do for the thread. */
#define name_span_or_asker(event, who)                                                             \
	({                                                                                         \
		struct task_span *__s = span_of((event)->head.tid);                                \
		if (!__s)                                                                          \
			__s = span_of_asker(who);                                                  \
		if (__s) {                                                                         \
			(event)->span_start = __s->now.start;                                      \
			(event)->span_tgid = __s->now.tgid;                                        \
			(event)->span_token = __s->now.token;                                      \
		}                                                                                  \
	})

/* The one that its process was born in. */
#define name_first_span(event, tid)                                                                \
	({                                                                                         \
		struct task_span *__s = span_of(tid);                                              \
		if (__s) {                                                                         \
			(event)->span_start = __s->born.start;                                     \
			(event)->span_tgid = __s->born.tgid;                                       \
			(event)->span_token = __s->born.token;                                     \
		}                                                                                  \
	})

#endif
