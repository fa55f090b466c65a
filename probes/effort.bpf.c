/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * How much each process of the tree computes, as user space reads it through an iterator,
 * about once a second. Why so: the scheduler counts by itself, so no switch, no system call
 * and no thread of the tree pays for it; a task outside the tree costs one look-up a pass.
 *
 * A process's sums lie in its leader's storage. The leader is met first (an iterator goes by
 * number), and closes what its threads have come to since it was met the last time: a pass tells
 * what was so a pass ago. Threads that have ended are in the process's own sums, so that
 * nobody hides by starting a new one every moment. What it misses: a process that lives no
 * longer than a pass.
 */
#include "age.bpf.h"
#include "tree.bpf.h"

#define QUOTA_LEVELS 8
/* Of less than a tenth of a processor nothing is told. */
#define BUSY_PART 10

struct effort_sums {
	__u64 ran;
	__u64 waited;
	__u64 switches;
	__u64 calls;
};

struct effort {
	__u64 before; /* when the leader was met the last time but one, and the last time */
	__u64 at;
	struct effort_sums told; /* as of the last time but one */
	struct effort_sums sums; /* of the threads met since the last time, and of those that had ended then */
	__u32 threads;
	__u32 flags;
	__u32 looked; /* at its executable, in this pass */
	__u32 _pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct effort);
} efforts SEC(".maps");

INLINE __u32 executable_flags(struct task_struct *task)
{
	struct inode *inode = BPF_CORE_READ(task, mm, exe_file, f_inode);

	return inode && is_new_file(inode) ? EFFORT_NEW_FILE : 0;
}

/* Thousandths of processors that the task may use. */
INLINE __u32 cores_allowed(struct task_struct *task)
{
	__u64 cores = (__u64)task->nr_cpus_allowed * 1000;
	struct task_group *group = NULL;
	int level;

	if (!bpf_core_field_exists(task->sched_task_group) ||
	    !bpf_core_field_exists(group->cfs_bandwidth))
		return cores;
	group = BPF_CORE_READ(task, sched_task_group);
	for (level = 0; level < QUOTA_LEVELS; level++) {
		__u64 quota, period, share;

		if (!group)
			break;
		quota = BPF_CORE_READ(group, cfs_bandwidth.quota);
		period = BPF_CORE_READ(group, cfs_bandwidth.period);
		if (quota && period && quota < (1ULL << 50)) { /* RUNTIME_INF: none is set */
			share = quota * 1000 / period;
			if (share < cores)
				cores = share;
		}
		group = BPF_CORE_READ(group, parent);
	}
	return cores ? cores : 1;
}

/* What the process did between the last two times its leader was met. Not 0: ask again. */
INLINE int tell_effort(struct seq_file *seq, struct task_struct *leader, struct effort *e,
		       struct effort_sums *now)
{
	struct event_effort r = {};
	__u64 wall = e->at - e->before;

	/* A thread that ends between being met and being counted makes a sum fall for a pass. */
	if (!e->before || now->ran < e->told.ran)
		return 0;
	r.ran_ns = now->ran - e->told.ran;
	r.waited_ns = now->waited > e->told.waited ? now->waited - e->told.waited : 0;
	if ((r.ran_ns + r.waited_ns) * BUSY_PART < wall)
		return 0;
	r.head.ts = bpf_ktime_get_boot_ns();
	r.head.start = leader->start_boottime;
	r.head.tgid = leader->tgid;
	r.head.tid = leader->pid;
	r.head.size = sizeof(r);
	r.head.kind = EVENT_EFFORT;
	r.wall_ns = wall;
	r.switches = now->switches > e->told.switches ? now->switches - e->told.switches : 0;
	r.calls = now->calls > e->told.calls ? now->calls - e->told.calls : 0;
	if (bpf_core_field_exists(leader->mm->hugetlb_usage))
		r.huge_pages = BPF_CORE_READ(leader, mm, hugetlb_usage.counter);
	r.cores = cores_allowed(leader);
	r.threads = e->threads;
	r.effort_flags = e->flags;
	return bpf_seq_write(seq, &r, sizeof(r));
}

/* Close the sums of the last pass, begin new ones with those who have ended. */
INLINE int meet_leader(struct seq_file *seq, struct task_struct *leader, struct effort *e)
{
	struct signal_struct *signal = leader->signal;
	struct effort_sums now = e->sums;

	if (e->at && tell_effort(seq, leader, e, &now))
		return 1;
	if (e->at)
		e->told = now;
	e->before = e->at;
	e->at = bpf_ktime_get_boot_ns();
	e->threads = 0;
	e->flags = 0;
	e->looked = 0;
	e->sums.ran = signal->sum_sched_runtime;
	e->sums.switches = signal->nvcsw;
	e->sums.waited = 0;
	e->sums.calls = 0;
	if (bpf_core_field_exists(signal->ioac))
		e->sums.calls = signal->ioac.syscr + signal->ioac.syscw;
	return 0;
}

SEC("iter/task")
int on_effort(struct bpf_iter__task *ctx)
{
	struct seq_file *seq = ctx->meta->seq;
	struct task_struct *task = ctx->task;
	struct event_effort end = {};
	struct effort *e;

	if (!task) {
		end.head.ts = bpf_ktime_get_boot_ns();
		end.head.size = sizeof(end);
		end.head.kind = EVENT_EFFORT;
		bpf_seq_write(seq, &end, sizeof(end));
		return 0;
	}
	if (!member_or_worker(task))
		return 0;
	if (task->pid == task->tgid) {
		e = bpf_task_storage_get(&efforts, task, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
		if (!e) {
			count_loss(LOSS_EFFORT);
			return 0;
		}
		/* A record that found no room is asked for again: nothing is taken as told before. */
		if (meet_leader(seq, task, e))
			return 0;
	} else {
		e = bpf_task_storage_get(&efforts, task->group_leader, 0, 0);
		if (!e)
			return 0;
	}
	e->threads++;
	e->sums.ran += task->se.sum_exec_runtime;
	e->sums.switches += task->nvcsw;
	if (bpf_core_field_exists(task->sched_info))
		e->sums.waited += task->sched_info.run_delay;
	if (bpf_core_field_exists(task->ioac))
		e->sums.calls += task->ioac.syscr + task->ioac.syscw;
	if (!e->looked && task->mm) { /* a leader that has ended has none: another thread will do */
		e->flags = executable_flags(task);
		e->looked = 1;
	}
	return 0;
}
