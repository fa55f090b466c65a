/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * All that differs between the two builds of the probes. One is for kernels that describe their own types (BTF):
 * there the verifier knows what a tracepoint hands over, and follows pointers as C does. The other one, made with
 * WITHOUT_KERNEL_BTF, asks nothing of the kernel but that it runs BPF: what a tracepoint hands over is a number to
 * the verifier, so each field is read by a helper, and what is kept of a task lies in a hash. Where fields lie is
 * told by tracer/kernel/bcc.py; programs that can't be had so are in files that vigiles.bpf.c leaves out.
 */
#ifndef VIGILES_COMPAT_BPF_H
#define VIGILES_COMPAT_BPF_H

#ifndef WITHOUT_KERNEL_BTF

#define TRACEPOINT(name) SEC("tp_btf/" name)

/* FIELD(task, real_parent, tgid): task->real_parent->tgid */
#define FIELD(...) ___arrow(__VA_ARGS__)

/* What is kept of each task, called `name`: `name`_of() finds it, or makes it. It goes away with the task. */
#define KEPT_OF_TASK(name, kept, most)                                                             \
	struct {                                                                                   \
		__uint(type, BPF_MAP_TYPE_TASK_STORAGE);                                           \
		__uint(map_flags, BPF_F_NO_PREALLOC);                                              \
		__type(key, int);                                                                  \
		__type(value, kept);                                                               \
	} name SEC(".maps");                                                                       \
	INLINE kept *name##_of(struct task_struct *task, __u64 create)                             \
	{                                                                                          \
		return bpf_task_storage_get(&name, task, 0, create);                               \
	}                                                                                          \
	INLINE void forget_##name(__u32 tid)                                                       \
	{                                                                                          \
	}

#define TCP_SOCK(sk) bpf_skc_to_tcp_sock(sk)
#define REGS_OF(task) ((struct pt_regs *)bpf_task_pt_regs(task))

#else

#define TRACEPOINT(name) SEC("raw_tp/" name)
#define FIELD(...) BPF_CORE_READ(__VA_ARGS__)
#define bpf_get_current_task_btf() ((struct task_struct *)bpf_get_current_task())

/*
 * By number and start, since numbers are given away again: on_free (plain.bpf.c) clears away, and whoever comes
 * before it finds another's start. A start of 0 is a fresh element's, or one of user space, which can't tell the
 * start exactly: it belongs to the task that is met first.
 */
#define KEPT_OF_TASK(name, kept, most)                                                             \
	struct name##_kept {                                                                       \
		__u64 start;                                                                       \
		kept value;                                                                        \
	};                                                                                         \
	struct {                                                                                   \
		__uint(type, BPF_MAP_TYPE_HASH);                                                   \
		__uint(map_flags, BPF_F_NO_PREALLOC);                                              \
		__uint(max_entries, most);                                                         \
		__type(key, __u32);                                                                \
		__type(value, struct name##_kept);                                                 \
	} name SEC(".maps");                                                                       \
	struct {                                                                                   \
		__uint(type, BPF_MAP_TYPE_ARRAY);                                                  \
		__uint(max_entries, 1);                                                            \
		__type(key, __u32);                                                                \
		__type(value, struct name##_kept);                                                 \
	} blank_##name SEC(".maps");                                                               \
	INLINE kept *name##_of(struct task_struct *task, __u64 create)                             \
	{                                                                                          \
		__u64 start = BPF_CORE_READ(task, start_boottime);                                 \
		__u32 tid = BPF_CORE_READ(task, pid), zero = 0;                                    \
		struct name##_kept *found = bpf_map_lookup_elem(&name, &tid), *blank;              \
                                                                                                   \
		if (!found || (found->start && found->start != start)) {                           \
			if (!create)                                                               \
				return NULL;                                                       \
			blank = bpf_map_lookup_elem(&blank_##name, &zero);                         \
			if (!blank)                                                                \
				return NULL;                                                       \
			bpf_map_update_elem(&name, &tid, blank, found ? BPF_ANY : BPF_NOEXIST);    \
			found = bpf_map_lookup_elem(&name, &tid);                                  \
			if (!found)                                                                \
				return NULL;                                                       \
		}                                                                                  \
		if (!found->start)                                                                 \
			found->start = start;                                                      \
		return &found->value;                                                              \
	}                                                                                          \
	INLINE void forget_##name(__u32 tid)                                                       \
	{                                                                                          \
		bpf_map_delete_elem(&name, &tid);                                                  \
	}

#define TCP_SOCK(sk) ((struct tcp_sock *)(sk))
/* The kernel's stack of a task, at whose end they lie, is as long as its configuration says: not known here. */
#define REGS_OF(task) ((struct pt_regs *)NULL)

#endif

#endif
