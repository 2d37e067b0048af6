#include "l7/http/message.h"

#include <algorithm>

#include "l4/base/assert.h"

namespace weir::http {

namespace {

/// What a list begins with: an ordinary head fits, and one made anew grows no further.
constexpr std::size_t kEntriesMin = 16;
constexpr std::size_t kArenaBytesMin = 512;

constexpr char to_lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

}  // namespace

std::string_view reason_phrase(Status status) {
  switch (status) {
    case Status::kContinue:
      return "Continue";
    case Status::kSwitchingProtocols:
      return "Switching Protocols";
    case Status::kOk:
      return "OK";
    case Status::kNoContent:
      return "No Content";
    case Status::kMovedPermanently:
      return "Moved Permanently";
    case Status::kFound:
      return "Found";
    case Status::kNotModified:
      return "Not Modified";
    case Status::kTemporaryRedirect:
      return "Temporary Redirect";
    case Status::kPermanentRedirect:
      return "Permanent Redirect";
    case Status::kBadRequest:
      return "Bad Request";
    case Status::kForbidden:
      return "Forbidden";
    case Status::kNotFound:
      return "Not Found";
    case Status::kMethodNotAllowed:
      return "Method Not Allowed";
    case Status::kRequestTimeout:
      return "Request Timeout";
    case Status::kContentTooLarge:
      return "Content Too Large";
    case Status::kUriTooLong:
      return "URI Too Long";
    case Status::kExpectationFailed:
      return "Expectation Failed";
    case Status::kMisdirectedRequest:
      return "Misdirected Request";
    case Status::kTooManyRequests:
      return "Too Many Requests";
    case Status::kHeaderFieldsTooLarge:
      return "Request Header Fields Too Large";
    case Status::kInternalServerError:
      return "Internal Server Error";
    case Status::kNotImplemented:
      return "Not Implemented";
    case Status::kBadGateway:
      return "Bad Gateway";
    case Status::kServiceUnavailable:
      return "Service Unavailable";
    case Status::kGatewayTimeout:
      return "Gateway Timeout";
    case Status::kVersionNotSupported:
      return "HTTP Version Not Supported";
  }
  return "Unknown";
}

bool same_letters(const char* a, const char* b, std::size_t size) {
  for (std::size_t i = 0; i < size; ++i)
    if (a[i] != b[i] && to_lower(a[i]) != to_lower(b[i])) return false;
  return true;
}

HeaderList::Iterator HeaderList::begin() const { return {this, 0}; }
HeaderList::Iterator HeaderList::end() const { return {this, size()}; }

std::optional<std::string_view> HeaderList::find(std::string_view name) const {
  for (const Field field : *this)
    if (equals_ignoring_case(field.name, name)) return field.value;
  return std::nullopt;
}

std::size_t HeaderList::count(std::string_view name) const {
  const Matches matches = find_all(name);
  return static_cast<std::size_t>(std::distance(matches.begin(), matches.end()));
}

HeaderList::Matches HeaderList::find_all(std::string_view name) const { return {*this, name}; }

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
