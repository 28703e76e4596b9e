// The attention branch: projection, norms and rotation of queries and keys, attention of every head, projection.

#pragma once

#include <cmath>

#include "heads.h"
#include "products.h"
#include "relative.h"

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

// q, k and v of one image: rows of heads · d values.
struct Image {
    Rows q, k, v;
};

struct Heads {
    int64_t heads, queries, keys, d, wide;
    float scale;
};

struct AttentionScratch {
    Scratch<uint32_t> packed, transposed;
    Scratch<float> logits;
    Scratch<bf16> slopes;
    explicit AttentionScratch(const Heads& s)
        : packed((s.queries > s.wide ? s.queries + 1 : s.wide) * s.d),
          transposed((s.keys > GROUP ? s.keys : GROUP) * round_up((s.queries + 1) / 2, LANES)),
          logits(s.queries * s.wide),
          slopes(s.queries * s.wide) {}
};

// out: [queries, heads · d]; weights: [heads, queries, wide].
void attend(const Image& x, bf16* out, bf16* weights, const Heads& s, AttentionScratch& t, RelativeLogits& relative) {
    const int64_t width = s.heads * s.d;
    for (int64_t h = 0; h < s.heads; ++h) {
        bf16* w = weights + h * s.queries * s.wide;
        const bf16* q = x.q.values + h * s.d;
        if (relative) relative.multiply_queries(q, x.q.stride, h);
        pack_columns(x.k.values + h * s.d, x.k.stride, t.packed, s.keys, s.d);
        multiply(q, x.q.stride, s.queries, {t.packed, s.wide, s.d / 2}, [&](int64_t i, int64_t j, Floats logits) {
            store(t.logits + i * s.wide + j, relative ? logits + relative.at(i, j) : logits);
        });
        softmax(t.logits, w, s.wide, s.queries, s.keys, s.scale);
        pack_rows(x.v.values + h * s.d, x.v.stride, t.packed, s.keys, s.d);
        multiply(w, s.wide, s.queries, {t.packed, s.d, (s.keys + 1) / 2},
                 [&](int64_t i, int64_t j, Floats sums) { store(out + i * width + h * s.d + j, sums); });
    }
}

// grad_table: [2n − 1, heads · d], added to, of relative positions.
void attend_backward(const Image& x, const bf16* weights, const bf16* grad, const Image& grads, float* grad_table,
                     const Heads& s, AttentionScratch& t, RelativeLogits& relative) {
    const int64_t width = s.heads * s.d, query_pairs = (s.queries + 1) / 2, pair_stride = round_up(query_pairs, LANES);
    for (int64_t h = 0; h < s.heads; ++h) {
        const bf16 *w = weights + h * s.queries * s.wide, *g = grad + h * s.d;
        // grad_v = weightsᵀ · grad
        transpose_pairs(w, s.wide, t.transposed, pair_stride, s.queries, s.keys);
        pack_rows(g, width, t.packed, s.queries, s.d);
        multiply(t.transposed.values, pair_stride, s.keys, {t.packed, s.d, query_pairs},
                 [&](int64_t i, int64_t j, Floats sums) { store(grads.v.values + i * grads.v.stride + h * s.d + j, sums); });
        // slopes = scale · weights · (p − Σ p · weights), p = grad · vᵀ
        pack_columns(x.v.values + h * s.d, x.v.stride, t.packed, s.keys, s.d);
        multiply(g, width, s.queries, {t.packed, s.wide, s.d / 2},
                 [&](int64_t i, int64_t j, Floats sums) { store(t.logits + i * s.wide + j, sums); });
        for (int64_t i = 0; i < s.queries; ++i) {
            const float* p = t.logits + i * s.wide;
            Floats dots{};
            for (int64_t j = 0; j < s.wide; j += LANES) dots += load(p + j) * load(w + i * s.wide + j);
            const float dot = sum(dots);
            for (int64_t j = 0; j < s.wide; j += LANES) {
                const Floats slopes = load(w + i * s.wide + j) * (load(p + j) - dot) * s.scale;
                store(t.slopes + i * s.wide + j, slopes);
                if (relative) relative.put(i, j, slopes);
            }
        }
        // grad_q = slopes · k
        if (relative) relative.multiply_slopes(h);
        pack_rows(x.k.values + h * s.d, x.k.stride, t.packed, s.keys, s.d);
        multiply(t.slopes.values, s.wide, s.queries, {t.packed, s.d, (s.keys + 1) / 2},
                 [&](int64_t i, int64_t j, Floats sums) {
                     store(grads.q.values + i * grads.q.stride + h * s.d + j,
                           relative ? sums + load(relative.grad_q + i * s.d + j) : sums);
                 });
        // grad_k = slopesᵀ · q
        transpose_pairs(t.slopes, s.wide, t.transposed, pair_stride, s.queries, s.keys);
        pack_rows(x.q.values + h * s.d, x.q.stride, t.packed, s.queries, s.d);
        multiply(t.transposed.values, pair_stride, s.keys, {t.packed, s.d, query_pairs},
                 [&](int64_t i, int64_t j, Floats sums) { store(grads.k.values + i * grads.k.stride + h * s.d + j, sums); });
        if (relative) relative.add_to_table({t.packed, s.d, query_pairs}, grad_table + h * s.d, width, t.transposed, pair_stride);
    }
}

// Of self-attention: all tokens are keys; `queries` tokens from `first_query` on are queries, and the result has these alone.
// The first `prefix` tokens are no patches.
struct Shape {
    int64_t batch, tokens, first_query, queries, heads, d, prefix;
    float scale, norm_eps;
};

// What may stand between the projection and attention, each null where it does not: rotations [2, tokens, d]; qk-norm, weight and
// bias of queries, then of keys [4, d]; embeddings of relative positions [2 · patches − 1, heads · d].
struct Between {
    const float *turns, *norms, *table;
};

struct Layout {  // q beside k and v where every token is a query, else in a tensor of its own
    const Shape& s;
    bool together;
    int64_t width, q_stride, kv_stride;
    explicit Layout(const Shape& s)
        : s(s), together(s.queries == s.tokens), width(s.heads * s.d), q_stride(together ? 3 * width : width),
          kv_stride(together ? 3 * width : 2 * width) {}
    Heads heads() const { return {s.heads, s.queries, s.tokens, s.d, round_up(s.tokens, LANES), s.scale}; }
    // Image `b` of those that begin at q and kv.
    Image image(const bf16* q, const bf16* kv, int64_t b) const {
        bf16* keys = const_cast<bf16*>(kv) + b * s.tokens * kv_stride + (together ? width : 0);
        return {{const_cast<bf16*>(q) + b * s.queries * q_stride, q_stride, s.first_query, s.queries},
                {keys, kv_stride, 0, s.tokens},
                {keys + width, kv_stride, 0, s.tokens}};
    }
};

// Queries and keys of one image as attention takes them; what is not normed is turned already.
struct Prepared {
    const Turns& turn;
    const bool is_normed;
    const HeadNorm q_norm, k_norm;
    Scratch<bf16> q, k;
    Prepared(const Between& between, const Turns& turn, const Shape& s)
        : turn(turn), is_normed(between.norms), q_norm{between.norms, between.norms + s.d, s.heads, s.d, s.norm_eps},
          k_norm{between.norms + 2 * s.d, between.norms + 3 * s.d, s.heads, s.d, s.norm_eps},
          q(is_normed ? s.queries * s.heads * s.d : 0), k(is_normed ? s.tokens * s.heads * s.d : 0) {}

    Image operator()(const Image& raw) {
        if (!is_normed) return raw;
        q_norm.apply(raw.q, q, turn);
        k_norm.apply(raw.k, k, turn);
        const int64_t width = q_norm.heads * q_norm.d;
        return {{q, width, raw.q.first, raw.q.count}, {k, width, 0, raw.k.count}, raw.v};
    }
    // From gradients with respect to what was prepared to those of what the projection gave; to sums [4, d] those of norms.
    void back(const Image& raw, const Image& grads, int64_t width, float* sums) const {
        if (is_normed) {
            q_norm.back(raw.q, grads.q, turn, sums);
            k_norm.back(raw.k, grads.k, turn, sums + 2 * k_norm.d);
        } else if (turn.cosines) {
            turn_back(grads.q, width, turn);
            turn_back(grads.k, width, turn);
        }
    }
};

inline Windows windows_of(const Between& between, const Shape& s) {
    return {between.table ? s.tokens - s.prefix : 0, s.prefix, s.first_query, s.queries, s.tokens};
}

inline int64_t images_at_a_time(const Shape& s, int64_t rows, int threads) {
    const int64_t most = rows / s.tokens;
    return chunk_of(s.batch, most < 1 ? 1 : most, threads);
}

// The queries' rows of every image, dense.
inline void gather(const bf16* x, bf16* to, const Shape& s, int64_t images, int64_t width) {
    for (int64_t b = 0; b < images; ++b)
        std::memcpy(to + b * s.queries * width, x + (b * s.tokens + s.first_query) * width, s.queries * width * sizeof(bf16));
}

// x: [B, N, D]; w_qkv: [3D, D]; qkv, queries and keys turned where they are not normed: [B, N, 3D], or k and v [B, N, 2D] and
// q [B, M, D]; attended, out: [B, M, D]. Without kept_kv nothing is kept for the backward pass.
void self_attention(const bf16* x, const float* w_qkv, const float* bias, const float* w_proj, const Between& between,
                    bf16* kept_kv, bf16* kept_q, bf16* kept_attended, bf16* kept_weights, bf16* out, const Shape& s) {
    const Layout layout(s);
    const Turns turn{between.turns, s.tokens, s.d};
    const Heads heads = layout.heads();
    const Windows windows = windows_of(between, s);
    const PackedTable table(between.table, windows, s.heads, s.d, false);
    const int64_t width = layout.width, wide = heads.wide, q_width = layout.together ? 0 : width;
    const Packed proj(w_proj, width, width, false);
    const Packed q_weight(w_qkv, q_width, width, false);
    const Packed kv_weight(w_qkv + q_width * width, 3 * width - q_width, width, false);
    const int threads = threads_for(s.batch * s.tokens * width);
    const int64_t size = images_at_a_time(s, ROWS, threads);
    const bool keep = kept_kv != nullptr, turns_here = between.turns && !between.norms;
#pragma omp parallel num_threads(threads)
    {
        AttentionScratch scratch(heads);
        RelativeLogits relative(windows, table, false);
        Prepared prepared(between, turn, s);
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
            const int64_t turning = turns_here ? layout.kv_stride - width : 0;  // all columns but those of v
            multiply(part, width, images * s.tokens, kv_weight.panels, [&](int64_t i, int64_t j, Floats sums) {
                const Floats x = kv_bias ? sums + load(kv_bias + j) : sums;
                store(kv + i * layout.kv_stride + j, j < turning ? turn(x, i % s.tokens, j) : x);
            });
            if (!layout.together) {
                gather(part, rows, s, images, width);
                multiply(rows.values, width, images * s.queries, q_weight.panels, [&](int64_t i, int64_t j, Floats sums) {
                    const Floats x = bias ? sums + load(bias + j) : sums;
                    store(q + i * width + j, turns_here ? turn(x, s.first_query + i % s.queries, j) : x);
                });
            }
            for (int64_t b = 0; b < images; ++b) {
                bf16* weights = keep ? kept_weights + (start + b) * s.heads * s.queries * wide : own_weights.values;
                const Image image = prepared(layout.image(q, kv, b));
                attend(image, attended + b * s.queries * width, weights, heads, scratch, relative);
            }
            multiply(attended, width, images * s.queries, proj.panels, [&](int64_t i, int64_t j, Floats sums) {
                store(out + (start * s.queries + i) * width + j, sums);
            });
        }
    }
}

// Gradients of parameters, each as the parameter is laid out; null where there is none.
struct AttentionGradients {
    float *qkv, *bias, *proj, *norms, *table;
};

void self_attention_backward(const bf16* x, const float* w_qkv, const float* w_proj, const Between& between,
                             const bf16* kept_kv, const bf16* kept_q, const bf16* kept_attended, const bf16* kept_weights,
                             const bf16* grad, bf16* grad_x, const AttentionGradients& to, const Shape& s) {
    const Layout layout(s);
    const Turns turn{between.turns, s.tokens, s.d};
    const Heads heads = layout.heads();
    const Windows windows = windows_of(between, s);
    const PackedTable table(between.table, windows, s.heads, s.d, true);
    const int64_t width = layout.width, q_width = layout.together ? 0 : width, kv_width = 3 * width - q_width;
    const Packed proj(w_proj, width, width, true);
    const Packed q_weight(w_qkv, q_width, width, true);
    const Packed kv_weight(w_qkv + q_width * width, kv_width, width, true);
    const int threads = threads_for(s.batch * s.tokens * width);
    const int64_t size = images_at_a_time(s, ROWS_BACKWARD, threads), most_rows = size * s.tokens;
    Gradient g_proj(width, width, to.proj, nullptr, threads);
    Gradient g_q(q_width, width, to.qkv, to.bias, threads);
    Gradient g_kv(kv_width, width, to.qkv + q_width * width, to.bias ? to.bias + q_width : nullptr, threads);
    Gradient g_norms(between.norms ? 4 : 0, s.d, to.norms, nullptr, threads);
    Gradient g_table(windows.offsets(), width, to.table, nullptr, threads);
#pragma omp parallel num_threads(threads)
    {
        const int thread = omp_get_thread_num();
        AttentionScratch scratch(heads);
        RelativeLogits relative(windows, table, true);
        Prepared prepared(between, turn, s);
        Scratch<bf16> back(size * s.queries * width), kv_back(most_rows * layout.kv_stride);
        Scratch<bf16> q_back(size * s.queries * q_width), rows(size * s.queries * q_width);
        Scratch<uint32_t> transposed(Gradient::transposed_size(most_rows, kv_width)), packed((most_rows + 1) / 2 * width);
        for (Gradient* gradient : {&g_proj, &g_q, &g_kv, &g_norms, &g_table}) gradient->start(thread);
#pragma omp for schedule(static)
        for (int64_t start = 0; start < s.batch; start += size) {
            const int64_t images = s.batch - start < size ? s.batch - start : size;
            const int64_t tokens = images * s.tokens, queries = images * s.queries;
            const bf16* part = x + start * s.tokens * width;
            const bf16* kv = kept_kv + start * s.tokens * layout.kv_stride;
            const bf16* q = layout.together ? kv : kept_q + start * s.queries * width;
            const bf16* g = grad + start * s.queries * width;
            bf16* grad_part = grad_x + start * s.tokens * width;
            const bf16* q_slopes = layout.together ? kv_back.values : q_back.values;
            multiply(g, width, queries, proj.panels,
                     [&](int64_t i, int64_t j, Floats sums) { store(back + i * width + j, sums); });
            for (int64_t b = 0; b < images; ++b) {
                const Image raw = layout.image(q, kv, b), grads = layout.image(q_slopes, kv_back, b);
                const bf16* weights = kept_weights + (start + b) * s.heads * s.queries * heads.wide;
                attend_backward(prepared(raw), weights, back + b * s.queries * width, grads, g_table.sums[thread], heads, scratch,
                                relative);
                prepared.back(raw, grads, width, g_norms.sums[thread]);
            }
            multiply(kv_back.values, layout.kv_stride, tokens, kv_weight.panels,
                     [&](int64_t i, int64_t j, Floats sums) { store(grad_part + i * width + j, sums); });
            if (!layout.together) {
                multiply(q_back.values, width, queries, q_weight.panels, [&](int64_t i, int64_t j, Floats sums) {
                    bf16* at = grad_part + (i / s.queries * s.tokens + s.first_query + i % s.queries) * width + j;
                    store(at, load(at) + sums);
                });
                gather(part, rows, s, images, width);
                g_q.add(thread, q_back, width, rows, width, queries, transposed, packed);
            }
            g_kv.add(thread, kv_back, layout.kv_stride, part, width, tokens, transposed, packed);
            g_proj.add(thread, g, width, kept_attended + start * s.queries * width, width, queries, transposed, packed);
        }
        for (Gradient* gradient : {&g_proj, &g_q, &g_kv, &g_norms, &g_table}) gradient->finish();
    }
}

}  // namespace
