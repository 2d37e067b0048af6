#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "tools/weir/commands.h"
#include "tools/weir/top_subject.h"

namespace weir::cli {

struct TopOptions {
  enum class Of : std::uint8_t { kL4, kL7 };
  Of of = Of::kL4;
  std::chrono::milliseconds interval{1000};
  std::string sort;  ///< one of sort_words(); empty: the first number
  std::string filter;
  std::string open;  ///< what is behind this row of the list; empty: the list
  bool is_once = false;
};

const TopSubject& subject_of(TopOptions::Of of);

/// Full screen until the person quits or a signal ends it; the terminal is as before then. With
/// is_once, one frame as text.
Outcome top(const Daemons& daemons, const TopOptions& options);

}  // namespace weir::cli
