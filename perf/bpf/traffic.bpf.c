// SPDX-License-Identifier: MIT OR GPL-2.0-only
//
// The veth bench's traffic. `generate` is run by BPF_PROG_RUN on live frames: it varies each frame's flow and sends it
// through an interface. `swallow` counts and drops what arrives at the far end.

typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long long u64;

#define SEC(name) __attribute__((section(name), used))
#define INLINE static inline __attribute__((always_inline))
#define __uint(name, val) int(*name)[val]
#define __type(name, val) typeof(val) *name

enum { MAP_ARRAY = 2, MAP_PERCPU_ARRAY = 6 };
enum { XDP_ABORTED = 0, XDP_DROP = 1 };

struct xdp_md {
	u32 data;
	u32 data_end;
	u32 data_meta;
	u32 ingress_ifindex;
	u32 rx_queue_index;
	u32 egress_ifindex;
};

static void *(*const bpf_map_lookup_elem)(void *map, const void *key) = (void *)1;
static long (*const bpf_redirect)(u32 interface, u64 flags) = (void *)23;

// Where an octet of the frame varies; 0 is nowhere. Layout as generator.rs writes it.
struct plan {
	u32 interface;
	u32 subnet_at;  // octet of the destination: which remote prefix
	u32 balance_at; // octet that keeps the IPv4 header checksum right: 255 less the one above
	u32 port_at;    // low octet of the UDP source port: which flow
};

struct {
	__uint(type, MAP_ARRAY);
	__type(key, u32);
	__type(value, struct plan);
	__uint(max_entries, 1);
} plans SEC(".maps");

struct {
	__uint(type, MAP_PERCPU_ARRAY);
	__type(key, u32);
	__type(value, u64);
	__uint(max_entries, 1);
} counts SEC(".maps");

INLINE u64 count(void)
{
	u32 key = 0;
	u64 *value = bpf_map_lookup_elem(&counts, &key);

	return value ? (*value)++ : 0;
}

INLINE void put(const struct xdp_md *frame, u32 at, u8 value)
{
	u8 *octet = (u8 *)(long)frame->data + (at & 127);

	if (at && (void *)(octet + 1) <= (void *)(long)frame->data_end)
		*octet = value;
}

SEC("xdp")
int generate(struct xdp_md *frame)
{
	u32 key = 0;
	const struct plan *plan = bpf_map_lookup_elem(&plans, &key);
	u64 number = count();

	if (!plan)
		return XDP_ABORTED;
	put(frame, plan->subnet_at, number);
	put(frame, plan->balance_at, 255 - (u8)number);
	put(frame, plan->port_at, number >> 8);
	return bpf_redirect(plan->interface, 0);
}

SEC("xdp")
int swallow(struct xdp_md *frame)
{
	count();
	return XDP_DROP;
}

char license_text[] SEC("license") = "Dual MIT/GPL";
