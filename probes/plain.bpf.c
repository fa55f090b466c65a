/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What takes the place of programs that a kernel without BTF can't have: see compat.bpf.h. */
#include "flow.bpf.h"
#include "gpu_state.bpf.h"
#include "tree.bpf.h"

/*
 * Why this hook: it runs when a task is given back for good, threads and those that nobody waited for included, as
 * its own storage would be.
 */
SEC("raw_tp/sched_process_free")
int BPF_PROG(on_free, struct task_struct *task)
{
	__u32 tid = BPF_CORE_READ(task, pid);

	/* its number may be another's by now */
	if (members_of(task, 0))
		forget_members(tid);
	if (gpu_states_of(task, 0))
		forget_gpu_states(tid);
	return 0;
}

/* The address of a socket, which to the verifier is a thing to be handed on, as a number that can be read by. */
INLINE struct sock *address_of(struct bpf_sock *sk)
{
	struct sock *address = NULL;

	bpf_probe_read_kernel(&address, sizeof(address), &sk);
	return address;
}

/*
 * Why this hook: the kernel asks it on the way of each TCP connection of the cgroup, and it may look into the
 * socket's storage, which a plain tracepoint may not. What it misses: connections of processes that have left the
 * cgroup, and the end of those that are older than the watch.
 */
SEC("sockops")
int on_tcp_ops(struct bpf_sock_ops *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	__u32 op = ctx->op;
	struct verdict verdict = {};
	struct flow *flow;

	if (!sk)
		return 1;
	if (op == BPF_SOCK_OPS_TCP_CONNECT_CB || op == BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB) {
		bpf_sock_ops_cb_flags_set(ctx, ctx->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_STATE_CB_FLAG);
		return 1;
	}
	if (op == BPF_SOCK_OPS_TCP_LISTEN_CB) {
		if (!concerns_tree())
			return 1;
		flow = sock_storage(flows, sk);
		if (!flow)
			return 1;
		flow->cookie = bpf_get_socket_cookie(ctx);
		tell_listen(address_of(sk), flow, bpf_get_current_task_btf(), &verdict);
		return 1;
	}
	if (op != BPF_SOCK_OPS_STATE_CB)
		return 1;
	flow = bpf_sk_storage_get(&flows, sk, 0, 0);
	if (flow)
		tell_state(address_of(sk), ctx, flow, ctx->args[0], ctx->args[1]);
	return 1;
}
