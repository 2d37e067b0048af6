#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>

#include "bench/stack_lab/load.h"

namespace weir::bench {

/// The options that both programs have, as they are written on the command line.
struct LoadWords {
  std::string role;
  std::string peer;
  double seconds = 3.0;
  std::uint32_t warm_up_ms = 200;
  bool json = false;
  int core = -1;
  LoadOptions options;  ///< numbers are written here at once, the rest by finish()
};

void add_load_words(CLI::App& app, LoadWords& words);

/// Checks what CLI11 cannot, and completes `words.options`; `local` is the program's own matter.
[[nodiscard]] Result<void> finish_load_words(LoadWords& words);

/// Pins the calling thread, and what it starts later, to one core; -1 leaves it as it is.
[[nodiscard]] Result<void> pin_to_core(int core);

/// The report of a client: JSON for programs, one line for people.
void print_report(const LoadWords& words, const nlohmann::ordered_json& report);

}  // namespace weir::bench
