#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

/// Metrics as Prometheus reads them (text format, version 0.0.4). Pure.
namespace weir::control {

inline constexpr std::string_view kExpositionType = "text/plain; version=0.0.4; charset=utf-8";

enum class MetricType : std::uint8_t { kCounter, kGauge };

struct MetricLabel {
  std::string_view name;   ///< a word of ours: [a-z_]+
  std::string_view value;  ///< anything
};

/// Text that is being written: a family, its samples, the next family. The caller sees to it that
/// no family comes twice and no two samples of one have the same labels.
class Exposition {
 public:
  /// Begins a family. `name` as Prometheus' conventions have it: a counter's ends in _total, the
  /// unit is the word before. `help` is one sentence without a full stop.
  void family(std::string_view name, MetricType type, std::string_view help);

  void sample(std::span<const MetricLabel> labels, std::uint64_t value);
  void sample(std::span<const MetricLabel> labels, double value);
  void sample(std::uint64_t value) { sample({}, value); }
  void sample(double value) { sample({}, value); }

  [[nodiscard]] const std::string& text() const { return text_; }

 private:
  void begin_sample(std::span<const MetricLabel> labels);

  std::string text_;
  std::string name_;  // of the family that samples go to
};

/// A label's value, escaped: backslash, quote and line break. What is no UTF-8, which the format
/// demands, becomes \xNN, of which the backslash is escaped too.
std::string metric_label_text(std::string_view value);

}  // namespace weir::control
