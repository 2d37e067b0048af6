#include "l4/journal.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <optional>
#include <utility>

#include "l4/base/bytes.h"
#include "l4/base/fd.h"
#include "l4/base/log.h"
#include "l4/base/siphash.h"

namespace weir::l4 {
namespace {

constexpr std::string_view kMagic = "weir1 ";
// The line's fields, each followed by a blank: head bytes, body bytes, three sums; then the status.
constexpr std::size_t kHeadDigits = 8;
constexpr std::size_t kBodyDigits = 12;
constexpr std::size_t kSumDigits = 16;
constexpr std::size_t kSummedBytes =
    kMagic.size() + kHeadDigits + 1 + kBodyDigits + 1 + 2 * (kSumDigits + 1);
constexpr std::size_t kStatusAt = kSummedBytes + kSumDigits + 1;
constexpr std::size_t kLineBytes = kStatusAt + 2;  // with its line feed
constexpr char kPending = 'p';
constexpr char kCounts = 'c';

/// Against accidents, not against people: whoever can write here can write a sum too.
std::uint64_t sum_of(std::string_view text) {
  constexpr SipKey kKey{{0x77656972206a6f75, 0x726e616c2073756d}};
  return siphash(kKey, as_bytes(text));
}

struct Line {
  std::uint64_t head_bytes = 0;
  std::uint64_t body_bytes = 0;
  std::uint64_t head_sum = 0;
  std::uint64_t body_sum = 0;
  bool pending = false;

  /// Of the whole record: head and body each end in a line feed.
  [[nodiscard]] std::uint64_t record_bytes() const {
    return kLineBytes + head_bytes + 1 + body_bytes + 1;
  }
};

std::string line_text(const Line& line) {
  std::string text = fmt::format("{}{:08x} {:012x} {:016x} {:016x} ", kMagic, line.head_bytes,
                                 line.body_bytes, line.head_sum, line.body_sum);
  text += fmt::format("{:016x} {}\n", sum_of(text), line.pending ? kPending : kCounts);
  return text;
}

/// Nothing where it is not a line that line_text() wrote.
std::optional<Line> line_of(std::string_view text) {
  std::size_t at = kMagic.size();
  const auto field = [&](std::size_t digits) {
    std::uint64_t value = 0;
    std::from_chars(text.data() + at, text.data() + at + digits, value, 16);
    at += digits + 1;
    return value;
  };
  if (text.size() != kLineBytes) return std::nullopt;
  Line line;
  line.head_bytes = field(kHeadDigits);
  line.body_bytes = field(kBodyDigits);
  line.head_sum = field(kSumDigits);
  line.body_sum = field(kSumDigits);
  line.pending = text[kStatusAt] == kPending;
  if (line_text(line) != text) return std::nullopt;  // its own sum is in there
  if (line.head_bytes > kHeadBytesMax || line.body_bytes > kBodyBytesMax) return std::nullopt;
  return line;
}

JournalRecord place_of(std::uint64_t offset, const Line& line) {
  return {.offset = offset,
          .body_offset = offset + kLineBytes + line.head_bytes + 1,
          .body_bytes = line.body_bytes,
          .body_sum = line.body_sum,
          .head = {}};
}

/// Exactly so many bytes, or an error: the caller knows that they are there.
Result<std::string> read_at(const UniqueFd& file, const std::string& path, std::uint64_t offset,
                            std::uint64_t bytes) {
  std::string text(bytes, '\0');
  std::size_t done = 0;
  while (done < bytes) {
    const ssize_t size =
        ::pread(file.get(), text.data() + done, bytes - done, static_cast<off_t>(offset + done));
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) return Error::from_errno(fmt::format("reading {} at byte {}", path, offset));
    if (size == 0)
      return Error{ErrorCode::kInvalid, fmt::format("{} became shorter while it was read", path)};
    done += static_cast<std::size_t>(size);
  }
  return text;
}

Error damage(const std::string& path, std::uint64_t offset, std::string_view what) {
  return Error{ErrorCode::kInvalid,
               fmt::format("{} is damaged at byte {}: {}", path, offset, what)};
}

/// Whether a record begins somewhere in the rest of the file.
Result<bool> has_record_after(const UniqueFd& file, const std::string& path, std::uint64_t offset,
                              std::uint64_t size) {
  Result<std::string> rest = read_at(file, path, offset, size - offset);
  if (!rest) return std::move(rest).error();
  return rest->find("\n" + std::string{kMagic}) != std::string::npos;
}

/// Reads one journal from its first byte to its last.
class Reader {
 public:
  Reader(const std::string& path, const UniqueFd& file, std::uint64_t size)
      : path_{path}, file_{file}, size_{size} {}

  Result<JournalContents> read() {
    while (contents_.bytes < size_ && contents_.cut.empty()) {
      if (Result<void> done = step(); !done) return std::move(done).error();
    }
    return std::move(contents_);
  }

 private:
  Result<void> step() {
    const std::uint64_t offset = contents_.bytes;
    const std::uint64_t rest = size_ - offset;
    if (rest < kLineBytes) return cut("a record that was not written to its end");
    Result<std::string> text = read_at(file_, path_, offset, kLineBytes);
    if (!text) return std::move(text).error();
    const std::optional<Line> line = line_of(*text);
    if (!line) return not_a_line(*text);
    if (line->pending) {
      // Nothing is written behind a record that does not count: what it says was never done.
      if (rest <= line->record_bytes()) return cut("a change that was not finished");
      return damage(path_, offset, "another record follows one that does not count");
    }
    if (rest < line->record_bytes()) return damage(path_, offset, "the end of the record is gone");
    Result<std::string> head = read_at(file_, path_, offset + kLineBytes, line->head_bytes);
    if (!head) return std::move(head).error();
    if (sum_of(*head) != line->head_sum)
      return damage(path_, offset + kLineBytes, "the head is not what was written");
    contents_.records.push_back(place_of(offset, *line));
    contents_.records.back().head = *std::move(head);
    contents_.bytes += line->record_bytes();
    return {};
  }

  Result<void> cut(std::string_view what) {
    contents_.cut = what;
    return {};
  }

  /// After a power failure a file may have grown before its new bytes were there: zeros.
  Result<void> not_a_line(const std::string& text) {
    const std::uint64_t offset = contents_.bytes;
    if (text.find('\0') == std::string::npos)
      return damage(path_, offset, "there is no record where one should begin");
    Result<bool> more = has_record_after(file_, path_, offset, size_);
    if (!more) return std::move(more).error();
    if (*more) return damage(path_, offset, "zeros stand where a record should begin");
    return cut("zeros instead of a record");
  }

  const std::string& path_;
  const UniqueFd& file_;
  std::uint64_t size_;
  JournalContents contents_;
};

/// What helps: the change was not made, and will be once the disk takes it.
Error write_error(std::string_view doing, const std::string& path) {
  return Error::from_errno(fmt::format("{} {}", doing, path))
      .with_remedy(
          "nothing was changed; make room on the disk, or make it writable, and try again");
}

Result<void> write_unflushed(const UniqueFd& file, const std::string& path, std::uint64_t offset,
                             std::string_view text) {
  while (!text.empty()) {
    const ssize_t size = ::pwrite(file.get(), text.data(), text.size(), static_cast<off_t>(offset));
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) return write_error("writing", path);
    text.remove_prefix(static_cast<std::size_t>(size));
    offset += static_cast<std::uint64_t>(size);
  }
  return {};
}

Result<void> write_at(const UniqueFd& file, const std::string& path, std::uint64_t offset,
                      std::string_view text) {
  if (Result<void> written = write_unflushed(file, path, offset, text); !written) return written;
  if (::fdatasync(file.get()) != 0) return write_error("flushing", path);
  return {};
}

UniqueFd open_to_write(const std::string& path) {
  // Not kept open between changes: a disk that is to be mounted read-only must not find us there.
  return UniqueFd{::open(path.c_str(), O_WRONLY | O_CLOEXEC)};
}

}  // namespace

NewRecord new_record(std::uint64_t offset, std::string_view head, std::string_view body,
                     RecordStatus status) {
  WEIR_ASSERT(head.size() <= kHeadBytesMax && body.size() <= kBodyBytesMax);  // the store's limits
  const Line line{head.size(), body.size(), sum_of(head), sum_of(body),
                  status == RecordStatus::kPending};
  NewRecord record{line_text(line), place_of(offset, line)};
  record.text.reserve(line.record_bytes());
  record.text.append(head).append("\n").append(body).append("\n");
  return record;
}

Result<JournalContents> read_journal(const std::string& path) {
  const UniqueFd file{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  if (!file) return Error::from_errno(fmt::format("opening {}", path));
  struct stat info {};
  if (::fstat(file.get(), &info) != 0) return Error::from_errno(fmt::format("asking of {}", path));
  return Reader{path, file, static_cast<std::uint64_t>(info.st_size)}.read();
}

Result<std::string> read_body(const std::string& path, const JournalRecord& record) {
  const UniqueFd file{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  if (!file) return Error::from_errno(fmt::format("opening {}", path));
  Result<std::string> body = read_at(file, path, record.body_offset, record.body_bytes);
  if (body && sum_of(*body) != record.body_sum)
    return damage(path, record.body_offset, "the body is not what was written");
  return body;
}

Result<PendingRecord> PendingRecord::append(const std::string& path, std::uint64_t end,
                                            std::string_view head, std::string_view body) {
  if (Result<void> clean = cut_journal(path, end); !clean) return std::move(clean).error();
  const UniqueFd file = open_to_write(path);
  if (!file) return write_error("opening", path);
  const NewRecord record = new_record(end, head, body, RecordStatus::kPending);
  PendingRecord pending{path, record.place,
                        end + record.text.size()};  // removes what a failure leaves
  if (Result<void> written = write_at(file, path, end, record.text); !written)
    return std::move(written).error();
  return pending;
}

Result<void> PendingRecord::commit() {
  const UniqueFd file = open_to_write(path_);
  if (!file) return write_error("opening", path_);
  struct stat info {};
  if (::fstat(file.get(), &info) != 0) return write_error("finding", path_);
  if (static_cast<std::uint64_t>(info.st_size) != end_)
    return damage(path_, record_.offset, "somebody else writes to this file");
  const std::string_view status{&kCounts, 1};
  Result<void> written = write_unflushed(file, path_, record_.offset + kStatusAt, status);
  if (!written) return written;
  // From here on the record counts for whoever reads the file, so that there is no way back.
  if (::fdatasync(file.get()) != 0)
    log_warning("{}; after a power failure the last change may be missing",
                write_error("flushing", path_).message());
  path_.clear();
  return {};
}

PendingRecord::PendingRecord(PendingRecord&& other) noexcept
    : path_{std::exchange(other.path_, {})}, record_{std::move(other.record_)}, end_{other.end_} {}

PendingRecord::~PendingRecord() {
  if (path_.empty()) return;
  if (Result<void> cut = cut_journal(path_, record_.offset); !cut)
    log_warning("{}; it is passed over at the next start", cut.error().message());
}

Result<void> cut_journal(const std::string& path, std::uint64_t bytes) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) return write_error("finding", path);
  if (static_cast<std::uint64_t>(info.st_size) == bytes) return {};
  const UniqueFd file = open_to_write(path);
  if (!file) return write_error("opening", path);
  if (::ftruncate(file.get(), static_cast<off_t>(bytes)) != 0)
    return write_error("taking an unfinished change off", path);
  if (::fsync(file.get()) != 0) return write_error("flushing", path);
  return {};
}

}  // namespace weir::l4
