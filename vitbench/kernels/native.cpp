// A Vision Transformer's block on CPUs with AVX-512 and bf16, in few passes over memory: residual sum and LayerNorm; MLP;
// self-attention. Each thread takes some images, or rows, through a whole branch while they are in its cache, with
// matrix products whose bias and nonlinearity are applied before a value leaves its register.
//
// Plain C entry points, no headers of torch: it compiles in seconds, with -march=native. Matrix products take bf16 and
// sum in float; the residual stream, norms, and all gradients of parameters are float. Work is divided statically: the
// same result whenever the number of threads is the same. Sizes that are columns of a product are multiples of 16.

#if defined(__AVX512BF16__) && defined(__AVX512BW__) && defined(__AVX512VL__)

#include "attention.h"
#include "mlp.h"
#include "norms.h"

#define FOR_KIND(CALL)                 \
    switch (kind) {                    \
        case 0: return CALL(Gelu);     \
        case 1: return CALL(GeluTanh); \
        case 2: return CALL(QuickGelu);\
        default: return CALL(Relu);    \
    }

namespace {

// 0, or 1 where memory ran out.
template <typename Work>
int or_out_of_memory(Work work) {
    try {
        work();
        return 0;
    } catch (const std::bad_alloc&) {
        return 1;
    }
}

}  // namespace

extern "C" {

int is_supported() { return __builtin_cpu_supports("avx512bf16"); }
int num_threads() { return omp_get_max_threads(); }

int vitbench_add_norm(const float* stream, const bf16* branch, const float* branch_bias, float* total, bf16* out,
                      const float* weight, const float* bias, float* mean, float* rstd, int64_t rows, int64_t width,
                      float eps) {
    return or_out_of_memory(
        [=] { add_norm(stream, branch, branch_bias, total, out, weight, bias, mean, rstd, rows, width, eps); });
}

int vitbench_add_norm_backward(const float* grad_total, const bf16* grad_out, const float* x, const float* weight,
                               const float* mean, const float* rstd, float* grad_in, bf16* grad_branch,
                               float* weight_grad, float* bias_grad, float* branch_bias_grad, int64_t rows,
                               int64_t width) {
    return or_out_of_memory([=] {
        add_norm_backward(grad_total, grad_out, x, weight, mean, rstd, grad_in, grad_branch, weight_grad, bias_grad,
                          branch_bias_grad, rows, width);
    });
}

int vitbench_add_backward(const float* grad, bf16* grad_branch, float* branch_bias_grad, int64_t rows, int64_t width) {
    return or_out_of_memory([=] { add_backward(grad, grad_branch, branch_bias_grad, rows, width); });
}

int vitbench_mlp(const bf16* x, const float* w1, const float* b1, const float* w2, bf16* before, bf16* out, int64_t rows,
                 int64_t d, int64_t hidden, int64_t out_width, int64_t kind) {
#define FORWARD(F) mlp<F>(x, w1, b1, w2, before, out, rows, d, hidden, out_width)
    return or_out_of_memory([=] { FOR_KIND(FORWARD) });
}

int vitbench_mlp_backward(const bf16* x, const bf16* before, const float* w1, const float* w2, const bf16* grad,
                          bf16* grad_x, float* grad_w1, float* grad_b1, float* grad_w2, int64_t rows, int64_t d,
                          int64_t hidden, int64_t out_width, int64_t kind) {
#define BACKWARD(F) \
    mlp_backward<F>(x, before, w1, w2, grad, grad_x, grad_w1, grad_b1, grad_w2, rows, d, hidden, out_width)
    return or_out_of_memory([=] { FOR_KIND(BACKWARD) });
}

int vitbench_self_attention(const bf16* x, const float* w_qkv, const float* bias, const float* w_proj, const float* turns,
                            const float* norms, const float* table, bf16* kv, bf16* q, bf16* attended, bf16* weights, bf16* out,
                            const Shape* shape) {
    return or_out_of_memory([=] {
        self_attention(x, w_qkv, bias, w_proj, {turns, norms, table}, kv, q, attended, weights, out, *shape);
    });
}

int vitbench_self_attention_backward(const bf16* x, const float* w_qkv, const float* w_proj, const float* turns,
                                     const float* norms, const float* table, const bf16* kv, const bf16* q,
                                     const bf16* attended, const bf16* weights, const bf16* grad, bf16* grad_x,
                                     float* grad_w_qkv, float* grad_bias, float* grad_w_proj, float* grad_norms,
                                     float* grad_table, const Shape* shape) {
    return or_out_of_memory([=] {
        const AttentionGradients to{grad_w_qkv, grad_bias, grad_w_proj, grad_norms, grad_table};
        self_attention_backward(x, w_qkv, w_proj, {turns, norms, table}, kv, q, attended, weights, grad, grad_x, to, *shape);
    });
}
}

#else

extern "C" {
int is_supported() { return 0; }
}

#endif
