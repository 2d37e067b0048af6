#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

/// What a command has found, as rows; people get tables, programs JSON, both from the same rows.
namespace weir::cli {

enum class OutputFormat : std::uint8_t { kTable, kJson };

// Members in the order of the columns.
using Json = nlohmann::ordered_json;

/// How people read a column's numbers; JSON has them plain.
enum class CellForm : std::uint8_t { kPlain, kBytes, kDuration, kTime, kRate };

/// Rows of values under named columns. Column names are JSON members; people see them in capitals.
struct Section {
  std::string name;
  std::vector<std::string> columns;
  std::vector<std::vector<Json>> rows;
  /// One row of facts about one thing: written downwards; in JSON an object instead of a list.
  bool is_record = false;
  /// The table leaves out rows whose value in this column is 0; JSON has them all.
  std::string hide_zero_in = {};
  std::map<std::string, CellForm> forms = {};  ///< by column; kPlain where there is none
};

struct Report {
  std::vector<Section> sections;
  std::vector<std::string> notes;  ///< sentences for people; JSON has them under "notes"
  int exit_status = 0;             ///< of the command, where it says more than "done"
};

/// Ends with a line break; empty when there is nothing to say.
std::string render(const Report& report, OutputFormat format);

}  // namespace weir::cli
