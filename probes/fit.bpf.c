/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Where a kernel without BTF has its fields is told by somebody else, who may have meant another kernel: then all
 * that is read is wrong, and nothing says so. Here the current task is read as the other probes read theirs,
 * and compared with what is known of it: by helpers, or by user space (tracer/kernel/fit.py), which runs this
 * once by hand (BPF_PROG_RUN). It is never attached.
 */
#include "common.bpf.h"

struct known {
	__u64 arg_start;
	__u32 null_fd; /* /dev/null */
	__u32 socket_fd; /* an IPv4 socket at `port` */
	__u32 port;
	__u32 _pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct known);
} known SEC(".maps");

/* The order is that of tracer/kernel/fit.py. */
#define MISFIT_TASK (1 << 0)
#define MISFIT_CRED (1 << 1)
#define MISFIT_CGROUP (1 << 2)
#define MISFIT_MM (1 << 3)
#define MISFIT_FILE (1 << 4)
#define MISFIT_SOCK (1 << 5)

#define DEV_NULL (1 << 20 | 3)

INLINE struct file *file_at(struct task_struct *task, __u32 fd)
{
	struct fdtable *table = BPF_CORE_READ(task, files, fdt);
	struct file **slots = BPF_CORE_READ(table, fd), *file = NULL;

	if (fd < BPF_CORE_READ(table, max_fds))
		bpf_probe_read_kernel(&file, sizeof(file), slots + fd);
	return file;
}

SEC("raw_tp")
int look_at_self(void *ctx)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	__u64 ids = bpf_get_current_pid_tgid(), owner = bpf_get_current_uid_gid();
	__u32 zero = 0, misfits = 0;
	struct known *k = bpf_map_lookup_elem(&known, &zero);
	struct socket *socket;
	struct file *file;

	if (!k)
		return -1;
	if (BPF_CORE_READ(task, pid) != (__s32)(__u32)ids || BPF_CORE_READ(task, tgid) != (__s32)(ids >> 32) ||
	    BPF_CORE_READ(task, group_leader, pid) != (__s32)(ids >> 32))
		misfits |= MISFIT_TASK;
	if (BPF_CORE_READ(task, cred, uid.val) != (__u32)owner || BPF_CORE_READ(task, cred, gid.val) != owner >> 32)
		misfits |= MISFIT_CRED;
	if (BPF_CORE_READ(task, cgroups, dfl_cgrp, kn, id) != bpf_get_current_cgroup_id())
		misfits |= MISFIT_CGROUP;
	if (BPF_CORE_READ(task, mm, arg_start) != k->arg_start)
		misfits |= MISFIT_MM;
	file = file_at(task, k->null_fd);
	if (BPF_CORE_READ(file, f_inode, i_rdev) != DEV_NULL)
		misfits |= MISFIT_FILE;
	file = file_at(task, k->socket_fd);
	socket = BPF_CORE_READ(file, private_data);
	if (BPF_CORE_READ(socket, sk, __sk_common.skc_family) != AF_INET ||
	    BPF_CORE_READ(socket, sk, __sk_common.skc_num) != k->port)
		misfits |= MISFIT_SOCK;
	return misfits;
}
