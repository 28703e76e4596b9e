// Residual sum and LayerNorm in one pass forward and one backward.

#pragma once

#include <cmath>
#include <vector>

#include "vectors.h"

namespace {

constexpr int64_t BLOCK = 64;  // rows whose sums are taken in float, before they are added in double
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

}  // namespace
