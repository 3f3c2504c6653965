// Rotation of the halves (a, b) of the first 2 half of a head's `size` values:
// (a, b) ← (a cos − b s, b cos + a s), where s is sin, or −sin for the gradient.
//
//   rope:      x [n, heads, size] in place, the first `rotated` heads of each token
//   rope_back: [n, heads, size] from q [n, h, size], k and v [n, g, size], heads = h + 2 g; q and k
//              are rotated back, v and what was not rotated are copied
//
// cos and sin: [n, half].
// Bytes: 2 · numel · sizeof(T) of what is rotated or copied.
// Floor for [8192, 48, 64] in bfloat16, of which 32 heads are rotated: 23 µs, and back 34 µs.

// Each thread has VEC elements of each half of a head.
extern "C" __global__ void __launch_bounds__(256)
rope(T* x, const T* cosines, const T* sines, i64 heads, i64 rotated, i64 size, i64 half, i64 packs) {
  const i64 pack = static_cast<i64>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (pack >= packs) return;
  const i64 per_head = half / VEC;
  const i64 item = quotient(pack, per_head), at = (pack - item * per_head) * VEC;
  const i64 token = quotient(item, rotated), head = item - token * rotated;
  T* first = x + (token * heads + head) * size + at;
  const i64 angle = token * half + at;
  float a[VEC], b[VEC], c[VEC], s[VEC];
  load(first, a);
  load(first + half, b);
  load(cosines + angle, c);
  load(sines + angle, s);
#pragma unroll
  for (int k = 0; k < VEC; ++k) {
    const float old = a[k];
    a[k] = old * c[k] - b[k] * s[k];
    b[k] = b[k] * c[k] + old * s[k];
  }
  store(first, a);
  store(first + half, b);
}

// Each thread has VEC elements of the output, so that a warp writes whole cache lines. Writing half
// lines takes twice as long. The other half of the head is read from the cache.
extern "C" __global__ void __launch_bounds__(256)
rope_back(const T* q, const T* k, const T* v, T* out, const T* cosines, const T* sines, i64 h, i64 g, i64 size, i64 half,
          i64 packs) {
  const i64 pack = static_cast<i64>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (pack >= packs) return;
  const i64 per_head = size / VEC, heads = h + 2 * g;
  const i64 item = quotient(pack, per_head), at = (pack - item * per_head) * VEC;
  const i64 token = quotient(item, heads), head = item - token * heads;
  const T* from = head < h       ? q + (token * h + head) * size
                  : head < h + g ? k + (token * g + head - h) * size
                                 : v + (token * g + head - h - g) * size;
  float x[VEC];
  load(from + at, x);
  if (head < h + g && at < 2 * half) {
    const bool is_first = at < half;
    const i64 angle = token * half + (is_first ? at : at - half);
    float other[VEC], c[VEC], s[VEC];
    load(from + (is_first ? at + half : at - half), other);
    load(cosines + angle, c);
    load(sines + angle, s);
#pragma unroll
    for (int i = 0; i < VEC; ++i) x[i] = x[i] * c[i] + (is_first ? other[i] : -other[i]) * s[i];
  }
  store(out + pack * VEC, x);
}
