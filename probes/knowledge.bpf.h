/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the rules know, as user space has compiled it: one array map whose elements
 * hold the automaton of all indicators and the table of those rules that can be
 * decided here. It hangs in an array of maps: user space fills a new one and puts it
 * there in one step, so a program that took the old one finishes with the old one.
 *
 * Layout, by element (see tracer/kernel/knowledge.py, which writes it; a test compares
 * the two): the header; the byte tables; then transitions, outputs, patterns,
 * literals, rules, each from an element that the header names. An element is
 * as long as a row of transitions, at least 256 bytes; whatever else lies in
 * elements uses their first 256 bytes only.
 */
#ifndef VIGILES_KNOWLEDGE_BPF_H
#define VIGILES_KNOWLEDGE_BPF_H

#include "common.bpf.h"

/* Cells in a row of transitions: a power of two, set before load. */
const volatile __u32 row_cells = 64;
/* Whether this kernel can walk (bpf_loop, 5.17) and has been given something to. */
const volatile __u8 judge_here = 0;

#define ELEMENT_BYTES 256

enum knowledge_element {
	ELEMENT_HEADER = 0,
	ELEMENT_CLASSES = 1, /* byte -> class */
	ELEMENT_EDGES = 2,   /* byte -> what it may stand beside */
	ELEMENT_WIRE_CLASSES = 3,
	ELEMENT_WIRE_EDGES = 4,
	ELEMENT_TRANSITIONS = 8,
};

#define KNOWLEDGE_ON 16   /* kinds of events that rules are on */
#define KNOWLEDGE_FLAGS 16 /* bits of enum exec_flag that are facts */
#define KNOWLEDGE_TAMPERS 16

struct knowledge_header {
	/* Facts, as 1 + their bit of signal word 0; 0: none. */
	__u8 flag_facts[KNOWLEDGE_FLAGS]; /* by bit of enum exec_flag */
	__u8 stdio_facts[2][8]; /* of descriptors 0 and 1, by enum fd_kind */
	__u8 external_fact;
	__u8 internal_fact;
	__u8 loopback_fact;
	__u8 datagrams_fact;
	__u8 tamper_facts[KNOWLEDGE_TAMPERS]; /* by enum tamper_what */
	__u8 tamper_flag_facts[KNOWLEDGE_TAMPERS]; /* by bit of enum tamper_flag */
	__u8 gpu_not_listed_fact;
	__u8 gpu_users_known; /* who certainly may not use the GPU can be told here */
	__u8 names_asked; /* a rule on connects asks for names: see names.bpf.h */
	__u8 places_asked; /* a rule on flows asks where they lead */
	__u32 epoch; /* which set of rules this is; never 0 */
	__u32 states;
	__u32 first_output; /* states from here on end an indicator */
	__u32 outputs; /* element where the lists of patterns by state begin */
	__u32 lists;
	__u32 patterns;
	__u32 literals;
	__u32 rules;
	__u32 ranges;
	__u32 range_count;
	__u16 rule_from[KNOWLEDGE_ON];
	__u16 rule_count[KNOWLEDGE_ON];
};

INLINE __u64 fact(__u8 number)
{
	return number ? 1ULL << ((number - 1) & 63) : 0;
}

/* Of a state that ends indicators: where its list begins << 6 | how long it is. */
#define OUTPUTS_PER_ELEMENT 64
#define OUTPUT_COUNT_BITS 6
#define LIST_MAX 32
#define LISTS_PER_ELEMENT 64

struct knowledge_pattern {
	__u64 mask;
	__u32 exact; /* 1 + where its bytes begin among the literals; 0: any case */
	__u16 length;
	__u8 word;
	__u8 where; /* fields it is looked for in */
	__u8 left;
	__u8 right;
	__u8 _pad[14];
};

#define WALK_STEPS 8

#define PATTERNS_PER_ELEMENT 8
#define PATTERN_LENGTH_MAX 256

struct knowledge_rule {
	__u64 all[SIGNAL_WORDS];
	__u64 any[SIGNAL_WORDS];
	__u64 none[SIGNAL_WORDS];
	__u32 at_least;
	__u32 row; /* in user space's table */
	__u32 action; /* enum action */
	__u32 _pad;
};

/* From this number on, up to the next one's, these signals hold. Sorted. */
struct knowledge_range {
	__u64 high;
	__u64 low;
	__u64 signals[SIGNAL_WORDS];
	__u32 space;
	__u32 _pad[15];
};

#define RANGES_PER_ELEMENT 2
/* tracer/rules/numbers.py: SPACE_* */
#define SPACE_NETWORK 0
#define SPACE_PORT 1
#define SPACE_INODE 3

_Static_assert(sizeof(struct knowledge_header) <= ELEMENT_BYTES, "knowledge_header");
_Static_assert(sizeof(struct knowledge_pattern) * PATTERNS_PER_ELEMENT == ELEMENT_BYTES,
	       "knowledge_pattern");
_Static_assert(sizeof(struct knowledge_rule) <= ELEMENT_BYTES, "knowledge_rule");
_Static_assert(sizeof(struct knowledge_range) * RANGES_PER_ELEMENT == ELEMENT_BYTES,
	       "knowledge_range");

struct knowledge_map {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__uint(value_size, ELEMENT_BYTES);
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, __u32);
	__array(values, struct knowledge_map);
} knowledge SEC(".maps");

/* tracer/rules/model.py: FIELDS, EDGE_*, BIT_*, ON */
#define WHERE_NAME 1
#define WHERE_PATH 2
#define WHERE_ARGS 4
#define WHERE_SENT 8
#define WHERE_RECEIVED 16
#define WHERE_FILE_NAME 128 /* the resolved file's name alone, which nobody can choose freely */
#define WHERE_WIRE (WHERE_SENT | WHERE_RECEIVED)
#define EDGE_HOST 3
#define BIT_ALNUM 6
#define BIT_DOT 7
#define RULES_ON_EXEC 0
#define RULES_ON_GPU 1
#define RULES_ON_FLOW 2
#define RULES_ON_CONNECT 3
#define RULES_ON_LISTEN 5
#define RULES_ON_STAY 6 /* hold of what may go on in quarantine */
#define RULES_ON_TAMPER 7
#define RULES_ON_REFUSE 13 /* of an exec, by its file alone: it is to be refused */
#define RULES_ON_GPU_USER 9 /* of an exec: 1. may use it, 2. may if its parent may */

struct field {
	__u32 lo;
	__u32 hi;
	__u32 where;
};

/*
 * A walk over text[lo..hi). It lives on the stack, because bpf_loop hands its
 * callback nothing else; the verifier keeps track of the pointers in it.
 */
struct walk {
	void *map;
	struct knowledge_header *header;
	const __u8 *classes;
	const __u8 *edges;
	const __u8 *text;
	struct knowledge_pattern *pattern;
	struct field *fields; /* of several walks, one after the other */
	__u64 text_max; /* room in `text`: eight bytes, or the verifier forgets that it is constant */
	__u64 signals[SIGNAL_WORDS];
	__u32 lo;
	__u32 hi;
	__u32 state;
	__u32 at; /* the byte at hand */
	__u32 end; /* behind the indicator at hand */
	__u32 list;
	__u32 differs;
	__u32 where;
	__u32 slash; /* behind the last '/' */
	__u32 unversioned; /* behind the last byte that is no digit and no dot */
};

INLINE void *element(void *map, __u32 number)
{
	return bpf_map_lookup_elem(map, &number);
}

/* The rules of this moment: their header, and `map` the image they are in; NULL when there are none. */
INLINE struct knowledge_header *rules_now(void **map)
{
	__u32 zero = 0;

	*map = bpf_map_lookup_elem(&knowledge, &zero);
	return *map ? element(*map, ELEMENT_HEADER) : NULL;
}

/* Ready to walk with the rules of this moment; false when there are none. */
INLINE int begin_walk(struct walk *w)
{
	w->header = rules_now(&w->map);
	return w->header != NULL;
}

INLINE __u8 byte_of(const struct walk *w, __u64 at)
{
	if (at >= w->text_max)
		return 0;
	return w->text[at];
}

/* One byte of a case-sensitive indicator. */
static long compare_byte(__u64 i, struct walk *w)
{
	struct knowledge_pattern *p = w->pattern;
	__u32 at;
	__u8 *literals;

	if (!p)
		return 1;
	at = p->exact - 1 + i;
	literals = element(w->map, w->header->literals + at / ELEMENT_BYTES);
	if (!literals)
		return 1;
	if (literals[at % ELEMENT_BYTES] != byte_of(w, w->end - p->length + (__u32)i)) {
		w->differs = 1;
		return 1;
	}
	return 0;
}

/* Does the indicator that ends here stand where it must? As scan._holds does it. */
static long consider(__u64 i, struct walk *w)
{
	__u32 place = w->list + i, number, start;
	__u8 before = 0, after = 0;
	struct knowledge_pattern *p;
	__u32 *list = element(w->map, w->header->lists + place / LISTS_PER_ELEMENT);

	if (!list)
		return 1;
	number = list[place % LISTS_PER_ELEMENT];
	p = element(w->map, w->header->patterns + number / PATTERNS_PER_ELEMENT);
	if (!p)
		return 1;
	p += number % PATTERNS_PER_ELEMENT;
	if (!(p->where & w->where))
		return 0;
	start = w->end - p->length;
	if (start > w->lo)
		before = byte_of(w, start - 1);
	if (!(w->edges[before] >> (p->left & 7) & 1))
		return 0;
	if (w->end < w->hi)
		after = byte_of(w, w->end);
	if (!(w->edges[after] >> (p->right & 7) & 1))
		return 0;
	if (p->right == EDGE_HOST && w->edges[after] >> BIT_DOT & 1 && w->end + 1 < w->hi &&
	    w->edges[byte_of(w, w->end + 1)] >> BIT_ALNUM & 1)
		return 0;
	if (p->exact) {
		w->pattern = p;
		w->differs = 0;
		bpf_loop(p->length, compare_byte, w, 0);
		if (w->differs)
			return 0;
	}
	number = p->word;
	if (number < SIGNAL_WORDS)
		w->signals[number] |= p->mask;
	return 0;
}

/*
 * The next few bytes, up to the first at which an indicator ends: a call a byte
 * would cost more than the walk itself.
 */
static long walk_bytes(__u64 i, struct walk *w)
{
	__u32 output, *row, *outputs, state = w->state, first_output = w->header->first_output;
	__u64 at = w->at;

#pragma unroll
	for (int step = 0; step < WALK_STEPS; step++) {
		if (at >= w->hi || at >= w->text_max)
			return 1;
		row = element(w->map, ELEMENT_TRANSITIONS + state);
		if (!row)
			return 1;
		state = row[w->classes[w->text[at]] & (row_cells - 1)];
		at++;
		if (state >= first_output)
			goto ends;
	}
	w->state = state;
	w->at = at;
	return 0;
ends:
	w->state = state;
	w->at = at;
	output = state - first_output;
	outputs = element(w->map, w->header->outputs + output / OUTPUTS_PER_ELEMENT);
	if (!outputs)
		return 1;
	output = outputs[output % OUTPUTS_PER_ELEMENT];
	w->end = at;
	w->list = output >> OUTPUT_COUNT_BITS;
	output &= (1 << OUTPUT_COUNT_BITS) - 1;
	if (output <= LIST_MAX)
		bpf_loop(output, consider, w, 0);
	return 0;
}

/* Add the groups found in text[lo..hi) as field `where`, `wire` if it is on the wire, to the signals. */
INLINE void walk(struct walk *w, __u32 lo, __u32 hi, __u32 where, int wire)
{
	w->classes = element(w->map, wire ? ELEMENT_WIRE_CLASSES : ELEMENT_CLASSES);
	w->edges = element(w->map, wire ? ELEMENT_WIRE_EDGES : ELEMENT_EDGES);
	if (!w->classes || !w->edges)
		return;
	w->lo = lo;
	w->hi = hi;
	w->state = 0;
	w->where = where;
	w->at = lo;
	/* so many calls are needed only if an indicator ends at every byte: the last one stops */
	if (hi > lo)
		bpf_loop(hi - lo, walk_bytes, w, 0);
}

struct judgement {
	void *map;
	const __u64 *signals;
	__u32 from;
	__u32 row;
	__u32 actions;
};

INLINE __u32 bits_set(__u64 word)
{
	word -= word >> 1 & 0x5555555555555555ULL;
	word = (word & 0x3333333333333333ULL) + (word >> 2 & 0x3333333333333333ULL);
	word = (word + (word >> 4)) & 0x0f0f0f0f0f0f0f0fULL;
	return word * 0x0101010101010101ULL >> 56;
}

static long judge_rule(__u64 i, struct judgement *j)
{
	struct knowledge_rule *rule = element(j->map, j->from + i);
	const __u64 *signals = j->signals;
	__u64 against = 0;
	__u32 found = 0;

	if (!rule)
		return 1;
#pragma unroll
	for (int word = 0; word < SIGNAL_WORDS; word++) {
		against |= rule->all[word] & ~signals[word];
		against |= rule->none[word] & signals[word];
		found += bits_set(rule->any[word] & signals[word]);
	}
	if (against || found < rule->at_least)
		return 0;
	if (!j->row)
		j->row = rule->row + 1;
	j->actions |= 1 << (rule->action & 7);
	return 0;
}

INLINE void judge_by(struct judgement *j, struct knowledge_header *header, __u32 on)
{
	__u32 count;

	if (on >= KNOWLEDGE_ON)
		return;
	j->from = header->rules + header->rule_from[on];
	count = header->rule_count[on];
	bpf_loop(count, judge_rule, j, 0);
}

/*
 * What the rules say of these signals, as far as that can be said here: rules that
 * ask for what only user space finds out are not in the table, and rules that forbid
 * it neither. The severest comes first; each that holds may call for something.
 */
INLINE void judge(void *map, struct knowledge_header *header, __u64 *signals, __u32 on,
		  struct verdict *v)
{
	struct judgement j = { .map = map, .signals = signals };

	judge_by(&j, header, on);
	v->row = j.row;
	v->actions = j.actions & ~(1 << ACTION_ALERT);
	v->epoch = header->epoch;
}

#endif
