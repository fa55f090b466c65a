/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The sockets that the tree holds already: read by user space once, when it attaches
 * to a running tree. Each gets its owner and the mark of a late-comer, so that what
 * it carries from now on is looked at and known not to be its beginning. A socket
 * that several processes hold belongs to the first that is met.
 */
#include "tree.bpf.h"
#include "flow.bpf.h"

SEC("iter/task_file")
int on_socket(struct bpf_iter__task_file *ctx)
{
	struct task_struct *task = ctx->task;
	struct file *file = ctx->file;
	struct event_flow_open e = {};
	struct socket *socket;
	struct flow *flow;
	struct sock *sk;
	__u16 family;

	if (!task || !file || !member_of(task))
		return 0;
	socket = bpf_sock_from_file(file);
	if (!socket)
		return 0;
	sk = socket->sk;
	if (!sk)
		return 0;
	family = sk->__sk_common.skc_family;
	if (family != AF_INET && family != AF_INET6)
		return 0;
	flow = bpf_sk_storage_get(&flows, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!flow) {
		count_loss(LOSS_SOCK_STORAGE);
		return 0;
	}
	if (flow->owner_tgid)
		return 0;
	own_flow(flow, task);
	flow->flags |= FLOW_LATE;
	flow->cookie = bpf_get_socket_cookie(sk);
	e.head.ts = flow->began;
	head_of_owner(&e.head, flow);
	e.head.size = sizeof(e);
	e.head.kind = EVENT_FLOW_OPEN;
	e.cookie = flow->cookie;
	fill_addr(&e.addr, sk);
	e.addr.protocol = sk->sk_protocol;
	e.addr.flags = flow->flags;
	flow->established = sk->__sk_common.skc_state == TCP_ESTABLISHED;
	/* A socket that listens or has no other end is only marked. */
	if (e.addr.remote_port)
		bpf_seq_write(ctx->meta->seq, &e, sizeof(e));
	return 0;
}
