#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "l4/base/clock.h"
#include "l4/wire/address.h"

namespace weir::l7 {

/// How a question to DNS ended: for the addresses of one family that a name has.
enum class LookupResult : std::uint8_t {
  kFound,
  kNoAddress,  ///< the name is there, and has none of the family
  kNoName,
  kTimeout,
  kRefused,  ///< by all servers, or none of them can be reached
  kMalformed,
  kFailed,  ///< for want of something here
};
inline constexpr std::size_t kLookupResults = 7;
/// "found", "no_address", …: as in metrics.
std::string_view text_of(LookupResult result);

/// Those that L7 has addresses of, and can therefore speak.
struct Families {
  bool v4 = true;
  bool v6 = true;
  friend bool operator==(const Families&, const Families&) = default;
};

struct Question {
  std::string name;
  wire::Family family{};
  std::uint64_t lookup = 0;  ///< which one: answers to earlier ones count no more
};

struct FamilyAnswer {
  LookupResult result = LookupResult::kFailed;
  std::vector<wire::IpAddress> addresses = {};
  Duration ttl = {};
};

struct NameCounters {
  std::uint64_t lookups = 0;   ///< of names, with all questions that belong to one
  std::uint64_t failures = 0;  ///< of them: something is not known, or nothing was found
  std::uint64_t changes = 0;   ///< lookups after which a name had other addresses
  std::array<std::uint64_t, kLookupResults> answers{};  ///< to questions, by LookupResult
};

struct NameLevels {
  std::size_t names = 0;
  std::size_t failing = 0;  ///< their last lookup has failed
  std::size_t addresses = 0;
};

/// What is known of a name, for people.
struct NameView {
  std::string name;
  std::vector<wire::IpAddress> addresses;
  std::optional<Duration> age = {};  ///< since an answer has last had addresses; none: never
  Duration next = {};                ///< until it is asked for again; 0: now
  std::uint32_t failures_in_row = 0;
  std::string last_error = {};  ///< of the last lookup; empty: there was none
};

/// The names that are followed, what DNS has said of them, and when to ask again. Pure: the
/// questions are put by somebody else (resolver.h).
///
/// A lookup of a name is one question for each family. What has an answer counts for as long as the
/// answer says, within bounds; what has none stays as it was last known, and is asked for again,
/// less and less often. That a name has no address of a family counts as an answer only where it
/// has some of the other one: a name that has lost everything keeps what it had.
class NameBook {
 public:
  static constexpr Duration kTtlMin = std::chrono::seconds{1};  ///< of 0, too: nothing spins
  static constexpr Duration kTtlMax = std::chrono::minutes{5};
  static constexpr Duration kBackoffMin = std::chrono::seconds{1};
  static constexpr Duration kBackoffMax = std::chrono::seconds{30};
  static constexpr std::size_t kLookupsAtOnce = 64;
  /// Of a family of a name: as many as a service may have endpoints, the first in order.
  static constexpr std::size_t kAddressesMax = 4096;

  /// From here on these; what is known of those that stay is kept.
  void set_names(const std::set<std::string>& names, Families families, Instant now);
  /// What is to be asked now; each gets an answer().
  [[nodiscard]] std::vector<Question> take_due(Instant now);
  void answer(const Question& question, FamilyAnswer answer, Instant now);

  /// Every name has been looked up once, with whatever result.
  [[nodiscard]] bool all_asked() const;
  /// In order, those of IPv4 first; none of a name that is not followed.
  [[nodiscard]] std::vector<wire::IpAddress> addresses_of(const std::string& name) const;
  /// Goes up whenever a name has other addresses.
  [[nodiscard]] std::uint64_t version() const { return version_; }
  [[nodiscard]] bool is_asking() const { return in_flight_ > 0; }
  [[nodiscard]] const NameCounters& counters() const { return counters_; }
  [[nodiscard]] NameLevels levels() const;
  [[nodiscard]] std::vector<NameView> views(Instant now) const;

 private:
  struct Family {
    std::vector<wire::IpAddress> addresses;
    std::optional<FamilyAnswer> answer;  // of the lookup that is under way
  };
  struct Name {
    std::array<Family, 2> families;  // by wire::Family
    std::uint64_t lookup = 0;        // the one that is under way, when `missing` is not 0
    std::uint32_t missing = 0;       // answers
    bool was_asked = false;
    bool has_changed = false;  // in the lookup that is under way
    Instant due{};             // at once
    std::optional<Instant> found_at;
    std::uint32_t failures_in_row = 0;
    std::string last_error;
  };
  void begin(Name& name, Instant now);
  void conclude(const std::string& text, Name& name, Instant now);
  void set_addresses(Name& name, Family& family, std::vector<wire::IpAddress> addresses);

  Families families_;
  std::map<std::string, Name> names_;
  std::size_t in_flight_ = 0;  // names
  std::uint64_t last_lookup_ = 0;
  std::uint64_t version_ = 0;
  NameCounters counters_;
};

}  // namespace weir::l7
