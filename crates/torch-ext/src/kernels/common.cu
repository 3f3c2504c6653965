// Code that all kernels share, compiled in front of each. It needs no header of the CUDA toolkit.
//
// BF16: elements of type T are bfloat16, otherwise float32.
// VEC: the number of elements in one access; 1 where memory is not aligned for more.

typedef unsigned int u32;
typedef unsigned short u16;
typedef unsigned long long u64;
typedef long long i64;

#if BF16
typedef u16 T;
#else
typedef float T;
#endif

// a / b for numbers that are not negative. 64-bit division takes several times as long as the
// memory access that needs it, so 32-bit division is used where the numbers allow it.
__device__ __forceinline__ i64 quotient(i64 a, i64 b) {
  return ((a | b) >> 32) == 0 ? static_cast<u32>(a) / static_cast<u32>(b) : a / b;
}

template <int N, typename E>
struct alignas(N * sizeof(E)) Pack {
  E at[N];
};

__device__ __forceinline__ float wide(float x) { return x; }
__device__ __forceinline__ float wide(u16 bits) { return __uint_as_float(static_cast<u32>(bits) << 16); }

// Rounds to nearest, ties to even. NaN stays NaN.
__device__ __forceinline__ u16 to_bfloat16(float x) {
  u32 bits = __float_as_uint(x);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<u16>((bits >> 16) | 0x40);
  return static_cast<u16>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}
__device__ __forceinline__ void narrow(float x, float& out) { out = x; }
__device__ __forceinline__ void narrow(float x, u16& out) {
#if __CUDA_ARCH__ >= 800
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(out) : "f"(x));
#else
  out = to_bfloat16(x);
#endif
}

template <int N, typename E>
__device__ __forceinline__ void load(const E* from, float (&to)[N]) {
  const Pack<N, E> pack = *reinterpret_cast<const Pack<N, E>*>(from);
#pragma unroll
  for (int i = 0; i < N; ++i) to[i] = wide(pack.at[i]);
}

template <int N, typename E>
__device__ __forceinline__ void store(E* to, const float (&from)[N]) {
  Pack<N, E> pack;
#pragma unroll
  for (int i = 0; i < N; ++i) narrow(from[i], pack.at[i]);
  *reinterpret_cast<Pack<N, E>*>(to) = pack;
}

// Rounds to nearest.
__device__ __forceinline__ u16 to_float16(float x) {
  u16 out;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(out) : "f"(x));
  return out;
}

// The value after a store and a load.
__device__ __forceinline__ float rounded(float x) {
  T stored;
  narrow(x, stored);
  return wide(stored);
}

template <typename F>
__device__ __forceinline__ F warp_sum(F x) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) x += __shfl_xor_sync(0xffffffffu, x, step);
  return x;
}

// The sum over a block of whole warps. Every thread gets the same result. `shared` holds one
// element for each warp. Calls may follow each other with the same `shared`: the first barrier
// waits for the readers of the call before.
template <typename F>
__device__ __forceinline__ F block_sum(F x, F* shared) {
  x = warp_sum(x);
  __syncthreads();
  if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = x;
  __syncthreads();
  F total = 0;
  for (u32 warp = 0; warp < blockDim.x / 32; ++warp) total += shared[warp];
  return total;
}
