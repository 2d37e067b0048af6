#include "l4/control/config_watch.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace weir::control {
namespace {

namespace fs = std::filesystem;
using std::chrono::milliseconds;

/// Events are there when the call that caused them has returned, so that nothing has to wait.
class ConfigWatchTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = fs::temp_directory_path() / "weir-watch-XXXXXX";
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    directory_ = pattern;
    write(file(), "one");
  }
  void TearDown() override { fs::remove_all(directory_); }

  [[nodiscard]] fs::path file() const { return directory_ / "weir.yaml"; }
  static void write(const fs::path& path, const std::string& text) { std::ofstream{path} << text; }
  [[nodiscard]] ConfigWatch open() const {
    Result<ConfigWatch> watch = ConfigWatch::open(file());
    if (!watch) ADD_FAILURE() << watch.error().text();
    return *std::move(watch);
  }
  /// Whether a change shows once things have settled.
  bool sees(ConfigWatch& watch) {
    clock_.advance(std::chrono::seconds{10});
    watch.on_readable(clock_.now());
    const bool early = watch.take_change(clock_.now());
    clock_.advance(milliseconds{200});
    return !early && watch.take_change(clock_.now());
  }

  fs::path directory_;
  ManualClock clock_;
};

TEST_F(ConfigWatchTest, NothingHappensUnlessTheFileIsReplaced) {
  ConfigWatch watch = open();
  EXPECT_FALSE(sees(watch));
  EXPECT_EQ(watch.deadline(), kNever);
  write(directory_ / "other.yaml", "x");
  fs::remove(file());
  EXPECT_FALSE(sees(watch)) << "what is gone cannot be applied";
}

TEST_F(ConfigWatchTest, AFileThatIsWrittenAndClosedIsAChange) {
  ConfigWatch watch = open();
  write(file(), "two");
  EXPECT_TRUE(sees(watch));
  EXPECT_FALSE(sees(watch)) << "once";
}

TEST_F(ConfigWatchTest, AHalfWrittenFileIsNotLookedAt) {
  ConfigWatch watch = open();
  const int descriptor = ::open(file().c_str(), O_WRONLY | O_TRUNC | O_CLOEXEC);
  ASSERT_GE(descriptor, 0);
  ASSERT_EQ(::write(descriptor, "ver", 3), 3);
  EXPECT_FALSE(sees(watch));
  ASSERT_EQ(::close(descriptor), 0);
  EXPECT_TRUE(sees(watch));
  fs::remove(file());
  const int fresh = ::open(file().c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  EXPECT_FALSE(sees(watch)) << "a new one, still empty";
  ASSERT_EQ(::close(fresh), 0);
  EXPECT_TRUE(sees(watch));
}

TEST_F(ConfigWatchTest, AFileThatIsRenamedIntoPlaceIsAChangeAgainAndAgain) {
  ConfigWatch watch = open();
  for (int i = 0; i < 3; ++i) {
    write(directory_ / ".weir.yaml.swp", "next");
    EXPECT_FALSE(sees(watch));
    fs::rename(directory_ / ".weir.yaml.swp", file());
    EXPECT_TRUE(sees(watch)) << i;
  }
}

TEST_F(ConfigWatchTest, AMountedConfigMapThatIsSwappedIsAChangeAgainAndAgain) {
  // weir.yaml → ..data/weir.yaml, ..data → ..1; an update renames a new link over ..data.
  fs::remove(file());
  fs::create_directory(directory_ / "..1");
  write(directory_ / "..1" / "weir.yaml", "one");
  fs::create_symlink("..1", directory_ / "..data");
  fs::create_symlink("..data/weir.yaml", file());
  ConfigWatch watch = open();
  for (int i = 2; i < 5; ++i) {
    const std::string name = fmt::format("..{}", i);
    fs::create_directory(directory_ / name);
    write(directory_ / name / "weir.yaml", "next");
    EXPECT_FALSE(sees(watch)) << "not linked yet";
    fs::create_symlink(name, directory_ / "..data_tmp");
    EXPECT_FALSE(sees(watch));
    fs::rename(directory_ / "..data_tmp", directory_ / "..data");
    EXPECT_TRUE(sees(watch)) << i;
    fs::remove_all(directory_ / fmt::format("..{}", i - 1));
    EXPECT_FALSE(sees(watch));
  }
}

TEST_F(ConfigWatchTest, AFileBehindALinkIsFollowedToWhereItLies) {
  fs::create_directory(directory_ / "real");
  write(directory_ / "real" / "weir.yaml", "one");
  fs::remove(file());
  fs::create_symlink(directory_ / "real" / "weir.yaml", file());
  ConfigWatch watch = open();
  write(directory_ / "real" / "weir.yaml", "two");
  EXPECT_TRUE(sees(watch));
  fs::remove(file());
  fs::create_symlink("elsewhere", file());
  EXPECT_TRUE(sees(watch)) << "another link, whatever it leads to";
}

TEST_F(ConfigWatchTest, ADirectoryFurtherUpMayBeExchanged) {
  for (const char* tree : {"now", "next"}) {
    fs::create_directories(directory_ / tree / "conf");
    write(directory_ / tree / "conf" / "weir.yaml", tree);
  }
  Result<ConfigWatch> watch = ConfigWatch::open(directory_ / "now" / "conf" / "weir.yaml");
  ASSERT_TRUE(watch);
  fs::rename(directory_ / "now", directory_ / "before");
  EXPECT_TRUE(sees(*watch)) << "that nothing is there";
  fs::rename(directory_ / "next", directory_ / "now");
  EXPECT_TRUE(sees(*watch));
  write(directory_ / "now" / "conf" / "weir.yaml", "again");
  EXPECT_TRUE(sees(*watch));
  write(directory_ / "before" / "conf" / "weir.yaml", "whose?");
  EXPECT_FALSE(sees(*watch));
}

TEST_F(ConfigWatchTest, WritesThatFollowEachOtherAreOneChangeButNotForever) {
  ConfigWatch watch = open();
  const Instant began = clock_.now();
  int changes = 0;
  for (int i = 0; i < 30; ++i) {
    write(file(), "again");
    watch.on_readable(clock_.now());
    clock_.advance(milliseconds{100});
    if (watch.take_change(clock_.now())) ++changes;
  }
  EXPECT_EQ(changes, 1) << "after two seconds of it";
  EXPECT_LE(watch.deadline(), began + std::chrono::seconds{4});
}

TEST_F(ConfigWatchTest, ADirectoryThatIsNotThereIsAnError) {
  EXPECT_FALSE(ConfigWatch::open(directory_ / "none" / "weir.yaml"));
}

}  // namespace
}  // namespace weir::control
