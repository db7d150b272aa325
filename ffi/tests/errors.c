/* errors LIVE DEAD MISSING: every way to be refused. Three sockets: of a router, of one that died, of none. */
#include <errno.h>
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

/* As a later header may have it. */
struct newer {
    altmap_rloc known;
    uint64_t more;
};

static int second(void *user, const altmap_eid *eid, const altmap_entry *entry, const altmap_rloc *rlocs, size_t n) {
    int *calls = user;
    CHECK(eid->afi, ALTMAP_AFI_IPV4);
    CHECK(entry->size, sizeof *entry);
    CHECK(entry->nrloc, n);
    if (n > 0)
        CHECK(rlocs[0].size, sizeof *rlocs);
    return ++*calls == 2 ? -ECANCELED : 0;
}

struct nested {
    altmap *router;
    int found;
};

/* Uses the handle in the middle of its dump. */
static int look_up(void *user, const altmap_eid *eid, const altmap_entry *entry, const altmap_rloc *rlocs, size_t n) {
    struct nested *nested = user;
    altmap_entry again = {.size = sizeof again};
    size_t needed = 0;
    int result = altmap_get(nested->router, ALTMAP_CACHE, eid, &again, NULL, &needed);
    CHECK(result, n == 0 ? 0 : -ENOBUFS);
    CHECK(needed, n);
    CHECK(again.created_ms, entry->created_ms);
    CHECK(memcmp(&again.eid, eid, sizeof *eid), 0);
    nested->found++;
    (void)rlocs;
    return 0;
}

static void opening(const char *live, const char *dead, const char *missing) {
    altmap *router = NULL;
    char long_path[300];
    memset(long_path, 'x', sizeof long_path - 1);
    long_path[sizeof long_path - 1] = '\0';
    CHECK(altmap_open(missing, ALTMAP_ABI, &router), -ENOENT);
    CHECK(altmap_open(dead, ALTMAP_ABI, &router), -ECONNREFUSED);
    CHECK(altmap_open(live, ALTMAP_ABI + 1, &router), -EPROTONOSUPPORT);
    CHECK(altmap_open(live, 0, &router), -EPROTONOSUPPORT);
    CHECK(altmap_open(NULL, ALTMAP_ABI, &router), -EINVAL);
    CHECK(altmap_open(live, ALTMAP_ABI, NULL), -EINVAL);
    CHECK(altmap_open("", ALTMAP_ABI, &router), -EINVAL);
    CHECK(altmap_open(long_path, ALTMAP_ABI, &router), -EINVAL);
    CHECK(router == NULL, 1);
    altmap_close(NULL);
}

static void arguments(altmap *router) {
    altmap_eid eid = {.afi = ALTMAP_AFI_IPV4, .plen = ALTMAP_HOST, .addr = {2, 2, 2, 2}};
    altmap_eid other = eid;
    altmap_entry entry = {.size = sizeof entry};
    altmap_rloc rlocs[2] = {{.size = sizeof rlocs[0]}};
    size_t n = 2;
    CHECK(altmap_get(NULL, ALTMAP_CACHE, &eid, &entry, rlocs, &n), -EINVAL);
    CHECK(altmap_get(router, ALTMAP_CACHE, NULL, &entry, rlocs, &n), -EINVAL);
    CHECK(altmap_get(router, ALTMAP_CACHE, &eid, NULL, rlocs, &n), -EINVAL);
    CHECK(altmap_get(router, ALTMAP_CACHE, &eid, &entry, NULL, &n), -EINVAL);
    CHECK(altmap_get(router, ALTMAP_CACHE, &eid, &entry, rlocs, NULL), -EINVAL);
    CHECK(altmap_get(router, 2, &eid, &entry, rlocs, &n), -EINVAL);
    CHECK(altmap_get(router, -1, &eid, &entry, rlocs, &n), -EINVAL);
    other.afi = 16387;
    CHECK(altmap_get(router, ALTMAP_CACHE, &other, &entry, rlocs, &n), -EAFNOSUPPORT);
    other = eid, other.plen = 33;
    CHECK(altmap_get(router, ALTMAP_CACHE, &other, &entry, rlocs, &n), -EINVAL);
    other = eid, other.plen = 16;
    CHECK(altmap_get(router, ALTMAP_CACHE, &other, &entry, rlocs, &n), -EINVAL);
    other = eid, other.iid = 1 << 24;
    CHECK(altmap_get(router, ALTMAP_CACHE, &other, &entry, rlocs, &n), -EINVAL);
    other = eid, other.rsv = 1;
    CHECK(altmap_get(router, ALTMAP_CACHE, &other, &entry, rlocs, &n), -EINVAL);
    other = eid, other.addr[0] = 9;
    CHECK(altmap_get(router, ALTMAP_CACHE, &other, &entry, rlocs, &n), -ENOENT);
    entry.size = sizeof entry - 8;
    CHECK(altmap_get(router, ALTMAP_CACHE, &eid, &entry, rlocs, &n), -EINVAL);
    entry.size = sizeof entry, rlocs[0].size = 0;
    CHECK(altmap_get(router, ALTMAP_CACHE, &eid, &entry, rlocs, &n), -EINVAL);
    rlocs[0].size = sizeof rlocs[0] + 4;
    CHECK(altmap_get(router, ALTMAP_CACHE, &eid, &entry, rlocs, &n), -EINVAL);
    CHECK(n, 2);
    CHECK(entry.gen, 0);
    CHECK(altmap_dump(NULL, ALTMAP_CACHE, second, NULL), -EINVAL);
    CHECK(altmap_dump(router, ALTMAP_CACHE, NULL, NULL), -EINVAL);
    CHECK(altmap_dump(router, 7, second, NULL), -EINVAL);
}

static void room(altmap *router) {
    altmap_eid eid = {.afi = ALTMAP_AFI_IPV4, .plen = ALTMAP_HOST, .addr = {2, 2, 2, 2}};
    altmap_entry entry = {.size = sizeof entry};
    altmap_rloc one = {.size = sizeof one};
    size_t n = 1;
    CHECK(altmap_get(router, ALTMAP_CACHE, &eid, &entry, &one, &n), -ENOBUFS);
    CHECK(n, 2);
    CHECK(entry.nrloc, 2);
    CHECK(one.afi, 0);

    struct newer newer[3];
    memset(newer, 0xff, sizeof newer);
    newer[0].known.size = sizeof newer[0];
    n = 3;
    CHECK(altmap_get(router, ALTMAP_CACHE, &eid, &entry, &newer[0].known, &n), 0);
    CHECK(n, 2);
    CHECK(newer[0].known.size, sizeof newer[0]);
    CHECK(newer[0].known.afi, ALTMAP_AFI_IPV4);
    CHECK(newer[0].more, 0);
    CHECK(newer[1].known.size, sizeof newer[0]);
    CHECK(newer[1].known.afi, ALTMAP_AFI_IPV6);
    CHECK(newer[1].more, 0);
    CHECK(newer[2].known.afi, 0xffff);
    CHECK(newer[2].more == UINT64_MAX, 1);
}

int main(int argc, char **argv) {
    if (argc != 4)
        return 2;
    opening(argv[1], argv[2], argv[3]);
    altmap *router = NULL;
    CHECK(altmap_open(argv[1], ALTMAP_ABI, &router), 0);
    if (router) {
        arguments(router);
        room(router);
        int calls = 0;
        CHECK(altmap_dump(router, ALTMAP_CACHE, second, &calls), -ECANCELED);
        CHECK(calls, 2);
        struct nested nested = {router, 0};
        CHECK(altmap_dump(router, ALTMAP_CACHE, look_up, &nested), 0);
        CHECK(nested.found, 4);
    }
    altmap_close(router);
    CHECK(strncmp(altmap_version(), "altitude ", 9), 0);
    CHECK(strcmp(altmap_strerror(-ENOENT), altmap_strerror(0)) != 0, 1);
    printf("%d failures\n", failures);
    return failures != 0;
}
