#include "tests/l7/http/h2_vectors.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <fstream>
#include <iostream>

#include "tests/support/h2_frames.h"

namespace weir::http::testing {
namespace {

[[noreturn]] void give_up(std::string_view what, std::string_view line) {
  std::cerr << fmt::format("HTTP/2 vectors: {}: {}\n", what, line);
  std::abort();
}

std::string_view trimmed(std::string_view text) {
  const std::size_t begin = text.find_first_not_of(' ');
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(' ') - begin + 1);
}

/// The escapes that results need.
std::string unescape(std::string_view text) {
  const std::string line = fmt::format("bytes | {}", text);
  return weir::testing::h2_bytes(line);
}

std::uint32_t number(std::string_view text) {
  std::uint32_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) give_up("no number", text);
  return value;
}

void take(H2Vector& vector, std::string_view word, std::string_view value) {
  if (word == "name") {
    vector.name = value;
  } else if (word == "rfc") {
    vector.rfc = value;
  } else if (word == "opening" && value == "none") {
    vector.opening = false;
  } else if (word == "asks") {
    vector.asks = value;
  } else if (word == "sends") {
    vector.frames.emplace_back(value);
  } else if (word == "expect") {
    vector.expect = value;
  } else if (word == "field") {
    vector.fields.push_back(unescape(value));
  } else if (word == "body") {
    vector.body = unescape(value);
  } else if (word == "trailer") {
    vector.trailers.push_back(unescape(value));
  } else if (word == "window") {
    vector.window = number(value);
  } else if (word == "replies") {
    vector.replies = number(value);
  } else if (word == "writes") {
    vector.writes = number(value);
  } else if (word == "leaves") {
    vector.leaves = number(value);
  } else if (word == "answers") {
    vector.answers.emplace_back(value);
  } else if (word == "opens" && (value == "yes" || value == "no")) {
    vector.opens = value;
  } else {
    give_up("an unknown word", word);
  }
}

}  // namespace

std::string H2Vector::bytes(bool from_client) const {
  std::string all;
  if (opening && from_client) all += weir::testing::h2_bytes("preface");
  if (opening) all += weir::testing::h2_bytes("settings");
  for (const std::string& frame : frames)
    all += weir::testing::h2_bytes(frame);
  return all;
}

std::vector<H2Vector> load_h2_vectors(std::string_view file) {
  const std::string path = fmt::format("{}/{}", WEIR_H2_VECTORS, file);
  std::ifstream in{path};
  if (!in) give_up("cannot open", path);
  std::vector<H2Vector> vectors;
  std::string word;
  bool within = false;
  for (std::string line; std::getline(in, line);) {
    if (line.empty()) {
      within = false;
    } else if (line[0] != '#') {
      if (!within) vectors.emplace_back();
      within = true;
      const std::size_t space = std::min(line.find(' '), line.size());
      if (space > 0) word = line.substr(0, space);
      if (space == 0 && word != "sends") give_up("nothing to go on with", line);
      take(vectors.back(), word, trimmed(std::string_view{line}.substr(space)));
    }
  }
  for (const H2Vector& vector : vectors)
    if (vector.name.empty() || vector.rfc.empty() || vector.expect.empty())
      give_up("a vector without name, rfc or expect", vector.name);
  return vectors;
}

std::ostream& operator<<(std::ostream& out, const H2Vector& vector) {
  return out << vector.name << " (RFC " << vector.rfc << ")";
}

}  // namespace weir::http::testing
