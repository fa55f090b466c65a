/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The few kernel types that the probes read, by hand. Every record carries
 * preserve_access_index, so libbpf moves each access to where the running
 * kernel keeps the field: order and neighbours do not matter here, names do.
 * Types of the BPF system-call interface come from <linux/bpf.h>.
 */
#ifndef VIGILES_VMLINUX_H
#define VIGILES_VMLINUX_H

#include <linux/types.h>
#include <linux/bpf.h>

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

typedef struct {
	int counter;
} atomic_t;

typedef struct {
	__u32 val;
} kuid_t;

typedef struct {
	__u32 val;
} kgid_t;

struct qstr {
	__u32 len;
	const unsigned char *name;
};

struct super_block {
	__u32 s_dev;
	unsigned long s_magic;
};

/* The time of change has moved about: 6.11 and later, 6.7 to 6.10, before. */
struct timespec64 {
	__s64 tv_sec;
	long tv_nsec;
};

struct inode___6_7 {
	struct timespec64 __i_mtime;
	struct timespec64 __i_ctime;
};

struct inode___old {
	struct timespec64 i_mtime;
	struct timespec64 i_ctime;
};

struct inode {
	__s64 i_size;
	__s64 i_mtime_sec;
	__u32 i_mtime_nsec;
	__s64 i_ctime_sec;
	__u32 i_ctime_nsec;
	__u16 i_mode;
	__u32 i_nlink;
	__u32 i_rdev;
	unsigned long i_ino;
	struct super_block *i_sb;
};

struct dentry {
	struct dentry *d_parent;
	struct qstr d_name;
	struct inode *d_inode;
	struct super_block *d_sb;
};

struct vfsmount {
	struct dentry *mnt_root;
	struct super_block *mnt_sb;
};

struct mount {
	struct mount *mnt_parent;
	struct dentry *mnt_mountpoint;
	struct vfsmount mnt;
};

struct path {
	struct vfsmount *mnt;
	struct dentry *dentry;
};

struct file {
	void *private_data;
	unsigned int f_mode;
	struct inode *f_inode;
	struct path f_path;
};

struct fdtable {
	unsigned int max_fds;
	struct file **fd;
};

struct files_struct {
	struct fdtable *fdt;
};

struct fs_struct {
	struct path pwd;
};

typedef struct {
	__s64 counter;
} atomic64_t;

struct mm_struct {
	atomic64_t hugetlb_usage;
	unsigned long arg_start;
	unsigned long arg_end;
	unsigned long env_start;
	unsigned long env_end;
	struct file *exe_file;
};

struct cred {
	kuid_t uid;
	kgid_t gid;
	kuid_t euid;
	kgid_t egid;
};

struct task_io_accounting {
	__u64 syscr;
	__u64 syscw;
};

struct sched_entity {
	__u64 sum_exec_runtime;
};

struct sched_info {
	__u64 run_delay;
};

struct cfs_bandwidth {
	__s64 period;
	__u64 quota;
};

struct task_group {
	struct task_group *parent;
	struct cfs_bandwidth cfs_bandwidth;
};

/* What its threads that have ended came to. */
struct signal_struct {
	__u64 sum_sched_runtime;
	unsigned long nvcsw;
	struct task_io_accounting ioac;
	atomic_t live;
	unsigned int flags;
	int group_exit_code;
	int nr_threads;
};

struct kernfs_node {
	__u64 id;
};

/* The line of ancestors, itself last: pointers since 6.1, ids before. */
struct cgroup {
	struct kernfs_node *kn;
	int level;
	struct cgroup *ancestors[1];
};

struct cgroup___old {
	__u64 ancestor_ids[1];
};

struct module {
	char name[1];
};

struct kernel_siginfo;

struct css_set {
	struct cgroup *dfl_cgrp;
};

struct thread_info {
	unsigned long flags;
	unsigned int status; /* x86: TS_COMPAT */
};

struct ns_common {
	unsigned int inum;
};

struct mnt_namespace {
	struct ns_common ns;
};

struct nsproxy {
	struct mnt_namespace *mnt_ns;
};

struct task_struct {
	struct thread_info thread_info;
	unsigned int flags;
	__s32 pid;
	__s32 tgid;
	int exit_code;
	struct task_struct *real_parent;
	struct task_struct *group_leader;
	__u64 start_boottime;
	struct mm_struct *mm;
	struct files_struct *files;
	struct fs_struct *fs;
	const struct cred *cred;
	struct signal_struct *signal;
	struct css_set *cgroups;
	struct nsproxy *nsproxy;
	struct sched_entity se;
	struct sched_info sched_info;
	struct task_io_accounting ioac;
	struct task_group *sched_task_group;
	unsigned long nvcsw;
	int nr_cpus_allowed;
	void *worker_private;
	char comm[16];
};

/* io_uring/io-wq.c: for whom a worker works; 6.1 has a step between. */
struct io_wq {
	struct task_struct *task;
};

struct io_worker {
	struct io_wq *wq;
};

struct io_wqe {
	struct io_wq *wq;
};

struct io_worker___old {
	struct io_wqe *wqe;
};

struct bpf_map {
	__u32 id;
};

struct bpf_prog_aux {
	__u32 id;
};

struct bpf_prog {
	struct bpf_prog_aux *aux;
};

struct linux_binprm {
	unsigned int secureexec : 1;
	struct file *file;
	int argc;
	const char *filename;
	const char *interp;
	char buf[4]; /* the beginning of the file */
};

struct in6_addr {
	union {
		__u8 u6_addr8[16];
		__u32 u6_addr32[4];
	} in6_u;
};

struct sock_common {
	union {
		struct {
			__u32 skc_daddr;
			__u32 skc_rcv_saddr;
		};
	};
	union {
		struct {
			__u16 skc_dport;
			__u16 skc_num;
		};
	};
	__u16 skc_family;
	volatile unsigned char skc_state;
	unsigned long skc_flags;
	struct in6_addr skc_v6_daddr;
	struct in6_addr skc_v6_rcv_saddr;
};

struct sock {
	struct sock_common __sk_common;
	__u16 sk_protocol;
	int sk_err;
};

struct socket {
	struct sock *sk;
};

struct tcp_sock {
	__u64 bytes_received;
	__u64 bytes_sent;
	__u64 bytes_retrans;
	__u64 bytes_acked;
	__u32 copied_seq;
	__u32 data_segs_in;
	__u32 data_segs_out;
};

struct sockaddr_un {
	__u16 sun_family;
	char sun_path[108];
};

struct sockaddr;

struct bpf_sock_addr_kern {
	struct sockaddr *uaddr;
	__u32 uaddrlen;
};

struct bpf_iter_meta {
	struct seq_file *seq;
	__u64 session_id;
	__u64 seq_num;
};

struct bpf_iter__bpf_sk_storage_map {
	union {
		struct bpf_iter_meta *meta;
	};
	union {
		struct bpf_map *map;
	};
	union {
		struct sock *sk;
	};
	union {
		void *value;
	};
};

struct bpf_iter__task_file {
	union {
		struct bpf_iter_meta *meta;
	};
	union {
		struct task_struct *task;
	};
	union {
		struct file *file;
	};
};

struct bpf_iter__task {
	union {
		struct bpf_iter_meta *meta;
	};
	union {
		struct task_struct *task;
	};
};

#if defined(__TARGET_ARCH_x86)
struct pt_regs {
	unsigned long di;
	unsigned long si;
	unsigned long dx;
	unsigned long orig_ax;
	unsigned long bx;
	unsigned long cx;
};
#elif defined(__TARGET_ARCH_arm64)
struct pt_regs { /* the call's number is in regs[8] */
	__u64 regs[31];
	__u64 sp;
	__u64 pc;
	__u64 pstate;
};
#endif

#pragma clang attribute pop

#endif
