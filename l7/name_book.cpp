#include "l7/name_book.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "l4/base/log.h"

namespace weir::l7 {
namespace {

std::string_view sentence_of(LookupResult result) {
  switch (result) {
    case LookupResult::kFound:
      return "found";
    case LookupResult::kNoAddress:
      return "it has no address";
    case LookupResult::kNoName:
      return "there is no such name";
    case LookupResult::kTimeout:
      return "no DNS server has answered in time";
    case LookupResult::kRefused:
      return "every DNS server refuses, fails or cannot be reached";
    case LookupResult::kMalformed:
      return "the answer cannot be read";
    case LookupResult::kFailed:
      return "this host lacks memory or sockets for it";
  }
  return "";
}

/// Whether it says that there is nothing, rather than nothing at all.
bool is_denial(LookupResult result) {
  return result == LookupResult::kNoAddress || result == LookupResult::kNoName;
}

Duration backoff_after(std::uint32_t failures) {
  constexpr std::uint32_t kDoublingsMax = 5;
  const std::uint32_t doublings = std::min(failures - 1, kDoublingsMax);
  return std::min(NameBook::kBackoffMin * (1U << doublings), NameBook::kBackoffMax);
}

}  // namespace

std::string_view text_of(LookupResult result) {
  switch (result) {
    case LookupResult::kFound:
      return "found";
    case LookupResult::kNoAddress:
      return "no_address";
    case LookupResult::kNoName:
      return "no_name";
    case LookupResult::kTimeout:
      return "timeout";
    case LookupResult::kRefused:
      return "refused";
    case LookupResult::kMalformed:
      return "malformed";
    case LookupResult::kFailed:
      return "failed";
  }
  return "";
}

void NameBook::set_names(const std::set<std::string>& names, Families families, Instant now) {
  std::erase_if(names_, [&](const auto& entry) {
    if (names.contains(entry.first)) return false;
    if (entry.second.missing > 0) --in_flight_;
    return true;
  });
  for (const std::string& name : names)
    names_.try_emplace(name);
  if (std::exchange(families_, families) == families) return;
  for (auto& [text, name] : names_) {
    if (std::exchange(name.missing, 0) > 0) --in_flight_;
    if (!families.v4) set_addresses(name, name.families[0], {});
    if (!families.v6) set_addresses(name, name.families[1], {});
    name.was_asked = false;  // the question is another one
    name.due = now;
  }
}

std::vector<Question> NameBook::take_due(Instant now) {
  std::vector<decltype(names_)::value_type*> due;
  for (auto& entry : names_)
    if (entry.second.missing == 0 && entry.second.due <= now) due.push_back(&entry);
  // Those that have waited longest first: with more names than may be asked at once, all have
  // their turn.
  std::stable_sort(due.begin(), due.end(), [](const auto* one, const auto* other) {
    return one->second.due < other->second.due;
  });
  std::vector<Question> questions;
  for (auto* entry : due) {
    if (in_flight_ >= kLookupsAtOnce) break;
    auto& [text, name] = *entry;
    begin(name, now);
    if (families_.v4) questions.push_back({text, wire::Family::kIpv4, name.lookup});
    if (families_.v6) questions.push_back({text, wire::Family::kIpv6, name.lookup});
  }
  return questions;
}

void NameBook::begin(Name& name, Instant now) {
  name.missing = (families_.v4 ? 1U : 0U) + (families_.v6 ? 1U : 0U);
  if (name.missing == 0) {  // nobody could speak to what would be found
    name.due = now + kBackoffMax;
    name.was_asked = true;
    return;
  }
  ++in_flight_;
  ++counters_.lookups;
  name.lookup = ++last_lookup_;
  name.has_changed = false;
  for (Family& family : name.families)
    family.answer.reset();
}

void NameBook::answer(const Question& question, FamilyAnswer answer, Instant now) {
  ++counters_.answers.at(static_cast<std::size_t>(answer.result));
  const auto found = names_.find(question.name);
  if (found == names_.end()) return;
  Name& name = found->second;
  if (name.missing == 0 || name.lookup != question.lookup) return;
  Family& family = name.families.at(static_cast<std::size_t>(question.family));
  if (family.answer) return;
  // Not when all are there: nobody waits for the other family, which may be silent.
  if (answer.result == LookupResult::kFound)
    set_addresses(name, family, std::exchange(answer.addresses, {}));
  family.answer = std::move(answer);
  if (--name.missing == 0) conclude(found->first, name, now);
}

void NameBook::set_addresses(Name& name, Family& family, std::vector<wire::IpAddress> addresses) {
  std::sort(addresses.begin(), addresses.end());
  addresses.erase(std::unique(addresses.begin(), addresses.end()), addresses.end());
  if (addresses.size() > kAddressesMax) addresses.resize(kAddressesMax);
  if (addresses == family.addresses) return;
  family.addresses = std::move(addresses);
  name.has_changed = true;
  ++version_;
}

void NameBook::conclude(const std::string& text, Name& name, Instant now) {
  --in_flight_;
  name.was_asked = true;
  std::optional<Duration> ttl;
  std::optional<LookupResult> problem;  // the worst
  for (const Family& family : name.families) {
    if (!family.answer) continue;
    if (family.answer->result == LookupResult::kFound)
      ttl = std::min(ttl.value_or(kTtlMax), family.answer->ttl);
    else if (!problem || is_denial(*problem))
      problem = family.answer->result;
  }
  if (ttl) {
    name.found_at = now;
    for (Family& family : name.families)
      if (family.answer && is_denial(family.answer->result)) set_addresses(name, family, {});
  }
  if (name.has_changed) ++counters_.changes;
  const bool is_well = ttl && (!problem || is_denial(*problem));
  if (is_well) {
    if (name.failures_in_row > 0) log_info("endpoints: {} is found again", text);
    name.failures_in_row = 0;
    name.last_error.clear();
    name.due = now + std::clamp(*ttl, kTtlMin, kTtlMax);
    return;
  }
  ++counters_.failures;
  ++name.failures_in_row;
  name.last_error = sentence_of(*problem);
  if (name.failures_in_row == 1)
    log_warning("endpoints: looking up {}: {}; {}", text, name.last_error,
                name.found_at ? "its last addresses stay" : "it has no addresses");
  name.due = now + backoff_after(name.failures_in_row);
  if (ttl) name.due = std::min(name.due, now + std::clamp(*ttl, kTtlMin, kTtlMax));
}

bool NameBook::all_asked() const {
  return std::all_of(names_.begin(), names_.end(),
                     [](const auto& entry) { return entry.second.was_asked; });
}

std::vector<wire::IpAddress> NameBook::addresses_of(const std::string& name) const {
  const auto found = names_.find(name);
  if (found == names_.end()) return {};
  std::vector<wire::IpAddress> addresses = found->second.families[0].addresses;
  const std::vector<wire::IpAddress>& v6 = found->second.families[1].addresses;
  addresses.insert(addresses.end(), v6.begin(), v6.end());
  return addresses;
}

NameLevels NameBook::levels() const {
  NameLevels levels{.names = names_.size()};
  for (const auto& [text, name] : names_) {
    if (name.failures_in_row > 0) ++levels.failing;
    for (const Family& family : name.families)
      levels.addresses += family.addresses.size();
  }
  return levels;
}

std::vector<NameView> NameBook::views(Instant now) const {
  std::vector<NameView> views;
  for (const auto& [text, name] : names_)
    views.push_back({.name = text,
                     .addresses = addresses_of(text),
                     .age = name.found_at ? std::optional{now - *name.found_at} : std::nullopt,
                     .next = name.missing > 0 ? Duration{} : std::max(name.due - now, Duration{}),
                     .failures_in_row = name.failures_in_row,
                     .last_error = name.last_error});
  return views;
}

}  // namespace weir::l7
