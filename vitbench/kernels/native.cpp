// A Vision Transformer's block on CPUs with AVX-512 and bf16, in few passes over memory: residual sum and LayerNorm; MLP;
// self-attention. Each thread takes some images, or rows, through a whole branch while they are in its cache, with
// matrix products whose bias and nonlinearity are applied before a value leaves its register.
//
// Plain C entry points, no headers of torch: it compiles in seconds, with -march=native. Matrix products take bf16 and
// sum in float; the residual stream, norms, and all gradients of parameters are float. Work is divided statically: the
// same result whenever the number of threads is the same. Sizes that are columns of a product are multiples of 16.

#if defined(__AVX512BF16__) && defined(__AVX512BW__) && defined(__AVX512VL__)

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <type_traits>
#include <vector>

#include <immintrin.h>
#include <omp.h>

namespace {

constexpr int64_t LANES = 16;
typedef float Floats __attribute__((vector_size(64)));
typedef int32_t Ints __attribute__((vector_size(64)));
typedef uint32_t Words __attribute__((vector_size(64)));
typedef uint16_t Halves __attribute__((vector_size(32)));

struct bf16 {
    uint16_t bits;
};

inline Floats all(float x) { return Floats{} + x; }

inline Floats load(const float* from) {
    Floats x;
    std::memcpy(&x, from, sizeof x);
    return x;
}

inline Words words_of(const bf16* from) {
    Halves h;
    std::memcpy(&h, from, sizeof h);
    return __builtin_convertvector(h, Words);
}

inline Floats load(const bf16* from) { return (Floats)(words_of(from) << 16); }

inline void store(float* to, Floats x) { std::memcpy(to, &x, sizeof x); }

inline Halves rounded(Floats x) { return (Halves)_mm512_cvtneps_pbh((__m512)x); }  // to nearest, ties to even

inline void store(bf16* to, Floats x) {
    const Halves h = rounded(x);
    std::memcpy(to, &h, sizeof h);
}

inline float sum(Floats x) { return _mm512_reduce_add_ps((__m512)x); }

// e^x for x <= 0, relative error below 3e-6: where bf16 rounds by 2e-3. 0 below -100; NaN stays NaN.
inline Floats exp_of_negative(Floats x) {
    const Floats power = (Floats)_mm512_max_ps((__m512)all(-150.0f), (__m512)(x * 1.44269504f));
    const Floats n = (Floats)_mm512_roundscale_ps((__m512)power, 8), f = power - n;
    Floats p = all(9.600396888e-03f);  // 2^f for |f| <= 1/2, by least squares
    p = p * f + 5.591690220e-02f;
    p = p * f + 2.402371848e-01f;
    p = p * f + 6.931219938e-01f;
    p = p * f + 1.0f;
    return (Floats)_mm512_scalef_ps((__m512)p, (__m512)n);
}

inline Floats magnitude(Floats x) { return (Floats)((Words)x & 0x7fffffffu); }

inline Floats sigmoid(Floats x) {
    const Floats e = exp_of_negative(-magnitude(x));
    const Floats r = 1.0f / (1.0f + e);
    return x < 0.0f ? e * r : r;
}

// Each gives a nonlinearity's value and derivative at x.
struct Gelu {  // x Φ(x)
    static inline void at(Floats x, Floats& value, Floats& derivative) {
        const Floats e = exp_of_negative(x * x * -0.5f);
        // ½ erfcx(|x|/√2), by least squares in t: relative error 6e-5, where bf16 rounds by 2e-3.
        const Floats t = (Floats)_mm512_rcp14_ps((__m512)(1.0f + 0.28284271f * magnitude(x)));
        Floats q = all(3.169715886e-01f);
        q = q * t - 1.291221780e-01f;
        q = q * t + 2.217515518e-01f;
        q = q * t + 8.826950930e-02f;
        q = q * t + 2.158164158e-03f;
        const Floats tail = q * e;
        const Floats phi = x < 0.0f ? tail : 1.0f - tail;
        value = x * phi;
        derivative = phi + x * e * 0.39894228f;
    }
};

struct GeluTanh {  // x σ(2u), u = √(2/π) (x + 0.044715 x³)
    static inline void at(Floats x, Floats& value, Floats& derivative) {
        const Floats s = sigmoid(1.59576912f * (x + 0.044715f * x * x * x));
        value = x * s;
        derivative = s + x * s * (1.0f - s) * 1.59576912f * (1.0f + 0.134145f * x * x);
    }
};

struct QuickGelu {  // x σ(1.702 x)
    static inline void at(Floats x, Floats& value, Floats& derivative) {
        const Floats s = sigmoid(1.702f * x);
        value = x * s;
        derivative = s + 1.702f * x * s * (1.0f - s);
    }
};

struct Relu {
    static inline void at(Floats x, Floats& value, Floats& derivative) {
        value = x < 0.0f ? all(0.0f) : x;
        derivative = x > 0.0f ? all(1.0f) : all(0.0f);
    }
};

constexpr int64_t BLOCK = 64;  // rows whose sums are taken in float, before they are added in double
constexpr int64_t PARALLEL_FROM = 1 << 15;  // elements: below, a second thread costs more than it brings

inline int threads_for(int64_t elements) { return elements < PARALLEL_FROM ? 1 : omp_get_max_threads(); }

// Calls body(first row, one past the last, float[num_outputs · width] to add to) for blocks of rows, and adds these sums up.
template <typename Body>
void sum_over_rows(int64_t rows, int64_t width, float* const* outputs, int num_outputs, Body body) {
    const int threads = threads_for(rows * width);
    const int64_t total = num_outputs * width;
    std::vector<double> sums(threads * total, 0.0);
#pragma omp parallel num_threads(threads)
    {
        double* mine = sums.data() + omp_get_thread_num() * total;
        std::vector<float> partial(total);
#pragma omp for schedule(static)
        for (int64_t block = 0; block < (rows + BLOCK - 1) / BLOCK; ++block) {
            std::memset(partial.data(), 0, total * sizeof(float));
            const int64_t end = (block + 1) * BLOCK < rows ? (block + 1) * BLOCK : rows;
            body(block * BLOCK, end, partial.data());
            for (int64_t i = 0; i < total; ++i) mine[i] += partial[i];
        }
    }
    for (int k = 0; k < num_outputs; ++k) {
        if (!outputs[k]) continue;
        for (int64_t i = 0; i < width; ++i) {
            double all_threads = 0.0;
            for (int t = 0; t < threads; ++t) all_threads += sums[t * total + k * width + i];
            outputs[k][i] = static_cast<float>(all_threads);
        }
    }
}

// total := stream + branch + its bias (where there is a branch); out, where wanted, := LayerNorm(total). mean, rstd: [rows].
void add_norm(const float* stream, const bf16* branch, const float* branch_bias, float* total, bf16* out,
              const float* weight, const float* bias, float* mean, float* rstd, int64_t rows, int64_t width, float eps) {
#pragma omp parallel for schedule(static) num_threads(threads_for(rows * width))
    for (int64_t i = 0; i < rows; ++i) {
        const int64_t row = i * width;
        const float* x = branch ? total + row : stream + row;
        Floats sums{}, squares{};
        for (int64_t j = 0; j < width; j += LANES) {
            Floats v = load(stream + row + j);
            if (branch) {
                v += load(branch + row + j);
                if (branch_bias) v += load(branch_bias + j);
                store(total + row + j, v);
            }
            sums += v;
        }
        if (!out) continue;
        const float m = sum(sums) / width;
        for (int64_t j = 0; j < width; j += LANES) {
            const Floats d = load(x + j) - m;
            squares += d * d;
        }
        const float r = 1.0f / std::sqrt(sum(squares) / width + eps);
        for (int64_t j = 0; j < width; j += LANES)
            store(out + row + j, (load(x + j) - m) * r * load(weight + j) + load(bias + j));
        mean[i] = m;
        rstd[i] = r;
    }
}

// grad_in := grad_total + LayerNorm's share of grad_out; grad_branch, the same in bf16; weight's, bias' and branch bias' grads.
void add_norm_backward(const float* grad_total, const bf16* grad_out, const float* x, const float* weight,
                       const float* mean, const float* rstd, float* grad_in, bf16* grad_branch, float* weight_grad,
                       float* bias_grad, float* branch_bias_grad, int64_t rows, int64_t width) {
    float* outputs[3] = {weight_grad, bias_grad, branch_bias_grad};
    sum_over_rows(rows, width, outputs, 3, [=](int64_t first, int64_t end, float* sums) {
        float *w_sum = sums, *b_sum = sums + width, *c_sum = sums + 2 * width;
        for (int64_t i = first; i < end; ++i) {
            const int64_t row = i * width;
            const float m = mean[i], r = rstd[i];
            Floats dots{}, weighted_sums{};
            for (int64_t j = 0; j < width; j += LANES) {
                const Floats g = load(grad_out + row + j), normed = (load(x + row + j) - m) * r;
                const Floats weighted = g * load(weight + j);
                store(w_sum + j, load(w_sum + j) + g * normed);
                store(b_sum + j, load(b_sum + j) + g);
                dots += weighted * normed;
                weighted_sums += weighted;
            }
            const float dot = sum(dots) / width, mean_weighted = sum(weighted_sums) / width;
            for (int64_t j = 0; j < width; j += LANES) {
                const Floats normed = (load(x + row + j) - m) * r;
                Floats v = r * (load(grad_out + row + j) * load(weight + j) - mean_weighted - normed * dot);
                if (grad_total) v += load(grad_total + row + j);
                store(grad_in + row + j, v);
                if (grad_branch) {
                    store(grad_branch + row + j, v);
                    store(c_sum + j, load(c_sum + j) + v);
                }
            }
        }
    });
}

// A residual sum's backward: the branch's gradient is the stream's, in bf16, and the branch bias' its sum over rows.
void add_backward(const float* grad, bf16* grad_branch, float* branch_bias_grad, int64_t rows, int64_t width) {
    sum_over_rows(rows, width, &branch_bias_grad, 1, [=](int64_t first, int64_t end, float* sums) {
        for (int64_t row = first * width; row < end * width; row += width)
            for (int64_t j = 0; j < width; j += LANES) {
                const Floats v = load(grad + row + j);
                store(grad_branch + row + j, v);
                store(sums + j, load(sums + j) + v);
            }
    });
}

inline int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

// Scratch that begins on a cache line: a vector that straddles two costs twice as much to read.
template <typename T>
struct Scratch {
    T* const values;
    explicit Scratch(int64_t n) : values(static_cast<T*>(std::aligned_alloc(64, round_up(n * sizeof(T), 64) + 64))) {
        if (!values) std::abort();
    }
    ~Scratch() { std::free(values); }
    Scratch(const Scratch&) = delete;
    operator T*() { return values; }
};

// Columns of a matrix of pairs, 64 together: panel p has [pairs, its width] words, two rows of bf16 interleaved in each.
struct Panels {
    const uint32_t* words;
    int64_t columns, pairs;
};

constexpr int64_t PANEL = 64;
constexpr int MAX_ROWS = 6;  // 6 × 4 sums, 4 columns and a pair fill the 32 registers

// end(row, column, 16 sums) for a tile of a · b. a: rows of pairs of bf16, `stride` words apart.
template <int ROWS, int VECS, typename End>
inline void tile(const uint32_t* a, int64_t stride, const uint32_t* b, int64_t b_stride, int64_t pairs, int64_t row,
                 int64_t column, End& end) {
    __m512 sums[ROWS][VECS];
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; ++r)
#pragma GCC unroll 8
        for (int v = 0; v < VECS; ++v) sums[r][v] = _mm512_setzero_ps();
    for (int64_t k = 0; k < pairs; ++k) {
        __m512bh columns[VECS];
#pragma GCC unroll 8
        for (int v = 0; v < VECS; ++v) columns[v] = (__m512bh)_mm512_loadu_si512(b + k * b_stride + LANES * v);
#pragma GCC unroll 8
        for (int r = 0; r < ROWS; ++r) {
            const __m512bh pair = (__m512bh)_mm512_set1_epi32(static_cast<int>(a[r * stride + k]));
#pragma GCC unroll 8
            for (int v = 0; v < VECS; ++v) sums[r][v] = _mm512_dpbf16_ps(sums[r][v], pair, columns[v]);
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; ++r)
#pragma GCC unroll 8
        for (int v = 0; v < VECS; ++v) end(row + r, column + LANES * v, (Floats)sums[r][v]);
}

template <int VECS, typename End>
inline void tile_rows(const uint32_t* a, int64_t stride, const uint32_t* b, int64_t b_stride, int64_t pairs, int64_t rows,
                      int64_t column, End& end) {
    int64_t i = 0;
    for (; i + MAX_ROWS <= rows; i += MAX_ROWS)
        tile<MAX_ROWS, VECS>(a + i * stride, stride, b, b_stride, pairs, i, column, end);
    a += i * stride;
    switch (rows - i) {
        case 1: return tile<1, VECS>(a, stride, b, b_stride, pairs, i, column, end);
        case 2: return tile<2, VECS>(a, stride, b, b_stride, pairs, i, column, end);
        case 3: return tile<3, VECS>(a, stride, b, b_stride, pairs, i, column, end);
        case 4: return tile<4, VECS>(a, stride, b, b_stride, pairs, i, column, end);
        case 5: return tile<5, VECS>(a, stride, b, b_stride, pairs, i, column, end);
    }
}

// a · b: end(row, column, 16 sums) once for all of its values. b's columns: a multiple of 16.
template <typename Word, typename End>
inline void multiply(const Word* a, int64_t a_stride, int64_t rows, const Panels& b, End end) {
    const uint32_t* pairs_of_a = reinterpret_cast<const uint32_t*>(a);
    const int64_t stride = a_stride * sizeof(Word) / 4;
    for (int64_t j = 0; j < b.columns; j += PANEL) {
        const int64_t width = b.columns - j < PANEL ? b.columns - j : PANEL;
        const uint32_t* words = b.words + j * b.pairs;
        switch (width / LANES) {
            case 1: tile_rows<1>(pairs_of_a, stride, words, width, b.pairs, rows, j, end); break;
            case 2: tile_rows<2>(pairs_of_a, stride, words, width, b.pairs, rows, j, end); break;
            case 3: tile_rows<3>(pairs_of_a, stride, words, width, b.pairs, rows, j, end); break;
            default: tile_rows<4>(pairs_of_a, stride, words, width, b.pairs, rows, j, end);
        }
    }
}

// 16 × 16 words, rows `from_stride` and `to_stride` apart.
inline void transpose_words(const __m512i* rows, uint32_t* to, int64_t to_stride, int64_t columns) {
    __m512i a[16], b[16];
#pragma GCC unroll 16
    for (int i = 0; i < 8; ++i) {
        a[2 * i] = _mm512_unpacklo_epi32(rows[2 * i], rows[2 * i + 1]);
        a[2 * i + 1] = _mm512_unpackhi_epi32(rows[2 * i], rows[2 * i + 1]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < 4; ++i) {
        b[4 * i] = _mm512_unpacklo_epi64(a[4 * i], a[4 * i + 2]);
        b[4 * i + 1] = _mm512_unpackhi_epi64(a[4 * i], a[4 * i + 2]);
        b[4 * i + 2] = _mm512_unpacklo_epi64(a[4 * i + 1], a[4 * i + 3]);
        b[4 * i + 3] = _mm512_unpackhi_epi64(a[4 * i + 1], a[4 * i + 3]);
    }
    // b[4 i + c]: of rows 4 i to 4 i + 3, columns c, c + 4, c + 8, c + 12.
#pragma GCC unroll 16
    for (int c = 0; c < 4; ++c) {
        const __m512i low = _mm512_shuffle_i32x4(b[c], b[4 + c], 0x88), high = _mm512_shuffle_i32x4(b[c], b[4 + c], 0xdd);
        const __m512i low2 = _mm512_shuffle_i32x4(b[8 + c], b[12 + c], 0x88);
        const __m512i high2 = _mm512_shuffle_i32x4(b[8 + c], b[12 + c], 0xdd);
        const __m512i out[4] = {_mm512_shuffle_i32x4(low, low2, 0x88), _mm512_shuffle_i32x4(high, high2, 0x88),
                                _mm512_shuffle_i32x4(low, low2, 0xdd), _mm512_shuffle_i32x4(high, high2, 0xdd)};
#pragma GCC unroll 4
        for (int k = 0; k < 4; ++k)
            if (c + 4 * k < columns) _mm512_storeu_si512(to + (c + 4 * k) * to_stride, out[k]);
    }
}

inline __mmask32 first(int64_t n) { return n >= 32 ? ~0u : (1u << n) - 1; }

// 32 values as bf16, `n` of them real, zeros beyond.
inline __m512i load32(const bf16* from, int64_t n) { return _mm512_maskz_loadu_epi16(first(n), from); }
inline __m512i load32(const float* from, int64_t n) {
    const __mmask32 mask = first(n);
    return (__m512i)_mm512_cvtne2ps_pbh(_mm512_maskz_loadu_ps(static_cast<__mmask16>(mask >> 16), from + 16),
                                        _mm512_maskz_loadu_ps(static_cast<__mmask16>(mask), from));
}

inline Words words_of(const float* from) { return __builtin_convertvector(rounded(load(from)), Words); }

// Panels of a [rows, columns] matrix, pairs along its rows: word (i, j) is (from[2i][j], from[2i+1][j]); columns: 16 · n.
template <typename T>
void pack_rows(const T* from, int64_t stride, uint32_t* to, int64_t rows, int64_t columns) {
    const int64_t pairs = (rows + 1) / 2;
    for (int64_t p = 0; p < columns; p += PANEL) {
        const int64_t width = columns - p < PANEL ? columns - p : PANEL;
        uint32_t* panel = to + p * pairs;
        for (int64_t i = 0; i < rows; i += 2)
            for (int64_t j = 0; j < width; j += LANES) {
                const Words even = words_of(from + i * stride + p + j);
                Words odd{};
                if (i + 1 < rows) odd = words_of(from + (i + 1) * stride + p + j);
                const Words both = even | odd << 16;
                std::memcpy(panel + i / 2 * width + j, &both, sizeof both);
            }
    }
}

// Panels of the transpose of a [rows, columns] matrix, which is `columns` deep and, filled up with zeros, 16 · n wide.
template <typename T>
void pack_columns(const T* from, int64_t stride, uint32_t* to, int64_t rows, int64_t columns) {
    const int64_t pairs = columns / 2, all_columns = round_up(rows, LANES);
    for (int64_t i0 = 0; i0 < all_columns; i0 += LANES) {
        const int64_t p = i0 / PANEL * PANEL, width = all_columns - p < PANEL ? all_columns - p : PANEL;
        for (int64_t j0 = 0; j0 < columns; j0 += 32) {
            __m512i block[16];
            for (int64_t i = 0; i < LANES; ++i)
                block[i] = i0 + i < rows ? load32(from + (i0 + i) * stride + j0, columns - j0) : _mm512_setzero_si512();
            transpose_words(block, to + p * pairs + j0 / 2 * width + i0 - p, width, (columns - j0) / 2);
        }
    }
}

// The transpose of bf16 values, two rows together: to[j][i] = (from[2i][j], from[2i+1][j]); [columns, stride] words.
void transpose_pairs(const bf16* from, int64_t stride, uint32_t* to, int64_t to_stride, int64_t rows, int64_t columns) {
    for (int64_t i0 = 0; i0 < (rows + 1) / 2; i0 += LANES)
        for (int64_t j0 = 0; j0 < columns; j0 += LANES) {
            const int64_t n = columns - j0 < LANES ? columns - j0 : LANES;
            const __mmask16 mask = n == LANES ? 0xffff : (1u << n) - 1;
            __m512i block[16];
            for (int64_t i = 0; i < LANES; ++i) {
                const int64_t row = 2 * (i0 + i);
                __m256i even = _mm256_setzero_si256(), odd = even;
                if (row < rows) even = _mm256_maskz_loadu_epi16(mask, from + row * stride + j0);
                if (row + 1 < rows) odd = _mm256_maskz_loadu_epi16(mask, from + (row + 1) * stride + j0);
                block[i] = _mm512_or_si512(_mm512_cvtepu16_epi32(even), _mm512_slli_epi32(_mm512_cvtepu16_epi32(odd), 16));
            }
            transpose_words(block, to + j0 * to_stride + i0, to_stride, n);
        }
}

// weights := softmax(scale · logits), both [n × m] in rows `wide` apart, zeros beyond m.
void softmax(float* logits, bf16* weights, int64_t wide, int64_t n, int64_t m, float scale) {
    const __mmask16 real = m % LANES ? (1u << m % LANES) - 1 : 0xffff;  // of the last vector
    for (int64_t i = 0; i < n; ++i) {
        float* row = logits + i * wide;
        float* last = row + wide - LANES;
        store(last, (Floats)_mm512_mask_loadu_ps((__m512)all(-INFINITY), real, last));
        Floats most = load(row);
        for (int64_t j = LANES; j < wide; j += LANES) {
            const Floats x = load(row + j);
            most = most > x ? most : x;
        }
        const float highest = _mm512_reduce_max_ps((__m512)most);
        Floats sums{};
        for (int64_t j = 0; j < wide; j += LANES) {
            const Floats e = exp_of_negative((load(row + j) - highest) * scale);
            store(row + j, e);
            sums += e;
        }
        const float over = 1.0f / sum(sums);
        for (int64_t j = 0; j < wide; j += LANES) store(weights + i * wide + j, load(row + j) * over);
    }
}

// q, k and v of one image and what surrounds them: rows of heads · d values, `q_stride` or `kv_stride` apart.
struct Heads {
    int64_t heads, queries, keys, d, q_stride, kv_stride, wide;
    float scale;
};

struct AttentionScratch {
    Scratch<uint32_t> packed, transposed;
    Scratch<float> logits;
    Scratch<bf16> slopes;
    explicit AttentionScratch(const Heads& s)
        : packed((s.queries > s.wide ? s.queries + 1 : s.wide) * s.d),
          transposed(s.keys * round_up((s.queries + 1) / 2, LANES)),
          logits(s.queries * s.wide),
          slopes(s.queries * s.wide) {}
};

// out: [queries, heads · d]; weights: [heads, queries, wide].
void attend(const bf16* q, const bf16* k, const bf16* v, bf16* out, bf16* weights, const Heads& s, AttentionScratch& t) {
    const int64_t width = s.heads * s.d;
    for (int64_t h = 0; h < s.heads; ++h) {
        bf16* w = weights + h * s.queries * s.wide;
        pack_columns(k + h * s.d, s.kv_stride, t.packed, s.keys, s.d);
        multiply(q + h * s.d, s.q_stride, s.queries, {t.packed, s.wide, s.d / 2},
                 [&](int64_t i, int64_t j, Floats x) { store(t.logits + i * s.wide + j, x); });
        softmax(t.logits, w, s.wide, s.queries, s.keys, s.scale);
        pack_rows(v + h * s.d, s.kv_stride, t.packed, s.keys, s.d);
        multiply(w, s.wide, s.queries, {t.packed, s.d, (s.keys + 1) / 2},
                 [&](int64_t i, int64_t j, Floats x) { store(out + i * width + h * s.d + j, x); });
    }
}

// Gradients lie as q, k and v do.
void attend_backward(const bf16* q, const bf16* k, const bf16* v, const bf16* weights, const bf16* grad, bf16* grad_q,
                     bf16* grad_k, bf16* grad_v, const Heads& s, AttentionScratch& t) {
    const int64_t width = s.heads * s.d, query_pairs = (s.queries + 1) / 2, pair_stride = round_up(query_pairs, LANES);
    for (int64_t h = 0; h < s.heads; ++h) {
        const bf16 *w = weights + h * s.queries * s.wide, *g = grad + h * s.d;
        // grad_v = weightsᵀ · grad
        transpose_pairs(w, s.wide, t.transposed, pair_stride, s.queries, s.keys);
        pack_rows(g, width, t.packed, s.queries, s.d);
        multiply(t.transposed.values, pair_stride, s.keys, {t.packed, s.d, query_pairs},
                 [&](int64_t i, int64_t j, Floats x) { store(grad_v + i * s.kv_stride + h * s.d + j, x); });
        // slopes = scale · weights · (p − Σ p · weights), p = grad · vᵀ
        pack_columns(v + h * s.d, s.kv_stride, t.packed, s.keys, s.d);
        multiply(g, width, s.queries, {t.packed, s.wide, s.d / 2},
                 [&](int64_t i, int64_t j, Floats x) { store(t.logits + i * s.wide + j, x); });
        for (int64_t i = 0; i < s.queries; ++i) {
            const float* p = t.logits + i * s.wide;
            Floats dots{};
            for (int64_t j = 0; j < s.wide; j += LANES) dots += load(p + j) * load(w + i * s.wide + j);
            const float dot = sum(dots);
            for (int64_t j = 0; j < s.wide; j += LANES)
                store(t.slopes + i * s.wide + j, load(w + i * s.wide + j) * (load(p + j) - dot) * s.scale);
        }
        // grad_q = slopes · k
        pack_rows(k + h * s.d, s.kv_stride, t.packed, s.keys, s.d);
        multiply(t.slopes.values, s.wide, s.queries, {t.packed, s.d, (s.keys + 1) / 2},
                 [&](int64_t i, int64_t j, Floats x) { store(grad_q + i * s.q_stride + h * s.d + j, x); });
        // grad_k = slopesᵀ · q
        transpose_pairs(t.slopes, s.wide, t.transposed, pair_stride, s.queries, s.keys);
        pack_rows(q + h * s.d, s.q_stride, t.packed, s.queries, s.d);
        multiply(t.transposed.values, pair_stride, s.keys, {t.packed, s.d, query_pairs},
                 [&](int64_t i, int64_t j, Floats x) { store(grad_k + i * s.kv_stride + h * s.d + j, x); });
    }
}

// A weight [out, in] as its layer needs it, x · weightᵀ, and as the backward pass does, grad · weight.
struct Packed {
    Scratch<uint32_t> words;
    Panels panels;
    Packed(const float* weight, int64_t out, int64_t in, bool backward)
        : words(out * in / 2), panels(backward ? Panels{words, in, out / 2} : Panels{words, out, in / 2}) {
        // By panels, so that several threads can share the work.
        const int64_t columns = panels.columns;
#pragma omp parallel for schedule(static) num_threads(threads_for(out * in))
        for (int64_t p = 0; p < (columns + PANEL - 1) / PANEL; ++p) {
            const int64_t start = p * PANEL, width = columns - start < PANEL ? columns - start : PANEL;
            uint32_t* to = words + start * panels.pairs;
            if (backward)
                pack_rows(weight + start, in, to, out, width);
            else
                pack_columns(weight + start * in, in, to, width, in);
        }
    }
};

// Sums of outer products, aᵀ · b over rows: a weight's gradient, and the bias' (a's sums), one of them for each thread.
struct Gradient {
    const int64_t out, in;
    float* const total;
    float* const bias_total;
    std::vector<float*> sums, bias_sums;
    Gradient(int64_t out, int64_t in, float* total, float* bias_total, int threads)
        : out(out), in(in), total(total), bias_total(bias_total), sums(threads), bias_sums(threads) {
        for (int t = 0; t < threads; ++t) {
            sums[t] = t ? static_cast<float*>(std::aligned_alloc(64, round_up(out * in * 4, 64))) : total;
            bias_sums[t] = static_cast<float*>(std::aligned_alloc(64, round_up(out * 4, 64)));
            if (!sums[t] || !bias_sums[t]) std::abort();
        }
    }
    ~Gradient() {
        for (size_t t = 0; t < sums.size(); ++t) {
            if (t) std::free(sums[t]);
            std::free(bias_sums[t]);
        }
    }
    void start(int thread) {
        std::memset(sums[thread], 0, out * in * 4);
        std::memset(bias_sums[thread], 0, out * 4);
    }
    // a: [rows, out], b: [rows, in]; scratch for a's transpose and b's panels.
    void add(int thread, const bf16* a, int64_t a_stride, const bf16* b, int64_t b_stride, int64_t rows, uint32_t* transposed,
             uint32_t* packed) {
        const int64_t pairs = (rows + 1) / 2, stride = round_up(pairs, LANES);
        transpose_pairs(a, a_stride, transposed, stride, rows, out);
        pack_rows(b, b_stride, packed, rows, in);
        float* to = sums[thread];
        multiply(transposed, stride, out, {packed, in, pairs}, [=, this](int64_t i, int64_t j, Floats x) {
            store(to + i * in + j, load(to + i * in + j) + x);
        });
        if (!bias_total) return;
        float* bias = bias_sums[thread];
        for (int64_t i = 0; i < rows; ++i)
            for (int64_t j = 0; j < out; j += LANES) store(bias + j, load(bias + j) + load(a + i * a_stride + j));
    }
    static int64_t transposed_size(int64_t rows, int64_t out) { return out * round_up((rows + 1) / 2, LANES); }
    // Called by all threads together, after a barrier.
    void finish() {
        const int threads = static_cast<int>(sums.size());
#pragma omp for schedule(static)
        for (int64_t i = 0; i < out; ++i) {
            for (int t = 1; t < threads; ++t)
                for (int64_t j = 0; j < in; j += LANES)
                    store(total + i * in + j, load(total + i * in + j) + load(sums[t] + i * in + j));
            if (bias_total) {
                bias_total[i] = 0.0f;
                for (int t = 0; t < threads; ++t) bias_total[i] += bias_sums[t][i];
            }
        }
    }
};

// Rows that a thread takes through a branch at a time: few enough to stay in its cache, and in the backward pass so many
// that reading and writing the sums of a weight's gradient for each of them costs little. benchmarks/LOG.md.
constexpr int64_t ROWS = 256, ROWS_BACKWARD = 384;

// Balanced over threads: as many chunks as a multiple of them.
inline int64_t chunk_of(int64_t items, int64_t most, int threads) {
    const int64_t chunks = round_up((items + most - 1) / most, threads);
    const int64_t size = (items + chunks - 1) / chunks;
    return size < 1 ? 1 : size;
}

// out := f(x W1ᵀ + b1) W2ᵀ. x: [rows, d], W1: [hidden, d], W2: [out_width, hidden]; before: [rows, hidden] or null.
template <typename F>
void mlp(const bf16* x, const float* w1, const float* b1, const float* w2, bf16* before, bf16* out, int64_t rows, int64_t d,
         int64_t hidden, int64_t out_width) {
    const Packed first(w1, hidden, d, false), second(w2, out_width, hidden, false);
    const int threads = threads_for(rows * hidden);
    const int64_t size = round_up(chunk_of(rows, ROWS, threads), MAX_ROWS);
#pragma omp parallel num_threads(threads)
    {
        Scratch<bf16> after(size * hidden);
#pragma omp for schedule(static)
        for (int64_t start = 0; start < rows; start += size) {
            const int64_t n = rows - start < size ? rows - start : size;
            multiply(x + start * d, d, n, first.panels, [&](int64_t i, int64_t j, Floats sums) {
                const Floats h = sums + load(b1 + j);
                Floats value, slope;
                F::at(h, value, slope);
                store(after + i * hidden + j, value);
                if (before) store(before + (start + i) * hidden + j, h);
            });
            multiply(after.values, hidden, n, second.panels,
                     [&](int64_t i, int64_t j, Floats sums) { store(out + (start + i) * out_width + j, sums); });
        }
    }
}

template <typename F>
void mlp_backward(const bf16* x, const bf16* before, const float* w1, const float* w2, const bf16* grad, bf16* grad_x,
                  float* grad_w1, float* grad_b1, float* grad_w2, int64_t rows, int64_t d, int64_t hidden,
                  int64_t out_width) {
    const Packed first(w1, hidden, d, true), second(w2, out_width, hidden, true);
    const int threads = threads_for(rows * hidden);
    const int64_t size = round_up(chunk_of(rows, ROWS_BACKWARD, threads), MAX_ROWS);
    Gradient g1(hidden, d, grad_w1, grad_b1, threads), g2(out_width, hidden, grad_w2, nullptr, threads);
    const int64_t widest = hidden > d ? hidden : d, widest_out = hidden > out_width ? hidden : out_width;
#pragma omp parallel num_threads(threads)
    {
        const int thread = omp_get_thread_num();
        Scratch<bf16> after(size * hidden), slopes(size * hidden);
        Scratch<uint32_t> transposed(Gradient::transposed_size(size, widest_out)), packed((size + 1) / 2 * widest);
        g1.start(thread);
        g2.start(thread);
#pragma omp for schedule(static)
        for (int64_t start = 0; start < rows; start += size) {
            const int64_t n = rows - start < size ? rows - start : size;
            const bf16* g = grad + start * out_width;
            multiply(g, out_width, n, second.panels, [&](int64_t i, int64_t j, Floats sums) {
                Floats value, slope;
                F::at(load(before + (start + i) * hidden + j), value, slope);
                store(after + i * hidden + j, value);
                store(slopes + i * hidden + j, sums * slope);
            });
            multiply(slopes.values, hidden, n, first.panels,
                     [&](int64_t i, int64_t j, Floats sums) { store(grad_x + (start + i) * d + j, sums); });
            g2.add(thread, g, out_width, after, hidden, n, transposed, packed);
            g1.add(thread, slopes, hidden, x + start * d, d, n, transposed, packed);
        }
        g1.finish();
        g2.finish();
    }
}

// Of self-attention: all tokens are keys; `queries` tokens from `first` on are queries, and the result has these alone.
struct Shape {
    int64_t batch, tokens, first, queries, heads, d;
    float scale;
};

struct Layout {  // q beside k and v where every token is a query, else in a tensor of its own
    bool together;
    int64_t width, q_stride, kv_stride;
    explicit Layout(const Shape& s)
        : together(s.queries == s.tokens), width(s.heads * s.d), q_stride(together ? 3 * width : width),
          kv_stride(together ? 3 * width : 2 * width) {}
    Heads heads(const Shape& s) const {
        return {s.heads, s.queries, s.tokens, s.d, q_stride, kv_stride, round_up(s.tokens, LANES), s.scale};
    }
};

inline int64_t images_at_a_time(const Shape& s, int64_t rows, int threads) {
    const int64_t most = rows / s.tokens;
    return chunk_of(s.batch, most < 1 ? 1 : most, threads);
}

// Rows `first` to `first` + `queries` of every image, dense.
inline void gather(const bf16* x, bf16* to, const Shape& s, int64_t images, int64_t width) {
    for (int64_t b = 0; b < images; ++b)
        std::memcpy(to + b * s.queries * width, x + (b * s.tokens + s.first) * width, s.queries * width * sizeof(bf16));
}

// x: [B, N, D]; w_qkv: [3D, D]; qkv: [B, N, 3D], or k and v [B, N, 2D] and q_alone [B, M, D]; attended, out: [B, M, D].
// Without kept_kv nothing is kept for the backward pass.
void self_attention(const bf16* x, const float* w_qkv, const float* bias, const float* w_proj, bf16* kept_kv, bf16* kept_q,
                    bf16* kept_attended, bf16* kept_weights, bf16* out, const Shape& s) {
    const Layout layout(s);
    const Heads heads = layout.heads(s);
    const int64_t width = layout.width, wide = heads.wide, q_width = layout.together ? 0 : width;
    const Packed proj(w_proj, width, width, false);
    const Packed q_weight(w_qkv, q_width, width, false);
    const Packed kv_weight(w_qkv + q_width * width, 3 * width - q_width, width, false);
    const int threads = threads_for(s.batch * s.tokens * width);
    const int64_t size = images_at_a_time(s, ROWS, threads);
    const bool keep = kept_kv != nullptr;
#pragma omp parallel num_threads(threads)
    {
        AttentionScratch scratch(heads);
        Scratch<bf16> own_kv(keep ? 0 : size * s.tokens * layout.kv_stride), own_q(keep ? 0 : size * s.queries * q_width);
        Scratch<bf16> own_attended(keep ? 0 : size * s.queries * width), rows(size * s.queries * q_width);
        Scratch<bf16> own_weights(keep ? 0 : s.heads * s.queries * wide);
#pragma omp for schedule(static)
        for (int64_t start = 0; start < s.batch; start += size) {
            const int64_t images = s.batch - start < size ? s.batch - start : size;
            bf16* kv = keep ? kept_kv + start * s.tokens * layout.kv_stride : own_kv.values;
            bf16* q = layout.together ? kv : keep ? kept_q + start * s.queries * width : own_q.values;
            bf16* attended = keep ? kept_attended + start * s.queries * width : own_attended.values;
            const bf16* part = x + start * s.tokens * width;
            const float* kv_bias = bias ? bias + q_width : nullptr;
            multiply(part, width, images * s.tokens, kv_weight.panels, [&](int64_t i, int64_t j, Floats sums) {
                store(kv + i * layout.kv_stride + j, kv_bias ? sums + load(kv_bias + j) : sums);
            });
            if (!layout.together) {
                gather(part, rows, s, images, width);
                multiply(rows.values, width, images * s.queries, q_weight.panels, [&](int64_t i, int64_t j, Floats sums) {
                    store(q + i * width + j, bias ? sums + load(bias + j) : sums);
                });
            }
            for (int64_t b = 0; b < images; ++b) {
                const bf16* qb = q + b * s.queries * layout.q_stride;
                const bf16* kb = kv + b * s.tokens * layout.kv_stride + (layout.together ? width : 0);
                bf16* weights = keep ? kept_weights + (start + b) * s.heads * s.queries * wide : own_weights.values;
                attend(qb, kb, kb + width, attended + b * s.queries * width, weights, heads, scratch);
            }
            multiply(attended, width, images * s.queries, proj.panels, [&](int64_t i, int64_t j, Floats sums) {
                store(out + (start * s.queries + i) * width + j, sums);
            });
        }
    }
}

void self_attention_backward(const bf16* x, const float* w_qkv, const float* w_proj, const bf16* kept_kv, const bf16* kept_q,
                             const bf16* kept_attended, const bf16* kept_weights, const bf16* grad, bf16* grad_x,
                             float* grad_w_qkv, float* grad_bias, float* grad_w_proj, const Shape& s) {
    const Layout layout(s);
    const Heads heads = layout.heads(s);
    const int64_t width = layout.width, q_width = layout.together ? 0 : width, kv_width = 3 * width - q_width;
    const Packed proj(w_proj, width, width, true);
    const Packed q_weight(w_qkv, q_width, width, true);
    const Packed kv_weight(w_qkv + q_width * width, kv_width, width, true);
    const int threads = threads_for(s.batch * s.tokens * width);
    const int64_t size = images_at_a_time(s, ROWS_BACKWARD, threads), most_rows = size * s.tokens;
    Gradient g_proj(width, width, grad_w_proj, nullptr, threads);
    Gradient g_q(q_width, width, grad_w_qkv, grad_bias, threads);
    Gradient g_kv(kv_width, width, grad_w_qkv + q_width * width, grad_bias ? grad_bias + q_width : nullptr, threads);
#pragma omp parallel num_threads(threads)
    {
        const int thread = omp_get_thread_num();
        AttentionScratch scratch(heads);
        Scratch<bf16> back(size * s.queries * width), kv_back(most_rows * layout.kv_stride);
        Scratch<bf16> q_back(size * s.queries * q_width), rows(size * s.queries * q_width);
        Scratch<uint32_t> transposed(Gradient::transposed_size(most_rows, kv_width)), packed((most_rows + 1) / 2 * width);
        g_proj.start(thread);
        g_q.start(thread);
        g_kv.start(thread);
#pragma omp for schedule(static)
        for (int64_t start = 0; start < s.batch; start += size) {
            const int64_t images = s.batch - start < size ? s.batch - start : size;
            const int64_t tokens = images * s.tokens, queries = images * s.queries;
            const bf16* part = x + start * s.tokens * width;
            const bf16* kv = kept_kv + start * s.tokens * layout.kv_stride;
            const bf16* q = layout.together ? kv : kept_q + start * s.queries * width;
            const bf16* g = grad + start * s.queries * width;
            bf16* grad_part = grad_x + start * s.tokens * width;
            bf16* q_slopes = layout.together ? kv_back.values : q_back.values;
            multiply(g, width, queries, proj.panels,
                     [&](int64_t i, int64_t j, Floats sums) { store(back + i * width + j, sums); });
            for (int64_t b = 0; b < images; ++b) {
                const int64_t q_at = b * s.queries * layout.q_stride;
                const int64_t k_at = b * s.tokens * layout.kv_stride + (layout.together ? width : 0);
                attend_backward(q + q_at, kv + k_at, kv + k_at + width,
                                kept_weights + (start + b) * s.heads * s.queries * heads.wide, back + b * s.queries * width,
                                q_slopes + q_at, kv_back + k_at, kv_back + k_at + width, heads, scratch);
            }
            multiply(kv_back.values, layout.kv_stride, tokens, kv_weight.panels,
                     [&](int64_t i, int64_t j, Floats sums) { store(grad_part + i * width + j, sums); });
            if (!layout.together) {
                multiply(q_back.values, width, queries, q_weight.panels, [&](int64_t i, int64_t j, Floats sums) {
                    bf16* to = grad_part + (i / s.queries * s.tokens + s.first + i % s.queries) * width + j;
                    store(to, load(to) + sums);
                });
                gather(part, rows, s, images, width);
                g_q.add(thread, q_back, width, rows, width, queries, transposed, packed);
            }
            g_kv.add(thread, kv_back, layout.kv_stride, part, width, tokens, transposed, packed);
            g_proj.add(thread, g, width, kept_attended + start * s.queries * width, width, queries, transposed, packed);
        }
        g_proj.finish();
        g_q.finish();
        g_kv.finish();
    }
}

}  // namespace

#define FOR_KIND(CALL)                 \
    switch (kind) {                    \
        case 0: return CALL(Gelu);     \
        case 1: return CALL(GeluTanh); \
        case 2: return CALL(QuickGelu);\
        default: return CALL(Relu);    \
    }

extern "C" {

int is_supported() { return __builtin_cpu_supports("avx512bf16"); }
int num_threads() { return omp_get_max_threads(); }

void vitbench_add_norm(const float* stream, const bf16* branch, const float* branch_bias, float* total, bf16* out,
                       const float* weight, const float* bias, float* mean, float* rstd, int64_t rows, int64_t width,
                       float eps) {
    add_norm(stream, branch, branch_bias, total, out, weight, bias, mean, rstd, rows, width, eps);
}

void vitbench_add_norm_backward(const float* grad_total, const bf16* grad_out, const float* x, const float* weight,
                                const float* mean, const float* rstd, float* grad_in, bf16* grad_branch,
                                float* weight_grad, float* bias_grad, float* branch_bias_grad, int64_t rows,
                                int64_t width) {
    add_norm_backward(grad_total, grad_out, x, weight, mean, rstd, grad_in, grad_branch, weight_grad, bias_grad,
                      branch_bias_grad, rows, width);
}

void vitbench_add_backward(const float* grad, bf16* grad_branch, float* branch_bias_grad, int64_t rows, int64_t width) {
    add_backward(grad, grad_branch, branch_bias_grad, rows, width);
}

void vitbench_mlp(const bf16* x, const float* w1, const float* b1, const float* w2, bf16* before, bf16* out, int64_t rows,
                  int64_t d, int64_t hidden, int64_t out_width, int64_t kind) {
#define FORWARD(F) mlp<F>(x, w1, b1, w2, before, out, rows, d, hidden, out_width)
    FOR_KIND(FORWARD)
}

void vitbench_mlp_backward(const bf16* x, const bf16* before, const float* w1, const float* w2, const bf16* grad,
                           bf16* grad_x, float* grad_w1, float* grad_b1, float* grad_w2, int64_t rows, int64_t d,
                           int64_t hidden, int64_t out_width, int64_t kind) {
#define BACKWARD(F) \
    mlp_backward<F>(x, before, w1, w2, grad, grad_x, grad_w1, grad_b1, grad_w2, rows, d, hidden, out_width)
    FOR_KIND(BACKWARD)
}

void vitbench_self_attention(const bf16* x, const float* w_qkv, const float* bias, const float* w_proj, bf16* kv, bf16* q,
                             bf16* attended, bf16* weights, bf16* out, const Shape* shape) {
    self_attention(x, w_qkv, bias, w_proj, kv, q, attended, weights, out, *shape);
}

void vitbench_self_attention_backward(const bf16* x, const float* w_qkv, const float* w_proj, const bf16* kv,
                                      const bf16* q, const bf16* attended, const bf16* weights, const bf16* grad,
                                      bf16* grad_x, float* grad_w_qkv, float* grad_bias, float* grad_w_proj,
                                      const Shape* shape) {
    self_attention_backward(x, w_qkv, w_proj, kv, q, attended, weights, grad, grad_x, grad_w_qkv, grad_bias, grad_w_proj,
                            *shape);
}
}

#else

extern "C" {
int is_supported() { return 0; }
}

#endif
