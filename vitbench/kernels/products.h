// Matrix products of bf16 with sums in float: packing, tiles, and the sums of a weight's gradient.

#pragma once

#include <cstdlib>
#include <deque>
#include <new>
#include <vector>

#include "vectors.h"

namespace {

inline int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

// Scratch that begins on a cache line: a vector that straddles two costs twice as much to read. What is large is taken
// before threads begin, where std::bad_alloc can travel; within them it ends the process.
template <typename T>
struct Scratch {
    T* const values;
    explicit Scratch(int64_t n) : values(static_cast<T*>(std::aligned_alloc(64, round_up(n * sizeof(T), 64) + 64))) {
        if (!values) throw std::bad_alloc();
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

inline __mmask32 mask_of(int64_t n) { return n >= 32 ? ~0u : (1u << n) - 1; }

// 32 values as bf16, `n` of them real, zeros beyond.
inline __m512i load32(const bf16* from, int64_t n) { return _mm512_maskz_loadu_epi16(mask_of(n), from); }
inline __m512i load32(const float* from, int64_t n) {
    const __mmask32 mask = mask_of(n);
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
    std::deque<Scratch<float>> own;
    Gradient(int64_t out, int64_t in, float* total, float* bias_total, int threads)
        : out(out), in(in), total(total), bias_total(bias_total), sums(threads), bias_sums(threads) {
        for (int t = 0; t < threads; ++t) {
            if (t) own.emplace_back(out * in);
            sums[t] = t ? own.back().values : total;
            own.emplace_back(out);
            bias_sums[t] = own.back().values;
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
        const int64_t width = in;
        multiply(transposed, stride, out, {packed, in, pairs}, [=](int64_t i, int64_t j, Floats x) {
            store(to + i * width + j, load(to + i * width + j) + x);
        });
        if (!bias_total) return;
        float* bias = bias_sums[thread];
        for (int64_t i = 0; i < rows; ++i)
            for (int64_t j = 0; j < out; j += LANES) store(bias + j, load(bias + j) + load(a + i * a_stride + j));
    }
    static int64_t transposed_size(int64_t rows, int64_t out) { return out * round_up((rows + 1) / 2, LANES); }
    // Called by all threads together, after a barrier. They may be fewer than were asked for.
    void finish() {
        const int threads = omp_get_num_threads();
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

}  // namespace
