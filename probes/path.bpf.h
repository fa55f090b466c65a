/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The path of a file as the kernel knows it, built from the leaf to the root.
 * bpf_d_path() is refused in tracepoints, and the name given to execve() is
 * whatever the caller liked (a relative path, /proc/self/root/..., a link).
 */
#ifndef VIGILES_PATH_BPF_H
#define VIGILES_PATH_BPF_H

#include "common.bpf.h"

#define PATH_CAPTURE 1024
/* Components and mount crossings that one walk follows; a deeper path comes
 * without its front, and says so. The verifier walks every step, hence no more. */
#define PATH_DEPTH 48
#define NAME_CAPTURE 255

struct path_buffer {
	/* Filled from PATH_CAPTURE downwards; the rest lets the verifier see
	 * that a write of NAME_CAPTURE bytes at any masked offset stays inside. */
	char bytes[PATH_CAPTURE + 256];
	/*
	 * The state of the walk is kept in memory, not in registers: the verifier
	 * forgets what it knows of it, so that all ways through one step look the
	 * same to it afterwards. With registers it tries their product.
	 */
	struct dentry *dentry;
	struct mount *mnt;
	__u64 start; /* where the text begins; it ends at PATH_CAPTURE */
	__u8 done;
	__u8 cut;
	__u8 unreachable;
};

INLINE struct mount *mount_of(struct vfsmount *mnt)
{
	return (void *)mnt - bpf_core_field_offset(struct mount, mnt);
}

/*
 * One component or one mount crossing further up; false when there is no more to do.
 *
 * Not static, so that the verifier looks at it once, by itself: 6.1's finds too few of
 * its states alike and gives up at a million instructions.
 */
__noinline int walk_step(struct path_buffer *w)
{
	struct dentry *dentry, *root, *parent;
	const unsigned char *name;
	struct mount *mnt, *up;
	__u64 len, at;

	if (!w)
		return 0;
	dentry = w->dentry;
	mnt = w->mnt;
	root = BPF_CORE_READ(mnt, mnt.mnt_root);
	parent = BPF_CORE_READ(dentry, d_parent);
	if (dentry == root) {
		up = BPF_CORE_READ(mnt, mnt_parent);
		if (up == mnt) {
			w->done = 1;
			return 0;
		}
		w->dentry = BPF_CORE_READ(mnt, mnt_mountpoint);
		w->mnt = up;
		return 1;
	}
	len = BPF_CORE_READ(dentry, d_name.len);
	name = BPF_CORE_READ(dentry, d_name.name);
	barrier_var(len);
	if (len > NAME_CAPTURE)
		len = NAME_CAPTURE;
	at = w->start;
	if (at < len + 1 || at > PATH_CAPTURE) {
		w->cut = 1;
		return 0;
	}
	at -= len + 1;
	barrier_var(at);
	at &= PATH_CAPTURE - 1;
	w->bytes[at] = '/';
	barrier_var(len);
	if (len > NAME_CAPTURE || bpf_probe_read_kernel(&w->bytes[at + 1], len, name)) {
		w->unreachable = 1;
		return 0;
	}
	w->start = at;
	w->dentry = parent;
	/* Its own parent, but no mount's root: a file that was never in a
	 * directory, such as a memfd. */
	if (dentry == parent)
		w->done = 1;
	return dentry != parent;
}

INLINE void walk_path(struct path *path, struct path_buffer *w)
{
	w->dentry = BPF_CORE_READ(path, dentry);
	w->mnt = mount_of(BPF_CORE_READ(path, mnt));
	w->start = PATH_CAPTURE;
	w->done = 0;
	w->cut = 0;
	w->unreachable = 0;
	for (int i = 0; i < PATH_DEPTH; i++)
		if (!walk_step(w))
			break;
	if (!w->done && !w->cut)
		w->unreachable = 1;
	if (w->done && w->start == PATH_CAPTURE) {
		w->start = PATH_CAPTURE - 1;
		w->bytes[PATH_CAPTURE - 1] = '/';
	}
}

#endif
