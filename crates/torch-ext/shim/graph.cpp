// CUDA graphs of libtorch (at::cuda::CUDAGraph). Their headers need CUDA's own headers, and only
// libtorch_cuda.so has their symbols.
//
// So the symbols are looked up in that library once it is loaded, under the names that the Itanium
// C++ ABI gives them. The crate is built for torch 2.11 only. Objects are kept in memory that is
// larger than any of them.

#include <c10/core/impl/VirtualGuardImpl.h>

#include <dlfcn.h>

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <utility>

#include "guarded.h"

using torch_ext::guarded;

namespace {

using PoolId = std::pair<unsigned long long, unsigned long long>;  // c10's MempoolId_t

// About 160 bytes in torch 2.11.
struct alignas(16) Object {
  unsigned char bytes[1024];
};

template <typename Function>
Function* symbol(const char* name) {
  void* found = dlsym(RTLD_DEFAULT, name);
  TORCH_CHECK(found != nullptr, "libtorch_cuda.so has no ", name);
  return reinterpret_cast<Function*>(found);
}

struct Methods {
  void (*construct)(Object*, bool) = symbol<void(Object*, bool)>("_ZN2at4cuda9CUDAGraphC1Eb");
  void (*destroy)(Object*) = symbol<void(Object*)>("_ZN2at4cuda9CUDAGraphD1Ev");
  // The last argument is cudaStreamCaptureMode.
  void (*capture_begin)(Object*, PoolId, int) =
      symbol<void(Object*, PoolId, int)>("_ZN2at4cuda9CUDAGraph13capture_beginESt4pairIyyE21cudaStreamCaptureMode");
  void (*capture_end)(Object*) = symbol<void(Object*)>("_ZN2at4cuda9CUDAGraph11capture_endEv");
  void (*replay)(Object*) = symbol<void(Object*)>("_ZN2at4cuda9CUDAGraph6replayEv");
  PoolId (*new_pool)() = symbol<PoolId()>("_ZN2at4cuda17graph_pool_handleEv");
};

const Methods& methods() {
  static const Methods found;
  return found;
}

struct Graph {
  Object object;
  c10::Stream before;

  explicit Graph(c10::Stream before) : before(before) { methods().construct(&object, false); }
  Graph(const Graph&) = delete;
  ~Graph() {
    try {
      methods().destroy(&object);
    } catch (...) {
    }
  }
};

c10::impl::VirtualGuardImpl guard() { return c10::impl::VirtualGuardImpl(c10::DeviceType::CUDA); }

// The stream for all recordings of a device. The default stream cannot be recorded. There is only
// one other stream, because libraries keep memory for each stream that they see.
c10::Stream stream_for_recording(c10::Device device) {
  static std::mutex mutex;
  static std::map<c10::DeviceIndex, c10::Stream> streams;
  const std::lock_guard<std::mutex> lock(mutex);
  auto found = streams.find(device.index());
  if (found == streams.end()) found = streams.emplace(device.index(), guard().getStreamFromGlobalPool(device)).first;
  return found->second;
}

}  // namespace

extern "C" {

// Makes an identifier for memory that graphs share.
char* torch_ext_graph_new_pool(unsigned long long* first, unsigned long long* second) {
  return guarded([&] {
    const PoolId id = methods().new_pool();
    *first = id.first;
    *second = id.second;
  });
}

// Begins a recording. Until torch_ext_graph_end, the work that this thread gives to CUDA device
// `index` is recorded and not done.
char* torch_ext_graph_begin(int64_t index, unsigned long long pool_first, unsigned long long pool_second, void** graph) {
  return guarded([&] {
    const c10::Device device(c10::DeviceType::CUDA, static_cast<c10::DeviceIndex>(index));
    methods();
    const c10::Stream before = guard().exchangeStream(stream_for_recording(device));
    try {
      auto recording = std::make_unique<Graph>(before);
      constexpr int thread_local_mode = 1;  // other threads may use the device meanwhile
      methods().capture_begin(&recording->object, PoolId(pool_first, pool_second), thread_local_mode);
      *graph = recording.release();
    } catch (...) {
      guard().exchangeStream(before);
      throw;
    }
  });
}

// Ends the recording. If this fails, the graph may only be passed to torch_ext_graph_free.
char* torch_ext_graph_end(void* graph) {
  return guarded([&] {
    auto* recording = static_cast<Graph*>(graph);
    try {
      methods().capture_end(&recording->object);
    } catch (...) {
      guard().exchangeStream(recording->before);
      throw;
    }
    guard().exchangeStream(recording->before);
  });
}

// Launches a graph on the current stream.
char* torch_ext_graph_launch(void* graph) {
  return guarded([&] { methods().replay(&static_cast<Graph*>(graph)->object); });
}

void torch_ext_graph_free(void* graph) { delete static_cast<Graph*>(graph); }

}  // extern "C"
