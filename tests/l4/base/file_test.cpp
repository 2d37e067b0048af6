#include "l4/base/file.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>

namespace weir {
namespace {

namespace fs = std::filesystem;

class WriteFileDurably : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = fs::temp_directory_path() / "weir-file-XXXXXX";
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    directory_ = pattern;
    path_ = directory_ / "state";
  }
  void TearDown() override { fs::remove_all(directory_); }

  [[nodiscard]] std::string text() const {
    std::ifstream file{path_};
    return {std::istreambuf_iterator<char>{file}, {}};
  }
  [[nodiscard]] mode_t mode() const {
    struct stat info {};
    EXPECT_EQ(::stat(path_.c_str(), &info), 0);
    return info.st_mode & 07777U;
  }
  [[nodiscard]] std::ptrdiff_t files() const {
    return std::distance(fs::directory_iterator{directory_}, fs::directory_iterator{});
  }

  fs::path directory_;
  fs::path path_;
};

/// No file grows beyond `bytes` while this lives, as if the disk were full.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) {
    ::getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit limit{.rlim_cur = bytes, .rlim_max = before_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() {
    ::setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, handler_);
  }
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;

 private:
  rlimit before_{};
  void (*handler_)(int) = std::signal(SIGXFSZ, SIG_IGN);
};

TEST_F(WriteFileDurably, ReplacesTheTextAndLeavesNothingBeside) {
  ASSERT_TRUE(write_file_durably(path_, "the first text", 0600));
  ASSERT_TRUE(write_file_durably(path_, "the second", 0600));
  EXPECT_EQ(text(), "the second");
  EXPECT_EQ(files(), 1);
}

TEST_F(WriteFileDurably, TheModeIsExactWhateverACrashHasLeft) {
  std::ofstream{path_.string() + ".new"} << "half of a text that was to become";
  fs::permissions(path_.string() + ".new", fs::perms{0666});
  ASSERT_TRUE(write_file_durably(path_, "secret", 0600));
  EXPECT_EQ(text(), "secret");
  EXPECT_EQ(mode(), 0600U);
  ASSERT_TRUE(write_file_durably(path_, "public", 0664));
  EXPECT_EQ(mode(), 0664U) << "the umask has no say";
}

TEST_F(WriteFileDurably, WithoutRoomTheOldTextStandsAndTheHalfIsGone) {
  ASSERT_TRUE(write_file_durably(path_, "old", 0600));
  const FileSizeLimit limit{5000};
  // The first write is cut short, the second refused.
  const Result<void> written = write_file_durably(path_, std::string(20'000, 'x'), 0600);
  ASSERT_FALSE(written);
  EXPECT_NE(written.error().text().find("writing " + path_.string()), std::string::npos)
      << written.error().text();
  EXPECT_EQ(text(), "old");
  EXPECT_EQ(files(), 1);
}

TEST_F(WriteFileDurably, AMissingDirectoryIsNamed) {
  const std::string path = directory_ / "missing" / "state";
  const Result<void> written = write_file_durably(path, "text", 0600);
  ASSERT_FALSE(written);
  EXPECT_EQ(written.error().code(), ErrorCode::kNotFound);
  EXPECT_NE(written.error().text().find(path), std::string::npos) << written.error().text();
}

TEST_F(WriteFileDurably, WhatCannotBeRenamedIsTakenAway) {
  fs::create_directory(path_);
  const Result<void> written = write_file_durably(path_, "text", 0600);
  ASSERT_FALSE(written);
  EXPECT_NE(written.error().text().find("renaming"), std::string::npos) << written.error().text();
  EXPECT_EQ(files(), 1) << "only the directory that was in the way";
}

}  // namespace
}  // namespace weir
