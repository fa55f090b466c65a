/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The events that probes send: the only definition of their layout. User space
 * derives its NumPy dtypes and enumerations from the BTF of the compiled object.
 *
 * Times are nanoseconds of CLOCK_BOOTTIME everywhere, so that they compare with
 * task->start_boottime and with field 22 of /proc/PID/stat.
 *
 * Rules of the house: fixed-width fields, widest first, padding written out, no
 * `packed` (it makes clang emit byte stores). Strings follow the struct, back to
 * back, in the order of their *_len fields; a length counts bytes and there is
 * no terminator unless stated. Numbers of a kind are never used again.
 */
#ifndef VIGILES_EVENTS_H
#define VIGILES_EVENTS_H

#define VIGILES_EVENTS_VERSION 1

enum event_kind {
	EVENT_NONE = 0,
	/* on the critical ring: what must never be lost */
	EVENT_FORK = 1,
	EVENT_EXEC = 2,
	EVENT_EXIT = 3,
	/* on the bulk ring */
	EVENT_CONNECT = 4,
	EVENT_LISTEN = 5,
	EVENT_FLOW_OPEN = 6,
	EVENT_FLOW_CLOSE = 7,
	EVENT_GPU_OPEN = 8,
	EVENT_GPU_IOCTL = 9,
	EVENT_GPU_COUNTS = 10,
	/* never on a ring: written by the task iterator for attach and repair */
	EVENT_TASK = 11,
	/* on the bulk ring */
	EVENT_FIRST_BYTES = 12,
	/* never on a ring: made by user space when it has read an executed file */
	EVENT_FILE = 13,
	/* on the critical ring */
	EVENT_TAMPER = 14,
	/* on the bulk ring: a storm of spans must not push out forks, and each process has its share */
	EVENT_SPAN = 15,
	/* never on a ring: read by user space, a pass over all flows at a time */
	EVENT_FLOW_SAMPLE = 16,
	/* never on a ring: made by user space of what fanotify(7) says */
	EVENT_FOOTHOLD = 17,
	/* on the bulk ring */
	EVENT_LOCAL_CONNECT = 18,
	/* never on a ring: read by user space, a pass over all tasks at a time */
	EVENT_EFFORT = 19,
	/* never on a ring: made by user space when it has looked which libraries a GPU client has mapped */
	EVENT_GPU_LIBRARIES = 20,
	/* on the critical ring */
	EVENT_EXEC_REFUSED = 21,
	/* never on a ring: made by user space of what NVML says */
	EVENT_GPU_USE = 22,
	EVENT_KINDS = 23,
};

enum event_ring {
	RING_CRITICAL = 0,
	RING_BULK = 1,
	RINGS = 2,
};

/* Every record begins with this. */
struct event_head {
	__u64 ts;    /* when the hook ran */
	__u64 start; /* start of the process: with tgid, its identity */
	__u64 seq;   /* per CPU and ring, from 0: a gap is a lost record */
	__u32 tgid;
	__u32 tid;
	__u16 cpu;
	__u16 size; /* of the whole record, strings included */
	__u8 kind;  /* enum event_kind */
	__u8 ring;  /* enum event_ring */
	__u16 tree; /* which traced tree; 0 when there is one only */
};

struct event_fork {
	struct event_head head; /* of the child, which has not run yet */
	__u64 parent_start;
	__u64 span_start; /* the span it is born in: see struct event_span; token 0: in none */
	__u32 span_tgid;
	__u32 span_token;
	__u32 parent_tgid; /* who forked, whatever getppid() says later */
	__u32 _pad;
};

enum exec_flag {
	EXEC_MEMFD = 1 << 0,   /* the file lives in memory only */
	EXEC_DELETED = 1 << 1, /* the file has no name any more */
	EXEC_SCRIPT = 1 << 2,  /* the kernel ran the interpreter of a #! line */
	EXEC_SETID = 1 << 3,   /* the file is set-uid or set-gid */
	EXEC_SECURE = 1 << 4,  /* the exec gained privileges (AT_SECURE) */
	EXEC_ARGS_CUT = 1 << 5,
	EXEC_PATH_CUT = 1 << 6, /* the front of the path is missing */
	EXEC_CWD_CUT = 1 << 7,
	EXEC_ARGS_UNREADABLE = 1 << 8, /* a page of the arguments was not resident */
	EXEC_THREAD = 1 << 9,	       /* called by a thread that was not the leader */
	EXEC_PATH_UNREACHABLE = 1 << 10, /* the walk to the root gave up */
	EXEC_ADOPTED = 1 << 11, /* joined by cgroup, not by lineage */
	EXEC_ENV_CUT = 1 << 12, /* the environment was not looked through to its end */
	EXEC_NEW_FILE = 1 << 13, /* the file was written since the watch began, or has no name any more */
	EXEC_AUDIT = 1 << 14,	 /* its environment names libraries in LD_AUDIT */
	EXEC_PRELOAD_CUT = 1 << 15, /* one of these lists was longer than what is captured */
};

enum fd_kind {
	FD_CLOSED = 0,
	FD_TTY = 1,
	FD_PIPE = 2,
	FD_FILE = 3,
	FD_SOCKET = 4,
	FD_NULL = 5,
	FD_OTHER = 6,
	FD_NETWORK = 7, /* an IPv4 or IPv6 socket; FD_SOCKET: of another family */
};

/* What a rule calls for. tracer/rules/model.py: ACTIONS; a test compares them. */
enum action {
	ACTION_ALERT = 0,
	ACTION_BLOCK = 1, /* refuse the connect, cut the flow; of an exec: as kill */
	ACTION_KILL = 2,
	ACTION_KILL_TREE = 3,
	ACTION_FREEZE = 4,
	ACTION_QUARANTINE = 5,
	ACTIONS = 6,
};

/* Words of signals: tracer/detect/facts.py, WORDS; a test compares them. */
#define SIGNAL_WORDS 6

/*
 * What the rules say of an event, found out by the probe: before the new program
 * has run an instruction, before the packet has left. Only those rules can hold
 * here that ask for nothing but what the probe itself finds out.
 */
struct verdict {
	__u64 signals[SIGNAL_WORDS]; /* indicator groups found, facts known here */
	__u32 epoch;   /* which set of rules has judged; 0: not judged */
	__u32 took_ns; /* from the hook's beginning to the verdict */
	__u32 row;     /* 1 + the severest alternative that holds; 0: none does */
	__u8 actions;  /* what those that hold call for: 1 << enum action */
	__u8 done;     /* and what the probe has done of it */
	__u8 refusable; /* of an exec: it would be refused, not ended */
	__u8 _pad_verdict;
};

/* W3C Trace Context, version 00: 55 characters. */
#define TRACEPARENT_WORDS 7

struct event_exec {
	struct event_head head;
	struct verdict verdict;
	__u64 parent_start;
	__u64 cgroup; /* id in the default hierarchy (its inode number) */
	__u64 ino;
	__u64 file_size;
	__u64 changed_ns; /* the file's mtime */
	__u64 span_start; /* the span that the thread was in: see struct event_span; token 0: in none */
	__u32 span_tgid;
	__u32 span_token;
	__u64 traceparent[TRACEPARENT_WORDS]; /* TRACEPARENT of its environment as text, ended by NUL */
	__u32 parent_tgid; /* real parent at this moment */
	__u32 dev;	   /* kernel encoding: major << 20 | minor */
	__u32 uid;
	__u32 gid;
	__u32 euid;
	__u32 egid;
	__u32 argc;
	__u32 args_total; /* bytes of the whole vector, terminators included */
	__u16 flags;	  /* enum exec_flag */
	__u16 path_len;	  /* resolved path of the file that runs */
	__u16 name_len;	  /* the name it was called by */
	__u16 cwd_len;
	__u16 args_len; /* arguments, each ended by NUL */
	__u16 preload_len; /* of its environment: LD_AUDIT, if EXEC_AUDIT, and LD_PRELOAD; each ended by NUL */
	__u8 stdio[3];	/* enum fd_kind of descriptors 0, 1, 2 */
	__u8 _pad[1];
};

/* An exec that did not happen: its path follows. */
struct event_exec_refused {
	struct event_head head; /* of who asked for it */
	struct verdict verdict;
	__u64 ino;
	__u64 file_size;
	__u64 changed_ns;
	__u64 span_start; /* the span that the thread is in: see struct event_span; token 0: not known */
	__u32 span_tgid;
	__u32 span_token;
	__u32 dev;
	__u16 path_len; /* of the file that was to run */
	__u16 exec_flags; /* enum exec_flag: EXEC_PATH_* */
};

struct event_exit {
	struct event_head head;
	__s32 status; /* as wait(2) gives it */
	__u32 _pad;
};

/* What an executed file is, found out after the exec. */
struct event_file {
	struct event_head head; /* of the process; ts: when it executed the file */
	struct verdict verdict; /* signals alone */
};

enum tamper_what {
	TAMPER_NONE = 0,
	TAMPER_SIGNAL = 1, /* the tracer was sent a signal */
	TAMPER_LEFT = 2,   /* a process has left the tree's cgroup */
	TAMPER_MOVED = 3,  /* the tracer was put into another cgroup */
	TAMPER_FROZE = 4,  /* the tracer's cgroup was frozen */
	TAMPER_MODULE = 5, /* a kernel module was loaded */
	TAMPER_FLOOD = 6,  /* more records than one process may have in the ring */
	TAMPER_PTRACE = 7, /* the tracer's memory or descriptors were reached for */
	TAMPER_BPF = 8,	   /* bpf(2) was used */
	TAMPER_PERF = 9,   /* perf_event_open(2) was */
	TAMPER_MOUNT = 10, /* something was mounted over, or unmounted, where the watch needs it */
	TAMPER_FILE = 11,  /* a file of the watch was opened for writing, removed or renamed */
	TAMPERS = 12,
};

enum tamper_flag {
	TAMPER_TO_GROUP = 1 << 0,    /* to a whole process group, of which the tracer is one */
	TAMPER_UNCATCHABLE = 1 << 1, /* SIGKILL, SIGSTOP */
	TAMPER_BY_OUTSIDER = 1 << 2, /* nobody of the tree has done it */
	TAMPER_AT_WATCH = 1 << 3,    /* of bpf(2): it reached for our own maps, programs or links */
};

#define MODULE_NAME 56

/* What a tree does to its watch, or to get out of its sight. */
struct event_tamper {
	struct event_head head; /* of who did it; if that was an outsider, of who it was done to */
	struct verdict verdict;
	__u64 target_start; /* 0: not known */
	__u64 cgroup;	    /* that was left, or frozen */
	__u64 cgroup_to;    /* where to */
	__u64 span_start; /* the span that the thread is in: see struct event_span; token 0: not known */
	__u32 span_tgid;
	__u32 span_token;
	__u32 target_tgid;  /* whom it was done to; 0: nobody in particular */
	__u32 by_tgid;	    /* who did it, in the tree or not */
	__u32 number;	    /* of the signal; of a flood, enum event_kind; of bpf(2), its command */
	__u8 what;	    /* enum tamper_what */
	__u8 tamper_flags;  /* enum tamper_flag */
	__u8 _pad_tamper[2];
	__u8 name[MODULE_NAME]; /* of the module or file, ended by NUL */
};

enum flow_flag {
	FLOW_ACCEPTED = 1 << 0, /* the other end opened it */
	FLOW_OUTSIDE = 1 << 1,	/* the task had left the tree's cgroup */
	FLOW_UNCONNECTED = 1 << 2, /* a datagram sent without connect() */
	FLOW_LATE = 1 << 3,	   /* it was there before the watch */
	FLOW_BOUND = 1 << 4,	   /* of a datagram socket: bind() named a port */
};

enum first_flag {
	FIRST_LATE = 1 << 0,	   /* not the beginning: the flow is older than the watch */
	FIRST_DISORDERED = 1 << 1, /* segments came out of order, some bytes may be missing */
	FIRST_LAST = 1 << 2,	   /* nothing more of this direction is looked at */
};

enum first_direction {
	DIRECTION_SENT = 0,
	DIRECTION_RECEIVED = 1,
	DIRECTIONS = 2,
};

/* The same addresses wherever a flow is described; ports in host order. */
struct flow_addr {
	__u8 local[16]; /* IPv4 in the first four bytes */
	__u8 remote[16];
	__u16 local_port;
	__u16 remote_port;
	__u16 family;  /* AF_INET, AF_INET6 */
	__u8 protocol; /* IPPROTO_TCP, IPPROTO_UDP */
	__u8 flags;    /* enum flow_flag */
};

struct event_connect {
	struct event_head head;
	struct verdict verdict;
	__u64 cookie; /* of the socket: names the flow */
	__u64 span_start; /* the span that the thread is in: see struct event_span; token 0: not known */
	__u32 span_tgid;
	__u32 span_token;
	struct flow_addr addr;
};

struct event_listen {
	struct event_head head;
	struct verdict verdict;
	__u64 cookie;
	__u64 span_start; /* the span that the thread is in: see struct event_span; token 0: not known */
	__u32 span_tgid;
	__u32 span_token;
	struct flow_addr addr;
};

struct event_flow_open {
	struct event_head head;
	__u64 cookie;
	__u64 handshake_ns; /* first SYN to established; 0 when accepted */
	__u64 span_start; /* the span that it was opened in, or its listener was; token 0: not known */
	__u32 span_tgid;
	__u32 span_token;
	struct flow_addr addr;
};

struct event_flow_close {
	struct event_head head;
	__u64 cookie;
	__u64 duration_ns; /* since the connect, or since accepted */
	__u64 sent;	   /* payload bytes, without what was sent again */
	__u64 received;
	__u64 sent_last;   /* of these, what no sample has told of */
	__u64 received_last;
	struct flow_addr addr;
	__s32 error;	   /* errno; 0 for an orderly end */
	__u8 established;  /* 0: the handshake never ended */
	__u8 _pad[3];
};

/* What a TCP connection has carried since the last pass, or since it is known. */
struct event_flow_sample {
	struct event_head head; /* of the flow's owner */
	__u64 cookie; /* 0: the pass is over */
	__u64 sent;   /* payload bytes, without what was sent again */
	__u64 received;
	struct flow_addr addr;
	__u32 sent_packets; /* that had payload */
	__u32 received_packets;
};

enum effort_flag {
	EFFORT_NEW_FILE = 1 << 0, /* its executable was written since the watch began, or has no name any more */
};

/* How much of the processors a busy process has had, or waited for, in one pass. */
struct event_effort {
	struct event_head head; /* tgid 0: the pass is over */
	__u64 wall_ns; /* the time that all this is about */
	__u64 ran_ns;  /* by all its threads, those that have ended included */
	__u64 waited_ns; /* for a processor, though ready to run */
	__u64 switches; /* times that it gave up the processor by itself */
	__u64 calls; /* that read or write */
	__u64 huge_pages; /* memory in them, in pages of the usual size */
	__u32 cores; /* thousandths that it may use: its CPUs, or its cgroup's quota */
	__u32 threads;
	__u32 effort_flags; /* enum effort_flag */
	__u32 _pad_effort;
};

#define LOCAL_PATH 108 /* sizeof(sun_path) */

/* A UNIX socket is to be connected to the one of this name. */
struct event_local_connect {
	struct event_head head;
	__u64 span_start; /* the span that the thread is in: see struct event_span; token 0: not known */
	__u32 span_tgid;
	__u32 span_token;
	__u16 path_len; /* up to the first NUL; of an abstract name, all of it */
	__u8 abstract;	/* a name that is no file's; the NUL in front is left out */
	__u8 _pad_local[5];
	__u8 path[LOCAL_PATH];
	__u8 _pad_end[4];
};

/* Where whoever writes stays when everything else has ended. tracer/detect/footholds.py has a fact for each. */
enum foothold_what {
	FOOTHOLD_NONE = 0,
	FOOTHOLD_KEYS = 1,    /* who may log in by ssh */
	FOOTHOLD_CRON = 2,    /* cron and at */
	FOOTHOLD_SERVICE = 3, /* systemd's units, init scripts */
	FOOTHOLD_STARTUP = 4, /* what a shell or a session runs when it begins */
	FOOTHOLD_PRELOAD = 5, /* what the loader puts into every program */
	FOOTHOLD_ACCOUNT = 6, /* who there is, and who may become root */
	FOOTHOLDS = 7,
};

enum foothold_flag {
	FOOTHOLD_PACKAGED = 1 << 0, /* by the system's package manager */
	FOOTHOLD_LINKED = 1 << 1,   /* a folder or file became a link to somewhere else */
};

#define FOOTHOLD_PATH 512

/* A file was written, or put, where it will be obeyed later; its path follows. */
struct event_foothold {
	struct event_head head; /* of who wrote; ts: when we heard of it */
	__u16 path_len;	     /* the front is missing if it had been longer */
	__u8 what;	     /* enum foothold_what */
	__u8 foothold_flags; /* enum foothold_flag */
	__u8 _pad_foothold[4];
};

/* Captured of each direction of a flow, or of a datagram. */
#define FIRST_BYTES 512
/* A direction is looked at no longer than for so many packets that bring something. */
#define FIRST_SEGMENTS 8

/* All of a flow's first bytes in one direction so far; they follow the struct. */
struct event_first_bytes {
	struct event_head head; /* of the flow's owner */
	struct verdict verdict;
	__u64 cookie;
	struct flow_addr addr; /* as the packet has it */
	__u16 len;    /* bytes that follow */
	__u16 first;  /* payload of the first packet, captured or not */
	__u16 other;  /* bytes captured of the other direction so far */
	__u8 direction; /* enum first_direction */
	__u8 segment; /* packets with payload so far, this one included */
	__u8 first_flags; /* enum first_flag */
	__u8 icmp_type; /* of ICMP and ICMPv6: what kind of message it is */
	__u8 _pad[6];
};

enum gpu_family {
	GPU_NONE = 0,
	GPU_NVIDIA = 1, /* nvidiactl and nvidiaN */
	GPU_NVIDIA_UVM = 2,
	GPU_NVIDIA_CAPS = 3,
	GPU_KFD = 4,
	GPU_DRM = 5, /* a driver whose numbers we do not know */
	GPU_ACCEL = 6,
	GPU_NVIDIA_ANY = 7, /* a stand-in: driver or UVM, told by the command */
	GPU_DRM_AMDGPU = 8,
	GPU_DRM_I915 = 9,
	GPU_DRM_XE = 10,
};

struct event_gpu_open {
	struct event_head head;
	__u64 span_start; /* the span that the thread is in: see struct event_span; token 0: not known */
	__u32 span_tgid;
	__u32 span_token;
	__u32 major;
	__u32 minor;
	__u32 access; /* BPF_DEVCG_ACC_*: 1 mknod, 2 read, 4 write */
	__u8 family;  /* enum gpu_family */
	__u8 open_flags; /* enum gpu_open_flag */
	__u8 _pad[2];
};

enum gpu_open_flag {
	GPU_HELD = 1 << 0, /* open when the watch began: read from the table of descriptors, never on a ring */
};

enum gpu_flag {
	GPU_FIRST = 1 << 0,	 /* first of its kind in this process */
	GPU_COMPUTE = 1 << 1,	 /* makes or feeds a compute context */
	GPU_WRAPPED = 1 << 2,	 /* came inside NVIDIA's XFER_CMD */
	GPU_UNCOUNTED = 1 << 3,	 /* the table of kinds is full: sent singly */
	GPU_ARG_UNREADABLE = 1 << 4, /* the argument's page was not resident */
	GPU_COMPAT = 1 << 5,	 /* a 32-bit system call */
};

struct event_gpu_ioctl {
	struct event_head head;
	struct verdict verdict; /* of what makes a compute context */
	__u64 span_start; /* the span that the thread is in: see struct event_span; token 0: not known */
	__u32 span_tgid;
	__u32 span_token;
	__u64 asked; /* bytes of the device's memory that it asks for, or 0 */
	__u32 major;
	__u32 minor;
	__u32 cmd; /* as given, or as unwrapped */
	__u32 nr;  /* the driver's number for it */
	__u32 code; /* class (RM_ALLOC), control (RM_CONTROL), queue type, engine, or 0 */
	__u8 family;
	__u8 flags; /* enum gpu_flag */
	__u8 _pad[2];
};

/* How often each kind of ioctl came, since the process first did one. */
struct gpu_kind {
	__u64 count;
	__u32 nr;
	__u32 code;
	__u8 family;
	__u8 flags; /* GPU_WRAPPED, GPU_COMPAT, GPU_ARG_UNREADABLE: part of the kind */
	__u8 _pad[2];
	__u32 minor; /* of the device: part of the kind */
};

#define GPU_KINDS_MAX 128

struct event_gpu_counts {
	struct event_head head;
	__u64 uncounted; /* sent singly, see GPU_UNCOUNTED */
	__u64 asked;	 /* bytes of device memory asked for, whatever came of it and however much was given back */
	__u64 largest;	 /* of one call */
	__u64 unsized;	 /* calls that asked for memory, but how much could not be read */
	__u32 kinds;	 /* so many struct gpu_kind follow */
	__u32 final;	 /* the process has ended */
};

/* What a client of a GPU may have mapped: told by the names of files, which the tree chooses. */
enum gpu_library {
	GPU_LIB_CUDA = 1 << 0,	   /* libcuda */
	GPU_LIB_OPENCL = 1 << 1,   /* libnvidia-opencl, libOpenCL */
	GPU_LIB_VULKAN = 1 << 2,   /* the driver's for graphics, libvulkan */
	GPU_LIB_NVML = 1 << 3,	   /* libnvidia-ml */
	GPU_LIB_VIDEO = 1 << 4,	   /* libnvidia-encode, libnvcuvid */
	GPU_LIB_ROCM = 1 << 5,	   /* libhsa-runtime64, libamdhip64 */
	GPU_LIB_CUT = 1 << 6,	   /* more is mapped than was read */
};

struct event_gpu_libraries {
	struct event_head head;
	__u32 libraries; /* enum gpu_library */
	__u32 _pad;
};

enum gpu_use_flag {
	GPU_USE_MEMORY = 1 << 0,      /* how much it holds is known */
	GPU_USE_UTILISATION = 1 << 1, /* and how busy it keeps them */
};

/* How much of the cards a process uses, a sample at a time. */
struct event_gpu_use {
	struct event_head head; /* ts: when we heard of it */
	__u64 memory;	   /* bytes of the cards' memory that it holds */
	__u32 utilisation; /* percent of a card's time in which it computed: the sum over all cards */
	__u16 cards;	   /* that it has contexts on */
	__u8 use_flags;	   /* enum gpu_use_flag */
	__u8 _pad_use[1];
};

enum span_what {
	SPAN_NONE = 0,
	SPAN_BEGIN = 1,
	SPAN_END = 2,
	SPAN_WHATS = 3,
};

enum span_flag {
	SPAN_CUT = 1 << 0,	  /* not all that was said of it had room */
	SPAN_BY_CHILD = 1 << 1, /* opened or ended by a child of its owner, for it: a shell's */
};

/* What is said of a span: "key=value", each ended by NUL, in UTF-8. */
#define SPAN_TEXT 512

/*
 * A tool call or a step begins or ends. A span is named by the process that owns it, which the
 * probe fills in, and a number of that process's own choice: so nobody can name another's.
 */
struct event_span {
	struct event_head head; /* of who says so */
	__u64 span_start;	/* its owner */
	__u64 above_start;	/* the span that it lies in; token 0: in none */
	__u32 span_tgid;
	__u32 span_token;
	__u32 above_tgid;
	__u32 above_token;
	__u16 len; /* bytes of text that follow */
	__u8 what; /* enum span_what */
	__u8 span_flags;
	__u8 _pad_span[4];
};

/* A task of the tree that was there before the watch, or is still there. */
struct event_task {
	struct event_head head;
	__u64 parent_start;
	__u64 cgroup;
	__u64 ino;
	__u64 span_start; /* the span that its process was born in; token 0: in none */
	__u32 span_tgid;
	__u32 span_token;
	__u32 parent_tgid;
	__u32 dev;
	__u32 uid;
	__u32 gid;
	__u32 threads;
	__u32 fresh; /* this pass of the iterator has put it into the tree */
	__u8 comm[16];
};

/* Why a record or a fact was lost; counted per CPU, shown in every summary. */
enum loss_reason {
	LOSS_NONE = 0,
	LOSS_RING_FULL = 1,    /* by kind, see struct counters */
	LOSS_TASK_STORAGE = 2, /* a task could not be put into the tree */
	LOSS_SOCK_STORAGE = 3, /* a socket could not be followed */
	LOSS_GPU_STATE = 4,    /* a GPU client could not be followed */
	LOSS_SCRATCH = 5,      /* no scratch memory: can't happen, so counted */
	LOSS_CONTENDED = 6,    /* two packets of one flow at the same moment */
	LOSS_SHARE = 7,	       /* held back from the ring; by kind, see struct counters */
	LOSS_SPAN = 8,	       /* a task could not be given its span */
	LOSS_NAME = 9,	       /* what rules know of a name could not be kept for its address */
	LOSS_EFFORT = 10,     /* what a process computes could not be kept */
	LOSS_REASONS = 11,
};

struct counters {
	__u64 sent[EVENT_KINDS]; /* tried; received + lost = sent */
	__u64 lost[EVENT_KINDS]; /* the ring was full, or the process over its share of it */
	__u64 seq[RINGS];
	__u64 reasons[LOSS_REASONS];
	__u64 threads; /* threads born in the tree: tracked, not sent */
	__u64 acted[ACTIONS]; /* what the probes did themselves */
	__u64 failed[ACTIONS]; /* and could not do */
	__u64 spans_refused; /* calls about spans that were not the caller's to make */
	__u64 dropped; /* packets of flows that are cut, and those that quarantine keeps in */
};

#ifdef __cplusplus
#define VIGILES_ASSERT static_assert
#else
#define VIGILES_ASSERT _Static_assert
#endif
VIGILES_ASSERT(sizeof(struct event_head) == 40, "event_head");
VIGILES_ASSERT(sizeof(struct event_fork) == 72, "event_fork");
VIGILES_ASSERT(sizeof(struct verdict) == 64, "verdict");
VIGILES_ASSERT(sizeof(struct event_exec) == 264, "event_exec");
VIGILES_ASSERT(sizeof(struct event_exit) == 48, "event_exit");
VIGILES_ASSERT(sizeof(struct event_exec_refused) == 152, "event_exec_refused");
VIGILES_ASSERT(sizeof(struct event_tamper) == 216, "event_tamper");
VIGILES_ASSERT(sizeof(struct flow_addr) == 40, "flow_addr");
VIGILES_ASSERT(sizeof(struct event_connect) == 168, "event_connect");
VIGILES_ASSERT(sizeof(struct event_listen) == sizeof(struct event_connect), "event_listen");
VIGILES_ASSERT(sizeof(struct event_span) == 80, "event_span");
VIGILES_ASSERT(sizeof(struct event_flow_close) == 136, "event_flow_close");
VIGILES_ASSERT(sizeof(struct event_flow_sample) == 112, "event_flow_sample");
VIGILES_ASSERT(sizeof(struct event_effort) == 104, "event_effort");
VIGILES_ASSERT(sizeof(struct event_foothold) == 48, "event_foothold");
VIGILES_ASSERT(sizeof(struct event_local_connect) == 176, "event_local_connect");
VIGILES_ASSERT(sizeof(struct event_first_bytes) == 168, "event_first_bytes");
VIGILES_ASSERT(sizeof(struct event_gpu_open) == 72, "event_gpu_open");
VIGILES_ASSERT(sizeof(struct event_gpu_ioctl) == 152, "event_gpu_ioctl");
VIGILES_ASSERT(sizeof(struct event_gpu_libraries) == 48, "event_gpu_libraries");
VIGILES_ASSERT(sizeof(struct event_gpu_use) == 56, "event_gpu_use");
VIGILES_ASSERT(sizeof(struct gpu_kind) == 24, "gpu_kind");
VIGILES_ASSERT(sizeof(struct event_task) == 120, "event_task");

#endif
