#include "tools/weir/top_view.h"

#include <fmt/format.h>

#include <algorithm>
#include <cwchar>
#include <utility>

#include "tools/weir/numbers.h"

namespace weir::cli {
namespace {

constexpr std::size_t kLinesAround = 4;  // title, summary, heading; help
constexpr std::size_t kLabelWidthMin = 24;
constexpr std::size_t kNameWidthMin = 8;
constexpr std::size_t kFilterMax = 64;

std::string value_text(const TopColumn& column, const std::optional<double>& value) {
  switch (column.form) {
    case TopForm::kNumber:
      return rate_text(value);
    case TopForm::kYesNo:
      return !value ? "-" : *value > 0 ? "yes" : "no";
  }
  return {};
}

/// What is not known comes last.
constexpr double kUnknown = -1;

/// Of any column but the first.
std::optional<double> value_of(const TopRow& row, std::size_t column) {
  return column - 1 < row.values.size() ? row.values[column - 1] : std::nullopt;
}

bool is_alarming(const TopRow& row, const TopPage& page) {
  for (std::size_t i = 1; i < page.columns.size(); ++i) {
    const auto value = value_of(row, i);
    const TopAlarm alarm = page.columns[i].alarm;
    if (value && ((alarm == TopAlarm::kAboveZero && *value > 0) ||
                  (alarm == TopAlarm::kZero && *value == 0)))
      return true;
  }
  return false;
}

/// Selected is a row, not a place, and endpoints of two services may have one label.
std::string id_of(const TopRow* row) { return row->label + " " + row->name; }

/// What is shown of a row on a screen so wide: numbers go before the name, and the label stays.
struct Layout {
  std::size_t label = 0;
  std::size_t name = 0;
  std::size_t columns = 1;  ///< with the first
};

Layout layout_for(const TopPage& page, std::size_t width) {
  Layout layout;
  std::size_t left = width;
  while (layout.columns < page.columns.size() &&
         left >= kLabelWidthMin + page.columns[layout.columns].width)
    left -= page.columns[layout.columns++].width;
  if (layout.columns == page.columns.size() && left >= kLabelWidthMin + 1 + kNameWidthMin)
    layout.name = std::max(kNameWidthMin, (left - 1) / 3);
  layout.label = left - (layout.name == 0 ? 0 : layout.name + 1);
  return layout;
}

std::string row_text(const TopRow& row, const TopPage& page, const Layout& layout) {
  std::string text = fitted(row.label, layout.label);
  if (layout.name != 0) text += " " + fitted(row.name, layout.name);
  for (std::size_t i = 1; i < layout.columns; ++i) {
    const TopColumn& column = page.columns[i];
    text += fitted(value_text(column, value_of(row, i)), column.width, true);
  }
  return text;
}

std::string heading_text(const TopPage& page, const Layout& layout, std::size_t sorted) {
  std::string text = fitted(page.columns[0].heading, layout.label);
  if (layout.name != 0) text += " " + fitted(page.name, layout.name);
  for (std::size_t i = 1; i < layout.columns; ++i) {
    const TopColumn& column = page.columns[i];
    text += fitted(fmt::format("{}{}", i == sorted ? "*" : "", column.heading), column.width, true);
  }
  return text;
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

std::string rate_text(const std::optional<double>& rate) {
  return rate ? short_number(*rate) : "-";
}

std::vector<std::string> sort_words(const TopSubject& subject) {
  std::vector<std::string> words;
  for (const TopPage& page : {subject.list, subject.opened})
    for (const TopColumn& column : page.columns)
      if (std::ranges::find(words, column.word) == words.end()) words.emplace_back(column.word);
  return words;
}

const TopPage& TopView::page() const { return open_.empty() ? subject_.list : subject_.opened; }

std::size_t TopView::sorted_column() const {
  const auto columns = page().columns;
  const auto found = std::ranges::find(columns, sort_, &TopColumn::word);
  return found == columns.end() ? 1 : static_cast<std::size_t>(found - columns.begin());
}

void TopView::take(TopReading reading, const std::string& open) {
  // Paused, what was just opened still comes, up to the first rates.
  if (open != open_ || (is_paused_ && reading_.has_rates)) return;
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
  const std::size_t column = sorted_column();
  const auto weight = [&](const TopRow* row) {
    return column == 0 ? 0 : value_of(*row, column).value_or(kUnknown);
  };
  std::ranges::sort(rows, [&](const TopRow* one, const TopRow* other) {
    const double left = weight(one);
    const double right = weight(other);
    if (left != right) return is_reversed_ ? left < right : left > right;
    return is_reversed_ && column == 0 ? id_of(one) > id_of(other) : id_of(one) < id_of(other);
  });
  return rows;
}

void TopView::leave() {
  if (open_.empty()) return;
  open_.clear();
  forget_rows();
  filter_.clear();
  selected_ = std::exchange(selected_in_list_, {});
}

void TopView::forget_rows() {
  reading_.rows.clear();
  reading_.has_rates = false;
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
  const auto columns = page().columns;
  if (const auto found = std::ranges::find(columns, character, &TopColumn::key);
      found != columns.end()) {
    sort_ = found->word;
  } else if (character == 's') {
    sort_ = columns[(sorted_column() + 1) % columns.size()].word;
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
  const auto found = std::ranges::find(rows, selected_, id_of);
  const std::size_t at = found == rows.end() ? 0 : static_cast<std::size_t>(found - rows.begin());
  const auto select = [&](std::size_t index) {
    if (!rows.empty()) selected_ = id_of(rows[std::min(index, rows.size() - 1)]);
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
      selected_in_list_ = id_of(rows[at]);
      open_ = rows[at]->label;
      selected_.clear();
      filter_.clear();
      forget_rows();
      return;
    case TopKey::kEscape:
    case TopKey::kBackspace:
      return leave();
    case TopKey::kCharacter:
      return press_character(character);
  }
}

std::string TopView::title(std::size_t count, std::string_view clock) const {
  std::string text = fmt::format("{}   ", subject_.title);
  text += open_.empty() ? fmt::format("{} {}{}", reading_.rows.size(), subject_.row,
                                      reading_.rows.size() == 1 ? "" : "s")
                        : open_;
  if (!filter_.empty() || is_filtering_)
    text += fmt::format("   {} match '{}{}'", count, filter_, is_filtering_ ? "_" : "");
  if (is_paused_) text += "   paused";
  if (!clock.empty()) text += fmt::format("   {}", clock);
  return text;
}

std::string TopView::help() const {
  if (is_filtering_) return "type a part of an address or name; Enter keeps it, Esc drops it";
  return fmt::format("{}  / filter  s sort ({})  r reverse  p pause  q quit",
                     open_.empty() ? fmt::format("Enter {}", subject_.details) : "Esc back",
                     page().columns[sorted_column()].word);
}

std::vector<TopLine> TopView::lines(std::size_t height, std::size_t width, std::string_view clock) {
  const std::vector<const TopRow*> rows = shown();
  const auto found = std::ranges::find(rows, selected_, id_of);
  const std::size_t selected =
      found == rows.end() ? 0 : static_cast<std::size_t>(found - rows.begin());
  const std::size_t room = rows_on(height);
  // As far as it takes to have the selected row on the screen, and no blank below the last.
  first_ = std::min({first_, selected, rows.size() - std::min(rows.size(), room)});
  if (selected >= first_ + room) first_ = selected + 1 - room;

  const Layout layout = layout_for(page(), width);
  std::vector<TopLine> out;
  const bool has_frame = height > kLinesAround;
  const TopStyle calm = trouble_.empty() ? TopStyle::kPlain : TopStyle::kFaint;
  if (has_frame) {
    out.push_back({fitted(title(rows.size(), clock), width), TopStyle::kTitle});
    out.push_back({fitted(trouble_.empty() ? reading_.summary : trouble_, width),
                   trouble_.empty() ? TopStyle::kPlain : TopStyle::kAlarm});
    out.push_back(
        {fitted(heading_text(page(), layout, sorted_column()), width), TopStyle::kHeading});
  }
  for (std::size_t i = first_; i < first_ + room; ++i) {
    if (i >= rows.size()) {
      out.push_back({fitted("", width)});
      continue;
    }
    out.push_back({fitted(row_text(*rows[i], page(), layout), width),
                   i == selected                   ? TopStyle::kSelected
                   : is_alarming(*rows[i], page()) ? TopStyle::kAlarm
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
