/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel's types that the probes read (probes/vmlinux.h), as its own headers have them: compiled on the host, by
 * bcc, where the kernel does not describe them itself. Nothing of this is run; what matters is the BTF that comes of it.
 */
#include <linux/binfmts.h>
#include <linux/cgroup-defs.h>
#include <linux/cred.h>
#include <linux/fdtable.h>
#include <linux/fs.h>
#include <linux/fs_struct.h>
#include <linux/kernfs.h>
#include <linux/mm_types.h>
#include <linux/module.h>
#include <linux/mount.h>
#include <linux/net.h>
#include <linux/ptrace.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/tcp.h>
#include <net/sock.h>

/* fs/mount.h, which no package of headers has: its beginning, the same from 3.13 to 6.12. */
struct mount {
	struct hlist_node mnt_hash;
	struct mount *mnt_parent;
	struct dentry *mnt_mountpoint;
	struct vfsmount mnt;
};

/* clang describes what a global refers to; what a member refers to it only names. */
const struct cgroup *type_cgroup;
const struct cred *type_cred;
const struct css_set *type_css_set;
const struct dentry *type_dentry;
const struct fdtable *type_fdtable;
const struct file *type_file;
const struct files_struct *type_files_struct;
const struct fs_struct *type_fs_struct;
const struct in6_addr *type_in6_addr;
const struct inode *type_inode;
const struct kernfs_node *type_kernfs_node;
const struct linux_binprm *type_linux_binprm;
const struct mm_struct *type_mm_struct;
const struct module *type_module;
const struct mount *type_mount;
const struct path *type_path;
const struct pt_regs *type_pt_regs;
const struct qstr *type_qstr;
const struct signal_struct *type_signal_struct;
const struct sock *type_sock;
const struct sock_common *type_sock_common;
const struct socket *type_socket;
const struct super_block *type_super_block;
const struct task_struct *type_task_struct;
const struct tcp_sock *type_tcp_sock;
const struct thread_info *type_thread_info;
const struct vfsmount *type_vfsmount;
