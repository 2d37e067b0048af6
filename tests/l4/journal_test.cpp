#include "l4/journal.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>

namespace weir::l4 {
namespace {

namespace fs = std::filesystem;

std::string record_text(std::string_view head, std::string_view body,
                        RecordStatus status = RecordStatus::kCounts) {
  return new_record(0, head, body, status).text;
}

class JournalTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = fs::temp_directory_path() / "weir-journal-XXXXXX";
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    directory_ = pattern;
    path_ = directory_ / "1.log";
  }
  void TearDown() override { fs::remove_all(directory_); }

  void write(const std::string& text) const {
    std::ofstream{path_, std::ios::trunc | std::ios::binary} << text;
  }
  [[nodiscard]] std::string text() const {
    std::ifstream file{path_, std::ios::binary};
    return {std::istreambuf_iterator<char>{file}, {}};
  }
  [[nodiscard]] JournalContents contents() const {
    Result<JournalContents> read = read_journal(path_);
    EXPECT_TRUE(read) << (read ? "" : read.error().text());
    return read ? *std::move(read) : JournalContents{};
  }

  fs::path directory_;
  fs::path path_;
};

TEST_F(JournalTest, ARecordIsFoundWithItsBody) {
  write(record_text("head", "a body\nof two lines"));
  const JournalContents read = contents();
  ASSERT_EQ(read.records.size(), 1U);
  EXPECT_EQ(read.records[0].head, "head");
  EXPECT_EQ(*read_body(path_, read.records[0]), "a body\nof two lines");
  EXPECT_EQ(read.bytes, fs::file_size(path_));
  EXPECT_EQ(read.cut, "");
}

TEST_F(JournalTest, ARecordCountsOnceItIsCommittedAndIsGoneOtherwise) {
  const std::string first = record_text("1", "one");
  write(first);
  {
    Result<PendingRecord> pending = PendingRecord::append(path_, first.size(), "2", "two");
    ASSERT_TRUE(pending) << pending.error().text();
    EXPECT_EQ(contents().records.size(), 1U);
    EXPECT_EQ(contents().cut, "a change that was not finished");
  }
  EXPECT_EQ(text(), first) << "what was not committed is taken off";
  Result<PendingRecord> pending = PendingRecord::append(path_, first.size(), "2", "two");
  ASSERT_TRUE(pending->commit());
  EXPECT_EQ(text(), first + record_text("2", "two"));
  const JournalContents read = contents();
  ASSERT_EQ(read.records.size(), 2U);
  EXPECT_EQ(read.records[1].offset, pending->record().offset);
  EXPECT_EQ(*read_body(path_, pending->record()), "two");
  EXPECT_EQ(read.bytes, pending->end());
}

TEST_F(JournalTest, WhateverAKilledWriterLeavesBehindIsPassedOver) {
  const std::string first = record_text("1", "one");
  const std::string second = record_text("2", "the second record", RecordStatus::kPending);
  for (std::size_t size = 1; size <= second.size(); ++size) {
    write(first + second.substr(0, size));
    const JournalContents read = contents();
    ASSERT_EQ(read.records.size(), 1U) << size;
    ASSERT_EQ(read.bytes, first.size()) << size;
    ASSERT_NE(read.cut, "") << size;
    // A file may have grown before its bytes arrived.
    write(first + second.substr(0, size) + std::string(second.size() - size, '\0'));
    ASSERT_EQ(contents().records.size(), 1U) << size;
    // The next one is written in its place.
    Result<PendingRecord> next = PendingRecord::append(path_, read.bytes, "2", "x");
    ASSERT_TRUE(next && next->commit()) << size;
    ASSERT_EQ(contents().records.size(), 2U) << size;
    ASSERT_EQ(contents().cut, "") << size;
  }
}

TEST_F(JournalTest, AnyByteThatChangedInWhatCountsIsFoundAndItsPlaceNamed) {
  const std::string whole = record_text("1", "one") + record_text("2", "two");
  for (std::size_t at = 0; at < whole.size(); ++at) {
    std::string damaged = whole;
    damaged[at] = damaged[at] == 'x' ? 'y' : 'x';
    write(damaged);
    const Result<JournalContents> read = read_journal(path_);
    bool found = !read;
    if (read) {
      for (const JournalRecord& record : read->records)
        found = found || !read_body(path_, record);
    }
    // The line feeds that end a head and a body say nothing.
    if (whole[at] == '\n' && at != whole.find('\n')) continue;
    ASSERT_TRUE(found) << at << ": " << damaged;
    if (!read) {
      EXPECT_NE(read.error().text().find("damaged at byte"), std::string::npos);
      EXPECT_NE(read.error().text().find(path_.string()), std::string::npos);
    }
  }
}

TEST_F(JournalTest, WhatCountedAndLostItsEndIsDamage) {
  const std::string whole = record_text("1", "one");
  for (std::size_t size = record_text("", "").size(); size < whole.size(); ++size) {
    write(whole.substr(0, size));
    ASSERT_FALSE(read_journal(path_)) << size;
  }
}

TEST_F(JournalTest, ZerosAmidRecordsAreDamage) {
  const std::string record = record_text("1", "one");
  write(record + std::string(record.size(), '\0') + "\n" + record);
  EXPECT_FALSE(read_journal(path_));
  write(record + record_text("2", "two", RecordStatus::kPending) + record);
  EXPECT_FALSE(read_journal(path_)) << "nothing follows what does not count";
}

TEST_F(JournalTest, AFileThatIsNotThereIsAnError) {
  EXPECT_EQ(read_journal(path_).error().code(), ErrorCode::kNotFound);
  EXPECT_FALSE(PendingRecord::append(path_, 0, "1", "one"));
}

}  // namespace
}  // namespace weir::l4
