#include "l7/port/start_checks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>

namespace weir::port {
namespace {

using ::testing::HasSubstr;

/// A folder that looks like /sys/kernel/mm/hugepages, removed with the object.
class HugePageFolder {
 public:
  HugePageFolder() {
    std::string pattern = std::filesystem::temp_directory_path() / "weir-hugepages-XXXXXX";
    path_ = ::mkdtemp(pattern.data());
  }
  ~HugePageFolder() { std::filesystem::remove_all(path_); }
  HugePageFolder(const HugePageFolder&) = delete;
  HugePageFolder& operator=(const HugePageFolder&) = delete;

  void add(std::string_view size, unsigned free) {
    const auto folder = path_ / fmt::format("hugepages-{}", size);
    std::filesystem::create_directory(folder);
    std::ofstream{folder / "free_hugepages"} << free << '\n';
  }
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

constexpr std::uint64_t kMegabyte = 1024 * 1024;

TEST(HugePages, OfAllSizesCountTogether) {
  HugePageFolder folder;
  folder.add("2048kB", 10);
  EXPECT_TRUE(check_huge_pages(20 * kMegabyte, folder.path()));
  EXPECT_FALSE(check_huge_pages(21 * kMegabyte, folder.path()));
  folder.add("1048576kB", 1);
  EXPECT_TRUE(check_huge_pages(1000 * kMegabyte, folder.path()));
}

TEST(HugePages, TooFewAreReportedWithTheNumberThatIsMissing) {
  HugePageFolder folder;
  folder.add("2048kB", 10);
  const auto result = check_huge_pages(39 * kMegabyte, folder.path());
  ASSERT_FALSE(result);
  EXPECT_THAT(result.error().text(), HasSubstr("20 MB of huge pages are free, 39 MB are needed"));
  EXPECT_THAT(result.error().text(), HasSubstr("at least 10 more than now"));
}

TEST(HugePages, AKernelWithoutThemIsReportedAsHavingNone) {
  const auto result = check_huge_pages(kMegabyte, "/nonexistent");
  ASSERT_FALSE(result);
  EXPECT_THAT(result.error().text(), HasSubstr("0 MB of huge pages are free"));
}

TEST(FindDevice, ReadsTheLoopbackDevice) {
  const Result<Device> device = find_device("lo");
  ASSERT_TRUE(device) << device.error().text();
  EXPECT_EQ(device->index, 1);
  EXPECT_EQ(device->xdp_program_id, 0U);
}

TEST(FindDevice, RefusesImpossibleAndUnknownNames) {
  EXPECT_EQ(find_device("").error().code(), ErrorCode::kInvalid);
  EXPECT_EQ(find_device("sixteen-letters!").error().code(), ErrorCode::kInvalid);
  EXPECT_EQ(find_device("nosuchdevice").error().code(), ErrorCode::kNotFound);
}

}  // namespace
}  // namespace weir::port
