// What is done to each head's queries and keys before they meet: LayerNorm over the head (qk-norm), then rotation by place.

#pragma once

#include <cmath>

#include "vectors.h"

namespace {

// Rotary positions: cosines [tokens, d], then sines; without, null, nothing turns.
struct Turns {
    const float* cosines;
    int64_t tokens, d;

    inline Floats operator()(Floats x, int64_t token, int64_t column) const {
        const float* at = cosines + token * d + column % d;
        return turned(x, load(at), load(at + tokens * d));
    }

    // From gradients with respect to what was turned to those of what it was before.
    inline Floats back(Floats x, int64_t token, int64_t column) const {
        const float* at = cosines + token * d + column % d;
        return turned(x, load(at), -load(at + tokens * d));
    }
};

// Rows of heads · d values, `stride` apart; the first is that of token `first`.
struct Rows {
    bf16* values;
    int64_t stride, first, count;
};

// LayerNorm of every head, one weight and one bias [d] for all heads.
struct HeadNorm {
    const float *weight, *bias;
    int64_t heads, d;
    float eps;

    inline void statistics(const bf16* x, float& mean, float& rstd) const {
        Floats sums{}, squares{};
        for (int64_t j = 0; j < d; j += LANES) sums += load(x + j);
        mean = sum(sums) / d;
        for (int64_t j = 0; j < d; j += LANES) {
            const Floats from_mean = load(x + j) - mean;
            squares += from_mean * from_mean;
        }
        rstd = 1.0f / std::sqrt(sum(squares) / d + eps);
    }

    // to := x normed and turned, rows as in x.
    void apply(const Rows& x, bf16* to, const Turns& turn) const {
        for (int64_t i = 0; i < x.count; ++i)
            for (int64_t h = 0; h < heads; ++h) {
                const bf16* head = x.values + i * x.stride + h * d;
                float mean, rstd;
                statistics(head, mean, rstd);
                for (int64_t j = 0; j < d; j += LANES) {
                    const Floats y = (load(head + j) - mean) * rstd * load(weight + j) + load(bias + j);
                    store(to + (i * heads + h) * d + j, turn.cosines ? turn(y, x.first + i, j) : y);
                }
            }
    }

    // grad, in place: from that of what was turned, or of what `apply` gave where this norm has a weight, to that of x.
    // To sums [2, d] the gradients of weight and bias are added.
    void back(const Rows& x, const Rows& grad, const Turns& turn, float* sums) const {
        for (int64_t i = 0; i < x.count; ++i)
            for (int64_t h = 0; h < heads; ++h) {
                bf16* g = grad.values + i * grad.stride + h * d;
                const bf16* head = x.values + i * x.stride + h * d;
                float mean, rstd;
                statistics(head, mean, rstd);
                Floats dots{}, weighted_sums{};
                for (int64_t j = 0; j < d; j += LANES) {
                    const Floats of_normed = turn.cosines ? turn.back(load(g + j), x.first + i, j) : load(g + j);
                    const Floats normed = (load(head + j) - mean) * rstd, weighted = of_normed * load(weight + j);
                    store(sums + j, load(sums + j) + of_normed * normed);
                    store(sums + d + j, load(sums + d + j) + of_normed);
                    dots += weighted * normed;
                    weighted_sums += weighted;
                }
                const float dot = sum(dots) / d, mean_weighted = sum(weighted_sums) / d;
                for (int64_t j = 0; j < d; j += LANES) {
                    const Floats of_normed = turn.cosines ? turn.back(load(g + j), x.first + i, j) : load(g + j);
                    const Floats normed = (load(head + j) - mean) * rstd;
                    store(g + j, rstd * (of_normed * load(weight + j) - mean_weighted - normed * dot));
                }
            }
    }
};

// Turns gradients back where nothing is normed.
inline void turn_back(const Rows& grad, int64_t width, const Turns& turn) {
    for (int64_t i = 0; i < grad.count; ++i)
        for (int64_t j = 0; j < width; j += LANES) {
            bf16* row = grad.values + i * grad.stride + j;
            store(row, turn.back(load(row), grad.first + i, j));
        }
}

}  // namespace
