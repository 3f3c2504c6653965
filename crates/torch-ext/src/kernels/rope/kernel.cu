// Rotation of the two halves (a, b) of a head: (a, b) ← (a cos − b s, b cos + a s), s = sin, or −sin for the gradient.
//   rope:      x [n, heads, 2 half] in place, the first `rotated` heads of each token.
//   rope_back: [n, heads, 2 half] from q [n, h, 2 half], k and v [n, g, 2 half], heads = h + 2 g; q and k turned back, v copied.
// cos and sin [n, half]. Bytes: 2 · numel · sizeof(T) of what is turned or copied.
// Floor for [8192, 48, 64] in bfloat16, of which 32 heads turn: 23 µs, and back 34 µs.

// Two halves of a head: VEC elements of each a thread.
__device__ __forceinline__ void turn(const T* from, T* to, const T* cosines, const T* sines, float sign, i64 half) {
  float a[VEC], b[VEC], c[VEC], s[VEC];
  load(from, a);
  load(from + half, b);
  load(cosines, c);
  load(sines, s);
#pragma unroll
  for (int k = 0; k < VEC; ++k) {
    const float old = a[k], sine = s[k] * sign;
    a[k] = old * c[k] - b[k] * sine;
    b[k] = b[k] * c[k] + old * sine;
  }
  store(to, a);
  store(to + half, b);
}

extern "C" __global__ void __launch_bounds__(256)
rope(T* x, const T* cosines, const T* sines, i64 heads, i64 rotated, i64 half, i64 packs) {
  const i64 pack = static_cast<i64>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (pack >= packs) return;
  const i64 per_head = half / VEC;
  const i64 item = quotient(pack, per_head), at = (pack - item * per_head) * VEC;
  const i64 token = quotient(item, rotated), head = item - token * rotated;
  T* first = x + (token * heads + head) * 2 * half + at;
  const i64 angle = token * half + at;
  turn(first, first, cosines + angle, sines + angle, 1.0f, half);
}

extern "C" __global__ void __launch_bounds__(256)
rope_back(const T* q, const T* k, const T* v, T* out, const T* cosines, const T* sines, i64 h, i64 g, i64 half, i64 packs) {
  const i64 pack = static_cast<i64>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (pack >= packs) return;
  const i64 per_head = half / VEC, heads = h + 2 * g;
  const i64 item = quotient(pack, per_head), at = (pack - item * per_head) * VEC;
  const i64 token = quotient(item, heads), head = item - token * heads;
  T* to = out + item * 2 * half + at;
  const i64 angle = token * half + at;
  if (head < h) {
    turn(q + (token * h + head) * 2 * half + at, to, cosines + angle, sines + angle, -1.0f, half);
  } else if (head < h + g) {
    turn(k + (token * g + head - h) * 2 * half + at, to, cosines + angle, sines + angle, -1.0f, half);
  } else {
    const T* from = v + (token * g + head - h - g) * 2 * half + at;
    float first[VEC], second[VEC];
    load(from, first);
    load(from + half, second);
    store(to, first);
    store(to + half, second);
  }
}
