/* own SOCKET PREFIX LENGTH RLOC: has a router serve an IPv4 EID-prefix of its site for as long as this program runs.
 *
 * What a controller of a site does when a network moves in: the prefix becomes one of the router's own mappings, so that it is
 * registered, answered for and encapsulated from. It goes with the connection, however the program ends.
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "altitude.h"

static int failed(const char *what, int error) {
    fprintf(stderr, "own: %s: %s\n", what, altmap_strerror(error));
    return 1;
}

int main(int argc, char **argv) {
    altmap_eid eid = {.afi = ALTMAP_AFI_IPV4};
    altmap_entry entry = {.size = sizeof entry, .ttl_s = 600, .flags = ALTMAP_EPHEMERAL};
    altmap_rloc rloc = {.size = sizeof rloc, .afi = ALTMAP_AFI_IPV4, .prio = 1, .weight = 100, .mprio = 255,
                        .flags = ALTMAP_RLOC_REACHABLE | ALTMAP_RLOC_LOCAL};
    altmap *router = NULL;
    if (argc != 5 || inet_pton(AF_INET, argv[2], eid.addr) != 1 || inet_pton(AF_INET, argv[4], rloc.addr) != 1) {
        fprintf(stderr, "usage: own SOCKET PREFIX LENGTH RLOC\n");
        return 2;
    }
    eid.plen = (uint8_t)atoi(argv[3]);
    int error = altmap_open(argv[1], ALTMAP_ABI, &router);
    if (error != 0)
        return failed("connecting", error);
    error = altmap_add(router, ALTMAP_DATABASE, &eid, &entry, &rloc, 1);
    if (error != 0) {
        altmap_close(router);
        return failed("adding", error);
    }
    printf("ready\n");
    fflush(stdout);
    for (;;)
        pause(); /* a signal ends it */
}
