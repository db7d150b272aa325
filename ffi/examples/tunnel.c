/*
 * tunnel: LISP inside a program of one's own, without a router: what goes into one end's table comes out at the other's.
 *
 *     cc -Iffi/include ffi/examples/tunnel.c -Ltarget/release -laltitude -o tunnel && ./tunnel [PREFIXES [SECONDS]]
 *
 * Two sites, 1.0.0.0/8 and as many prefixes of 2.0.0.0/8 as PREFIXES says. Packets to hosts of all of them are encapsulated,
 * shown, decapsulated and compared; then it measures how long each direction takes.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "altitude.h"

enum { LENGTH = 64, ROOM = 128 };

static void must(int result, const char *what) {
    if (result != 0) {
        fprintf(stderr, "%s: %s\n", what, altmap_strerror(result));
        exit(1);
    }
}

static altmap_rloc rloc(uint8_t last) {
    return (altmap_rloc){.size = sizeof(altmap_rloc), .afi = ALTMAP_AFI_IPV4, .addr = {240, 0, 254, last}, .prio = 1,
                         .weight = 100, .flags = ALTMAP_RLOC_REACHABLE};
}

/* The table of the site whose EIDs begin with `own`; the far site has so many prefixes of `far`/8, each this long. */
static altitude_table *table(uint8_t own, uint8_t far, uint32_t prefixes, uint8_t plen) {
    altmap_rloc ours = rloc(own), theirs = rloc(far);
    altitude_config config = {.size = sizeof config, .capacity = prefixes + 1, .threads = 1, .hash_seed = (uint32_t)time(NULL),
                              .nrloc = 1, .rlocs = &ours};
    altitude_table *made;
    must(altitude_table_new(&config, &made), "altitude_table_new");
    altmap_eid eid = {.afi = ALTMAP_AFI_IPV4, .plen = 8, .addr = {own}};
    must(altitude_table_own(made, &eid, 1), "altitude_table_own");
    for (uint32_t number = 0; number < prefixes; number++) {
        uint32_t bits = number << (32 - plen);
        altmap_eid to = {.afi = ALTMAP_AFI_IPV4, .plen = plen, .addr = {far, (uint8_t)(bits >> 16), (uint8_t)(bits >> 8)}};
        must(altitude_table_put(made, &to, NULL, &theirs, 1), "altitude_table_put");
    }
    return made;
}

/* UDP from 1.0.0.1 to a host of 2.0.0.0/8, its header sealed. */
static void make(uint8_t *ip, uint32_t host) {
    const uint8_t head[28] = {0x45, 0, 0, LENGTH, 0, 0, 0x40, 0, 64, 17, 0, 0, 1, 0, 0, 1, 2, (uint8_t)(host >> 16),
                              (uint8_t)(host >> 8), (uint8_t)host, 0x30, 0x39, 0, 80, 0, LENGTH - 20};
    memset(ip, 0xa5, LENGTH);
    memcpy(ip, head, sizeof head);
    uint32_t sum = 0;
    for (int at = 0; at < 20; at += 2)
        sum += (uint32_t)ip[at] << 8 | ip[at + 1];
    sum = (sum & 0xffff) + (sum >> 16);
    sum = ~((sum & 0xffff) + (sum >> 16));
    ip[10] = (uint8_t)(sum >> 8);
    ip[11] = (uint8_t)sum;
}

static double now(void) {
    struct timespec time;
    /* Time of this thread on its core: others on the machine spoil little. */
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void show(const char *what, const altitude_packet *packet) {
    printf("%s:", what);
    for (size_t at = 0; at < packet->length; at++)
        printf("%s%02x", at % 16 ? " " : "\n  ", packet->memory[packet->start + at]);
    printf("\n");
}

int main(int argc, char **argv) {
    long prefixes = argc > 1 ? atol(argv[1]) : 1000;
    double seconds = argc > 2 ? atof(argv[2]) : 1;
    if (prefixes < 1 || prefixes > 65536 || seconds < 0) {
        fprintf(stderr, "usage: tunnel [PREFIXES (1 to 65536) [SECONDS]]\n");
        return 2;
    }
    altitude_table *near = table(1, 2, (uint32_t)prefixes, 24), *far = table(2, 1, 1, 8);
    altitude_thread *itr, *etr;
    must(altitude_thread_new(near, &itr), "altitude_thread_new");
    must(altitude_thread_new(far, &etr), "altitude_thread_new");

    static uint8_t memory[ROOM + LENGTH], fresh[LENGTH];
    double took[3] = {0};
    long rounds = 0;
    uint32_t random = 1;
    for (double end = now() + seconds; rounds == 0 || now() < end; rounds++) {
        enum { BURST = 512 };
        static uint8_t burst[BURST][ROOM + LENGTH];
        static altitude_packet packets[BURST];
        for (int at = 0; at < BURST; at++) {
            random = random * 1664525 + 1013904223;
            make(burst[at] + ROOM, (random >> 8) % (uint32_t)prefixes << 8 | 9);
            packets[at] = (altitude_packet){.size = sizeof packets[at], .memory = burst[at], .capacity = sizeof burst[at],
                                            .start = ROOM, .length = LENGTH};
        }
        double start = now();
        for (int at = 0; at < BURST; at++)
            must(altitude_lisp_output(itr, &packets[at]), "altitude_lisp_output");
        double middle = now();
        for (int at = 0; at < BURST; at++) {
            if (packets[at].verdict != ALTITUDE_SEND) {
                fprintf(stderr, "%s: %s\n", altitude_verdict_name(packets[at].verdict), altitude_reason_name(packets[at].reason));
                return 1;
            }
            must(altitude_lisp_input(etr, &packets[at]), "altitude_lisp_input");
        }
        took[1] += now() - middle;
        took[0] += middle - start;
        took[2] += BURST;
    }

    altitude_packet packet = {.size = sizeof packet, .memory = memory, .capacity = sizeof memory, .start = ROOM, .length = LENGTH};
    make(memory + ROOM, 9);
    memcpy(fresh, memory + ROOM, LENGTH);
    must(altitude_lisp_output(itr, &packet), "altitude_lisp_output");
    show("encapsulated", &packet);
    must(altitude_lisp_input(etr, &packet), "altitude_lisp_input");
    int same = packet.verdict == ALTITUDE_SEND && packet.length == LENGTH && memcmp(memory + packet.start + 12, fresh + 12, LENGTH - 12) == 0;
    printf("came out as it went in: %s\n", same ? "yes" : "NO");
    printf("%ld prefixes, %d octets: output %.1f ns a packet, input %.1f ns\n", prefixes, LENGTH, took[0] / took[2] * 1e9,
           took[1] / took[2] * 1e9);
    altitude_thread_free(itr);
    altitude_thread_free(etr);
    altitude_table_free(near);
    altitude_table_free(far);
    return !same;
}
