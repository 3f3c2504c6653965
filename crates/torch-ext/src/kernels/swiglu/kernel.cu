// The gated unit a = silu(gate) · up, silu(x) = x σ(x), and its gradients:
//   d_gate = da · up · σ(gate) (1 + gate (1 − σ(gate))),   d_up = da · silu(gate)
// Bytes: forward 3 · numel · sizeof(T), backward 5 (6 with a).
// Floor for [8192, 2816] in bfloat16: 46 µs and 92 µs at 3 TB/s.

__device__ __forceinline__ float sigmoid(float x) { return 1.0f / (1.0f + __expf(-x)); }

extern "C" __global__ void __launch_bounds__(256) swiglu_forward(const T* gate, const T* up, T* out, i64 packs) {
  const i64 pack = static_cast<i64>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (pack >= packs) return;
  float g[VEC], u[VEC];
  load(gate + pack * VEC, g);
  load(up + pack * VEC, u);
#pragma unroll
  for (int k = 0; k < VEC; ++k) u[k] *= g[k] * sigmoid(g[k]);
  store(out + pack * VEC, u);
}

extern "C" __global__ void __launch_bounds__(256)
swiglu_backward(const T* da, const T* gate, const T* up, T* d_gate, T* d_up, i64 packs) {
  const i64 pack = static_cast<i64>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (pack >= packs) return;
  float d[VEC], g[VEC], u[VEC];
  load(da + pack * VEC, d);
  load(gate + pack * VEC, g);
  load(up + pack * VEC, u);
#pragma unroll
  for (int k = 0; k < VEC; ++k) {
    const float s = sigmoid(g[k]);
    const float through_gate = d[k] * u[k] * s * (1.0f + g[k] * (1.0f - s));
    u[k] = d[k] * g[k] * s;
    g[k] = through_gate;
  }
  store(d_gate + pack * VEC, g);
  store(d_up + pack * VEC, u);
}
