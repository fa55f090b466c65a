/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the tree says of itself: a tool call begins, ends, a thread goes over to another.
 *
 * Why this hook: setsockopt(2) runs it in the caller, at once, with the kernel's word for who that
 * is; any language can call it and most sandboxes let it; without a watch it fails in no time. There
 * is no socket, file or daemon of ours to be attacked, and nothing to wait for. It asks for a socket
 * that was made in the tree's cgroup; io_uring's workers, which are nobody's threads, are refused,
 * and a 32-bit program's calls are not seen (the kernel does not ask then: net/socket.c).
 */
#include "tree.bpf.h"
#include "share.bpf.h"
#include "span.bpf.h"

struct span_record {
	struct event_span event;
	char text[SPAN_TEXT];
};

/*
 * What was said of spans that are open, for a tracer that takes the probes over: the records
 * themselves. The least recent go when it is full: then a tracer that comes later knows whose span it
 * is and not what was said of it. One that is there has a table of its own, which has nothing to do
 * with this.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct span_name);
	__type(value, struct span_record);
} open_spans SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct span_record);
} blank_span SEC(".maps");

/*
 * Into an element that is there already: 6.1 takes no value out of a ring. Another CPU may be given the
 * element meanwhile, so whoever reads it sees whether key and record belong together.
 */
INLINE void remember_span(const struct span_name *span, const struct span_record *e)
{
	__u32 zero = 0;
	struct span_record *blank = bpf_map_lookup_elem(&blank_span, &zero), *kept;

	if (!blank || bpf_map_update_elem(&open_spans, span, blank, BPF_ANY))
		return;
	kept = bpf_map_lookup_elem(&open_spans, span);
	if (kept)
		bpf_probe_read_kernel(kept, sizeof(*kept), e);
}

INLINE int refuse_span(void)
{
	struct counters *c = my_counters();

	if (c)
		__sync_fetch_and_add(&c->spans_refused, 1);
	return 0;
}

INLINE void fill_span(struct event_span *e, enum span_what what, const struct span_name *span,
		      const struct span_name *above, __u32 flags)
{
	e->span_start = span->start;
	e->span_tgid = span->tgid;
	e->span_token = span->token;
	e->above_start = above->start;
	e->above_tgid = above->tgid;
	e->above_token = above->token;
	e->what = what;
	e->span_flags = flags;
}

INLINE void tell_begin(struct bpf_sockopt *ctx, struct task_struct *task, const struct span_name *span,
		       const struct span_name *above, __u32 flags)
{
	void *text = ctx->optval + sizeof(struct span_call);
	__u64 len = ctx->optval_end - text;
	struct span_record *e;

	e = reserve_bulk(struct span_record, task, EVENT_SPAN, 0);
	if (!e)
		return;
	if (len > SPAN_TEXT || ctx->optlen > (long)(len + sizeof(struct span_call))) {
		flags |= SPAN_CUT;
		if (len > SPAN_TEXT)
			len = SPAN_TEXT;
	}
	barrier_var(len);
	if (len > SPAN_TEXT || bpf_probe_read_kernel(e->text, len, text))
		len = 0;
	e->event.head.size = sizeof(e->event) + len;
	e->event.len = len;
	fill_span(&e->event, SPAN_BEGIN, span, above, flags);
	remember_span(span, e);
	submit_event(e, 0);
}

INLINE void tell_end(struct task_struct *task, const struct span_name *span, __u32 flags)
{
	struct event_span *e = reserve_bulk(struct event_span, task, EVENT_SPAN, 0);
	struct span_name none = {};

	bpf_map_delete_elem(&open_spans, span);
	if (!e)
		return;
	fill_span(e, SPAN_END, span, &none, flags);
	submit_event(e, 0);
}

/* The caller's own. */
INLINE int call_for_self(struct bpf_sockopt *ctx, struct span_call *call, struct task_struct *task)
{
	struct span_name span = { .tgid = FIELD(task, tgid), .token = call->token }, above;
	struct task_span *mine = span_of(FIELD(task, pid)), fresh = {};
	__u32 op = ctx->optname;

	span.start = BPF_CORE_READ(task, group_leader, start_boottime);
	if (!mine) {
		if (op == SPAN_OP_SWITCH && !call->token)
			return 1;
		fresh.start = FIELD(task, start_boottime);
		if (!set_span(FIELD(task, pid), &fresh))
			return refuse_span();
		mine = span_of(FIELD(task, pid));
		if (!mine)
			return refuse_span();
	}
	above = span;
	above.token = call->above;
	if (!above.token)
		above = mine->born;
	switch (op) {
	case SPAN_OP_BEGIN:
		if (!span.token)
			return refuse_span();
		mine->now = span;
		mine->own = 1;
		mine->frames_used = 0;
		tell_begin(ctx, task, &span, &above, call->flags & SPAN_CUT);
		return 1;
	case SPAN_OP_END:
		if (!span.token)
			return refuse_span();
		if (same_span(&mine->now, &span))
			mine->now = above;
		tell_end(task, &span, 0);
		return 1;
	case SPAN_OP_SWITCH:
		mine->own = 1;
		mine->now = span.token ? span : mine->born;
		return 1;
	}
	return refuse_span();
}

/*
 * A shell's, by a child that the shell has started for it. The kernel can't tell that child from any
 * other that the shell starts, so what children may do for a parent is little: open a span inside the
 * one that both are in, of a parent with one thread that opens none itself; and end one by a secret
 * that only whoever opened it was told. So they can't hide, change or end what an outer span says.
 */
INLINE int call_for_shell(struct bpf_sockopt *ctx, struct span_call *call, struct task_struct *task)
{
	struct task_struct *whose = task;
	struct task_span *mine = span_of(FIELD(task, pid)), *theirs, its = {};
	struct span_name span = { .token = call->token }, above = {}, now = {};
	__u32 op = ctx->optname, left, found = 0;

#pragma unroll
	for (__u32 up = 0; up < SPAN_UP_MAX; up++)
		if (up < call->up)
			whose = FIELD(whose, real_parent);
	if (!process_in_tree(whose) || BPF_CORE_READ(whose, signal, nr_threads) != 1)
		return 0;
	span.tgid = BPF_CORE_READ(whose, tgid);
	span.start = BPF_CORE_READ(whose, start_boottime);
	theirs = span_of(span.tgid);
	if (theirs)
		its = *theirs;
	its.start = span.start;
	if (mine)
		now = mine->now;
	above = its.now;
	if (its.own || !span.token || !call->secret)
		return 0;
	if (op == SPAN_OP_BEGIN) {
		if (!same_span(&now, &above) || its.frames_used >= SPAN_FRAMES)
			return 0;
#pragma unroll
		for (__u32 i = 0; i < SPAN_FRAMES; i++) {
			if (i < its.frames_used && its.frames[i].token == span.token)
				return 0;
			if (i == its.frames_used) {
				its.frames[i].secret = call->secret;
				its.frames[i].token = span.token;
			}
		}
		its.frames_used++;
		its.now = span;
		/* all at once: the shell may be forking */
		if (!set_span(span.tgid, &its))
			return 0;
		tell_begin(ctx, task, &span, &above, (call->flags & SPAN_CUT) | SPAN_BY_CHILD);
		return 1;
	}
	if (op != SPAN_OP_END)
		return 0;
	left = 0;
	above = its.born;
#pragma unroll
	for (__u32 i = 0; i < SPAN_FRAMES; i++) {
		if (found || i >= its.frames_used)
			continue;
		if (its.frames[i].token == span.token && its.frames[i].secret == call->secret) {
			found = 1;
			left = i;
		} else {
			above = span;
			above.token = its.frames[i].token;
		}
	}
	if (!found)
		return 0;
	its.frames_used = left;
	its.now = above;
	if (!set_span(span.tgid, &its))
		return 0;
	tell_end(task, &span, SPAN_BY_CHILD);
	return 1;
}

SEC("cgroup/setsockopt")
int on_span(struct bpf_sockopt *ctx)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct span_call *call = ctx->optval;

	if (ctx->level != SPAN_LEVEL) {
		/* More than a page is not copied for us. 0: the kernel is to take what the caller gave;
		 * left as it is, kernels before 6.4 refuse the call (29ebbba7d461). */
		if (ctx->optlen > (long)(ctx->optval_end - ctx->optval))
			ctx->optlen = 0;
		return 1;
	}
	if (!current_in_tree())
		return 1; /* and the kernel says that there is no such level */
	if ((void *)(call + 1) > ctx->optval_end || FIELD(task, flags) & PF_IO_WORKER || call->up > SPAN_UP_MAX)
		return refuse_span();
	if (call->up) {
		if (!call_for_shell(ctx, call, task))
			return refuse_span();
	} else if (!call_for_self(ctx, call, task)) {
		return 0;
	}
	ctx->optlen = -1; /* done: nothing is left for the kernel */
	return 1;
}
