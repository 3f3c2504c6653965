// Rotation of the two halves (a, b) of each head, in place: (a, b) ← (a cos − b s, b cos + a s), s = sign · sin.
// x [n, heads, 2 half], cos and sin [n, half]. Bytes: 2 · numel · sizeof(T).
// Floor for [8192, 16, 64] in bfloat16: 11 µs.

extern "C" __global__ void __launch_bounds__(256)
rope(T* x, const T* cosines, const T* sines, float sign, i64 heads, i64 half, i64 packs) {
  const i64 pack = static_cast<i64>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (pack >= packs) return;
  const i64 per_head = half / VEC;
  const i64 head = pack / per_head, at = pack % per_head * VEC;
  T* first = x + head * 2 * half + at;
  const i64 angle = head / heads * half + at;
  float a[VEC], b[VEC], c[VEC], s[VEC];
  load(first, a);
  load(first + half, b);
  load(cosines + angle, c);
  load(sines + angle, s);
#pragma unroll
  for (int k = 0; k < VEC; ++k) {
    const float old = a[k], sine = s[k] * sign;
    a[k] = old * c[k] - b[k] * sine;
    b[k] = b[k] * c[k] + old * sine;
  }
  store(first, a);
  store(first + half, b);
}
