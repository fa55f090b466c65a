/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The network: who connects where, what became of it, who listens.
 */
#include "tree.bpf.h"
#include "flow.bpf.h"
#include "guard.bpf.h"
#include "share.bpf.h"

/* What programs on cgroups say; refused, the call fails with EPERM. */
#define ALLOW 1
#define REFUSE 0

#define SOCK_DONE 1 /* enum sock_flags: the other end's FIN has come */

/*
 * cgroup hooks. Why: they run in connect() and sendmsg() themselves, io_uring's
 * included, before anything has left, and may refuse; they cost nobody outside
 * the cgroup anything. A task that leaves the cgroup escapes them: its TCP
 * connections are then told by on_tcp_state.
 */
INLINE int tell_connect(struct bpf_sock_addr *ctx, int ipv6, int unconnected)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct event_connect *e;
	struct flow *flow;
	struct bpf_sock *sk = ctx->sk;
	__u32 port = bpf_ntohs(ctx->user_port);
	struct place place = { .port = port, .protocol = ctx->protocol };
	struct verdict verdict = {};
	__u32 address[4] = {};
	__u64 began;
	int refused = 0, told = 0;

	if (ipv6) {
		/* One word at a time: the verifier refuses a block copy of ctx. */
		address[0] = ctx->user_ip6[0];
		address[1] = ctx->user_ip6[1];
		address[2] = ctx->user_ip6[2];
		address[3] = ctx->user_ip6[3];
	} else {
		address[0] = ctx->user_ip4;
	}
	if (!sk || !concerns_tree())
		return ALLOW;
	flow = sock_storage(flows, sk);
	if (flow && unconnected) {
		/* A resolver or a QUIC stack sends thousands to one place:
		 * only a new destination of this socket is news. (One that was refused may
		 * be tried again and again: it is judged anew each time, and told once.) */
		if ((flow->flags & FLOW_UNCONNECTED) && flow->last_port == port &&
		    flow->last_address[0] == address[0] && flow->last_address[1] == address[1] &&
		    flow->last_address[2] == address[2] && flow->last_address[3] == address[3]) {
			if (!flow->refused)
				return ALLOW;
			told = 1;
		}
		flow->last_port = port;
		__builtin_memcpy(flow->last_address, address, sizeof(address));
		flow->flags |= FLOW_UNCONNECTED;
	}
	began = bpf_ktime_get_boot_ns();
	set_place(&place, ipv6, address);
	if (judge_here)
		judge_place(&place, RULES_ON_CONNECT, &verdict);
	refused = carry_out_connect(&place, &verdict);
	verdict.took_ns = bpf_ktime_get_boot_ns() - began;
	if (flow) {
		own_flow(flow, task);
		open_in_span(flow, task);
		flow->cookie = bpf_get_socket_cookie(ctx);
		flow->told |= FLOW_TOLD_CONNECT;
		flow->refused = refused;
	}
	if (told)
		return refused ? REFUSE : ALLOW;
	e = reserve_bulk(struct event_connect, task, EVENT_CONNECT, verdict.row != 0);
	if (!e)
		return refused ? REFUSE : ALLOW;
	e->head.ts = began;
	e->verdict = verdict;
	e->cookie = bpf_get_socket_cookie(ctx);
	e->addr.family = ipv6 ? AF_INET6 : AF_INET;
	e->addr.protocol = ctx->protocol;
	e->addr.remote_port = port;
	__builtin_memcpy(e->addr.remote, address, sizeof(address));
	if (unconnected)
		e->addr.flags |= FLOW_UNCONNECTED;
	if (flow)
		name_flow_span(e, flow);
	else
		name_span_or_asker(e, task);
	/* What no rule holds for waits for the timer: a wake-up is dear to whoever connects. */
	submit_event(e, verdict.row != 0);
	return refused ? REFUSE : ALLOW;
}

SEC("cgroup/connect4")
int on_connect4(struct bpf_sock_addr *ctx)
{
	return tell_connect(ctx, 0, 0);
}

SEC("cgroup/connect6")
int on_connect6(struct bpf_sock_addr *ctx)
{
	return tell_connect(ctx, 1, 0);
}

SEC("cgroup/sendmsg4")
int on_sendmsg4(struct bpf_sock_addr *ctx)
{
	return tell_connect(ctx, 0, 1);
}

SEC("cgroup/sendmsg6")
int on_sendmsg6(struct bpf_sock_addr *ctx)
{
	return tell_connect(ctx, 1, 1);
}

/*
 * Why this hook: post_bind, below, sees the port that a socket has got, not whether
 * one was asked for; and every other client binds to port 0 before it sends.
 */
INLINE int note_bind(struct bpf_sock_addr *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct flow *flow;
	__u32 asked = ctx->user_port;

	if (!sk || ctx->protocol != IPPROTO_UDP || !concerns_tree())
		return ALLOW;
	flow = asked ? sock_storage(flows, sk) : bpf_sk_storage_get(&flows, sk, 0, 0);
	if (flow)
		flow->bound = asked != 0;
	return ALLOW;
}

SEC("cgroup/bind4")
int on_ask4(struct bpf_sock_addr *ctx)
{
	return note_bind(ctx);
}

SEC("cgroup/bind6")
int on_ask6(struct bpf_sock_addr *ctx)
{
	return note_bind(ctx);
}

/*
 * Why this hook: a datagram socket has no LISTEN state; a bind() to a port of its
 * choice is what shows that it serves. (Streams are told when they really listen.)
 * It may refuse: bind() then fails with EPERM, and the port is free again. What it
 * misses: whoever serves at a port that the kernel has chosen.
 */
INLINE int tell_bind(struct bpf_sock *ctx, int ipv6)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct place place = { .port = ctx->src_port, .protocol = IPPROTO_UDP };
	struct verdict verdict = {};
	struct event_listen *e;
	struct flow *flow;
	__u32 local[4] = {};
	int bound, refused = 0;

	if (ctx->protocol != IPPROTO_UDP || !concerns_tree())
		return ALLOW;
	if (ipv6) {
		local[0] = ctx->src_ip6[0];
		local[1] = ctx->src_ip6[1];
		local[2] = ctx->src_ip6[2];
		local[3] = ctx->src_ip6[3];
	} else {
		local[0] = ctx->src_ip4;
	}
	flow = bpf_sk_storage_get(&flows, ctx, 0, 0);
	bound = flow && flow->bound;
	if (bound) {
		own_flow(flow, task);
		if (judge_here) {
			set_place(&place, ipv6, local);
			judge_place(&place, RULES_ON_LISTEN, &verdict);
			refused = carry_out_listen(&verdict);
		}
	}
	e = reserve_bulk(struct event_listen, task, EVENT_LISTEN, verdict.row != 0);
	if (!e)
		return refused ? REFUSE : ALLOW;
	e->verdict = verdict;
	e->cookie = bpf_get_socket_cookie(ctx);
	e->addr.family = ipv6 ? AF_INET6 : AF_INET;
	e->addr.protocol = IPPROTO_UDP;
	e->addr.flags = bound ? FLOW_BOUND : 0;
	e->addr.local_port = ctx->src_port;
	__builtin_memcpy(e->addr.local, local, sizeof(local));
	name_span_or_asker(e, task);
	submit_event(e, verdict.row != 0);
	return refused ? REFUSE : ALLOW;
}

SEC("cgroup/post_bind4")
int on_bind4(struct bpf_sock *ctx)
{
	return tell_bind(ctx, 0);
}

SEC("cgroup/post_bind6")
int on_bind6(struct bpf_sock *ctx)
{
	return tell_bind(ctx, 1);
}

INLINE void tell_open(struct sock *sk, struct flow *flow, __u64 now)
{
	struct event_flow_open *e;

	e = reserve_of_flow(struct event_flow_open, flow, EVENT_FLOW_OPEN);
	if (!e)
		return;
	e->cookie = flow->cookie;
	e->handshake_ns = flow->flags & FLOW_ACCEPTED ? 0 : now - flow->began;
	name_flow_span(e, flow);
	fill_addr(&e->addr, sk);
	e->addr.flags = flow->flags;
	submit_event(e, 0);
}

INLINE void tell_close(struct sock *sk, struct flow *flow, __u64 now)
{
	struct tcp_sock *tp = TCP_SOCK(sk);
	struct event_flow_close *e;

	e = reserve_of_flow(struct event_flow_close, flow, EVENT_FLOW_CLOSE);
	if (!e)
		return;
	e->cookie = flow->cookie;
	e->duration_ns = now - flow->began;
	if (tp) {
		e->sent = FIELD(tp, bytes_sent) - FIELD(tp, bytes_retrans);
		e->received = FIELD(tp, bytes_received);
		/* A FIN takes a number in the sequence and is counted as a byte. */
		if (e->received && FIELD(sk, __sk_common.skc_flags) & (1UL << SOCK_DONE))
			e->received -= 1;
	}
	if (e->sent > flow->sampled[DIRECTION_SENT])
		e->sent_last = e->sent - flow->sampled[DIRECTION_SENT];
	if (e->received > flow->sampled[DIRECTION_RECEIVED])
		e->received_last = e->received - flow->sampled[DIRECTION_RECEIVED];
	e->error = FIELD(sk, sk_err);
	e->established = flow->established;
	fill_addr(&e->addr, sk);
	e->addr.flags = flow->flags;
	submit_event(e, 0);
}

/* Judge a TCP socket by where it goes, or listens. True: its connection is to be refused. */
static __noinline int judge_socket(struct sock *sk, int connects, struct verdict *v)
{
	struct flow_addr addr = {};
	struct place place = { .protocol = IPPROTO_TCP };

	if (!v || !judge_here)
		return 0;
	fill_addr(&addr, sk);
	set_place(&place, addr.family == AF_INET6,
		  (const __u32 *)(connects ? addr.remote : addr.local));
	place.port = connects ? addr.remote_port : addr.local_port;
	judge_place(&place, connects ? RULES_ON_CONNECT : RULES_ON_LISTEN, v);
	return connects && carry_out_connect(&place, v);
}

/* It listens now. The verdict is the caller's, whose stack has no room for two. */
INLINE void tell_listen(struct sock *sk, struct flow *flow, struct task_struct *task,
			struct verdict *verdict)
{
	struct event_listen *e;

	own_flow(flow, task);
	open_in_span(flow, task);
	flow->told |= FLOW_TOLD_LISTEN;
	judge_socket(sk, 0, verdict);
	/* a listener that nothing reaches: listen() itself can't be refused here */
	flow->cut = carry_out_listen(verdict);
	e = reserve_bulk(struct event_listen, task, EVENT_LISTEN, verdict->row != 0);
	if (!e)
		return;
	e->verdict = *verdict;
	e->cookie = flow->cookie;
	name_flow_span(e, flow);
	fill_addr(&e->addr, sk);
	submit_event(e, verdict->row != 0);
}

/* A TCP socket that is known goes on to another state. `named`: what its cookie can be asked of. */
INLINE void tell_state(struct sock *sk, void *named, struct flow *flow, int oldstate, int newstate)
{
	__u64 now = bpf_ktime_get_boot_ns();

	if (newstate == TCP_ESTABLISHED) {
		if (oldstate == TCP_SYN_RECV) {
			flow->flags |= FLOW_ACCEPTED;
			flow->began = now;
			flow->cookie = bpf_get_socket_cookie(named);
		}
		flow->established = 1;
		tell_open(sk, flow, now);
	} else if (newstate == TCP_CLOSE && oldstate != TCP_LISTEN) {
		tell_close(sk, flow, now);
		flow->established = 0;
		flow->told = 0;
	}
}
