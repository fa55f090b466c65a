/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What is done about a verdict, and what user space has ordered for the whole tree.
 * None of it depends on the rings: a record that is lost has been acted on.
 */
#ifndef VIGILES_GUARD_BPF_H
#define VIGILES_GUARD_BPF_H

#include "place.bpf.h"

#define SIGKILL 9

/* Orders: user space writes them, here or through a pin. */
struct control {
	__u32 enforce;    /* carry verdicts out */
	__u32 quarantine; /* nothing leaves or comes in but what may stay */
	__u32 doomed;     /* the tree is to end: whoever forks or execs is killed */
	__u32 cuts;       /* there is something in `cuts` */
	__u32 tracer;     /* who watches: its process id, its mounts, and the cgroup it is in */
	__u32 tracer_mounts;
	__u64 tracer_cgroup;
	__u32 teacher; /* what this process opens is to be guarded */
	__u32 _pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct control);
} control SEC(".maps");

/* Flows that user space wants cut, by cookie. The oldest goes: by then it is cut. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, __u64);
	__type(value, __u32);
} cuts SEC(".maps");

INLINE struct control *orders(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&control, &zero);
}

INLINE void count_action(enum action action, int failed)
{
	struct counters *c = my_counters();

	if (c && action < ACTIONS)
		__sync_fetch_and_add(failed ? &c->failed[action] : &c->acted[action], 1);
}

INLINE void count_dropped(void)
{
	struct counters *c = my_counters();

	if (c)
		__sync_fetch_and_add(&c->dropped, 1);
}

INLINE int calls_for(const struct verdict *v, enum action action)
{
	return v->actions >> action & 1;
}

INLINE void note_done(struct verdict *v, enum action action)
{
	v->done |= 1 << action;
	count_action(action, 0);
}

/* What concerns the tree as a whole is done at once, whatever the event was. */
INLINE void carry_out_for_tree(struct control *o, struct verdict *v)
{
	if (calls_for(v, ACTION_QUARANTINE)) {
		o->quarantine = 1;
		note_done(v, ACTION_QUARANTINE);
	}
	if (calls_for(v, ACTION_KILL_TREE)) {
		o->doomed = 1;
		note_done(v, ACTION_KILL_TREE); /* user space ends those who do nothing */
	}
}

#define ACTIONS_ON_PROCESS (1 << ACTION_BLOCK | 1 << ACTION_KILL | 1 << ACTION_KILL_TREE)

/*
 * Kill the current process. In sched_process_exec the signal is there before the
 * new program's first instruction; elsewhere before the call returns to it.
 */
INLINE int kill_current(void)
{
	int failed = bpf_send_signal(SIGKILL) != 0;

	count_action(ACTION_KILL, failed);
	return !failed;
}

/*
 * What the current process has just done or begun, judged: an exec, a compute context being made. What
 * it was is not refused; the process runs no further instruction.
 */
INLINE void carry_out_on_process(struct verdict *v)
{
	struct control *o = orders();

	if (!o || !o->enforce)
		return;
	carry_out_for_tree(o, v);
	if ((v->actions & ACTIONS_ON_PROCESS || o->doomed) && kill_current())
		v->done |= 1 << ACTION_KILL;
}

/* Tampering, judged: it has happened. `ours`: the current process, of the tree, did it. */
INLINE void carry_out_tamper(struct verdict *v, int ours)
{
	struct control *o = orders();

	if (!o || !o->enforce)
		return;
	carry_out_for_tree(o, v);
	if (ours && v->actions & ACTIONS_ON_PROCESS && kill_current())
		v->done |= 1 << ACTION_KILL;
}

/* Tampering that can be refused, judged before it happens; true: refuse it. */
INLINE int carry_out_attempt(struct verdict *v)
{
	struct control *o = orders();

	if (!o || !o->enforce)
		return 0;
	carry_out_for_tree(o, v);
	if (!(v->actions & ACTIONS_ON_PROCESS))
		return 0;
	note_done(v, ACTION_BLOCK);
	if (v->actions & (1 << ACTION_KILL | 1 << ACTION_KILL_TREE) && kill_current())
		v->done |= 1 << ACTION_KILL;
	return 1;
}

/* Is the current process to end, whatever it does? */
INLINE int doomed(void)
{
	struct control *o = orders();

	return o && o->doomed;
}

/* A socket that listens, judged; true: nobody is to reach it. */
INLINE int carry_out_listen(struct verdict *v)
{
	struct control *o = orders();

	if (!o || !o->enforce)
		return 0;
	carry_out_for_tree(o, v);
	if (!(v->actions & ACTIONS_ON_PROCESS))
		return 0;
	note_done(v, ACTION_BLOCK);
	return 1;
}

/*
 * A connection to a place, judged; true: refuse it. To kill whoever asked is left to
 * user space: programs on cgroups can't send signals.
 */
INLINE int carry_out_connect(const struct place *place, struct verdict *v)
{
	struct control *o = orders();
	struct verdict stay = {};
	struct place copy = *place;

	if (!o)
		return 0;
	if (o->enforce) {
		carry_out_for_tree(o, v);
		if (v->actions & ACTIONS_ON_PROCESS || o->doomed) {
			note_done(v, ACTION_BLOCK);
			return 1;
		}
	}
	if (o->quarantine && judge_place(&copy, RULES_ON_STAY, &stay) && !stay.row) {
		v->done |= 1 << ACTION_QUARANTINE;
		return 1;
	}
	return 0;
}

#endif
