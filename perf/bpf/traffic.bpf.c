// SPDX-License-Identifier: MIT OR GPL-2.0-only
//
// The generator's traffic and its sink. `generate` and `replay` are run by BPF_PROG_RUN on live frames: they make each
// frame the next of its stream and send it through an interface. `swallow` counts and drops what arrives at the far
// end; `measure` also looks for probes and tells how long they were on their way.

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#define SEC(name) __attribute__((section(name), used))
#define INLINE static inline __attribute__((always_inline))
#define __uint(name, val) int(*name)[val]
#define __type(name, val) typeof(val) *name

enum { MAP_ARRAY = 2, MAP_PERCPU_ARRAY = 6 };
enum { XDP_ABORTED = 0, XDP_DROP = 1, XDP_PASS = 2 };

// As stream.rs has them.
enum {
	HEAD = 144,   // the longest headers (118) and a probe's 16 octets, and what a masked offset may reach beyond
	LENGTHS = 12, // of the mix of sizes, in the order in which they come
	CLASSES = 4,
	PROBE = 3,     // the class of probes
	PACKET = 2036, // the longest packet of a replay
};
// As sink.rs has it: 64 values a power of two, the first 64 one by one, the last ones for 2^40 ns and more.
enum { BUCKETS = 36 * 64 };

// "altprobe", as it lies in memory.
#define MAGIC 0x65626f7270746c61ULL

struct xdp_md {
	u32 data;
	u32 data_end;
	u32 data_meta;
	u32 ingress_ifindex;
	u32 rx_queue_index;
	u32 egress_ifindex;
};

static void *(*const bpf_map_lookup_elem)(void *map, const void *key) = (void *)1;
static u64 (*const bpf_ktime_get_ns)(void) = (void *)5;
static long (*const bpf_redirect)(u32 interface, u64 flags) = (void *)23;
static long (*const bpf_xdp_adjust_tail)(struct xdp_md *frame, int delta) = (void *)65;
static long (*const bpf_xdp_store_bytes)(struct xdp_md *frame, u32 at, void *from, u32 length) = (void *)190;

// Frames of one length. Sums are one's-complement, folded, as they lie in memory, and without what differs by flow.
struct class {
	u32 total;  // length of the frame
	u32 length; // of what is written: recycled frames come back as receivers left them
	u16 ip_sum; // inner IPv4 header
	u16 udp_sum;
	u8 head[HEAD];
};

// What is sent, and how fast. `…_at` is where an octet of the frame varies; 0 is nowhere.
struct plan {
	u64 end;      // frames after which no more are sent
	u64 interval; // between two frames, in time units; 0: all that can be sent, or in a replay as `round` says
	u64 arrears;  // how much a generator makes up for that was kept from sending, in time units
	u64 round;    // a replay at its own pace: how long all its packets take, ns; 0: all that can be sent
	u64 clock;    // what the time is, in tests; 0: the kernel's
	u32 interface;
	u32 longest;    // length of the frames that the kernel gives us
	u32 flows;      // packets, in a replay
	u32 strangers;  // flows behind them whose far end has no mapping
	u32 order_mask; // flows are drawn from `order`; 0: they come in turns
	u32 hit_percent;
	u32 probe_every; // 0: never
	u32 address_at;
	u32 address_words; // of 4 octets: 1 or 4
	u32 ports_at;      // inner UDP
	u32 outer_port_at; // UDP source port
	u32 ip_sum_at;
	u32 udp_sum_at;
	u32 stamp_at;
	u8 mix[LENGTHS]; // class of each packet in turn
	struct class classes[CLASSES];
	u32 unused;
};

// What differs by flow; all of it as it lies in the frame.
struct flow {
	u32 address[4];
	u32 ports;
	u16 outer_port;
	u16 ip_sum;
	u16 udp_sum;
	u16 unused;
};

struct packet {
	u64 due; // ns from the start of its round
	u32 length;
	u8 octets[PACKET];
};

// One thread runs the generator.
struct progress {
	u64 frames;
	u64 octets;
	u64 hits;
	u64 misses;
	u64 probes;
	u64 forgone; // frames due that came too late to be sent
	u64 start;   // ns
	u64 last;    // when a frame was sent last, as far as somebody looked at the clock, ns
	u64 next;    // when the next frame is due, time units from the start on
};

struct tally {
	u64 packets;
	u64 octets;
	u64 probes;  // among the packets
	u64 foreign; // probes with a stamp of another clock: not in the histogram
};

struct {
	__uint(type, MAP_ARRAY);
	__type(key, u32);
	__type(value, struct plan);
	__uint(max_entries, 1);
} plans SEC(".maps");

struct {
	__uint(type, MAP_ARRAY);
	__type(key, u32);
	__type(value, struct progress);
	__uint(max_entries, 1);
} progresses SEC(".maps");

// The sizes of these three are set before they are loaded.
struct {
	__uint(type, MAP_ARRAY);
	__type(key, u32);
	__type(value, struct flow);
	__uint(max_entries, 1);
} flows SEC(".maps");

struct {
	__uint(type, MAP_ARRAY);
	__type(key, u32);
	__type(value, u32);
	__uint(max_entries, 1);
} order SEC(".maps");

struct {
	__uint(type, MAP_ARRAY);
	__type(key, u32);
	__type(value, struct packet);
	__uint(max_entries, 1);
} packets SEC(".maps");

struct {
	__uint(type, MAP_PERCPU_ARRAY);
	__type(key, u32);
	__type(value, struct tally);
	__uint(max_entries, 1);
} tallies SEC(".maps");

struct {
	__uint(type, MAP_PERCPU_ARRAY);
	__type(key, u32);
	__type(value, u64);
	__uint(max_entries, BUCKETS);
} latencies SEC(".maps");

// Time units a nanosecond, as a power of two: ten million frames a second are precise to three in a million.
enum { FRACTION = 12 };

INLINE u64 now(const struct plan *plan)
{
	return plan->clock ? plan->clock : bpf_ktime_get_ns();
}

// Whether the next frame is to be sent now. A frame that is not is dropped, which costs next to nothing: this is how the
// generator waits. Starting and ending a run costs the kernel some 20 ms, so one run has to do.
INLINE int is_due(const struct plan *plan, struct progress *progress)
{
	u64 time, elapsed, behind, skipped;

	if (progress->frames >= plan->end)
		return 0;
	// A flood looks at the clock now and then only: it costs a tenth of a frame.
	if (!plan->interval && progress->frames & 63 && progress->frames + 1 < plan->end)
		return 1;
	time = now(plan);
	if (!progress->start)
		progress->start = time;
	if (!plan->interval) {
		progress->last = time;
		return 1;
	}
	elapsed = (time - progress->start) << FRACTION;
	if (elapsed < progress->next)
		return 0;
	behind = elapsed - progress->next;
	if (behind > plan->arrears) {
		skipped = (behind - plan->arrears) / plan->interval;
		progress->forgone += skipped;
		progress->next += skipped * plan->interval;
	}
	progress->next += plan->interval;
	progress->last = time;
	return 1;
}

// The same for a packet of a capture at its own pace.
INLINE int is_packet_due(const struct plan *plan, struct progress *progress, u64 round, u64 due)
{
	u64 time = now(plan);

	if (progress->frames >= plan->end)
		return 0;
	if (!progress->start)
		progress->start = time;
	if (time - progress->start < round * plan->round + due)
		return 0;
	progress->last = time;
	return 1;
}

// splitmix64's: chance.rs has the same.
INLINE u64 mix(u64 number)
{
	number += 0x9e3779b97f4a7c15ULL;
	number = (number ^ number >> 30) * 0xbf58476d1ce4e5b9ULL;
	number = (number ^ number >> 27) * 0x94d049bb133111ebULL;
	return number ^ number >> 31;
}

// The flow of packet `number`.
INLINE u32 choose(const struct plan *plan, struct progress *progress, u64 number)
{
	u64 turn;
	u32 key, *drawn;

	if (mix(number) % 100 >= plan->hit_percent)
		return plan->flows + progress->misses++ % plan->strangers;
	turn = progress->hits++;
	if (!plan->order_mask)
		return turn % plan->flows;
	key = turn & plan->order_mask;
	drawn = bpf_map_lookup_elem(&order, &key);
	return drawn ? *drawn : 0;
}

INLINE u16 fold(u64 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (sum & 0xffff) + (sum >> 16);
}

INLINE void put16(struct class *class, u32 at, u16 value)
{
	if (at)
		*(u16 *)(class->head + (at & 127)) = value;
}

INLINE void put32(struct class *class, u32 at, u32 plus, u32 value)
{
	*(u32 *)(class->head + (at & 127) + plus) = value;
}

// Makes the head that of a packet of the flow. Everything is written anew, nothing is adjusted.
INLINE void personalize(struct class *class, const struct plan *plan, const struct flow *flow, u64 stamp)
{
	u64 udp_sum = (u64)class->udp_sum + flow->udp_sum;
	u16 checksum;

	put32(class, plan->address_at, 0, flow->address[0]);
	if (plan->address_words == 4) {
		put32(class, plan->address_at, 4, flow->address[1]);
		put32(class, plan->address_at, 8, flow->address[2]);
		put32(class, plan->address_at, 12, flow->address[3]);
	}
	put32(class, plan->ports_at, 0, flow->ports);
	put16(class, plan->outer_port_at, flow->outer_port);
	put16(class, plan->ip_sum_at, ~fold((u64)class->ip_sum + flow->ip_sum));
	if (stamp) {
		put32(class, plan->stamp_at, 0, stamp);
		put32(class, plan->stamp_at, 4, stamp >> 32);
		udp_sum += (stamp & 0xffff) + (stamp >> 16 & 0xffff) + (stamp >> 32 & 0xffff) + (stamp >> 48);
	}
	checksum = ~fold(udp_sum);
	put16(class, plan->udp_sum_at, checksum ? checksum : 0xffff);
}

// Cuts the frame to its length, writes its octets and sends it.
INLINE int send(struct xdp_md *frame, const struct plan *plan, u32 total, void *from, u32 length)
{
	if (total != plan->longest && bpf_xdp_adjust_tail(frame, (int)total - (int)plan->longest))
		return XDP_ABORTED;
	if (bpf_xdp_store_bytes(frame, 0, from, length))
		return XDP_ABORTED;
	// Outside a live run, in tests, there is no interface.
	return plan->interface ? bpf_redirect(plan->interface, 0) : XDP_PASS;
}

SEC("xdp")
int generate(struct xdp_md *frame)
{
	u32 key = 0, index, length;
	struct plan *plan = bpf_map_lookup_elem(&plans, &key);
	struct progress *progress = bpf_map_lookup_elem(&progresses, &key);
	const struct flow *flow;
	struct class *class;
	u64 number, place, stamp = 0;

	if (!plan || !progress)
		return XDP_ABORTED;
	if (!is_due(plan, progress))
		return XDP_DROP;
	number = progress->frames++;
	place = number % LENGTHS;
	// The verifier does not know what a remainder is, and the compiler must not know that the check is for nothing.
	asm volatile("" : "+r"(place));
	if (place >= LENGTHS)
		return XDP_ABORTED;
	index = choose(plan, progress, number);
	flow = bpf_map_lookup_elem(&flows, &index);
	class = &plan->classes[plan->mix[place] & (CLASSES - 1)];
	if (plan->probe_every && number % plan->probe_every == plan->probe_every - 1) {
		class = &plan->classes[PROBE];
		progress->probes++;
		stamp = __builtin_bswap64(now(plan));
	}
	length = class->length;
	if (!flow || !length || length > HEAD)
		return XDP_ABORTED;
	progress->octets += class->total;
	personalize(class, plan, flow, stamp);
	return send(frame, plan, class->total, class->head, length);
}

SEC("xdp")
int replay(struct xdp_md *frame)
{
	u32 key = 0, length;
	const struct plan *plan = bpf_map_lookup_elem(&plans, &key);
	struct progress *progress = bpf_map_lookup_elem(&progresses, &key);
	struct packet *packet;

	if (!plan || !progress)
		return XDP_ABORTED;
	key = progress->frames % plan->flows;
	packet = bpf_map_lookup_elem(&packets, &key);
	if (!packet)
		return XDP_ABORTED;
	if (plan->round ? !is_packet_due(plan, progress, progress->frames / plan->flows, packet->due)
			: !is_due(plan, progress))
		return XDP_DROP;
	progress->frames++;
	length = packet->length;
	if (!length || length > PACKET)
		return XDP_ABORTED;
	progress->octets += length;
	return send(frame, plan, length, packet->octets, length);
}

INLINE struct tally *count(const struct xdp_md *frame)
{
	u32 key = 0;
	struct tally *tally = bpf_map_lookup_elem(&tallies, &key);

	if (tally) {
		tally->packets++;
		tally->octets += frame->data_end - frame->data;
	}
	return tally;
}

SEC("xdp")
int swallow(struct xdp_md *frame)
{
	count(frame);
	return XDP_DROP;
}

// The bucket of a value.
INLINE u32 bucket(u64 value)
{
	u32 exponent = 0;
	u64 rest = value >> 6;

	if (value >= 1ULL << 40)
		return BUCKETS - 1;
	for (u32 step = 32; step; step >>= 1)
		if (rest >> step) {
			rest >>= step;
			exponent += step;
		}
	// 64 … 127 is the first power of two with buckets of its own.
	return rest ? (exponent + 1) * 64 + (value >> exponent & 63) : value;
}

INLINE void record(struct tally *tally, u64 stamp)
{
	u64 now = bpf_ktime_get_ns(), sent = __builtin_bswap64(stamp);
	u32 key;
	u64 *number;

	tally->probes++;
	if (sent > now) {
		tally->foreign++;
		return;
	}
	key = bucket(now - sent);
	number = bpf_map_lookup_elem(&latencies, &key);
	if (number)
		++*number;
}

// Whether the payload of the innermost UDP starts at `at`, and is a probe's.
#define PROBE_AT(at)                                                                                                   \
	do {                                                                                                           \
		if (data + (at) + 16 > end)                                                                            \
			return XDP_DROP;                                                                               \
		if (*(u64 *)(data + (at)) == MAGIC) {                                                                  \
			record(tally, *(u64 *)(data + (at) + 8));                                                      \
			return XDP_DROP;                                                                               \
		}                                                                                                      \
	} while (0)

SEC("xdp")
int measure(struct xdp_md *frame)
{
	struct tally *tally = count(frame);
	char *data = (char *)(long)frame->data, *end = (char *)(long)frame->data_end;

	if (!tally)
		return XDP_DROP;
	// In ascending order, inner family in outer family.
	PROBE_AT(14 + 20 + 8);                    // v4
	PROBE_AT(14 + 40 + 8);                    // v6
	PROBE_AT(14 + 20 + 8 + 8 + 20 + 8);       // v4 in v4, LISP
	PROBE_AT(14 + 20 + 8 + 8 + 14 + 20 + 8);  // v4 in v4, VXLAN
	PROBE_AT(14 + 20 + 8 + 8 + 40 + 8);       // v6 in v4 and v4 in v6, LISP
	PROBE_AT(14 + 20 + 8 + 8 + 14 + 40 + 8);  // v6 in v4 and v4 in v6, VXLAN
	PROBE_AT(14 + 40 + 8 + 8 + 40 + 8);       // v6 in v6, LISP
	PROBE_AT(14 + 40 + 8 + 8 + 14 + 40 + 8);  // v6 in v6, VXLAN
	return XDP_DROP;
}

char license_text[] SEC("license") = "Dual MIT/GPL";
