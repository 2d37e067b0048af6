#include "tests/support/golden.h"

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <fstream>
#include <sstream>

namespace weir::testing {
namespace {

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream{text};
  for (std::string line; std::getline(stream, line);)
    lines.push_back(line);
  return lines;
}

/// The lines that differ, between the first and the last of them, as a person reads a diff.
std::string difference(const std::string& expected, const std::string& actual) {
  std::vector<std::string> old_lines = lines_of(expected);
  std::vector<std::string> new_lines = lines_of(actual);
  std::size_t same_head = 0;
  while (same_head < std::min(old_lines.size(), new_lines.size()) &&
         old_lines[same_head] == new_lines[same_head])
    ++same_head;
  std::size_t same_tail = 0;
  while (same_tail < std::min(old_lines.size(), new_lines.size()) - same_head &&
         old_lines[old_lines.size() - 1 - same_tail] == new_lines[new_lines.size() - 1 - same_tail])
    ++same_tail;
  std::ostringstream out;
  out << "from line " << same_head + 1 << " on:\n";
  for (std::size_t i = same_head; i < old_lines.size() - same_tail; ++i)
    out << "- " << old_lines[i] << '\n';
  for (std::size_t i = same_head; i < new_lines.size() - same_tail; ++i)
    out << "+ " << new_lines[i] << '\n';
  return out.str();
}

}  // namespace

std::filesystem::path golden_directory() { return WEIR_GOLDEN_DIRECTORY; }

std::vector<std::filesystem::path> golden_inputs(const std::filesystem::path& directory,
                                                 const std::string& extension) {
  std::vector<std::filesystem::path> paths;
  for (const auto& entry : std::filesystem::directory_iterator{directory}) {
    if (entry.path().extension() == extension) paths.push_back(entry.path());
  }
  std::ranges::sort(paths);
  return paths;
}

std::string file_text(const std::filesystem::path& path) {
  std::ifstream stream{path, std::ios::binary};
  EXPECT_TRUE(stream.good()) << "cannot read " << path;
  std::ostringstream text;
  text << stream.rdbuf();
  return text.str();
}

::testing::AssertionResult matches_golden(const std::filesystem::path& expected_file,
                                          const std::string& actual) {
  const char* update = std::getenv("WEIR_UPDATE_GOLDEN");
  if (update != nullptr && std::string{update} == "1") {
    std::ofstream{expected_file, std::ios::binary} << actual;
    return ::testing::AssertionSuccess();
  }
  if (!std::filesystem::exists(expected_file)) {
    return ::testing::AssertionFailure()
           << expected_file << " does not exist; run with WEIR_UPDATE_GOLDEN=1 to write it";
  }
  const std::string expected = file_text(expected_file);
  if (expected == actual) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure()
         << expected_file.filename() << " differs, " << difference(expected, actual);
}

std::string test_name_of(const std::filesystem::path& path) {
  std::string name;
  bool begins_word = true;
  for (const char c : path.stem().string()) {
    const auto byte = static_cast<unsigned char>(c);
    if (std::isalnum(byte) == 0) {
      begins_word = true;
      continue;
    }
    name += begins_word ? static_cast<char>(std::toupper(byte)) : c;
    begins_word = false;
  }
  return name;
}

}  // namespace weir::testing
