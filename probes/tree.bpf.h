/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Who is in the tree. The mark lies in the task's own storage: it is inherited
 * at fork (process.bpf.c), so setsid, double forks, re-parenting to init and
 * leaving the cgroup do not shake it off, and it goes away with the task. A
 * task outside pays one look-up.
 */
#ifndef VIGILES_TREE_BPF_H
#define VIGILES_TREE_BPF_H

#include "common.bpf.h"

struct member {
	__u32 tree; /* id + 1; 0: not in any */
	__u32 exit_sent; /* of a group leader: the process's exit has been told */
	__u32 gpu_client; /* of a group leader: has a gpu_state */
	__u32 left; /* has left the tree's cgroup, which has been told */
	__u32 told; /* of some things that are told once */
	__u32 barred; /* by these rules (epoch) it certainly may not use the GPU */
};

KEPT_OF_TASK(members, struct member, 1 << 18)

/*
 * The same by process, as pid -> start: for programs on cgroups, which most kernels
 * do not let look into a task's storage (bpf_task_storage_get was for tracing and LSM
 * alone: bpf_base_func_proto(), kernel/bpf/helpers.c). Kept only where it is needed.
 */
const volatile __u8 keep_kin = 0;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1 << 18);
	__type(key, __u32);
	__type(value, __u64);
} kin SEC(".maps");

#define PF_IO_WORKER 0x00000010

INLINE struct member *member_of(struct task_struct *task)
{
	struct member *m = members_of(task, 0);

	if (m && m->tree)
		return m;
	return NULL;
}

/*
 * io_uring's kernel workers are threads of their process but are made without
 * passing the fork tracepoint: they count as their leader does.
 */
INLINE struct member *member_or_worker(struct task_struct *task)
{
	struct member *m = member_of(task);

	if (m || !(FIELD(task, flags) & PF_IO_WORKER))
		return m;
	return member_of(FIELD(task, group_leader));
}

/* A member's process: of its threads, all have the same. */
INLINE void note_kin(struct task_struct *task)
{
	__u64 start = BPF_CORE_READ(task, group_leader, start_boottime);
	__u32 tgid = FIELD(task, tgid);

	if (keep_kin && FIELD(task, pid) == (__s32)tgid && bpf_map_update_elem(&kin, &tgid, &start, BPF_ANY))
		count_loss(LOSS_TASK_STORAGE);
}

/* It has ended. */
INLINE void forget_kin(struct task_struct *task)
{
	__u32 tgid = FIELD(task, tgid);

	if (keep_kin)
		bpf_map_delete_elem(&kin, &tgid);
}

INLINE struct member *join_tree(struct task_struct *task, __u32 tree)
{
	struct member *m;

	m = members_of(task, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!m) {
		count_loss(LOSS_TASK_STORAGE);
		return NULL;
	}
	m->tree = tree;
	note_kin(task);
	return m;
}

/* Is the current task below the cgroup that names the tree? */
INLINE int in_tree_cgroup(void)
{
	return tree_cgroup && bpf_get_current_ancestor_cgroup_id(tree_cgroup_level) == tree_cgroup;
}

/* Asked by programs on cgroups: is the task in the tree? */
INLINE int process_in_tree(struct task_struct *task)
{
	__u64 *start;
	__u32 tgid;

	if (!keep_kin)
		return member_or_worker(task) != NULL;
	tgid = BPF_CORE_READ(task, tgid);
	start = bpf_map_lookup_elem(&kin, &tgid);
	return start && *start == BPF_CORE_READ(task, group_leader, start_boottime);
}

INLINE int current_in_tree(void)
{
	return process_in_tree(bpf_get_current_task_btf());
}

/*
 * Does a cgroup hook's event belong to the tree? All of a cgroup of our own do;
 * in a cgroup shared with others, lineage decides.
 */
INLINE int concerns_tree(void)
{
	if (!filter_by_lineage)
		return 1;
	return current_in_tree();
}

#endif
