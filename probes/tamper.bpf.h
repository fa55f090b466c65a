/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Telling of tampering: whatever a tree does to its watch, or to get out of its sight.
 * What tracepoints show has happened when it is told, and what can still be done is to end who
 * did it; BPF LSM is asked before, and can refuse (refuse.bpf.c).
 */
#ifndef VIGILES_TAMPER_BPF_H
#define VIGILES_TAMPER_BPF_H

#include "tree.bpf.h"
#include "guard.bpf.h"
#include "span.bpf.h"
#include "syscall.bpf.h"

#define SIGCHLD 17
#define SIGSTOP 19

#define TAMPER_FLAGS 4 /* bits of enum tamper_flag */

/* What is told beside who did it to whom. */
struct tamper {
	__u64 cgroup;
	__u64 cgroup_to;
	__u32 number;
	__u8 what;
	__u8 flags;
	__u8 _pad[2];
	__u8 name[MODULE_NAME];
};

static __noinline int judge_tamper(__u32 what, __u32 flags, struct verdict *v)
{
	struct knowledge_header *header;
	void *map;

	if (!v)
		return 0;
	header = rules_now(&map);
	if (!header)
		return 0;
	v->signals[0] |= fact(header->tamper_facts[what & (KNOWLEDGE_TAMPERS - 1)]);
#pragma unroll
	for (int bit = 0; bit < TAMPER_FLAGS; bit++)
		if (flags >> bit & 1)
			v->signals[0] |= fact(header->tamper_flag_facts[bit]);
	judge(map, header, v->signals, RULES_ON_TAMPER, v);
	return 1;
}

INLINE void send_tamper(struct task_struct *who, struct task_struct *target, struct tamper *t,
			struct verdict *verdict, __u64 began)
{
	struct event_tamper *e;

	verdict->took_ns = bpf_ktime_get_boot_ns() - began;
	e = reserve_event(struct event_tamper, who, EVENT_TAMPER);
	if (!e)
		return;
	e->head.ts = began;
	e->verdict = *verdict;
	if (target) {
		e->target_start = BPF_CORE_READ(target, group_leader, start_boottime);
		e->target_tgid = BPF_CORE_READ(target, tgid);
	}
	e->cgroup = t->cgroup;
	e->cgroup_to = t->cgroup_to;
	name_span(e, e->head.tid);
	e->by_tgid = bpf_get_current_pid_tgid() >> 32;
	e->number = t->number;
	e->what = t->what;
	e->tamper_flags = t->flags;
	__builtin_memcpy(e->name, t->name, sizeof(e->name));
	submit_event(e, 1);
}

/* `who` has done `t` to `target`, if there is one; unless an outsider has, who is not `who`. */
INLINE void tell_tamper(struct task_struct *who, struct task_struct *target, struct tamper *t)
{
	__u64 began = bpf_ktime_get_boot_ns();
	struct verdict verdict = {};

	if (judge_here)
		judge_tamper(t->what, t->flags, &verdict);
	carry_out_tamper(&verdict, !(t->flags & TAMPER_BY_OUTSIDER));
	send_tamper(who, target, t, &verdict, began);
}

/* Does the current process send a signal to a group: kill(0, …), kill(-GROUP, …)? */
INLINE int sends_to_group(struct task_struct *by)
{
	struct pt_regs *regs = REGS_OF(by);
	__s32 pid;

	if (!regs)
		return 0;
	if (IS_COMPAT(by)) {
		if (SYSCALL_NUMBER(regs) != NR_KILL_COMPAT)
			return 0;
		pid = REG_FD_COMPAT(regs);
	} else {
		if ((SYSCALL_NUMBER(regs) & ~X32_BIT) != NR_KILL)
			return 0;
		pid = REG_FD(regs);
	}
	return pid == 0 || pid < -1;
}

/* Is `cgroup` the one that the tree has for itself, or below it? */
INLINE int in_own_cgroup(struct cgroup *cgroup)
{
	__u64 place = (__u64)own_cgroup_level * sizeof(__u64), id = 0;
	struct cgroup *ancestor = NULL;
	void *line;

	if (BPF_CORE_READ(cgroup, level) < (int)own_cgroup_level)
		return 0;
	if (bpf_core_field_exists(cgroup->ancestors)) {
		line = &cgroup->ancestors;
		bpf_probe_read_kernel(&ancestor, sizeof(ancestor), line + place);
		id = BPF_CORE_READ(ancestor, kn, id);
	} else {
		line = &((struct cgroup___old *)cgroup)->ancestor_ids;
		bpf_probe_read_kernel(&id, sizeof(id), line + place);
	}
	return id == own_cgroup;
}

/*
 * A process of the tree, whose mark is `m`, is in cgroup `to` now. Told once, until it comes back:
 * outside, neither its first bytes are seen nor are its connects refused.
 */
INLINE void tell_if_left(struct task_struct *task, struct cgroup *to, struct member *m)
{
	struct task_struct *by = bpf_get_current_task_btf();
	struct tamper t = { .what = TAMPER_LEFT, .cgroup = own_cgroup };

	if (!own_cgroup)
		return;
	if (in_own_cgroup(to)) {
		m->left = 0;
		return;
	}
	if (m->left)
		return;
	m->left = 1;
	t.cgroup_to = BPF_CORE_READ(to, kn, id);
	if (member_of(by)) {
		tell_tamper(by, task, &t);
	} else {
		t.flags = TAMPER_BY_OUTSIDER;
		tell_tamper(task, task, &t);
	}
}

#endif
