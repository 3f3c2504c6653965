// One pass over gradient g, moments m and v, and weight w, in float32:
//
//   m ← m + (g − m)(1 − β1)
//   v ← v + (g² − v)(1 − β2)
//   w ← (w · before + step · m / (√v / root + ε)) · after
//
// BF16: the gradient is bfloat16, otherwise float32.
// WEIGHT_FORMAT: the format of the weight.
//   0: float32
//   1: bfloat16, with the other 16 bits of the float32 master in `hidden`
//   2: bfloat16, rounded stochastically
//   3: bfloat16, rounded to nearest
// NARROW_MOMENTS: the moments are bfloat16, rounded stochastically, otherwise float32.
//
// Bytes for each element: the gradient, 16 or 8 for the moments, and 8, 8, 4 or 4 for the weight.
// Floor for 155.6 M embedding weights, bfloat16 with hidden bits: 4.0 GB, 1.35 ms at 3 TB/s.

struct Constants {
  float rate1, rate2, epsilon, step, root, before, after;
  u32 key_low, key_high, moments_key_low, moments_key_high;
};

// The same formula as torch's lerp.
__device__ __forceinline__ float blend(float from, float to, float weight) {
  return weight < 0.5f ? from + weight * (to - from) : to - (to - from) * (1.0f - weight);
}

// Murmur3's finaliser of the element's index, with the two halves of the key mixed in.
__device__ __forceinline__ u32 noise(i64 index, u32 key_low, u32 key_high) {
  u32 hash = static_cast<u32>(index) ^ key_low;
  hash ^= hash >> 16;
  hash *= 0x85ebca6bu;
  hash ^= key_high;
  hash ^= hash >> 13;
  hash *= 0xc2b2ae35u;
  hash ^= hash >> 16;
  return hash;
}

// Rounds up or down at random, by the lower 16 bits of `bits`. Values that are not finite are not
// rounded this way, because the carry would change their meaning.
__device__ __forceinline__ u16 rounded_stochastically(float x, u32 bits) {
  const u32 pattern = __float_as_uint(x);
  if ((pattern & 0x7f800000u) == 0x7f800000u) return to_bfloat16(x);
  return static_cast<u16>((pattern + (bits & 0xffffu)) >> 16);
}

#if NARROW_MOMENTS
typedef u16 M;
#else
typedef float M;
#endif

template <int N>
__device__ __forceinline__ void store_moments(M* first, M* second, const float (&m)[N], const float (&v)[N], i64 i,
                                              const Constants& c) {
#if NARROW_MOMENTS
  Pack<N, M> packed_m, packed_v;
#pragma unroll
  for (int k = 0; k < N; ++k) {
    const u32 bits = noise(i + k, c.moments_key_low, c.moments_key_high);
    packed_m.at[k] = rounded_stochastically(m[k], bits);
    packed_v.at[k] = rounded_stochastically(v[k], bits >> 16);
  }
  *reinterpret_cast<Pack<N, M>*>(first + i) = packed_m;
  *reinterpret_cast<Pack<N, M>*>(second + i) = packed_v;
#else
  store(first + i, m);
  store(second + i, v);
#endif
}

#if WEIGHT_FORMAT == 0
typedef float W;
#else
typedef u16 W;
#endif

__device__ __forceinline__ float join(W weight, u16 hidden) {
#if WEIGHT_FORMAT == 1
  return __uint_as_float((static_cast<u32>(weight) << 16) + static_cast<u32>(static_cast<int>(static_cast<short>(hidden))));
#else
  return wide(weight);
#endif
}

__device__ __forceinline__ void split(float master, W& weight, u16& hidden, i64 index, const Constants& c) {
  const u32 bits = __float_as_uint(master);
#if WEIGHT_FORMAT == 0
  weight = master;
#elif WEIGHT_FORMAT == 1
  weight = static_cast<u16>((bits + 0x8000u) >> 16);
  hidden = static_cast<u16>(bits);
#elif WEIGHT_FORMAT == 2
  weight = rounded_stochastically(master, noise(index, c.key_low, c.key_high));
#else
  narrow(master, weight);
#endif
}

template <int N>
__device__ __forceinline__ void update(W* weight, u16* hidden, const T* gradient, M* first, M* second, i64 i,
                                       const Constants& c) {
  float g[N], m[N], v[N];
  load(gradient + i, g);
  load(first + i, m);
  load(second + i, v);
  Pack<N, W> w = *reinterpret_cast<const Pack<N, W>*>(weight + i);
  Pack<N, u16> h;
#if WEIGHT_FORMAT == 1
  h = *reinterpret_cast<const Pack<N, u16>*>(hidden + i);
#endif
#pragma unroll
  for (int k = 0; k < N; ++k) {
    m[k] = blend(m[k], g[k], c.rate1);
    v[k] = blend(v[k], g[k] * g[k], c.rate2);
    float master = join(w.at[k], h.at[k]) * c.before;
    master += c.step * m[k] / (sqrtf(v[k]) / c.root + c.epsilon);
    split(master * c.after, w.at[k], h.at[k], i + k, c);
  }
  store_moments(first, second, m, v, i, c);
  *reinterpret_cast<Pack<N, W>*>(weight + i) = w;
#if WEIGHT_FORMAT == 1
  *reinterpret_cast<Pack<N, u16>*>(hidden + i) = h;
#endif
}

extern "C" __global__ void __launch_bounds__(256)
adam_full(W* weight, u16* hidden, const T* gradient, M* first, M* second, i64 n, Constants c) {
  const i64 i = (static_cast<i64>(blockIdx.x) * blockDim.x + threadIdx.x) * VEC;
  if (i + VEC <= n) {
    update<VEC>(weight, hidden, gradient, first, second, i, c);
  } else {
    for (i64 k = i; k < n; ++k) update<1>(weight, hidden, gradient, first, second, k, c);
  }
}

// Computes the direction step · m / (√v / root + ε) of a projected gradient.
template <int N>
__device__ __forceinline__ void direct(const float* gradient, M* first, M* second, i64 i, const Constants& c, float factor,
                                       float (&g)[N]) {
  float m[N], v[N];
  load(gradient + i, g);
  load(first + i, m);
  load(second + i, v);
#pragma unroll
  for (int k = 0; k < N; ++k) {
    g[k] *= factor;
    m[k] = blend(m[k], g[k], c.rate1);
    v[k] = blend(v[k], g[k] * g[k], c.rate2);
    g[k] = c.step * m[k] / (sqrtf(v[k]) / c.root + c.epsilon);
  }
  store_moments(first, second, m, v, i, c);
}

extern "C" __global__ void __launch_bounds__(256) adam_direction(float* gradient, M* first, M* second, i64 n, Constants c) {
  const i64 i = (static_cast<i64>(blockIdx.x) * blockDim.x + threadIdx.x) * VEC;
  if (i + VEC <= n) {
    float g[VEC];
    direct<VEC>(gradient, first, second, i, c, 1.0f, g);
    store(gradient + i, g);
  } else {
    for (i64 k = i; k < n; ++k) {
      float g[1];
      direct<1>(gradient, first, second, k, c, 1.0f, g);
      store(gradient + k, g);
    }
  }
}

// Returns a power of two that brings `largest` to 2^14 … 2^15, and the inverse of that power.
// float16 then keeps eleven bits of every value that is not 2^28 times smaller.
__device__ __forceinline__ void range_factor(const float* largest, float& factor, float& inverse) {
  const u32 exponent = (__float_as_uint(*largest) >> 23) & 0xffu;
  const u32 clamped = exponent == 255u ? 127u : min(max(268u - exponent, 1u), 253u);
  factor = __uint_as_float(clamped << 23);
  inverse = __uint_as_float((254u - clamped) << 23);
}

template <int N>
__device__ __forceinline__ void store_float16(u16* to, const float (&from)[N]) {
  Pack<N, u16> pack;
#pragma unroll
  for (int k = 0; k < N; ++k) pack.at[k] = to_float16(from[k]);
  *reinterpret_cast<Pack<N, u16>*>(to) = pack;
}

// float16 ← gradient · factor
template <int N>
__device__ __forceinline__ void narrow_gradient(const T* gradient, u16* out, i64 i, float factor) {
  float g[N];
  load(gradient + i, g);
#pragma unroll
  for (int k = 0; k < N; ++k) g[k] *= factor;
  store_float16(out + i, g);
}

extern "C" __global__ void __launch_bounds__(256)
adam_narrow_gradient(const T* gradient, const float* largest, u16* out, i64 n) {
  float factor, inverse;
  range_factor(largest, factor, inverse);
  const i64 i = (static_cast<i64>(blockIdx.x) * blockDim.x + threadIdx.x) * VEC;
  if (i + VEC <= n) {
    narrow_gradient<VEC>(gradient, out, i, factor);
  } else {
    for (i64 k = i; k < n; ++k) narrow_gradient<1>(gradient, out, k, factor);
  }
}

// The same as adam_direction, for a gradient that was multiplied by the factor above. The result is
// float16.
extern "C" __global__ void __launch_bounds__(256)
adam_narrow_direction(const float* gradient, const float* largest, u16* out, M* first, M* second, i64 n, Constants c) {
  float factor, inverse;
  range_factor(largest, factor, inverse);
  const i64 i = (static_cast<i64>(blockIdx.x) * blockDim.x + threadIdx.x) * VEC;
  if (i + VEC <= n) {
    float g[VEC];
    direct<VEC>(gradient, first, second, i, c, inverse, g);
    store_float16(out + i, g);
  } else {
    for (i64 k = i; k < n; ++k) {
      float g[1];
      direct<1>(gradient, first, second, k, c, inverse, g);
      store_float16(out + k, g);
    }
  }
}

template <int N>
__device__ __forceinline__ void read(const W* weight, const u16* hidden, float* master, i64 i, float factor) {
  const Pack<N, W> w = *reinterpret_cast<const Pack<N, W>*>(weight + i);
  Pack<N, u16> h;
#if WEIGHT_FORMAT == 1
  h = *reinterpret_cast<const Pack<N, u16>*>(hidden + i);
#endif
  float out[N];
#pragma unroll
  for (int k = 0; k < N; ++k) out[k] = join(w.at[k], h.at[k]) * factor;
  store(master + i, out);
}

extern "C" __global__ void __launch_bounds__(256)
read_master(const W* weight, const u16* hidden, float* master, i64 n, float factor) {
  const i64 i = (static_cast<i64>(blockIdx.x) * blockDim.x + threadIdx.x) * VEC;
  if (i + VEC <= n) {
    read<VEC>(weight, hidden, master, i, factor);
  } else {
    for (i64 k = i; k < n; ++k) read<1>(weight, hidden, master, k, factor);
  }
}

template <int N>
__device__ __forceinline__ void write(const float* master, W* weight, u16* hidden, i64 i, const Constants& c) {
  float in[N];
  load(master + i, in);
  Pack<N, W> w;
  Pack<N, u16> h;
#pragma unroll
  for (int k = 0; k < N; ++k) split(in[k] * c.after, w.at[k], h.at[k], i + k, c);
  *reinterpret_cast<Pack<N, W>*>(weight + i) = w;
#if WEIGHT_FORMAT == 1
  *reinterpret_cast<Pack<N, u16>*>(hidden + i) = h;
#endif
}

extern "C" __global__ void __launch_bounds__(256)
write_master(const float* master, W* weight, u16* hidden, i64 n, Constants c) {
  const i64 i = (static_cast<i64>(blockIdx.x) * blockDim.x + threadIdx.x) * VEC;
  if (i + VEC <= n) {
    write<VEC>(master, weight, hidden, i, c);
  } else {
    for (i64 k = i; k < n; ++k) write<1>(master, weight, hidden, k, c);
  }
}

// SplitMix64's finaliser.
__device__ __forceinline__ u64 mix(u64 z) {
  z += 0x9e3779b97f4a7c15ull;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
  return z ^ (z >> 31);
}

// w ← (w · before + step · product) · after
//
// For matrices of `each` elements that lie end to end. Each has `blocks_each` blocks. Where weights
// are rounded stochastically, each has its own random bits: element i of a matrix rounds as element
// i of `write_master` with the matrix's key.
//
// Bytes for each element: 4 for the product, and 8, 8, 4 or 4 for the weight.
extern "C" __global__ void __launch_bounds__(256)
add_to_stack(const float* product, W* weight, u16* hidden, const u64* matrices, i64 each, i64 blocks_each, u64 seed,
             u64 step, Constants c) {
  const i64 matrix = quotient(blockIdx.x, blocks_each);
  const i64 i = ((blockIdx.x - matrix * blocks_each) * blockDim.x + threadIdx.x) * VEC;
  if (i >= each) return;
#if WEIGHT_FORMAT == 2
  const u64 key = mix(seed ^ mix(matrices[matrix] ^ step));
  c.key_low = static_cast<u32>(key);
  c.key_high = static_cast<u32>(key >> 32);
#endif
  const i64 at = matrix * each + i;
  float p[VEC];
  load(product + at, p);
  Pack<VEC, W> w = *reinterpret_cast<const Pack<VEC, W>*>(weight + at);
  Pack<VEC, u16> h;
#if WEIGHT_FORMAT == 1
  h = *reinterpret_cast<const Pack<VEC, u16>*>(hidden + at);
#endif
#pragma unroll
  for (int k = 0; k < VEC; ++k) {
    const float master = join(w.at[k], h.at[k]) * c.before + c.step * p[k];
    split(master * c.after, w.at[k], h.at[k], i + k, c);
  }
  *reinterpret_cast<Pack<VEC, W>*>(weight + at) = w;
#if WEIGHT_FORMAT == 1
  *reinterpret_cast<Pack<VEC, u16>*>(hidden + at) = h;
#endif
}
