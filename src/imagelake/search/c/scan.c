/* The hot loop of exact search: bound every pair of a row and a query by 8-bit products of their first dimensions,
 * bound the few that are left by the others, and measure in float64 those that are left then. docs/exact-search.md has
 * the mathematics, encoding.py makes what is read here.
 *
 * Nothing here decides what is right: the bounds come with every rounding error in them. Integer products are the same
 * on every processor, and the float64 distance has one order of summation, so the answers are the same too.
 */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#define X86 1
#else
#define X86 0
#endif

enum { PANEL = 32, GROUP = 8, BLOCK = 128, QUERIES = 256, LANES = 16, LEVELS = 4 };
enum { METRIC_L2 = 0, METRIC_COSINE = 1, METRIC_DOT = 2 };
enum { PLAIN = 0, AVX2 = 1, AVX512 = 2, VNNI = 3 };

/* Rows of an index, in panels of 32. A code has 6 bits and a sign and is kept plus 64. Dimensions are in levels: those
 * of level 0, the head, are bounded for all pairs; the others for the pairs that are left. `row` has for each panel 32
 * offsets; then for each level 32 scales, 32 error norms, and 32 norms of all dimensions of the levels after it. */
typedef struct {
    int64_t panels;
    int64_t levels;        /* 1 to LEVELS */
    int64_t panel_levels;  /* so many of them are in panels, 1 to `levels` */
    int64_t level_dims[LEVELS];   /* a multiple of 4 in panels, else of 64 */
    const uint8_t *codes[LEVELS]; /* [panels][dims / 4][32][4] in panels, else [panels * 32][dims] */
    const float *row;      /* [panels][1 + 3 * levels][32] */
    const int64_t *rank;   /* [panels * 32]: the place of the row's id among all ids */
    const int64_t *source; /* [panels * 32]: the row in `vectors` */
    const void *vectors;   /* [..][dims], float32 or float64 */
    const double *inverse; /* [..]: one over the norm, for cosine */
    int64_t dims;
    int64_t is_double;
} Segment;

/* Queries, encoded alike, with 7 bits and a sign. `coef` has a factor of the offset, then for each level a scale, a
 * slack, the norm that goes with the row's error, and the norm that goes with the row's norm. A shift is minus 64 times
 * a sum of codes, for each BLOCK of them: it takes back what the 64 in the rows' codes adds. */
typedef struct {
    int64_t count;
    const int8_t *codes[LEVELS];  /* [count][dims] */
    const int32_t *shift[LEVELS]; /* [count][blocks][2]: of the codes 4 i, 4 i + 1; of the codes 4 i + 2, 4 i + 3 */
    const int16_t *lanes[LEVELS]; /* [count][blocks][32]: of the codes 64 i + 2 j, 64 i + 2 j + 1 */
    const float *coef;            /* [count][1 + 4 * levels] */
    const double *threshold;      /* [count][3]: origin, factor, slack */
    const void *vectors;          /* [count][dims] */
    const double *inverse;        /* [count] */
    int64_t is_double;
} Queries;

/* What was found: per query a max-heap of (distance, rank); or, with a radius, everybody within it. */
typedef struct {
    int64_t k;
    double *distance;         /* [count][k] */
    int64_t *rank;            /* [count][k] */
    int64_t *held;            /* [count] */
    const double *radius;     /* [count], or null */
    int64_t *found_query;     /* [capacity], with a radius */
    int64_t *found_rank;
    double *found_distance;
    int64_t capacity;
    int64_t found;            /* may pass the capacity: then call again with more */
    float *excluded;          /* [count]: the greatest bound of a pair that was not measured, or null */
    const int64_t *own_rank;  /* [count], or null: the query's own rank, which is no answer */
    int64_t only_above;       /* with own_rank: nor are those below it */
    int64_t metric;
    int64_t counts[4];        /* pairs bounded by the head, by all dimensions, measured; panels bounded whole */
} Answer;

static int level = PLAIN;

static int64_t blocks_of(int64_t dims) { return (dims + BLOCK - 1) / BLOCK; }

/* ---- products of a panel with up to GROUP queries: out[query][32] = sum of (row code - 64) * query code ---- */

/* Queries that go through together, up to GROUP: their codes and shifts. */
typedef struct {
    int64_t count;
    int64_t query[GROUP];
    const int8_t *codes[GROUP];
    const int32_t *shift[GROUP];
} Group;

typedef void (*Products)(const uint8_t *panel, const Group *group, int64_t dims, int32_t *out);

static void products_plain(const uint8_t *panel, const Group *group, int64_t dims, int32_t *out) {
    for (int64_t i = 0; i < group->count; i++) {
        int32_t sums[PANEL];
        int32_t start = 0;
        for (int64_t b = 0; b < 2 * blocks_of(dims); b++) start += group->shift[i][b];
        for (int r = 0; r < PANEL; r++) sums[r] = start;
        for (int64_t d = 0; d < dims; d += 4) {
            const uint8_t *codes = panel + d * PANEL;
            const int8_t *q = group->codes[i] + d;
            for (int r = 0; r < PANEL; r++)
                sums[r] += q[0] * codes[4 * r] + q[1] * codes[4 * r + 1] + q[2] * codes[4 * r + 2] + q[3] * codes[4 * r + 3];
        }
        memcpy(out + i * PANEL, sums, sizeof sums);
    }
}

#if X86
/* The 16-bit sums of a BLOCK wrap on the way. They start at the shift, so that what they end with is the true product
 * of two blocks of codes, whose norms are at most 181 each: it fits. A pair of products cannot saturate, being at most
 * 2 * 127 * 127. */
#define EACH8(DO) DO(0) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7)

__attribute__((target("avx512f,avx512bw"))) static void products_avx512(const uint8_t *panel, const Group *group,
                                                                        int64_t dims, int32_t *out) {
    const int64_t blocks = blocks_of(dims), n = group->count;
    const __m512i ones = _mm512_set1_epi16(1);
#define POINT(i) const int8_t *at##i = group->codes[i < n ? i : 0];
    EACH8(POINT)
    for (int64_t block = 0; block < blocks; block++) {
        const int64_t stop = (block + 1) * BLOCK < dims ? (block + 1) * BLOCK : dims;
        /* Sixteen sums in registers; the empty asm keeps the compiler from moving them about. */
#define START(i)                                                                              \
    const int32_t *from##i = group->shift[i < n ? i : 0] + 2 * block;                         \
    __m512i low##i = _mm512_set1_epi32((from##i[0] & 0xffff) | (int32_t)((uint32_t)from##i[1] << 16)), high##i = low##i;
#define STEP(i)                                                      \
    memcpy(&four, at##i + d, 4);                                     \
    q = _mm512_set1_epi32(four);                                     \
    low##i = _mm512_add_epi16(low##i, _mm512_maddubs_epi16(a, q));   \
    high##i = _mm512_add_epi16(high##i, _mm512_maddubs_epi16(b, q)); \
    __asm__("" : "+v"(low##i), "+v"(high##i));
#define KEEP(i)                                                                        \
    {                                                                                  \
        __m512i l = _mm512_madd_epi16(low##i, ones), h = _mm512_madd_epi16(high##i, ones); \
        if (block) {                                                                   \
            l = _mm512_add_epi32(l, _mm512_loadu_si512(out + i * PANEL));              \
            h = _mm512_add_epi32(h, _mm512_loadu_si512(out + i * PANEL + 16));         \
        }                                                                              \
        _mm512_storeu_si512(out + i * PANEL, l);                                       \
        _mm512_storeu_si512(out + i * PANEL + 16, h);                                  \
    }
        EACH8(START)
        for (int64_t d = block * BLOCK; d < stop; d += 4) {
            const __m512i a = _mm512_loadu_si512(panel + d * PANEL), b = _mm512_loadu_si512(panel + d * PANEL + 64);
            __m512i q;
            int32_t four;
            EACH8(STEP)
        }
        EACH8(KEEP)
#undef START
#undef STEP
#undef KEEP
    }
}

/* One instruction instead of two, and no wrapping. */
__attribute__((target("avx512f,avx512bw,avx512vnni"))) static void products_vnni(const uint8_t *panel, const Group *group,
                                                                                 int64_t dims, int32_t *out) {
    const int64_t blocks = blocks_of(dims), n = group->count;
    EACH8(POINT)
#define START(i)                                                                                         \
    int32_t from##i = 0;                                                                                 \
    for (int64_t b = 0; b < 2 * blocks; b++) from##i += group->shift[i < n ? i : 0][b];                  \
    __m512i low##i = _mm512_set1_epi32(from##i), high##i = low##i;
#define STEP(i)                                      \
    memcpy(&four, at##i + d, 4);                     \
    q = _mm512_set1_epi32(four);                     \
    low##i = _mm512_dpbusd_epi32(low##i, a, q);      \
    high##i = _mm512_dpbusd_epi32(high##i, b, q);    \
    __asm__("" : "+v"(low##i), "+v"(high##i));
#define KEEP(i)                                          \
    _mm512_storeu_si512(out + i * PANEL, low##i);        \
    _mm512_storeu_si512(out + i * PANEL + 16, high##i);
    EACH8(START)
    for (int64_t d = 0; d < dims; d += 4) {
        const __m512i a = _mm512_loadu_si512(panel + d * PANEL), b = _mm512_loadu_si512(panel + d * PANEL + 64);
        __m512i q;
        int32_t four;
        EACH8(STEP)
    }
    EACH8(KEEP)
#undef START
#undef STEP
#undef KEEP
#undef POINT
}

__attribute__((target("avx2"))) static void products_avx2(const uint8_t *panel, const Group *group,
                                                          int64_t dims, int32_t *out) {
    const int64_t blocks = blocks_of(dims), n = group->count;
    const __m256i ones = _mm256_set1_epi16(1);
    for (int64_t i = 0; i < n; i += 2) {
        const int64_t j = i + 1 < n ? i + 1 : i;
        for (int64_t block = 0; block < blocks; block++) {
            const int64_t stop = (block + 1) * BLOCK < dims ? (block + 1) * BLOCK : dims;
            const int32_t *u = group->shift[i] + 2 * block, *v = group->shift[j] + 2 * block;
            __m256i s[4], t[4];
            for (int r = 0; r < 4; r++) {
                s[r] = _mm256_set1_epi32((u[0] & 0xffff) | (int32_t)((uint32_t)u[1] << 16));
                t[r] = _mm256_set1_epi32((v[0] & 0xffff) | (int32_t)((uint32_t)v[1] << 16));
            }
            for (int64_t d = block * BLOCK; d < stop; d += 4) {
                int32_t p, q;
                memcpy(&p, group->codes[i] + d, 4);
                memcpy(&q, group->codes[j] + d, 4);
                const __m256i x = _mm256_set1_epi32(p), y = _mm256_set1_epi32(q);
#pragma GCC unroll 4
                for (int r = 0; r < 4; r++) {
                    const __m256i a = _mm256_loadu_si256((const __m256i *)(panel + d * PANEL + 32 * r));
                    s[r] = _mm256_add_epi16(s[r], _mm256_maddubs_epi16(a, x));
                    t[r] = _mm256_add_epi16(t[r], _mm256_maddubs_epi16(a, y));
                }
            }
            for (int r = 0; r < 4; r++) {
                __m256i *to = (__m256i *)(out + i * PANEL + 8 * r), *other = (__m256i *)(out + j * PANEL + 8 * r);
                const __m256i a = _mm256_madd_epi16(s[r], ones), b = _mm256_madd_epi16(t[r], ones);
                if (j != i) _mm256_storeu_si256(other, block ? _mm256_add_epi32(b, _mm256_loadu_si256(other)) : b);
                _mm256_storeu_si256(to, block ? _mm256_add_epi32(a, _mm256_loadu_si256(to)) : a);
            }
        }
    }
}
#endif

/* ---- the product of one row and one query ---- */

typedef int32_t (*Dot)(const uint8_t *row, const int8_t *query, const int16_t *lanes, int64_t dims);

static int32_t dot_plain(const uint8_t *row, const int8_t *query, const int16_t *lanes, int64_t dims) {
    (void)lanes;
    int32_t sum = 0;
    for (int64_t d = 0; d < dims; d++) sum += ((int32_t)row[d] - 64) * query[d];
    return sum;
}

#if X86
__attribute__((target("avx512f,avx512bw"))) static int32_t dot_avx512(const uint8_t *row, const int8_t *query,
                                                                      const int16_t *lanes, int64_t dims) {
    const __m512i ones = _mm512_set1_epi16(1);
    __m512i total = _mm512_setzero_si512();
    for (; dims >= BLOCK; dims -= BLOCK, row += BLOCK, query += BLOCK, lanes += 32) {
        const __m512i a = _mm512_maddubs_epi16(_mm512_loadu_si512(row), _mm512_loadu_si512(query));
        const __m512i b = _mm512_maddubs_epi16(_mm512_loadu_si512(row + 64), _mm512_loadu_si512(query + 64));
        const __m512i sums = _mm512_add_epi16(_mm512_add_epi16(a, b), _mm512_loadu_si512(lanes));
        total = _mm512_add_epi32(total, _mm512_madd_epi16(sums, ones));
    }
    if (dims) {
        const __m512i a = _mm512_maddubs_epi16(_mm512_loadu_si512(row), _mm512_loadu_si512(query));
        total = _mm512_add_epi32(total, _mm512_madd_epi16(_mm512_add_epi16(a, _mm512_loadu_si512(lanes)), ones));
    }
    return _mm512_reduce_add_epi32(total);
}

__attribute__((target("avx2"))) static int32_t dot_avx2(const uint8_t *row, const int8_t *query, const int16_t *lanes,
                                                        int64_t dims) {
    const __m256i ones = _mm256_set1_epi16(1);
    __m256i total = _mm256_setzero_si256();
    for (int64_t start = 0; start < dims; start += BLOCK, lanes += 32) {
        const int64_t stop = start + BLOCK < dims ? start + BLOCK : dims;
        __m256i low = _mm256_loadu_si256((const __m256i *)lanes), high = _mm256_loadu_si256((const __m256i *)(lanes + 16));
        for (int64_t d = start; d < stop; d += 64) {
            low = _mm256_add_epi16(low, _mm256_maddubs_epi16(_mm256_loadu_si256((const __m256i *)(row + d)),
                                                             _mm256_loadu_si256((const __m256i *)(query + d))));
            high = _mm256_add_epi16(high, _mm256_maddubs_epi16(_mm256_loadu_si256((const __m256i *)(row + d + 32)),
                                                               _mm256_loadu_si256((const __m256i *)(query + d + 32))));
        }
        total = _mm256_add_epi32(total, _mm256_add_epi32(_mm256_madd_epi16(low, ones), _mm256_madd_epi16(high, ones)));
    }
    int32_t parts[8], sum = 0;
    _mm256_storeu_si256((__m256i *)parts, total);
    for (int i = 0; i < 8; i++) sum += parts[i];
    return sum;
}
#endif

/* ---- the exact distance: float64, 16 running sums in order, then halved four times ---- */

typedef double Lanes __attribute__((vector_size(8 * LANES)));
typedef float LanesOfFloat __attribute__((vector_size(4 * LANES)));
typedef Lanes LanesOfDouble;

#define ONE_TERM(x, q)                                                                 \
    if (metric == METRIC_DOT) {                                                        \
        x = x * q;                                                                     \
    } else {                                                                           \
        if (metric == METRIC_COSINE) x = x * row_inverse, q = q * query_inverse;       \
        x = x - q;                                                                     \
        x = x * x;                                                                     \
    }

#define EXACT(name, number, Narrow, attributes)                                                                  \
    attributes static double name(const number *row, const double *query, int64_t dims, int64_t metric,          \
                                  double row_inverse, double query_inverse) {                                    \
        Lanes sums = {0};                                                                                        \
        int64_t d = 0;                                                                                           \
        for (; d + LANES <= dims; d += LANES) {                                                                  \
            Narrow narrow;                                                                                       \
            Lanes q;                                                                                             \
            memcpy(&narrow, row + d, sizeof narrow);                                                             \
            memcpy(&q, query + d, sizeof q);                                                                     \
            Lanes x = __builtin_convertvector(narrow, Lanes);                                                    \
            ONE_TERM(x, q)                                                                                       \
            sums = sums + x;                                                                                     \
        }                                                                                                        \
        double s[LANES];                                                                                         \
        memcpy(s, &sums, sizeof s);                                                                              \
        for (int i = 0; d < dims; d++, i++) {                                                                    \
            double x = (double)row[d], q = query[d];                                                             \
            ONE_TERM(x, q)                                                                                       \
            s[i] = s[i] + x;                                                                                     \
        }                                                                                                        \
        for (int half = LANES / 2; half; half /= 2)                                                              \
            for (int i = 0; i < half; i++) s[i] = s[i] + s[i + half];                                            \
        return s[0];                                                                                             \
    }

EXACT(exact_float, float, LanesOfFloat, )
EXACT(exact_double, double, LanesOfDouble, )
#if X86
EXACT(exact_float_avx2, float, LanesOfFloat, __attribute__((target("avx2"))))
EXACT(exact_double_avx2, double, LanesOfDouble, __attribute__((target("avx2"))))
EXACT(exact_float_avx512, float, LanesOfFloat, __attribute__((target("avx512f,avx512dq"))))
EXACT(exact_double_avx512, double, LanesOfDouble, __attribute__((target("avx512f,avx512dq"))))
#endif

static double exact(const void *row, int64_t is_double, const double *query, int64_t dims, int64_t metric,
                    double row_inverse, double query_inverse) {
#if X86
    if (level >= AVX512)
        return is_double ? exact_double_avx512(row, query, dims, metric, row_inverse, query_inverse)
                         : exact_float_avx512(row, query, dims, metric, row_inverse, query_inverse);
    if (level == AVX2)
        return is_double ? exact_double_avx2(row, query, dims, metric, row_inverse, query_inverse)
                         : exact_float_avx2(row, query, dims, metric, row_inverse, query_inverse);
#endif
    return is_double ? exact_double(row, query, dims, metric, row_inverse, query_inverse)
                     : exact_float(row, query, dims, metric, row_inverse, query_inverse);
}

static const void *row_at(const Segment *s, int64_t source) {
    return s->is_double ? (const void *)((const double *)s->vectors + source * s->dims)
                        : (const void *)((const float *)s->vectors + source * s->dims);
}

static double measure(const Segment *s, int64_t source, const double *query, double query_inverse, int64_t metric) {
    const double row_inverse = metric == METRIC_COSINE ? s->inverse[source] : 1.0;
    if (metric == METRIC_COSINE && (row_inverse == 0.0) != (query_inverse == 0.0)) return 1.0; /* no angle */
    const double sum = exact(row_at(s, source), s->is_double, query, s->dims, metric, row_inverse, query_inverse);
    return metric == METRIC_L2 ? sqrt(sum) : metric == METRIC_COSINE ? 0.5 * sum : -sum;
}

/* ---- heaps: the worst of the k best on top ---- */

static int worse(double d1, int64_t r1, double d2, int64_t r2) { return d1 > d2 || (d1 == d2 && r1 > r2); }

static void push(double *d, int64_t *r, int64_t *held, int64_t k, double distance, int64_t rank) {
    int64_t at = 0;
    if (*held < k) {
        at = (*held)++;
        for (int64_t parent; at > 0; at = parent) {
            parent = (at - 1) / 2;
            if (!worse(distance, rank, d[parent], r[parent])) break;
            d[at] = d[parent], r[at] = r[parent];
        }
    } else {
        if (!worse(d[0], r[0], distance, rank)) return;
        for (int64_t child; (child = 2 * at + 1) < k; at = child) {
            if (child + 1 < k && worse(d[child + 1], r[child + 1], d[child], r[child])) child++;
            if (!worse(d[child], r[child], distance, rank)) break;
            d[at] = d[child], r[at] = r[child];
        }
    }
    d[at] = distance, r[at] = rank;
}

/* The least bound of a row that can be at `distance` or nearer. */
static float least(const double *threshold, double distance, int64_t metric) {
    const double value = metric == METRIC_L2 ? distance * distance : metric == METRIC_COSINE ? 2.0 * distance : distance;
    const double t = (threshold[0] - value) * threshold[1] - threshold[2] - fabs(value) * threshold[1] * 1e-11 - 1e-37;
    return t > -3e38 ? nextafterf((float)(t < 3e38 ? t : 3e38), -INFINITY) : -INFINITY;
}

/* ---- one call's work ---- */

typedef struct Work {
    const Segment *s;
    const Queries *q;
    Answer *a;
    double *wide;            /* [count][dims]: the queries in float64, each made when it is first needed */
    char *widened;           /* [count] */
    float least[QUERIES];
    uint32_t mask[QUERIES];
    float bound[QUERIES][PANEL];
    int32_t product[GROUP * PANEL];
    int32_t open[QUERIES]; /* queries of which the panel has rows left, in order */
    const int64_t *seed_start; /* or null */
    const int32_t *seed_panel;
    Group head[QUERIES / GROUP]; /* the queries in groups, for level 0 */
    Products products;
    Dot dot;
    void (*reach)(struct Work *w, const Group *group, int64_t level, const float *row, const float *before);
} Work;

/* ---- bounds of a panel for a group of queries, and which of them reach the threshold ---- */

/* bound += scale * (scale * product + slack) + error * norm + norm of the rest * norm of the rest: `row` and `coef` are
 * those of a level. At level 0 the bound starts with the offset, later it loses what stood for this level: the norm
 * of the rest before. The mask loses rows that do not reach the threshold; a bound that is no number says nothing, and
 * loses none. */
#define REACH(name, attributes)                                                                                        \
    attributes static void name(Work *w, const Group *group, int64_t level, const float *row, const float *before) {   \
        for (int64_t g = 0; g < group->count; g++) {                                                                   \
            const int64_t query = group->query[g];                                                                     \
            const float *coef = w->q->coef + (1 + 4 * w->s->levels) * query + 1 + 4 * level;                           \
            const float least = w->least[query];                                                                       \
            const int32_t *product = w->product + g * PANEL;                                                           \
            float *bound = w->bound[query];                                                                            \
            uint32_t mask = 0;                                                                                         \
            for (int r = 0; r < PANEL; r++) {                                                                          \
                const float start = (level ? bound[r] : 0) - before[r] * coef[-1];                                     \
                bound[r] = start + row[r] * (coef[0] * (float)product[r] + coef[1]) + row[PANEL + r] * coef[2] +       \
                    row[2 * PANEL + r] * coef[3];                                                                      \
            }                                                                                                          \
            for (int r = 0; r < PANEL; r++) mask |= (uint32_t)!(bound[r] < least) << r;                               \
            w->mask[query] = level ? w->mask[query] & mask : mask;                                                     \
        }                                                                                                              \
    }

REACH(reach_plain, )
#if X86
REACH(reach_avx2, __attribute__((target("avx2,fma"))))

__attribute__((target("avx512f,avx512bw"))) static void reach_avx512(Work *w, const Group *group, int64_t level,
                                                                     const float *row, const float *before) {
    const __m512 zero = _mm512_setzero_ps(), before0 = _mm512_loadu_ps(before), before1 = _mm512_loadu_ps(before + 16);
    const __m512 scale0 = _mm512_loadu_ps(row), scale1 = _mm512_loadu_ps(row + 16);
    const __m512 error0 = _mm512_loadu_ps(row + PANEL), error1 = _mm512_loadu_ps(row + PANEL + 16);
    const __m512 rest0 = _mm512_loadu_ps(row + 2 * PANEL), rest1 = _mm512_loadu_ps(row + 2 * PANEL + 16);
    const int64_t coef_size = 1 + 4 * w->s->levels;
    for (int64_t g = 0; g < group->count; g++) {
        const int64_t query = group->query[g];
        const float *coef = w->q->coef + coef_size * query + 1 + 4 * level;
        const int32_t *product = w->product + g * PANEL;
        float *bound = w->bound[query];
        const __m512 c0 = _mm512_set1_ps(coef[0]), c1 = _mm512_set1_ps(coef[1]), c2 = _mm512_set1_ps(coef[2]);
        const __m512 c3 = _mm512_set1_ps(coef[3]), factor = _mm512_set1_ps(coef[-1]);
        const __m512 least = _mm512_set1_ps(w->least[query]);
        __m512 v = level ? _mm512_loadu_ps(bound) : zero, u = level ? _mm512_loadu_ps(bound + 16) : zero;
        v = _mm512_fnmadd_ps(before0, factor, v);
        u = _mm512_fnmadd_ps(before1, factor, u);
        v = _mm512_fmadd_ps(scale0, _mm512_fmadd_ps(c0, _mm512_cvtepi32_ps(_mm512_loadu_si512(product)), c1), v);
        u = _mm512_fmadd_ps(scale1, _mm512_fmadd_ps(c0, _mm512_cvtepi32_ps(_mm512_loadu_si512(product + 16)), c1), u);
        v = _mm512_fmadd_ps(rest0, c3, _mm512_fmadd_ps(error0, c2, v));
        u = _mm512_fmadd_ps(rest1, c3, _mm512_fmadd_ps(error1, c2, u));
        _mm512_storeu_ps(bound, v);
        _mm512_storeu_ps(bound + 16, u);
        const uint32_t mask = (uint32_t)_mm512_cmp_ps_mask(v, least, _CMP_NLT_UQ) |
            (uint32_t)_mm512_cmp_ps_mask(u, least, _CMP_NLT_UQ) << 16;
        w->mask[query] = level ? w->mask[query] & mask : mask;
    }
}
#endif

static void join(Group *group, const Queries *q, int64_t query, int64_t at, int64_t dims) {
    group->query[group->count] = query;
    group->codes[group->count] = q->codes[at] + query * dims;
    group->shift[group->count++] = q->shift[at] + query * 2 * blocks_of(dims);
}

static int was_seeded(const Work *w, int64_t group, int32_t panel) {
    if (!w->seed_start) return 0;
    int64_t low = w->seed_start[group], high = w->seed_start[group + 1];
    while (low < high) {
        const int64_t middle = (low + high) / 2;
        if (w->seed_panel[middle] < panel) low = middle + 1;
        else high = middle;
    }
    return low < w->seed_start[group + 1] && w->seed_panel[low] == panel;
}

static void take(Work *w, int64_t i, int64_t row) {
    const Segment *s = w->s;
    const Queries *q = w->q;
    Answer *a = w->a;
    const int64_t rank = s->rank[row];
    if (rank < 0) return; /* removed, or padding */
    if (a->own_rank && (rank == a->own_rank[i] || (a->only_above && rank < a->own_rank[i]))) return;
    double *query = w->wide + i * s->dims;
    if (!w->widened[i]) {
        for (int64_t d = 0; d < s->dims; d++)
            query[d] = q->is_double ? ((const double *)q->vectors)[i * s->dims + d]
                                    : (double)((const float *)q->vectors)[i * s->dims + d];
        w->widened[i] = 1;
    }
    a->counts[2]++;
    const double distance = measure(s, s->source[row], query, q->inverse ? q->inverse[i] : 1.0, a->metric);
    if (a->radius) {
        if (!(distance <= a->radius[i])) return;
        const int64_t at = a->found++;
        if (at < a->capacity) a->found_query[at] = i, a->found_rank[at] = rank, a->found_distance[at] = distance;
        return;
    }
    double *d = a->distance + i * a->k;
    int64_t *r = a->rank + i * a->k;
    if (a->held[i] == a->k && !worse(d[0], r[0], distance, rank)) return;
    if (was_seeded(w, i / GROUP, (int32_t)(row / PANEL)))
        for (int64_t j = 0; j < a->held[i]; j++)
            if (r[j] == rank) return;
    push(d, r, a->held + i, a->k, distance, rank);
    if (a->held[i] == a->k) w->least[i] = least(q->threshold + 3 * i, d[0], a->metric);
}

/* Seeds: the best by their products of the panels named for each GROUP of queries are measured, so that thresholds
 * start near where they end. */
static int seed(Work *w, const int64_t *start, const int32_t *panel) {
    const Segment *s = w->s;
    const Queries *q = w->q;
    Answer *a = w->a;
    const int64_t want = a->k + a->k / 4 + 3, dims = s->level_dims[0];
    const int64_t row_size = (1 + 3 * s->levels) * PANEL, coef_size = 1 + 4 * s->levels;
    double *best = malloc(sizeof(double) * (size_t)(want * GROUP));
    int64_t *which = malloc(sizeof(int64_t) * (size_t)(want * GROUP));
    if (best && which)
        for (int64_t i = 0; i < q->count; i += GROUP) {
            const int64_t n = q->count - i < GROUP ? q->count - i : GROUP;
            int64_t held[GROUP] = {0};
            for (int64_t at = start[i / GROUP]; at < start[i / GROUP + 1]; at++) {
                const int64_t p = panel[at];
                const float *row = s->row + p * row_size;
                w->products(s->codes[0] + p * PANEL * dims, &w->head[i / GROUP], dims, w->product);
                for (int64_t g = 0; g < n; g++) {
                    const float factor = q->coef[coef_size * (i + g)], scale = q->coef[coef_size * (i + g) + 1];
                    double *d = best + g * want;
                    float estimate[PANEL];
                    for (int r = 0; r < PANEL; r++)
                        estimate[r] = row[r] * factor - row[PANEL + r] * scale * (float)w->product[g * PANEL + r];
                    for (int r = 0; r < PANEL; r++)
                        if (held[g] < want || estimate[r] < d[0])
                            push(d, which + g * want, held + g, want, estimate[r], p * PANEL + r);
                }
            }
            for (int64_t g = 0; g < n; g++)
                for (int64_t j = 0; j < held[g]; j++) take(w, i + g, which[g * want + j]);
        }
    const int failed = !best || !which;
    free(best), free(which);
    return failed;
}

static void exclude(Work *w, int64_t i, uint32_t mask) {
    float most = w->a->excluded[i], all = -INFINITY;
    for (int r = 0; r < PANEL; r++) all = w->bound[i][r] > all ? w->bound[i][r] : all;
    if (!(all > most)) return;
    for (; mask; mask &= mask - 1) {
        const float bound = w->bound[i][__builtin_ctz(mask)];
        most = bound > most ? bound : most;
    }
    w->a->excluded[i] = most;
}

static int ones(uint32_t bits) {
    bits -= bits >> 1 & 0x55555555;
    bits = (bits & 0x33333333) + (bits >> 2 & 0x33333333);
    return (int)(((bits + (bits >> 4)) & 0x0f0f0f0f) * 0x01010101 >> 24);
}

/* Turn a panel's rest codes into the layout of the head. */
static void interleave(const uint8_t *rest, int64_t dims, uint8_t *out) {
    for (int64_t d = 0; d < dims; d += 4)
        for (int r = 0; r < PANEL; r++) memcpy(out + d * PANEL + 4 * r, rest + r * dims + d, 4);
}

/* Scan the panels [first, last) for up to QUERIES queries. `seed_start` may be null; `wide` is room for [count][dims].
 * Returns 0; 1 where memory ran out; 2 for too many queries. */
int imagelake_scan(const Segment *s, const Queries *q, Answer *a, int64_t first, int64_t last,
                   const int64_t *seed_start, const int32_t *seed_panel, double *wide) {
    if (q->count > QUERIES) return 2;
    const int64_t row_size = (1 + 3 * s->levels) * PANEL;
    int64_t most_dims = 0;
    for (int64_t l = 0; l < s->levels; l++) most_dims = s->level_dims[l] > most_dims ? s->level_dims[l] : most_dims;
    Work *w = malloc(sizeof(Work));
    char *widened = calloc((size_t)q->count + 1, 1);
    uint8_t *whole = malloc((size_t)(PANEL * most_dims + 1));
    int failed = !w || !widened || !whole;
    if (failed) goto done;
    memset(w, 0, sizeof *w);
    w->s = s, w->q = q, w->a = a, w->wide = wide, w->widened = widened;
    w->seed_start = seed_start, w->seed_panel = seed_panel;
    w->products = products_plain, w->dot = dot_plain, w->reach = reach_plain;
#if X86
    if (level == AVX2) w->products = products_avx2, w->dot = dot_avx2, w->reach = reach_avx2;
    if (level >= AVX512) w->products = products_avx512, w->dot = dot_avx512, w->reach = reach_avx512;
    if (level >= VNNI) w->products = products_vnni;
#endif
    for (int64_t i = 0; i < q->count; i++) {
        if (a->radius) w->least[i] = least(q->threshold + 3 * i, a->radius[i], a->metric);
        else w->least[i] = a->held[i] < a->k ? -INFINITY : least(q->threshold + 3 * i, a->distance[i * a->k], a->metric);
    }
    for (int64_t i = 0; i < q->count; i++) join(&w->head[i / GROUP], q, i, 0, s->level_dims[0]);
    if (seed_start && !a->radius) failed = seed(w, seed_start, seed_panel);
    for (int64_t p = first; p < last && !failed; p++) {
        int64_t open = q->count, left = 0; /* queries of which rows are left, and pairs that are, before the rest */
        for (int64_t l = 0; l < s->levels && open; l++) {
            const float *row = s->row + p * row_size + (1 + 3 * l) * PANEL;
            const float *before = row - PANEL; /* the offset, or the norm of all that this level and later ones bound */
            const int64_t dims = s->level_dims[l], blocks = blocks_of(dims);
            const uint8_t *codes = s->codes[l] + p * PANEL * dims;
            /* In panels, the whole panel is bounded for a query of which any row is left. So it is in other levels,
             * when much of the panel is left. */
            const int all = l < s->panel_levels || left * 12 > q->count * PANEL;
            if (l >= s->panel_levels && all) {
                interleave(codes, dims, whole);
                codes = whole;
                a->counts[3]++;
            }
            a->counts[l ? 1 : 0] += all ? open * PANEL : left;
            const int rows_next = l + 1 >= s->panel_levels, more = l + 1 < s->levels;
            const uint8_t *next = more ? s->codes[l + 1] + p * PANEL * s->level_dims[l + 1] : NULL;
            const int64_t next_dims = more ? s->level_dims[l + 1] : 0;
            uint32_t ready = 0;
            int64_t still = 0;
            left = 0;
            for (int64_t at = 0; at < open; at += GROUP) {
                Group some;
                const Group *group = l ? &some : &w->head[at / GROUP];
                some.count = 0;
                for (int64_t i = at; l && i < open && i < at + GROUP; i++) join(&some, q, w->open[i], l, dims);
                if (all) w->products(codes, group, dims, w->product);
                else
                    for (int64_t g = 0; g < group->count; g++)
                        for (uint32_t bits = w->mask[group->query[g]]; bits; bits &= bits - 1) {
                            const int r = __builtin_ctz(bits);
                            w->product[g * PANEL + r] = w->dot(codes + r * dims, group->codes[g],
                                                               q->lanes[l] + group->query[g] * blocks * 32, dims);
                        }
                uint32_t had[GROUP];
                if (a->excluded)
                    for (int64_t g = 0; g < group->count; g++) had[g] = l ? w->mask[group->query[g]] : 0xffffffff;
                w->reach(w, group, l, row, before);
                for (int64_t g = 0; g < group->count; g++) {
                    const int64_t query = group->query[g];
                    const uint32_t mask = w->mask[query];
                    if (a->excluded && had[g] != mask) exclude(w, query, had[g] & ~mask);
                    w->open[still] = (int32_t)query; /* not ahead of `at`: what is read was written a level ago */
                    still += mask != 0;
                    if (!rows_next || !mask) continue;
                    left += ones(mask);
                    for (uint32_t fresh = mask & ~ready; fresh; fresh &= fresh - 1)
                        for (int64_t d = 0; d < next_dims; d += 64)
                            __builtin_prefetch(next + __builtin_ctz(fresh) * next_dims + d);
                    ready |= mask;
                }
            }
            open = still;
        }
        for (int64_t at = 0; at < open; at++)
            for (uint32_t mask = w->mask[w->open[at]]; mask; mask &= mask - 1) {
                const char *vector = row_at(s, s->source[p * PANEL + __builtin_ctz(mask)]);
                for (int64_t d = 0; d < 8; d++) __builtin_prefetch(vector + 64 * d);
            }
        for (int64_t at = 0; at < open; at++) {
            const int64_t i = w->open[at];
            for (uint32_t mask = w->mask[i]; mask; mask &= mask - 1) {
                const int r = __builtin_ctz(mask);
                if (!(w->bound[i][r] < w->least[i])) take(w, i, p * PANEL + r);
                else if (a->excluded) exclude(w, i, (uint32_t)1 << r);
            }
        }
    }
done:
    free(w), free(widened), free(whole);
    return failed;
}

/* ---- distances without bounds ---- */

/* Distances of one query to the named rows of `vectors`. */
void imagelake_measure(const Segment *s, const double *query, double query_inverse, int64_t metric, int64_t n,
                       const int64_t *source, double *out) {
    for (int64_t i = 0; i < n; i++) out[i] = measure(s, source[i], query, query_inverse, metric);
}

/* Squared norms in the order of the exact distance. `scratch`: [dims]. */
void imagelake_squared_norms(const void *vectors, int64_t is_double, int64_t n, int64_t dims, double *scratch, double *out) {
    for (int64_t i = 0; i < n; i++) {
        for (int64_t d = 0; d < dims; d++)
            scratch[d] = is_double ? ((const double *)vectors)[i * dims + d] : (double)((const float *)vectors)[i * dims + d];
        out[i] = exact_double(scratch, scratch, dims, METRIC_DOT, 1, 1);
    }
}

/* ---- encoding ---- */

/* Rows minus the center, times a power of two that brings their norm into [0.5, 1). */
void imagelake_prepare(const void *vectors, int64_t is_double, int64_t n, int64_t dims, const double *center,
                       const double *inverse, float *out, double *norm, int32_t *exponent) {
    for (int64_t i = 0; i < n; i++) {
        const float *f = (const float *)vectors + i * dims;
        const double *d = (const double *)vectors + i * dims;
        const double scale = inverse ? inverse[i] : 1.0;
        double parts[LANES] = {0};
        for (int64_t j = 0; j < dims; j++) {
            const double x = (is_double ? d[j] : (double)f[j]) * scale - center[j];
            parts[j % LANES] += x * x;
        }
        double total = 0;
        for (int j = 0; j < LANES; j++) total += parts[j];
        int e = 0;
        norm[i] = sqrt(total);
        if (norm[i] > 0) frexp(norm[i], &e);
        exponent[i] = e;
        const double power = ldexp(1.0, -e);
        for (int64_t j = 0; j < dims; j++)
            out[i * dims + j] = (float)(((is_double ? d[j] : (double)f[j]) * scale - center[j]) * power);
    }
}

typedef float Wide __attribute__((vector_size(64)));

/* out [n][panels * 32] = x [n][dims] times a matrix in panels [panels][dims][32], summed BLOCK terms at a time. */
#define ROTATE(name, attributes)                                                                                       \
    attributes void name(const float *x, int64_t n, int64_t dims, const float *matrix, int64_t panels, float *out) {   \
        for (int64_t p = 0; p < panels; p++)                                                                           \
            for (int64_t start = 0; start < dims; start += BLOCK)                                                      \
                for (int64_t i = 0; i < n; i += GROUP) {                                                               \
                    const int64_t stop = start + BLOCK < dims ? start + BLOCK : dims;                                  \
                    const float *m = matrix + p * dims * PANEL;                                                        \
                    Wide zero = {0};                                                                                   \
                    EACH(ROTATE_START)                                                                                 \
                    for (int64_t d = start; d < stop; d++) {                                                           \
                        Wide a, b;                                                                                     \
                        memcpy(&a, m + d * PANEL, sizeof a);                                                           \
                        memcpy(&b, m + d * PANEL + 16, sizeof b);                                                      \
                        EACH(ROTATE_STEP)                                                                              \
                    }                                                                                                  \
                    EACH(ROTATE_KEEP)                                                                                  \
                }                                                                                                      \
    }
#define EACH(DO) DO(0) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7)
#define ROTATE_START(g)                                                \
    const float *at##g = x + (i + g < n ? i + g : i) * dims;           \
    Wide low##g = zero, high##g = zero;
#define ROTATE_STEP(g) low##g += a * at##g[d], high##g += b * at##g[d];
#define ROTATE_KEEP(g)                                                 \
    if (i + g < n) {                                                   \
        float *to = out + (i + g) * panels * PANEL + p * PANEL;        \
        if (start) {                                                   \
            Wide before;                                               \
            memcpy(&before, to, sizeof before), low##g += before;      \
            memcpy(&before, to + 16, sizeof before), high##g += before; \
        }                                                              \
        memcpy(to, &low##g, sizeof low##g), memcpy(to + 16, &high##g, sizeof high##g); \
    }
#define FUSED optimize("fp-contract=fast")
ROTATE(rotate_plain, static)
#if X86
ROTATE(rotate_avx2, __attribute__((target("avx2,fma"), FUSED)) static)
ROTATE(rotate_avx512, __attribute__((target("avx512f,prefer-vector-width=512"), FUSED)) static)
#endif

void imagelake_rotate(const float *x, int64_t n, int64_t dims, const float *matrix, int64_t panels, float *out) {
#if X86
    if (level >= AVX512) {
        rotate_avx512(x, n, dims, matrix, panels, out);
        return;
    }
    if (level == AVX2) {
        rotate_avx2(x, n, dims, matrix, panels, out);
        return;
    }
#endif
    rotate_plain(x, n, dims, matrix, panels, out);
}

/* Codes c and a scale s, so that each BLOCK of codes has a norm of at most 181.
 * stats: s, the norm of what s c leaves out, the norm of y. */
static void quantize(const float *y, int64_t dims, float limit, int8_t *codes, float *stats) {
    float most = 0, largest = 0, total = 0;
    for (int64_t start = 0; start < dims; start += BLOCK) {
        float sums[LANES] = {0}, tops[LANES] = {0}, sum = 0;
        const int64_t stop = start + BLOCK < dims ? start + BLOCK : dims;
        int64_t d = start;
        for (; d + LANES <= stop; d += LANES)
            for (int j = 0; j < LANES; j++) {
                const float size = fabsf(y[d + j]);
                sums[j] += size * size;
                tops[j] = size > tops[j] ? size : tops[j];
            }
        for (; d < stop; d++) {
            sum += y[d] * y[d];
            most = fabsf(y[d]) > most ? fabsf(y[d]) : most;
        }
        for (int j = 0; j < LANES; j++) sum += sums[j], most = tops[j] > most ? tops[j] : most;
        total += sum;
        largest = sum > largest ? sum : largest;
    }
    float scale = sqrtf(largest) / 178.0f;
    if (most / limit > scale) scale = most / limit;
    stats[2] = sqrtf(total);
    if (!(scale > 1e-30f)) {
        memset(codes, 0, (size_t)dims);
        stats[0] = 0, stats[1] = stats[2];
        return;
    }
    for (int fits = 0; !fits; scale *= 1.02f) {
        const float inverse = 1.0f / scale;
        float error = 0;
        fits = 1;
        for (int64_t start = 0; start < dims; start += BLOCK) {
            const int64_t stop = start + BLOCK < dims ? start + BLOCK : dims;
            float errors[LANES] = {0};
            int32_t squares = 0;
            int64_t d = start;
            for (; d + LANES <= stop; d += LANES)
                for (int j = 0; j < LANES; j++) {
                    float c = y[d + j] * inverse;
                    c = (c + 12582912.0f) - 12582912.0f; /* to the nearest integer */
                    c = c > limit ? limit : c < -limit ? -limit : c;
                    const float left = y[d + j] - scale * c;
                    errors[j] += left * left;
                    codes[d + j] = (int8_t)c;
                }
            for (; d < stop; d++) {
                float c = (y[d] * inverse + 12582912.0f) - 12582912.0f;
                c = c > limit ? limit : c < -limit ? -limit : c;
                const float left = y[d] - scale * c;
                error += left * left;
                codes[d] = (int8_t)c;
            }
            for (int j = 0; j < LANES; j++) error += errors[j];
            for (d = start; d < stop; d++) squares += (int32_t)codes[d] * codes[d];
            fits &= squares <= 181 * 181;
        }
        stats[0] = scale;
        stats[1] = sqrtf(error);
    }
}

#define ENCODE(name, attributes)                                                                                        \
    attributes static void name(const float *y, int64_t n, int64_t stride, int64_t used, int64_t dims, float limit,     \
                                int8_t *codes, float *stats) {                                                          \
        for (int64_t i = 0; i < n; i++) {                                                                               \
            quantize(y + i * stride, used, limit, codes + i * dims, stats + 3 * i);                                     \
            memset(codes + i * dims + used, 0, (size_t)(dims - used));                                                  \
        }                                                                                                               \
    }
ENCODE(encode_plain, )
#if X86
ENCODE(encode_avx2, __attribute__((target("avx2"), flatten)))
ENCODE(encode_avx512, __attribute__((target("avx512f,avx512bw,avx512dq"), flatten)))
#endif

/* Turn `used` dimensions of rotated rows, [n][stride], into codes [n][dims]. stats [n][3]: scale, error norm, norm. */
void imagelake_encode(const float *y, int64_t n, int64_t stride, int64_t used, int64_t dims, float limit, int8_t *codes,
                      float *stats) {
#if X86
    if (level >= AVX512) {
        encode_avx512(y, n, stride, used, dims, limit, codes, stats);
        return;
    }
    if (level == AVX2) {
        encode_avx2(y, n, stride, used, dims, limit, codes, stats);
        return;
    }
#endif
    encode_plain(y, n, stride, used, dims, limit, codes, stats);
}

/* See `Queries`. pairs: [n][blocks][2]; lanes: [n][blocks][32], or null. */
void imagelake_shifts(const int8_t *codes, int64_t n, int64_t dims, int32_t *pairs, int16_t *lanes) {
    const int64_t blocks = blocks_of(dims);
    memset(pairs, 0, (size_t)(n * blocks * 2) * sizeof(int32_t));
    if (lanes) memset(lanes, 0, (size_t)(n * blocks * 32) * sizeof(int16_t));
    for (int64_t i = 0; i < n; i++)
        for (int64_t d = 0; d < dims; d += 2) {
            const int64_t block = i * blocks + d / BLOCK;
            const int32_t shift = -64 * (codes[i * dims + d] + codes[i * dims + d + 1]);
            pairs[2 * block + (d / 2) % 2] += shift;
            if (lanes) lanes[32 * block + (d / 2) % 32] = (int16_t)(lanes[32 * block + (d / 2) % 32] + shift);
        }
}

/* Use at most this level of instructions, and at most what the processor has: 0 plain C, 1 AVX2, 2 AVX-512, 3 AVX-512
 * with VNNI. Returns what is used. */
int imagelake_level(int most) {
    level = PLAIN;
#if X86
    __builtin_cpu_init();
    if (most >= AVX2 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) level = AVX2;
    if (most >= AVX512 && level == AVX2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq"))
        level = AVX512;
    if (most >= VNNI && level == AVX512 && __builtin_cpu_supports("avx512vnni")) {
        /* Not every processor can be tested on: believe it once it agrees. */
        uint8_t panel[4 * PANEL * 2];
        int8_t query[8] = {127, -127, 5, -6, 77, -1, 0, 100};
        int32_t shift[2], here[PANEL], there[PANEL];
        for (int i = 0; i < 8 * PANEL; i++) panel[i] = (uint8_t)(1 + i * 37 % 127);
        imagelake_shifts(query, 1, 8, shift, NULL);
        int32_t out[GROUP * PANEL];
        const Group group = {.count = 1, .codes = {query}, .shift = {shift}};
        products_plain(panel, &group, 8, here);
        products_vnni(panel, &group, 8, out);
        memcpy(there, out, sizeof there);
        if (memcmp(here, there, sizeof here) == 0) level = VNNI;
    }
#else
    (void)most;
#endif
    return level;
}
