#include "l4/store.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace weir::l4 {
namespace {

namespace fs = std::filesystem;

/// A directory of its own, gone with the test.
class StoreTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = fs::temp_directory_path() / "weir-store-XXXXXX";
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    directory_ = pattern + "/state";
  }
  void TearDown() override { fs::remove_all(fs::path{directory_}.parent_path()); }

  Store open() {
    Result<Store> store = Store::open(directory_);
    EXPECT_TRUE(store) << (store ? "" : store.error().text());
    return *std::move(store);
  }

  std::string directory_;
};

DesiredState example() {
  DesiredState state;
  state.revision = 7;
  state.file = "/etc/weir/weir.yaml";
  state.model.node.interfaces = {"eth0"};
  state.model.node.hash_seed = "a secret of enough bytes";
  control::Vip vip;
  vip.name = "dns";
  vip.address = wire::IpAddress::v4(203, 0, 113, 53);
  vip.ports = control::PortRange::only(wire::Port{53});
  vip.protocol = control::Protocol::kUdp;
  vip.backends = {{.name = "a", .address = wire::IpAddress::v4(10, 0, 2, 11), .port = {}}};
  state.manual_vips = {vip};
  state.load = {.devices = {"eth0"}, .mode = control::XdpMode::kNative, .chain = false};
  return state;
}

TEST_F(StoreTest, ANewDirectoryHoldsRevisionZero) {
  const Result<DesiredState> state = open().read();
  ASSERT_TRUE(state) << state.error().text();
  EXPECT_EQ(*state, DesiredState{});
}

TEST_F(StoreTest, WhatWasWrittenIsRead) {
  ASSERT_TRUE(open().stage(example())->commit());
  const Result<DesiredState> state = open().read();
  ASSERT_TRUE(state) << state.error().text();
  EXPECT_EQ(*state, example());
}

TEST_F(StoreTest, NobodyElseCanReadTheSeed) {
  ASSERT_TRUE(open().stage(example())->commit());
  struct stat info {};
  ASSERT_EQ(::stat((directory_ + "/state.json").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777U, 0600U);
}

TEST_F(StoreTest, AWriteThatWasCutOffAnywhereLeavesTheOldState) {
  const Store store = open();
  ASSERT_TRUE(store.stage(example())->commit());
  DesiredState next = example();
  next.revision = 8;
  const std::string text = to_json(next);
  for (std::size_t size = 0; size <= text.size(); size += 37) {
    // A killed writer leaves its temporary file, finished or not, and has not renamed it.
    std::ofstream{directory_ + "/state.json.new", std::ios::trunc} << text.substr(0, size);
    const Result<DesiredState> state = open().read();
    ASSERT_TRUE(state) << state.error().text();
    ASSERT_EQ(state->revision, 7U);
  }
  ASSERT_TRUE(store.stage(next)->commit());
  EXPECT_EQ(store.read()->revision, 8U);
}

TEST_F(StoreTest, AStateThatCannotBeUnderstoodIsAnErrorThatNamesTheFile) {
  const Store store = open();
  for (const char* text :
       {"", "{", "[]", R"({"format": 99})", R"({"format": 1, "revision": "x"})"}) {
    std::ofstream{directory_ + "/state.json", std::ios::trunc} << text;
    const Result<DesiredState> state = store.read();
    ASSERT_FALSE(state) << text;
    EXPECT_NE(state.error().text().find(directory_ + "/state.json"), std::string::npos);
    EXPECT_FALSE(state.error().remedy().empty());
  }
}

TEST_F(StoreTest, ADirectoryThatCannotBeMadeIsAnError) {
  std::ofstream{fs::path{directory_}.parent_path() / "file"} << "x";
  const Result<Store> store = Store::open(fs::path{directory_}.parent_path() / "file" / "state");
  EXPECT_FALSE(store);
}

}  // namespace
}  // namespace weir::l4
