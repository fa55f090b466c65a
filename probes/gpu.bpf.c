/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * GPU devices: opened, and driven. A device is known by its number, never by its
 * path: user space (NVML, for one) makes nodes of its own for the same number.
 */
#include "gpu_decode.bpf.h"
#include "gpu_state.bpf.h"
#include "guard.bpf.h"
#include "span.bpf.h"
#include "syscall.bpf.h"

struct gpu_device {
	__u32 major;
	__u32 minor; /* or ANY_MINOR */
};

#define ANY_MINOR 0xffffffff

/* Which numbers are GPUs on this host, and what drives them: filled by user
 * space from /proc/devices and --gpu-device. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 256);
	__type(key, struct gpu_device);
	__type(value, __u32); /* enum gpu_family */
} gpu_devices SEC(".maps");

INLINE __u32 family_of_device(__u32 major, __u32 minor)
{
	struct gpu_device key = { major, minor };
	__u32 *family = bpf_map_lookup_elem(&gpu_devices, &key);

	if (!family) {
		key.minor = ANY_MINOR;
		family = bpf_map_lookup_elem(&gpu_devices, &key);
	}
	return family ? *family : GPU_NONE;
}

/*
 * Why this hook: it runs for every open of a device node below the tree's cgroup,
 * io_uring's included, whatever the path, and costs nobody else anything. It sees
 * neither an open by a task that left the cgroup nor a descriptor passed over a
 * socket; the ioctl hook does.
 */
SEC("cgroup/dev")
int on_device(struct bpf_cgroup_dev_ctx *ctx)
{
	struct task_struct *task;
	struct event_gpu_open *e;
	__u32 family;

	if ((ctx->access_type & 0xffff) != BPF_DEVCG_DEV_CHAR)
		return 1;
	family = family_of_device(ctx->major, ctx->minor);
	if (family == GPU_NONE || !concerns_tree())
		return 1;
	task = (void *)bpf_get_current_task();
	e = reserve_bulk(struct event_gpu_open, task, EVENT_GPU_OPEN, 0);
	if (!e)
		return 1;
	e->major = ctx->major;
	e->minor = ctx->minor;
	e->access = ctx->access_type >> 16;
	e->family = family;
	name_span_or_asker(e, task);
	submit_event(e, 1);
	return 1;
}

/* Count the command; true when it is the first of its kind, or has no slot. */
INLINE int is_news(struct gpu_state *state, struct gpu_command *c)
{
	__u8 how = c->flags & (GPU_WRAPPED | GPU_COMPAT | GPU_ARG_UNREADABLE);
	__u32 hash = (c->nr * 0x9e3779b1u) ^ (c->code * 0x85ebca6bu) ^ (c->minor * 0xc2b2ae35u) ^
		     (c->family << 7) ^ how;

	hash ^= hash >> 15;
	for (__u32 i = 0; i < GPU_PROBES; i++) {
		struct gpu_kind *kind = &state->kinds[(hash + i) % GPU_KINDS_MAX];

		if (kind->count && kind->nr == c->nr && kind->code == c->code &&
		    kind->family == c->family && kind->minor == c->minor && kind->flags == how) {
			__sync_fetch_and_add(&kind->count, 1);
			return 0;
		}
		/* Two threads may claim one slot at the same time: the exchange
		 * lets one have it, the other goes on to the next. */
		if (!kind->count && !__sync_val_compare_and_swap(&kind->count, 0, 1)) {
			kind->nr = c->nr;
			kind->code = c->code;
			kind->family = c->family;
			kind->minor = c->minor;
			kind->flags = how;
			c->flags |= GPU_FIRST;
			return 1;
		}
	}
	__sync_fetch_and_add(&state->uncounted, 1);
	c->flags |= GPU_UNCOUNTED;
	return 1;
}

INLINE void note_memory(struct gpu_state *state, struct gpu_command *c)
{
	if (c->unsized)
		__sync_fetch_and_add(&state->unsized, 1);
	if (!c->asked)
		return;
	__sync_fetch_and_add(&state->asked, c->asked);
	if (c->asked > state->largest) /* two threads at once: the last one's stays */
		state->largest = c->asked;
}

/*
 * What the rules say of a process that makes a compute context: as far as that can be said here, it is
 * one that certainly may not.
 */
static __noinline int judge_gpu_client(__u32 barred, struct verdict *v)
{
	struct knowledge_header *header;
	void *map;

	if (!v)
		return 0;
	header = rules_now(&map);
	if (!header)
		return 0;
	if (barred && barred == header->epoch)
		v->signals[0] |= fact(header->gpu_not_listed_fact);
	judge(map, header, v->signals, RULES_ON_GPU, v);
	return 1;
}

/* A member of the tree is about to have `file` do `cmd`; whatever hook shows it comes here. */
static __noinline int gpu_ioctl(struct task_struct *task, struct file *file, __u32 cmd, __u64 arg,
				__u8 flags)
{
	struct task_struct *leader = FIELD(task, group_leader);
	struct member *m;
	struct gpu_command c = { .cmd = cmd, .flags = flags };
	struct verdict verdict = {};
	__u64 began;
	struct event_gpu_ioctl *e;
	struct gpu_state *state;
	__u32 rdev;

	rdev = BPF_CORE_READ(file, f_inode, i_rdev);
	if (!rdev)
		return 0;
	c.minor = rdev & 0xfffff;
	c.family = family_of_device(rdev >> 20, c.minor);
	if (c.family == GPU_NONE || is_generic(&c))
		return 0;
	decode(&c, arg);
	m = member_of(leader);
	state = gpu_states_of(leader, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (m && state) {
		m->gpu_client = 1;
		note_memory(state, &c);
		if (!is_news(state, &c)) {
			state->dirty = 1;
			if (bpf_ktime_get_boot_ns() - state->flushed_at > GPU_FLUSH_NS)
				send_gpu_counts(leader, 0);
			return 0;
		}
	} else {
		count_loss(LOSS_GPU_STATE);
	}
	if (c.flags & GPU_COMPUTE && judge_here) {
		began = bpf_ktime_get_boot_ns();
		judge_gpu_client(m ? m->barred : 0, &verdict);
		carry_out_on_process(&verdict); /* the call goes on, and never comes back */
		verdict.took_ns = bpf_ktime_get_boot_ns() - began;
	}
	e = reserve_bulk(struct event_gpu_ioctl, task, EVENT_GPU_IOCTL, c.flags & GPU_COMPUTE);
	if (!e)
		return 0;
	e->verdict = verdict;
	e->major = rdev >> 20;
	e->minor = c.minor;
	e->asked = c.asked;
	e->cmd = c.cmd;
	e->nr = c.nr;
	e->code = c.code;
	e->family = c.family;
	e->flags = c.flags;
	name_span(e, e->head.tid);
	submit_event(e, c.flags & GPU_COMPUTE);
	return 0;
}

/* With the file in hand, and asked for nothing but ioctls: whoever makes other calls pays nothing. */
INLINE int on_ioctl(struct file *file, __u32 cmd, __u64 arg)
{
	struct task_struct *task = bpf_get_current_task_btf();

	if (member_of(task))
		gpu_ioctl(task, file, cmd, arg, IS_COMPAT(task) ? GPU_COMPAT : 0);
	return 0;
}

/*
 * Why these hooks: security_file_ioctl() is called for every ioctl on a file, before the file's driver, and by
 * nothing else. 32-bit calls have a function of their own since Linux 6.8 (and 6.1.75, 6.6.14); before, they come
 * by the first one. BPF LSM, where it is switched on, has no limit to how many run at once; a trampoline or a
 * kprobe is left out for a task that comes while another is in it on the same CPU, and the kernel counts those.
 */
SEC("lsm/file_ioctl")
int BPF_PROG(on_ioctl_lsm, struct file *file, unsigned int cmd, unsigned long arg)
{
	return on_ioctl(file, cmd, arg);
}

SEC("lsm/file_ioctl_compat")
int BPF_PROG(on_ioctl_lsm_compat, struct file *file, unsigned int cmd, unsigned long arg)
{
	return on_ioctl(file, cmd, arg);
}

SEC("fentry/security_file_ioctl")
int BPF_PROG(on_ioctl_fentry, struct file *file, unsigned int cmd, unsigned long arg)
{
	return on_ioctl(file, cmd, arg);
}

SEC("fentry/security_file_ioctl_compat")
int BPF_PROG(on_ioctl_fentry_compat, struct file *file, unsigned int cmd, unsigned long arg)
{
	return on_ioctl(file, cmd, arg);
}

SEC("kprobe/security_file_ioctl")
int on_ioctl_kprobe(struct pt_regs *regs)
{
	return on_ioctl((struct file *)REG_FIRST(regs), REG_CMD(regs), REG_ARG(regs));
}

SEC("kprobe/security_file_ioctl_compat")
int on_ioctl_kprobe_compat(struct pt_regs *regs)
{
	return on_ioctl((struct file *)REG_FIRST(regs), REG_CMD(regs), REG_ARG(regs));
}

/* By a number out of the task's table of files. */
INLINE void gpu_ioctl_on(struct task_struct *task, __u32 fd, __u32 cmd, __u64 arg, __u8 flags)
{
	struct fdtable *table = BPF_CORE_READ(task, files, fdt);
	struct file **slots, *file = NULL;

	if (fd >= BPF_CORE_READ(table, max_fds))
		return;
	slots = BPF_CORE_READ(table, fd);
	bpf_probe_read_kernel(&file, sizeof(file), slots + fd);
	if (file)
		gpu_ioctl(task, file, cmd, arg, flags);
}

/*
 * Why this hook: the last resort, where neither fentry nor kprobes nor LSM
 * programs can be had. It runs at every system call of the whole host, hence the
 * order of the tests; unlike tracepoint/syscalls/sys_enter_ioctl it also sees
 * 32-bit calls, which the driver accepts. Attached only on hosts with a GPU.
 */
TRACEPOINT("sys_enter")
int BPF_PROG(on_sys_enter, struct pt_regs *regs, long id)
{
	struct task_struct *task;

	if (id != NR_IOCTL && id != NR_IOCTL_COMPAT && id != NR_IOCTL_X32)
		return 0;
	task = bpf_get_current_task_btf();
	if (!member_of(task))
		return 0;
	if (IS_COMPAT(task)) {
		if (id == NR_IOCTL_COMPAT)
			gpu_ioctl_on(task, REG_FD_COMPAT(regs), REG_CMD_COMPAT(regs),
				  REG_ARG_COMPAT(regs), GPU_COMPAT);
	} else if (id == NR_IOCTL || id == NR_IOCTL_X32) {
		gpu_ioctl_on(task, REG_FD(regs), REG_CMD(regs), REG_ARG(regs), 0);
	}
	return 0;
}

/*
 * Devices that the tree held before the watch: read once, when user space attaches to a running tree. Why so: what a
 * client has set up by then it never asks for again, so its descriptors are all that is left to be seen of it. One
 * record a descriptor.
 */
SEC("iter/task_file")
int on_gpu_file(struct bpf_iter__task_file *ctx)
{
	struct task_struct *task = ctx->task;
	struct file *file = ctx->file;
	struct event_gpu_open e = {};
	__u32 rdev;

	if (!task || !file || !member_of(task->group_leader))
		return 0;
	rdev = BPF_CORE_READ(file, f_inode, i_rdev);
	if (!rdev || (BPF_CORE_READ(file, f_inode, i_mode) & S_IFMT) != S_IFCHR)
		return 0;
	e.family = family_of_device(rdev >> 20, rdev & 0xfffff);
	if (e.family == GPU_NONE)
		return 0;
	e.head.ts = bpf_ktime_get_boot_ns();
	e.head.start = BPF_CORE_READ(task, group_leader, start_boottime);
	e.head.tgid = task->tgid;
	e.head.tid = task->pid;
	e.head.size = sizeof(e);
	e.head.kind = EVENT_GPU_OPEN;
	e.major = rdev >> 20;
	e.minor = rdev & 0xfffff;
	e.open_flags = GPU_HELD;
	bpf_seq_write(ctx->meta->seq, &e, sizeof(e));
	return 0;
}
