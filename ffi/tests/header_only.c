/* Compiled as C and as C++: the header needs no other before it, and may be there twice. */
#include "altitude.h"
#include "altitude.h"

/* ABI 1: these numbers never change. */
#ifdef __cplusplus
#define SAME(what, number) static_assert((what) == (number), #what)
#else
#define SAME(what, number) _Static_assert((what) == (number), #what)
#endif

SAME(ALTMAP_ABI, 1);
SAME(sizeof(altmap_eid), 24);
SAME(offsetof(altmap_eid, iid), 4);
SAME(offsetof(altmap_eid, addr), 8);
SAME(sizeof(altmap_rloc), 64);
SAME(offsetof(altmap_rloc, addr), 4);
SAME(offsetof(altmap_rloc, prio), 20);
SAME(offsetof(altmap_rloc, flags), 24);
SAME(offsetof(altmap_rloc, packets), 40);
SAME(offsetof(altmap_rloc, rx_nonce), 60);
SAME(offsetof(altmap_event, suppressed), 92);
SAME(offsetof(altmap_event, packet), 96);
SAME(offsetof(altmap_event, table), 120);
SAME(sizeof(altmap_event), 128);
SAME(sizeof(altmap_filter), 40);
SAME(offsetof(altmap_filter, ops), 4);
SAME(offsetof(altmap_filter, table), 8);
SAME(offsetof(altmap_filter, only), 16);
SAME(sizeof(altitude_config), 32);
SAME(offsetof(altitude_config, source_check), 6);
SAME(offsetof(altitude_config, capacity), 8);
SAME(offsetof(altitude_config, rlocs), 24);
SAME(sizeof(altitude_packet), 96);
SAME(offsetof(altitude_packet, verdict), 2);
SAME(offsetof(altitude_packet, reason), 4);
SAME(offsetof(altitude_packet, iid), 8);
SAME(offsetof(altitude_packet, memory), 16);
SAME(offsetof(altitude_packet, start), 32);
SAME(offsetof(altitude_packet, eid), 48);
SAME(offsetof(altitude_packet, from), 72);
SAME(sizeof(altmap_entry), 88);
SAME(offsetof(altmap_entry, flags), 4);
SAME(offsetof(altmap_entry, act), 12);
SAME(offsetof(altmap_entry, nrloc), 14);
SAME(offsetof(altmap_entry, gen), 16);
SAME(offsetof(altmap_entry, left_s), 56);
SAME(offsetof(altmap_entry, eid), 64);
