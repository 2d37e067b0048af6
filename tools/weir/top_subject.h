#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tools/weir/render.h"

/// What a `weir top` is about: a list, what is behind each of its rows, and where both come from.
/// TopView shows any of them.
namespace weir::cli {

struct TopRow {
  std::string label;  ///< with the name, tells rows apart: "203.0.113.80:80/tcp"
  std::string name;
  /// Of the page's columns behind the first, in their order; nothing: not known.
  std::vector<std::optional<double>> values;
};

/// All of it at one moment, of the list or of what is behind one row.
struct TopReading {
  std::vector<TopRow> rows = {};
  std::string summary = {};
  bool has_rates = false;  ///< there was one before it
};

enum class TopForm : std::uint8_t { kNumber, kYesNo };
/// Which values are worth a colour.
enum class TopAlarm : std::uint8_t { kNever, kAboveZero, kZero };

struct TopColumn {
  char key = 0;           ///< sorts by it, in lower case
  std::string_view word;  ///< likewise, for --sort
  std::string_view heading;
  std::size_t width = 0;  ///< a blank, a '*' and the heading at least; of the first: what is left
  TopAlarm alarm = TopAlarm::kNever;
  TopForm form = TopForm::kNumber;
};

struct TopPage {
  std::span<const TopColumn> columns;  ///< the first is that of labels
  std::string_view name;               ///< the heading of names
};

struct TopSubject {
  std::string_view title;
  std::string_view row;      ///< one of the list: "VIP"
  std::string_view details;  ///< what Enter opens: "backends"
  TopPage list;
  TopPage opened;
  std::string_view list_path;    ///< whose answers are readings
  std::string_view opened_path;  ///< likewise, with the label of the row that is open behind it
  /// Of two answers, the first of which may be null; `open` is that label, empty: the list.
  TopReading (*reading)(const Json& before, const Json& after, const std::string& open);
};

/// VIPs of weir-l4 and their backends, by GET /v1/stats.
const TopSubject& top_of_l4();
/// Rules of weir-l7 and the endpoints of their services, by GET /v1/routes.
const TopSubject& top_of_l7();

/// All that --sort can name.
std::vector<std::string> sort_words(const TopSubject& subject);

/// In three digits; '-' where it is not known.
std::string rate_text(const std::optional<double>& rate);

}  // namespace weir::cli
