#include "l4/store.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "l4/base/fd.h"
#include "l4/base/log.h"
#include "l4/control/json_text.h"

namespace weir::l4 {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr std::string_view kSuffix = ".log";
constexpr mode_t kMode = S_IRUSR | S_IWUSR;
/// Below this it costs nothing to go on in the same file.
constexpr std::uint64_t kChangesBytesMin = 64 << 10;
/// Of all files: a hundred revisions of a large configuration may be more than anybody wants kept.
constexpr std::uint64_t kBytesMax = std::uint64_t{1} << 30;
constexpr std::size_t kLineMax = 400;  // of a cause, of a change in words
constexpr std::uint64_t kOldStateBytesMax = 64 << 20;

std::string cut_to(std::string text, std::size_t bytes) {
  if (text.size() <= bytes) return text;
  while (bytes > 0 && (static_cast<unsigned char>(text[bytes]) & 0xc0U) == 0x80U)
    --bytes;  // not amid a character
  return text.substr(0, bytes) + "…";
}

/// As much as is kept of it, so that what is read is what is remembered.
Revision shortened(Revision revision) {
  revision.cause = cut_to(std::move(revision.cause), kLineMax);
  if (const std::size_t count = revision.changes.size(); count > kChangesMax) {
    revision.changes.resize(kChangesMax - 1);
    revision.changes.push_back(fmt::format("… and {} more", count - kChangesMax + 1));
  }
  for (std::string& line : revision.changes)
    line = cut_to(std::move(line), kLineMax);
  return revision;
}

enum class Body : std::uint8_t { kWhole, kChange };

std::string head_json(const Revision& revision, Body body) {
  const json head{{"revision", revision.number},
                  {"at", revision.at_unix_s},
                  {"cause", revision.cause},
                  {"changes", revision.changes},
                  {"body", body == Body::kWhole ? "state" : "change"}};
  std::string text = control::json_text(head);
  WEIR_ASSERT(text.size() <= kHeadBytesMax);  // kChangesMax lines of kLineMax, escaped
  return text;
}

struct Head {
  Revision revision;
  Body body = Body::kWhole;
};

Result<Head> head_of(const std::string& text) {
  try {
    const json head = json::parse(text);
    const auto body = head.at("body").get<std::string>();
    return Head{
        {head.at("revision").get<std::uint64_t>(), head.at("at").get<std::int64_t>(),
         head.at("cause").get<std::string>(), head.at("changes").get<std::vector<std::string>>()},
        body == "state" ? Body::kWhole : Body::kChange};
  } catch (const json::exception& error) {
    return Error{ErrorCode::kInvalid, error.what()};
  }
}

Error with_restore_remedy(Error error) {
  if (!error.remedy().empty()) return error;
  return std::move(error).with_remedy(
      "restore the state directory from a backup, or move the file away: then the revisions in it "
      "are gone");
}

Error in_record(Error error, const std::string& path, const JournalRecord& record) {
  return with_restore_remedy(std::move(error).while_doing(
      fmt::format("understanding {} at byte {}", path, record.offset)));
}

/// The number in "17.log".
std::optional<std::uint64_t> revision_in(const std::string& name) {
  if (!name.ends_with(kSuffix)) return std::nullopt;
  const char* end = name.data() + name.size() - kSuffix.size();
  std::uint64_t number = 0;
  const auto [at, error] = std::from_chars(name.data(), end, number);
  if (error != std::errc{} || at != end) return std::nullopt;
  return number;
}

Result<void> make_private(const std::string& directory) {
  std::error_code error;
  fs::create_directories(directory, error);
  if (error)
    return Error::from_errno(fmt::format("creating the state directory {}", directory),
                             error.value());
  struct stat info {};
  if (::stat(directory.c_str(), &info) != 0)
    return Error::from_errno(fmt::format("asking of {}", directory));
  if ((info.st_mode & 07777U) == S_IRWXU) return {};
  if (::chmod(directory.c_str(), S_IRWXU) != 0)
    return Error::from_errno(fmt::format("closing the state directory {} to others", directory));
  return {};
}

/// What is larger could be written, but not be read again.
Result<void> check_size(const std::string& body) {
  if (body.size() <= kBodyBytesMax) return {};
  return Error{ErrorCode::kInvalid,
               fmt::format("all VIPs with their lists take {} MiB in the store, which holds {}",
                           body.size() >> 20, kBodyBytesMax >> 20),
               "shorten lists of sources, or give one list to fewer VIPs"};
}

}  // namespace

std::string Store::path_of(std::uint64_t first_revision) const {
  return fmt::format("{}/revisions/{}{}", directory_, first_revision, kSuffix);
}

Result<Store> Store::open(const std::string& directory, std::size_t revisions_max) {
  WEIR_ASSERT(revisions_max > 0);  // the current one is always kept
  Store store{directory, revisions_max};
  if (Result<void> made = store.make_directories(); !made) return std::move(made).error();
  if (Result<void> found = store.find_files(); !found) return std::move(found).error();
  if (Result<void> taken = store.take_over(); !taken) return std::move(taken).error();
  store.prune();
  return store;
}

Result<void> Store::make_directory(const std::string& directory) { return make_private(directory); }

Result<void> Store::make_directories() const {
  if (Result<void> made = make_private(directory_); !made) return made;
  return make_private(directory_ + "/revisions");
}

Result<void> Store::find_files() {
  std::vector<std::uint64_t> firsts;
  std::error_code error;
  for (fs::directory_iterator entry{directory_ + "/revisions", error}, end; !error && entry != end;
       entry.increment(error)) {
    const std::string name = entry->path().filename();
    if (const auto first = revision_in(name)) firsts.push_back(*first);
    if (name.ends_with(".new")) ::unlink(entry->path().c_str());  // a killed writer has left it
  }
  if (error)
    return Error::from_errno(fmt::format("reading {}/revisions", directory_), error.value());
  std::ranges::sort(firsts);
  for (const std::uint64_t first : firsts) {
    Result<void> read = read_file({.path = path_of(first), .first_revision = first, .records = {}},
                                  first == firsts.back());
    if (!read) return with_restore_remedy(std::move(read).error());
  }
  return {};
}

Result<void> Store::read_file(File file, bool is_last) {
  Result<JournalContents> contents = read_journal(file.path);
  if (!contents) return std::move(contents).error();
  if (contents->records.empty())
    return Error{ErrorCode::kInvalid, fmt::format("{} holds no whole record", file.path)};
  std::uint64_t expected = file.first_revision;
  if (!history_.empty() && expected != history_.back().number + 1)
    return Error{ErrorCode::kInvalid,
                 fmt::format("the revisions between {} and {} are missing before {}",
                             history_.back().number, expected, file.path)};
  for (JournalRecord& record : contents->records) {
    Result<Head> head = head_of(record.head);
    if (!head) return in_record(std::move(head).error(), file.path, record);
    if (head->revision.number != expected)
      return in_record(
          Error{ErrorCode::kInvalid, fmt::format("revision {} stands in the place of {}",
                                                 head->revision.number, expected)},
          file.path, record);
    const bool is_first = expected == file.first_revision;
    if ((head->body == Body::kWhole) != is_first)
      return in_record(Error{ErrorCode::kInvalid, "a whole state and changes are out of order"},
                       file.path, record);
    record.head.clear();
    ++expected;
    remember(std::move(head->revision));
  }
  if (!contents->cut.empty()) {
    log_warning("{} ends in {}, at byte {}: the state is revision {}", file.path, contents->cut,
                contents->bytes, expected - 1);
    // Where the disk cannot be written now, it is passed over and overwritten later.
    if (Result<void> cut = cut_journal(file.path, contents->bytes); !cut && is_last)
      log_warning("{}", cut.error().message());
  }
  file.bytes = contents->bytes;
  file.records = std::move(contents->records);
  files_.push_back(std::move(file));
  return {};
}

/// The one file that versions before revisions kept.
Result<void> Store::take_over() {
  const std::string path = directory_ + "/state.json";
  const UniqueFd file{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  if (!file && errno == ENOENT) return {};
  if (!file) return Error::from_errno(fmt::format("opening {}", path));
  if (!files_.empty()) {
    // Killed amid taking it over, or a version from before revisions ran in between: nobody can
    // say which, so that it stays at hand.
    const std::string aside = path + ".old";
    if (::rename(path.c_str(), aside.c_str()) != 0)
      return Error::from_errno(fmt::format("renaming {}", path));
    log_warning("{} is not read, since there are revisions; it was renamed to {}", path, aside);
    return {};
  }
  std::string text;
  std::string chunk(64 << 10, '\0');
  for (ssize_t size = 1; size > 0 && text.size() <= kOldStateBytesMax;) {
    size = ::read(file.get(), chunk.data(), chunk.size());
    if (size < 0) return Error::from_errno(fmt::format("reading {}", path));
    text.append(chunk, 0, static_cast<std::size_t>(size));
  }
  Result<DesiredState> state = desired_state_from_json(text);
  if (!state)
    return std::move(state)
        .error()
        .while_doing(fmt::format("understanding {}", path))
        .with_remedy("restore it from a backup, or move it away to start from nothing");
  struct stat info {};
  if (::fstat(file.get(), &info) != 0) return Error::from_errno(fmt::format("asking of {}", path));
  Revision revision{state->revision, info.st_mtime, "taken over from state.json", {}};
  Result<Pending> pending = stage_file(std::move(revision), *state);
  if (!pending) return std::move(pending).error();
  if (Result<void> done = pending->commit(); !done) return done;
  log_info("{} was taken over as revision {}", path, state->revision);
  // Its state is in the files now.
  if (::unlink(path.c_str()) != 0) return Error::from_errno(fmt::format("removing {}", path));
  return {};
}

Result<DesiredState> Store::read() const {
  if (files_.empty()) return DesiredState{};
  return read_in(files_.back(), history_.back().number);
}

Result<DesiredState> Store::read(std::uint64_t revision) const {
  const auto known = std::ranges::find(history_, revision, &Revision::number);
  if (known == history_.end()) {
    const std::string kept =
        history_.empty()
            ? "none is kept"
            : fmt::format("kept are {} to {}", history_.front().number, history_.back().number);
    return Error{ErrorCode::kNotFound, fmt::format("there is no revision {}: {}", revision, kept),
                 "see 'weir history'"};
  }
  const auto after = std::ranges::upper_bound(files_, revision, {}, &File::first_revision);
  WEIR_ASSERT(after != files_.begin());  // prune() keeps the files of all that history_ has
  return read_in(*std::prev(after), revision);
}

Result<DesiredState> Store::read_in(const File& file, std::uint64_t revision) const {
  DesiredState state;
  const std::size_t count = revision - file.first_revision + 1;
  for (std::size_t i = 0; i < count; ++i) {
    const JournalRecord& record = file.records[i];
    Result<std::string> body = read_body(file.path, record);
    if (!body) return with_restore_remedy(std::move(body).error());
    if (i == 0) {
      Result<DesiredState> whole = desired_state_from_json(*body);
      if (!whole) return in_record(std::move(whole).error(), file.path, record);
      state = *std::move(whole);
      continue;
    }
    Result<StateChange> change = state_change_from_json(*body);
    if (!change) return in_record(std::move(change).error(), file.path, record);
    apply_to(state, *std::move(change));
  }
  state.revision = revision;
  return state;
}

bool Store::is_due_for_a_new_file() const {
  if (files_.empty()) return true;
  const File& last = files_.back();
  const std::uint64_t whole =
      last.records.size() > 1 ? last.records[1].offset : last.bytes;  // of the first record
  return last.bytes - whole > std::max(whole, kChangesBytesMin);
}

Result<Store::Pending> Store::stage(Revision revision, const DesiredState& next,
                                    const std::optional<StateChange>& change) {
  WEIR_ASSERT(history_.empty() || revision.number == history_.back().number + 1);
  if (!change || is_due_for_a_new_file()) return stage_file(std::move(revision), next);
  Revision kept = shortened(std::move(revision));
  const File& last = files_.back();
  const std::string body = to_json(*change);
  if (Result<void> fits = check_size(body); !fits) return std::move(fits).error();
  Result<PendingRecord> record =
      PendingRecord::append(last.path, last.bytes, head_json(kept, Body::kChange), body);
  if (!record) return std::move(record).error();
  return Pending{*this, std::move(kept), *std::move(record)};
}

Result<Store::Pending> Store::stage_file(Revision revision, const DesiredState& next) {
  Revision kept = shortened(std::move(revision));
  const std::string head = head_json(kept, Body::kWhole);
  const std::string body = to_json(next);
  if (Result<void> fits = check_size(body); !fits) return std::move(fits).error();
  NewRecord record = new_record(0, head, body, RecordStatus::kCounts);
  Result<StagedFile> staged = StagedFile::stage(path_of(kept.number), record.text, kMode);
  if (!staged)
    return std::move(staged).error().with_remedy(
        "nothing was changed; make room on the disk, or make it writable, and try again");
  return Pending{*this, std::move(kept),
                 Pending::NewFile{*std::move(staged), std::move(record.place), record.text.size()}};
}

Result<void> Store::Pending::commit() {
  if (auto* appended = std::get_if<PendingRecord>(&written_)) {
    if (Result<void> done = appended->commit(); !done) return done;
    File& last = store_->files_.back();
    last.records.push_back(appended->record());
    last.bytes = appended->end();
  } else {
    NewFile& file = std::get<NewFile>(written_);
    if (Result<void> done = file.staged.commit(); !done) return done;
    store_->files_.push_back({.path = store_->path_of(revision_.number),
                              .first_revision = revision_.number,
                              .records = {std::move(file.record)},
                              .bytes = file.bytes});
  }
  store_->remember(std::move(revision_));
  store_->prune();
  return {};
}

void Store::remember(Revision revision) {
  history_.push_back(std::move(revision));
  if (history_.size() > revisions_max_) history_.pop_front();
}

/// What cannot be removed is tried again with the next change.
void Store::prune() {
  std::uint64_t bytes = 0;
  for (const File& file : files_)
    bytes += file.bytes;
  while (files_.size() > 1) {
    const bool is_old = files_[1].first_revision <= history_.front().number;
    if (!is_old && bytes <= kBytesMax) return;
    if (::unlink(files_.front().path.c_str()) != 0 && errno != ENOENT) {
      log_warning("{}", Error::from_errno(fmt::format("removing {}", files_.front().path)).text());
      return;
    }
    bytes -= files_.front().bytes;
    const std::uint64_t oldest = files_[1].first_revision;
    while (history_.front().number < oldest)
      history_.pop_front();
    files_.erase(files_.begin());
  }
}

}  // namespace weir::l4
