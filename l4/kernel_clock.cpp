#include "l4/kernel_clock.h"

#include <bpf/bpf.h>
#include <linux/bpf.h>

#include <array>
#include <chrono>
#include <cmath>
#include <optional>
#include <thread>

#include "l4/base/clock.h"
#include "l4/base/fd.h"

namespace weir::l4 {
namespace {

using Seconds = std::chrono::duration<double>;

/// What Linux offers to choose from (kernel/Kconfig.hz).
constexpr std::array kRates{100U, 250U, 300U, 1000U};
constexpr Duration kApart = std::chrono::milliseconds{100};
/// A reading that took longer says too little about when it was taken.
constexpr Duration kReadingMax = std::chrono::milliseconds{1};
constexpr int kAttemptsMax = 20;

struct Reading {
  std::uint32_t ticks = 0;  // the lower half: differences are what counts
  Instant at{};
};

/// return bpf_jiffies64();
Result<UniqueFd> load_program() {
  const std::array code{
      bpf_insn{.code = BPF_JMP | BPF_CALL,
               .dst_reg = 0,
               .src_reg = 0,
               .off = 0,
               .imm = BPF_FUNC_jiffies64},
      bpf_insn{.code = BPF_JMP | BPF_EXIT, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = 0}};
  UniqueFd program{
      ::bpf_prog_load(BPF_PROG_TYPE_XDP, "weir_clock", "GPL", code.data(), code.size(), nullptr)};
  if (!program) return Error::from_errno("loading a program that reads the kernel's clock");
  return program;
}

Result<Reading> read_ticks(int program) {
  std::array<std::byte, 64> frame{};  // any will do
  Duration shortest = Duration::max();
  Reading best;
  for (int attempt = 0; attempt < kAttemptsMax && shortest > kReadingMax; ++attempt) {
    LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = frame.data(), .data_size_in = frame.size(),
                .repeat = 1);
    const Instant before = monotonic_now();
    if (::bpf_prog_test_run_opts(program, &options) != 0)
      return Error::from_errno("running a program that reads the kernel's clock");
    const Instant after = monotonic_now();
    if (after - before >= shortest) continue;
    shortest = after - before;
    best = {options.retval, before + (after - before) / 2};
  }
  return best;
}

}  // namespace

Ticks nearest_ticks(double per_s) {
  constexpr double kTolerance = 0.15;
  Ticks nearest{.per_s = static_cast<std::uint32_t>(std::lround(per_s))};
  double least = kTolerance;
  for (const std::uint32_t rate : kRates) {
    const double error = std::abs(per_s / rate - 1);
    if (error >= least) continue;
    least = error;
    nearest.per_s = rate;
  }
  return nearest;
}

Result<Ticks> measure_kernel_ticks() {
  Result<UniqueFd> program = load_program();
  if (!program) return std::move(program).error();
  Result<Reading> first = read_ticks(program->get());
  if (!first) return std::move(first).error();
  std::this_thread::sleep_for(kApart);
  Result<Reading> second = read_ticks(program->get());
  if (!second) return std::move(second).error();
  const double elapsed_s = Seconds{second->at - first->at}.count();
  const Ticks ticks = nearest_ticks((second->ticks - first->ticks) / elapsed_s);
  if (ticks.per_s != 0) return ticks;
  return Error{ErrorCode::kInternal, "the kernel's clock stands still"};
}

Result<std::uint32_t> read_stamp(const Ticks& ticks) {
  Result<UniqueFd> program = load_program();
  if (!program) return std::move(program).error();
  Result<Reading> now = read_ticks(program->get());
  if (!now) return std::move(now).error();
  // The lower half of the count has all of the stamp's bits.
  return now->ticks >> ticks.second_shift() & WEIR_FLOW_STAMP_MASK;
}

}  // namespace weir::l4
