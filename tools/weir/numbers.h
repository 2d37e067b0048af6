#pragma once

#include <cstdint>
#include <string>

/// Numbers as people read them. A program gets the plain ones.
namespace weir::cli {

/// Three digits and a power of a thousand: "0", "7.5", "812", "1.23k", "40.0M". Negative ones and
/// those that are no number are "-".
std::string short_number(double value);

/// With binary units: "512 B", "25.3 MiB".
std::string bytes_text(std::uint64_t bytes);

/// The two largest units: "42 s", "3 min 5 s", "2 h 14 min", "5 d 3 h".
std::string duration_text(std::uint64_t seconds);

/// Local time: "2026-01-05 13:00:00".
std::string time_text(std::int64_t unix_s);

}  // namespace weir::cli
