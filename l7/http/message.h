#pragma once

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "l4/base/assert.h"

namespace weir::http {

/// A status code. Those that Weir itself sends or acts on have a name; a backend may send any
/// other from 100 to 599, which is a valid value of this type too.
enum class Status : std::uint16_t {
  kContinue = 100,
  kSwitchingProtocols = 101,
  kOk = 200,
  kNoContent = 204,
  kMovedPermanently = 301,
  kFound = 302,
  kNotModified = 304,
  kTemporaryRedirect = 307,
  kPermanentRedirect = 308,
  kBadRequest = 400,
  kForbidden = 403,
  kNotFound = 404,
  kMethodNotAllowed = 405,
  kRequestTimeout = 408,
  kContentTooLarge = 413,
  kUriTooLong = 414,
  kExpectationFailed = 417,
  kMisdirectedRequest = 421,
  kTooManyRequests = 429,
  kHeaderFieldsTooLarge = 431,
  kInternalServerError = 500,
  kNotImplemented = 501,
  kBadGateway = 502,
  kServiceUnavailable = 503,
  kGatewayTimeout = 504,
  kVersionNotSupported = 505,
};

constexpr std::uint16_t number_of(Status status) { return static_cast<std::uint16_t>(status); }

/// "Not Found"; nothing for a code that is not registered (RFC 9112, section 4: it may be empty).
std::string_view reason_phrase(Status status);

/// Why a message is refused: what to answer, and one line for the log. The reason is a literal.
struct Refusal {
  Status status;
  std::string_view reason;
};

/// Field names, methods of comparison and list tokens are compared without regard to ASCII case.
/// Inline up to the length and the first letter, which settle nearly every comparison of names.
bool same_letters(const char* a, const char* b, std::size_t size);
inline bool equals_ignoring_case(std::string_view a, std::string_view b) {
  if (a.size() != b.size()) return false;
  // Letters of both cases differ in this bit alone; the rest of the answer is the function's.
  constexpr int kCaseBit = 0x20;
  return a.empty() ||
         (((a[0] ^ b[0]) & ~kCaseBit) == 0 && same_letters(a.data(), b.data(), a.size()));
}

struct Field {
  std::string_view name;
  std::string_view value;
};

/// The fields of one message in the order and case in which they came. All bytes live in one
/// arena that keeps its capacity over clear(), so that a connection's second message allocates
/// nothing. Names are compared without regard to case.
///
/// Views point into the arena: they live until the next add(), set() or clear(). Arguments may
/// point into the same list. remove() and set() leave their old bytes behind until clear();
/// a message is short-lived and its size is limited by the parser.
class HeaderList {
 public:
  class Iterator;

  [[nodiscard]] std::size_t size() const { return entries_.size(); }
  [[nodiscard]] bool empty() const { return entries_.empty(); }
  [[nodiscard]] Field operator[](std::size_t index) const {
    WEIR_ASSERT(index < entries_.size());
    const Entry& entry = entries_[index];
    return {name_of(entry), {arena_.data() + entry.value_at, entry.value_size}};
  }
  [[nodiscard]] Iterator begin() const;
  [[nodiscard]] Iterator end() const;

  /// The value of the first field of that name.
  [[nodiscard]] std::optional<std::string_view> find(std::string_view name) const;
  [[nodiscard]] bool contains(std::string_view name) const { return find(name).has_value(); }
  [[nodiscard]] std::size_t count(std::string_view name) const;
  /// All fields of that name, in order: `for (Field field : list.find_all("via"))`.
  class Matches;
  [[nodiscard]] Matches find_all(std::string_view name) const;

  void add(std::string_view name, std::string_view value);
  /// The first field of that name gets the value, further ones go; adds when there is none.
  void set(std::string_view name, std::string_view value);
  /// Removes the fields whose names the predicate wants gone. Views stay valid.
  template <typename Predicate>
  void remove_if(Predicate&& unwanted) {
    std::erase_if(entries_, [&](const Entry& entry) { return unwanted(name_of(entry)); });
  }
  /// Removes all fields of that name and says how many there were. Views stay valid.
  std::size_t remove(std::string_view name);
  void clear();

  /// For parsers, one copy per message instead of two per field: fields are noted by position
  /// while the text that holds them still arrives, and the text is brought in at the end. In
  /// between the list must not be read.
  void add_position(std::size_t name_at, std::size_t name_size, std::size_t value_at,
                    std::size_t value_size) {
    WEIR_ASSERT(value_at + value_size <= UINT32_MAX);  // positions lie within a limited head
    entries_.push_back({static_cast<std::uint32_t>(name_at), static_cast<std::uint32_t>(name_size),
                        static_cast<std::uint32_t>(value_at),
                        static_cast<std::uint32_t>(value_size)});
  }
  void assign_text(std::string_view text);

 private:
  /// Positions instead of views: the arena may move when it grows, and with its owner.
  struct Entry {
    std::uint32_t name_at;
    std::uint32_t name_size;
    std::uint32_t value_at;
    std::uint32_t value_size;
  };
  [[nodiscard]] std::string_view name_of(const Entry& entry) const {
    return {arena_.data() + entry.name_at, entry.name_size};
  }
  Entry store(std::string_view name, std::string_view value);

  std::string arena_;
  std::vector<Entry> entries_;
};

/// Valid until the list changes.
class HeaderList::Iterator {
 public:
  using value_type = Field;
  using difference_type = std::ptrdiff_t;
  Iterator() = default;
  Field operator*() const {
    return {{text_ + entry_->name_at, entry_->name_size},
            {text_ + entry_->value_at, entry_->value_size}};
  }
  Iterator& operator++() {
    ++entry_;
    return *this;
  }
  Iterator operator++(int) {
    const Iterator before = *this;
    ++entry_;
    return before;
  }
  friend bool operator==(const Iterator& a, const Iterator& b) { return a.entry_ == b.entry_; }

 private:
  friend class HeaderList;
  Iterator(const char* text, const Entry* entry) : text_{text}, entry_{entry} {}
  const char* text_ = nullptr;
  const Entry* entry_ = nullptr;
};

inline HeaderList::Iterator HeaderList::begin() const { return {arena_.data(), entries_.data()}; }
inline HeaderList::Iterator HeaderList::end() const {
  return {arena_.data(), entries_.data() + entries_.size()};
}

/// What find_all() returns: a range that lives no longer than the name, and until the list changes.
class HeaderList::Matches {
 public:
  class Iterator {
   public:
    using value_type = Field;
    using difference_type = std::ptrdiff_t;
    Iterator() = default;
    Iterator(HeaderList::Iterator at, HeaderList::Iterator end, std::string_view name)
        : at_{at}, end_{end}, name_{name} {
      skip();
    }
    Field operator*() const { return *at_; }
    Iterator& operator++() {
      ++at_;
      skip();
      return *this;
    }
    Iterator operator++(int) {
      const Iterator before = *this;
      ++*this;
      return before;
    }
    friend bool operator==(const Iterator& a, const Iterator& b) { return a.at_ == b.at_; }

   private:
    void skip() {
      while (at_ != end_ && !equals_ignoring_case((*at_).name, name_))
        ++at_;
    }
    HeaderList::Iterator at_;
    HeaderList::Iterator end_;
    std::string_view name_;
  };

  Matches(const HeaderList& list, std::string_view name)
      : begin_{list.begin()}, end_{list.end()}, name_{name} {}
  [[nodiscard]] Iterator begin() const { return {begin_, end_, name_}; }
  [[nodiscard]] Iterator end() const { return {end_, end_, name_}; }

 private:
  HeaderList::Iterator begin_;
  HeaderList::Iterator end_;
  std::string_view name_;
};

inline HeaderList::Matches HeaderList::find_all(std::string_view name) const {
  return {*this, name};
}

/// Everything of a request but its body. Owns its bytes; clear() keeps the capacity.
struct RequestHead {
  std::string method;     ///< any token, case-sensitive
  std::string target;     ///< as the client wrote it; semantics.h turns it into host and path
  int minor_version = 1;  ///< HTTP/1.0 or HTTP/1.1
  HeaderList fields;

  void clear();
};

/// Everything of a response but its body. Owns its bytes; clear() keeps the capacity.
struct ResponseHead {
  Status status{};
  std::string reason;  ///< may be empty
  int minor_version = 1;
  HeaderList fields;

  void clear();
};

}  // namespace weir::http
