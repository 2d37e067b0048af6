#include "tools/weir/render.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>

#include "l4/control/json_text.h"
#include "tools/weir/numbers.h"

namespace weir::cli {
namespace {

/// Columns on a terminal, not bytes: the bytes that continue a UTF-8 character take no room.
std::size_t width_of(const std::string& text) {
  return static_cast<std::size_t>(std::ranges::count_if(
      text, [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }));
}

/// "packets_per_s" is PACKETS/S.
std::string heading_of(std::string column) {
  constexpr std::string_view kPerSecond = "_per_s";
  if (column.ends_with(kPerSecond)) {
    column.resize(column.size() - kPerSecond.size());
    column += "/s";
  }
  for (char& c : column) {
    if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
    if (c == '_') c = ' ';
  }
  return column;
}

std::string cell_text(const Json& value) {
  if (value.is_null()) return "-";
  if (value.is_string()) {
    const std::string text = value.get<std::string>();
    return text.empty() ? "-" : text;
  }
  if (value.is_boolean()) return value.get<bool>() ? "yes" : "no";
  if (value.is_number_float()) return fmt::format("{:.2f}", value.get<double>());
  if (!value.is_array()) return control::json_text(value);
  std::string text;
  for (const Json& item : value)
    text += (text.empty() ? "" : ", ") + cell_text(item);
  return text.empty() ? "-" : text;
}

/// The cell of a column as people read it.
std::string cell_in(const Section& section, const std::string& column, const Json& value) {
  const auto form = section.forms.find(column);
  if (form == section.forms.end() || !value.is_number()) return cell_text(value);
  switch (form->second) {
    case CellForm::kPlain:
      break;
    case CellForm::kBytes:
      return bytes_text(value.get<std::uint64_t>());
    case CellForm::kDuration:
      return duration_text(value.get<std::uint64_t>());
    case CellForm::kTime:
      return time_text(value.get<std::int64_t>());
    case CellForm::kRate:
      return short_number(value.get<double>());
  }
  return cell_text(value);
}

bool is_hidden(const Section& section, const std::vector<Json>& row) {
  if (section.hide_zero_in.empty()) return false;
  const auto column = std::ranges::find(section.columns, section.hide_zero_in);
  return column != section.columns.end() &&
         row[static_cast<std::size_t>(column - section.columns.begin())] == 0;
}

std::string padded(const std::string& text, std::size_t width, bool right) {
  const std::string blanks(width - std::min(width, width_of(text)), ' ');
  return right ? blanks + text : text + blanks;
}

std::string record_text(const Section& section) {
  std::size_t width = 0;
  for (const std::string& column : section.columns)
    width = std::max(width, width_of(column));
  std::string text;
  for (std::size_t i = 0; i < section.columns.size(); ++i) {
    text += fmt::format("{}  {}\n", padded(section.columns[i], width, false),
                        cell_in(section, section.columns[i], section.rows.front()[i]));
  }
  return text;
}

bool has_visible_rows(const Section& section) {
  return !std::ranges::all_of(section.rows,
                              [&](const auto& row) { return is_hidden(section, row); });
}

std::string table_text(const Section& section) {
  std::vector<std::vector<std::string>> lines;
  lines.emplace_back();
  for (const std::string& column : section.columns)
    lines[0].push_back(heading_of(column));
  for (const std::vector<Json>& row : section.rows) {
    if (is_hidden(section, row)) continue;
    lines.emplace_back();
    for (std::size_t i = 0; i < row.size(); ++i)
      lines.back().push_back(cell_in(section, section.columns[i], row[i]));
  }
  if (lines.size() == 1) return fmt::format("no {}\n", section.name);
  std::vector<std::size_t> widths(section.columns.size(), 0);
  for (const auto& line : lines) {
    for (std::size_t i = 0; i < line.size(); ++i)
      widths[i] = std::max(widths[i], width_of(line[i]));
  }
  std::string text;
  for (const auto& line : lines) {
    std::string row;
    for (std::size_t i = 0; i < line.size(); ++i) {
      // A rate that is not known yet stands below its numbers too.
      const bool number =
          section.rows.front()[i].is_number() || section.forms.contains(section.columns[i]);
      row += (i == 0 ? "" : "  ") + padded(line[i], widths[i], number);
    }
    row.erase(row.find_last_not_of(' ') + 1);
    text += row + "\n";
  }
  return text;
}

std::string as_tables(const Report& report) {
  std::string text;
  for (const Section& section : report.sections) {
    // Among others, a section that has nothing to show says nothing.
    if (report.sections.size() > 1 && !has_visible_rows(section)) continue;
    const std::string part =
        section.is_record && !section.rows.empty() ? record_text(section) : table_text(section);
    // With one section the command's name says what it is.
    if (report.sections.size() > 1)
      text += fmt::format("{}{}:\n", text.empty() ? "" : "\n", section.name);
    text += part;
  }
  for (const std::string& note : report.notes)
    text += note + "\n";
  return text;
}

Json object_of(const Section& section, const std::vector<Json>& row) {
  Json object = Json::object();
  for (std::size_t i = 0; i < section.columns.size(); ++i)
    object[section.columns[i]] = row[i];
  return object;
}

std::string as_json(const Report& report) {
  Json json = Json::object();
  for (const Section& section : report.sections) {
    if (section.is_record && !section.rows.empty()) {
      json[section.name] = object_of(section, section.rows.front());
      continue;
    }
    Json& list = json[section.name] = Json::array();
    for (const std::vector<Json>& row : section.rows)
      list.push_back(object_of(section, row));
  }
  if (!report.notes.empty()) json["notes"] = report.notes;
  return control::json_text(json, 2) + "\n";
}

}  // namespace

std::string render(const Report& report, OutputFormat format) {
  return format == OutputFormat::kJson ? as_json(report) : as_tables(report);
}

}  // namespace weir::cli
