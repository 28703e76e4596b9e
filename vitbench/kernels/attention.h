// The attention branch: projection, rotation of queries and keys by their place, attention of every head, projection.

#pragma once

#include <cmath>

#include "products.h"

namespace {

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

// Of self-attention: all tokens are keys; `queries` tokens from `first_query` on are queries, and the result has these alone.
struct Shape {
    int64_t batch, tokens, first_query, queries, heads, d;
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

// Rotary positions: cosines [tokens, d], then sines; without, null, nothing turns.
struct Turns {
    const float* cosines;
    int64_t tokens, d;

    inline Floats operator()(Floats x, int64_t token, int64_t column) const {
        const float* at = cosines + token * d + column % d;
        return turned(x, load(at), load(at + tokens * d));
    }

    // Of one image's gradients with respect to what was turned, back to those of what it was: rows of heads · d.
    void back(bf16* rows, int64_t stride, int64_t first, int64_t count, int64_t width) const {
        if (!cosines) return;
        for (int64_t i = 0; i < count; ++i)
            for (int64_t j = 0; j < width; j += LANES) {
                const float* at = cosines + (first + i) * d + j % d;
                bf16* row = rows + i * stride + j;
                store(row, turned(load(row), load(at), -load(at + tokens * d)));
            }
    }
};

inline int64_t images_at_a_time(const Shape& s, int64_t rows, int threads) {
    const int64_t most = rows / s.tokens;
    return chunk_of(s.batch, most < 1 ? 1 : most, threads);
}

// The queries' rows of every image, dense.
inline void gather(const bf16* x, bf16* to, const Shape& s, int64_t images, int64_t width) {
    for (int64_t b = 0; b < images; ++b)
        std::memcpy(to + b * s.queries * width, x + (b * s.tokens + s.first_query) * width, s.queries * width * sizeof(bf16));
}

// x: [B, N, D]; w_qkv: [3D, D]; turns: [2, N, d] or null; qkv, queries and keys turned: [B, N, 3D], or k and v [B, N, 2D] and q_alone [B, M, D]; attended, out: [B, M, D].
// Without kept_kv nothing is kept for the backward pass.
void self_attention(const bf16* x, const float* w_qkv, const float* bias, const float* w_proj, const float* turns,
                    bf16* kept_kv, bf16* kept_q, bf16* kept_attended, bf16* kept_weights, bf16* out, const Shape& s) {
    const Layout layout(s);
    const Turns turn{turns, s.tokens, s.d};
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
            const int64_t turning = turns ? layout.kv_stride - width : 0;  // all columns but those of v
            multiply(part, width, images * s.tokens, kv_weight.panels, [&](int64_t i, int64_t j, Floats sums) {
                const Floats x = kv_bias ? sums + load(kv_bias + j) : sums;
                store(kv + i * layout.kv_stride + j, j < turning ? turn(x, i % s.tokens, j) : x);
            });
            if (!layout.together) {
                gather(part, rows, s, images, width);
                multiply(rows.values, width, images * s.queries, q_weight.panels, [&](int64_t i, int64_t j, Floats sums) {
                    const Floats x = bias ? sums + load(bias + j) : sums;
                    store(q + i * width + j, turns ? turn(x, s.first_query + i % s.queries, j) : x);
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

void self_attention_backward(const bf16* x, const float* w_qkv, const float* w_proj, const float* turns, const bf16* kept_kv,
                             const bf16* kept_q, const bf16* kept_attended, const bf16* kept_weights, const bf16* grad,
                             bf16* grad_x, float* grad_w_qkv, float* grad_bias, float* grad_w_proj, const Shape& s) {
    const Layout layout(s);
    const Turns turn{turns, s.tokens, s.d};
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
                turn.back(q_slopes + q_at, layout.q_stride, s.first_query, s.queries, width);
                turn.back(kv_back + k_at, layout.kv_stride, 0, s.tokens, width);
            }
            multiply(kv_back.values, layout.kv_stride, tokens, kv_weight.panels,
                     [&](int64_t i, int64_t j, Floats sums) { store(grad_part + i * width + j, sums); });
            if (!layout.together) {
                multiply(q_back.values, width, queries, q_weight.panels, [&](int64_t i, int64_t j, Floats sums) {
                    bf16* to = grad_part + (i / s.queries * s.tokens + s.first_query + i % s.queries) * width + j;
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
