#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

namespace weir::testing {

/// Where the golden files lie in the source tree.
std::filesystem::path golden_directory();

/// The files of a directory with an extension (".yaml"), sorted by name.
std::vector<std::filesystem::path> golden_inputs(const std::filesystem::path& directory,
                                                 const std::string& extension);

/// The content of a file; the test fails when there is none.
std::string file_text(const std::filesystem::path& path);

/// Compares with the file, line by line, and shows the difference. With WEIR_UPDATE_GOLDEN=1 in the
/// environment it writes the file instead: look at the change before committing it.
::testing::AssertionResult matches_golden(const std::filesystem::path& expected_file,
                                          const std::string& actual);

/// A name for ctest out of a file name: "port-zero" becomes "PortZero".
std::string test_name_of(const std::filesystem::path& path);

}  // namespace weir::testing
