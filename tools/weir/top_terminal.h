#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "l4/base/result.h"
#include "tools/weir/top_view.h"

namespace weir::cli {

/// The whole screen, by ncurses, from open() until it is destroyed, which brings back what was on
/// it. There is one at a time.
class Terminal {
 public:
  /// Refuses what is no terminal, or one that ncurses does not know.
  static Result<Terminal> open();

  Terminal(Terminal&&) noexcept = default;
  Terminal& operator=(Terminal&&) = delete;

  /// Lines and columns, at least one each.
  [[nodiscard]] std::pair<std::size_t, std::size_t> size() const;
  void draw(const std::vector<TopLine>& lines);

  struct Press {
    TopKey key = TopKey::kCharacter;
    char character = 0;
  };
  /// The next key that was pressed; nothing where none is waiting. A change of the terminal's size
  /// is taken in here too.
  std::optional<Press> key();

 private:
  struct Screen;
  struct EndScreen {
    void operator()(Screen* screen) const;
  };
  explicit Terminal(std::unique_ptr<Screen, EndScreen> screen) : screen_{std::move(screen)} {}

  std::unique_ptr<Screen, EndScreen> screen_;
};

}  // namespace weir::cli
