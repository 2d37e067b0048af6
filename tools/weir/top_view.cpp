#include "tools/weir/top_view.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cwchar>
#include <utility>

#include "tools/weir/members.h"
#include "tools/weir/numbers.h"
#include "tools/weir/rates.h"

namespace weir::cli {
namespace {

constexpr std::size_t kLinesAround = 4;  // title, summary, heading; help
constexpr std::size_t kNumberWidth = 11;
constexpr std::size_t kLabelWidthMin = 24;
constexpr std::size_t kNameWidthMin = 8;
constexpr std::size_t kFilterMax = 64;

std::optional<double> number_in(const Json& object, const char* name) {
  const Json& value = at(object, name);
  return value.is_number() ? std::optional{value.get<double>()} : std::nullopt;
}

TopRow row_of(const Json& json, const char* label) {
  return {.label = text_at(json, label),
          .name = text_at(json, "name"),
          .packets = number_in(json, "packets_per_s"),
          .bits = number_in(json, "bits_per_s"),
          .new_flows = number_in(json, "new_flows_per_s"),
          .drops = number_in(json, "drops_per_s")};
}

std::string rate_text(const std::optional<double>& rate) {
  return rate ? short_number(*rate) : "-";
}

struct Column {
  TopSort sort;
  std::string_view heading;
  std::optional<double> TopRow::*value;
};
constexpr std::array<Column, 4> kColumns{{{TopSort::kPackets, "PACKETS/S", &TopRow::packets},
                                          {TopSort::kBits, "BITS/S", &TopRow::bits},
                                          {TopSort::kNewFlows, "FLOWS/S", &TopRow::new_flows},
                                          {TopSort::kDrops, "DROPS/S", &TopRow::drops}}};

std::string_view word_for(TopSort sort) {
  switch (sort) {
    case TopSort::kLabel:
      return "address";
    case TopSort::kPackets:
      return "packets";
    case TopSort::kBits:
      return "bits";
    case TopSort::kNewFlows:
      return "new flows";
    case TopSort::kDrops:
      return "drops";
  }
  return "";
}

/// What is shown of a row on a screen so wide: numbers go before the name, and the label stays.
struct Layout {
  std::size_t label = 0;
  std::size_t name = 0;
  std::size_t numbers = 0;
};

Layout layout_for(std::size_t width) {
  Layout layout;
  std::size_t left = width;
  while (layout.numbers < kColumns.size() && left >= kLabelWidthMin + kNumberWidth) {
    left -= kNumberWidth;
    ++layout.numbers;
  }
  if (layout.numbers == kColumns.size() && left >= kLabelWidthMin + 1 + kNameWidthMin)
    layout.name = std::max(kNameWidthMin, (left - 1) / 3);
  layout.label = left - (layout.name == 0 ? 0 : layout.name + 1);
  return layout;
}

std::string row_text(const TopRow& row, const Layout& layout) {
  std::string text = fitted(row.label, layout.label);
  if (layout.name != 0) text += " " + fitted(row.name, layout.name);
  for (std::size_t i = 0; i < layout.numbers; ++i)
    text += fitted(rate_text(row.*kColumns[i].value), kNumberWidth, true);
  return text;
}

std::string heading_text(const Layout& layout, TopSort sort, bool is_vip_list) {
  std::string text = fitted(is_vip_list ? "VIP" : "BACKEND", layout.label);
  if (layout.name != 0) text += " " + fitted("NAME", layout.name);
  for (std::size_t i = 0; i < layout.numbers; ++i) {
    const Column& column = kColumns[i];
    text += fitted(fmt::format("{}{}", column.sort == sort ? "*" : "", column.heading),
                   kNumberWidth, true);
  }
  return text;
}

/// What a row is sorted by; what is not known comes last.
double sort_value(const TopRow& row, TopSort sort) {
  const auto* column = std::ranges::find(kColumns, sort, &Column::sort);
  return column == kColumns.end() ? 0 : (row.*column->value).value_or(-1);
}

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

bool has(std::string_view text, std::string_view wanted) {
  return !std::ranges::search(text, wanted, {}, lower, lower).empty();
}

}  // namespace

std::string fitted(std::string_view text, std::size_t width, bool is_number) {
  std::string out;
  std::size_t used = 0;
  std::mbstate_t state{};
  while (!text.empty()) {
    wchar_t character = 0;
    std::size_t length = std::mbrtowc(&character, text.data(), text.size(), &state);
    const bool is_character = length != 0 && length <= text.size();
    int columns = is_character ? ::wcwidth(character) : -1;
    std::string_view piece = text.substr(0, is_character ? length : 1);
    if (!is_character) state = {};
    text.remove_prefix(piece.size());
    if (columns < 0) {
      piece = "?";
      columns = 1;
    }
    if (used + static_cast<std::size_t>(columns) > width) break;
    used += static_cast<std::size_t>(columns);
    out += piece;
  }
  const std::string blanks(width - used, ' ');
  return is_number ? blanks + out : out + blanks;
}

TopReading top_reading(const Json& before, const Json& after, const std::string& open) {
  const Json json = with_rates(before, after);
  TopReading reading;
  const Json& total = at(json, "total");
  reading.packets = number_in(total, "packets_per_s");
  reading.bits = number_in(total, "bits_per_s");
  for (const Json& verdict : at(json, "verdicts")) {
    const auto rate = number_in(verdict, "packets_per_s");
    if (!rate) continue;
    reading.drops = reading.drops.value_or(0) + (text_at(verdict, "action") == "drop" ? *rate : 0);
  }
  for (const Json& vip : at(json, "vips")) {
    if (open.empty()) {
      reading.rows.push_back(row_of(vip, "vip"));
    } else if (text_at(vip, "vip") == open) {
      for (const Json& backend : at(vip, "backends"))
        reading.rows.push_back(row_of(backend, "address"));
    }
  }
  return reading;
}

void TopView::take(TopReading reading, const std::string& open) {
  // Paused, what was just opened still comes, up to the first rates.
  if (open != open_ || (is_paused_ && reading_.packets)) return;
  reading_ = std::move(reading);
  trouble_.clear();
}

std::size_t TopView::rows_on(std::size_t height) {
  return height > kLinesAround ? height - kLinesAround : height;
}

std::vector<const TopRow*> TopView::shown() const {
  std::vector<const TopRow*> rows;
  for (const TopRow& row : reading_.rows) {
    if (filter_.empty() || has(row.label, filter_) || has(row.name, filter_)) rows.push_back(&row);
  }
  std::ranges::sort(rows, [&](const TopRow* one, const TopRow* other) {
    const double left = sort_value(*one, sort_);
    const double right = sort_value(*other, sort_);
    if (left != right) return is_reversed_ ? left < right : left > right;
    return is_reversed_ && sort_ == TopSort::kLabel ? one->label > other->label
                                                    : one->label < other->label;
  });
  return rows;
}

void TopView::leave_vip() {
  if (open_.empty()) return;
  open_.clear();
  reading_ = {};
  filter_.clear();
  selected_ = std::exchange(selected_vip_, {});
}

void TopView::press_in_filter(TopKey key, char character) {
  if (key == TopKey::kEnter) {
    is_filtering_ = false;
  } else if (key == TopKey::kEscape) {
    is_filtering_ = false;
    filter_.clear();
  } else if (key == TopKey::kBackspace) {
    if (!filter_.empty()) filter_.pop_back();
  } else if (key == TopKey::kCharacter && filter_.size() < kFilterMax) {
    filter_ += character;
  }
}

void TopView::press_character(char character) {
  constexpr std::string_view kSortKeys = "akbfd";  // in the order of TopSort
  const std::size_t sort = kSortKeys.find(character);
  if (sort != std::string_view::npos) {
    sort_ = static_cast<TopSort>(sort);
  } else if (character == 's') {
    sort_ = static_cast<TopSort>((static_cast<std::size_t>(sort_) + 1) % kSortKeys.size());
  } else if (character == 'r') {
    is_reversed_ = !is_reversed_;
  } else if (character == 'p' || character == ' ') {
    is_paused_ = !is_paused_;
  } else if (character == '/') {
    is_filtering_ = true;
    filter_.clear();
  } else if (character == 'q') {
    is_over_ = true;
  }
}

void TopView::press(TopKey key, char character, std::size_t page) {
  if (is_filtering_) return press_in_filter(key, character);
  const std::vector<const TopRow*> rows = shown();
  const auto found = std::ranges::find(rows, selected_, &TopRow::label);
  const std::size_t at = found == rows.end() ? 0 : static_cast<std::size_t>(found - rows.begin());
  const auto select = [&](std::size_t index) {
    if (!rows.empty()) selected_ = rows[std::min(index, rows.size() - 1)]->label;
  };
  switch (key) {
    case TopKey::kUp:
      return select(at == 0 ? 0 : at - 1);
    case TopKey::kDown:
      return select(at + 1);
    case TopKey::kPageUp:
      return select(at - std::min(at, page));
    case TopKey::kPageDown:
      return select(at + page);
    case TopKey::kHome:
      return select(0);
    case TopKey::kEnd:
      return select(rows.size());
    case TopKey::kEnter:
      if (!open_.empty() || rows.empty()) return;
      selected_vip_ = open_ = rows[at]->label;
      selected_.clear();
      filter_.clear();
      reading_ = {};
      return;
    case TopKey::kEscape:
    case TopKey::kBackspace:
      return leave_vip();
    case TopKey::kCharacter:
      return press_character(character);
  }
}

std::string TopView::title(std::size_t count, std::string_view clock) const {
  std::string text = open_.empty() ? fmt::format("weir top   {} VIP{}", reading_.rows.size(),
                                                 reading_.rows.size() == 1 ? "" : "s")
                                   : fmt::format("weir top   {}", open_);
  if (!filter_.empty() || is_filtering_)
    text += fmt::format("   {} match '{}{}'", count, filter_, is_filtering_ ? "_" : "");
  if (is_paused_) text += "   paused";
  if (!clock.empty()) text += fmt::format("   {}", clock);
  return text;
}

std::string TopView::summary() const {
  if (!trouble_.empty()) return trouble_;
  return fmt::format("received {} packets/s, {} bits/s; dropped {} packets/s",
                     rate_text(reading_.packets), rate_text(reading_.bits),
                     rate_text(reading_.drops));
}

std::string TopView::help() const {
  if (is_filtering_) return "type a part of an address or name; Enter keeps it, Esc drops it";
  return fmt::format("{}  / filter  s sort ({})  r reverse  p pause  q quit",
                     open_.empty() ? "Enter backends" : "Esc back", word_for(sort_));
}

std::vector<TopLine> TopView::lines(std::size_t height, std::size_t width, std::string_view clock) {
  const std::vector<const TopRow*> rows = shown();
  const auto found = std::ranges::find(rows, selected_, &TopRow::label);
  const std::size_t selected =
      found == rows.end() ? 0 : static_cast<std::size_t>(found - rows.begin());
  const std::size_t room = rows_on(height);
  // As far as it takes to have the selected row on the screen, and no blank below the last.
  first_ = std::min({first_, selected, rows.size() - std::min(rows.size(), room)});
  if (selected >= first_ + room) first_ = selected + 1 - room;

  const Layout layout = layout_for(width);
  std::vector<TopLine> out;
  const bool has_frame = height > kLinesAround;
  const TopStyle calm = trouble_.empty() ? TopStyle::kPlain : TopStyle::kFaint;
  if (has_frame) {
    out.push_back({fitted(title(rows.size(), clock), width), TopStyle::kTitle});
    out.push_back(
        {fitted(summary(), width), trouble_.empty() ? TopStyle::kPlain : TopStyle::kAlarm});
    out.push_back({fitted(heading_text(layout, sort_, open_.empty()), width), TopStyle::kHeading});
  }
  for (std::size_t i = first_; i < first_ + room; ++i) {
    if (i >= rows.size()) {
      out.push_back({fitted("", width)});
      continue;
    }
    const bool has_drops = rows[i]->drops.value_or(0) > 0;
    out.push_back({fitted(row_text(*rows[i], layout), width), i == selected ? TopStyle::kSelected
                                                              : has_drops   ? TopStyle::kAlarm
                                                                            : calm});
  }
  if (has_frame) out.push_back({fitted(help(), width), TopStyle::kFaint});
  out.resize(height);
  return out;
}

std::string TopView::text(std::size_t width) {
  const std::size_t height = std::max<std::size_t>(shown().size(), 1) + kLinesAround;
  std::vector<TopLine> all = lines(height, width, {});
  all.pop_back();  // help
  std::string out;
  for (const TopLine& line : all) {
    const std::string& text = line.text;
    out += text.substr(0, text.find_last_not_of(' ') + 1) + "\n";
  }
  return out;
}

}  // namespace weir::cli
