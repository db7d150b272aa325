/*
 * altitude.h: the mapping API of Altitude for C, part 1: reading. Adding, changing and hearing of mappings comes with a
 * later part, as functions of their own.
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

// AFI of an IPv4 address: the first 4 octets of `addr`.
#define ALTMAP_AFI_IPV4 1

// AFI of an IPv6 address.
#define ALTMAP_AFI_IPV6 2

// `plen` of an EID that has none: all bits of the address, so the longest match.
#define ALTMAP_HOST 255

// Flag of an entry: no RLOCs; `act` says what is done.
#define ALTMAP_NEGATIVE 1

// Flag of an entry: an ETR of the site itself said so.
#define ALTMAP_AUTHORITATIVE 2

// Flag of an RLOC: packets can be sent to it now.
#define ALTMAP_RLOC_UP 1

// Flag of an RLOC: one of the router's own interfaces.
#define ALTMAP_RLOC_LIF 2

// Flag of an RLOC: reachable, as its record says (R).
#define ALTMAP_RLOC_REACHABLE 16

// Flag of an RLOC: of the ETR that sent the record (L).
#define ALTMAP_RLOC_LOCAL 32

// Origin: the operator.
#define ALTMAP_ORIGIN_STATIC 1

// Origin: a Map-Reply.
#define ALTMAP_ORIGIN_MAP_REPLY 2

// Origin: nobody answered; this stops asking for a while.
#define ALTMAP_ORIGIN_GIVEN_UP 128

// `left_s` of an entry that stays.
#define ALTMAP_STAYS UINT32_MAX

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
// The entries are of one moment. If the table changes meanwhile, `gen` of the next answer is larger.
//
// -EINVAL: a NULL other than `user`, or a table that is none; and what happens to the connection, as for `altmap_get`.
//
// # Safety
// `handle` is NULL or open, and in use by no other thread; `visit` is NULL or can be called with `user`.
int altmap_dump(struct altmap *handle, int table, altmap_visit visit, void *user);

// The library's version, for people. The text is static: never freed.
const char *altmap_version(void);

// What a result means, for people: 0 or a negative error number. The text is static: never freed. Any thread may call.
const char *altmap_strerror(int result);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* ALTITUDE_H */
