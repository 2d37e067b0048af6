// Frames, one after the other, into a balancer that has everything: balancer_properties.h says what
// must hold, balancer_input.h what the bytes mean.

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "tests/fuzz/balancer_properties.h"
#include "tests/fuzz/input_maker.h"

namespace {

using namespace weir::testing;

/// libFuzzer knows nothing of lengths before frames: it changes the bytes of one frame.
void mutate_by_library(BalancerInput& input, std::uint32_t seed);

}  // namespace

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t size_max);

namespace {

void mutate_by_library(BalancerInput& input, std::uint32_t seed) {
  if (input.frames.empty()) return;
  std::vector<std::byte>& bytes = input.frames[seed % input.frames.size()].bytes;
  const std::size_t size = bytes.size();
  bytes.resize(kInputFrameBytesMax);
  bytes.resize(LLVMFuzzerMutate(reinterpret_cast<std::uint8_t*>(bytes.data()), size, bytes.size()));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static BalancerProperties properties;
  const std::string broken = properties.check({data, size});
  if (broken.empty()) return 0;
  std::fprintf(stderr, "a property does not hold: %s\n", broken.c_str());
  std::abort();
}

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size,
                                               std::size_t size_max, unsigned seed) {
  InputMaker maker{seed};
  BalancerInput input = read_input({data, size});
  if (seed % 3 == 0)
    maker.mutate(input);
  else
    mutate_by_library(input, seed / 3);
  const std::vector<std::uint8_t> bytes = write_input(input);
  const std::size_t count = std::min(bytes.size(), size_max);
  std::copy_n(bytes.begin(), count, data);
  return count;
}
