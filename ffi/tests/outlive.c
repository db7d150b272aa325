/* outlive SOCKET: opens, says so, waits for a line, then asks twice and prints the results. */
#include <stdio.h>

#include "altitude.h"

int main(int argc, char **argv) {
    altmap *router = NULL;
    if (argc != 2 || altmap_open(argv[1], ALTMAP_ABI, &router) != 0)
        return 2;
    printf("open\n");
    fflush(stdout);
    getchar();
    for (int round = 0; round < 2; round++) {
        altmap_eid eid = {.afi = ALTMAP_AFI_IPV4, .plen = ALTMAP_HOST, .addr = {2, 2, 2, 2}};
        altmap_entry entry = {.size = sizeof entry};
        size_t n = 0;
        printf("%d\n", altmap_get(router, ALTMAP_CACHE, &eid, &entry, NULL, &n));
    }
    altmap_close(router);
    return 0;
}
