/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The first bytes of each flow, in each direction. They tell what a flow is
 * whatever the program is called, and they are judged before the packet leaves.
 *
 * Why cgroup_skb: it sees every packet of the cgroup's sockets and nobody else's,
 * whatever call sent them (io_uring, splice, sendfile), may drop them, and costs an
 * established flow one look-up a packet. What it misses: sockets made before their
 * process came into the cgroup or after it left, and AF_PACKET.
 */
#include "tree.bpf.h"
#include "flow.bpf.h"
#include "guard.bpf.h"
#include "names.bpf.h"
#include "packet.bpf.h"
#include "share.bpf.h"

/* A stream this far on, whose beginning has a hole: it will not be filled any more. */
#define HOPELESS (1 << 20)

#define PORT_DNS 53
#define PORT_MDNS 5353

/* Names are in each message of these, and each may be refused by itself. */
INLINE int has_names(const struct packet *p)
{
	return p->protocol == IPPROTO_UDP &&
	       (p->source == PORT_DNS || p->destination == PORT_DNS || p->source == PORT_MDNS ||
		p->destination == PORT_MDNS);
}

/* Not the first alone is told of these: what tells a tunnel from a ping is how they differ from each other. */
INLINE int is_icmp(const struct packet *p)
{
	return p->protocol == IPPROTO_ICMP || p->protocol == IPPROTO_ICMPV6;
}

/* One direction. The bytes lie behind the event, so that both go out in one piece. */
struct side {
	struct event_first_bytes event;
	/* Twice as long as used: a copy of up to FIRST_BYTES may begin at any place. */
	__u8 bytes[2 * FIRST_BYTES];
	__u32 busy;	/* a packet is being taken in */
	__u32 gap_from; /* bytes that came before those in front of them */
	__u32 gap_to;
	__u32 have;
};

struct first {
	struct side sides[DIRECTIONS];
	__u64 signals[SIGNAL_WORDS]; /* of both directions */
	__u32 epoch;
	__u32 row; /* told already */
	__u32 uses; /* the flow's, when this began */
	__u32 _pad;
};

/*
 * Apart from `flows`, because it is large and needed for a few packets only.
 * BPF_F_CLONE: see handshake().
 */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_CLONE);
	__type(key, int);
	__type(value, struct first);
} firsts SEC(".maps");

/*
 * The flow of a socket that no hook has seen being made: older than the watch,
 * raw, or handed in from outside. Whoever sends on it first counts as its owner.
 */
INLINE struct flow *unknown_flow(struct bpf_sock *sk, const struct packet *p, int direction)
{
	struct task_struct *task = bpf_get_current_task_btf();
	int member = direction == DIRECTION_SENT && current_in_tree();
	struct flow *flow;

	if (filter_by_lineage && !member)
		return NULL;
	flow = sock_storage(flows, sk);
	if (!flow)
		return NULL;
	if (member)
		own_flow(flow, task);
	if (p->protocol == IPPROTO_TCP)
		flow->flags |= FLOW_LATE;
	return flow;
}

/*
 * Where the stream begins. The first packet that we see need not be the first of the
 * stream; what the socket waits for is. (A listener waits for nothing.)
 */
INLINE __u32 first_number(struct bpf_sock *sk, const struct packet *p, int direction)
{
	struct bpf_tcp_sock *tp;

	if (direction == DIRECTION_RECEIVED && sk->state != TCP_LISTEN) {
		tp = bpf_tcp_sock(sk);
		if (tp) /* volatile: or clang computes the address of either number first */
			return *(volatile __u32 *)&tp->rcv_nxt;
	}
	return p->sequence;
}

/* Bytes behind a hole: those nearest to it are kept, as long as they are in one piece. */
INLINE void keep_gap(struct side *side, __u32 from, __u32 to)
{
	if (!side->gap_to || to < side->gap_from) {
		side->gap_from = from;
		side->gap_to = to;
	} else if (from <= side->gap_to) {
		if (from < side->gap_from)
			side->gap_from = from;
		if (to > side->gap_to)
			side->gap_to = to;
	}
}

/* The next bytes of a stream, in their place. True if there is more than before. */
INLINE int take_in(struct __sk_buff *skb, struct bpf_sock *sk, struct flow *flow, struct side *side,
		   const struct packet *p, int direction)
{
	__u32 place = 0, count = p->length, have = side->have, more;

	if (p->protocol == IPPROTO_TCP) {
		if (!(flow->based & (1 << direction))) {
			flow->base[direction] = first_number(sk, p, direction);
			flow->based |= 1 << direction;
		}
		place = p->sequence - flow->base[direction];
		if (place >= FIRST_BYTES) { /* also: before the beginning */
			if ((__s32)place < 0 || place > have)
				side->event.first_flags |= FIRST_DISORDERED;
			if ((__s32)place > HOPELESS)
				flow->seen |= 1 << direction;
			return 0;
		}
	} else {
		have = 0;
	}
	if (count == 0)
		return 0;
	if (count > FIRST_BYTES)
		count = FIRST_BYTES;
	/* from "not 0" the verifier of older kernels does not learn that it is at least 1 */
	more = count - 1;
	barrier_var(place);
	barrier_var(more);
	place &= FIRST_BYTES - 1;
	count = (more & (FIRST_BYTES - 1)) + 1;
	if (bpf_skb_load_bytes(skb, p->payload, &side->bytes[place], count))
		return 0;
	if (p->protocol != IPPROTO_TCP || (!place && !side->event.first))
		side->event.first = p->length > 0xffff ? 0xffff : p->length;
	if (place > have) {
		side->event.first_flags |= FIRST_DISORDERED;
		keep_gap(side, place, place + count);
		return 0;
	}
	if (place + count <= have && p->protocol == IPPROTO_TCP)
		return 0; /* sent again */
	have = place + count;
	if (side->gap_to && side->gap_from <= have) {
		if (side->gap_to > have)
			have = side->gap_to;
		side->gap_to = 0;
	}
	side->have = have > FIRST_BYTES ? FIRST_BYTES : have;
	return 1;
}

/* What the ranges say of where a flow leads. Apart, so that the search has the stack to itself. */
static __noinline int add_remote(struct walk *w, const struct flow_addr *addr)
{
	struct place place = { .port = addr->remote_port, .protocol = addr->protocol };

	set_place(&place, addr->family == AF_INET6, (const __u32 *)addr->remote);
	add_place(w->map, w->header, &place, RULES_ON_FLOW, w->signals);
	return 0;
}

static __noinline int judge_first(struct first *first, __u32 direction)
{
	struct side *side = &first->sides[direction & 1];
	struct walk w = { .text_max = FIRST_BYTES };
	struct verdict *v = &side->event.verdict;
	__u64 found = 0;

	if (!begin_walk(&w))
		return 0;
	if (first->epoch != w.header->epoch) {
		/* other rules: what the old ones found means nothing to them */
		__builtin_memset(first->signals, 0, sizeof(first->signals));
		first->epoch = w.header->epoch;
		first->row = 0;
	}
	w.text = side->bytes;
	walk(&w, 0, side->have, direction ? WHERE_RECEIVED : WHERE_SENT, 1);
#pragma unroll
	for (int word = 0; word < SIGNAL_WORDS; word++) {
		first->signals[word] |= w.signals[word];
		w.signals[word] = first->signals[word];
		found |= first->signals[word];
	}
	/* most bytes say nothing: a rule that asks for a place alone is left to user space then */
	if (found && w.header->places_asked)
		add_remote(&w, &side->event.addr);
	judge(w.map, w.header, w.signals, RULES_ON_FLOW, v);
	/* what was found in the bytes: where they go the engine knows by itself */
	__builtin_memcpy(v->signals, first->signals, sizeof(v->signals));
	return 0;
}

/* Bytes of a flow, judged; true: they must not pass. Whose they are is ended by user space. */
INLINE int carry_out_flow(struct verdict *v)
{
	struct control *o = orders();

	if (!o || !o->enforce)
		return 0;
	carry_out_for_tree(o, v);
	if (!(v->actions & (ACTIONS_ON_PROCESS | 1 << ACTION_QUARANTINE)))
		return 0;
	note_done(v, ACTION_BLOCK);
	return 1;
}

/* True: these bytes must not pass. */
INLINE int tell_first(struct __sk_buff *skb, struct bpf_sock *sk, struct flow *flow,
		       struct first *first, const struct packet *p, int direction, __u64 began)
{
	struct side *side = &first->sides[direction];
	struct event_first_bytes *e = &side->event;
	struct counters *c = my_counters();
	__u64 size;
	int news, cut;

	e->segment++;
	e->verdict.done = 0;
	if (p->protocol == IPPROTO_TCP &&
	    (side->have == FIRST_BYTES || e->segment >= FIRST_SEGMENTS))
		e->first_flags |= FIRST_LAST;
	fill_packet_addr(skb, &e->addr, p, direction);
	if (judge_here)
		judge_first(first, direction);
	e->verdict.took_ns = bpf_ktime_get_boot_ns() - began;
	news = e->verdict.row && e->verdict.row != first->row;
	first->row = e->verdict.row;
	cut = carry_out_flow(&e->verdict);
	if (!c)
		return cut;
	size = sizeof(*e) + (side->have & (2 * FIRST_BYTES - 1));
	fill_head(&e->head, bpf_get_current_task_btf(), EVENT_FIRST_BYTES, RING_BULK, size, c);
	e->head.ts = began;
	if (flow->owner_tgid)
		head_of_owner(&e->head, flow);
	e->cookie = bpf_get_socket_cookie(skb);
	e->addr.flags = flow->flags;
	if (flow->handshake_port)
		e->addr.flags |= FLOW_ACCEPTED;
	if (flow->flags & FLOW_LATE)
		e->first_flags |= FIRST_LATE;
	e->direction = direction;
	e->len = side->have;
	e->other = first->sides[!direction].have;
	e->icmp_type = p->icmp_type;
	if (held_back(&e->head, c, news))
		return cut;
	if (bpf_ringbuf_output(&ring_bulk, side, size, news ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP))
		__sync_fetch_and_add(&c->lost[EVENT_FIRST_BYTES], 1);
	else if (!news)
		wake_sleeper(&ring_bulk);
	return cut;
}

INLINE void begin_side(struct side *side)
{
	side->have = 0;
	side->gap_to = 0;
	side->event.first = 0;
	side->event.segment = 0;
	side->event.first_flags = 0;
}

INLINE void begin_anew(struct first *first, struct flow *flow)
{
	begin_side(&first->sides[DIRECTION_SENT]);
	begin_side(&first->sides[DIRECTION_RECEIVED]);
	first->uses = flow->uses;
	first->epoch = 0;
	first->row = 0;
}

/*
 * Data that comes with a handshake (TCP Fast Open; the last ACK, late) meets the
 * listener: the socket it is for will be cloned from that in a moment, by the same
 * CPU. What it leaves there goes over to the clone, which is told by the port of the
 * other end whether it is its own: another CPU's handshake may have come between.
 */
INLINE void handshake(struct bpf_sock *sk, struct flow *flow, const struct packet *p)
{
	bpf_sk_storage_delete(&firsts, sk);
	flow->based = 0;
	flow->seen = 0;
	flow->handshake_port = p->length ? p->source : 0;
}

#define PASS 1
#define DROP 0

INLINE int drop(void)
{
	count_dropped();
	return DROP;
}

/* Of a flow that is cut, its end may be told to the other side: nobody has to wait for it. */
static __noinline int pass_end(struct __sk_buff *skb, __u32 direction)
{
	struct packet p = {};

	if (direction == DIRECTION_SENT && take_apart(skb, &p) && p.rst && !p.length)
		return PASS;
	return drop();
}

/* May this packet pass while its tree is in quarantine? */
static __noinline int may_stay(struct __sk_buff *skb, __u32 direction)
{
	struct verdict v = {};
	struct flow_addr addr = {};
	struct place place = {};
	struct packet p = {};

	if (!take_apart(skb, &p))
		return 0;
	fill_packet_addr(skb, &addr, &p, direction);
	set_place(&place, p.ipv6, (const __u32 *)addr.remote);
	place.port = addr.remote_port;
	place.protocol = addr.protocol;
	judge_place(&place, RULES_ON_STAY, &v);
	return v.row != 0;
}

/* What user space has ordered since the flow was judged. True: nothing passes. */
INLINE int ordered_off(struct __sk_buff *skb, struct flow *flow, __u32 direction)
{
	struct control *o = orders();
	__u64 cookie;

	if (!o)
		return 0;
	if (o->cuts && flow) {
		cookie = bpf_get_socket_cookie(skb);
		if (bpf_map_lookup_elem(&cuts, &cookie)) {
			flow->cut = 1;
			return 1;
		}
	}
	if (!o->quarantine || (filter_by_lineage && !(flow && flow->owner_tgid)))
		return 0;
	return !may_stay(skb, direction);
}

INLINE int look(struct __sk_buff *skb, int direction)
{
	struct bpf_sock *sk = skb->sk;
	__u32 mark = 1 << direction;
	struct packet p = {};
	struct first *first;
	struct flow *flow;
	struct side *side;
	__u64 began;
	int names = 0, listening, refused = 0;

	if (!sk)
		return PASS;
	sk = bpf_sk_fullsock(sk);
	if (!sk)
		return PASS;
	flow = bpf_sk_storage_get(&flows, sk, 0, 0);
	if (flow && flow->cut)
		return pass_end(skb, direction);
	if (ordered_off(skb, flow, direction))
		return drop();
	if (flow && (flow->seen & mark))
		return PASS;
	if (!take_apart(skb, &p))
		return PASS;
	if (p.syn && flow && !p.ack == (direction == DIRECTION_SENT)) {
		/* We open it: the streams begin with our SYN and the answer to it. */
		flow->base[direction] = p.sequence;
		flow->based |= mark;
	}
	listening = p.protocol == IPPROTO_TCP && sk->state == TCP_LISTEN;
	if (listening && flow && direction == DIRECTION_RECEIVED)
		handshake(sk, flow, &p);
	if (!p.length)
		return PASS; /* mostly acknowledgements: they come this far, but pay for no clock */
	began = bpf_ktime_get_boot_ns();
	if (!flow)
		flow = unknown_flow(sk, &p, direction);
	if (!flow)
		return PASS;
	first = sock_storage(firsts, sk);
	if (!first)
		return PASS;
	side = &first->sides[direction];
	if (flow->handshake_port && !listening) {
		if (flow->handshake_port != (direction == DIRECTION_SENT ? p.destination : p.source)) {
			flow->based = 0;
			begin_anew(first, flow);
		}
		flow->handshake_port = 0;
	}
	if (first->uses != flow->uses)
		begin_anew(first, flow);
	if (__sync_lock_test_and_set(&side->busy, 1)) {
		count_loss(LOSS_CONTENDED);
		return PASS;
	}
	if (take_in(skb, sk, flow, side, &p, direction)) {
		names = has_names(&p);
		if (p.protocol != IPPROTO_TCP) {
			/* each datagram is judged by itself */
			side->event.segment = 0;
			side->event.first_flags = names || is_icmp(&p) ? 0 : FIRST_LAST;
			first->epoch = 0;
		}
		refused = tell_first(skb, sk, flow, first, &p, direction, began);
		/* of names that are asked for one may be refused and the next be none of our business */
		if (refused && !names)
			flow->cut = 1;
		/* not by the word of whoever listens at just any port, or has called us */
		if (direction == DIRECTION_RECEIVED && p.source == PORT_DNS && judge_here &&
		    !(flow->flags & FLOW_ACCEPTED) && !listening)
			learn_names(side->bytes, side->have, p.protocol == IPPROTO_TCP);
	}
	if (side->event.first_flags & FIRST_LAST && !listening)
		flow->seen |= mark;
	/* an exchange: clang 14 has no release store for BPF */
	__sync_lock_test_and_set(&side->busy, 0);
	/* one that sends to anybody asks for it again at its next destination */
	if (flow->seen == (1 << DIRECTION_SENT | 1 << DIRECTION_RECEIVED) && !(flow->flags & FLOW_UNCONNECTED))
		bpf_sk_storage_delete(&firsts, sk);
	return refused ? drop() : PASS;
}

SEC("cgroup_skb/egress")
int on_egress(struct __sk_buff *skb)
{
	return look(skb, DIRECTION_SENT);
}

SEC("cgroup_skb/ingress")
int on_ingress(struct __sk_buff *skb)
{
	return look(skb, DIRECTION_RECEIVED);
}
