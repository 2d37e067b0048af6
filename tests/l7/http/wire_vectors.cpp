#include "tests/l7/http/wire_vectors.h"

#include <fmt/format.h>

#include <charconv>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <optional>

namespace weir::http::testing {
namespace {

[[noreturn]] void give_up(std::string_view what, std::string_view line) {
  std::cerr << fmt::format("HTTP vectors: {}: {}\n", what, line);
  std::abort();
}

std::size_t number(std::string_view digits, int base) {
  std::size_t value = 0;
  const auto [end, error] =
      std::from_chars(digits.data(), digits.data() + digits.size(), value, base);
  if (error != std::errc{} || end != digits.data() + digits.size()) give_up("no number", digits);
  return value;
}

std::string added_fields(std::string_view version_and_host) {
  const std::size_t space = version_and_host.find(' ');
  if (space == std::string_view::npos) give_up("\\via without host", version_and_host);
  const std::string_view host = version_and_host.substr(space + 1);
  const std::string about_host = host.empty() ? "" : fmt::format("X-Forwarded-Host: {}\r\n", host);
  const std::string parameter = host.empty() ? "" : fmt::format(";host=\"{}\"", host);
  return fmt::format(
      "Via: {} weir\r\nX-Forwarded-For: 10.0.0.100\r\nX-Forwarded-Proto: http\r\n{}"
      "Forwarded: for=10.0.0.100{};proto=http\r\n",
      version_and_host.substr(0, space), about_host, parameter);
}

/// Takes "…<close>" off the front of `text` and gives what stands before `close`.
std::string_view take_until(std::string_view& text, char close) {
  const std::size_t end = text.find(close);
  if (end == std::string_view::npos) give_up(fmt::format("no '{}'", close), text);
  const std::string_view inside = text.substr(0, end);
  text.remove_prefix(end + 1);
  return inside;
}

std::string unescape(std::string_view text) {
  std::string bytes;
  while (!text.empty()) {
    const char c = text.front();
    text.remove_prefix(1);
    if (c != '\\') {
      bytes.push_back(c);
      continue;
    }
    if (text.empty()) give_up("a backslash at the end", bytes);
    const char kind = text.front();
    text.remove_prefix(1);
    constexpr std::string_view kLetters = "rnt0s\\";
    constexpr std::string_view kMeanings{"\r\n\t\0 \\", 6};
    if (const std::size_t at = kLetters.find(kind); at != std::string_view::npos) {
      bytes.push_back(kMeanings[at]);
    } else if (kind == 'x' && text.size() >= 2) {
      bytes.push_back(static_cast<char>(number(text.substr(0, 2), 16)));
      text.remove_prefix(2);
    } else if (kind == '{') {
      const std::size_t times = number(take_until(text, '*'), 10);
      const std::string piece = unescape(take_until(text, '}'));
      for (std::size_t i = 0; i < times; ++i)
        bytes += piece;
    } else if (text.starts_with("ia(") && kind == 'v') {
      text.remove_prefix(3);
      bytes += added_fields(take_until(text, ')'));
    } else {
      give_up("an unknown escape before", text);
    }
  }
  return bytes;
}

struct Entry {
  std::string word;
  std::string value;
};

void take(WireVector& vector, const Entry& entry) {
  const std::string value = unescape(entry.value);
  const struct {
    std::string_view word;
    std::string& member;
  } texts[] = {{"name", vector.name},        {"rfc", vector.rfc},       {"sends", vector.sends},
               {"reads", vector.reads},      {"method", vector.method}, {"answers", vector.answers},
               {"expect", vector.expect},    {"body", vector.body},     {"client", vector.client},
               {"upstream", vector.upstream}};
  for (const auto& text : texts)
    if (entry.word == text.word) {
      text.member = value;
      return;
    }
  if (entry.word == "field")
    vector.fields.push_back(value);
  else if (entry.word == "left")
    vector.left = number(value, 10);
  else if (entry.word == "then" && value == "close")
    vector.closes = true;
  else
    give_up("an unknown word", entry.word);
}

std::string_view trimmed(std::string_view text) {
  const std::size_t begin = text.find_first_not_of(' ');
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(' ') - begin + 1);
}

}  // namespace

std::vector<WireVector> load_vectors(std::string_view file) {
  const std::string path = fmt::format("{}/{}", WEIR_HTTP_VECTORS, file);
  std::ifstream in{path};
  if (!in) give_up("cannot open", path);
  std::vector<WireVector> vectors;
  std::vector<Entry> block;
  const auto end_block = [&] {
    if (block.empty()) return;
    WireVector& vector = vectors.emplace_back();
    for (const Entry& entry : block)
      take(vector, entry);
    if (vector.name.empty() || vector.rfc.empty() || vector.expect.empty())
      give_up("a vector without name, rfc or expect", vector.name);
    block.clear();
  };
  for (std::string line; std::getline(in, line);) {
    if (line.empty()) {
      end_block();
    } else if (line[0] == ' ') {
      if (block.empty()) give_up("nothing to go on with", line);
      block.back().value += trimmed(line);
    } else if (line[0] != '#') {
      const std::size_t space = std::min(line.find(' '), line.size());
      block.push_back({line.substr(0, space), std::string{trimmed(line.substr(space))}});
    }
  }
  end_block();
  return vectors;
}

std::ostream& operator<<(std::ostream& out, const WireVector& vector) {
  return out << vector.name << " (RFC " << vector.rfc << ")";
}

}  // namespace weir::http::testing
