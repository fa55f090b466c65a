/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What an exec is made of, and what the rules say of it. */
#ifndef VIGILES_EXEC_BPF_H
#define VIGILES_EXEC_BPF_H

#include "age.bpf.h"
#include "path.bpf.h"
#include "place.bpf.h"

#define S_ISUID 0004000
#define S_ISGID 0002000

#define ARGS_CAPTURE 4096
#define VARIABLE_CAPTURE 256
#define PRELOAD_CAPTURE (VARIABLE_CAPTURE - 16) /* of a variable's value, whatever its name */

/*
 * Too big for the stack, and its size is not known when space in the ring would
 * have to be reserved: built here, then copied out. Programs on tracepoints do
 * not nest on one CPU (the kernel refuses the inner run and counts it; user
 * space shows that count as a loss).
 */
#define STRINGS_CAPTURE (PATH_CAPTURE + 256 + PATH_CAPTURE + ARGS_CAPTURE + LIBRARIES * PRELOAD_CAPTURE + 64)

/* Variables that put libraries into a program. */
enum libraries {
	LIBRARIES_AUDIT = 0,
	LIBRARIES_PRELOAD = 1,
	LIBRARIES = 2,
};

/* What is looked for in an exec's strings, and where: one walk each. */
enum exec_field {
	FIELD_PATH,
	FIELD_PATH_NAME,
	FIELD_FILE_NAME,
	FIELD_UNVERSIONED,
	FIELD_CALLED,
	FIELD_ARGV0,
	FIELD_ARGS,
	EXEC_FIELDS,
};

/* Whether BPF LSM is there to refuse an exec: see check.bpf.c. */
const volatile __u8 refuses_execs = 0;

struct exec_scratch {
	struct event_exec event;
	char strings[STRINGS_CAPTURE];
	struct path_buffer path;
	struct field fields[EXEC_FIELDS];
	char variable[VARIABLE_CAPTURE]; /* of the environment */
	char preload[LIBRARIES][PRELOAD_CAPTURE];
	__u32 preload_len[LIBRARIES];
	__u32 may_use_gpu;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct exec_scratch);
} exec_scratch SEC(".maps");

/* Stops at the first NUL; meanwhile `slash` and `unversioned` are kept. */
static long name_byte(__u64 i, struct walk *w)
{
	__u64 at = w->lo + i;

	if (at >= w->hi || at >= STRINGS_CAPTURE || !w->text[at])
		return 1;
	w->end = at + 1;
	if (w->text[at] == '/')
		w->slash = at + 1;
	if (w->text[at] != '.' && (w->text[at] < '0' || w->text[at] > '9'))
		w->unversioned = at + 1;
	return 0;
}

INLINE void measure_name(struct walk *w, __u32 lo, __u32 hi)
{
	w->lo = w->slash = w->end = w->unversioned = lo;
	w->hi = hi;
	if (hi > lo)
		bpf_loop(hi - lo, name_byte, w, 0);
}

INLINE void set_field(struct exec_scratch *s, enum exec_field number, __u32 lo, __u32 hi, __u32 where)
{
	s->fields[number].lo = lo;
	s->fields[number].hi = hi;
	s->fields[number].where = where;
}

/* The last part of the path text[lo..hi), up to a NUL, is a name; where it ends. */
INLINE __u32 set_name(struct exec_scratch *s, struct walk *w, enum exec_field number, __u32 lo, __u32 hi)
{
	measure_name(w, lo, hi);
	set_field(s, number, w->slash, w->end, WHERE_NAME);
	return w->end;
}

/*
 * The names in the path text[lo..hi): as all names, and as the file's own, with
 * and without a version behind it, as names.name_class has it.
 */
INLINE void set_path_names(struct exec_scratch *s, struct walk *w, __u32 lo, __u32 hi)
{
	__u32 name, unversioned;

	measure_name(w, lo, hi);
	name = w->slash;
	unversioned = w->unversioned;
	set_field(s, FIELD_PATH_NAME, name, hi, WHERE_NAME);
	if (name < STRINGS_CAPTURE && name < hi && w->text[name] == '-')
		name++;
	set_field(s, FIELD_FILE_NAME, name, hi, WHERE_FILE_NAME);
	if (unversioned >= hi)
		unversioned = name;
	set_field(s, FIELD_UNVERSIONED, name, unversioned, WHERE_FILE_NAME);
}

static long walk_field(__u64 i, struct walk *w)
{
	struct field *field;

	if (i >= EXEC_FIELDS || !w->fields)
		return 1;
	field = &w->fields[i];
	walk(w, field->lo, field->hi, field->where, 0);
	return 0;
}

/* tracer/rules/numbers.py: content_mark, file_number */
#define CONTENT_SIZE 0x9e3779b97f4a7c15ULL
#define CONTENT_TIME 0xbf58476d1ce4e5b9ULL

/* A file as it is at this moment: its path may be another's by now. */
struct file_state {
	__u64 ino;
	__u64 size;
	__u64 changed_ns;
	__u32 dev;
};

/* Apart, so that the search has the stack to itself: see judge_place. */
static __noinline int add_file(void *map, struct knowledge_header *header, struct file_state *file,
			       __u64 *signals)
{
	struct range_search r = { .map = map, .space = SPACE_INODE };

	if (!map || !header || !file || !signals)
		return 0;
	r.ranges = header->ranges;
	r.high = (__u64)file->dev << 32 | file->ino >> 32;
	r.low = file->ino << 32 |
		(file->size * CONTENT_SIZE ^ file->changed_ns * CONTENT_TIME) >> 32;
	add_range(&r, header->range_count, signals);
	return 0;
}

/* What becomes of a process's right to use the GPU when it execs. */
enum gpu_right {
	RIGHT_UNKNOWN = 0, /* user space will say */
	RIGHT_KEPT = 1,
	RIGHT_NONE = 2,
};

INLINE __u32 may_use_gpu(struct walk *w, __u16 flags)
{
	struct judgement j = { .map = w->map, .signals = w->signals };

	if (!w->header->gpu_users_known || flags & (EXEC_ARGS_CUT | EXEC_ARGS_UNREADABLE | EXEC_PATH_CUT))
		return RIGHT_UNKNOWN;
	judge_by(&j, w->header, RULES_ON_GPU_USER);
	if (!j.row)
		return RIGHT_NONE;
	return j.row == 1 ? RIGHT_UNKNOWN : RIGHT_KEPT;
}

/* Do the rules say that it is not to begin? They ask for nothing but the file and its path. */
INLINE int is_refused(struct walk *w)
{
	struct judgement j = { .map = w->map, .signals = w->signals };

	judge_by(&j, w->header, RULES_ON_REFUSE);
	return j.row != 0;
}

/*
 * What the rules say of this exec. The strings are scanned as engine/handle.py
 * scans them: path, the names it goes by, the arguments behind the first. One loop walks them
 * all: the verifier would look at each walk anew, which took it half a second at every start.
 *
 * Not static, so that the verifier looks at it once, by itself, and not again for
 * each of the thousand ways that lead here.
 */
__noinline int judge_exec(struct exec_scratch *s)
{
	struct walk w = { .text_max = STRINGS_CAPTURE };
	struct file_state file;
	__u32 called, cwd, args, end, first;
	struct event_exec *e;
	struct verdict *v;

	if (!s || !begin_walk(&w))
		return 0;
	e = &s->event;
	v = &e->verdict;
	called = e->path_len;
	cwd = called + e->name_len;
	args = cwd + e->cwd_len;
	end = args + e->args_len;
	w.text = (const __u8 *)s->strings;
	w.fields = s->fields;
	set_field(s, FIELD_PATH, 0, called, WHERE_PATH);
	set_path_names(s, &w, 0, called);
	set_name(s, &w, FIELD_CALLED, called, cwd);
	first = set_name(s, &w, FIELD_ARGV0, args, end);
	set_field(s, FIELD_ARGS, first + 1, end, WHERE_ARGS);
	bpf_loop(EXEC_FIELDS, walk_field, &w, 0);
	file.ino = e->ino;
	file.size = e->file_size;
	file.changed_ns = e->changed_ns;
	file.dev = e->dev;
	add_file(w.map, w.header, &file, w.signals);
#pragma unroll
	for (int bit = 0; bit < KNOWLEDGE_FLAGS; bit++)
		if (e->flags >> bit & 1)
			w.signals[0] |= fact(w.header->flag_facts[bit]);
	w.signals[0] |= fact(w.header->stdio_facts[0][e->stdio[0] & 7]);
	w.signals[0] |= fact(w.header->stdio_facts[1][e->stdio[1] & 7]);
	judge(w.map, w.header, w.signals, RULES_ON_EXEC, v);
	if (refuses_execs)
		v->refusable = is_refused(&w);
	__builtin_memcpy(v->signals, w.signals, sizeof(v->signals));
	s->may_use_gpu = may_use_gpu(&w, e->flags);
	v->took_ns = bpf_ktime_get_boot_ns() - e->head.ts;
	return 0;
}

/* Append a path that walk_path() left in s->path; returns the new end. */
INLINE __u64 append_path(struct exec_scratch *s, __u64 end)
{
	__u64 start = s->path.start;
	__u64 len;

	barrier_var(start);
	if (start >= PATH_CAPTURE)
		return end;
	len = PATH_CAPTURE - start;
	barrier_var(len);
	barrier_var(end);
	if (len > PATH_CAPTURE || end > PATH_CAPTURE + 256)
		return end;
	bpf_probe_read_kernel(&s->strings[end], len, &s->path.bytes[start]);
	return end + len;
}

/* Append a list that read_environment() left; returns the new end. `most`: where it may begin. */
INLINE __u64 append_libraries(struct exec_scratch *s, __u64 end, enum libraries which, __u64 most)
{
	__u64 len = s->preload_len[which];

	barrier_var(len);
	barrier_var(end);
	if (end > most || len > PRELOAD_CAPTURE)
		return end;
	bpf_probe_read_kernel(&s->strings[end], len, s->preload[which]);
	s->event.preload_len += len;
	return end + len;
}

INLINE __u16 path_flags(struct path_buffer *walk, __u16 cut)
{
	__u16 flags = 0;

	if (walk->cut)
		flags |= cut;
	if (walk->unreachable)
		flags |= EXEC_PATH_UNREACHABLE;
	return flags;
}

INLINE __u64 changed_ns(struct inode *inode)
{
	struct inode___6_7 *between = (void *)inode;
	struct inode___old *old = (void *)inode;

	if (bpf_core_field_exists(inode->i_mtime_sec))
		return BPF_CORE_READ(inode, i_mtime_sec) * 1000000000 +
		       BPF_CORE_READ(inode, i_mtime_nsec);
	if (bpf_core_field_exists(between->__i_mtime))
		return BPF_CORE_READ(between, __i_mtime.tv_sec) * 1000000000 +
		       BPF_CORE_READ(between, __i_mtime.tv_nsec);
	return BPF_CORE_READ(old, i_mtime.tv_sec) * 1000000000 + BPF_CORE_READ(old, i_mtime.tv_nsec);
}

INLINE __u16 file_flags(struct file *file, struct event_exec *e)
{
	struct inode *inode = BPF_CORE_READ(file, f_inode);
	__u16 mode = BPF_CORE_READ(inode, i_mode);
	__u16 flags = 0;

	e->ino = BPF_CORE_READ(inode, i_ino);
	e->file_size = BPF_CORE_READ(inode, i_size);
	e->changed_ns = changed_ns(inode);
	e->dev = BPF_CORE_READ(inode, i_sb, s_dev);
	if (mode & (S_ISUID | S_ISGID))
		flags |= EXEC_SETID;
	if (is_new_file(inode))
		flags |= EXEC_NEW_FILE;
	if (BPF_CORE_READ(inode, i_nlink) == 0) {
		char name[6] = {};

		/* mm/memfd.c names the file "memfd:" + what the caller said. */
		bpf_probe_read_kernel(name, sizeof(name),
				      BPF_CORE_READ(file, f_path.dentry, d_name.name));
		if (name[0] == 'm' && name[1] == 'e' && name[2] == 'm' && name[3] == 'f' &&
		    name[4] == 'd' && name[5] == ':')
			flags |= EXEC_MEMFD;
		else
			flags |= EXEC_DELETED;
	}
	return flags;
}

#endif
