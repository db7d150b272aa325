/*
 * mapd SOCKET RLOC MAP-RESOLVER: a mapping daemon of its own for a router that runs with `--resolver off`.
 *
 * It hears of misses through the mapping API, asks the Map-Resolver (RFC 9301 section 5.8: a Map-Request in an Encapsulated
 * Control Message, from a port of RLOC that answers come back to), and puts what it is told into the map-cache. What it has
 * put in goes with it. An example: one Map-Resolver, instance 0, and of answers only EIDs and RLOCs without LCAF.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "altitude.h"

enum { CONTROL_PORT = 4342, QUESTIONS = 100, TRIES = 3, RETRY_MS = 1000, RLOCS = 32 };

struct question {
    altmap_eid eid, from;
    uint64_t nonce; /* 0: the place is free */
    int tries;
    long long next; /* ms */
};

static struct question questions[QUESTIONS];
static struct sockaddr_storage rloc, resolver;
static int udp;

static long long now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (long long)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static uint64_t nonce(void) {
    uint64_t value = 0;
    FILE *random = fopen("/dev/urandom", "rb");
    while (random && value == 0 && fread(&value, sizeof value, 1, random) == 1)
        ;
    if (random)
        fclose(random);
    return value;
}

static int parse(const char *text, uint16_t port, struct sockaddr_storage *to) {
    memset(to, 0, sizeof *to);
    struct sockaddr_in *v4 = (struct sockaddr_in *)to;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)to;
    if (inet_pton(AF_INET, text, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons(port);
        return 0;
    }
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(port);
    return inet_pton(AF_INET6, text, &v6->sin6_addr) == 1 ? 0 : -1;
}

static socklen_t length_of(const struct sockaddr_storage *address) {
    return address->ss_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
}

static uint8_t *put16(uint8_t *at, unsigned value) {
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
    return at + 2;
}

static unsigned get16(const uint8_t *at) { return (unsigned)at[0] << 8 | at[1]; }

static size_t size_of(unsigned afi) { return afi == ALTMAP_AFI_IPV4 ? 4 : afi == ALTMAP_AFI_IPV6 ? 16 : 0; }

static uint8_t *put_address(uint8_t *at, unsigned afi, const uint8_t *addr) {
    at = put16(at, afi);
    memcpy(at, addr, size_of(afi));
    return at + size_of(afi);
}

/* The one's complement sum of whole words, for checksums. */
static uint32_t sum(uint32_t start, const uint8_t *octets, size_t n) {
    for (size_t at = 0; at < n; at += 2)
        start += (uint32_t)octets[at] << 8 | (at + 1 < n ? octets[at + 1] : 0);
    return start;
}

static unsigned folded(uint32_t sum) {
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return ~sum & 0xffff;
}

/* An ECM: LISP header, IP header, UDP header, Map-Request. Returns its length. */
static size_t request(const struct question *asked, uint8_t out[256]) {
    int v4 = rloc.ss_family == AF_INET;
    unsigned rloc_afi = v4 ? ALTMAP_AFI_IPV4 : ALTMAP_AFI_IPV6;
    const uint8_t *own = v4 ? (const uint8_t *)&((struct sockaddr_in *)&rloc)->sin_addr
                            : (const uint8_t *)&((struct sockaddr_in6 *)&rloc)->sin6_addr;
    unsigned port = ntohs(v4 ? ((struct sockaddr_in *)&rloc)->sin_port : ((struct sockaddr_in6 *)&rloc)->sin6_port);
    unsigned afi = asked->eid.afi;
    size_t ip = afi == ALTMAP_AFI_IPV4 ? 20 : 40;
    memset(out, 0, 256);
    out[0] = 8 << 4;
    uint8_t *udp_header = out + 4 + ip, *message = udp_header + 8, *at = message;
    *at++ = 1 << 4;          /* Map-Request */
    at += 2;                 /* one ITR-RLOC */
    *at++ = 1;               /* one record */
    memcpy(at, &asked->nonce, 8);
    at = asked->from.afi ? put_address(at + 8, asked->from.afi, asked->from.addr) : put16(at + 8, 0);
    at = put_address(at, rloc_afi, own);
    *at++ = 0;
    *at++ = asked->eid.plen;
    at = put_address(at, afi, asked->eid.addr);

    /* Inside, source and destination are of one family: without an RLOC of the EID's, the packet's source stands in. */
    const uint8_t *source = afi == rloc_afi ? own : asked->from.addr;
    size_t datagram = (size_t)(at - udp_header);
    put16(put16(put16(udp_header, port), CONTROL_PORT), (unsigned)datagram);
    uint32_t pseudo = sum(sum(17 + (uint32_t)datagram, source, size_of(afi)), asked->eid.addr, size_of(afi));
    unsigned checksum = folded(sum(pseudo, udp_header, datagram));
    put16(udp_header + 6, checksum ? checksum : 0xffff);
    uint8_t *header = out + 4;
    if (afi == ALTMAP_AFI_IPV4) {
        header[0] = 0x45;
        put16(header + 2, (unsigned)(ip + datagram));
        header[8] = 64;
        header[9] = 17;
        memcpy(header + 12, source, 4);
        memcpy(header + 16, asked->eid.addr, 4);
        put16(header + 10, folded(sum(0, header, ip)));
    } else {
        header[0] = 0x60;
        put16(header + 4, (unsigned)datagram);
        header[6] = 17;
        header[7] = 64;
        memcpy(header + 8, source, 16);
        memcpy(header + 24, asked->eid.addr, 16);
    }
    return (size_t)(at - out);
}

static void ask(struct question *asked) {
    uint8_t octets[256];
    size_t n = request(asked, octets);
    /* What is lost is asked again. */
    (void)sendto(udp, octets, n, 0, (struct sockaddr *)&resolver, length_of(&resolver));
    asked->tries++;
    asked->next = now_ms() + RETRY_MS;
}

static void missed(const altmap_event *event) {
    struct question *place = NULL;
    if (event->eid.iid != 0)
        return;
    for (struct question *each = questions; each < questions + QUESTIONS; each++) {
        if (each->nonce == 0)
            place = place ? place : each;
        else if (memcmp(&each->eid, &event->eid, sizeof each->eid) == 0)
            return;
    }
    if (place) /* else as many are asked for as may be: the next packet asks again */
        *place = (struct question){.eid = event->eid, .from = event->from, .nonce = nonce()};
    if (place && place->nonce)
        ask(place);
}

/* Puts one record into the map-cache; returns what is after it, or NULL if it cannot be read. */
static const uint8_t *record(altmap *router, const uint8_t *at, const uint8_t *end) {
    if (end - at < 12)
        return NULL;
    uint32_t minutes = (uint32_t)get16(at) << 16 | get16(at + 2);
    unsigned count = at[4], afi = get16(at + 10);
    altmap_eid eid = {.afi = (uint16_t)afi, .plen = at[5]};
    altmap_entry entry = {.size = sizeof entry, .flags = ALTMAP_EPHEMERAL, .version = get16(at + 8) & 0xfff};
    entry.act = at[6] >> 5;
    /* A record without a lifetime takes the mapping out (RFC 9301 section 5.4); 0 would be for ever here. */
    entry.ttl_s = minutes == 0 ? 1 : minutes < 1440 ? minutes * 60 : 86400;
    entry.flags |= at[6] & 0x10 ? ALTMAP_AUTHORITATIVE : 0;
    altmap_rloc rlocs[RLOCS];
    memset(rlocs, 0, sizeof rlocs);
    at += 12;
    if (size_of(afi) == 0 || (size_t)(end - at) < size_of(afi) || count > RLOCS)
        return NULL;
    memcpy(eid.addr, at, size_of(afi));
    at += size_of(afi);
    for (unsigned each = 0; each < count; each++) {
        if (end - at < 8 || size_of(get16(at + 6)) == 0 || (size_t)(end - at - 8) < size_of(get16(at + 6)))
            return NULL;
        altmap_rloc *locator = rlocs + each;
        *locator = (altmap_rloc){.size = sizeof *locator, .afi = (uint16_t)get16(at + 6)};
        locator->prio = at[0], locator->weight = at[1], locator->mprio = at[2], locator->mweight = at[3];
        locator->flags = (at[5] & 1 ? ALTMAP_RLOC_REACHABLE : 0) | (at[5] & 4 ? ALTMAP_RLOC_LOCAL : 0);
        memcpy(locator->addr, at + 8, size_of(locator->afi));
        at += 8 + size_of(locator->afi);
    }
    if (count > 0)
        entry.act = 0;
    else
        entry.flags |= ALTMAP_NEGATIVE;
    int result = altmap_add(router, ALTMAP_CACHE, &eid, &entry, rlocs, count);
    if (result == -EEXIST)
        result = altmap_change(router, ALTMAP_CACHE, &eid, &entry, rlocs, count, 0);
    char text[INET6_ADDRSTRLEN] = "";
    inet_ntop(afi == ALTMAP_AFI_IPV4 ? AF_INET : AF_INET6, eid.addr, text, sizeof text);
    printf("%s/%u with %u RLOCs: %s\n", text, eid.plen, count, altmap_strerror(result));
    fflush(stdout);
    return at;
}

static void answered(altmap *router) {
    uint8_t octets[4096];
    ssize_t n = recv(udp, octets, sizeof octets, MSG_DONTWAIT);
    if (n < 12 || octets[0] >> 4 != 2) /* not a Map-Reply */
        return;
    for (struct question *each = questions; each < questions + QUESTIONS; each++) {
        if (each->nonce == 0 || memcmp(octets + 4, &each->nonce, 8) != 0)
            continue;
        each->nonce = 0;
        const uint8_t *at = octets + 12;
        for (unsigned left = octets[3]; left > 0 && at; left--)
            at = record(router, at, octets + n);
        return;
    }
}

static int wake(void) {
    long long now = now_ms(), next = now + 60000;
    for (struct question *each = questions; each < questions + QUESTIONS; each++) {
        if (each->nonce != 0 && each->next <= now) {
            if (each->tries >= TRIES)
                each->nonce = 0;
            else
                ask(each);
        }
        if (each->nonce != 0 && each->next < next)
            next = each->next;
    }
    return (int)(next - now);
}

int main(int argc, char **argv) {
    if (argc != 4 || parse(argv[2], 0, &rloc) != 0 || parse(argv[3], CONTROL_PORT, &resolver) != 0) {
        fprintf(stderr, "usage: mapd SOCKET RLOC MAP-RESOLVER\n");
        return 2;
    }
    socklen_t length = sizeof rloc;
    udp = socket(rloc.ss_family, SOCK_DGRAM, 0);
    if (udp < 0 || bind(udp, (struct sockaddr *)&rloc, length_of(&rloc)) != 0 ||
        getsockname(udp, (struct sockaddr *)&rloc, &length) != 0) {
        perror("mapd");
        return 1;
    }
    altmap *router = NULL;
    int result = altmap_open(argv[1], ALTMAP_ABI, &router);
    if (result == 0)
        result = altmap_subscribe(router, 1u << ALTMAP_OP_MISS, 0, NULL);
    if (result == 0) {
        printf("ready\n");
        fflush(stdout);
    }
    while (result == 0) {
        altmap_event event = {.size = sizeof event};
        while ((result = altmap_next(router, &event, 0)) == 0)
            missed(&event);
        if (result != -EAGAIN)
            break;
        struct pollfd sources[2] = {{.fd = altmap_fd(router), .events = POLLIN}, {.fd = udp, .events = POLLIN}};
        result = poll(sources, 2, wake()) < 0 && errno != EINTR ? -errno : 0;
        if (result == 0 && sources[1].revents)
            answered(router);
    }
    fprintf(stderr, "mapd: %s\n", altmap_strerror(result));
    altmap_close(router);
    return 1;
}
