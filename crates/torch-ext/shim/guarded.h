// Exceptions at the C ABI: a function returns null on success, otherwise a message from malloc that
// the caller frees.
#pragma once

#include <c10/util/Exception.h>

#include <cstdlib>
#include <cstring>
#include <exception>

namespace torch_ext {

inline char out_of_memory[] = "out of memory";

// Copies a message. The result is never null, because null means success.
inline char* copy(const char* message) {
  char* copied = strdup(message);
  return copied != nullptr ? copied : out_of_memory;
}

template <typename Body>
char* guarded(Body body) {
  try {
    body();
    return nullptr;
  } catch (const c10::Error& error) {
    return copy(error.what_without_backtrace());
  } catch (const std::exception& error) {
    return copy(error.what());
  } catch (...) {
    return copy("unknown C++ exception");
  }
}

}  // namespace torch_ext
