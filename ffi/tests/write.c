/* write SOCKET: changes a router's map-cache with one handle, and hears of it with another. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "altitude.h"

static int failures;

static void check(long found, long expected, const char *what, int line) {
    if (found != expected) {
        printf("line %d: %s is %ld and not %ld\n", line, what, found, expected);
        failures++;
    }
}
#define CHECK(what, expected) check((long)(what), (long)(expected), #what, __LINE__)

/* As later headers may have them. */
struct newer_rloc {
    altmap_rloc known;
    uint64_t more;
};
struct newer_event {
    altmap_event known;
    uint64_t more;
};

static const altmap_eid place = {.afi = ALTMAP_AFI_IPV4, .plen = 16, .addr = {9, 9}};
static altmap *writer, *listener;

static altmap_rloc rloc(uint8_t last) {
    return (altmap_rloc){.size = sizeof(altmap_rloc),
                         .afi = ALTMAP_AFI_IPV4,
                         .addr = {240, 0, 254, last},
                         .prio = 1,
                         .weight = 50,
                         .mprio = 255,
                         .flags = ALTMAP_RLOC_REACHABLE};
}

static altmap_event next(int line) {
    altmap_event event = {.size = sizeof event};
    struct pollfd source = {.fd = altmap_fd(listener), .events = POLLIN};
    check(poll(&source, 1, 5000), 1, "an event to read", line);
    check(altmap_next(listener, &event, 5000), 0, "an event", line);
    return event;
}

static void changing(void) {
    altmap_entry entry = {.size = sizeof entry, .ttl_s = 90, .version = 7, .flags = ALTMAP_EPHEMERAL};
    altmap_rloc rlocs[2] = {rloc(20), rloc(21)};
    CHECK(altmap_add(writer, ALTMAP_CACHE, &place, &entry, rlocs, 2), 0);
    altmap_event event = next(__LINE__);
    CHECK(event.op, ALTMAP_OP_ADD);
    CHECK(event.gen, 43);
    CHECK(event.flags, 0);
    CHECK(memcmp(&event.eid, &place, sizeof place), 0);
    CHECK(event.entry->origin, ALTMAP_ORIGIN_API);
    CHECK(event.entry->flags, ALTMAP_EPHEMERAL);
    CHECK(event.entry->left_s, 90);
    CHECK(event.entry->version, 7);
    CHECK(event.nrloc, 2);
    CHECK(event.rlocs[1].addr[3], 21);
    CHECK(event.rlocs[1].weight, 50);
    CHECK(event.rlocs[1].flags, ALTMAP_RLOC_UP | ALTMAP_RLOC_REACHABLE);
    CHECK(altmap_add(writer, ALTMAP_CACHE, &place, &entry, rlocs, 2), -EEXIST);

    /* Larger structs, as of a newer header: each is as large as the first says. */
    struct newer_rloc newer[2];
    memset(newer, 0xff, sizeof newer);
    newer[0].known = rloc(30);
    newer[1].known = rloc(31);
    newer[0].known.size = sizeof newer[0];
    CHECK(altmap_change(writer, ALTMAP_CACHE, &place, NULL, &newer[0].known, 2, 0), 0);
    struct newer_event wide = {.known = {.size = sizeof wide}, .more = 5};
    CHECK(altmap_next(listener, &wide.known, 5000), 0);
    CHECK(wide.known.op, ALTMAP_OP_CHANGE);
    CHECK(wide.known.size, sizeof wide);
    CHECK(wide.known.rlocs[1].addr[3], 31);
    CHECK(wide.more, 0);
    CHECK(altmap_change(writer, ALTMAP_CACHE, &place, NULL, rlocs, 2, 41), -EAGAIN);
    altmap_eid nowhere = {.afi = ALTMAP_AFI_IPV6, .plen = 16, .addr = {9, 9}};
    CHECK(altmap_change(writer, ALTMAP_CACHE, &nowhere, NULL, rlocs, 2, 0), -ENOENT);

    altmap_entry hole = {.size = sizeof hole, .flags = ALTMAP_NEGATIVE, .act = 3};
    CHECK(altmap_change(writer, ALTMAP_CACHE, &place, &hole, NULL, 0, 0), 0);
    event = next(__LINE__);
    CHECK(event.entry->act, 3);
    CHECK(event.entry->flags, ALTMAP_NEGATIVE);
    CHECK(event.nrloc, 0);
    CHECK(event.rlocs == NULL, 1);

    CHECK(altmap_delete(writer, ALTMAP_CACHE, &place), 0);
    event = next(__LINE__);
    CHECK(event.op, ALTMAP_OP_DELETE);
    CHECK(event.entry == NULL, 1);
    CHECK(altmap_delete(writer, ALTMAP_CACHE, &place), -ENOENT);
    altmap_eid brief = {.afi = ALTMAP_AFI_IPV4, .plen = 24, .addr = {2, 2, 9}};
    CHECK(altmap_delete(writer, ALTMAP_CACHE, &brief), 0);
    CHECK(next(__LINE__).flags, ALTMAP_EVENT_EXPIRED);
}

static void batching(void) {
    altmap_eid eid = {.afi = ALTMAP_AFI_IPV4, .plen = 16, .addr = {7, 1}}, gone = place;
    altmap_rloc one = rloc(20);
    size_t failed = 99;
    gone.addr[0] = 8;
    CHECK(altmap_batch_commit(writer, &failed), -EINVAL);
    CHECK(altmap_batch_abort(writer), -EINVAL);
    CHECK(altmap_batch_begin(NULL), -EINVAL);
    CHECK(altmap_batch_begin(writer), 0);
    CHECK(altmap_batch_begin(writer), -EBUSY);
    CHECK(altmap_add(writer, ALTMAP_CACHE, &eid, NULL, &one, 1), 0);
    CHECK(altmap_add(writer, ALTMAP_CACHE, &eid, NULL, NULL, 1), -EINVAL); /* is no part of it */
    CHECK(altmap_change(writer, ALTMAP_CACHE, &eid, NULL, &one, 1, 0), 0);
    CHECK(altmap_delete(writer, ALTMAP_CACHE, &gone), 0);
    /* Nothing is there yet. */
    altmap_entry entry = {.size = sizeof entry};
    size_t n = 0;
    CHECK(altmap_get(writer, ALTMAP_CACHE, &eid, &entry, NULL, &n), -ENOENT);
    CHECK(altmap_batch_commit(writer, &failed), -ENOENT);
    CHECK(failed, 2);
    CHECK(altmap_batch_commit(writer, NULL), -EINVAL);
    CHECK(altmap_get(writer, ALTMAP_CACHE, &eid, &entry, NULL, &n), -ENOENT);
    altmap_event event = {.size = sizeof event};
    CHECK(altmap_next(listener, &event, 0), -EAGAIN);

    CHECK(altmap_batch_begin(writer), 0);
    CHECK(altmap_batch_commit(writer, NULL), 0);
    CHECK(altmap_batch_begin(writer), 0);
    CHECK(altmap_add(writer, ALTMAP_CACHE, &eid, NULL, &one, 1), 0);
    CHECK(altmap_batch_abort(writer), 0);
    /* As many as there may be, which do not fit into the socket at once; then all of them out again. */
    for (int out = 0; out < 2; out++) {
        CHECK(altmap_batch_begin(writer), 0);
        for (int i = 0; i < ALTMAP_BATCH_MAX; i++) {
            eid.addr[1] = (uint8_t)i;
            if (out)
                CHECK(altmap_delete(writer, ALTMAP_CACHE, &eid), 0);
            else
                CHECK(altmap_add(writer, ALTMAP_CACHE, &eid, NULL, &one, 1), 0);
        }
        CHECK(altmap_delete(writer, ALTMAP_CACHE, &eid), -ENOSPC);
        CHECK(altmap_batch_commit(writer, &failed), 0);
        for (int i = 0; i < ALTMAP_BATCH_MAX; i++) {
            event = next(__LINE__);
            CHECK(event.op, out ? ALTMAP_OP_DELETE : ALTMAP_OP_ADD);
            CHECK(event.eid.addr[1], i);
        }
    }
    CHECK(failed, 2);
}

/* The router's own mappings. */
static void owning(void) {
    altmap_entry entry = {.size = sizeof entry, .flags = ALTMAP_EPHEMERAL | ALTMAP_FOREIGN};
    altmap_rloc one = rloc(20);
    altmap_eid nowhere = {.afi = ALTMAP_AFI_IPV4, .plen = 16, .addr = {9, 8}};
    size_t n = 0, failed = 99;
    CHECK(altmap_add(writer, ALTMAP_DATABASE, &place, &entry, &one, 1), 0);
    altmap_event event = next(__LINE__);
    CHECK(event.op, ALTMAP_OP_ADD);
    CHECK(event.entry->origin, ALTMAP_ORIGIN_API);
    CHECK(event.entry->left_s, ALTMAP_STAYS);
    CHECK(altmap_add(writer, ALTMAP_DATABASE, &place, NULL, &one, 1), -EEXIST);
    CHECK(altmap_get(writer, ALTMAP_CACHE, &place, &entry, NULL, &n), -ENOENT);
    n = 1;
    CHECK(altmap_get(writer, ALTMAP_DATABASE, &place, &entry, &one, &n), 0);
    CHECK(altmap_change(writer, ALTMAP_DATABASE, &place, NULL, &one, 1, 41), -EAGAIN);
    CHECK(altmap_change(writer, ALTMAP_DATABASE, &nowhere, NULL, &one, 1, 0), -ENOENT);
    CHECK(altmap_change(writer, ALTMAP_DATABASE, &place, NULL, &one, 1, 0), 0);
    CHECK(next(__LINE__).op, ALTMAP_OP_CHANGE);
    entry = (altmap_entry){.size = sizeof entry, .flags = ALTMAP_NEGATIVE};
    CHECK(altmap_batch_begin(writer), 0);
    CHECK(altmap_add(writer, ALTMAP_DATABASE, &nowhere, NULL, &one, 1), 0);
    CHECK(altmap_delete(writer, ALTMAP_CACHE, &place), 0);
    CHECK(altmap_batch_commit(writer, &failed), -EINVAL); /* two tables */
    CHECK(failed, 1);
    CHECK(altmap_batch_begin(writer), 0);
    CHECK(altmap_add(writer, ALTMAP_DATABASE, &nowhere, NULL, &one, 1), 0);
    CHECK(altmap_delete(writer, ALTMAP_DATABASE, &place), 0);
    CHECK(altmap_batch_commit(writer, &failed), 0);
    CHECK(next(__LINE__).op, ALTMAP_OP_ADD);
    CHECK(next(__LINE__).op, ALTMAP_OP_DELETE);
    CHECK(altmap_delete(writer, ALTMAP_DATABASE, &nowhere), 0);
    CHECK(next(__LINE__).op, ALTMAP_OP_DELETE);
    CHECK(altmap_delete(writer, ALTMAP_DATABASE, &nowhere), -ENOENT);
}

static void judging(void) {
    const uint8_t v4[4] = {240, 0, 254, 20};
    CHECK(altmap_reach(writer, ALTMAP_AFI_IPV4, v4, 0), 0);
    altmap_event event = next(__LINE__);
    CHECK(event.op, ALTMAP_OP_BADREACH);
    CHECK(event.reason, 6);
    CHECK(event.nrloc, 1);
    CHECK(event.rlocs[0].flags & ALTMAP_RLOC_BAD, ALTMAP_RLOC_BAD);
    CHECK(event.rlocs[0].rtt_us, 1500);
    CHECK(memcmp(event.rlocs[0].addr, v4, 4), 0);
    CHECK(event.eid.afi, 0);
    const uint8_t v6[16] = {0x20, 1, 0xd, 0xb8};
    CHECK(altmap_reach(writer, ALTMAP_AFI_IPV6, v6, 1), 0);
    event = next(__LINE__);
    CHECK(event.op, ALTMAP_OP_REACH);
    CHECK(event.rlocs[0].afi, ALTMAP_AFI_IPV6);
    CHECK(altmap_reach(writer, 3, v6, 1), -EAFNOSUPPORT);
    CHECK(altmap_reach(writer, ALTMAP_AFI_IPV4, NULL, 1), -EINVAL);
}

static void missing(void) {
    altmap_eid wanted = {.afi = ALTMAP_AFI_IPV4, .plen = 32, .addr = {66, 1, 1, 1}};
    altmap_rloc one = rloc(20);
    CHECK(altmap_add(writer, ALTMAP_CACHE, &wanted, NULL, &one, 1), 0);
    altmap_event event = next(__LINE__);
    CHECK(event.op, ALTMAP_OP_MISS);
    CHECK(event.reason, ALTMAP_MISS_NO_ENTRY);
    CHECK(event.suppressed, 7);
    CHECK(memcmp(&event.eid, &wanted, sizeof wanted), 0);
    CHECK(event.from.addr[3], 1);
    CHECK(event.from.plen, 32);
    CHECK(event.packet == NULL, 1);
    CHECK(event.packet_len, 0);

    /* As much of the packet as asked for; its header has 20 octets. */
    const size_t shown[3] = {0, 28, 32};
    for (int detail = 1; detail < 3; detail++) {
        CHECK(altmap_subscribe(listener, 1u << ALTMAP_OP_MISS, detail, NULL), 0);
        wanted.addr[2] = (uint8_t)(detail + 1);
        CHECK(altmap_add(writer, ALTMAP_CACHE, &wanted, NULL, &one, 1), 0);
        event = next(__LINE__);
        CHECK(event.packet_len, shown[detail]);
        CHECK(event.packet[0], 0x45);
        CHECK(event.packet[event.packet_len - 1], 7);
    }
    /* A program that was compiled before packets came with events: nothing is written behind its struct. */
    struct {
        _Alignas(altmap_event) uint8_t event[offsetof(altmap_event, packet)];
        uint64_t behind;
    } older = {.behind = 7};
    wanted.addr[2] = 9;
    CHECK(altmap_add(writer, ALTMAP_CACHE, &wanted, NULL, &one, 1), 0);
    uint16_t size = offsetof(altmap_event, packet), op;
    memcpy(older.event, &size, sizeof size);
    CHECK(altmap_next(listener, (altmap_event *)(void *)&older, 5000), 0);
    memcpy(&op, older.event + offsetof(altmap_event, op), sizeof op);
    CHECK(op, ALTMAP_OP_MISS);
    CHECK(older.behind, 7);

    /* Only what is subscribed to comes, in order with the answers of the same handle. */
    CHECK(altmap_subscribe(listener, 1u << ALTMAP_OP_FLUSH, 0, NULL), 0);
    wanted.addr[3] = 2;
    CHECK(altmap_add(writer, ALTMAP_CACHE, &wanted, NULL, &one, 1), 0);
    CHECK(altmap_flush(writer, ALTMAP_CACHE, 1), 0);
    altmap_entry entry = {.size = sizeof entry};
    size_t n = 0;
    CHECK(altmap_get(listener, ALTMAP_CACHE, &place, &entry, NULL, &n), -ENOENT);
    event.size = sizeof event;
    CHECK(altmap_next(listener, &event, 5000), 0);
    CHECK(event.op, ALTMAP_OP_FLUSH);
    CHECK(event.flags, ALTMAP_EVENT_ALL);
    CHECK(altmap_next(listener, &event, 0), -EAGAIN);
    CHECK(altmap_subscribe(listener, 0, 0, NULL), 0);
    CHECK(altmap_flush(writer, ALTMAP_CACHE, 0), 0);
    CHECK(altmap_next(listener, &event, 0), -EAGAIN);
}

/* What one table has told, of two that change alike. */
static void choosing(void) {
    const uint32_t changes = 1u << ALTMAP_OP_ADD | 1u << ALTMAP_OP_DELETE | 1u << ALTMAP_OP_BADREACH;
    /* As of a newer header; what is behind the known part is left unread. */
    struct {
        altmap_filter known;
        uint64_t more;
    } filters[2];
    const int32_t tables[3] = {ALTMAP_CACHE, ALTMAP_DATABASE, ALTMAP_BOTH};
    const uint8_t v4[4] = {240, 0, 254, 20};
    altmap_eid inside = place, outside = place;
    altmap_rloc one = rloc(20);
    altmap_event event;
    inside.addr[0] = 12, outside.addr[0] = 13;
    memset(filters, 0, sizeof filters);
    filters[0].more = filters[1].more = UINT64_MAX;
    for (int at = 0; at < 3; at++) {
        filters[0].known = (altmap_filter){.size = sizeof filters[0], .ops = changes, .table = tables[at], .only = inside};
        CHECK(altmap_subscribe_to(listener, &filters[0].known, 1, 0), 0);
        for (int table = ALTMAP_CACHE; table <= ALTMAP_DATABASE; table++) {
            CHECK(altmap_add(writer, table, &outside, NULL, &one, 1), 0);
            CHECK(altmap_add(writer, table, &inside, NULL, &one, 1), 0);
            CHECK(altmap_delete(writer, table, &inside), 0);
            CHECK(altmap_delete(writer, table, &outside), 0);
            if (tables[at] != ALTMAP_BOTH && tables[at] != table)
                continue;
            event = next(__LINE__);
            CHECK(event.op, ALTMAP_OP_ADD);
            CHECK(event.table, table);
            CHECK(event.eid.addr[0], 12);
            event = next(__LINE__);
            CHECK(event.op, ALTMAP_OP_DELETE);
            CHECK(event.table, table);
        }
        CHECK(altmap_reach(writer, ALTMAP_AFI_IPV4, v4, 0), 0);
        event = next(__LINE__);
        CHECK(event.op, ALTMAP_OP_BADREACH);
        CHECK(event.table, ALTMAP_NO_TABLE);
    }
    /* Two filters; and what the handle does itself. */
    filters[0].known.table = ALTMAP_CACHE;
    filters[0].known.only = (altmap_eid){.afi = 0};
    filters[1].known = filters[0].known;
    filters[1].known.table = ALTMAP_DATABASE;
    filters[1].known.ops = 1u << ALTMAP_OP_DELETE;
    CHECK(altmap_subscribe_to(listener, &filters[0].known, 2, ALTMAP_ECHO_ME), 0);
    CHECK(altmap_add(listener, ALTMAP_CACHE, &outside, NULL, &one, 1), 0);
    CHECK(altmap_add(listener, ALTMAP_DATABASE, &outside, NULL, &one, 1), 0);
    CHECK(altmap_delete(listener, ALTMAP_DATABASE, &outside), 0);
    CHECK(altmap_delete(listener, ALTMAP_CACHE, &outside), 0);
    const uint16_t ops[3] = {ALTMAP_OP_ADD, ALTMAP_OP_DELETE, ALTMAP_OP_DELETE};
    const int32_t of[3] = {ALTMAP_CACHE, ALTMAP_DATABASE, ALTMAP_CACHE};
    for (int at = 0; at < 3; at++) {
        event.size = sizeof event;
        CHECK(altmap_next(listener, &event, 5000), 0);
        CHECK(event.op, ops[at]);
        CHECK(event.table, of[at]);
    }
    CHECK(altmap_next(listener, &event, 0), -EAGAIN);

    altmap_filter one_filter = {.size = sizeof one_filter, .ops = changes};
    CHECK(altmap_subscribe_to(NULL, &one_filter, 1, 0), -EINVAL);
    CHECK(altmap_subscribe_to(listener, NULL, 1, 0), -EINVAL);
    CHECK(altmap_subscribe_to(listener, &one_filter, ALTMAP_FILTERS_MAX + 1, 0), -EINVAL);
    CHECK(altmap_subscribe_to(listener, &one_filter, 1, 1), -EINVAL);
    one_filter.table = 3;
    CHECK(altmap_subscribe_to(listener, &one_filter, 1, 0), -EINVAL);
    one_filter.table = 0, one_filter.ops = 0;
    CHECK(altmap_subscribe_to(listener, &one_filter, 1, 0), -EINVAL);
    one_filter.ops = 1u << 4;
    CHECK(altmap_subscribe_to(listener, &one_filter, 1, 0), -EINVAL);
    one_filter.ops = changes, one_filter.miss_detail = 3;
    CHECK(altmap_subscribe_to(listener, &one_filter, 1, 0), -EINVAL);
    one_filter.miss_detail = 0, one_filter.only.iid = 7;
    CHECK(altmap_subscribe_to(listener, &one_filter, 1, 0), -EAFNOSUPPORT);
    one_filter.only.iid = 0, one_filter.size = 8;
    CHECK(altmap_subscribe_to(listener, &one_filter, 1, 0), -EINVAL);
    CHECK(altmap_subscribe_to(listener, NULL, 0, 0), 0);
    CHECK(altmap_add(writer, ALTMAP_CACHE, &outside, NULL, &one, 1), 0);
    CHECK(altmap_next(listener, &event, 0), -EAGAIN);
    CHECK(altmap_delete(writer, ALTMAP_CACHE, &outside), 0);
}

static void refusals(void) {
    altmap_entry entry = {.size = sizeof entry};
    altmap_rloc rlocs[33] = {rloc(20)};
    altmap_eid host_bits = {.afi = ALTMAP_AFI_IPV4, .plen = 8, .addr = {9, 9}};
    altmap_event event = {.size = 8};
    CHECK(altmap_add(NULL, ALTMAP_CACHE, &place, NULL, rlocs, 1), -EINVAL);
    CHECK(altmap_add(writer, 2, &place, NULL, rlocs, 1), -EINVAL);
    CHECK(altmap_add(writer, ALTMAP_CACHE, NULL, NULL, rlocs, 1), -EINVAL);
    CHECK(altmap_add(writer, ALTMAP_CACHE, &host_bits, NULL, rlocs, 1), -EINVAL);
    CHECK(altmap_add(writer, ALTMAP_CACHE, &place, NULL, NULL, 1), -EINVAL);
    CHECK(altmap_add(writer, ALTMAP_CACHE, &place, NULL, rlocs, 33), -EINVAL);
    CHECK(altmap_add(writer, ALTMAP_CACHE, &place, NULL, NULL, 0), -EINVAL);
    entry.flags = ALTMAP_NEGATIVE;
    CHECK(altmap_add(writer, ALTMAP_CACHE, &place, &entry, rlocs, 1), -EINVAL);
    entry.act = 6;
    CHECK(altmap_add(writer, ALTMAP_CACHE, &place, &entry, NULL, 0), -EINVAL);
    entry.size = 8;
    CHECK(altmap_add(writer, ALTMAP_CACHE, &place, &entry, NULL, 0), -EINVAL);
    rlocs[0].addr[0] = 9, rlocs[0].addr[1] = 9; /* inside its own EID-prefix */
    CHECK(altmap_add(writer, ALTMAP_CACHE, &place, NULL, rlocs, 1), -EINVAL);
    rlocs[0].size = 4;
    CHECK(altmap_add(writer, ALTMAP_CACHE, &place, NULL, rlocs, 1), -EINVAL);
    CHECK(altmap_delete(writer, ALTMAP_CACHE, NULL), -EINVAL);
    CHECK(altmap_flush(NULL, ALTMAP_CACHE, 0), -EINVAL);
    CHECK(altmap_flush(writer, 7, 0), -EINVAL);
    CHECK(altmap_subscribe(NULL, 2, 0, NULL), -EINVAL);
    CHECK(altmap_subscribe(listener, 1u << 4, 0, NULL), -EINVAL);
    CHECK(altmap_subscribe(listener, ALTMAP_EVERY_OP, 3, NULL), -EINVAL);
    CHECK(altmap_subscribe(listener, ALTMAP_EVERY_OP, 0, &host_bits), -EINVAL);
    CHECK(altmap_fd(NULL), -EINVAL);
    CHECK(altmap_next(listener, NULL, 0), -EINVAL);
    CHECK(altmap_next(listener, &event, 0), -EINVAL);
    event.size = sizeof event;
    CHECK(altmap_next(NULL, &event, 0), -EINVAL);
}

int main(int argc, char **argv) {
    if (argc != 2)
        return 2;
    CHECK(altmap_open(argv[1], ALTMAP_ABI, &writer), 0);
    CHECK(altmap_open(argv[1], ALTMAP_ABI, &listener), 0);
    if (failures == 0) {
        CHECK(altmap_subscribe(listener, ALTMAP_EVERY_OP, 0, NULL), 0);
        changing();
        batching();
        owning();
        judging();
        missing();
        choosing();
        refusals();
    }
    altmap_close(listener);
    altmap_close(writer);
    printf("%d failures\n", failures);
    return failures != 0;
}
