/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Processes: fork, exec, exit. All three go to the critical ring. */
#include "tree.bpf.h"
#include "path.bpf.h"
#include "gpu_state.bpf.h"
#include "guard.bpf.h"
#include "tamper.bpf.h"
#include "exec.bpf.h"
#include "span.bpf.h"
#include "environment.bpf.h"

#define CALLED_CAPTURE 255

#define S_IFMT 0170000
#define S_IFSOCK 0140000
#define S_IFREG 0100000
#define S_IFDIR 0040000
#define S_IFCHR 0020000
#define S_IFIFO 0010000

#define SIGNAL_GROUP_EXIT 0x00000004

/*
 * Why this hook: it runs in the parent once the child is complete and before the
 * child has run, so the child is in the tree before it can do anything. It sees
 * fork, vfork, clone and clone3, threads included, but not io_uring's workers
 * (see member_or_worker).
 */
TRACEPOINT("sched_process_fork")
int BPF_PROG(on_fork, struct task_struct *parent, struct task_struct *child)
{
	struct member *m = member_of(parent), *born;
	struct event_fork *e;
	struct counters *c;

	if (!m)
		return 0;
	born = join_tree(child, m->tree);
	if (doomed())
		kill_current();
	if (born) {
		born->left = m->left;
		born->barred = m->barred;
		inherit_span(parent, child);
		/* clone3() can make it in another cgroup: nobody moves it there */
		if (FIELD(child, cgroups) != FIELD(parent, cgroups))
			tell_if_left(child, FIELD(child, cgroups, dfl_cgrp), born);
	}
	if (FIELD(child, tgid) != FIELD(child, pid)) {
		c = my_counters();
		if (c)
			__sync_fetch_and_add(&c->threads, 1);
		return 0;
	}
	e = reserve_repairable(struct event_fork, child, EVENT_FORK);
	if (!e)
		return 0;
	e->parent_tgid = FIELD(parent, tgid);
	e->parent_start = FIELD(parent, group_leader, start_boottime);
	name_span(e, FIELD(child, pid));
	submit_event(e, 0);
	return 0;
}

INLINE __u8 kind_of_descriptor(struct task_struct *task, __u32 fd)
{
	struct fdtable *table = BPF_CORE_READ(task, files, fdt);
	struct file **slots;
	struct file *file = NULL;
	struct socket *socket;
	struct inode *inode;
	__u32 mode, major, rdev;
	__u16 family;

	if (fd >= BPF_CORE_READ(table, max_fds))
		return FD_CLOSED;
	slots = BPF_CORE_READ(table, fd);
	bpf_probe_read_kernel(&file, sizeof(file), slots + fd);
	if (!file)
		return FD_CLOSED;
	inode = BPF_CORE_READ(file, f_inode);
	mode = BPF_CORE_READ(inode, i_mode) & S_IFMT;
	switch (mode) {
	case S_IFREG:
		return FD_FILE;
	case S_IFIFO:
		return FD_PIPE;
	case S_IFSOCK:
		socket = BPF_CORE_READ(file, private_data);
		family = BPF_CORE_READ(socket, sk, __sk_common.skc_family);
		return family == AF_INET || family == AF_INET6 ? FD_NETWORK : FD_SOCKET;
	case S_IFCHR:
		rdev = BPF_CORE_READ(inode, i_rdev);
		major = rdev >> 20;
		/* Documentation/admin-guide/devices.txt: 1:3 null; 4 and 5 tty;
		 * 136-143 Unix98 pty slaves */
		if (rdev == (1 << 20 | 3))
			return FD_NULL;
		if (major == 4 || major == 5 || (major >= 136 && major <= 143))
			return FD_TTY;
	}
	return FD_OTHER;
}

INLINE __u64 cgroup_of(struct task_struct *task)
{
	return BPF_CORE_READ(task, cgroups, dfl_cgrp, kn, id);
}

/*
 * Why this hook: the new program is in place and has not run an instruction. The
 * arguments lie on its fresh stack, where nobody else has had a chance to change
 * them. It does not see a program that never execs (ld.so mapping a file by
 * hand, a fork that goes on with its parent's code).
 */
TRACEPOINT("sched_process_exec")
int BPF_PROG(on_exec, struct task_struct *task, int old_pid, struct linux_binprm *bprm)
{
	struct member *m = member_of(task);
	const struct cred *cred;
	struct exec_scratch *s;
	struct counters *c;
	struct event_exec *e;
	struct mm_struct *mm;
	struct fs_struct *fs;
	struct file *exe;
	unsigned long arg_start, arg_end;
	__u64 total, args, end = 0, was, began, more;
	__u32 zero = 0;
	__u16 flags = 0;
	int news;

	if (!m) {
		if (!in_tree_cgroup() || !join_tree(task, 1))
			return 0;
		flags |= EXEC_ADOPTED;
	}
	began = bpf_ktime_get_boot_ns();
	s = bpf_map_lookup_elem(&exec_scratch, &zero);
	c = my_counters();
	if (!s || !c) {
		count_loss(LOSS_SCRATCH);
		return 0;
	}
	e = &s->event;
	__builtin_memset(e, 0, sizeof(*e));
	s->may_use_gpu = RIGHT_UNKNOWN;
	s->preload_len[LIBRARIES_AUDIT] = s->preload_len[LIBRARIES_PRELOAD] = 0;
	e->parent_tgid = FIELD(task, real_parent, tgid);
	e->parent_start = BPF_CORE_READ(task, real_parent, group_leader, start_boottime);
	e->cgroup = cgroup_of(task);
	cred = FIELD(task, cred);
	e->uid = FIELD(cred, uid.val);
	e->gid = FIELD(cred, gid.val);
	e->euid = FIELD(cred, euid.val);
	e->egid = FIELD(cred, egid.val);
	e->argc = FIELD(bprm, argc);
	e->stdio[0] = kind_of_descriptor(task, 0);
	e->stdio[1] = kind_of_descriptor(task, 1);
	e->stdio[2] = kind_of_descriptor(task, 2);
	if (FIELD(bprm, interp) != FIELD(bprm, filename))
		flags |= EXEC_SCRIPT;
	if (BPF_CORE_READ_BITFIELD_PROBED(bprm, secureexec))
		flags |= EXEC_SECURE;
	if (old_pid != FIELD(task, pid)) {
		flags |= EXEC_THREAD;
		forget_members(old_pid); /* it has its leader's number now, and mark */
	}
	mm = FIELD(task, mm);
	exe = FIELD(mm, exe_file);
	flags |= file_flags(exe, e);

	keep_span(e, FIELD(task, start_boottime), FIELD(task, pid), old_pid);
	flags |= read_environment(s, FIELD(mm, env_start), FIELD(mm, env_end));

	walk_path(&exe->f_path, &s->path);
	flags |= path_flags(&s->path, EXEC_PATH_CUT);
	end = append_path(s, 0);
	e->path_len = end;

	was = end;
	if (end <= PATH_CAPTURE) {
		/* without its NUL; an error is a large number, so that one comparison says all */
		more = bpf_probe_read_kernel_str(&s->strings[end], CALLED_CAPTURE,
						 FIELD(bprm, filename)) -
		       1;
		barrier_var(more);
		if (more < CALLED_CAPTURE)
			end += more;
	}
	e->name_len = end - was;

	was = end;
	fs = FIELD(task, fs);
	walk_path(&fs->pwd, &s->path);
	flags |= path_flags(&s->path, EXEC_CWD_CUT);
	end = append_path(s, end);
	e->cwd_len = end - was;

	arg_start = FIELD(mm, arg_start);
	arg_end = FIELD(mm, arg_end);
	total = arg_end > arg_start ? arg_end - arg_start : 0;
	e->args_total = total;
	args = total;
	if (total > ARGS_CAPTURE) {
		args = ARGS_CAPTURE;
		flags |= EXEC_ARGS_CUT;
	}
	/* clang would test another copy of the value than the one it passes on */
	barrier_var(args);
	barrier_var(end);
	if (end <= 2 * PATH_CAPTURE + 256 && args <= ARGS_CAPTURE) {
		if (bpf_probe_read_user(&s->strings[end], args, (void *)arg_start)) {
			flags |= EXEC_ARGS_UNREADABLE;
			args = 0;
		}
		e->args_len = args;
		end += args;
	}
	e->flags = flags;
	end = append_libraries(s, end, LIBRARIES_AUDIT, 2 * PATH_CAPTURE + 256 + ARGS_CAPTURE);
	end = append_libraries(s, end, LIBRARIES_PRELOAD,
			       2 * PATH_CAPTURE + 256 + ARGS_CAPTURE + PRELOAD_CAPTURE);
	end += sizeof(*e);
	barrier_var(end);
	if (end > sizeof(*e) + sizeof(s->strings))
		end = sizeof(*e) + sizeof(s->strings);
	fill_head(&e->head, task, EVENT_EXEC, RING_CRITICAL, end, c);
	e->head.ts = began;
	if (judge_here)
		judge_exec(s);
	if (s->may_use_gpu != RIGHT_KEPT && (m = member_of(task)))
		m->barred = s->may_use_gpu == RIGHT_NONE ? e->verdict.epoch : 0;
	carry_out_on_process(&e->verdict);
	/*
	 * What no rule holds for here wakes nobody who looks by the clock already: waking is the
	 * dearest part of an exec, and a reader that looks is a millisecond late at most.
	 */
	news = e->verdict.row != 0;
	if (bpf_ringbuf_output(&ring_critical, s, end, news ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP))
		__sync_fetch_and_add(&c->lost[EVENT_EXEC], 1);
	else if (!news)
		wake_sleeper(&ring_critical);
	return 0;
}

/*
 * Why this hook: it runs for each thread, killed ones too, while the task is
 * still whole. The last thread tells; two that end together may both find
 * themselves last, so the leader's mark decides.
 */
TRACEPOINT("sched_process_exit")
int BPF_PROG(on_exit, struct task_struct *task)
{
	struct member *m = member_of(task), *leader;
	struct signal_struct *signal;
	struct task_struct *first;
	struct event_exit *e;

	if (!m)
		return 0;
	leave_span(task);
	signal = FIELD(task, signal);
	if (FIELD(signal, live.counter) != 0)
		return 0;
	forget_kin(task);
	first = FIELD(task, group_leader);
	leader = member_of(first);
	if (leader && __sync_lock_test_and_set(&leader->exit_sent, 1))
		return 0;
	if (leader && leader->gpu_client)
		send_gpu_counts(first, 1);
	e = reserve_repairable(struct event_exit, task, EVENT_EXIT);
	if (!e)
		return 0;
	if (FIELD(signal, flags) & SIGNAL_GROUP_EXIT)
		e->status = FIELD(signal, group_exit_code);
	else
		e->status = FIELD(first, exit_code);
	submit_event(e, 0);
	return 0;
}
