#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tools/weir/render.h"

/// What `weir top` shows and how keys change that; no terminal in it.
namespace weir::cli {

/// A VIP, or a backend of the one that is open. Rates are per second; nothing is known before the
/// second reading, and drops are not known of VIPs of mode l7 and of backends.
struct TopRow {
  std::string label;  ///< tells rows apart: "203.0.113.80:80/tcp"
  std::string name;
  std::optional<double> packets;
  std::optional<double> bits;
  std::optional<double> new_flows;
  std::optional<double> drops;
};

/// All of it, of the node or of one VIP.
struct TopReading {
  std::vector<TopRow> rows = {};
  std::optional<double> packets = {};  ///< that the balancer received
  std::optional<double> bits = {};
  std::optional<double> drops = {};  ///< with a verdict that drops
};

/// Of two answers of GET /v1/stats, the first of which may be null. With `open`, the rows are the
/// backends of that VIP.
TopReading top_reading(const Json& before, const Json& after, const std::string& open);

enum class TopSort : std::uint8_t { kLabel, kPackets, kBits, kNewFlows, kDrops };

enum class TopKey : std::uint8_t {
  kUp,
  kDown,
  kPageUp,
  kPageDown,
  kHome,
  kEnd,
  kEnter,
  kEscape,
  kBackspace,
  kCharacter,
};

enum class TopStyle : std::uint8_t { kPlain, kTitle, kHeading, kSelected, kAlarm, kFaint };

/// A line of the screen, not longer than that is wide.
struct TopLine {
  std::string text;
  TopStyle style = TopStyle::kPlain;
};

/// What is on the screen between two keys or readings.
///
///   list of VIPs ── Enter ──► backends of one ── Escape, Backspace ──► list
///        │ /                        │ /
///        ▼                          ▼
///   typing a filter ── Enter: keep it ── Escape: without one ──► where it began
class TopView {
 public:
  /// `open` is the VIP that it begins with; empty: the list.
  explicit TopView(std::string open = {}) : open_{std::move(open)} {}

  /// The next reading. One of something else than open() is of before, and passed over; so are
  /// those that come while the view is paused.
  void take(TopReading reading, const std::string& open);
  /// Why there is no next reading: it stands beside the last one until there is. Empty: none.
  void set_trouble(std::string trouble) { trouble_ = std::move(trouble); }

  /// What a key does; `character` of kCharacter. `page` is how many rows a page has.
  void press(TopKey key, char character, std::size_t page);

  /// The screen, exactly `height` lines. Of the rows, those are shown that keep the selected one in
  /// sight.
  [[nodiscard]] std::vector<TopLine> lines(std::size_t height, std::size_t width,
                                           std::string_view clock);
  /// All rows without the help line, for a reader that is no terminal.
  [[nodiscard]] std::string text(std::size_t width);

  [[nodiscard]] const std::string& open() const { return open_; }  ///< empty: the list of VIPs
  [[nodiscard]] bool is_paused() const { return is_paused_; }
  [[nodiscard]] bool is_over() const { return is_over_; }
  void sort_by(TopSort sort) { sort_ = sort; }
  void filter_by(std::string filter) { filter_ = std::move(filter); }

  /// Rows that fit below titles and above the help line of a screen so high.
  static std::size_t rows_on(std::size_t height);

 private:
  [[nodiscard]] std::vector<const TopRow*> shown() const;
  void press_in_filter(TopKey key, char character);
  void press_character(char character);
  void leave_vip();
  [[nodiscard]] std::string title(std::size_t count, std::string_view clock) const;
  [[nodiscard]] std::string summary() const;
  [[nodiscard]] std::string help() const;

  TopReading reading_;
  std::string trouble_;
  std::string open_;
  std::string selected_;      // a row's label; empty: the first
  std::string selected_vip_;  // what was selected in the list while a VIP is open
  std::string filter_;
  std::size_t first_ = 0;  // row on the screen
  TopSort sort_ = TopSort::kPackets;
  bool is_reversed_ = false;
  bool is_filtering_ = false;
  bool is_paused_ = false;
  bool is_over_ = false;
};

/// Text of at most `width` columns, the rest cut, control characters and what is no character
/// replaced by '?'. Padded to the width; to the left where `is_number`.
std::string fitted(std::string_view text, std::size_t width, bool is_number = false);

}  // namespace weir::cli
