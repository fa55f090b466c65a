/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * One end of a connection, and what the rules say of it: networks and ports are ranges
 * of numbers, searched as user space does (tracer/rules/ranges.py).
 */
#ifndef VIGILES_PLACE_BPF_H
#define VIGILES_PLACE_BPF_H

#include "knowledge.bpf.h"

/* A number and the ranges that it may lie in: as engine's add_signals. */
struct range_search {
	void *map;
	__u64 high;
	__u64 low;
	__u32 space;
	__u32 ranges; /* element of the first */
	__u32 lo;
	__u32 hi;
};

INLINE struct knowledge_range *range_at(void *map, __u32 ranges, __u32 number)
{
	struct knowledge_range *range = element(map, ranges + number / RANGES_PER_ELEMENT);

	return range ? range + number % RANGES_PER_ELEMENT : NULL;
}

static long halve(__u64 i, struct range_search *r)
{
	__u32 middle = (r->lo + r->hi) >> 1;
	struct knowledge_range *range;

	if (r->hi - r->lo <= 1)
		return 1;
	range = range_at(r->map, r->ranges, middle);
	if (!range)
		return 1;
	if (range->space < r->space ||
	    (range->space == r->space &&
	     (range->high < r->high || (range->high == r->high && range->low <= r->low))))
		r->lo = middle;
	else
		r->hi = middle;
	return 0;
}

INLINE void add_range(struct range_search *r, __u32 count, __u64 *signals)
{
	struct knowledge_range *range;

	r->lo = 0;
	r->hi = count;
	bpf_loop(32, halve, r, 0);
	range = range_at(r->map, r->ranges, r->lo);
	if (!range || !count)
		return;
#pragma unroll
	for (int word = 0; word < SIGNAL_WORDS; word++)
		signals[word] |= range->signals[word];
}

/* One end of a connection. IPv4 is ::ffff:a.b.c.d, as user space has it. */
struct place {
	__u64 high;
	__u64 low;
	__u16 port;
	__u8 protocol;
	__u8 _pad[5];
};

_Static_assert(__builtin_offsetof(struct place, port) == 16, "struct address");

INLINE void set_place(struct place *place, int ipv6, const __u32 *address)
{
	if (ipv6) {
		place->high = (__u64)bpf_ntohl(address[0]) << 32 | bpf_ntohl(address[1]);
		place->low = (__u64)bpf_ntohl(address[2]) << 32 | bpf_ntohl(address[3]);
	} else {
		place->high = 0;
		place->low = 0xffff00000000ULL | bpf_ntohl(address[0]);
	}
}

INLINE int unspecified(const struct place *place)
{
	return !place->high && (!place->low || place->low == 0xffff00000000ULL);
}

/* The beginning of struct place, which is looked up as it is. */
struct address {
	__u64 high;
	__u64 low;
};

/* What the rules found in the names that an address was answered for. */
struct named {
	__u64 signals[SIGNAL_WORDS];
	__u64 until;
	__u32 epoch; /* by these rules: to others it means nothing */
	__u32 _pad;
};

/* Only of names that some rule knows: others can't push them out. Filled by names.bpf.h. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, struct address);
	__type(value, struct named);
} named SEC(".maps");

INLINE void add_names(const struct knowledge_header *header, const struct place *place, __u64 *signals)
{
	struct named *found = bpf_map_lookup_elem(&named, place);

	if (!found || found->epoch != header->epoch || found->until <= bpf_ktime_get_boot_ns())
		return;
#pragma unroll
	for (int word = 0; word < SIGNAL_WORDS; word++)
		signals[word] |= found->signals[word];
}

/* What the ranges say of a place, and what it is told by besides. */
INLINE void add_place(void *map, struct knowledge_header *header, const struct place *place,
		      __u32 on, __u64 *signals)
{
	struct range_search r = { .map = map, .space = SPACE_NETWORK };
	__u64 inside;

	r.ranges = header->ranges;
	r.high = place->high;
	r.low = place->low;
	/* who listens at no address in particular, listens at all */
	if (on != RULES_ON_LISTEN || !unspecified(place))
		add_range(&r, header->range_count, signals);
	inside = fact(header->internal_fact) | fact(header->loopback_fact);
	if (!(signals[0] & inside))
		signals[0] |= fact(header->external_fact);
	if (place->protocol != IPPROTO_TCP)
		signals[0] |= fact(header->datagrams_fact);
	r.space = SPACE_PORT;
	r.high = 0;
	r.low = (__u64)place->protocol << 16 | place->port;
	add_range(&r, header->range_count, signals);
}

/*
 * What the rules say of a connection to (or, listening, at) a place. False when
 * there are no rules.
 *
 * The search is apart so that its stack is free again for the judging: of all frames
 * that lie upon each other the kernel allows 512 bytes, and 6.1 rounds each up to 32.
 */
static __noinline int judge_place(struct place *place, __u32 on, struct verdict *v)
{
	struct knowledge_header *header;
	void *map;

	if (!place || !v)
		return 0;
	header = rules_now(&map);
	if (!header)
		return 0;
	add_place(map, header, place, on, v->signals);
	if (on == RULES_ON_CONNECT && header->names_asked)
		add_names(header, place, v->signals);
	judge(map, header, v->signals, on, v);
	return 1;
}

#endif
