/* DPDK's rte_lpm (IPv4) and rte_lpm6 (IPv6) as references of `altitude-perf lpm`, which compiles, starts and asks it.
 *
 *   lpm 4|6 CORE MEGABYTES
 *
 * Commands come on standard input, each a line and what belongs to it; each is answered on standard output by a line
 * `ok …` or `error why`. Numbers in binary have this machine's order of octets.
 *
 *   table add|fill N GROUPS     N rules; → ok OCTETS
 *   queries N                   N addresses, of IPv4 uint32_t, of IPv6 16 octets; → ok
 *   answers BATCH N             → ok, and N uint32_t: the rule's value, 0xffffffff for none
 *   round BATCH MICROSECONDS    → ok NANOSECONDS of CPU time per look-up
 *
 * The tables lie in huge pages where the kernel gives them (madvise), as DPDK's users have them and as the subject has.
 *
 * `fill` writes the entries of rte_lpm's public struct itself, to the same effect as rte_lpm_add, which compares each
 * new rule with all rules of its length: minutes for a table of 900,000.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_lpm.h>
#include <rte_lpm6.h>
#include <rte_malloc.h>
#include <rte_memory.h>
#include <rte_version.h>

#define STRETCH 4096
#define BATCH_MAX 64
#define NONE UINT32_MAX

struct rule {
    uint8_t address[16]; /* IPv4: the first four */
    uint32_t length;
    uint32_t value;
};

static FILE *out;
static int family;
static struct rte_lpm *lpm4;
static struct rte_lpm6 *lpm6;
static uint32_t *queries4;
static uint8_t (*queries6)[RTE_LPM6_IPV6_ADDR_SIZE];
static size_t queries, position;

static void refuse(const char *what)
{
    fprintf(out, "error %s: %s\n", what, rte_errno ? rte_strerror(rte_errno) : strerror(errno));
    fflush(out);
    exit(1);
}

/* With --no-huge EAL would lay its heap into a file in memory, in small pages; refused, it maps plain memory. */
int memfd_create(const char *name, unsigned int flags)
{
    (void)name, (void)flags;
    errno = ENOSYS;
    return -1;
}

static int ask_for_huge_pages(const struct rte_memseg_list *list, void *unused)
{
    (void)unused;
    /* Refused, it stays with small ones. */
    madvise(list->base_va, list->len, MADV_HUGEPAGE);
    return 0;
}

static void *receive(size_t members, size_t size)
{
    void *octets = malloc(members * size);
    if (!octets || fread(octets, size, members, stdin) != members)
        refuse("reading");
    return octets;
}

static size_t allocated(void)
{
    struct rte_malloc_socket_stats stats;
    if (rte_malloc_get_socket_stats(0, &stats))
        refuse("rte_malloc_get_socket_stats");
    return stats.heap_allocsz_bytes;
}

static uint32_t number(const uint8_t octets[4])
{
    return (uint32_t)octets[0] << 24 | octets[1] << 16 | octets[2] << 8 | octets[3];
}

/* Rules come from short to long. */
static void fill(const struct rule *rule, uint32_t *groups)
{
    uint32_t address = number(rule->address);
    struct rte_lpm_tbl_entry entry = { .next_hop = rule->value, .valid = 1, .depth = rule->length };
    if (rule->length <= 24) {
        for (uint32_t slot = 0; slot < 1u << (24 - rule->length); slot++)
            lpm4->tbl24[(address >> 8) + slot] = entry;
        return;
    }
    struct rte_lpm_tbl_entry *slot = &lpm4->tbl24[address >> 8];
    if (!slot->valid_group) {
        struct rte_lpm_tbl_entry before = *slot;
        before.valid_group = 1;
        for (uint32_t place = 0; place < RTE_LPM_TBL8_GROUP_NUM_ENTRIES; place++)
            lpm4->tbl8[*groups * RTE_LPM_TBL8_GROUP_NUM_ENTRIES + place] = before;
        *slot = (struct rte_lpm_tbl_entry){ .next_hop = (*groups)++, .valid = 1, .valid_group = 1 };
    }
    entry.valid_group = 1;
    struct rte_lpm_tbl_entry *group = &lpm4->tbl8[slot->next_hop * RTE_LPM_TBL8_GROUP_NUM_ENTRIES];
    for (uint32_t place = 0; place < 1u << (32 - rule->length); place++)
        group[(address & 0xff) + place] = entry;
}

static void table(const char *how, size_t members, uint32_t groups)
{
    struct rule *rules = receive(members, sizeof *rules);
    int direct = strcmp(how, "fill") == 0;
    size_t before = allocated();
    uint32_t next = 0;
    if (family == 4) {
        struct rte_lpm_config config = { .max_rules = direct ? 1 : members, .number_tbl8s = groups };
        if (!(lpm4 = rte_lpm_create("reference", SOCKET_ID_ANY, &config)))
            refuse("rte_lpm_create");
    } else {
        struct rte_lpm6_config config = { .max_rules = members, .number_tbl8s = groups };
        if (!(lpm6 = rte_lpm6_create("reference", SOCKET_ID_ANY, &config)))
            refuse("rte_lpm6_create");
    }
    for (size_t place = 0; place < members; place++) {
        const struct rule *rule = &rules[place];
        int status = 0;
        if (family == 6)
            status = rte_lpm6_add(lpm6, rule->address, rule->length, rule->value);
        else if (direct)
            fill(rule, &next);
        else
            status = rte_lpm_add(lpm4, number(rule->address), rule->length, rule->value);
        if (status < 0) {
            rte_errno = -status;
            refuse("adding a rule");
        }
    }
    free(rules);
    fprintf(out, "ok %zu\n", allocated() - before);
}

/* The answers of as many as `batch` queries from `start`; `batch` is a constant where this is inlined. */
static inline __attribute__((always_inline)) void look_up(size_t start, size_t batch, uint32_t *found)
{
    if (family == 4 && batch == 1) {
        uint32_t hop;
        found[0] = rte_lpm_lookup(lpm4, queries4[start], &hop) ? 0 : hop | RTE_LPM_LOOKUP_SUCCESS;
    } else if (family == 4) {
        rte_lpm_lookup_bulk(lpm4, queries4 + start, found, batch);
    } else if (batch == 1) {
        uint32_t hop;
        found[0] = rte_lpm6_lookup(lpm6, queries6[start], &hop) ? NONE : hop;
    } else {
        rte_lpm6_lookup_bulk_func(lpm6, queries6 + start, (int32_t *)found, batch);
    }
}

static inline __attribute__((always_inline)) void stretch(size_t start, size_t batch)
{
    uint32_t found[BATCH_MAX];
    for (size_t done = 0; done < STRETCH; done += batch) {
        look_up(start + done, batch, found);
        __asm__ volatile("" : : "r"(found) : "memory");
    }
}

static void answers(size_t batch, size_t members)
{
    uint32_t *found = malloc((members + BATCH_MAX) * sizeof *found);
    if (!found || members > queries || members % batch)
        refuse("answers");
    for (size_t done = 0; done < members; done += batch)
        look_up(done, batch, found + done);
    for (size_t place = 0; family == 4 && place < members; place++)
        found[place] = found[place] & RTE_LPM_LOOKUP_SUCCESS ? found[place] & 0x00ffffff : NONE;
    fprintf(out, "ok\n");
    fwrite(found, sizeof *found, members, out);
    free(found);
}

static double clock_of(clockid_t clock)
{
    struct timespec at;
    clock_gettime(clock, &at);
    return at.tv_sec * 1e9 + at.tv_nsec;
}

/* As the other side does: rounds last so long, and the thread's own CPU time is what counts. */
static void measure(size_t batch, double nanoseconds)
{
    double start = clock_of(CLOCK_MONOTONIC), spent = clock_of(CLOCK_THREAD_CPUTIME_ID);
    size_t done = 0;
    do {
        switch (batch) {
        case 1: stretch(position, 1); break;
        case 8: stretch(position, 8); break;
        case 32: stretch(position, 32); break;
        case 64: stretch(position, 64); break;
        default: errno = EINVAL; refuse("batch");
        }
        position = (position + STRETCH) % queries;
        done += STRETCH;
    } while (clock_of(CLOCK_MONOTONIC) - start < nanoseconds);
    fprintf(out, "ok %f\n", (clock_of(CLOCK_THREAD_CPUTIME_ID) - spent) / done);
}

int main(int argc, char **argv)
{
    /* Standard output is for answers; what the libraries print goes to standard error. */
    out = fdopen(dup(STDOUT_FILENO), "w");
    dup2(STDERR_FILENO, STDOUT_FILENO);
    if (!out || argc != 4)
        return 2;
    family = atoi(argv[1]);
    char *eal[] = { argv[0], "-l", argv[2], "-m", argv[3], "--no-huge", "--no-pci", "--no-shconf", "--no-telemetry",
                    "--log-level=error", NULL };
    if (rte_eal_init(sizeof eal / sizeof *eal - 1, eal) < 0)
        refuse("rte_eal_init");
    rte_memseg_list_walk(ask_for_huge_pages, NULL);
    fprintf(out, "ok %s\n", rte_version());
    fflush(out);

    char line[128], how[8];
    size_t first, second;
    while (fgets(line, sizeof line, stdin)) {
        if (sscanf(line, "table %7s %zu %zu", how, &first, &second) == 3) {
            table(how, first, second);
        } else if (sscanf(line, "queries %zu", &first) == 1 && first % STRETCH == 0) {
            free(family == 4 ? (void *)queries4 : (void *)queries6);
            if (family == 4)
                queries4 = receive(first, sizeof *queries4);
            else
                queries6 = receive(first, sizeof *queries6);
            queries = first, position = 0;
            fprintf(out, "ok\n");
        } else if (sscanf(line, "answers %zu %zu", &first, &second) == 2) {
            answers(first, second);
        } else if (sscanf(line, "round %zu %zu", &first, &second) == 2 && queries) {
            measure(first, second * 1e3);
        } else {
            errno = EINVAL;
            refuse("command");
        }
        fflush(out);
    }
    return 0;
}
