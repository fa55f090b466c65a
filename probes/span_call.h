/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * How a process of the tree marks what it does: setsockopt(2) on any socket, at a level of our own.
 *
 *	setsockopt(fd, SPAN_LEVEL, SPAN_OP_BEGIN, &call, sizeof(call) + bytes of text)
 *
 * 0: taken. EPERM: not the caller's to do, or no such call. Anything else (EOPNOTSUPP, ENOPROTOOPT):
 * nobody traces this process. Part of the public interface: numbers are never used again.
 */
#ifndef VIGILES_SPAN_CALL_H
#define VIGILES_SPAN_CALL_H

#include <linux/types.h>

#define SPAN_LEVEL 0x56494749 /* "VIGI" */
/* A shell's span is opened by a child of it: so many generations up at most. */
#define SPAN_UP_MAX 4

enum span_op {
	SPAN_OP_NONE = 0,
	SPAN_OP_BEGIN = 1, /* and the calling thread is in it */
	SPAN_OP_END = 2,   /* and the calling thread, if it was in it, in the one above */
	SPAN_OP_SWITCH = 3, /* the calling thread is in it; token 0: in the one its process was born in */
	SPAN_OPS = 4,
};

/* In host byte order; of BEGIN the text follows: see SPAN_TEXT in events.h. */
struct span_call {
	__u64 secret; /* with `up`: whoever begins it chooses it, whoever ends it must know it */
	__u32 token;  /* of the process's own choice, never 0 in BEGIN */
	__u32 above;  /* the process's own span that this one lies in; 0: the one it was born in */
	__u32 flags;  /* SPAN_CUT */
	__u32 up;     /* 0: the caller's own span; 1: its parent's, a shell; … */
};

#endif
