/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Connections to UNIX sockets of this host: of a container runtime, of systemd.
 *
 * Why this hook: it is the only one there is without fentry or kprobes, runs in connect(2)
 * itself, and costs nobody outside the cgroup anything. It came with Linux 6.7; libbpf knows
 * its section from 1.3 on, so tracer/kernel/object.py says what it is. What it misses: kernels
 * before, datagrams that are sent without a connect, and what a path leads to: a link to a
 * socket goes by the link's name.
 */
#include "tree.bpf.h"
#include "share.bpf.h"
#include "span.bpf.h"

/* What the kernel hands to programs of this kind: include/linux/filter.h. */
extern void *bpf_cast_to_kern_ctx(void *ctx) __ksym __weak;

SEC("cgroup/connect_unix")
int on_connect_local(struct bpf_sock_addr *ctx)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct bpf_sock_addr_kern *kern = bpf_cast_to_kern_ctx(ctx);
	struct event_local_connect *e;
	struct sockaddr_un *name;
	__u32 length;

	if (!concerns_tree())
		return 1;
	length = kern->uaddrlen;
	if (length <= sizeof(__u16)) /* no name: the socket is taken apart again */
		return 1;
	length -= sizeof(__u16);
	if (length > LOCAL_PATH)
		length = LOCAL_PATH;
	e = reserve_bulk(struct event_local_connect, task, EVENT_LOCAL_CONNECT, 0);
	if (!e)
		return 1;
	name = (struct sockaddr_un *)kern->uaddr;
	/* all of it: what lies behind the name is the kernel's, and not looked at */
	bpf_probe_read_kernel(e->path, LOCAL_PATH, &name->sun_path);
	e->abstract = !e->path[0];
	e->path_len = length;
	name_span_or_asker(e, task);
	submit_event(e, 0);
	return 1;
}
