#pragma once

#include <compare>
#include <cstddef>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "l4/base/result.h"
#include "l4/control/model.h"

/// The configuration file: YAML text to Model, or to what a person must change in it.
namespace weir::control {

inline constexpr std::size_t kConfigBytesMax = 16 * 1024 * 1024;
inline constexpr std::size_t kDiagnosticsMax = 20;

/// One thing wrong with the file. Line and column count from 1; 0 when the whole file is meant.
struct Diagnostic {
  std::string file;
  std::size_t line = 0;
  std::size_t column = 0;
  std::string message;      ///< what is wrong, with the value and the object it stands in
  std::string expectation;  ///< what was expected; may be empty
  std::string hint;         ///< what to do; may be empty

  /// One line: "weir.yaml:12:5: unknown key 'adress' in vip 'dns'; expected one of …; did you …".
  [[nodiscard]] std::string text() const;
  friend auto operator<=>(const Diagnostic&, const Diagnostic&) = default;
};

/// One line each.
std::vector<std::string> texts_of(const std::vector<Diagnostic>& diagnostics);

struct Position {
  std::size_t line = 0;
  std::size_t column = 0;
  friend auto operator<=>(const Position&, const Position&) = default;
};

/// Where in the file the values stand that later checks may have something to say about. Of a
/// value that stands there twice, the first place.
struct SourceMap {
  std::string file;
  std::map<std::string, Position> interfaces;
  std::map<wire::IpAddress, Position> addresses;  ///< of VIPs, gateways and node.l7
  std::map<std::string, Position> files;          ///< certificates and the like, by absolute path
};

/// The model holds only if there are no diagnostics.
struct ParseOutcome {
  Model model;
  SourceMap source;
  std::vector<Diagnostic> diagnostics;  ///< in file order, at most kDiagnosticsMax
  std::size_t left_out = 0;             ///< further diagnostics beyond that
  std::vector<Diagnostic> warnings;     ///< what is taken in another way than it is written

  [[nodiscard]] bool ok() const { return diagnostics.empty(); }
};

/// Checks everything that can be checked without knowing the host (that is host_facts.h). `file`
/// names the text in diagnostics; relative paths in the text start at its directory. Reads the
/// files that the text names: the hash seed and lists of sources whole, certificates only to see
/// that they can be read.
ParseOutcome parse_config(std::string_view text, const std::string& file,
                          std::size_t bytes_max = kConfigBytesMax);

/// The file's text, at most kConfigBytesMax of it. "-" reads standard input.
Result<std::string> read_config_file(const std::string& path);

}  // namespace weir::control
