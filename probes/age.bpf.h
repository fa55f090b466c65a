/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Whether a file is older than the watch. */
#ifndef VIGILES_AGE_BPF_H
#define VIGILES_AGE_BPF_H

#include "common.bpf.h"

/* When this watch began, by the wall clock, as files' times have it. */
const volatile __u64 watch_began = 0;

/* The time of the inode's change, not of the file's: utimes(2) sets any but that one. */
INLINE __u64 inode_changed_ns(struct inode *inode)
{
	struct inode___6_7 *between = (void *)inode;
	struct inode___old *old = (void *)inode;

	if (bpf_core_field_exists(inode->i_ctime_sec))
		return BPF_CORE_READ(inode, i_ctime_sec) * 1000000000 +
		       BPF_CORE_READ(inode, i_ctime_nsec);
	if (bpf_core_field_exists(between->__i_ctime))
		return BPF_CORE_READ(between, __i_ctime.tv_sec) * 1000000000 +
		       BPF_CORE_READ(between, __i_ctime.tv_nsec);
	return BPF_CORE_READ(old, i_ctime.tv_sec) * 1000000000 + BPF_CORE_READ(old, i_ctime.tv_nsec);
}

/* Written, made, renamed or linked since the watch began; or of no name any more. */
INLINE int is_new_file(struct inode *inode)
{
	if (!watch_began)
		return 0;
	return BPF_CORE_READ(inode, i_nlink) == 0 || inode_changed_ns(inode) >= watch_began;
}

#endif
