#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "l4/base/result.h"

/// Files that records are appended to, so that whoever reads one after a crash at any byte of any
/// write finds every record that was acknowledged, and nothing of one that was not.
///
/// A record is a line of fixed length, a head and a body, all of them text:
///
///     weir1 <head bytes> <body bytes> <sum of head> <sum of body> <sum of this line> <p or c>
///     <head>
///     <body>
///
/// It is written whole and flushed as pending (p); one byte, overwritten in place and flushed,
/// makes it count (c). So whoever writes one knows that the disk has room for it before he does
/// what it says, and it is nowhere to be found if he cannot. Numbers are hexadecimal, sums are
/// SipHash.
namespace weir::l4 {

/// Where a record lies in its file, and with read_journal() its head. The body is read when it is
/// asked for.
struct JournalRecord {
  std::uint64_t offset = 0;
  std::uint64_t body_offset = 0;
  std::uint64_t body_bytes = 0;
  std::uint64_t body_sum = 0;
  std::string head;
};

inline constexpr std::uint64_t kHeadBytesMax = 1 << 20;
inline constexpr std::uint64_t kBodyBytesMax = 512 << 20;

enum class RecordStatus : std::uint8_t { kPending, kCounts };

/// A record to be written, as it lies in its file from `place.offset` on. `place` has no head.
struct NewRecord {
  std::string text;
  JournalRecord place;
};
/// The caller sees to it that head and body are no larger than kHeadBytesMax and kBodyBytesMax.
NewRecord new_record(std::uint64_t offset, std::string_view head, std::string_view body,
                     RecordStatus status);

/// What a file holds.
struct JournalContents {
  std::vector<JournalRecord> records;  ///< those that count
  std::uint64_t bytes = 0;             ///< to the end of the last of them
  std::string cut;                     ///< what follows them, in words; empty: nothing does
};

/// Reads lines and heads. What a killed writer left at the end is not an error, it is told in
/// `cut`; everything else that a writer cannot have left is damage: an Error that names the file
/// and the place.
Result<JournalContents> read_journal(const std::string& path);

/// The body of a record, checked against its sum.
Result<std::string> read_body(const std::string& path, const JournalRecord& record);

/// A record that is on the disk and does not count yet: it does with commit(), and is taken off
/// again otherwise, which takes no room. One at a time per file.
class PendingRecord {
 public:
  /// At `end`, the end of what counts in the file; what may stand behind it is overwritten.
  static Result<PendingRecord> append(const std::string& path, std::uint64_t end,
                                      std::string_view head, std::string_view body);
  Result<void> commit();
  [[nodiscard]] const JournalRecord& record() const { return record_; }
  [[nodiscard]] std::uint64_t end() const { return end_; }

  PendingRecord(PendingRecord&& other) noexcept;
  PendingRecord& operator=(PendingRecord&&) = delete;
  ~PendingRecord();

 private:
  PendingRecord(std::string path, JournalRecord record, std::uint64_t end)
      : path_{std::move(path)}, record_{std::move(record)}, end_{end} {}
  std::string path_;  ///< empty: nothing is pending
  JournalRecord record_;
  std::uint64_t end_;
};

/// Takes off what does not count. Fails where the disk cannot be written; readers do without.
Result<void> cut_journal(const std::string& path, std::uint64_t bytes);

}  // namespace weir::l4
