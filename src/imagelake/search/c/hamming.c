/* Hamming distances: the k nearest rows of some queries, and everyone within a radius. hamming_native.py calls both.
 *
 * Nothing is allocated and nothing is static, so any number of threads may call at once.
 */
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__) && defined(__GNUC__)
#define COUNTS_BITS __attribute__((target("popcnt")))
#else
#define COUNTS_BITS
#endif
#define INLINE static inline __attribute__((always_inline)) COUNTS_BITS

enum { MOST_WORDS = 16, DISTANCE_AT = 40, QUERY_AT = 52 };

/* Codes word by word: word j of code i is words[j * stride + i], so that rows side by side are read side by side. A
 * code of 2 or 4 bytes is one word of that size; any other is 1 to MOST_WORDS words of 8 bytes. */
typedef struct {
    const void *words;
    int64_t word_bytes;
    int64_t words_each;
    int64_t stride;
    int64_t count;
} Codes;

/* The candidates of one query, in the order of the rows. Whoever is not nearer than `worst` is not among the k nearest:
 * k rows before it are at least as near. Counting distances keeps `worst` exact at every row for a few instructions a
 * candidate, whatever k is; a sorted list would cost k. */
typedef struct {
    int64_t k;
    int64_t room;    /* above k, or all rows */
    int64_t held;
    int64_t nearer;  /* candidates so far that are nearer than `worst`: below k */
    int64_t worst;
    int64_t *counts; /* [bits + 1]: candidates so far at each distance */
    int64_t *keys;   /* [room]: distance << DISTANCE_AT | row */
} Nearest;

int64_t imagelake_hamming_runs(void) {
#if defined(__x86_64__) && defined(__GNUC__)
    return __builtin_cpu_supports("popcnt") != 0;
#else
    return 1;
#endif
}

INLINE uint64_t word_at(const void *words, int64_t bytes, int64_t at) {
    if (bytes == 2) return ((const uint16_t *)words)[at];
    if (bytes == 4) return ((const uint32_t *)words)[at];
    return ((const uint64_t *)words)[at];
}

/* The first row from `row` on that is nearer than `limit`, with its distance; or `last`. Nothing is called or written
 * in here, so that all it needs stays in registers; `query` is a copy for the same reason. */
INLINE int64_t next_nearer(const Codes *rows, int64_t row, int64_t last, const uint64_t *query, int64_t limit,
                           int64_t *found, int64_t bytes, int64_t words_each) {
    const void *words = rows->words;
    const int64_t stride = rows->stride;
    for (; row < last; row++) {
        int64_t distance = 0;
        for (int64_t j = 0; j < words_each; j++)
            distance += __builtin_popcountll(word_at(words, bytes, j * stride + row) ^ query[j]);
        if (__builtin_expect(distance < limit, 0)) {
            *found = distance;
            return row;
        }
    }
    return last;
}

COUNTS_BITS static void read_code(const Codes *codes, int64_t at, uint64_t *out) {
    for (int64_t j = 0; j < codes->words_each; j++)
        out[j] = word_at(codes->words, codes->word_bytes, j * codes->stride + at);
}

/* What SCAN(bytes, words_each) does, for constants that the compiler can unroll the loop over words with. */
#define FOR_THE_WIDTH_OF(codes, SCAN)                        \
    if ((codes)->word_bytes == 2) SCAN(2, 1);                \
    else if ((codes)->word_bytes == 4) SCAN(4, 1);           \
    else if ((codes)->words_each == 1) SCAN(8, 1);           \
    else if ((codes)->words_each == 2) SCAN(8, 2);           \
    else if ((codes)->words_each == 4) SCAN(8, 4);           \
    else if ((codes)->words_each == 8) SCAN(8, 8);           \
    else if ((codes)->words_each == 16) SCAN(8, 16);         \
    else SCAN(8, (codes)->words_each)

/* ---- the k nearest ---- */

/* Keeps those that may still be among the k nearest. These are k: `nearer`, and the first of those at `worst`. */
static void thin_out(Nearest *n) {
    int64_t kept = 0, ties = n->k - n->nearer;
    for (int64_t i = 0; i < n->held; i++) {
        const int64_t key = n->keys[i], distance = key >> DISTANCE_AT;
        if (distance < n->worst || (distance == n->worst && ties-- > 0)) n->keys[kept++] = key;
    }
    n->held = kept;
}

static void accept(Nearest *n, int64_t distance, int64_t row) {
    if (n->held == n->room) thin_out(n);
    n->keys[n->held++] = distance << DISTANCE_AT | row;
    n->counts[distance]++;
    n->nearer++;
    while (n->nearer >= n->k) n->nearer -= n->counts[--n->worst];
}

INLINE void scan_nearest(const Codes *rows, int64_t first, int64_t last, const uint64_t *query, Nearest *n,
                         int64_t bytes, int64_t words_each) {
    int64_t distance = 0;
    for (int64_t row = first;; row++) {
        row = next_nearer(rows, row, last, query, n->worst, &distance, bytes, words_each);
        if (row == last) return;
        accept(n, distance, row);
    }
}

/* Writes the k nearest by (distance, row): a counting sort, as the candidates are in the order of rows already. */
static void finish(Nearest *n, int32_t *distances, int64_t *columns) {
    int64_t next = 0;
    for (int64_t distance = 0; distance <= n->worst; distance++) {
        const int64_t count = n->counts[distance];
        n->counts[distance] = next;
        next += count;
    }
    for (int64_t i = 0; i < n->held; i++) {
        const int64_t distance = n->keys[i] >> DISTANCE_AT;
        if (distance > n->worst) continue;
        const int64_t at = n->counts[distance]++;
        if (at >= n->k) continue;
        distances[at] = (int32_t)distance;
        columns[at] = n->keys[i] & (((int64_t)1 << DISTANCE_AT) - 1);
    }
}

/* The k nearest rows of every query by (distance, row); 1 <= k <= rows. Rows are taken in tiles that stay in the cache
 * while all queries go over them. scratch: [queries][7 + bits + 1 + room] numbers of 8 bytes, of any value: a Nearest,
 * its counts and its keys, with room above k or for all rows. Out: [queries][k] of each. */
COUNTS_BITS void imagelake_hamming_nearest(const Codes *rows, const Codes *queries, int64_t k, int64_t tile,
                                           int64_t room, void *scratch, int32_t *distances, int64_t *columns) {
    const int64_t bits = 8 * rows->word_bytes * rows->words_each;
    const int64_t size = (int64_t)sizeof(Nearest) + 8 * (bits + 1 + room);
    uint64_t query[MOST_WORDS];
    for (int64_t first = 0; first < rows->count; first += tile) {
        const int64_t last = rows->count - first < tile ? rows->count : first + tile;
        for (int64_t i = 0; i < queries->count; i++) {
            Nearest *n = (Nearest *)((char *)scratch + i * size);
            if (first == 0) {
                int64_t *counts = (int64_t *)(n + 1);
                *n = (Nearest){k, room, 0, 0, bits + 1, counts, counts + bits + 1};
                memset(counts, 0, (size_t)(bits + 1) * sizeof *counts);
            }
            read_code(queries, i, query);
#define SCAN(bytes, words_each) scan_nearest(rows, first, last, query, n, bytes, words_each)
            FOR_THE_WIDTH_OF(rows, SCAN);
#undef SCAN
            if (last == rows->count) finish(n, distances + i * k, columns + i * k);
        }
    }
}

/* ---- everyone within a radius ---- */

/* Returns how many were found with these; writes those that there is room for. */
INLINE int64_t scan_within(const Codes *rows, int64_t first, int64_t last, const uint64_t *query, int64_t radius,
                           int64_t i, int64_t found, int64_t *keys, int64_t room, int64_t bytes, int64_t words_each) {
    int64_t distance = 0;
    for (int64_t row = first;; row++) {
        row = next_nearer(rows, row, last, query, radius + 1, &distance, bytes, words_each);
        if (row == last) return found;
        if (found < room) keys[found] = i << QUERY_AT | distance << DISTANCE_AT | row;
        found++;
    }
}

/* Everyone within the radius as query << QUERY_AT | distance << DISTANCE_AT | row, in no order. Returns how many there
 * are; only `room` of them are written, so call again with as much room as there are. */
COUNTS_BITS int64_t imagelake_hamming_within(const Codes *rows, const Codes *queries, int64_t radius, int64_t tile,
                                             int64_t *keys, int64_t room) {
    int64_t found = 0;
    uint64_t query[MOST_WORDS];
    for (int64_t first = 0; first < rows->count; first += tile) {
        const int64_t last = rows->count - first < tile ? rows->count : first + tile;
        for (int64_t i = 0; i < queries->count; i++) {
            read_code(queries, i, query);
#define SCAN(bytes, words_each) \
    found = scan_within(rows, first, last, query, radius, i, found, keys, room, bytes, words_each)
            FOR_THE_WIDTH_OF(rows, SCAN);
#undef SCAN
        }
    }
    return found;
}
