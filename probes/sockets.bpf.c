/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The sockets of the tree, as user space reads them through iterators: this costs no
 * packet and no system call anything.
 */
#include "tree.bpf.h"
#include "flow.bpf.h"

/*
 * Those that the tree holds already: read once, when user space attaches to a running
 * tree. Each gets its owner and the mark of a late-comer, so that what it carries from
 * now on is looked at and known not to be its beginning. A socket that several processes
 * hold belongs to the first that is met.
 */
SEC("iter/task_file")
int on_socket(struct bpf_iter__task_file *ctx)
{
	struct task_struct *task = ctx->task;
	struct file *file = ctx->file;
	struct event_flow_open e = {};
	struct tcp_sock *tp;
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
	flow = sock_storage(flows, sk);
	if (!flow)
		return 0;
	if (flow->owner_tgid)
		return 0;
	own_flow(flow, task);
	flow->flags |= FLOW_LATE;
	flow->cookie = bpf_get_socket_cookie(sk);
	tp = bpf_skc_to_tcp_sock(sk);
	if (tp) { /* what it has carried so far is nobody's news */
		flow->sampled[DIRECTION_SENT] = tp->bytes_sent - tp->bytes_retrans;
		flow->sampled[DIRECTION_RECEIVED] = tp->bytes_received;
		flow->packets[DIRECTION_SENT] = tp->data_segs_out;
		flow->packets[DIRECTION_RECEIVED] = tp->data_segs_in;
	}
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

/*
 * What a TCP connection has carried since the last pass. Why so: TCP counts by itself, in
 * both directions, so a packet pays nothing; and all of one pass are read at one moment, give
 * or take microseconds, which is what makes them comparable. What it misses: the order of
 * things within a pass, and UDP.
 *
 * A record that found no room in the reader's buffer is asked for again: nothing is taken
 * as told before it has been written.
 */
static __always_inline void sample(struct seq_file *seq, struct sock *sk, struct flow *flow)
{
	struct event_flow_sample e = {};
	__u64 sent, received;
	__u32 out, in;
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);

	if (!tp || sk->__sk_common.skc_state == TCP_LISTEN || !flow->owner_tgid)
		return;
	sent = tp->bytes_sent - tp->bytes_retrans;
	received = tp->bytes_received;
	if (sent == flow->sampled[DIRECTION_SENT] && received == flow->sampled[DIRECTION_RECEIVED])
		return;
	out = tp->data_segs_out;
	in = tp->data_segs_in;
	e.head.ts = bpf_ktime_get_boot_ns();
	e.head.size = sizeof(e);
	e.head.kind = EVENT_FLOW_SAMPLE;
	e.sent = since_sample(sent, flow->sampled[DIRECTION_SENT]);
	e.received = since_sample(received, flow->sampled[DIRECTION_RECEIVED]);
	e.sent_packets = out >= flow->packets[DIRECTION_SENT] ?
				 out - flow->packets[DIRECTION_SENT] : out;
	e.received_packets = in >= flow->packets[DIRECTION_RECEIVED] ?
				     in - flow->packets[DIRECTION_RECEIVED] : in;
	head_of_owner(&e.head, flow);
	e.cookie = flow->cookie ? flow->cookie : bpf_get_socket_cookie(sk);
	fill_addr(&e.addr, sk);
	e.addr.flags = flow->flags;
	if (bpf_seq_write(seq, &e, sizeof(e)))
		return;
	flow->sampled[DIRECTION_SENT] = sent;
	flow->sampled[DIRECTION_RECEIVED] = received;
	flow->packets[DIRECTION_SENT] = out;
	flow->packets[DIRECTION_RECEIVED] = in;
}

/* A record without a socket: all that have moved have been told. */
static __always_inline void end_of_pass(struct seq_file *seq)
{
	struct event_flow_sample e = {};

	e.head.ts = bpf_ktime_get_boot_ns();
	e.head.size = sizeof(e);
	e.head.kind = EVENT_FLOW_SAMPLE;
	bpf_seq_write(seq, &e, sizeof(e));
}

/* Meets only sockets that carry our storage. The last call has no socket. */
SEC("iter/bpf_sk_storage_map")
int on_sample(struct bpf_iter__bpf_sk_storage_map *ctx)
{
	struct seq_file *seq = ctx->meta->seq;
	struct flow *flow = ctx->value; /* looked at once: what the verifier knows of it goes with the copy */
	struct sock *sk = ctx->sk;

	if (sk && flow)
		sample(seq, sk, flow);
	else
		end_of_pass(seq);
	return 0;
}

/*
 * The same where the kernel does not let that one load (some hardened kernels refuse each
 * iterator that could write to a map's values): it meets every open file of the host, so a pass
 * takes longer, and misses sockets that no process has open. One that several hold has no
 * news when it is met again.
 */
SEC("iter/task_file")
int on_sample_files(struct bpf_iter__task_file *ctx)
{
	struct file *file = ctx->file;
	struct socket *socket;
	struct flow *flow;
	struct sock *sk;

	if (!ctx->task || !file) {
		end_of_pass(ctx->meta->seq);
		return 0;
	}
	socket = bpf_sock_from_file(file);
	if (!socket)
		return 0;
	sk = socket->sk;
	if (!sk)
		return 0;
	flow = bpf_sk_storage_get(&flows, sk, 0, 0);
	if (flow)
		sample(ctx->meta->seq, sk, flow);
	return 0;
}
