// The gated unit a = act(gate) · up, with act(x) = x σ(h(x)), and its gradients:
//
//   d_gate = da · up · σ(h) (1 + gate (1 − σ(h)) h′)
//   d_up   = da · act(gate)
//
// Of SiLU, h(x) = x. GELU_TANH: h(x) = 2 √(2/π) (x + 0.044715 x³), because
// (1 + tanh z) / 2 = σ(2 z).
//
// gate and up are side by side in rows of 2 f, and so are d_gate and d_up. The backward overwrites
// da with a.
//
// Bytes for n · f = numel: forward 3 · numel · sizeof(T), backward 6.
// Floor for [8192, 2816] in bfloat16: 46 µs and 92 µs at 3 TB/s.

__device__ __forceinline__ float sigmoid(float x) { return 1.0f / (1.0f + __expf(-x)); }

#if GELU_TANH
constexpr float SCALE = 1.5957691216057308f, CUBIC = 0.044715f;
__device__ __forceinline__ float inner(float x) { return SCALE * (x + CUBIC * x * x * x); }
__device__ __forceinline__ float with_slope(float x, float y) { return y * (SCALE * (1.0f + 3.0f * CUBIC * x * x)); }
#else
__device__ __forceinline__ float inner(float x) { return x; }
__device__ __forceinline__ float with_slope(float, float y) { return y; }
#endif

extern "C" __global__ void __launch_bounds__(256) swiglu_forward(const T* gate_up, T* out, i64 width, i64 packs) {
  const i64 pack = static_cast<i64>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (pack >= packs) return;
  const i64 gate = (pack + quotient(pack, width / VEC) * (width / VEC)) * VEC;  // each earlier row has an up half too
  float g[VEC], u[VEC];
  load(gate_up + gate, g);
  load(gate_up + gate + width, u);
#pragma unroll
  for (int k = 0; k < VEC; ++k) u[k] *= g[k] * sigmoid(inner(g[k]));
  store(out + pack * VEC, u);
}

extern "C" __global__ void __launch_bounds__(256)
swiglu_backward(T* da, const T* gate_up, T* d_gate_up, i64 width, i64 packs) {
  const i64 pack = static_cast<i64>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (pack >= packs) return;
  const i64 gate = (pack + quotient(pack, width / VEC) * (width / VEC)) * VEC;
  float d[VEC], g[VEC], u[VEC];
  load(da + pack * VEC, d);
  load(gate_up + gate, g);
  load(gate_up + gate + width, u);
#pragma unroll
  for (int k = 0; k < VEC; ++k) {
    const float s = sigmoid(inner(g[k]));
    const float activated = g[k] * s;
    const float through_gate = d[k] * u[k] * s * (1.0f + with_slope(g[k], g[k] * (1.0f - s)));
    g[k] = through_gate;
    const float through_up = d[k] * activated;
    d[k] = activated * u[k];
    u[k] = through_up;
  }
  store(d_gate_up + gate, g);
  store(d_gate_up + gate + width, u);
  store(da + pack * VEC, d);
}
