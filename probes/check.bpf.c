/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Programs that are refused before they begin. What they would be given as arguments is known only when there is
 * no way back, so this goes by the file and its path alone; all else is judged in sched_process_exec, and ended.
 */
#include "exec.bpf.h"
#include "guard.bpf.h"
#include "span.bpf.h"

/*
 * LSM programs can be interrupted by others of their kind on the same CPU: who comes second finds this busy, and is
 * judged, and ended, when the exec has happened.
 */
struct check_scratch {
	__u32 busy;
	struct event_exec_refused told;
	char path[PATH_CAPTURE];
	struct exec_scratch exec;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct check_scratch);
} check_scratch SEC(".maps");

INLINE int anything_to_refuse(void)
{
	struct knowledge_header *header;
	struct control *o = orders();
	void *map;

	if (!judge_here || !o || !o->enforce)
		return 0;
	header = rules_now(&map);
	return header && header->rule_count[RULES_ON_REFUSE];
}

/* A script's interpreter is asked about in its turn, and runs; so is what other formats are run by. */
INLINE int is_what_runs(struct linux_binprm *bprm)
{
	char magic[4] = {};

	bpf_probe_read_kernel(magic, sizeof(magic), bprm->buf);
	return magic[0] == 0x7f && magic[1] == 'E' && magic[2] == 'L' && magic[3] == 'F';
}

INLINE void tell_refused(struct check_scratch *s, struct task_struct *task, __u64 began)
{
	struct event_exec *e = &s->exec.event;
	struct counters *c = my_counters();
	__u64 len = e->path_len;

	if (!c)
		return;
	s->told.verdict = e->verdict;
	s->told.ino = e->ino;
	s->told.file_size = e->file_size;
	s->told.changed_ns = e->changed_ns;
	s->told.dev = e->dev;
	s->told.span_token = 0;
	name_span(&s->told, FIELD(task, pid));
	s->told.exec_flags = e->flags;
	barrier_var(len);
	if (len > PATH_CAPTURE || bpf_probe_read_kernel(s->path, len, s->exec.strings))
		len = 0;
	s->told.path_len = len;
	barrier_var(len);
	if (len > PATH_CAPTURE)
		return;
	fill_head(&s->told.head, task, EVENT_EXEC_REFUSED, RING_CRITICAL, sizeof(s->told) + len, c);
	s->told.head.ts = began;
	if (bpf_ringbuf_output(&ring_critical, &s->told, sizeof(s->told) + len, wake_flags(1)))
		count_lost(c, EVENT_EXEC_REFUSED);
}

/* True: it was refused, and told. */
INLINE int refuse(struct check_scratch *s, struct file *file)
{
	struct task_struct *task = bpf_get_current_task_btf();
	__u64 began = bpf_ktime_get_boot_ns();
	struct event_exec *e = &s->exec.event;
	__u64 end;

	__builtin_memset(e, 0, sizeof(*e));
	e->head.ts = began;
	file_flags(file, e);
	walk_path(&file->f_path, &s->exec.path);
	e->flags = path_flags(&s->exec.path, EXEC_PATH_CUT);
	end = append_path(&s->exec, 0);
	e->path_len = end;
	judge_exec(&s->exec);
	if (!e->verdict.refusable)
		return 0;
	note_done(&e->verdict, ACTION_BLOCK);
	tell_refused(s, task, began);
	return 1;
}

/*
 * Why this hook: the file that is to run is open and its beginning read, and the caller's memory is still
 * there. It runs for a script first and for its interpreter then.
 */
SEC("lsm/bprm_check_security")
int BPF_PROG(on_exec_check, struct linux_binprm *bprm)
{
	struct check_scratch *s;
	__u32 zero = 0;
	int refused;

	if (!member_of(bpf_get_current_task_btf()) || !anything_to_refuse() || !is_what_runs(bprm))
		return 0;
	s = bpf_map_lookup_elem(&check_scratch, &zero);
	if (!s || __sync_lock_test_and_set(&s->busy, 1))
		return 0;
	refused = refuse(s, bprm->file);
	s->busy = 0;
	return refused ? -EPERM : 0;
}
