/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Tampering that tracepoints show, all of them rare: whoever is not concerned pays for one
 * look-up when a signal is sent or a process moved, and for nothing else.
 *
 * Not seen here, because no tracepoint shows it and a hook at every system call would be dear to
 * everybody: ptrace(2), bpf(2), perf_event_open(2), mounts, writes to the tracer's files or
 * memory through /proc. Where the kernel has BPF LSM, refuse.bpf.c sees and refuses them.
 */
#include "tamper.bpf.h"
#include "syscall.bpf.h"

#define SIGIO 29
/* include/linux/sched/signal.h: the kernel itself has sent it */
#define SEND_SIG_PRIV 1
/* include/trace/events/signal.h */
#define TRACE_SIGNAL_IGNORED 1
#define TRACE_SIGNAL_ALREADY_PENDING 2

/*
 * Why this hook: every signal passes it, whatever call sent it, when it is certain that the
 * sender may; the sender is the current task. A signal that is refused has no effect and is not
 * seen, nor is signal 0. What the kernel sends of itself is no tampering (the terminal's ^C, a
 * child's end, memory that is short), but SIGIO is: a member can have any signal sent to the
 * tracer by owning a descriptor to it (fcntl(2), F_SETOWN and F_SETSIG), and SIGIO ends whoever
 * does not expect it.
 *
 * SIGKILL can't be taken back: the record is for whoever goes on with the probes.
 */
TRACEPOINT("signal_generate")
int BPF_PROG(on_signal, int sig, struct kernel_siginfo *info, struct task_struct *task, int group,
	     int result)
{
	struct control *o = orders();
	struct task_struct *by;
	struct tamper t = { .what = TAMPER_SIGNAL, .number = sig };

	if (!o || FIELD(task, tgid) != (__s32)o->tracer)
		return 0;
	by = bpf_get_current_task_btf();
	if (!member_of(by) || FIELD(by, tgid) == FIELD(task, tgid))
		return 0;
	if (sig == SIGCHLD || ((unsigned long)info == SEND_SIG_PRIV && sig != SIGIO))
		return 0;
	if (result == TRACE_SIGNAL_IGNORED || result == TRACE_SIGNAL_ALREADY_PENDING)
		return 0;
	if (sig == SIGKILL || sig == SIGSTOP)
		t.flags |= TAMPER_UNCATCHABLE;
	if (sends_to_group(by))
		t.flags |= TAMPER_TO_GROUP;
	tell_tamper(by, task, &t);
	return 0;
}

/*
 * Why this hook: it tells of every process that is put into another cgroup, when that is done.
 * Cgroups of version 1 pass it, too, and do not matter to any of our hooks. Being born elsewhere
 * (clone3) does not pass it: on_fork tells.
 */
TRACEPOINT("cgroup_attach_task")
int BPF_PROG(on_cgroup, struct cgroup *to, const char *path, struct task_struct *task)
{
	struct control *o = orders();
	struct task_struct *by;
	struct tamper t = { .what = TAMPER_MOVED };
	struct member *m;

	if (!o || FIELD(task, cgroups, dfl_cgrp) != to)
		return 0;
	if (FIELD(task, tgid) != (__s32)o->tracer) {
		m = member_of(task);
		if (m)
			tell_if_left(task, to, m);
		return 0;
	}
	t.cgroup = o->tracer_cgroup;
	t.cgroup_to = FIELD(to, kn, id);
	o->tracer_cgroup = t.cgroup_to;
	by = bpf_get_current_task_btf();
	if (member_of(by))
		tell_tamper(by, task, &t);
	return 0;
}

/*
 * Why this hook: it runs for every cgroup that is about to freeze, those below the one that was
 * written to included, in the context of whoever wrote. Told when the tracer runs again.
 */
TRACEPOINT("cgroup_freeze")
int BPF_PROG(on_freeze, struct cgroup *cgroup)
{
	struct control *o = orders();
	struct task_struct *by;
	struct tamper t = { .what = TAMPER_FROZE };

	if (!o || !o->tracer_cgroup || FIELD(cgroup, kn, id) != o->tracer_cgroup)
		return 0;
	by = bpf_get_current_task_btf();
	if (!member_of(by))
		return 0;
	t.cgroup = o->tracer_cgroup;
	tell_tamper(by, NULL, &t);
	return 0;
}

/*
 * Why this hook: it runs in init_module(2) and finit_module(2), before the module's own code does.
 * A module that the kernel asks for (request_module) is loaded by a helper of its own, which is
 * in no tree. Not tp_btf: kernels that take no modules do not know its type, and would refuse the
 * program instead of leaving it idle.
 */
SEC("raw_tp/module_load")
int BPF_PROG(on_module, struct module *module)
{
	struct task_struct *by = bpf_get_current_task_btf();
	struct tamper t = { .what = TAMPER_MODULE };

	if (!member_of(by))
		return 0;
	if (bpf_core_field_exists(module->name))
		bpf_probe_read_kernel_str(t.name, sizeof(t.name), &module->name);
	tell_tamper(by, NULL, &t);
	return 0;
}
