/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What is looked for in the environment of every exec, where the new program has had no chance to change
 * it: TRACEPARENT, by which OpenTelemetry hands a trace on to another program; LD_PRELOAD and LD_AUDIT,
 * which put libraries into it (ld.so(8)). Variable by variable: a helper finds the end of each at word
 * speed, a byte at a time would take ten times as long.
 */
#ifndef VIGILES_ENVIRONMENT_BPF_H
#define VIGILES_ENVIRONMENT_BPF_H

#include "exec.bpf.h"

/* Pieces of VARIABLE_CAPTURE bytes or less that are looked at; then EXEC_ENV_CUT. */
#define ENVIRONMENT_PIECES 512

#define TRACEPARENT_KEY 12 /* TRACEPARENT= */
#define TRACEPARENT_CHARS 55
#define PRELOAD_KEY 11 /* LD_PRELOAD= */
#define AUDIT_KEY 9

struct environment {
	struct exec_scratch *s;
	__u64 at;
	__u64 end;
	__u32 inside; /* of a variable that was longer than what is read at once */
	__u32 done;
	__u32 flags; /* enum exec_flag */
};

INLINE int is_traceparent(const char *text)
{
	const __u64 *words = (const __u64 *)text;

	/* "TRACEPAR" and "ENT=", as they lie in memory */
	return words[0] == 0x5241504543415254ULL && *(const __u32 *)(text + 8) == 0x3d544e45;
}

/* Where the value begins of a variable that names libraries, or 0. */
INLINE __u32 key_of_libraries(const char *text)
{
	__u64 word = *(const __u64 *)text;

	/* "LD_PRELO", "LD_AUDIT" */
	if (word == 0x4f4c4552505f444cULL && text[8] == 'A' && text[9] == 'D' && text[10] == '=')
		return PRELOAD_KEY;
	return word == 0x54494455415f444cULL && text[8] == '=' ? AUDIT_KEY : 0;
}

/* The last of several, as ld.so has it. `size` counts its NUL. */
INLINE void keep_libraries(struct environment *w, struct exec_scratch *s, long size)
{
	__u32 key = key_of_libraries(s->variable);
	__u32 which = key == AUDIT_KEY ? LIBRARIES_AUDIT : LIBRARIES_PRELOAD;
	__u32 len;

	if (!key || size <= key + 1)
		return;
	len = size - key;
	if (len > PRELOAD_CAPTURE) {
		len = PRELOAD_CAPTURE;
		w->flags |= EXEC_PRELOAD_CUT;
	}
	bpf_probe_read_kernel(s->preload[which], PRELOAD_CAPTURE, s->variable + key);
	s->preload[which][PRELOAD_CAPTURE - 1] = 0; /* two lists follow each other: each must end */
	s->preload_len[which] = len;
	if (which == LIBRARIES_AUDIT)
		w->flags |= EXEC_AUDIT;
}

static long look_at_variable(__u64 i, struct environment *w)
{
	struct exec_scratch *s = w->s;
	__u64 room;
	long got;

	if (w->at >= w->end || !s) {
		w->done = 1;
		return 1;
	}
	room = w->end - w->at;
	if (room > VARIABLE_CAPTURE)
		room = VARIABLE_CAPTURE;
	got = bpf_probe_read_user_str(s->variable, room, (void *)w->at);
	if (got <= 0)
		return 1;
	if (!w->inside) {
		if (got > TRACEPARENT_KEY + TRACEPARENT_CHARS && is_traceparent(s->variable) &&
		    !s->event.traceparent[0])
			__builtin_memcpy(s->event.traceparent, s->variable + TRACEPARENT_KEY,
					 TRACEPARENT_CHARS);
		keep_libraries(w, s, got);
	}
	w->inside = got == VARIABLE_CAPTURE;
	w->at += w->inside ? got - 1 : got;
	return 0;
}

/*
 * Flags: EXEC_ENV_CUT, if it could not be looked through to its end. Not static, so that the verifier looks at
 * it by itself, as at judge_exec; no branch in on_exec hangs on it.
 */
__noinline int read_environment(struct exec_scratch *s, __u64 start, __u64 end)
{
	struct environment w = { .s = s, .at = start, .end = end };

	if (!s)
		return EXEC_ENV_CUT;
	bpf_loop(ENVIRONMENT_PIECES, look_at_variable, &w, 0);
	return w.flags | (w.done ? 0 : EXEC_ENV_CUT);
}

#endif
