/*
 * Prints what a router knows:
 *
 *   show SOCKET cache|database            all entries
 *   show SOCKET cache|database EID [IID]  the longest match; of EID/LENGTH, exactly this prefix
 */
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "altitude.h"

static const char *address(uint16_t afi, const uint8_t *addr, char text[INET6_ADDRSTRLEN]) {
    return inet_ntop(afi == ALTMAP_AFI_IPV4 ? AF_INET : AF_INET6, addr, text, INET6_ADDRSTRLEN);
}

static void print(const altmap_eid *eid, const altmap_entry *entry, const altmap_rloc *rlocs, size_t n) {
    char text[INET6_ADDRSTRLEN];
    printf("[%" PRIu32 "]%s/%u version %u flags %" PRIx32 " act %u origin %u ttl %" PRIu32, eid->iid,
           address(eid->afi, eid->addr, text), eid->plen, entry->version, entry->flags, entry->act, entry->origin,
           entry->ttl_s);
    if (entry->left_s == ALTMAP_STAYS)
        printf(" stays");
    else
        printf(" left %" PRIu32, entry->left_s);
    printf(" hits %" PRIu64 " octets %" PRIu64 " created %" PRIu64 " used %" PRIu64 " gen %" PRIu64 " rlocs %u\n",
           entry->hits, entry->octets, entry->created_ms, entry->used_ms, entry->gen, entry->nrloc);
    for (size_t at = 0; at < n; at++)
        printf("  %s %u/%u %u/%u flags %" PRIx32 "\n", address(rlocs[at].afi, rlocs[at].addr, text), rlocs[at].prio,
               rlocs[at].weight, rlocs[at].mprio, rlocs[at].mweight, rlocs[at].flags);
}

static int visit(void *user, const altmap_eid *eid, const altmap_entry *entry, const altmap_rloc *rlocs, size_t n) {
    size_t *entries = user;
    ++*entries;
    print(eid, entry, rlocs, n);
    return 0;
}

static int parse(char *text, const char *iid, altmap_eid *eid) {
    memset(eid, 0, sizeof *eid);
    eid->plen = ALTMAP_HOST;
    eid->iid = iid ? (uint32_t)strtoul(iid, NULL, 10) : 0;
    char *slash = strchr(text, '/');
    if (slash) {
        *slash = '\0';
        eid->plen = (uint8_t)strtoul(slash + 1, NULL, 10);
    }
    int v6 = strchr(text, ':') != NULL;
    eid->afi = v6 ? ALTMAP_AFI_IPV6 : ALTMAP_AFI_IPV4;
    return inet_pton(v6 ? AF_INET6 : AF_INET, text, eid->addr) == 1 ? 0 : -EINVAL;
}

static int get(altmap *router, int table, const altmap_eid *eid) {
    altmap_entry entry = {.size = sizeof entry};
    altmap_rloc *rlocs = NULL;
    size_t n = 0;
    int result = altmap_get(router, table, eid, &entry, NULL, &n);
    /* The entry may have grown between two calls. */
    while (result == -ENOBUFS) {
        altmap_rloc *more = realloc(rlocs, n * sizeof *rlocs);
        if (!more) {
            free(rlocs);
            return -ENOMEM;
        }
        rlocs = more;
        rlocs[0].size = sizeof *rlocs;
        result = altmap_get(router, table, eid, &entry, rlocs, &n);
    }
    if (result == 0)
        print(&entry.eid, &entry, rlocs, n);
    free(rlocs);
    return result;
}

int main(int argc, char **argv) {
    if (argc < 3 || argc > 5) {
        fprintf(stderr, "usage: show SOCKET cache|database [EID [IID]]\n");
        return 2;
    }
    int table = strcmp(argv[2], "database") == 0 ? ALTMAP_DATABASE : ALTMAP_CACHE;
    altmap *router = NULL;
    int result = altmap_open(argv[1], ALTMAP_ABI, &router);
    if (result == 0 && argc == 3) {
        size_t entries = 0;
        result = altmap_dump(router, table, visit, &entries);
        if (result == 0)
            printf("%zu entries\n", entries);
    } else if (result == 0) {
        altmap_eid eid;
        result = parse(argv[3], argc > 4 ? argv[4] : NULL, &eid);
        if (result == 0)
            result = get(router, table, &eid);
    }
    altmap_close(router);
    if (result != 0) {
        printf("%s\n", altmap_strerror(result));
        return 1;
    }
    return 0;
}
