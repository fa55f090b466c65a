/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The tasks that are there already: read by user space through an iterator, to
 * attach to a running tree and to repair its picture after a loss.
 *
 * User space marks the first tasks by pidfd. One pass puts into the tree every
 * task whose leader or parent is in it. The order of tasks is not that of descent, so user space repeats passes until
 * one finds nothing fresh. Forks meanwhile are seen by on_fork, attached before.
 */
#include "tree.bpf.h"
#include "span.bpf.h"

SEC("iter/task")
int on_task(struct bpf_iter__task *ctx)
{
	struct seq_file *seq = ctx->meta->seq;
	struct task_struct *task = ctx->task, *leader, *parent;
	struct event_task e = {};
	struct member *m;

	/* A zombie has been told of already. */
	if (!task || task->signal->live.counter == 0)
		return 0;
	m = member_of(task);
	leader = task->group_leader;
	if (!m) {
		parent = task->real_parent;
		if (!member_of(leader) && !member_of(parent))
			return 0;
		if (!join_tree(task, 1))
			return 0;
		e.fresh = 1;
	}
	note_kin(task); /* the first ones were marked by user space */
	if (task->pid != task->tgid && !e.fresh)
		return 0;
	e.head.ts = bpf_ktime_get_boot_ns();
	e.head.start = leader->start_boottime;
	e.head.tgid = task->tgid;
	e.head.tid = task->pid;
	e.head.size = sizeof(e);
	e.head.kind = EVENT_TASK;
	e.parent_tgid = task->real_parent->tgid;
	e.parent_start = BPF_CORE_READ(task, real_parent, group_leader, start_boottime);
	e.cgroup = BPF_CORE_READ(task, cgroups, dfl_cgrp, kn, id);
	e.ino = BPF_CORE_READ(task, mm, exe_file, f_inode, i_ino);
	e.dev = BPF_CORE_READ(task, mm, exe_file, f_inode, i_sb, s_dev);
	e.uid = task->cred->uid.val;
	e.gid = task->cred->gid.val;
	e.threads = BPF_CORE_READ(task, signal, nr_threads);
	name_first_span(&e, task->pid);
	bpf_probe_read_kernel(e.comm, sizeof(e.comm), task->comm);
	bpf_seq_write(seq, &e, sizeof(e));
	return 0;
}
