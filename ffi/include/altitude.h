/*
 * altitude.h: Altitude for C. altmap_*: the mapping API, reading and changing a router's mappings, hearing of misses and of
 * what happens to mappings and locators. altitude_*: encapsulation and decapsulation inside the caller's own program.
 *
 * Made by cbindgen from ffi/src; ffi/README.md has the conventions and how to link. In short: results are 0 or a
 * negative error number of errno.h, as altmap_strerror tells; structs start with their size, which the caller sets;
 * one handle is used by one thread at a time; calls block, with a time limit on every message.
 */

#ifndef ALTITUDE_H
#define ALTITUDE_H

#include <stddef.h>
#include <stdint.h>

// The version of this interface, for `altmap_open`.
#define ALTMAP_ABI 1

// Table: mappings of other sites (the map-cache).
#define ALTMAP_CACHE 0

// Table: the router's own mappings (the database).
#define ALTMAP_DATABASE 1

// For `altmap_subscribe_to`: both tables.
#define ALTMAP_BOTH 2

// AFI of an IPv4 address: the first 4 octets of `addr`.
#define ALTMAP_AFI_IPV4 1

// AFI of an IPv6 address.
#define ALTMAP_AFI_IPV6 2

// `plen` of an EID that has none: all bits of the address, so the longest match.
#define ALTMAP_HOST 255

// Changes of one batch at most.
#define ALTMAP_BATCH_MAX 256

// Operation: a mapping came; `entry` and `rlocs` are there.
#define ALTMAP_OP_ADD 1

// Operation: a mapping left.
#define ALTMAP_OP_DELETE 2

// Operation: a mapping says something else; `entry` and `rlocs` are there.
#define ALTMAP_OP_CHANGE 3

// Operation: packets to `eid` from `from` find no mapping; answer with altmap_add. `reason` is ALTMAP_MISS_*.
#define ALTMAP_OP_MISS 5

// Operation: `rlocs[0]` is used again. `reason` is how that was found out: 1 probe, 2 echo-nonce, 3 status bits, 4 ICMP,
// 5 route, 6 a client.
#define ALTMAP_OP_REACH 6

// Operation: `rlocs[0]` is not used any more. `reason` as for ALTMAP_OP_REACH.
#define ALTMAP_OP_BADREACH 7

// Operation: a table was emptied.
#define ALTMAP_OP_FLUSH 9

// Operation: a map-version in a packet from `from` shows that a copy of the mapping `eid` is old. `reason` is whose: 1 the router's
// of another site's, 2 the peer's of one of the router's. `seen` is the version of the packet, `ours` that of the router.
#define ALTMAP_OP_STALE 11

// Operation: packets from `from` carry other Locator-Status-Bits about `eid` than before: `seen` has them, bit i for the RLOC of
// ordinal i; `ours` is how many there was room for.
#define ALTMAP_OP_LSBITS 12

// For `altmap_subscribe`: every event.
#define ALTMAP_EVERY_OP 6894

// For `altmap_subscribe_to`: tell also what this handle does itself.
#define ALTMAP_ECHO_ME 64

// FILTERs that `altmap_subscribe_to` takes.
#define ALTMAP_FILTERS_MAX 16

// Table of an event that is about none: ALTMAP_OP_REACH, ALTMAP_OP_BADREACH.
#define ALTMAP_NO_TABLE -1

// Reason of a MISS: there is no entry.
#define ALTMAP_MISS_NO_ENTRY 1

// Reason of a MISS: the entry's time is nearly over, and packets use it; answer with altmap_change.
#define ALTMAP_MISS_EXPIRING 2

// Reason of a MISS: the entry says that the mapping system is to be asked; answer with altmap_change.
#define ALTMAP_MISS_SEND_MAP_REQUEST 3

// Flag of an event: events before it were lost; dump the tables again.
#define ALTMAP_EVENT_OVERRUN 32

// Flag of an event: the entry's time was over.
#define ALTMAP_EVENT_EXPIRED 128

// Flag of an event: static entries too.
#define ALTMAP_EVENT_ALL 256

// Octets that must be free in front of a packet, for whatever `altitude_lisp_output` puts there; in front of one to be
// decapsulated 14 are enough. They may be written over; no other octets of the memory but these and the packet's are touched.
#define ALTITUDE_HEADROOM 70

// Longest packet, octets.
#define ALTITUDE_PACKET_MAX 1792

// Verdict: it has its new headers; send it, an IP packet between `start` and `start + length`.
#define ALTITUDE_SEND 1

// Verdict: as `ALTITUDE_SEND`, but without an outer header, as its mapping says (ACT 1); one hop was taken off.
#define ALTITUDE_NATIVE 2

// Verdict: there is no mapping for `eid`, or it says to ask (ACT 2); `from` is whose packet it is. The packet is as it was: keep
// it, and hand it over again when the mapping is in the table; or drop it.
#define ALTITUDE_MISS 3

// Verdict: too long with an outer header, and its sender allows fragments; `limit` is the longest that passes. The packet is as it
// was: split it in two (RFC 9300 section 7.1), and hand both over.
#define ALTITUDE_SPLIT 4

// Verdict: drop it; `reason` says why, and `notice` what its sender is to be told by ICMP, if anything. The packet is as it was.
#define ALTITUDE_DROP 5

// Notice: nothing.
#define ALTITUDE_NOTICE_NONE 0

// Notice: its TTL or Hop Limit ran out.
#define ALTITUDE_NOTICE_TIME_EXCEEDED 1

// Notice: it is longer than `limit`.
#define ALTITUDE_NOTICE_TOO_BIG 2

// Notice: no RLOC of its destination can be reached.
#define ALTITUDE_NOTICE_UNREACHABLE 3

// Notice: its mapping says that such packets are dropped (ACT 3).
#define ALTITUDE_NOTICE_PROHIBITED 4

// Flag of a packet: whatever the verdict, `eid` has no mapping and should be asked for, as the source check wants to know it.
#define ALTITUDE_ASK 1

// Flag of an entry: no RLOCs; `act` says what is done.
#define ALTMAP_NEGATIVE 1

// Flag of an entry: an ETR of the site itself said so.
#define ALTMAP_AUTHORITATIVE 2

// Flag of an entry: it goes with the connection of the client that put it in.
#define ALTMAP_EPHEMERAL 4

// Flag of an entry of the router's own: none of its RLOCs is the router's, and that is meant.
#define ALTMAP_FOREIGN 8

// Flag of an RLOC: packets can be sent to it now.
#define ALTMAP_RLOC_UP 1

// Flag of an RLOC: one of the router's own interfaces.
#define ALTMAP_RLOC_LIF 2

// Flag of an RLOC: reachable, as its record says (R).
#define ALTMAP_RLOC_REACHABLE 16

// Flag of an RLOC: of the ETR that sent the record (L).
#define ALTMAP_RLOC_LOCAL 32

// Flag of an RLOC: a client has taken it out of use (`altmap_reach`).
#define ALTMAP_RLOC_BAD 64

// Origin: the operator.
#define ALTMAP_ORIGIN_STATIC 1

// Origin: a Map-Reply.
#define ALTMAP_ORIGIN_MAP_REPLY 2

// Origin: a Map-Notify of a Map-Server that the router subscribed at.
#define ALTMAP_ORIGIN_PUBSUB 4

// Origin: a client of this API.
#define ALTMAP_ORIGIN_API 7

// Origin: nobody answered; this stops asking for a while.
#define ALTMAP_ORIGIN_GIVEN_UP 128

// Origin: NAT traversal.
#define ALTMAP_ORIGIN_NAT 129

// `left_s` of an entry that stays.
#define ALTMAP_STAYS UINT32_MAX

// Source check: no packet out of a tunnel may come from an EID of our own.
#define ALTITUDE_CHECK_STANDARD 0

// Source check: the same, and the mapping of a source that has none is to be asked for (ALTITUDE_ASK).
#define ALTITUDE_CHECK_NOTIFY 1

// Source check: the source has a mapping, and the packet came from one of its RLOCs.
#define ALTITUDE_CHECK_SECURE 2

// A table. Made by `altitude_table_new`, given up by `altitude_table_free`; any thread may use it at any time, and those that
// change it wait for each other.
typedef struct altitude_table altitude_table;

// A thread that packets go through. Made by `altitude_thread_new`, given up by `altitude_thread_free`; one thread uses it at a time.
typedef struct altitude_thread altitude_thread;

// A connection to a router. Made by `altmap_open`, ended by `altmap_close`; one thread uses it at a time.
typedef struct altmap altmap;

// An EID, or an EID-prefix.
typedef struct altmap_eid {
  // ALTMAP_AFI_*.
  uint16_t afi;
  // Prefix length in bits, or ALTMAP_HOST.
  uint8_t plen;
  // Zero.
  uint8_t rsv;
  // Instance-ID, 24 bits.
  uint32_t iid;
  // The address in network order; what its family does not need is zero.
  uint8_t addr[16];
} altmap_eid;

// An entry of a table.
typedef struct altmap_entry {
  // `sizeof(altmap_entry)` as the caller was compiled.
  uint16_t size;
  // Map-Version; 0 is none.
  uint16_t version;
  // ALTMAP_NEGATIVE, ALTMAP_AUTHORITATIVE.
  uint32_t flags;
  // The record's TTL in seconds; 0 is none.
  uint32_t ttl_s;
  // What is done without RLOCs, as the ACT field of a Map-Reply (RFC 9301 section 5.4).
  uint8_t act;
  // ALTMAP_ORIGIN_*.
  uint8_t origin;
  // Number of RLOCs.
  uint16_t nrloc;
  // Generation of the tables when the entry was read; grows whenever a table changes.
  uint64_t gen;
  // Packets that used it.
  uint64_t hits;
  // Their inner octets.
  uint64_t octets;
  // When it came, milliseconds since 1970.
  uint64_t created_ms;
  // When it was last used, milliseconds since 1970; 0 is never, or not known.
  uint64_t used_ms;
  // Seconds until it leaves, or ALTMAP_STAYS.
  uint32_t left_s;
  // Zero.
  uint32_t rsv;
  // The prefix it is of.
  struct altmap_eid eid;
} altmap_entry;

// An RLOC of an entry. Figures that the router does not keep for each RLOC yet are 0.
typedef struct altmap_rloc {
  // `sizeof(altmap_rloc)` as the caller was compiled.
  uint16_t size;
  // ALTMAP_AFI_*.
  uint16_t afi;
  // The address in network order; what its family does not need is zero.
  uint8_t addr[16];
  // Lower is preferred; 255 is not to be used.
  uint8_t prio;
  // Share of the load among RLOCs of the same priority.
  uint8_t weight;
  // As `prio`, for multicast.
  uint8_t mprio;
  // As `weight`, for multicast.
  uint8_t mweight;
  // ALTMAP_RLOC_*.
  uint32_t flags;
  // Octets.
  uint32_t mtu;
  // Microseconds.
  uint32_t rtt_us;
  // Zero.
  uint32_t rsv;
  // Packets sent to it.
  uint64_t packets;
  // Their octets.
  uint64_t octets;
  // Last nonce sent.
  uint32_t tx_nonce;
  // Last nonce received.
  uint32_t rx_nonce;
} altmap_rloc;

// What `altmap_dump` calls for each entry: its prefix, the entry, and its `n` RLOCs, an array of the library's
// `sizeof(altmap_rloc)`, which is `rlocs[0].size`. All are valid until it returns. It returns 0 to go on; anything else
// ends the dump. It may use the handle, but not close it; it must neither throw nor longjmp.
typedef int (*altmap_visit)(void *user,
                            const struct altmap_eid *eid,
                            const struct altmap_entry *entry,
                            const struct altmap_rloc *rlocs,
                            size_t n);

// Which events are wanted. All zero but `size` and `ops` it is: of the map-cache, everywhere.
typedef struct altmap_filter {
  // `sizeof(altmap_filter)` as the caller was compiled.
  uint16_t size;
  // How much of packets a MISS shows: 0 to 2, as for `altmap_subscribe`.
  uint8_t miss_detail;
  // Zero.
  uint8_t rsv;
  // A bit `1 << ALTMAP_OP_*` for each operation; at least one.
  uint32_t ops;
  // ALTMAP_CACHE, ALTMAP_DATABASE or ALTMAP_BOTH. Verdicts on RLOCs belong to no table, and come in any case.
  int32_t table;
  // MISS events a second at most; 0 is the router's own bound.
  uint32_t miss_rate;
  // Inside this EID-prefix alone; everywhere if it is all zero.
  struct altmap_eid only;
} altmap_filter;

// An event.
typedef struct altmap_event {
  // `sizeof(altmap_event)` as the caller was compiled.
  uint16_t size;
  // ALTMAP_OP_*.
  uint16_t op;
  // ALTMAP_EVENT_*.
  uint32_t flags;
  // Its number: one more than the last; a gap means that MISS, STALE or LSBITS events are missing.
  uint64_t gen;
  // What it is about; of REACH and BADREACH all zero. Of FLUSH `iid` alone counts: UINT32_MAX for all instances.
  struct altmap_eid eid;
  // Of a MISS: where the packet came from; `afi` is 0 if that is not known. Of STALE and LSBITS the peer's RLOC.
  struct altmap_eid from;
  // Of ADD and CHANGE, else NULL.
  const struct altmap_entry *entry;
  // Of ADD, CHANGE, REACH and BADREACH, else NULL.
  const struct altmap_rloc *rlocs;
  // Number of RLOCs.
  size_t nrloc;
  // Of MISS, REACH, BADREACH and STALE, else 0.
  int reason;
  // Of a MISS: misses of the same EID since the last event that made none.
  uint32_t suppressed;
  // Of a MISS, if more than the EID was asked for: an IP packet that missed, or the beginning of it. NULL if there was none, or
  // none was asked for. Programs compiled before this was here go without.
  const uint8_t *packet;
  // Its octets.
  size_t packet_len;
  // Of STALE and LSBITS, else 0.
  uint32_t seen;
  // Of STALE and LSBITS, else 0.
  uint32_t ours;
  // ALTMAP_CACHE, ALTMAP_DATABASE or ALTMAP_NO_TABLE. Programs compiled before this was here go without.
  int32_t table;
  // Zero.
  uint32_t rsv;
} altmap_event;

// A packet, and what became of it.
typedef struct altitude_packet {
  // `sizeof(altitude_packet)` as the caller was compiled.
  uint16_t size;
  // ALTITUDE_SEND and so on: written.
  uint8_t verdict;
  // ALTITUDE_NOTICE_*: written.
  uint8_t notice;
  // Why it is to be dropped, for `altitude_reason_name`: written. Numbers may differ from one version to the next, names do not.
  uint16_t reason;
  // Octets; 0 if the verdict does not need it: written.
  uint16_t limit;
  // Instance-ID: of the site that it came from, for `altitude_lisp_output`; that its LISP header named: written by
  // `altitude_lisp_input`.
  uint32_t iid;
  // ALTITUDE_ASK or 0: written.
  uint32_t flags;
  // The memory that it lies in, room in front of it included.
  uint8_t *memory;
  // Octets of the memory.
  size_t capacity;
  // Where its IP header begins, octets from the start of the memory: read, and written if it moved.
  size_t start;
  // Its length from there on: read, and written if it changed.
  size_t length;
  // What is to be asked for, all bits of the address, if anything is: written.
  struct altmap_eid eid;
  // Whose packet asks for it: written.
  struct altmap_eid from;
} altitude_packet;

// What a table is made for.
typedef struct altitude_config {
  // `sizeof(altitude_config)` as the caller was compiled.
  uint16_t size;
  // Largest IP packet towards other tunnel routers, octets; 0 is 1500.
  uint16_t core_mtu;
  // Largest IP packet towards hosts of the site, octets; 0 is 1500.
  uint16_t site_mtu;
  // ALTITUDE_CHECK_*.
  uint8_t source_check;
  // Zero.
  uint8_t rsv;
  // Most mappings and EID-prefixes of our own together; up to 16,777,216, and with `threads` multiplied up to 268,435,456.
  uint32_t capacity;
  // Most threads at one time; up to 256.
  uint32_t threads;
  // Seed of the flow hash: random, so that nobody outside can tell which flows share an RLOC.
  uint32_t hash_seed;
  // Number of `rlocs`, 1 to 32.
  uint32_t nrloc;
  // Our own RLOCs, the preferred ones of a family first; only `size` (of the first), `afi` and `addr` are read.
  const struct altmap_rloc *rlocs;
} altitude_config;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// Connects to the router whose mapping API listens at `path`, and puts the handle into `*out`.
//
// `abi` is ALTMAP_ABI. `*out` is written on 0 and only then, and is the caller's until `altmap_close`. `path` is not
// kept. Any thread may call. Blocks at most 5 seconds.
//
// -EINVAL: a NULL, or a path that is empty or too long for a socket; -EPROTONOSUPPORT: the library does not speak this
// ABI; -ENOENT: no such socket; -ECONNREFUSED: the router died; -EACCES: the socket's permissions say no.
//
// # Safety
// `path` is NULL or a string that ends with a NUL; `out` is NULL or writable.
int altmap_open(const char *path, int abi, struct altmap **out);

// Ends the connection and frees the handle; NULL is allowed and does nothing.
//
// # Safety
// `handle` is NULL or from `altmap_open`, not closed yet, and in use by no other thread and by no `altmap_dump`.
void altmap_close(struct altmap *handle);

// Looks an EID up in a table: the longest match if `eid->plen` is ALTMAP_HOST or all bits of the address, else the
// entry of exactly this prefix.
//
// Before the call, `entry->size` and `rlocs[0].size` are set to `sizeof` of their types, and `*n` to how many RLOCs
// there is room for; `rlocs` may be NULL if `*n` is 0. On 0, `*entry`, `rlocs[0]` to `rlocs[*n - 1]` and `*n`, the
// number of RLOCs, are written. On -ENOBUFS, `*n` is how many RLOCs need room, `*entry` is written, and `rlocs` is
// not. On another error nothing is written. No pointer is kept. Blocks at most 5 seconds for each message.
//
// -EINVAL: a NULL, a table or `size` that is none, host bits in a prefix; -EAFNOSUPPORT: `eid->afi` is none of
// ALTMAP_AFI_*; -ENOENT: no entry; -ENOBUFS: too many RLOCs. -EPIPE, -ECONNRESET, -ETIMEDOUT, -EPROTO: the router is
// gone, or does not answer as it should; from then on -ENOTCONN, until the handle is closed and another one opened.
//
// # Safety
// `handle` is NULL or open, and in use by no other thread; `eid` is NULL or readable; `entry` and `n` are NULL or
// writable; the `size` of `entry` and of `rlocs[0]` is set; `rlocs` is NULL or `*n` RLOCs of `rlocs[0].size` octets each that are writable.
int altmap_get(struct altmap *handle,
               int table,
               const struct altmap_eid *eid,
               struct altmap_entry *entry,
               struct altmap_rloc *rlocs,
               size_t *n);

// Calls `visit` for each entry of a table, ascending by EID, with `user` as it is: on the caller's thread, after the
// whole table has arrived. Returns 0, or what `visit` returned to end the dump. No pointer is kept. Blocks at most 5
// seconds for each message.
//
// The router reads its table while it sends: an entry that is there all the while comes exactly once, and `gen` is that of the
// beginning, so that altmap_change refuses to replace what changed meanwhile. After altmap_subscribe, altmap_next tells what
// changed since; who takes that in, in its order, after the dump has the router's table.
//
// -EINVAL: a NULL other than `user`, or a table that is none; and what happens to the connection, as for `altmap_get`.
//
// # Safety
// `handle` is NULL or open, and in use by no other thread; `visit` is NULL or can be called with `user`.
int altmap_dump(struct altmap *handle,
                int table,
                altmap_visit visit,
                void *user);

// The library's version, for people. The text is static: never freed.
const char *altmap_version(void);

// What a result means, for people: 0 or a negative error number. The text is static: never freed. Any thread may call.
const char *altmap_strerror(int result);

// Begins a batch: from now on altmap_add, altmap_change and altmap_delete with this handle check their arguments and keep what
// they are to do, which altmap_batch_commit has done. Their 0 means no more than that; beyond ALTMAP_BATCH_MAX they are
// -ENOSPC, and the batch stays as it was. All other functions do at once what they do.
//
// -EBUSY: one has begun already; -EINVAL: a NULL.
//
// # Safety
// `handle` is NULL or open, and in use by no other thread.
int altmap_batch_begin(struct altmap *handle);

// Has the router make all changes of the batch, or none, and ends it either way. Each is verified as if those before it were made;
// a packet takes the way of before or of after. Subscribers hear of what became of each prefix.
//
// On an error of the router's `*failed`, unless `failed` is NULL, is the change that could not be made, the first one being 0;
// else it is not written. Blocks at most 5 seconds for each message.
//
// -EINVAL: a NULL, no batch, or changes of both tables; -EEXIST, -ENOENT, -EAGAIN, -EINVAL, -ENOSPC, -EPERM: as for the function
// of that change; what the batch puts in must find room before what it takes out leaves; and what happens to the connection, as
// for `altmap_get`.
//
// # Safety
// `handle` is NULL or open, and in use by no other thread; `failed` is NULL or writable.
int altmap_batch_commit(struct altmap *handle,
                        size_t *failed);

// Ends a batch without any of its changes.
//
// -EINVAL: a NULL, or no batch.
//
// # Safety
// `handle` is NULL or open, and in use by no other thread.
int altmap_batch_abort(struct altmap *handle);

// Has events told from now on: those whose bit `1 << ALTMAP_OP_*` is set in `ops`, inside `only` if that is not NULL. It
// replaces what was subscribed to before; `ops` 0 ends it. What this handle does itself is not told.
//
// `miss_detail` is 0: a MISS has the EID, and the packet's source; 1: the packet's IP header too, and the 8 octets behind it; 2: the
// packet, as far as workers have handed it over.
//
// -EINVAL: `ops` has a bit that is no event, `only` is none, or `miss_detail` is not 0 to 2; -EPERM: `miss_detail` 2, and this
// client may only read.
//
// # Safety
// `handle` is NULL or open, and in use by no other thread; `only` is NULL or readable.
int altmap_subscribe(struct altmap *handle,
                     uint32_t ops,
                     int miss_detail,
                     const struct altmap_eid *only);

// As `altmap_subscribe`, with a choice of tables: has events told that one of `n` filters takes. It replaces what was subscribed
// to before; `n` 0 ends it. With ALTMAP_ECHO_ME in `flags` what this handle does itself is told, too: whoever empties a table and
// follows it by events sees so where that began.
//
// Before the call, `filters[0].size` is set to `sizeof(altmap_filter)`; so large is each. No pointer is kept.
//
// -EINVAL: a NULL, more than ALTMAP_FILTERS_MAX, another flag, or a filter that is none; -EAFNOSUPPORT: `only.afi` is none of
// ALTMAP_AFI_*; -EPERM: `miss_detail` 2, and this client may only read. What was subscribed to before holds then.
//
// # Safety
// `handle` is NULL or open, and in use by no other thread; `filters` is NULL or `n` filters of `filters[0].size` octets each that are
// readable.
int altmap_subscribe_to(struct altmap *handle,
                        const struct altmap_filter *filters,
                        size_t n,
                        uint32_t flags);

// The descriptor of the connection, for poll or epoll: when it is readable, call `altmap_next` with 0 until it says -EAGAIN. It
// stays the library's: not to be closed, read or written. After another call than `altmap_next`, events may wait that
// the descriptor does not tell of: call `altmap_next` first.
//
// -EINVAL: a NULL; -ENOTCONN: the connection was lost.
//
// # Safety
// `handle` is NULL or open, and in use by no other thread.
int altmap_fd(const struct altmap *handle);

// Takes the next event, waiting at most `timeout_ms` milliseconds for it; for ever if that is negative.
//
// Before the call, `event->size` is set to `sizeof(altmap_event)`. On 0 `*event` is written; what its pointers lead to is
// valid until the next call with this handle.
//
// -EAGAIN: there was none in that time; -EINVAL: a NULL, or a `size` that is none; and what happens to the connection, as for
// `altmap_get`.
//
// # Safety
// `handle` is NULL or open, and in use by no other thread; `event` is NULL or writable, with its `size` set.
int altmap_next(struct altmap *handle,
                struct altmap_event *event,
                int timeout_ms);

// Makes what one thread needs to hand packets over, and puts it into `*out`.
//
// `*out` is written on 0 and only then, and is the caller's until `altitude_thread_free`. Any thread may call.
//
// -EINVAL: a NULL; -EBUSY: the table has as many threads as it was made for.
//
// # Safety
// `table` is NULL or from `altitude_table_new`; `out` is NULL or writable.
int altitude_thread_new(struct altitude_table *table, struct altitude_thread **out);

// Gives it up; NULL is allowed and does nothing. The table may be given up before.
//
// # Safety
// `thread` is NULL or from `altitude_thread_new`, not freed yet, and in use by no other thread.
void altitude_thread_free(struct altitude_thread *thread);

// Says that this thread hands no packet over for a while. To be called before it sleeps or waits: until then, or until its next
// packet, the table keeps the memory of all that is taken out or replaced, and refuses changes in the end (-ENOSPC). Its next packet
// ends that by itself. NULL is allowed and does nothing.
//
// # Safety
// `thread` is NULL or from `altitude_thread_new`, and in use by no other thread.
void altitude_quiescent(struct altitude_thread *thread);

// Encapsulates an IP packet that came from a site: looks its addresses up, chooses an RLOC by its flow, takes one hop off, and
// writes outer IP, UDP and LISP headers in front of it. All fields of `*packet` that are written are written on 0; nothing is on
// an error. Does not block, lock or allocate.
//
// -EINVAL: a NULL, a `size` that is none, a packet beyond its memory, or an `iid` of more than 24 bits; -EMSGSIZE: it is longer than
// ALTITUDE_PACKET_MAX.
//
// # Safety
// `thread` is NULL or from `altitude_thread_new`, and in use by no other thread; `packet` is NULL or writable, with its `size` set;
// `packet->memory` is NULL or has `capacity` octets, of which nobody else uses the packet's and the ALTITUDE_HEADROOM in front of it,
// as far as there are, meanwhile.
int altitude_lisp_output(struct altitude_thread *thread,
                         struct altitude_packet *packet);

// Decapsulates an IP packet that came from the core: checks its headers and addresses, takes the outer ones off, and gives the
// inner one their ECN, DSCP and TTL. As `altitude_lisp_output` for the rest; `iid` is written.
//
// # Safety
// As for `altitude_lisp_output`.
int altitude_lisp_input(struct altitude_thread *thread,
                        struct altitude_packet *packet);

// The name of a reason, as `altitude show counters` has it, or "none" for 0 and "unknown" beyond. The text is never freed. Any
// thread may call.
const char *altitude_reason_name(uint16_t reason);

// The name of a verdict: "send", "native", "miss", "split", "drop", or "unknown". The text is static. Any thread may call.
const char *altitude_verdict_name(uint8_t verdict);

// Makes an empty table, and puts it into `*out`.
//
// `*out` is written on 0 and only then, and is the caller's until `altitude_table_free`. No pointer is kept. Any thread may call.
//
// -EINVAL: a NULL, a `size`, RLOC or `source_check` that is none, no RLOC or thread, more of either or a larger `capacity` than
// may be; -EAFNOSUPPORT: an `afi` is none of ALTMAP_AFI_*.
//
// # Safety
// `config` is NULL or a config of `config->size` octets whose `rlocs` are `nrloc` RLOCs of `rlocs[0].size` octets each; `out` is
// NULL or writable.
int altitude_table_new(const struct altitude_config *config,
                       struct altitude_table **out);

// Gives a table up; NULL is allowed and does nothing. Its memory is freed with its last thread's.
//
// # Safety
// `table` is NULL or from `altitude_table_new`, not freed yet, and in use by no other thread.
void altitude_table_free(struct altitude_table *table);

// Puts a mapping in, or in the place of the one of exactly this prefix, whose hits stay. `entry` and `rlocs` as for `altmap_add`,
// but that a mapping stays until it is taken out: `ttl_s` is not looked at, nor ALTMAP_EPHEMERAL. Packets see it at once.
//
// -EINVAL: a NULL, a `size`, EID, RLOC or `act` that is none, RLOCs and ALTMAP_NEGATIVE together or neither, a prefix inside one of
// our own, an RLOC inside the prefix; -ENOSPC: the table is full, or a thread has neither handed a packet over nor called
// `altitude_quiescent` for so long that no memory can be used anew; there is no mapping of the prefix then.
//
// # Safety
// `table` is NULL or from `altitude_table_new`; the rest as for `altmap_add`.
int altitude_table_put(struct altitude_table *table,
                       const struct altmap_eid *eid,
                       const struct altmap_entry *entry,
                       const struct altmap_rloc *rlocs,
                       size_t n);

// Takes the mapping of exactly this prefix out. Packets see it at once.
//
// -ENOENT: there is none; -EINVAL: a NULL, or an EID that is none; -EAFNOSUPPORT as for `altitude_table_new`.
//
// # Safety
// `table` is NULL or from `altitude_table_new`; `eid` is NULL or readable.
int altitude_table_delete(struct altitude_table *table, const struct altmap_eid *eid);

// Makes an EID-prefix one of ours (`ours` is not 0): packets from it are encapsulated, packets to it come out of tunnels. Or takes
// that back.
//
// -ENOENT: it is none of ours; -EINVAL: a NULL, an EID that is none, or a prefix that has a mapping, or one inside it; -ENOSPC as for
// `altitude_table_put`.
//
// # Safety
// As for `altitude_table_delete`.
int altitude_table_own(struct altitude_table *table,
                       const struct altmap_eid *eid,
                       int ours);

// Says that a locator can be reached (`up` is not 0), as all can at first, or that it cannot: the mappings that have it use
// others. `addr` has 4 or 16 octets.
//
// -EINVAL: a NULL; -EAFNOSUPPORT: `afi` is none of ALTMAP_AFI_*; -ENOSPC as for `altitude_table_put`, but that it is known from
// now on, and takes effect with a later call that changes the table.
//
// # Safety
// `table` is NULL or from `altitude_table_new`; `addr` is NULL or readable for the octets of its family.
int altitude_table_reach(struct altitude_table *table,
                         uint16_t afi,
                         const uint8_t *addr,
                         int up);

// Packets that used the mapping, or the EID-prefix of our own, of exactly this prefix, and their inner octets, of all threads. May
// lag behind them. `packets` and `octets` are written on 0 and only then.
//
// -ENOENT: there is none; -EINVAL: a NULL, or an EID that is none.
//
// # Safety
// As for `altitude_table_delete`; `packets` and `octets` are NULL or writable.
int altitude_table_hits(struct altitude_table *table,
                        const struct altmap_eid *eid,
                        uint64_t *packets,
                        uint64_t *octets);

// What all threads of a table, also those given up, have counted so far under a stable name: "encapsulated", "decapsulated",
// "missed", or a reason's. May lag behind them. `*out` is written on 0 and only then.
//
// -ENOENT: there is no such counter; -EINVAL: a NULL.
//
// # Safety
// `table` is NULL or from `altitude_table_new`; `name` is NULL or a string that ends with a NUL; `out` is NULL or writable.
int altitude_table_count(const struct altitude_table *table,
                         const char *name,
                         uint64_t *out);

// Puts a mapping into a table; fails if exactly this prefix is there.
//
// Of `entry`, `size`, `version`, `flags`, `ttl_s` and `act` are read: `ttl_s` seconds is how long it stays, 0 until it is taken
// out; with ALTMAP_NEGATIVE there are no RLOCs and `act` is done; with ALTMAP_EPHEMERAL it goes when the handle is closed
// or the program dies. NULL stands for a mapping with RLOCs that stays. Of each RLOC, `size` (of the first), `afi`, `addr`, `prio`,
// `weight`, `mprio`, `mweight` and the flags ALTMAP_RLOC_REACHABLE, without which it is not used, and ALTMAP_RLOC_LOCAL
// are read. No pointer is kept. Blocks at most 5 seconds for each message.
//
// In ALTMAP_DATABASE it is one of the router's own mappings from then on: registered, answered for and announced as if its
// configuration named it. `ttl_s` is then its Record TTL, 0 a day. It has RLOCs, one of them the router's unless
// ALTMAP_FOREIGN, and is checked as the configuration is. When the configuration is read again, what that names is as it says.
//
// -EEXIST: it is there, altmap_change replaces it; -EINVAL: a NULL, a `size`, EID, RLOC or `act` that is none, RLOCs and
// ALTMAP_NEGATIVE together or neither, an EID of the map-cache that is the router's own, a mapping of the router's own that its
// configuration could not have either; -ENOSPC: the table is full; -EPERM: this client may only read; and what happens to the
// connection, as for `altmap_get`.
//
// # Safety
// `handle` is NULL or open, and in use by no other thread; `eid` is NULL or readable; `entry` is NULL or an entry of
// `entry->size` octets; `rlocs` is NULL or `n` RLOCs of `rlocs[0].size` octets each.
int altmap_add(struct altmap *handle,
               int table,
               const struct altmap_eid *eid,
               const struct altmap_entry *entry,
               const struct altmap_rloc *rlocs,
               size_t n);

// Replaces the mapping of exactly this prefix, whose counters stay. As `altmap_add` for the rest.
//
// `must_gen` is 0, or the `gen` of an entry that `altmap_get` or `altmap_dump` gave: then -EAGAIN if the mapping has changed
// since. The `gen` in an event is no such number.
//
// -ENOENT: there is none.
//
// # Safety
// As for `altmap_add`.
int altmap_change(struct altmap *handle,
                  int table,
                  const struct altmap_eid *eid,
                  const struct altmap_entry *entry,
                  const struct altmap_rloc *rlocs,
                  size_t n,
                  uint64_t must_gen);

// Takes the mapping of exactly this prefix out of a table.
//
// -ENOENT: there is none; -EINVAL: a NULL, a table or EID that is none; -EPERM as for `altmap_add`.
//
// # Safety
// `handle` is NULL or open, and in use by no other thread; `eid` is NULL or readable.
int altmap_delete(struct altmap *handle, int table, const struct altmap_eid *eid);

// Takes all mappings out of a table, static ones and those of NAT traversal only if `all` is not 0. What comes into it meanwhile may go too. Of ALTMAP_DATABASE
// it undoes what clients made: what they put in leaves, what they changed is as the configuration says. Blocks until it is
// done, or until 60 seconds went by without any message, which costs the connection.
//
// -EINVAL: a NULL, or a table that is none; -EOPNOTSUPP: `all` of ALTMAP_DATABASE; -EPERM as for `altmap_add`.
//
// # Safety
// `handle` is NULL or open, and in use by no other thread.
int altmap_flush(struct altmap *handle,
                 int table,
                 int all);

// Takes a locator out of use in every mapping that has it (`up` is 0), or takes that back. `addr` has 4 or 16 octets.
//
// -ENOENT: no mapping has it; -EINVAL: a NULL; -EAFNOSUPPORT: `afi` is none of ALTMAP_AFI_*; -ENOSPC: as many locators are out
// of use as may be; -EPERM as for `altmap_add`.
//
// # Safety
// `handle` is NULL or open, and in use by no other thread; `addr` is NULL or readable for the octets of its family.
int altmap_reach(struct altmap *handle,
                 uint16_t afi,
                 const uint8_t *addr,
                 int up);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* ALTITUDE_H */
