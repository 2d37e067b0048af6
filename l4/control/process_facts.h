#pragma once

#include <cstdint>
#include <string>

namespace weir::control {

/// What a daemon says about its own health. Zero, or empty, is what the system does not tell.
struct ProcessFacts {
  std::int64_t pid = 0;
  std::uint64_t resident_bytes = 0;  ///< of memory, now
  double cpu_s = 0;                  ///< used since it began, all threads
  double start_unix_s = 0;           ///< when it began, in seconds since 1970
  std::uint64_t descriptors = 0;     ///< open ones
  std::string kernel = {};           ///< release and machine: "6.1.0-18-amd64 x86_64"
};

/// Reads a few files below /proc; some 50 µs.
ProcessFacts read_process_facts();

}  // namespace weir::control
