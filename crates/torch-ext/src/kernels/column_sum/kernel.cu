// Sums of the columns of x [rows, columns], added to a gradient [columns]. The rows are those of a
// bias's gradient, which may be columns of a wider matrix, `stride` elements apart, or the partial
// sums that the blocks of another kernel have left.
//
//   column_partial: partial [chunks, columns]; chunk c is the sum of rows c, c + chunks, …
//   column_add:     gradient += the sum over the rows of partial
//
// Bytes: rows · columns · sizeof(T). The partial sums stay in cache.
// Floor for [8192, 3072] in bfloat16: 17 µs.

extern "C" __global__ void __launch_bounds__(128)
column_partial(const T* x, float* partial, i64 rows, i64 columns, i64 chunks, i64 tiles, i64 stride) {
  const i64 chunk = blockIdx.x / tiles;
  const i64 column = ((blockIdx.x - chunk * tiles) * blockDim.x + threadIdx.x) * VEC;
  if (column >= columns) return;
  float sum[VEC];
#pragma unroll
  for (int k = 0; k < VEC; ++k) sum[k] = 0.0f;
#pragma unroll 8
  for (i64 row = chunk; row < rows; row += chunks) {
    float values[VEC];
    load(x + row * stride + column, values);
#pragma unroll
    for (int k = 0; k < VEC; ++k) sum[k] += values[k];
  }
#pragma unroll
  for (int k = 0; k < VEC; ++k) partial[chunk * columns + column + k] = sum[k];
}

// A block has 32 columns. Each of its warps adds every 32nd row.
extern "C" __global__ void __launch_bounds__(1024)
column_add(const float* partial, T* gradient, i64 rows, i64 columns) {
  __shared__ float shared[32][32];
  const u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const i64 column = static_cast<i64>(blockIdx.x) * 32 + lane;
  float sum = 0.0f;
  if (column < columns) {
#pragma unroll 8
    for (i64 row = warp; row < rows; row += 32) sum += partial[row * columns + column];
  }
  shared[warp][lane] = sum;
  __syncthreads();
  if (warp == 0 && column < columns) {
    float total = wide(gradient[column]);
#pragma unroll
    for (int w = 0; w < 32; ++w) total += shared[w][lane];
    narrow(total, gradient[column]);
  }
}
