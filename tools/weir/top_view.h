#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tools/weir/top_subject.h"

/// What `weir top` shows and how keys change that; no terminal in it.
namespace weir::cli {

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
///       list ───── Enter ──► what is behind a row ── Escape, Backspace ──► list
///        │ /                        │ /
///        ▼                          ▼
///   typing a filter ── Enter: keep it ── Escape: without one ──► where it began
class TopView {
 public:
  /// `open` is the label of the row that it begins with; empty: the list. The subject outlives it.
  explicit TopView(const TopSubject& subject, std::string open = {})
      : subject_{subject}, open_{std::move(open)} {}

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

  [[nodiscard]] const std::string& open() const { return open_; }  ///< empty: the list
  [[nodiscard]] bool is_paused() const { return is_paused_; }
  [[nodiscard]] bool is_over() const { return is_over_; }
  /// The word of a column; on a page without that one, the first number counts.
  void sort_by(std::string_view word) { sort_ = word; }
  void filter_by(std::string filter) { filter_ = std::move(filter); }

  /// Rows that fit below titles and above the help line of a screen so high.
  static std::size_t rows_on(std::size_t height);

 private:
  [[nodiscard]] std::vector<const TopRow*> shown() const;
  void press_in_filter(TopKey key, char character);
  void press_character(char character);
  void leave();
  void forget_rows();
  [[nodiscard]] const TopPage& page() const;
  [[nodiscard]] std::size_t sorted_column() const;
  [[nodiscard]] std::string title(std::size_t count, std::string_view clock) const;
  [[nodiscard]] std::string help() const;

  const TopSubject& subject_;
  TopReading reading_;
  std::string trouble_;
  std::string open_;
  std::string selected_;          // by label and name; empty: the first
  std::string selected_in_list_;  // likewise, while a row of the list is open
  std::string filter_;
  std::size_t first_ = 0;  // row on the screen
  std::string sort_;
  bool is_reversed_ = false;
  bool is_filtering_ = false;
  bool is_paused_ = false;
  bool is_over_ = false;
};

/// Text of at most `width` columns, the rest cut, control characters and what is no character
/// replaced by '?'. Padded to the width; to the left where `is_number`.
std::string fitted(std::string_view text, std::size_t width, bool is_number = false);

}  // namespace weir::cli
