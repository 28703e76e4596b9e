// 16 floats at a time: loading, rounding to bf16, exponentials, and the nonlinearities with their derivatives.

#pragma once

#include <cstdint>
#include <cstring>

#include <immintrin.h>
#include <omp.h>

namespace {

constexpr int64_t LANES = 16;
typedef float Floats __attribute__((vector_size(64)));
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

// e^x for x <= 0, relative error below 3e-6: where bf16 rounds by 2e-3. 0 from -104 on; NaN stays NaN.
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

// Pairs of neighbours (a, b) turned: (a cos − b sin, a sin + b cos). `sines` are −sin, sin, −sin, …
inline Floats turned(Floats x, Floats cosines, Floats sines) {
    return x * cosines + (Floats)_mm512_permute_ps((__m512)x, 0xb1) * sines;
}

constexpr int64_t PARALLEL_FROM = 1 << 15;  // elements: below, a second thread costs more than it brings

inline int threads_for(int64_t elements) { return elements < PARALLEL_FROM ? 1 : omp_get_max_threads(); }

}  // namespace
