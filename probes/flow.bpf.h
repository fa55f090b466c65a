/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What a socket of the tree carries in its own storage: whose it is and what has
 * been told of it. Most of its life happens in interrupts, where the current task
 * is anybody.
 */
#ifndef VIGILES_FLOW_BPF_H
#define VIGILES_FLOW_BPF_H

#include "span.bpf.h"

#define TCP_ESTABLISHED 1
#define TCP_SYN_SENT 2
#define TCP_SYN_RECV 3
#define TCP_CLOSE 7
#define TCP_LISTEN 10

struct flow {
	__u64 owner_start;
	__u64 began; /* connect, or accept */
	__u64 cookie;
	__u32 owner_tgid;
	__u32 owner_tid;
	__u32 told; /* FLOW_TOLD_*: which events this socket has already sent */
	__u32 last_port; /* of the last unconnected datagram */
	__u32 last_address[4];
	__u32 base[DIRECTIONS]; /* sequence number of the stream's first byte */
	struct span_name span; /* that the thread was in which opened it, or the listener */
	__u64 sampled[DIRECTIONS]; /* bytes that samples have told of, see sockets.bpf.c */
	__u32 packets[DIRECTIONS];
	__u32 uses; /* a socket may connect again: then everything begins anew */
	__u16 handshake_port; /* whose data came with a handshake, while this was a listener */
	__u8 flags;
	__u8 established;
	__u8 based; /* directions whose base is known, as bits */
	__u8 seen;  /* directions whose first bytes have been told */
	__u8 cut;   /* nothing passes any more, either way */
	__u8 refused; /* the last unconnected datagram's place was */
	__u8 bound; /* of a datagram socket: bind() named a port */
	__u8 _pad[3];
};

#define FLOW_TOLD_CONNECT 1
#define FLOW_TOLD_LISTEN 2

/* BPF_F_CLONE: an accepted socket starts with its listener's owner. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_CLONE);
	__type(key, int);
	__type(value, struct flow);
} flows SEC(".maps");

/*
 * What `map` keeps for a socket, made if need be; counted if it can't be. Asked twice: one CPU
 * sends a datagram while another receives one, both find nothing, and whoever comes second
 * is refused with what is there by then.
 */
#define sock_storage(map, sk)                                                                      \
	({                                                                                         \
		void *__s = bpf_sk_storage_get(&map, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);          \
		if (!__s)                                                                          \
			__s = bpf_sk_storage_get(&map, sk, 0, 0);                                  \
		if (!__s)                                                                          \
			count_loss(LOSS_SOCK_STORAGE);                                             \
		__s;                                                                               \
	})

INLINE void own_flow(struct flow *flow, struct task_struct *task)
{
	flow->owner_start = BPF_CORE_READ(task, group_leader, start_boottime);
	flow->owner_tgid = BPF_CORE_READ(task, tgid);
	flow->owner_tid = BPF_CORE_READ(task, pid);
	flow->began = bpf_ktime_get_boot_ns();
	flow->established = 0;
	flow->based = 0;
	flow->seen = 0;
	flow->cut = 0;
	flow->handshake_port = 0;
	flow->sampled[DIRECTION_SENT] = 0;
	flow->sampled[DIRECTION_RECEIVED] = 0;
	flow->packets[DIRECTION_SENT] = 0;
	flow->packets[DIRECTION_RECEIVED] = 0;
	flow->span.token = 0;
	flow->uses++;
}

/* The thread whose flow it is now opens it, in the span that it is in. */
INLINE void open_in_span(struct flow *flow, struct task_struct *task)
{
	struct task_span *span = span_of(flow->owner_tid);

	if (!span)
		span = span_of_asker(task);
	if (span)
		flow->span = span->now;
}

/* Fill in the span that the flow was opened in. */
#define name_flow_span(event, flow)                                                                \
	({                                                                                         \
		(event)->span_start = (flow)->span.start;                                          \
		(event)->span_tgid = (flow)->span.tgid;                                            \
		(event)->span_token = (flow)->span.token;                                          \
	})

/* Bytes behind `now` that no sample has told of; a socket that began anew counts from 0. */
INLINE __u64 since_sample(__u64 now, __u64 sampled)
{
	return now >= sampled ? now - sampled : now;
}

INLINE void head_of_owner(struct event_head *head, struct flow *flow)
{
	head->start = flow->owner_start;
	head->tgid = flow->owner_tgid;
	head->tid = flow->owner_tid;
}

INLINE void fill_addr(struct flow_addr *addr, const struct sock *sk)
{
	addr->family = FIELD(sk, __sk_common.skc_family);
	addr->protocol = IPPROTO_TCP;
	addr->local_port = FIELD(sk, __sk_common.skc_num);
	addr->remote_port = bpf_ntohs(FIELD(sk, __sk_common.skc_dport));
	if (addr->family == AF_INET) {
		*(__u32 *)addr->local = FIELD(sk, __sk_common.skc_rcv_saddr);
		*(__u32 *)addr->remote = FIELD(sk, __sk_common.skc_daddr);
	} else {
		BPF_CORE_READ_INTO((struct in6_addr *)addr->local, sk,
				   __sk_common.skc_v6_rcv_saddr);
		BPF_CORE_READ_INTO((struct in6_addr *)addr->remote, sk, __sk_common.skc_v6_daddr);
	}
}

#endif
