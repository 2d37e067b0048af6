#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "l4/base/file.h"
#include "l4/base/result.h"
#include "l4/desired_state.h"
#include "l4/journal.h"

namespace weir::l4 {

/// One change, as people read about it.
struct Revision {
  std::uint64_t number = 0;
  std::int64_t at_unix_s = 0;
  std::string cause;                 ///< "apply /etc/weir/weir.yaml", "vip add …", "rollback 4"
  std::vector<std::string> changes;  ///< in words, at most kChangesMax lines of them
  friend bool operator==(const Revision&, const Revision&) = default;
};

inline constexpr std::size_t kRevisionsDefault = 100;
inline constexpr std::size_t kChangesMax = 100;

/// The desired state on disk with its newest revisions, in files of records (journal.h):
///
///     <directory>/revisions/7.log    the whole state of revision 7, then what 8, 9, … changed
///     <directory>/revisions/31.log   the same from revision 31 on; the last file is the current
///     one
///
/// A change of few things is a record that holds only them, however much there is besides. Whatever
/// replaces much begins a new file, and so does a change after records that together are longer
/// than the state that they stand behind. A file goes when none of its revisions is among the
/// newest, and when all files together are too large; never the last one. Mode 0600: they hold the
/// hash seed.
///
/// Whoever reads after a crash at any moment finds the last revision that was committed, or the one
/// that was being committed.
class Store {
 public:
  /// Makes the directory where it is missing, so that it can be locked before open().
  static Result<void> make_directory(const std::string& directory);

  /// Makes the directory if need be. Takes over the state.json of versions before revisions. What
  /// cannot be understood is an error: guessing would take VIPs away from running traffic.
  static Result<Store> open(const std::string& directory,
                            std::size_t revisions_max = kRevisionsDefault);

  /// The newest; of revision 0 if nothing was ever written.
  [[nodiscard]] Result<DesiredState> read() const;
  /// kNotFound where it is not among those in history().
  [[nodiscard]] Result<DesiredState> read(std::uint64_t revision) const;
  /// The newest revisions, oldest first.
  [[nodiscard]] const std::deque<Revision>& history() const { return history_; }

  /// A revision that is on the disk and does not count yet: there is time to do what it says. What
  /// is short on the disk is short here already. Gone without commit(), nothing was written.
  class Pending {
   public:
    Result<void> commit();

   private:
    friend class Store;
    struct NewFile {
      StagedFile staged;
      JournalRecord record;
      std::uint64_t bytes;
    };
    Pending(Store& store, Revision revision, std::variant<NewFile, PendingRecord> written)
        : store_{&store}, revision_{std::move(revision)}, written_{std::move(written)} {}
    Store* store_;
    Revision revision_;
    std::variant<NewFile, PendingRecord> written_;
  };

  /// The next revision: `revision.number` is one more than the last. With a `change`, that leads
  /// from the last state to `next`, only that is written. The store outlives what it returns.
  Result<Pending> stage(Revision revision, const DesiredState& next,
                        const std::optional<StateChange>& change = {});

  [[nodiscard]] const std::string& directory() const { return directory_; }

 private:
  struct File {
    std::string path;
    std::uint64_t first_revision = 0;
    std::vector<JournalRecord> records;  ///< of consecutive revisions; heads are in history_
    std::uint64_t bytes = 0;
  };

  Store(std::string directory, std::size_t revisions_max)
      : directory_{std::move(directory)}, revisions_max_{revisions_max} {}

  [[nodiscard]] std::string path_of(std::uint64_t first_revision) const;
  Result<void> make_directories() const;
  Result<void> find_files();
  Result<void> read_file(File file, bool is_last);
  Result<void> take_over();
  [[nodiscard]] bool is_due_for_a_new_file() const;
  Result<Pending> stage_file(Revision revision, const DesiredState& next);
  void remember(Revision revision);
  void prune();
  [[nodiscard]] Result<DesiredState> read_in(const File& file, std::uint64_t revision) const;

  std::string directory_;
  std::size_t revisions_max_;
  std::vector<File> files_;  ///< oldest first
  std::deque<Revision> history_;
};

}  // namespace weir::l4
