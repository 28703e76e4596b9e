// The MLP branch: two products around a nonlinearity, whose input alone is kept for the backward pass.

#pragma once

#include "products.h"

namespace {

// out := f(x W1ᵀ + b1) W2ᵀ. x: [rows, d], W1: [hidden, d], W2: [out_width, hidden]; before: [rows, hidden] or null.
template <typename F>
void mlp(const bf16* x, const float* w1, const float* b1, const float* w2, bf16* before, bf16* out, int64_t rows, int64_t d,
         int64_t hidden, int64_t out_width) {
    const Packed weight1(w1, hidden, d, false), weight2(w2, out_width, hidden, false);
    const int threads = threads_for(rows * hidden);
    const int64_t size = round_up(chunk_of(rows, ROWS, threads), MAX_ROWS);
#pragma omp parallel num_threads(threads)
    {
        Scratch<bf16> after(size * hidden);
#pragma omp for schedule(static)
        for (int64_t start = 0; start < rows; start += size) {
            const int64_t n = rows - start < size ? rows - start : size;
            multiply(x + start * d, d, n, weight1.panels, [&](int64_t i, int64_t j, Floats sums) {
                const Floats h = sums + load(b1 + j);
                Floats value, slope;
                F::at(h, value, slope);
                store(after + i * hidden + j, value);
                if (before) store(before + (start + i) * hidden + j, h);
            });
            multiply(after.values, hidden, n, weight2.panels,
                     [&](int64_t i, int64_t j, Floats sums) { store(out + (start + i) * out_width + j, sums); });
        }
    }
}

template <typename F>
void mlp_backward(const bf16* x, const bf16* before, const float* w1, const float* w2, const bf16* grad, bf16* grad_x,
                  float* grad_w1, float* grad_b1, float* grad_w2, int64_t rows, int64_t d, int64_t hidden,
                  int64_t out_width) {
    const Packed weight1(w1, hidden, d, true), weight2(w2, out_width, hidden, true);
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
            multiply(g, out_width, n, weight2.panels, [&](int64_t i, int64_t j, Floats sums) {
                Floats value, slope;
                F::at(load(before + (start + i) * hidden + j), value, slope);
                store(after + i * hidden + j, value);
                store(slopes + i * hidden + j, sums * slope);
            });
            multiply(slopes.values, hidden, n, weight1.panels,
                     [&](int64_t i, int64_t j, Floats sums) { store(grad_x + (start + i) * d + j, sums); });
            g2.add(thread, g, out_width, after, hidden, n, transposed, packed);
            g1.add(thread, slopes, hidden, x + start * d, d, n, transposed, packed);
        }
        g1.finish();
        g2.finish();
    }
}

}  // namespace
