// Operators of libtorch that tch's generated bindings leave out, with a C ABI.
//
// Tensors are `at::Tensor*`, as in torch-sys. A function returns null on success, or a message from
// malloc that the caller frees.

#include <ATen/Context.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/_flash_attention_forward.h>
#include <ATen/ops/_scaled_dot_product_cudnn_attention.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <c10/util/Exception.h>

#include <cstdlib>
#include <limits>
#include <optional>
#include <tuple>

#include "guarded.h"

using torch_ext::guarded;

namespace {

c10::DeviceAllocator* allocator_of(int64_t index) {
  TORCH_CHECK(index >= 0 && index <= std::numeric_limits<c10::DeviceIndex>::max(), "no CUDA device ", index);
  return c10::getDeviceAllocator(c10::DeviceType::CUDA);
}

struct NoWarnings : c10::WarningHandler {
  void process(const c10::Warning&) override {}
};

}  // namespace

extern "C" {

void torch_ext_free(char* message) {
  if (message != torch_ext::out_of_memory) free(message);
}

// Variable-length causal flash attention: query, key, value are [tokens, heads, head_dim],
// cumulative_lengths is int32 [rows + 1]. A token attends to itself and to `window_left` tokens
// before it, or to all of them if that is negative. outputs receives five new tensors: output,
// logsumexp, rng_state, unused, debug_mask.
char* torch_ext_flash_attention_forward(void** outputs, const void* query, const void* key, const void* value,
                                        const void* cumulative_lengths, int64_t longest, int64_t window_left,
                                        double scale) {
  return guarded([&] {
    const auto& q = *static_cast<const at::Tensor*>(query);
    const auto& k = *static_cast<const at::Tensor*>(key);
    const auto& v = *static_cast<const at::Tensor*>(value);
    const auto& lengths = *static_cast<const at::Tensor*>(cumulative_lengths);
    const std::optional<int64_t> left = window_left < 0 ? std::nullopt : std::make_optional(window_left);
    const std::optional<int64_t> right = window_left < 0 ? std::nullopt : std::make_optional<int64_t>(0);
    auto result = at::_flash_attention_forward(q, k, v, lengths, lengths, longest, longest, /*dropout_p=*/0.0,
                                               /*is_causal=*/true, /*return_debug_mask=*/false, scale, left, right);
    outputs[0] = new at::Tensor(std::get<0>(result));
    outputs[1] = new at::Tensor(std::get<1>(result));
    outputs[2] = new at::Tensor(std::get<2>(result));
    outputs[3] = new at::Tensor(std::get<3>(result));
    outputs[4] = new at::Tensor(std::get<4>(result));
  });
}

// cuDNN's causal attention: query, key, value are [rows, heads, tokens, head_dim]. outputs receives
// four new tensors: output, logsumexp, seed, offset.
char* torch_ext_cudnn_attention_forward(void** outputs, const void* query, const void* key, const void* value, double scale) {
  return guarded([&] {
    const auto& q = *static_cast<const at::Tensor*>(query);
    const auto& k = *static_cast<const at::Tensor*>(key);
    const auto& v = *static_cast<const at::Tensor*>(value);
    auto result = at::_scaled_dot_product_cudnn_attention(q, k, v, /*attn_bias=*/std::nullopt, /*compute_log_sumexp=*/true,
                                                          /*dropout_p=*/0.0, /*is_causal=*/true,
                                                          /*return_debug_mask=*/false, scale);
    outputs[0] = new at::Tensor(std::get<0>(result));
    outputs[1] = new at::Tensor(std::get<1>(result));
    outputs[2] = new at::Tensor(std::get<6>(result));
    outputs[3] = new at::Tensor(std::get<7>(result));
  });
}

// Copies a tensor to pinned memory, for CUDA device `index`. outputs receives one new tensor.
// Without a device, libtorch would look for one that it was built with, so the call names one.
// libtorch warns about that twice in each call, and about nothing else, so its warnings are
// suppressed.
char* torch_ext_pin_memory(void** outputs, const void* tensor, int64_t index) {
  return guarded([&] {
    allocator_of(index);  // this checks the index
    NoWarnings none;
    const c10::WarningUtils::WarningHandlerGuard quiet(&none);
    const c10::Device device(c10::DeviceType::CUDA, static_cast<c10::DeviceIndex>(index));
    outputs[0] = new at::Tensor(static_cast<const at::Tensor*>(tensor)->pin_memory(device));
  });
}

// Bytes in live tensors on CUDA device `index`: now, and the highest number since the last reset.
char* torch_ext_cuda_memory(int64_t index, int64_t* current, int64_t* peak) {
  return guarded([&] {
    const auto stats = allocator_of(index)->getDeviceStats(static_cast<c10::DeviceIndex>(index));
    const auto& allocated = stats.allocated_bytes[static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE)];
    *current = allocated.current;
    *peak = allocated.peak;
  });
}

// Bytes that tensors could still take on CUDA device `index`: what the driver has free, and what
// the allocator holds unused.
char* torch_ext_cuda_available(int64_t index, int64_t* bytes) {
  return guarded([&] {
    const auto device = static_cast<c10::DeviceIndex>(index);
    auto* allocator = allocator_of(index);
    const auto stats = allocator->getDeviceStats(device);
    const auto aggregate = static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE);
    const int64_t unused = stats.reserved_bytes[aggregate].current - stats.allocated_bytes[aggregate].current;
    *bytes = static_cast<int64_t>(allocator->getMemoryInfo(device).first) + unused;
  });
}

// Returns to the driver what the allocator holds unused on all devices.
char* torch_ext_cuda_release_unused() {
  return guarded([&] { allocator_of(0)->emptyCache(); });
}

char* torch_ext_cuda_reset_peak(int64_t index) {
  return guarded([&] { allocator_of(index)->resetPeakStats(static_cast<c10::DeviceIndex>(index)); });
}

// Waits until CUDA device `index` has finished all its work.
char* torch_ext_cuda_synchronize(int64_t index) {
  return guarded([&] {
    allocator_of(index);
    c10::impl::getDeviceGuardImpl(c10::DeviceType::CUDA)->synchronizeDevice(static_cast<c10::DeviceIndex>(index));
  });
}

// The native handle of the stream that operators of CUDA device `index` go to.
char* torch_ext_cuda_current_stream(int64_t index, void** stream) {
  return guarded([&] {
    const c10::impl::VirtualGuardImpl guard(c10::DeviceType::CUDA);
    const c10::Device device(c10::DeviceType::CUDA, static_cast<c10::DeviceIndex>(index));
    *stream = guard.getStreamNativeHandle(guard.getStream(device));
  });
}

// Whether float32 matrix products on CUDA may round their operands to TF32.
bool torch_ext_allow_tf32() { return at::globalContext().allowTF32CuBLAS(); }
char* torch_ext_set_allow_tf32(bool allow) {
  return guarded([&] { at::globalContext().setAllowTF32CuBLAS(allow); });
}

}  // extern "C"
