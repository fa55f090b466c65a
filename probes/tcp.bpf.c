/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The life of TCP connections, by a tracepoint: where the kernel tells what it hands over (BTF). */
#include "flow.bpf.h"
#include "guard.bpf.h"
#include "tree.bpf.h"

/*
 * Why this hook: one place for the whole life of a TCP connection, whoever and
 * whatever ends it. Going to SYN_SENT or LISTEN runs in the caller's context, so
 * there the lineage of the current task decides; later states look at the mark
 * that the socket carries.
 */
SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(on_tcp_state, const struct sock *csk, int oldstate, int newstate)
{
	struct sock *sk = (struct sock *)csk;
	struct task_struct *task;
	struct event_connect *connect;
	struct verdict verdict = {};
	struct flow *flow;

	if (sk->sk_protocol != IPPROTO_TCP)
		return 0;
	if (newstate == TCP_SYN_SENT || newstate == TCP_LISTEN) {
		task = bpf_get_current_task_btf();
		flow = bpf_sk_storage_get(&flows, sk, 0, 0);
		if (!flow && !member_or_worker(task))
			return 0;
		if (!flow)
			flow = sock_storage(flows, sk);
		if (!flow)
			return 0;
		flow->cookie = bpf_get_socket_cookie(sk);
		if (newstate == TCP_LISTEN) {
			tell_listen(sk, flow, task, &verdict);
			return 0;
		}
		if (flow->told & FLOW_TOLD_CONNECT) {
			flow->told &= ~FLOW_TOLD_CONNECT;
			return 0;
		}
		own_flow(flow, task);
		open_in_span(flow, task);
		flow->flags |= FLOW_OUTSIDE;
		/* no hook of the cgroup has been asked: what it would refuse ends whoever calls */
		if (judge_socket(sk, 1, &verdict) && kill_current())
			verdict.done |= 1 << ACTION_KILL;
		connect = reserve_bulk(struct event_connect, task, EVENT_CONNECT, verdict.row != 0);
		if (!connect)
			return 0;
		connect->verdict = verdict;
		connect->cookie = flow->cookie;
		name_flow_span(connect, flow);
		fill_addr(&connect->addr, sk);
		connect->addr.flags = flow->flags;
		submit_event(connect, verdict.row != 0);
		return 0;
	}
	flow = bpf_sk_storage_get(&flows, sk, 0, 0);
	if (flow)
		tell_state(sk, sk, flow, oldstate, newstate);
	return 0;
}
