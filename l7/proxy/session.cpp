#include "l7/proxy/session.h"

#include <fmt/format.h>

#include <utility>

#include "l4/base/bytes.h"

namespace weir::proxy {

SessionTable::SessionTable(control::SessionPersistence policy, const SipKey& key)
    : policy_{std::move(policy)}, key_{key} {}

std::string SessionTable::value_of(std::string_view service, const wire::Endpoint& endpoint) const {
  return fmt::format("{:016x}",
                     siphash(key_, as_bytes(fmt::format("{} {}", service, endpoint.text()))));
}

void SessionTable::add(const SessionTarget& target, std::string_view service,
                       const wire::Endpoint& endpoint) {
  targets_.insert_or_assign(value_of(service, endpoint), target);
}

std::optional<SessionTarget> SessionTable::find(std::string_view cookie) const {
  const auto found = targets_.find(cookie);
  return found == targets_.end() ? std::nullopt : std::optional{found->second};
}

std::string SessionTable::set_cookie(std::string_view service, const wire::Endpoint& endpoint,
                                     bool secure) const {
  std::string text = fmt::format("{}={}; Path=/; HttpOnly; SameSite=Lax", policy_.cookie,
                                 value_of(service, endpoint));
  if (secure) text += "; Secure";
  if (policy_.max_age_s != 0) text += fmt::format("; Max-Age={}", policy_.max_age_s);
  return text;
}

}  // namespace weir::proxy
