// Softmax cross-entropy. Each block has one row of logits x [v]. The gradient overwrites the row.
//
//   loss = log Σ exp(x) − x[target]
//   x ← (softmax(x) − onehot(target)) · scale
//
// A negative target means that there is none: loss and gradient are zero.
//
// Bytes: 2 · v · sizeof(T) for each row, which is read from memory once and written once. The first
// pass keeps the first `kept` logits of the row in shared memory for the second. The others are the
// last that it has read, so the second pass finds them in the L2 cache. The whole rows of all
// blocks would be too much for it.
// Floor for 8192 rows of 151,936 in bfloat16: 5.0 GB, 1.7 ms at 3 TB/s.

extern __shared__ char kept_bytes[];

extern "C" __global__ void __launch_bounds__(1024)
cross_entropy(T* logits, const i64* targets, float* losses, int* correct, i64 v, i64 kept,
              const double* scale_of_loss) {
  __shared__ float maxima[32], sums[32];
  constexpr float log2e = 1.4426950408889634f;
  T* row = logits + static_cast<i64>(blockIdx.x) * v;
  const i64 target = targets[blockIdx.x];
  const bool with_gradient = scale_of_loss != nullptr;
  if (target < 0) {
    if (threadIdx.x == 0) {
      losses[blockIdx.x] = 0.0f;
      correct[blockIdx.x] = 0;
    }
    if (!with_gradient) return;
    const float zeros[VEC] = {};
    for (i64 i = static_cast<i64>(threadIdx.x) * VEC; i < v; i += static_cast<i64>(blockDim.x) * VEC) store(row + i, zeros);
    return;
  }
  const bool known = target < v;

  // The largest logit and the sum of exponentials relative to it, in one pass (Milakov and
  // Gimelshein, arXiv 1805.02867).
  typedef Pack<VEC, T> Logits;
  T* kept_row = reinterpret_cast<T*>(kept_bytes);
  const i64 first = static_cast<i64>(threadIdx.x) * VEC, stride = static_cast<i64>(blockDim.x) * VEC;
  float high = -1e38f, sum = 0.0f;
#pragma unroll 2
  for (i64 i = first; i < v; i += stride) {
    const Logits logits = *reinterpret_cast<const Logits*>(row + i);
    if (i < kept) *reinterpret_cast<Logits*>(kept_row + i) = logits;
    float x[VEC];
#pragma unroll
    for (int k = 0; k < VEC; ++k) x[k] = wide(logits.at[k]);
    float local = x[0];
#pragma unroll
    for (int k = 1; k < VEC; ++k) local = fmaxf(local, x[k]);
    if (local > high) {
      sum *= exp2f((high - local) * log2e);
      high = local;
    }
#pragma unroll
    for (int k = 0; k < VEC; ++k) sum += exp2f((x[k] - high) * log2e);
  }
#pragma unroll
  for (int step = 16; step > 0; step /= 2) {
    const float other_high = __shfl_xor_sync(0xffffffffu, high, step);
    const float other_sum = __shfl_xor_sync(0xffffffffu, sum, step);
    const float larger = fmaxf(high, other_high);
    sum = sum * exp2f((high - larger) * log2e) + other_sum * exp2f((other_high - larger) * log2e);
    high = larger;
  }
  if (threadIdx.x % 32 == 0) {
    maxima[threadIdx.x / 32] = high;
    sums[threadIdx.x / 32] = sum;
  }
  const float of_target = known ? wide(row[target]) : __uint_as_float(0x7fc00000u);
  __syncthreads();  // now every thread has read the target's logit, so it may be overwritten
  high = maxima[0];
  for (u32 warp = 1; warp < blockDim.x / 32; ++warp) high = fmaxf(high, maxima[warp]);
  sum = 0.0f;
  for (u32 warp = 0; warp < blockDim.x / 32; ++warp) sum += sums[warp] * exp2f((maxima[warp] - high) * log2e);
  if (threadIdx.x == 0) {
    losses[blockIdx.x] = high + logf(sum) - of_target;
    correct[blockIdx.x] = of_target >= high;
  }
  if (!with_gradient) return;

  const float scale = static_cast<float>(*scale_of_loss);
  const float factor = scale / sum;
  // A thread reads what it kept itself, so no barrier is needed. What was not kept comes first,
  // before the writes displace it from the cache.
  const auto gradient = [&](const T* from, i64 i) {
    float x[VEC];
    load(from + i, x);
#pragma unroll
    for (int k = 0; k < VEC; ++k) x[k] = exp2f((x[k] - high) * log2e) * factor - (i + k == target ? scale : 0.0f);
    store(row + i, x);
  };
  const i64 skipped = kept > first ? (kept - first + stride - 1) / stride : 0;
#pragma unroll 2
  for (i64 i = first + skipped * stride; i < v; i += stride) gradient(row, i);
#pragma unroll 2
  for (i64 i = first; i < kept; i += stride) gradient(kept_row, i);
}
