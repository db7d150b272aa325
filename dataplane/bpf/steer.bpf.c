// SPDX-License-Identifier: MIT OR GPL-2.0-only
//
// What enters the sockets, what stays with the kernel.
//
//   core port   UDP 4341 to one of our RLOCs, whole or a first fragment          → socket
//   site port   unicast from a local EID-prefix to somewhere beyond this box      → socket
//   native port unicast from anybody to one of the EID aggregates                 → socket
//               but Data-Map-Notifies (instance 0xFFFFFF) where we may be behind a NAT → kernel
//   all         ARP, ND, 4342, GRE, later fragments to an RLOC, multicast, …      → kernel
//
// A queue without a socket passes everything, so the box keeps working as a host when no worker runs.
//
// Everything this file needs of the kernel's interface is written out below: the numbers are stable (uapi/linux/bpf.h),
// and no header has to be found at build time.

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#define SEC(name) __attribute__((section(name), used))
#define INLINE static inline __attribute__((always_inline))
#define __uint(name, val) int(*name)[val]
#define __type(name, val) typeof(val) *name

enum { MAP_HASH = 1, MAP_ARRAY = 2, MAP_PERCPU_ARRAY = 6, MAP_LPM_TRIE = 11, MAP_XSKMAP = 17 };
enum { NO_PREALLOC = 1 };
enum { XDP_PASS = 2, XDP_REDIRECT = 4 };

struct xdp_md {
	u32 data;
	u32 data_end;
	u32 data_meta;
	u32 ingress_ifindex;
	u32 rx_queue_index;
	u32 egress_ifindex;
};

static void *(*const bpf_map_lookup_elem)(void *map, const void *key) = (void *)1;
static long (*const bpf_redirect_map)(void *map, u64 key, u64 flags) = (void *)51;

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define BE16(value) ((u16)__builtin_bswap16(value))
#else
#define BE16(value) ((u16)(value))
#endif

// Index into `counts`; the names are in steer.rs, in this order. Up to CORE_FRAGMENT the frame goes to the socket.
enum reason {
	SITE,
	NATIVE,
	CORE,
	CORE_FRAGMENT,
	OTHER_STATION,
	NOT_IP,
	MALFORMED,
	LATER_FRAGMENT,
	NOT_LISP,
	DATA_MAP_NOTIFY,
	NOT_UNICAST,
	TO_BOX,
	OTHER_SOURCE,
	OTHER_DESTINATION,
	NO_SOCKET,
	REASONS,
};

// One entry: this interface. Layout as steer.rs writes it.
struct port {
	u8 mac[6];
	u8 roles; // IS_…
	u8 unused;
};

enum { IS_SITE = 1, IS_CORE = 2, IS_NATIVE = 4, IS_BEHIND_NAT = 8 };

struct prefix4 {
	u32 length;
	u8 address[4];
};

struct prefix6 {
	u32 length;
	u8 address[16];
};

struct address6 {
	u8 octets[16];
};

struct {
	__uint(type, MAP_XSKMAP);
	__type(key, u32);
	__type(value, u32);
	__uint(max_entries, 1024);
} sockets SEC(".maps");

struct {
	__uint(type, MAP_ARRAY);
	__type(key, u32);
	__type(value, struct port);
	__uint(max_entries, 1);
} ports SEC(".maps");

struct {
	__uint(type, MAP_PERCPU_ARRAY);
	__type(key, u32);
	__type(value, u64);
	__uint(max_entries, REASONS);
} counts SEC(".maps");

#define PREFIXES(name, prefix)                                                                                         \
	struct {                                                                                                       \
		__uint(type, MAP_LPM_TRIE);                                                                            \
		__uint(map_flags, NO_PREALLOC);                                                                        \
		__type(key, prefix);                                                                                   \
		__type(value, u8);                                                                                     \
		__uint(max_entries, 65536);                                                                            \
	} name SEC(".maps")

// Sources that are the site's, and destinations that are attracted from networks without LISP.
PREFIXES(site4, struct prefix4);
PREFIXES(site6, struct prefix6);
PREFIXES(eids4, struct prefix4);
PREFIXES(eids6, struct prefix6);

#define ADDRESSES(name, address)                                                                                       \
	struct {                                                                                                       \
		__uint(type, MAP_HASH);                                                                                \
		__uint(map_flags, NO_PREALLOC);                                                                        \
		__type(key, address);                                                                                  \
		__type(value, u8);                                                                                     \
		__uint(max_entries, 4096);                                                                             \
	} name SEC(".maps")

ADDRESSES(own4, u32);
ADDRESSES(own6, struct address6);
ADDRESSES(rloc4, u32);
ADDRESSES(rloc6, struct address6);

struct ethernet {
	u8 destination[6];
	u8 source[6];
	u16 type;
} __attribute__((packed));

struct vlan {
	u16 tci;
	u16 type;
} __attribute__((packed));

struct ipv4 {
	u8 version_words;
	u8 tos;
	u16 length;
	u16 id;
	u16 fragment; // flags, then offset in units of 8 octets
	u8 ttl;
	u8 protocol;
	u16 checksum;
	u8 source[4];
	u8 destination[4];
} __attribute__((packed));

struct ipv6 {
	u8 version;
	u8 class_flow[3];
	u16 length;
	u8 next;
	u8 hops;
	u8 source[16];
	u8 destination[16];
} __attribute__((packed));

struct fragment6 {
	u8 next;
	u8 reserved;
	u16 offset; // 13 bits of offset, 2 reserved, M
	u32 id;
} __attribute__((packed));

struct udp {
	u16 source;
	u16 destination;
	u16 length;
	u16 checksum;
} __attribute__((packed));

struct lisp {
	u8 flags;
	u8 nonce[3];
	u8 instance[3];
	u8 status;
} __attribute__((packed));

enum { UDP = 17, FRAGMENT = 44, LISP_INSTANCE = 0x08 };

#define LISP_DATA BE16(4341)

INLINE int is_vlan(u16 type)
{
	return type == BE16(0x8100) || type == BE16(0x88a8);
}

INLINE int unicast4(const u8 *a)
{
	if (a[0] == 0 || a[0] == 127 || (a[0] >= 224 && a[0] < 240))
		return 0;
	if (a[0] == 169 && a[1] == 254)
		return 0;
	return !(a[0] == 255 && a[1] == 255 && a[2] == 255 && a[3] == 255);
}

// Neither multicast, link-local, unspecified nor loopback.
INLINE int unicast6(const u8 *a)
{
	const u16 *words = (const u16 *)a;
	u16 high;

	if (a[0] == 0xff || (a[0] == 0xfe && (a[1] & 0xc0) == 0x80))
		return 0;
	high = words[0] | words[1] | words[2] | words[3] | words[4] | words[5] | words[6];
	return high || (words[7] & ~BE16(1));
}

// Whether this is an IPv4 header with room for its options, and where it ends.
//
// Four octets a step, so that the pointer never moves by a number from the packet, and never meets a null: the verifier
// would let either pass only with CAP_PERFMON.
INLINE int whole4(const struct ipv4 *ip, const void *end, const void **after)
{
	u32 words = ip->version_words & 15;
	const u8 *at = (const u8 *)(ip + 1);

	if (ip->version_words >> 4 != 4 || words < 5)
		return 0;
	// The empty assembly keeps the compiler from multiplying after all.
#define STEP(word)                                                                                                     \
	if (words > word) {                                                                                            \
		at += 4;                                                                                               \
		if (at > (const u8 *)end)                                                                              \
			return 0;                                                                                      \
		asm volatile("" : "+r"(at));                                                                           \
	}
	STEP(5) STEP(6) STEP(7) STEP(8) STEP(9) STEP(10) STEP(11) STEP(12) STEP(13) STEP(14)
#undef STEP
	*after = at;
	return 1;
}

// Whether a data header says that control follows it (draft-ermagan-lisp-nat-traversal-19, 4.5).
INLINE int data_map_notify(const struct lisp *lisp, const void *end)
{
	if ((const void *)(lisp + 1) > end || !(lisp->flags & LISP_INSTANCE))
		return 0;
	return (lisp->instance[0] & lisp->instance[1] & lisp->instance[2]) == 0xff;
}

INLINE int lisp_data(u8 roles, const void *at, const void *end, int more)
{
	const struct udp *udp = at;

	if ((const void *)(udp + 1) > end)
		return more ? NOT_LISP : MALFORMED;
	if (udp->destination != LISP_DATA)
		return NOT_LISP;
	if (roles & IS_BEHIND_NAT && data_map_notify((const void *)(udp + 1), end))
		return DATA_MAP_NOTIFY;
	return more ? CORE_FRAGMENT : CORE;
}

INLINE int from_core4(u8 roles, const struct ipv4 *ip, const void *after, const void *end)
{
	u16 fragment = BE16(ip->fragment);

	if (ip->protocol != UDP || !bpf_map_lookup_elem(&rloc4, ip->destination))
		return NOT_LISP;
	// Only the first fragment has ports; of the others nobody can say whether they are LISP.
	if (fragment & 0x1fff)
		return LATER_FRAGMENT;
	return lisp_data(roles, after, end, fragment & 0x2000);
}

INLINE int from_core6(u8 roles, const struct ipv6 *ip, const void *end)
{
	const struct fragment6 *fragment = (const void *)(ip + 1);
	u16 offset;

	if ((ip->next != UDP && ip->next != FRAGMENT) || !bpf_map_lookup_elem(&rloc6, ip->destination))
		return NOT_LISP;
	if (ip->next == UDP)
		return lisp_data(roles, ip + 1, end, 0);
	if ((const void *)(fragment + 1) > end)
		return MALFORMED;
	if (fragment->next != UDP)
		return NOT_LISP;
	offset = BE16(fragment->offset);
	if (offset >> 3)
		return LATER_FRAGMENT;
	return lisp_data(roles, fragment + 1, end, offset & 1);
}

INLINE int from_site4(u8 roles, const struct ipv4 *ip)
{
	struct prefix4 source = { .length = 32 };
	struct prefix4 destination = { .length = 32 };

	if (!unicast4(ip->destination))
		return NOT_UNICAST;
	if (bpf_map_lookup_elem(&own4, ip->destination))
		return TO_BOX;
	if (roles & IS_NATIVE) {
		__builtin_memcpy(destination.address, ip->destination, sizeof(destination.address));
		return bpf_map_lookup_elem(&eids4, &destination) ? NATIVE : OTHER_DESTINATION;
	}
	__builtin_memcpy(source.address, ip->source, sizeof(source.address));
	return bpf_map_lookup_elem(&site4, &source) ? SITE : OTHER_SOURCE;
}

INLINE int from_site6(u8 roles, const struct ipv6 *ip)
{
	struct prefix6 source = { .length = 128 };
	struct prefix6 destination = { .length = 128 };

	if (!unicast6(ip->destination))
		return NOT_UNICAST;
	if (bpf_map_lookup_elem(&own6, ip->destination))
		return TO_BOX;
	if (roles & IS_NATIVE) {
		__builtin_memcpy(destination.address, ip->destination, sizeof(destination.address));
		return bpf_map_lookup_elem(&eids6, &destination) ? NATIVE : OTHER_DESTINATION;
	}
	__builtin_memcpy(source.address, ip->source, sizeof(source.address));
	return bpf_map_lookup_elem(&site6, &source) ? SITE : OTHER_SOURCE;
}

INLINE int classify4(const struct port *port, const struct ipv4 *ip, const void *end)
{
	int reason = NOT_LISP;
	const void *after;

	if ((const void *)(ip + 1) > end)
		return MALFORMED;
	if (!whole4(ip, end, &after))
		return MALFORMED;
	if (port->roles & IS_CORE)
		reason = from_core4(port->roles, ip, after, end);
	if (reason != NOT_LISP || !(port->roles & (IS_SITE | IS_NATIVE)))
		return reason;
	return from_site4(port->roles, ip);
}

INLINE int classify6(const struct port *port, const struct ipv6 *ip, const void *end)
{
	int reason = NOT_LISP;

	if ((const void *)(ip + 1) > end || ip->version >> 4 != 6)
		return MALFORMED;
	if (port->roles & IS_CORE)
		reason = from_core6(port->roles, ip, end);
	if (reason != NOT_LISP || !(port->roles & (IS_SITE | IS_NATIVE)))
		return reason;
	return from_site6(port->roles, ip);
}

INLINE int classify(const struct port *port, const void *data, const void *end)
{
	const struct ethernet *ethernet = data;
	const u16 *to, *ours;
	const void *next;
	u16 type;

	if ((const void *)(ethernet + 1) > end)
		return MALFORMED;
	to = (const u16 *)ethernet->destination;
	ours = (const u16 *)port->mac;
	if (to[0] != ours[0] || to[1] != ours[1] || to[2] != ours[2])
		return OTHER_STATION;
	type = ethernet->type;
	next = ethernet + 1;
#pragma unroll
	for (int tags = 0; tags < 2; tags++) {
		const struct vlan *vlan = next;

		if (!is_vlan(type))
			break;
		if ((const void *)(vlan + 1) > end)
			return MALFORMED;
		type = vlan->type;
		next = vlan + 1;
	}
	if (type == BE16(0x0800))
		return classify4(port, next, end);
	if (type == BE16(0x86dd))
		return classify6(port, next, end);
	return NOT_IP;
}

SEC("xdp")
int steer(struct xdp_md *context)
{
	const void *data = (const void *)(unsigned long)context->data;
	const void *end = (const void *)(unsigned long)context->data_end;
	u32 index = 0;
	const struct port *port = bpf_map_lookup_elem(&ports, &index);
	int action = XDP_PASS;
	int reason;
	u64 *count;

	if (!port)
		return XDP_PASS;
	reason = classify(port, data, end);
	if (reason <= CORE_FRAGMENT) {
		// The flags are what is returned for a queue without a socket.
		action = bpf_redirect_map(&sockets, context->rx_queue_index, XDP_PASS);
		if (action != XDP_REDIRECT)
			reason = NO_SOCKET;
	}
	index = reason;
	count = bpf_map_lookup_elem(&counts, &index);
	if (count)
		*count += 1; // one CPU, one slot: nobody else writes it
	return action;
}

char license_text[] SEC("license") = "Dual MIT/GPL";
