/*
 * packet: packets through altitude_lisp_output and altitude_lisp_input, and threads of them beside one that changes the table.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "altitude.h"

enum { PAYLOAD = 40, READERS = 3, PASSES = 20000 };

static _Atomic int failures;

static void check(long found, long expected, const char *what, int line) {
    if (found != expected) {
        printf("line %d: %s is %ld and not %ld\n", line, what, found, expected);
        failures++;
    }
}
#define CHECK(what, expected) check((long)(what), (long)(expected), #what, __LINE__)

/* As a later header may have it. */
struct newer_packet {
    altitude_packet known;
    uint64_t more;
};

static altmap_eid eid4(uint8_t a, uint8_t b, uint8_t plen) {
    return (altmap_eid){.afi = ALTMAP_AFI_IPV4, .plen = plen, .addr = {a, b}};
}

static altmap_eid eid6(uint8_t side, uint8_t plen) {
    return (altmap_eid){.afi = ALTMAP_AFI_IPV6, .plen = plen, .addr = {0x20, 0x01, 0x0d, 0xb8, 0, side}};
}

static altmap_rloc rloc(int v6, uint8_t side) {
    altmap_rloc rloc = {.size = sizeof rloc, .prio = 1, .weight = 100, .flags = ALTMAP_RLOC_REACHABLE};
    rloc.afi = v6 ? ALTMAP_AFI_IPV6 : ALTMAP_AFI_IPV4;
    const uint8_t v4[4] = {240, 0, 254, side}, six[16] = {0x20, 0x01, 0x0d, 0xb8, 2, 0x54, [15] = side};
    memcpy(rloc.addr, v6 ? six : v4, v6 ? 16 : 4);
    return rloc;
}

/* The table of one side: its own EIDs, and those of the other one behind its RLOC of this family. */
static altitude_table *table(uint8_t side, int v6) {
    altmap_rloc ours[2] = {rloc(0, side), rloc(1, side)};
    altitude_config config = {.size = sizeof config, .capacity = 64, .threads = READERS + 1, .hash_seed = 5, .nrloc = 2, .rlocs = ours};
    altitude_table *made;
    CHECK(altitude_table_new(&config, &made), 0);
    uint8_t other = 3 - side;
    altmap_rloc theirs = rloc(v6, other);
    altmap_eid own[2] = {eid4(side, side, 16), eid6(side, 48)}, far[2] = {eid4(other, other, 16), eid6(other, 48)};
    for (int family = 0; family < 2; family++) {
        CHECK(altitude_table_own(made, &own[family], 1), 0);
        CHECK(altitude_table_put(made, &far[family], NULL, &theirs, 1), 0);
    }
    return made;
}

static uint16_t sum(const uint8_t *octets, size_t length) {
    uint32_t total = 0;
    for (size_t at = 0; at + 1 < length; at += 2)
        total += (uint32_t)octets[at] << 8 | octets[at + 1];
    while (total >> 16)
        total = (total & 0xffff) + (total >> 16);
    return (uint16_t)~total;
}

/* UDP from side 1 to side 2; returns its length. */
static size_t make(uint8_t *ip, int v6) {
    size_t header = v6 ? 40 : 20, udp = 8 + PAYLOAD;
    memset(ip, 0, header + udp);
    if (v6) {
        const uint8_t head[8] = {0x60, 0, 0, 0, 0, (uint8_t)udp, 17, 64};
        memcpy(ip, head, 8);
        for (int end = 0; end < 2; end++)
            memcpy(ip + 8 + 16 * end, eid6((uint8_t)(end + 1), 128).addr, 16);
        ip[23] = ip[39] = 9;
    } else {
        const uint8_t head[20] = {0x45, 0, 0, (uint8_t)(header + udp), 0, 0, 0x40, 0, 64, 17, 0, 0, 1, 1, 0, 9, 2, 2, 0, 9};
        memcpy(ip, head, 20);
        uint16_t sealed = sum(ip, 20);
        ip[10] = (uint8_t)(sealed >> 8);
        ip[11] = (uint8_t)sealed;
    }
    const uint8_t ports[6] = {0x30, 0x39, 0, 80, 0, (uint8_t)udp};
    memcpy(ip + header, ports, 6);
    memset(ip + header + 8, 0xa5, PAYLOAD);
    return header + udp;
}

/* Through both sides, the octets in between against RFC 9300's layout. */
static void round_trip(int inner6, int outer6) {
    altitude_table *tables[2] = {table(1, outer6), table(2, outer6)};
    altitude_thread *itr, *etr;
    CHECK(altitude_thread_new(tables[0], &itr), 0);
    CHECK(altitude_thread_new(tables[1], &etr), 0);
    /* On the heap, and no octet longer than it must be: sanitizers and valgrind watch its ends. */
    uint8_t before[88], *memory = malloc(ALTITUDE_HEADROOM + sizeof before);
    size_t length = make(before, inner6);
    memcpy(memory + ALTITUDE_HEADROOM, before, length);
    struct newer_packet newer = {.known = {.size = sizeof newer, .memory = memory, .capacity = ALTITUDE_HEADROOM + length,
                                           .start = ALTITUDE_HEADROOM, .length = length}, .more = 7};
    altitude_packet *packet = &newer.known;
    CHECK(altitude_lisp_output(itr, packet), 0);
    size_t outer = outer6 ? 56 : 36;
    CHECK(packet->verdict, ALTITUDE_SEND);
    CHECK(packet->start, ALTITUDE_HEADROOM - outer);
    CHECK(packet->length, length + outer);
    CHECK(newer.more, 0);
    const uint8_t *ip = memory + packet->start, *udp = ip + (outer6 ? 40 : 20);
    CHECK(ip[0] >> 4, outer6 ? 6 : 4);
    CHECK(outer6 ? ip[7] : ip[8], 63);
    if (!outer6) {
        CHECK(sum(ip, 20), 0);
        CHECK(ip[2] << 8 | ip[3], length + outer);
        CHECK(ip[6], 0x40);
    }
    altmap_rloc ends[2] = {rloc(outer6, 1), rloc(outer6, 2)};
    size_t octets = outer6 ? 16 : 4;
    CHECK(memcmp(ip + (outer6 ? 8 : 12), ends[0].addr, octets), 0);
    CHECK(memcmp(ip + (outer6 ? 24 : 16), ends[1].addr, octets), 0);
    CHECK(udp[2] << 8 | udp[3], 4341);
    CHECK(udp[4] << 8 | udp[5], 16 + (long)length);
    CHECK(udp[6] | udp[7], 0);
    const uint8_t plain[8] = {0};
    CHECK(memcmp(udp + 8, plain, 8), 0);
    CHECK(altitude_lisp_input(etr, packet), 0);
    CHECK(packet->verdict, ALTITUDE_SEND);
    CHECK(packet->start, ALTITUDE_HEADROOM);
    CHECK(packet->length, length);
    CHECK(packet->iid, 0);
    /* One hop was taken off, and nothing else has changed. */
    uint8_t *after = memory + packet->start;
    CHECK(after[inner6 ? 7 : 8], 63);
    if (inner6) {
        after[7] = 64;
    } else {
        CHECK(sum(after, 20), 0);
        after[8] = 64, after[10] = before[10], after[11] = before[11];
    }
    CHECK(memcmp(after, before, length), 0);
    uint64_t packets = 0, volume = 0, count = 0;
    altmap_eid far = inner6 ? eid6(2, 48) : eid4(2, 2, 16);
    CHECK(altitude_table_hits(tables[0], &far, &packets, &volume), 0);
    CHECK(packets, 1);
    CHECK(volume, length);
    CHECK(altitude_table_count(tables[1], "decapsulated", &count), 0);
    CHECK(count, 1);
    free(memory);
    for (int side = 0; side < 2; side++)
        altitude_table_free(tables[side]);
    altitude_thread_free(itr);
    altitude_thread_free(etr);
}

static void verdicts(void) {
    altitude_table *sides = table(1, 0);
    altitude_thread *thread, *others[READERS + 1];
    CHECK(altitude_thread_new(sides, &thread), 0);
    uint8_t memory[ALTITUDE_HEADROOM + 88];
    altitude_packet packet = {.size = sizeof packet, .memory = memory, .capacity = sizeof memory};
#define PASS()                                                                 \
    (packet.start = ALTITUDE_HEADROOM, packet.length = make(memory + packet.start, 0), altitude_lisp_output(thread, &packet))
    altmap_eid far = eid4(2, 2, 16);
    CHECK(altitude_table_delete(sides, &far), 0);
    CHECK(altitude_table_delete(sides, &far), -ENOENT);
    CHECK(PASS(), 0);
    CHECK(packet.verdict, ALTITUDE_MISS);
    const uint8_t to[4] = {2, 2, 0, 9}, from[4] = {1, 1, 0, 9};
    CHECK(packet.eid.plen, 32);
    CHECK(memcmp(packet.eid.addr, to, 4), 0);
    CHECK(memcmp(packet.from.addr, from, 4), 0);
    CHECK(packet.start, ALTITUDE_HEADROOM);
    altmap_entry native = {.size = sizeof native, .flags = ALTMAP_NEGATIVE, .act = 1};
    CHECK(altitude_table_put(sides, &far, &native, NULL, 0), 0);
    CHECK(PASS(), 0);
    CHECK(packet.verdict, ALTITUDE_NATIVE);
    CHECK(packet.start, ALTITUDE_HEADROOM);
    altmap_entry drop = {.size = sizeof drop, .flags = ALTMAP_NEGATIVE, .act = 3};
    CHECK(altitude_table_put(sides, &far, &drop, NULL, 0), 0);
    CHECK(PASS(), 0);
    CHECK(packet.verdict, ALTITUDE_DROP);
    CHECK(packet.notice, ALTITUDE_NOTICE_PROHIBITED);
    CHECK(strcmp(altitude_reason_name(packet.reason), "act-drop"), 0);
    CHECK(strcmp(altitude_verdict_name(packet.verdict), "drop"), 0);
    altmap_rloc theirs = rloc(0, 2);
    CHECK(altitude_table_put(sides, &far, NULL, &theirs, 1), 0);
    CHECK(altitude_table_reach(sides, ALTMAP_AFI_IPV4, theirs.addr, 0), 0);
    CHECK(PASS(), 0);
    CHECK(packet.notice, ALTITUDE_NOTICE_UNREACHABLE);
    CHECK(altitude_table_reach(sides, ALTMAP_AFI_IPV4, theirs.addr, 1), 0);
    altmap_eid own = eid4(1, 1, 16);
    CHECK(altitude_table_own(sides, &own, 0), 0);
    CHECK(altitude_table_own(sides, &own, 0), -ENOENT);
    CHECK(PASS(), 0);
    CHECK(strcmp(altitude_reason_name(packet.reason), "source-not-local"), 0);
    CHECK(altitude_table_own(sides, &own, 1), 0);
    packet.iid = 1 << 24;
    CHECK(PASS(), -EINVAL);
    packet.iid = 0;
    packet.size = 8;
    CHECK(PASS(), -EINVAL);
    packet.size = sizeof packet;
    packet.length = sizeof memory;
    CHECK(altitude_lisp_input(thread, &packet), -EINVAL);
    packet.start = 0;
    packet.length = 20;
    CHECK(altitude_lisp_input(thread, &packet), 0);
    CHECK(strcmp(altitude_reason_name(packet.reason), "no-headroom"), 0);
    CHECK(altitude_lisp_input(thread, NULL), -EINVAL);
    CHECK(altitude_lisp_input(NULL, &packet), -EINVAL);
    CHECK(altitude_table_put(NULL, &far, NULL, &theirs, 1), -EINVAL);
    CHECK(altitude_table_put(sides, &far, NULL, NULL, 1), -EINVAL);
    CHECK(altitude_table_new(NULL, &sides), -EINVAL);
    altitude_config none = {.size = sizeof none};
    CHECK(altitude_table_new(&none, &sides), -EINVAL);
    uint64_t count;
    CHECK(altitude_table_count(sides, "no-such-counter", &count), -ENOENT);
    for (int other = 0; other < READERS + 1; other++)
        CHECK(altitude_thread_new(sides, &others[other]), other < READERS ? 0 : -EBUSY);
    for (int other = 0; other < READERS; other++)
        altitude_thread_free(others[other]);
    altitude_quiescent(thread);
    altitude_quiescent(NULL);
    altitude_thread_free(thread);
    altitude_thread_free(NULL);
    altitude_table_free(sides);
    altitude_table_free(NULL);
}

struct work {
    altitude_table *table;
    long sent, missed;
};

static _Atomic int running;

static void *reader(void *argument) {
    struct work *work = argument;
    altitude_thread *thread;
    CHECK(altitude_thread_new(work->table, &thread), 0);
    uint8_t memory[ALTITUDE_HEADROOM + 88];
    for (int pass = 0; pass < PASSES; pass++) {
        altitude_packet packet = {.size = sizeof packet, .memory = memory, .capacity = sizeof memory, .start = ALTITUDE_HEADROOM};
        packet.length = make(memory + packet.start, pass & 1);
        CHECK(altitude_lisp_output(thread, &packet), 0);
        work->sent += packet.verdict == ALTITUDE_SEND;
        work->missed += packet.verdict == ALTITUDE_MISS;
        if (packet.verdict == ALTITUDE_SEND) {
            /* To the RLOC that was there, or to the one that came. */
            uint8_t last = memory[packet.start + 19];
            CHECK(last == 2 || last == 22, 1);
        }
    }
    altitude_thread_free(thread);
    running--;
    return NULL;
}

/* Threads hand packets over while the mappings that these use change, go and come again. */
static void beside_a_writer(void) {
    struct work works[READERS];
    pthread_t threads[READERS];
    altitude_table *sides = table(1, 0);
    running = READERS;
    for (int at = 0; at < READERS; at++) {
        works[at] = (struct work){.table = sides};
        CHECK(pthread_create(&threads[at], NULL, reader, &works[at]), 0);
    }
    altmap_eid far[2] = {eid4(2, 2, 16), eid6(2, 48)};
    for (long round = 0; running > 0; round++) {
        altmap_rloc theirs = rloc(0, round & 1 ? 2 : 22);
        int result = altitude_table_put(sides, &far[round / 2 % 2], NULL, &theirs, 1);
        if (result == -ENOSPC) {
            /* The scheduler keeps a thread from its next packet, and with it the memory of all that was taken out since. */
            sched_yield();
            continue;
        }
        CHECK(result, 0);
        if (round % 5 == 0)
            CHECK(altitude_table_delete(sides, &far[round / 2 % 2]), 0);
    }
    long sent = 0, missed = 0;
    for (int at = 0; at < READERS; at++) {
        CHECK(pthread_join(threads[at], NULL), 0);
        sent += works[at].sent;
        missed += works[at].missed;
    }
    uint64_t encapsulated = 0, asked = 0;
    CHECK(altitude_table_count(sides, "encapsulated", &encapsulated), 0);
    CHECK(altitude_table_count(sides, "missed", &asked), 0);
    CHECK(encapsulated, sent);
    CHECK(asked, missed);
    CHECK(sent + missed, (long)READERS * PASSES);
    altitude_table_free(sides);
}

int main(void) {
    for (int inner6 = 0; inner6 < 2; inner6++)
        for (int outer6 = 0; outer6 < 2; outer6++)
            round_trip(inner6, outer6);
    verdicts();
    beside_a_writer();
    printf("%d failures\n", failures);
    return failures != 0;
}
