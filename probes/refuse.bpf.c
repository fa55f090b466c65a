/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Tampering that can be refused: BPF LSM asks before anything has happened. Loaded only where the
 * kernel has it switched on (CONFIG_BPF_LSM, and `bpf` in lsm=), and it is the one hook there that
 * shows ptrace, bpf(2), mounts and files without a cost to every system call: whoever does none of
 * these pays nothing, outsiders who do pay one look-up.
 *
 * Without --enforce all is told and nothing refused.
 */
#include "tamper.bpf.h"

#define EPERM 1
#define SIGCONT 18
#define SIGURG 23
#define SIGWINCH 28
/* include/linux/ptrace.h: to change it, not only to look at it as ps and top do */
#define PTRACE_MODE_ATTACH 0x02
/* include/linux/fs.h */
#define FMODE_WRITE 0x2
/* include/linux/kernel_read_file.h, of both enumerations */
#define READING_MODULE 2
/* include/uapi/linux/magic.h */
#define BPF_FS_MAGIC 0xcafe4a11
#define TRACEFS_MAGIC 0x74726163
#define DEBUGFS_MAGIC 0x64626720
#define SECURITYFS_MAGIC 0x73636673
#define CGROUP2_SUPER_MAGIC 0x63677270
#define PROC_SUPER_MAGIC 0x9fa0

/*
 * Files and folders that the watch needs as they are. User space shows them to us by opening them:
 * what stat(2) says of a file need not be what the kernel knows it by (overlayfs, btrfs).
 */
struct file_id {
	__u64 ino;
	__u32 dev;
	__u32 _pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 256);
	__type(key, struct file_id);
	__type(value, __u32);
} guarded_files SEC(".maps");

/* Our own maps and programs, by id << 1 | whether it is a program. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 256);
	__type(key, __u64);
	__type(value, __u32);
} guarded_ids SEC(".maps");

/* Each is told once of a task, while nothing is refused: a profiler opens an event for every CPU. */
enum told_once {
	TOLD_BPF = 1 << 0,
	TOLD_PERF = 1 << 1,
};

/*
 * The current task is about to do `t` to `target`, if there is one. `seen`: a tracepoint tells of it
 * when it has happened, so only a refusal is told here.
 */
static __noinline int attempt(struct task_struct *target, struct tamper *t, int seen)
{
	__u64 began = bpf_ktime_get_boot_ns();
	struct verdict verdict = {};
	int refused;

	if (!t)
		return 0;
	if (judge_here)
		judge_tamper(t->what, t->flags, &verdict);
	refused = carry_out_attempt(&verdict);
	if (refused || !seen)
		send_tamper(bpf_get_current_task_btf(), target, t, &verdict, began);
	return refused ? -EPERM : 0;
}

INLINE int first_time(struct member *m, __u32 what)
{
	return !(__sync_fetch_and_or(&m->told, what) & what);
}

/* Is `task` the tracer, and somebody of the tree at it? */
INLINE int at_tracer(struct task_struct *task)
{
	struct task_struct *by = bpf_get_current_task_btf();
	struct control *o = orders();

	return o && task->tgid == (__s32)o->tracer && by->tgid != task->tgid && member_of(by);
}

/*
 * Why this hook: as on_signal's, but before the signal is sent. Who sends to a whole group is let
 * to: the others of the group are theirs to signal, unless the rules say otherwise of the signal.
 */
SEC("lsm/task_kill")
int BPF_PROG(on_kill, struct task_struct *task, struct kernel_siginfo *info, int sig)
{
	struct tamper t = { .what = TAMPER_SIGNAL, .number = sig };

	if (!sig || sig == SIGCHLD || sig == SIGCONT || sig == SIGURG || sig == SIGWINCH)
		return 0;
	if (!at_tracer(task))
		return 0;
	if (sig == SIGKILL || sig == SIGSTOP)
		t.flags |= TAMPER_UNCATCHABLE;
	if (sends_to_group(bpf_get_current_task_btf()))
		t.flags |= TAMPER_TO_GROUP;
	return attempt(task, &t, 1);
}

/*
 * Why this hook: ptrace(2), process_vm_writev(2), pidfd_getfd(2) and /proc/PID/mem all ask here.
 * Whoever only reads what /proc shows asks with another mode.
 */
SEC("lsm/ptrace_access_check")
int BPF_PROG(on_ptrace, struct task_struct *child, unsigned int mode)
{
	struct tamper t = { .what = TAMPER_PTRACE };

	if (!(mode & PTRACE_MODE_ATTACH) || !at_tracer(child))
		return 0;
	return attempt(child, &t, 0);
}

/*
 * Why this hook: bpf(2) before it does anything, and after the kernel has seen that the caller may.
 * Commands on descriptors that one has are not asked for.
 */
SEC("lsm/bpf")
int BPF_PROG(on_bpf, int cmd)
{
	struct tamper t = { .what = TAMPER_BPF, .number = cmd };
	struct member *m = member_of(bpf_get_current_task_btf());

	if (!m)
		return 0;
	switch (cmd) {
	case BPF_LINK_GET_FD_BY_ID: /* no hook says whose link it is */
		t.flags |= TAMPER_AT_WATCH;
		return attempt(NULL, &t, 0);
	case BPF_PROG_LOAD:
	case BPF_PROG_ATTACH:
	case BPF_PROG_DETACH:
	case BPF_LINK_CREATE:
	case BPF_RAW_TRACEPOINT_OPEN:
	case BPF_OBJ_GET:
		return first_time(m, TOLD_BPF) ? attempt(NULL, &t, 0) : 0;
	}
	return 0;
}

INLINE int at_ours(__u64 id)
{
	struct tamper t = { .what = TAMPER_BPF, .flags = TAMPER_AT_WATCH };

	if (!member_of(bpf_get_current_task_btf()) || !bpf_map_lookup_elem(&guarded_ids, &id))
		return 0;
	return attempt(NULL, &t, 0);
}

/* Why this hook, and the next: whoever gets a descriptor passes it, by id or by a pin. */
SEC("lsm/bpf_map")
int BPF_PROG(on_bpf_map, struct bpf_map *map)
{
	return at_ours((__u64)map->id << 1);
}

SEC("lsm/bpf_prog")
int BPF_PROG(on_bpf_prog, struct bpf_prog *prog)
{
	return at_ours((__u64)prog->aux->id << 1 | 1);
}

/* Why this hook: before perf_event_open(2) makes anything. Whom it is about is not known yet. */
SEC("lsm/perf_event_open")
int BPF_PROG(on_perf)
{
	struct member *m = member_of(bpf_get_current_task_btf());
	struct tamper t = { .what = TAMPER_PERF };

	if (!m || !first_time(m, TOLD_PERF))
		return 0;
	return attempt(NULL, &t, 0);
}

/* A mount at, or an unmount of, a file system that the watch looks into, where it would see that. */
INLINE int at_mounts(struct super_block *sb)
{
	struct task_struct *by = bpf_get_current_task_btf();
	struct tamper t = { .what = TAMPER_MOUNT };
	struct control *o = orders();

	if (!o || !member_of(by) || BPF_CORE_READ(by, nsproxy, mnt_ns, ns.inum) != o->tracer_mounts)
		return 0;
	switch ((__u32)BPF_CORE_READ(sb, s_magic)) {
	case BPF_FS_MAGIC:
	case TRACEFS_MAGIC:
	case DEBUGFS_MAGIC:
	case SECURITYFS_MAGIC:
	case CGROUP2_SUPER_MAGIC:
	case PROC_SUPER_MAGIC:
		return attempt(NULL, &t, 0);
	}
	return 0;
}

/* Why these hooks: mount(2), move_mount(2) and umount(2), each before it does anything. */
SEC("lsm/sb_mount")
int BPF_PROG(on_mount, const char *dev_name, const struct path *path)
{
	return at_mounts(BPF_CORE_READ(path, dentry, d_sb));
}

SEC("lsm/move_mount")
int BPF_PROG(on_move_mount, const struct path *from, const struct path *to)
{
	return at_mounts(BPF_CORE_READ(to, dentry, d_sb));
}

SEC("lsm/sb_umount")
int BPF_PROG(on_umount, struct vfsmount *mnt)
{
	return at_mounts(BPF_CORE_READ(mnt, mnt_sb));
}

INLINE void identify(struct file_id *id, struct inode *inode)
{
	id->ino = BPF_CORE_READ(inode, i_ino);
	id->dev = BPF_CORE_READ(inode, i_sb, s_dev);
}

INLINE int is_guarded(struct inode *inode)
{
	struct file_id id = {};

	if (!inode)
		return 0;
	identify(&id, inode);
	return bpf_map_lookup_elem(&guarded_files, &id) != NULL;
}

INLINE int at_file(struct dentry *dentry)
{
	struct tamper t = { .what = TAMPER_FILE };

	if (!member_or_worker(bpf_get_current_task_btf()))
		return 0;
	if (!is_guarded(BPF_CORE_READ(dentry, d_inode)) &&
	    !is_guarded(BPF_CORE_READ(dentry, d_parent, d_inode)))
		return 0;
	bpf_probe_read_kernel_str(t.name, sizeof(t.name), BPF_CORE_READ(dentry, d_name.name));
	return attempt(NULL, &t, 0);
}

/* Why these hooks: they know the file itself, whatever path led to it. Reading is nobody's harm. */
SEC("lsm/file_open")
int BPF_PROG(on_file_open, struct file *file)
{
	struct control *o = orders();
	struct file_id id = {};
	__u32 yes = 1;

	if (o && o->teacher && o->teacher == bpf_get_current_pid_tgid() >> 32) {
		identify(&id, BPF_CORE_READ(file, f_path.dentry, d_inode));
		bpf_map_update_elem(&guarded_files, &id, &yes, BPF_ANY);
	}
	if (!(file->f_mode & FMODE_WRITE))
		return 0;
	return at_file(BPF_CORE_READ(file, f_path.dentry));
}

SEC("lsm/inode_unlink")
int BPF_PROG(on_unlink, struct inode *folder, struct dentry *dentry)
{
	return at_file(dentry);
}

SEC("lsm/inode_rename")
int BPF_PROG(on_rename, struct inode *from, struct dentry *dentry, struct inode *to,
	     struct dentry *over)
{
	int refused = at_file(dentry);

	return refused ? refused : at_file(over);
}

/* Why this hook: finit_module(2) and its like, before the file is read; then init_module(2)'s. */
SEC("lsm/kernel_read_file")
int BPF_PROG(on_read_file, struct file *file, int id)
{
	struct tamper t = { .what = TAMPER_MODULE };

	if (id != READING_MODULE || !member_of(bpf_get_current_task_btf()))
		return 0;
	if (file)
		bpf_probe_read_kernel_str(t.name, sizeof(t.name),
					  BPF_CORE_READ(file, f_path.dentry, d_name.name));
	return attempt(NULL, &t, 1);
}

SEC("lsm/kernel_load_data")
int BPF_PROG(on_load_data, int id)
{
	struct tamper t = { .what = TAMPER_MODULE };

	if (id != READING_MODULE || !member_of(bpf_get_current_task_btf()))
		return 0;
	return attempt(NULL, &t, 1);
}
