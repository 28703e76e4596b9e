// Logits of queries with embeddings of 1-D offsets between patches (Shaw et al. 2018), which attention adds to those with keys.
//
// Row i of the products with all 2n − 1 embeddings holds, from column `start(i)` on, what the n patches add: a window that moves
// left by one from row to row. Only what windows touch is multiplied, a group of rows at a time.

#pragma once

#include "products.h"

namespace {

constexpr int64_t GROUP = 24;  // rows whose windows are multiplied together: 2n − 1 columns become n + 23

// a · b's rows 2 · first to 2 · (first + pairs).
template <typename Word, typename End>
void multiply_pairs(const Word* a, int64_t a_stride, int64_t rows, const Panels& b, int64_t first, int64_t pairs, End end) {
    for (int64_t j = 0; j < b.columns; j += PANEL) {
        const int64_t width = b.columns - j < PANEL ? b.columns - j : PANEL;
        multiply(a, a_stride, rows, {b.words + j * b.pairs + first * width, width, pairs},
                 [&](int64_t i, int64_t column, Floats x) { end(i, j + column, x); });
    }
}

// Which queries have which offsets to which keys. Without patches there is nothing to add.
struct Windows {
    int64_t patches, prefix, first_query, queries, keys;

    int64_t offsets() const { return patches ? 2 * patches - 1 : 0; }
    int64_t columns() const { return round_up(offsets(), LANES); }
    int64_t first_row() const { return first_query < prefix ? prefix - first_query : 0; }  // prefix tokens are nowhere
    int64_t start(int64_t row) const { return patches - 1 - (first_query + row - prefix); }

    // Of 16 keys from `key` on, those that are patches.
    __mmask16 are_patches(int64_t key) const {
        const int64_t before = prefix - key < 0 ? 0 : prefix - key > LANES ? LANES : prefix - key;
        const int64_t end = keys - key < LANES ? keys - key : LANES;
        return static_cast<__mmask16>(0xffffu << before & 0xffffu >> (LANES - end));
    }
    // Where the value of `key` is, in a row of `columns` values.
    int64_t at(int64_t row, int64_t key) const { return row * columns() + start(row) + key - prefix; }
};

// The table [2n − 1, heads · d], packed for products with queries, or for those with slopes.
struct PackedTable {
    const Windows& windows;
    const int64_t d, pairs, words_of_head;
    Scratch<uint32_t> words;
    PackedTable(const float* table, const Windows& windows, int64_t heads, int64_t d, bool backward)
        : windows(windows), d(d), pairs(backward ? (windows.offsets() + 1) / 2 : d / 2),
          words_of_head(pairs * (backward ? d : windows.columns())), words(heads * words_of_head) {
        for (int64_t h = 0; h < heads && windows.patches; ++h) {
            uint32_t* to = words.values + h * words_of_head;
            if (backward)
                pack_rows(table + h * d, heads * d, to, windows.offsets(), d);
            else
                pack_columns(table + h * d, heads * d, to, windows.offsets(), d);
        }
    }
    Panels head(int64_t h, int64_t first_column = 0) const {
        return {words.values + h * words_of_head + first_column * pairs, d, pairs};
    }
};

// One head's products of one image, and scratch for them.
struct RelativeLogits {
    const Windows& windows;
    const PackedTable& table;
    Scratch<float> products, grad_q;
    Scratch<bf16> slopes;
    RelativeLogits(const Windows& windows, const PackedTable& table, bool backward)
        : windows(windows), table(table), products(backward ? 0 : windows.queries * windows.columns()),
          grad_q(backward && windows.patches ? windows.queries * table.d : 0),
          slopes(backward ? windows.queries * windows.columns() : 0) {
        if (!backward || !windows.patches) return;
        // What is outside of the windows, and the rows of prefix tokens, stay zero.
        std::memset(slopes, 0, windows.queries * windows.columns() * sizeof(bf16));
        std::memset(grad_q, 0, windows.queries * table.d * sizeof(float));
    }

    explicit operator bool() const { return windows.patches > 0; }

    // q: [queries, d]. Then `at` gives what it adds to the logits of 16 keys.
    void multiply_queries(const bf16* q, int64_t stride, int64_t head) {
        const int64_t columns = windows.columns();
        for (int64_t row = windows.first_row(); row < windows.queries; row += GROUP) {
            const int64_t rows = windows.queries - row < GROUP ? windows.queries - row : GROUP;
            const int64_t from = windows.start(row + rows - 1) / PANEL * PANEL;
            const int64_t end = round_up(windows.start(row) + windows.patches, PANEL);
            Panels panels = table.head(head, from);
            panels.columns = (end < columns ? end : columns) - from;
            float* to = products.values + row * columns + from;
            multiply(q + row * stride, stride, rows, panels,
                     [=](int64_t i, int64_t j, Floats x) { store(to + i * columns + j, x); });
        }
    }
    Floats at(int64_t row, int64_t key) const {
        if (row < windows.first_row()) return Floats{};
        return (Floats)_mm512_maskz_loadu_ps(windows.are_patches(key), products.values + windows.at(row, key));
    }

    // The slopes of 16 keys' logits, of one row.
    void put(int64_t row, int64_t key, Floats x) {
        if (row >= windows.first_row())
            _mm256_mask_storeu_epi16(slopes.values + windows.at(row, key), windows.are_patches(key), (__m256i)rounded(x));
    }
    // grad_q := slopes · table
    void multiply_slopes(int64_t head) {
        const int64_t columns = windows.columns(), d = table.d;
        for (int64_t row = windows.first_row(); row < windows.queries; row += GROUP) {
            const int64_t rows = windows.queries - row < GROUP ? windows.queries - row : GROUP;
            const int64_t first = windows.start(row + rows - 1) / 2;
            const int64_t end = (windows.start(row) + windows.patches + 1) / 2;
            float* to = grad_q.values + row * d;
            multiply_pairs(slopes.values + row * columns + 2 * first, columns, rows, table.head(head), first, end - first,
                           [=](int64_t i, int64_t j, Floats x) { store(to + i * d + j, x); });
        }
    }
    // To grad_table [2n − 1, width], one head's columns of it, slopesᵀ · q is added. q: its packed rows.
    void add_to_table(const Panels& q, float* grad_table, int64_t width, uint32_t* transposed, int64_t pair_stride) {
        for (int64_t offset = 0; offset < windows.offsets(); offset += GROUP) {
            const int64_t left = windows.offsets() - offset, offsets = left < GROUP ? left : GROUP;
            // Rows whose windows hold one of these offsets: start(row) <= offset < start(row) + patches.
            const int64_t highest = windows.start(0);
            int64_t row = highest - (offset + offsets - 1), end = highest + windows.patches - offset;
            row = (row < windows.first_row() ? windows.first_row() : row) / 2 * 2;
            end = end < windows.queries ? end : windows.queries;
            if (row >= end) continue;
            transpose_pairs(slopes.values + row * windows.columns() + offset, windows.columns(), transposed, pair_stride,
                            end - row, offsets);
            float* to = grad_table + offset * width;
            multiply_pairs(transposed, pair_stride, offsets, q, row / 2, (end - row + 1) / 2,
                           [=](int64_t i, int64_t j, Floats x) { store(to + i * width + j, load(to + i * width + j) + x); });
        }
    }
};

}  // namespace
