/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What a packet is: addresses, ports, where its payload begins. */
#ifndef VIGILES_PACKET_BPF_H
#define VIGILES_PACKET_BPF_H

#include "common.bpf.h"

#ifndef IPPROTO_ICMP
#define IPPROTO_ICMP 1
#define IPPROTO_ICMPV6 58
#endif
#define IPV6_HOP_BY_HOP 0
#define IPV6_ROUTING 43
#define IPV6_FRAGMENT 44
#define IPV6_DESTINATION 60
#define EXTENSIONS_MAX 4
#define ICMP_HEADER 8
#define UDP_HEADER 8

#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10

struct packet {
	__u32 payload; /* where it begins */
	__u32 length;  /* of the payload */
	__u32 sequence; /* of its first byte */
	__u16 source, destination;
	__u8 protocol;
	__u8 ipv6;
	__u8 syn, ack, rst;
	__u8 icmp_type;
};

/* Addresses and ports as the packet has them, seen from our end. */
INLINE void fill_packet_addr(struct __sk_buff *skb, struct flow_addr *addr, const struct packet *p,
			     int direction)
{
	__u8 *source = direction == DIRECTION_SENT ? addr->local : addr->remote;
	__u8 *target = direction == DIRECTION_SENT ? addr->remote : addr->local;

	addr->family = p->ipv6 ? AF_INET6 : AF_INET;
	addr->protocol = p->protocol;
	if (p->ipv6) {
		bpf_skb_load_bytes(skb, 8, source, 16);
		bpf_skb_load_bytes(skb, 24, target, 16);
	} else {
		bpf_skb_load_bytes(skb, 12, source, 4);
		bpf_skb_load_bytes(skb, 16, target, 4);
	}
	addr->local_port = direction == DIRECTION_SENT ? p->source : p->destination;
	addr->remote_port = direction == DIRECTION_SENT ? p->destination : p->source;
}

INLINE int find_transport(struct __sk_buff *skb, struct packet *p)
{
	__u8 head[8];

	if (bpf_skb_load_bytes(skb, 0, head, sizeof(head)))
		return 0;
	p->ipv6 = head[0] >> 4 == 6;
	if (!p->ipv6) {
		if ((head[6] & 0x1f) | head[7]) /* not the first fragment */
			return 0;
		if (bpf_skb_load_bytes(skb, 9, &p->protocol, 1))
			return 0;
		p->payload = (head[0] & 15) * 4;
		return 1;
	}
	p->protocol = head[6];
	p->payload = 40;
#pragma unroll
	for (int i = 0; i < EXTENSIONS_MAX; i++) {
		__u8 next = p->protocol;

		if (next != IPV6_HOP_BY_HOP && next != IPV6_ROUTING && next != IPV6_FRAGMENT &&
		    next != IPV6_DESTINATION)
			return 1;
		if (bpf_skb_load_bytes(skb, p->payload, head, sizeof(head)))
			return 0;
		if (next == IPV6_FRAGMENT && (head[2] | (head[3] & 0xf8)))
			return 0;
		p->protocol = head[0];
		p->payload += next == IPV6_FRAGMENT ? 8 : (head[1] + 1) * 8;
	}
	return 1;
}

/* False when there is nothing in the packet that concerns us. */
INLINE int take_apart(struct __sk_buff *skb, struct packet *p)
{
	__u8 head[16];

	if (!find_transport(skb, p))
		return 0;
	if (p->protocol == IPPROTO_TCP) {
		if (bpf_skb_load_bytes(skb, p->payload, head, sizeof(head)))
			return 0;
		p->syn = head[13] & TCP_SYN;
		p->ack = head[13] & TCP_ACK;
		p->rst = head[13] & TCP_RST;
		__builtin_memcpy(&p->sequence, head + 4, 4);
		p->sequence = bpf_ntohl(p->sequence) + (p->syn ? 1 : 0);
		p->payload += (head[12] >> 4) * 4;
	} else if (p->protocol == IPPROTO_UDP) {
		if (bpf_skb_load_bytes(skb, p->payload, head, 4))
			return 0;
		p->payload += UDP_HEADER;
	} else if (p->protocol == IPPROTO_ICMP || p->protocol == IPPROTO_ICMPV6) {
		if (bpf_skb_load_bytes(skb, p->payload, head, 1))
			return 0;
		p->icmp_type = head[0];
		__builtin_memset(head, 0, 4);
		p->payload += ICMP_HEADER;
	} else {
		return 0;
	}
	p->source = (__u16)head[0] << 8 | head[1];
	p->destination = (__u16)head[2] << 8 | head[3];
	p->length = skb->len > p->payload ? skb->len - p->payload : 0;
	return 1;
}

#endif
