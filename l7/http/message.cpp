#include "l7/http/message.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "l4/base/assert.h"

namespace weir::http {

namespace {

/// What a list begins with: an ordinary head fits, and one made anew grows no further.
constexpr std::size_t kEntriesMin = 16;
constexpr std::size_t kArenaBytesMin = 512;

constexpr std::size_t kWord = sizeof(std::uint64_t);

constexpr char to_lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

struct Phrase {
  std::uint16_t status;
  std::string_view text;
};

/// IANA's register of status codes, in order.
constexpr auto kPhrases = std::to_array<Phrase>({
    {100, "Continue"},
    {101, "Switching Protocols"},
    {102, "Processing"},
    {103, "Early Hints"},
    {200, "OK"},
    {201, "Created"},
    {202, "Accepted"},
    {203, "Non-Authoritative Information"},
    {204, "No Content"},
    {205, "Reset Content"},
    {206, "Partial Content"},
    {207, "Multi-Status"},
    {208, "Already Reported"},
    {226, "IM Used"},
    {300, "Multiple Choices"},
    {301, "Moved Permanently"},
    {302, "Found"},
    {303, "See Other"},
    {304, "Not Modified"},
    {305, "Use Proxy"},
    {307, "Temporary Redirect"},
    {308, "Permanent Redirect"},
    {400, "Bad Request"},
    {401, "Unauthorized"},
    {402, "Payment Required"},
    {403, "Forbidden"},
    {404, "Not Found"},
    {405, "Method Not Allowed"},
    {406, "Not Acceptable"},
    {407, "Proxy Authentication Required"},
    {408, "Request Timeout"},
    {409, "Conflict"},
    {410, "Gone"},
    {411, "Length Required"},
    {412, "Precondition Failed"},
    {413, "Content Too Large"},
    {414, "URI Too Long"},
    {415, "Unsupported Media Type"},
    {416, "Range Not Satisfiable"},
    {417, "Expectation Failed"},
    {421, "Misdirected Request"},
    {422, "Unprocessable Content"},
    {423, "Locked"},
    {424, "Failed Dependency"},
    {425, "Too Early"},
    {426, "Upgrade Required"},
    {428, "Precondition Required"},
    {429, "Too Many Requests"},
    {431, "Request Header Fields Too Large"},
    {451, "Unavailable For Legal Reasons"},
    {500, "Internal Server Error"},
    {501, "Not Implemented"},
    {502, "Bad Gateway"},
    {503, "Service Unavailable"},
    {504, "Gateway Timeout"},
    {505, "HTTP Version Not Supported"},
    {506, "Variant Also Negotiates"},
    {507, "Insufficient Storage"},
    {508, "Loop Detected"},
    {510, "Not Extended"},
    {511, "Network Authentication Required"},
});

}  // namespace

std::string_view reason_phrase(Status status) {
  const auto found = std::ranges::lower_bound(kPhrases, number_of(status), {}, &Phrase::status);
  return found != kPhrases.end() && found->status == number_of(status) ? found->text : "";
}

bool same_letters(const char* a, const char* b, std::size_t size) {
  // Most are spelled alike, which eight bytes at once tell.
  std::size_t i = 0;
  while (i + kWord <= size && std::memcmp(a + i, b + i, kWord) == 0)
    i += kWord;
  for (; i < size; ++i)
    if (a[i] != b[i] && to_lower(a[i]) != to_lower(b[i])) return false;
  return true;
}

std::optional<std::string_view> HeaderList::find(std::string_view name) const {
  for (const Field field : *this)
    if (equals_ignoring_case(field.name, name)) return field.value;
  return std::nullopt;
}

std::size_t HeaderList::count(std::string_view name) const {
  const Matches matches = find_all(name);
  return static_cast<std::size_t>(std::distance(matches.begin(), matches.end()));
}

void HeaderList::add(std::string_view name, std::string_view value) {
  entries_.push_back(store(name, value));
}

void HeaderList::set(std::string_view name, std::string_view value) {
  const Entry entry = store(name, value);
  const auto same_name = [&](const Entry& other) {
    return equals_ignoring_case(name_of(other), name_of(entry));
  };
  const auto first = std::find_if(entries_.begin(), entries_.end(), same_name);
  if (first == entries_.end()) {
    entries_.push_back(entry);
    return;
  }
  *first = entry;
  entries_.erase(std::remove_if(first + 1, entries_.end(), same_name), entries_.end());
}

std::size_t HeaderList::remove(std::string_view name) {
  return std::erase_if(
      entries_, [&](const Entry& entry) { return equals_ignoring_case(name_of(entry), name); });
}

void HeaderList::clear() {
  entries_.clear();
  arena_.clear();
}

HeaderList::Entry HeaderList::store(std::string_view name, std::string_view value) {
  const std::size_t at = arena_.size();
  const std::size_t needed = at + name.size() + value.size();
  WEIR_ASSERT(needed <= UINT32_MAX);  // heads are limited to a small fraction of this
  if (entries_.capacity() == 0) entries_.reserve(kEntriesMin);
  if (needed > arena_.capacity()) {
    // The arguments may point into the old arena, so it is given up only after they were copied.
    std::string grown;
    grown.reserve(std::max({needed, 2 * arena_.capacity(), kArenaBytesMin}));
    grown.append(arena_).append(name).append(value);
    arena_.swap(grown);
  } else {
    arena_.append(name).append(value);
  }
  return {static_cast<std::uint32_t>(at), static_cast<std::uint32_t>(name.size()),
          static_cast<std::uint32_t>(at + name.size()), static_cast<std::uint32_t>(value.size())};
}

void HeaderList::assign_text(std::string_view text) { arena_.assign(text); }

void RequestHead::clear() {
  method.clear();
  target.clear();
  minor_version = 1;
  fields.clear();
}

void ResponseHead::clear() {
  status = Status{};
  reason.clear();
  minor_version = 1;
  fields.clear();
}

}  // namespace weir::http
