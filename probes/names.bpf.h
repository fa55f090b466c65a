/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Names behind addresses: what DNS answers, and what the rules say of those names, so that a
 * connection is judged by the name it was looked up by before it is made.
 *
 * Of an answer with one question, its first 512 bytes: the name that was asked for, the aliases
 * (CNAME) on the way, and each address that came with them. A name is the word of whoever answers:
 * it accuses and never excuses. That an address has no name is not known here either (it may have
 * been asked for over TLS, by another process, or its entry be pushed out): what a rule forbids is
 * left to user space.
 *
 * Messages are read as tracer/detect/wire/dns.py reads them; a test compares the two. Nothing in a
 * message makes this run longer than its bounds: a pointer leads back or nowhere, so there are no
 * loops, and what does not fit is left out.
 */
#ifndef VIGILES_NAMES_BPF_H
#define VIGILES_NAMES_BPF_H

#include "place.bpf.h"

#define WHERE_HOST 32

#define DNS_HEADER 12
#define DNS_RECORD 10 /* of a record, behind its name */
#define DNS_LEAST 17  /* a header and the shortest question */
#define DNS_A 1
#define DNS_CNAME 5
#define DNS_AAAA 28

/* tracer/detect/wire/dns.py, tracer/engine/state.py, tracer/engine/names.py have the same. */
#define LABELS_MAX 128
#define JUMPS_MAX 8
#define NAME_MAX 254
#define NAMES_TEXT 512
#define ADDRESSES_MAX 24
#define TTL_MIN_S 300
#define TTL_MAX_S 3600
#define RECORDS_MAX 256
/* A step is a byte, the length before a label, or a pointer. */
#define NAME_STEPS (2 * NAME_MAX + JUMPS_MAX)

struct answered {
	struct address address;
	__u32 ttl;
	__u32 _pad;
};

/*
 * A message, how far it has been read, and what was found. By CPU, and not on the stack: it is too
 * big; and of numbers in a map the verifier knows nothing, so that it need not follow each of them
 * through all rounds of a loop.
 */
struct names_scratch {
	__u8 octets[FIRST_BYTES];
	__u8 text[NAMES_TEXT]; /* the names, NUL between them */
	struct answered addresses[ADDRESSES_MAX];
	struct named fresh;
	__u32 busy; /* packets are taken in by interrupts, which do not nest here, but who knows */
	__u32 length; /* of the text */
	__u32 count; /* of the addresses */
	__u32 lo; /* where the message begins, */
	__u32 hi; /* and ends */
	__u32 at; /* read up to here */
	__u32 bad;
	__u32 from;  /* in a name: the next byte; */
	__u32 floor; /* a pointer leads to before this; */
	__u32 left;  /* so many bytes of a label are to come; */
	__u32 jumps;
	__u32 began; /* where its text begins, */
	__u32 reach; /* and ends so far */
	__u32 whole;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct names_scratch);
} names_scratch SEC(".maps");

INLINE __u32 octet(const struct names_scratch *s, __u64 at)
{
	if (at >= FIRST_BYTES)
		return 0;
	return s->octets[at];
}

INLINE __u32 two_octets(const struct names_scratch *s, __u32 at)
{
	return octet(s, at) << 8 | octet(s, at + 1);
}

INLINE struct names_scratch *my_names(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&names_scratch, &zero);
}

/* Over one label; what a pointer leads to is not asked. */
static long skip_label(__u64 i, struct names_scratch **message)
{
	struct names_scratch *s = *message;
	__u32 size = octet(s, s->at);

	if (s->at >= s->hi || (size > 63 && size < 0xc0))
		return 1;
	s->at += size < 0xc0 ? 1 + size : 2;
	if (size && size < 0xc0)
		return 0;
	s->bad = s->at > s->hi;
	return 1;
}

/* Over the name at s->at; true: it ends within the message. */
INLINE int skip_name(struct names_scratch **message)
{
	struct names_scratch *s = *message;

	s->bad = 1;
	bpf_loop(LABELS_MAX, skip_label, message, 0);
	return !s->bad;
}

/* What no host name has becomes "?". */
INLINE __u8 fit_for_name(__u32 byte)
{
	if (byte >= 'A' && byte <= 'Z')
		return byte + 32;
	if ((byte >= 'a' && byte <= 'z') || (byte >= '0' && byte <= '9') || byte == '-' || byte == '_' ||
	    byte == '=' || byte == '+' || byte == '/' || byte == '*' || byte == '@')
		return byte;
	return '?';
}

INLINE void put_text(struct names_scratch *s, __u8 byte)
{
	__u64 at = s->reach;

	if (at < NAMES_TEXT)
		s->text[at] = byte;
	s->reach++;
}

static long copy_step(__u64 i, struct names_scratch **message)
{
	struct names_scratch *s = *message;
	__u32 byte = octet(s, s->from), target;

	if (s->left) {
		put_text(s, fit_for_name(byte));
		s->from++;
		s->left--;
		return 0;
	}
	if (s->from >= s->hi)
		return 1;
	if (byte >= 0xc0) {
		target = s->lo + ((byte & 0x3f) << 8 | octet(s, s->from + 1));
		if (s->from + 2 > s->hi || target >= s->floor || s->jumps == JUMPS_MAX)
			return 1;
		s->jumps++;
		s->from = s->floor = target;
		return 0;
	}
	if (!byte) {
		s->whole = s->reach > s->began;
		return 1;
	}
	if (byte > 63 || s->from + 1 + byte > s->hi || s->reach - s->began + byte + 1 > NAME_MAX ||
	    s->reach + byte + 1 > NAMES_TEXT)
		return 1;
	if (s->reach > s->began)
		put_text(s, '.');
	s->left = byte;
	s->from++;
	return 0;
}

/* The name at `at`, behind those that are there, if all of it is there and there is room. */
INLINE void copy_name(struct names_scratch **message, __u32 at)
{
	struct names_scratch *s = *message;

	s->from = s->floor = at;
	s->left = s->jumps = s->whole = 0;
	s->reach = s->length;
	if (s->reach)
		put_text(s, 0);
	s->began = s->reach;
	bpf_loop(NAME_STEPS, copy_step, message, 0);
	if (s->whole)
		s->length = s->reach;
}

INLINE __u64 eight_octets(const struct names_scratch *s, __u32 at)
{
	__u64 found = 0;

#pragma unroll
	for (int i = 0; i < 8; i++)
		found = found << 8 | octet(s, at + i);
	return found;
}

INLINE void keep_address(struct names_scratch *s, __u32 at, __u32 size, __u32 ttl)
{
	__u64 number = s->count;
	struct answered *a;

	if (number >= ADDRESSES_MAX)
		return;
	a = &s->addresses[number];
	a->ttl = ttl;
	if (size == 4) {
		a->address.high = 0;
		a->address.low = 0xffff00000000ULL | two_octets(s, at) << 16 | two_octets(s, at + 2);
	} else {
		a->address.high = eight_octets(s, at);
		a->address.low = eight_octets(s, at + 8);
	}
	s->count++;
}

static long read_record(__u64 i, struct names_scratch **message)
{
	struct names_scratch *s = *message;
	__u32 at, kind, size, ttl;

	if (!skip_name(message))
		return 1;
	at = s->at;
	size = two_octets(s, at + 8);
	if (at + DNS_RECORD > s->hi || at + DNS_RECORD + size > s->hi || s->count == ADDRESSES_MAX)
		return 1;
	s->at = at + DNS_RECORD + size;
	if ((two_octets(s, at + 2) & 0x7fff) != 1) /* not of the Internet */
		return 0;
	kind = two_octets(s, at);
	ttl = two_octets(s, at + 4) << 16 | two_octets(s, at + 6);
	if ((kind == DNS_A && size == 4) || (kind == DNS_AAAA && size == 16))
		keep_address(s, at + DNS_RECORD, size, ttl);
	else if (kind == DNS_CNAME)
		copy_name(message, at + DNS_RECORD);
	return 0;
}

static long question_label(__u64 i, struct names_scratch **message)
{
	struct names_scratch *s = *message;
	__u32 size = octet(s, s->at);

	if (s->at >= s->hi || size > 63)
		return 1;
	s->at += 1 + size;
	s->bad = size != 0;
	return !size;
}

/*
 * Names and addresses in a message of `have` bytes; how many addresses.
 *
 * Not static, as those below: the verifier looks at them by themselves, and not again for each of the
 * thousand ways that lead here.
 */
__noinline int read_answer(struct names_scratch *s, __u32 have, __u32 stream)
{
	struct names_scratch *message = s;
	__u32 flags, class, question;

	if (!s)
		return 0;
	s->lo = s->length = s->count = 0;
	s->hi = have;
	if (stream) {
		flags = two_octets(s, 0);
		if (have < 2 || flags < DNS_LEAST)
			return 0;
		if (flags + 2 < s->hi)
			s->hi = flags + 2;
		s->lo = 2;
	}
	if (s->hi < s->lo + DNS_LEAST)
		return 0;
	flags = two_octets(s, s->lo + 2);
	/* an answer to a plain question, of which there is one */
	if ((flags & 0xf840) != 0x8000 || two_octets(s, s->lo + 4) != 1 ||
	    two_octets(s, s->lo + 6) > RECORDS_MAX || two_octets(s, s->lo + 8) > 64 ||
	    two_octets(s, s->lo + 10) > 64)
		return 0;
	question = s->at = s->lo + DNS_HEADER;
	s->bad = 1;
	bpf_loop(LABELS_MAX, question_label, &message, 0);
	if (s->bad || s->at + 4 > s->hi || s->at - question > 255)
		return 0;
	class = two_octets(s, s->at + 2) & 0x7fff;
	if (!two_octets(s, s->at) || (class != 1 && class != 3 && class != 4 && class != 255))
		return 0;
	copy_name(&message, question);
	s->at += 4;
	bpf_loop(two_octets(s, s->lo + 6), read_record, &message, 0);
	return s->count;
}

/* The groups that the names are of; true if there are any. */
__noinline int judge_names(struct names_scratch *s)
{
	struct walk w = { .text_max = NAMES_TEXT };
	__u64 any = 0;

	if (!s || !begin_walk(&w))
		return 0;
	w.text = s->text;
	walk(&w, 0, s->length, WHERE_HOST, 0);
	s->fresh.epoch = w.header->epoch;
	__builtin_memcpy(s->fresh.signals, w.signals, sizeof(s->fresh.signals));
#pragma unroll
	for (int word = 0; word < SIGNAL_WORDS; word++)
		any |= w.signals[word];
	return any != 0;
}

struct keeping {
	struct names_scratch *s;
	__u64 now;
	__u32 found;
	__u32 _pad;
};

/* What was said of the address last holds: a name that no rule knows takes an accusation back. */
static long keep_name(__u64 i, struct keeping *k)
{
	struct names_scratch *s = k->s;
	struct answered *a;
	__u64 ttl;

	if (i >= ADDRESSES_MAX)
		return 1;
	a = &s->addresses[i];
	if (!k->found) {
		bpf_map_delete_elem(&named, &a->address);
		return 0;
	}
	ttl = a->ttl;
	if (ttl < TTL_MIN_S)
		ttl = TTL_MIN_S;
	if (ttl > TTL_MAX_S)
		ttl = TTL_MAX_S;
	s->fresh.until = k->now + ttl * 1000000000ULL;
	if (bpf_map_update_elem(&named, &a->address, &s->fresh, BPF_ANY))
		count_loss(LOSS_NAME);
	return 0;
}

/* Looks the scratch up itself: 6.1 takes nothing for a key that a function has been handed. */
__noinline int keep_names(__u32 found)
{
	struct keeping k = { .s = my_names(), .found = found, .now = bpf_ktime_get_boot_ns() };

	if (k.s)
		bpf_loop(k.s->count, keep_name, &k, 0);
	return 0;
}

/* Does any rule on connects ask for names? */
INLINE int names_asked(void)
{
	struct knowledge_header *header;
	void *map;

	header = rules_now(&map);
	return header && header->names_asked;
}

/*
 * What the rules say of the names in an answer of `have` bytes is kept for the addresses in it.
 * In three steps, each in a frame of its own: 6.1 leaves little stack.
 */
INLINE void learn_names(const __u8 *octets, __u32 have, __u32 stream)
{
	struct names_scratch *s = my_names();

	if (!s || !names_asked())
		return;
	if (__sync_lock_test_and_set(&s->busy, 1)) {
		count_loss(LOSS_CONTENDED);
		return;
	}
	__builtin_memcpy(s->octets, octets, sizeof(s->octets));
	if (read_answer(s, have, stream))
		keep_names(judge_names(s));
	__sync_lock_test_and_set(&s->busy, 0);
}

#endif
