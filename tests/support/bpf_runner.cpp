#include "tests/support/bpf_runner.h"

#include <fmt/format.h>
#include <linux/bpf.h>

#include <array>
#include <cstring>
#include <utility>

#include "tests/support/bpf_counters.h"
#include "tests/support/packet_builder.h"

namespace weir::testing {
namespace {

class ComparedRunner final : public BpfRunner {
 public:
  ComparedRunner(std::unique_ptr<BpfRunner> kernel, std::unique_ptr<BpfRunner> host)
      : kernel_{std::move(kernel)}, host_{std::move(host)} {}

  Result<RunResult> run(std::span<const std::byte> frame) override {
    auto in_kernel = kernel_->run(frame);
    if (!in_kernel) return in_kernel;
    auto on_host = host_->run(frame);
    if (!on_host) return on_host;
    if (*in_kernel == *on_host) return in_kernel;
    return Error{ErrorCode::kInternal, fmt::format("the engines differ\nkernel: {}\nhost: {}",
                                                   describe(*in_kernel), describe(*on_host))};
  }

  Result<void> write_bytes(std::string_view map, std::span<const std::byte> key,
                           std::span<const std::byte> value) override {
    if (auto written = kernel_->write_bytes(map, key, value); !written) return written;
    return host_->write_bytes(map, key, value);
  }

  Result<void> erase_bytes(std::string_view map, std::span<const std::byte> key) override {
    if (auto erased = kernel_->erase_bytes(map, key); !erased) return erased;
    return host_->erase_bytes(map, key);
  }

  Result<std::vector<std::byte>> read_bytes(std::string_view map,
                                            std::span<const std::byte> key) override {
    return kernel_->read_bytes(map, key);
  }

  Result<void> publish_map(std::string_view outer, std::uint32_t index,
                           const InnerMap& inner) override {
    if (auto published = kernel_->publish_map(outer, index, inner); !published) return published;
    return host_->publish_map(outer, index, inner);
  }

  void set_ticks(std::uint64_t ticks) override { host_->set_ticks(ticks); }
  std::vector<weir_event> take_events() override { return host_->take_events(); }

 private:
  std::unique_ptr<BpfRunner> kernel_;
  std::unique_ptr<BpfRunner> host_;
};

constexpr auto kVerdictLabels = std::to_array<std::string_view>({
#define WEIR_VERDICT(symbol, action, label, sentence) label,
#include "bpf/verdicts.def"
#undef WEIR_VERDICT
});
constexpr auto kReturnLabels = std::to_array<std::string_view>({"redirect", "drop", "other_lane"});
constexpr auto kDecapLabels = std::to_array<std::string_view>({
#define WEIR_DECAP_VERDICT(symbol, action, label, sentence) label,
#include "bpf/decap_verdicts.def"
#undef WEIR_DECAP_VERDICT
});

static_assert(kVerdictLabels.size() == WEIR_VERDICT_COUNT);
static_assert(kReturnLabels.size() == WEIR_RETURN_VERDICT_COUNT);
static_assert(kDecapLabels.size() == WEIR_DECAP_VERDICT_COUNT);

std::span<const std::string_view> labels_of(BpfProgram program) {
  switch (program) {
    case BpfProgram::kBalancer:
      return kVerdictLabels;
    case BpfProgram::kL7Return:
      return kReturnLabels;
    case BpfProgram::kDecapsulator:
    case BpfProgram::kDecapsulatorTc:
      return kDecapLabels;
  }
  return {};
}

std::string_view verdict_map_of(BpfProgram program) {
  switch (program) {
    case BpfProgram::kBalancer:
      return "weir_counters";
    case BpfProgram::kL7Return:
      return "weir_return_counters";
    case BpfProgram::kDecapsulator:
    case BpfProgram::kDecapsulatorTc:
      return "weir_decap_counters";
  }
  return {};
}

constexpr std::array<std::string_view, 2> kServiceNouns{"vip", "backend"};

Result<void> read_services(BpfRunner& runner, std::string_view noun,
                           std::vector<CounterDelta>& values) {
  const std::string map = fmt::format("weir_{}_counters", noun);
  for (std::uint32_t id = 0; id < BpfRunner::kWatchedIds; ++id) {
    auto counter = runner.read<weir_service_counter>(map, id);
    if (!counter) return std::move(counter).error();
    values.push_back({counter->packets, counter->bytes, counter->new_flows});
  }
  return {};
}

std::string name_of(BpfProgram program, std::size_t counter) {
  const auto labels = labels_of(program);
  if (counter < labels.size()) return std::string{labels[counter]};
  const std::size_t service = counter - labels.size();
  return fmt::format("{} {}", kServiceNouns.at(service / BpfRunner::kWatchedIds),
                     service % BpfRunner::kWatchedIds);
}

}  // namespace

Result<std::vector<CounterDelta>> read_counters(BpfRunner& runner, BpfProgram program) {
  std::vector<CounterDelta> values;
  for (std::uint32_t i = 0; i < labels_of(program).size(); ++i) {
    auto counter = runner.read<weir_counter>(verdict_map_of(program), i);
    if (!counter) return std::move(counter).error();
    values.push_back({counter->packets, counter->bytes, 0});
  }
  if (program != BpfProgram::kBalancer) return values;
  for (const std::string_view noun : kServiceNouns) {
    if (auto read = read_services(runner, noun, values); !read) return std::move(read).error();
  }
  return values;
}

CounterValues moved_between(BpfProgram program, std::span<const CounterDelta> before,
                            std::span<const CounterDelta> after) {
  CounterValues moved;
  for (std::size_t i = 0; i < after.size(); ++i) {
    const CounterDelta delta{after[i].packets - before[i].packets, after[i].bytes - before[i].bytes,
                             after[i].new_flows - before[i].new_flows};
    if (delta != CounterDelta{}) moved[name_of(program, i)] = delta;
  }
  return moved;
}

std::string describe(const RunResult& result) {
  static constexpr std::array<std::string_view, 5> kActions{"ABORTED", "DROP", "PASS", "TX",
                                                            "REDIRECT"};
  std::string text = result.action < kActions.size()
                         ? std::string{kActions[result.action]}
                         : fmt::format("unknown action {}", result.action);
  for (const auto& [name, delta] : result.moved)
    text += fmt::format(", {} +{} packets +{} bytes +{} new flows", name, delta.packets,
                        delta.bytes, delta.new_flows);
  return fmt::format("{}, {} bytes\n{}", text, result.output.size(), hexdump(result.output));
}

Result<std::unique_ptr<BpfRunner>> make_compared_runner(BpfProgram program,
                                                        const BpfSettings& settings) {
  auto kernel = make_kernel_runner(program, settings);
  if (!kernel) return kernel;
  auto host = make_host_runner(program, settings);
  if (!host) return host;
  return std::unique_ptr<BpfRunner>{
      std::make_unique<ComparedRunner>(std::move(*kernel), std::move(*host))};
}

}  // namespace weir::testing
