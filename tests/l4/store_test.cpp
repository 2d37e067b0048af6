#include "l4/store.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>

namespace weir::l4 {
namespace {

namespace fs = std::filesystem;

control::Vip vip_of(std::uint8_t last, std::uint32_t weight = 1) {
  control::Vip vip;
  vip.name = "dns";
  vip.address = wire::IpAddress::v4(203, 0, 113, last);
  vip.ports = control::PortRange::only(wire::Port{53});
  vip.protocol = control::Protocol::kUdp;
  vip.backends = {
      {.name = "a", .address = wire::IpAddress::v4(10, 0, 2, 11), .port = {}, .weight = weight}};
  return vip;
}

DesiredState example() {
  DesiredState state;
  state.revision = 1;
  state.file = "/etc/weir/weir.yaml";
  state.text = "version: 1\n# größer\n";
  state.model.node.interfaces = {"eth0"};
  state.model.node.hash_seed = "a secret of enough bytes";
  state.model.node.hash_seed_file = "/etc/weir/seed";
  state.model.vips = {vip_of(80)};
  state.manual_vips = {vip_of(53)};
  state.load = {.devices = {"eth0"}, .mode = control::XdpMode::kNative, .chain = false};
  return state;
}

/// A directory of its own, gone with the test.
class StoreTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = fs::temp_directory_path() / "weir-store-XXXXXX";
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    root_ = pattern;
    directory_ = root_ / "state";
  }
  void TearDown() override { fs::remove_all(root_); }

  [[nodiscard]] Store open(std::size_t revisions_max = kRevisionsDefault) const {
    Result<Store> store = Store::open(directory_, revisions_max);
    if (!store) ADD_FAILURE() << store.error().text();
    return *std::move(store);
  }
  [[nodiscard]] fs::path file(std::uint64_t revision) const {
    return directory_ / "revisions" / fmt::format("{}.log", revision);
  }
  static std::string text_of(const fs::path& path) {
    std::ifstream stream{path, std::ios::binary};
    return {std::istreambuf_iterator<char>{stream}, {}};
  }
  static void write(const fs::path& path, const std::string& text) {
    std::ofstream{path, std::ios::trunc | std::ios::binary} << text;
  }
  static Revision revision(std::uint64_t number) {
    return {number, 1764061200, fmt::format("change {}", number), {"a line", "another"}};
  }
  /// The first revision, as an apply makes it.
  static void put_whole(Store& store, const DesiredState& state) {
    Result<Store::Pending> pending = store.stage(revision(state.revision), state);
    ASSERT_TRUE(pending) << pending.error().text();
    ASSERT_TRUE(pending->commit());
  }
  /// One more, as a command makes it: VIP .53 gets this weight.
  static void put_weight(Store& store, DesiredState& state, std::uint32_t weight) {
    StateChange change{.set = {vip_of(53, weight)}, .removed = {}, .load = {}};
    apply_to(state, change);
    ++state.revision;
    Result<Store::Pending> pending = store.stage(revision(state.revision), state, change);
    ASSERT_TRUE(pending) << pending.error().text();
    ASSERT_TRUE(pending->commit());
  }
  /// What a start finds.
  [[nodiscard]] DesiredState found() const {
    const Result<DesiredState> state = open().read();
    if (!state) ADD_FAILURE() << state.error().text();
    return state ? *state : DesiredState{};
  }

  fs::path root_;
  fs::path directory_;
};

TEST_F(StoreTest, ANewDirectoryHoldsRevisionZero) {
  EXPECT_EQ(found(), DesiredState{});
  EXPECT_TRUE(open().history().empty());
}

TEST_F(StoreTest, WhatWasWrittenIsRead) {
  Store store = open();
  put_whole(store, example());
  EXPECT_EQ(found(), example());
  EXPECT_EQ(*store.read(), example());
  EXPECT_EQ(open().history().back(), revision(1));
}

TEST_F(StoreTest, NobodyElseCanReadTheSeed) {
  Store store = open();
  put_whole(store, example());
  struct stat info {};
  ASSERT_EQ(::stat(file(1).c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777U, 0600U);
  ASSERT_EQ(::stat(directory_.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777U, 0700U);
}

TEST_F(StoreTest, AChangeOfOneVipWritesThatVipOnly) {
  Store store = open();
  DesiredState state = example();
  for (int i = 1; i < 250; ++i)
    state.manual_vips.push_back(vip_of(static_cast<std::uint8_t>(i == 53 ? 251 : i)));
  put_whole(store, state);
  const auto before = fs::file_size(file(1));
  put_weight(store, state, 7);
  EXPECT_LT(fs::file_size(file(1)) - before, 1500U);
  EXPECT_EQ(found(), state);
}

TEST_F(StoreTest, EveryRevisionCanBeReadAgain) {
  Store store = open();
  DesiredState state = example();
  put_whole(store, state);
  for (std::uint32_t weight = 2; weight <= 9; ++weight)
    put_weight(store, state, weight);
  StateChange change{.set = {vip_of(54)}, .removed = {vip_of(53).key()}, .load = LoadSettings{}};
  apply_to(state, change);
  ++state.revision;
  ASSERT_TRUE(store.stage(revision(10), state, change)->commit());
  const Store again = open();
  for (std::uint64_t number = 1; number <= 9; ++number) {
    const Result<DesiredState> past = again.read(number);
    ASSERT_TRUE(past) << past.error().text();
    EXPECT_EQ(past->revision, number);
    EXPECT_EQ(past->manual_vips.front().backends.front().weight, number);
  }
  EXPECT_EQ(*again.read(10), state);
  EXPECT_EQ(again.read(11).error().code(), ErrorCode::kNotFound);
  EXPECT_EQ(again.read(0).error().code(), ErrorCode::kNotFound);
}

TEST_F(StoreTest, WhatIsNotCommittedIsGone) {
  Store store = open();
  DesiredState state = example();
  put_whole(store, state);
  const std::string before = text_of(file(1));
  state.revision = 2;
  {
    const Result<Store::Pending> change = store.stage(revision(2), state, StateChange{});
    ASSERT_TRUE(change);
    EXPECT_EQ(found().revision, 1U) << "a daemon that was killed here";
  }
  EXPECT_EQ(text_of(file(1)), before);
  { const Result<Store::Pending> whole = store.stage(revision(2), state); }
  EXPECT_EQ(found().revision, 1U);
  put_whole(store, state);
  EXPECT_EQ(found().revision, 2U);
}

TEST_F(StoreTest, AWriterThatIsKilledAtAnyByteLeavesTheOldStateOrTheNewOne) {
  Store store = open();
  DesiredState state = example();
  put_whole(store, state);
  const DesiredState old = state;
  const std::string before = text_of(file(1));
  put_weight(store, state, 9);
  const std::string after = text_of(file(1));
  for (std::size_t size = before.size(); size < after.size(); ++size) {
    std::string torn = after.substr(0, size);
    // Until the last step the record does not count.
    if (const std::size_t status = after.find('\n', before.size()) - 1; status < size)
      torn[status] = 'p';
    write(file(1), torn);
    ASSERT_EQ(found(), old) << size;
    ASSERT_EQ(text_of(file(1)), before) << "the torn record is cut off";
  }
  write(file(1), after);
  EXPECT_EQ(found(), state);
}

TEST_F(StoreTest, AWriterOfAWholeStateThatIsKilledAtAnyByteLeavesTheOldOne) {
  Store store = open();
  put_whole(store, example());
  DesiredState next = example();
  next.revision = 2;
  const std::string text = text_of(file(1));
  for (std::size_t size = 0; size <= text.size(); size += 7) {
    write(file(2).string() + ".new", text.substr(0, size));
    ASSERT_EQ(found(), example());
    ASSERT_FALSE(fs::exists(file(2).string() + ".new")) << "it takes room";
  }
  put_whole(store, next);
  EXPECT_EQ(found().revision, 2U);
}

TEST_F(StoreTest, DamageIsAnErrorThatNamesFilePlaceAndRemedy) {
  Store store = open();
  DesiredState state = example();
  put_whole(store, state);
  put_weight(store, state, 2);
  const std::string text = text_of(file(1));
  for (const std::size_t at : {std::size_t{10}, text.find("\"change 1\""), text.find("10.0.2.11"),
                               text.rfind("10.0.2.11")}) {
    std::string damaged = text;
    damaged[at] = '#';
    write(file(1), damaged);
    const Result<Store> opened = Store::open(directory_);
    const Result<DesiredState> read =
        opened ? opened->read() : Result<DesiredState>{opened.error()};
    ASSERT_FALSE(read) << at;
    EXPECT_NE(read.error().text().find(file(1).string()), std::string::npos);
    EXPECT_NE(read.error().text().find("at byte"), std::string::npos) << read.error().text();
    EXPECT_NE(read.error().remedy().find("move the file away"), std::string::npos);
    EXPECT_EQ(text_of(file(1)), damaged) << "left for whoever looks into it";
  }
}

TEST_F(StoreTest, ARecordThatIsNoStateIsAnError) {
  put_whole(*std::make_unique<Store>(open()), example());
  const std::string head =
      R"({"revision": 1, "at": 0, "cause": "x", "changes": [], "body": "state"})";
  for (const char* body : {"", "{", "[]", R"({"format": 99})", R"({"format": 2, "file": 5})"}) {
    write(file(1), new_record(0, head, body, RecordStatus::kCounts).text);
    const Result<DesiredState> read = open().read();
    ASSERT_FALSE(read) << body;
    EXPECT_NE(read.error().text().find("at byte 0"), std::string::npos) << read.error().text();
  }
  for (const char* wrong :
       {"{}", "x", R"({"revision": 2, "at": 0, "cause": "x", "changes": [], "body": "state"})",
        R"({"revision": 1, "at": 0, "cause": "x", "changes": [], "body": "change"})"}) {
    write(file(1), new_record(0, wrong, "{}", RecordStatus::kCounts).text);
    EXPECT_FALSE(Store::open(directory_)) << wrong;
  }
  write(file(1), "");
  EXPECT_FALSE(Store::open(directory_)) << "an empty file";
}

TEST_F(StoreTest, TheNewestRevisionsAreKeptAndTheCurrentOneAlways) {
  Store store = open(3);
  DesiredState state = example();
  put_whole(store, state);
  for (std::uint32_t weight = 2; weight <= 6; ++weight)
    put_weight(store, state, weight);
  ASSERT_EQ(store.history().size(), 3U);
  EXPECT_EQ(store.history().front().number, 4U);
  EXPECT_EQ(store.read(3).error().code(), ErrorCode::kNotFound);
  EXPECT_TRUE(store.read(4));
  ++state.revision;
  put_whole(store, state);  // 7, a file of its own
  EXPECT_TRUE(fs::exists(file(1))) << "5 and 6 are in there";
  put_weight(store, state, 8);
  EXPECT_TRUE(fs::exists(file(1))) << "6 is in there";
  put_weight(store, state, 9);
  EXPECT_FALSE(fs::exists(file(1)));
  EXPECT_EQ(open(3).history().size(), 3U);
  EXPECT_EQ(found(), state);
  EXPECT_EQ(open(1).history().size(), 1U);
}

TEST_F(StoreTest, ChangesThatAreLongerThanTheStateAreFoldedIntoANewFile) {
  Store store = open();
  DesiredState state = example();
  put_whole(store, state);
  for (std::uint32_t weight = 2; weight <= 300; ++weight)
    put_weight(store, state, weight);
  std::uintmax_t bytes = 0;
  std::size_t files = 0;
  for (const auto& entry : fs::directory_iterator{directory_ / "revisions"}) {
    bytes += entry.file_size();
    ++files;
  }
  EXPECT_GE(files, 1U);
  EXPECT_FALSE(fs::exists(file(1))) << "nothing in it is among the newest hundred";
  EXPECT_LT(bytes, 3U * 80 * 1024);
  EXPECT_EQ(found(), state);
  EXPECT_EQ(open().read(250)->manual_vips[0].backends[0].weight, 250U);
}

TEST_F(StoreTest, AGapBetweenFilesIsAnError) {
  Store store = open();
  DesiredState state = example();
  for (state.revision = 1; state.revision <= 3; ++state.revision)
    put_whole(store, state);
  fs::remove(file(2));
  const Result<Store> opened = Store::open(directory_);
  ASSERT_FALSE(opened);
  EXPECT_NE(opened.error().text().find("between 1 and 3"), std::string::npos);
}

TEST_F(StoreTest, TheStateOfVersionsBeforeRevisionsIsTakenOver) {
  fs::create_directories(directory_);
  const std::string old = R"({"format": 1, "revision": 7, "file": "/etc/weir/weir.yaml",
      "model": {"version": 1, "node": {"interfaces": ["eth0"]}, "vips": [
        {"name": "web", "address": "203.0.113.80", "port": 80, "protocol": "TCP",
         "forward": {"mode": "ipip"}, "backends": []}]},
      "manual_vips": [{"vip": "203.0.113.53:53/udp"}],
      "load": {"devices": ["eth0"], "mode": "native", "chain": false}})";
  for (std::size_t size = 0; size < old.size(); size += 17) {
    write(directory_ / "state.json", old.substr(0, size));
    const Result<Store> opened = Store::open(directory_);
    ASSERT_FALSE(opened) << size;
    EXPECT_NE(opened.error().text().find("state.json"), std::string::npos);
    EXPECT_FALSE(opened.error().remedy().empty());
  }
  write(directory_ / "state.json", old);
  const DesiredState state = found();
  EXPECT_EQ(state.revision, 7U);
  EXPECT_EQ(state.model.vips.at(0).name, "web");
  EXPECT_EQ(state.manual_vips.size(), 1U);
  EXPECT_EQ(state.load.devices, std::vector<std::string>{"eth0"});
  EXPECT_FALSE(fs::exists(directory_ / "state.json"));
  EXPECT_EQ(open().history().back().cause, "taken over from state.json");
  // Killed between the two steps: the file is there still, and says nothing any more.
  write(directory_ / "state.json", "{");
  EXPECT_EQ(found(), state);
}

TEST_F(StoreTest, WhatPeopleReadIsCutToALimit) {
  Store store = open();
  Revision long_one = revision(1);
  long_one.cause = std::string(5000, '\x01');
  long_one.changes.assign(5000, std::string(500, 'x') + "ü");
  ASSERT_TRUE(store.stage(long_one, example())->commit());
  const Revision kept = open().history().back();
  EXPECT_EQ(kept, store.history().back());
  EXPECT_LT(kept.cause.size(), 500U);
  ASSERT_EQ(kept.changes.size(), kChangesMax);
  EXPECT_EQ(kept.changes.back(), "… and 4901 more");
}

TEST_F(StoreTest, ADiskThatCannotBeWrittenRefusesAndLaterWorksAgain) {
  if (::geteuid() == 0) GTEST_SKIP() << "skipped, because root may write everywhere";
  Store store = open();
  DesiredState state = example();
  put_whole(store, state);
  fs::permissions(file(1), fs::perms::owner_read);
  ++state.revision;
  const Result<Store::Pending> refused = store.stage(revision(2), state, StateChange{});
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().remedy().find("nothing was changed"), std::string::npos);
  fs::permissions(file(1), fs::perms::owner_read | fs::perms::owner_write);
  ASSERT_TRUE(store.stage(revision(2), state, StateChange{})->commit());
  EXPECT_EQ(found().revision, 2U);
}

TEST_F(StoreTest, ADirectoryThatCannotBeMadeIsAnError) {
  write(root_ / "file", "x");
  EXPECT_FALSE(Store::open(root_ / "file" / "state"));
}

}  // namespace
}  // namespace weir::l4
