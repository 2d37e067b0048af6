#include <fmt/format.h>
#include <openssl/evp.h>
#include <sys/stat.h>

#include <algorithm>
#include <ctime>
#include <set>

#include "l4/base/assert.h"
#include "l4/base/bytes.h"
#include "l7/tls/state.h"

namespace weir::tls {

namespace {

using Content = ServerFiles::Content;

/// Strings that cannot run into each other, for a hash.
void append_counted(std::string& text, std::string_view part) {
  text += fmt::format("{}:", part.size());
  text += part;
}

Sha256 hash_of(std::string_view text) {
  Sha256 hash{};
  unsigned size = 0;
  const int done = EVP_Digest(text.data(), text.size(), hash.data(), &size, EVP_sha256(), nullptr);
  WEIR_ASSERT(done == 1 && size == hash.size());  // fails without memory alone
  return hash;
}

Sha256 hash_of_chain(const Pair& pair) {
  std::string text;
  append_counted(text, pair.leaf);
  for (const std::string& issuer : pair.issuers)
    append_counted(text, issuer);
  return hash_of(text);
}

/// Clocks of file systems are coarse: a file that changed this shortly before it was read may
/// change once more without a sign of it.
constexpr std::int64_t kClockOfFilesS = 2;

/// Of the files that a pair is in; empty where one cannot be looked at, or changed just now.
std::vector<FileStamp> stamps_of(const control::CertificateRef& ref, std::int64_t now_s) {
  std::vector<FileStamp> stamps;
  for (const std::string* path : {&ref.certificate_file, &ref.key_file, &ref.ocsp_file}) {
    if (path->empty() || (path == &ref.key_file && *path == ref.certificate_file)) continue;
    struct stat status {};
    if (::stat(path->c_str(), &status) != 0 || status.st_ctim.tv_sec + kClockOfFilesS > now_s)
      return {};
    stamps.push_back({.device = status.st_dev,
                      .number = status.st_ino,
                      .size = status.st_size,
                      .changed_s = status.st_ctim.tv_sec,
                      .changed_ns = status.st_ctim.tv_nsec});
  }
  return stamps;
}

/// Reads the pairs one after the other and puts them into a Content.
class Loader {
 public:
  Loader(Content& content, CertificateStore::State& store, std::int64_t now_s)
      : content_{content}, store_{store}, now_s_{now_s} {}

  Result<void> begin() {
    // Never serves anybody: it knows what OpenSSL objects to in a certificate or a key.
    auto trial = make_base_context(nullptr, TLS_server_method());
    if (!trial) return std::move(trial).error();
    trial_ = std::move(*trial);
    return {};
  }

  Result<void> add_pair(const control::CertificateRef& ref) {
    std::vector<FileStamp> stamps = stamps_of(ref, now_s_);
    std::weak_ptr<const CertificateEntry>& stored = store_.entries[ref];
    if (auto known = stored.lock();
        known && !stamps.empty() && known->stamps == stamps && known->summary.not_after > now_s_) {
      issuers_.insert(known->issuers.begin(), known->issuers.end());
      keep(std::move(known));
      return {};
    }
    auto pair = read(ref);
    if (!pair) return std::move(pair).error();
    auto entry = entry_of(std::move(*pair), ref, std::move(stamps));
    stored = entry;
    keep(std::move(entry));
    return {};
  }

  /// After the last pair: which certificates there are for each name.
  Result<void> finish() {
    for (std::uint32_t i = 0; i < content_.entries.size(); ++i)
      if (auto checked = check_double(i); !checked) return checked;
    // Groups of equal certificates are one.
    content_.groups.push_back(make_group(default_entries()));
    group_of_[content_.groups[0].entries] = 0;
    for (const auto& [name, entries] : entries_of_name_) {
      const auto [place, is_new] =
          group_of_.emplace(entries, static_cast<std::uint32_t>(content_.groups.size()));
      if (is_new) content_.groups.push_back(make_group(entries));
      if (name.starts_with('*'))
        content_.wildcards.emplace(name.substr(1), place->second);
      else
        content_.exact.emplace(name, place->second);
    }
    return {};
  }

 private:
  using Entries = std::array<std::uint32_t, kKeyKinds>;

  Result<Pair> read(const control::CertificateRef& ref) {
    if (auto plain = read_plain_pair(ref, now_s_); plain && knows_issuers(*plain))
      return std::move(*plain);
    auto pair = read_pair(ref, trial_.get());
    if (pair) issuers_.insert(pair->issuers.begin(), pair->issuers.end());
    return pair;
  }

  /// OpenSSL has tried out all of them, with another pair.
  [[nodiscard]] bool knows_issuers(const Pair& pair) const {
    return std::all_of(pair.issuers.begin(), pair.issuers.end(),
                       [&](const std::string& issuer) { return issuers_.contains(issuer); });
  }

  static std::shared_ptr<const CertificateEntry> entry_of(Pair pair,
                                                          const control::CertificateRef& ref,
                                                          std::vector<FileStamp> stamps) {
    CertificateSummary summary{.file = ref.certificate_file,
                               .subject = std::move(pair.subject),
                               .names = std::move(pair.names),
                               .key_type = std::move(pair.key_type),
                               .not_after = pair.not_after,
                               .chain = hash_of_chain(pair),
                               .ocsp = pair.ocsp.der.empty() ? Sha256{} : hash_of(pair.ocsp.der)};
    std::string display_name = std::move(pair.common_name);
    if (display_name.empty() && !summary.names.empty()) display_name = summary.names.front();
    return std::make_shared<const CertificateEntry>(
        CertificateEntry{.summary = std::move(summary),
                         .stamps = std::move(stamps),
                         .leaf = std::move(pair.leaf),
                         .issuers = std::move(pair.issuers),
                         .key = std::move(pair.key),
                         .kind = static_cast<std::size_t>(pair.kind),
                         .addresses = std::move(pair.addresses),
                         .display_name = std::move(display_name),
                         .ocsp = std::move(pair.ocsp)});
  }

  void keep(std::shared_ptr<const CertificateEntry> entry) {
    const auto number = static_cast<std::uint32_t>(content_.entries.size()) + 1;
    // The first certificate with a name keeps it: the order in the configuration decides.
    for (const std::string& name : entry->summary.names)
      if (std::uint32_t& place = entries_of_name_[name][entry->kind]; place == 0) place = number;
    content_.entries.push_back(std::move(entry));
  }

  /// A second certificate of the same kind for the same names would never be used.
  Result<void> check_double(std::uint32_t index) {
    const CertificateEntry& entry = *content_.entries[index];
    const auto [first, is_first] =
        by_names_.emplace(std::pair{entry.summary.names, entry.kind}, index);
    if (is_first) return {};
    return Error{ErrorCode::kConflict,
                 fmt::format("certificate file {}: an earlier certificate of this listener has the "
                             "same names and kind of key",
                             entry.summary.file),
                 fmt::format("remove it or {}", content_.entries[first->second]->summary.file)};
  }

  /// The first certificate and those of another kind with the same names.
  [[nodiscard]] Entries default_entries() const {
    Entries entries{};
    const std::vector<std::string>& names = content_.entries.front()->summary.names;
    for (std::size_t kind = 0; kind < kKeyKinds; ++kind)
      if (const auto found = by_names_.find({names, kind}); found != by_names_.end())
        entries[kind] = found->second + 1;
    return entries;
  }

  [[nodiscard]] NameGroup make_group(const Entries& numbers) const {
    NameGroup group;
    group.entries = numbers;
    bool is_first = true;
    for (const std::uint32_t number : numbers) {
      if (number == 0) continue;
      const CertificateEntry& entry = *content_.entries[number - 1];
      keep_common(group.names, entry.summary.names, is_first);
      keep_common(group.addresses, entry.addresses, is_first);
      is_first = false;
    }
    std::string text;
    for (const std::string& name : group.names)
      append_counted(text, name);
    group.identity = hash_of(text);
    return group;
  }

  static void keep_common(std::vector<std::string>& into, const std::vector<std::string>& names,
                          bool is_first) {
    if (is_first) {
      into = names;
      return;
    }
    std::erase_if(into, [&](const std::string& name) {
      return !std::binary_search(names.begin(), names.end(), name);
    });
  }

  Content& content_;
  CertificateStore::State& store_;
  UniqueContext trial_;
  const std::int64_t now_s_;
  std::set<std::string> issuers_;  // DER
  std::map<std::string, Entries> entries_of_name_;
  std::map<std::pair<std::vector<std::string>, std::size_t>, std::uint32_t> by_names_;
  std::map<Entries, std::uint32_t> group_of_;
};

Result<void> add_policies(Content& content) {
  content.policies.push_back({});
  for (const ClientPolicy& policy : content.options.policies) {
    PolicyEntry entry{policy, {}, {}};
    std::string text = fmt::format("{} ", static_cast<int>(policy.validation.mode));
    if (policy.validation.mode != control::ClientCertificates::kNone) {
      auto authorities = read_authorities(policy.validation.ca_file);
      if (!authorities) return std::move(authorities).error();
      entry.authorities = std::move(*authorities);
      for (const std::string& authority : entry.authorities)
        append_counted(text, authority);
      entry.identity = hash_of(text);
    }
    content.policies.push_back(std::move(entry));
  }
  return {};
}

/// A host that is an address, as wire::IpAddress writes it; nothing for names.
std::optional<std::string> address_text(std::string_view host) {
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  const auto address = wire::IpAddress::parse(host);
  return address ? std::optional{address->text()} : std::nullopt;
}

}  // namespace

bool has_name(const std::vector<std::string>& sorted_names, std::string_view host) {
  if (std::binary_search(sorted_names.begin(), sorted_names.end(), host)) return true;
  const std::size_t dot = host.find('.');
  // A wildcard stands for exactly one label, which is not empty (RFC 6125, section 6.4.3).
  if (dot == std::string_view::npos || dot == 0) return false;
  const std::string_view parent = host.substr(dot);
  // '*' sorts before everything else that a name may begin with.
  for (const std::string_view name : sorted_names) {
    if (!name.starts_with('*')) return false;
    if (name.substr(1) == parent) return true;
  }
  return false;
}

bool NameGroup::covers(std::string_view host) const {
  if (names.empty() && addresses.empty()) return true;
  if (has_name(names, host)) return true;
  if (addresses.empty()) return false;
  const auto address = address_text(host);
  return address && std::binary_search(addresses.begin(), addresses.end(), *address);
}

std::uint32_t Content::group_for(std::string_view name) const {
  if (const auto found = exact.find(name); found != exact.end()) return found->second;
  const std::size_t dot = name.find('.');
  // A wildcard stands for exactly one label, which is not empty.
  if (dot == std::string_view::npos || dot == 0) return 0;
  const auto found = wildcards.find(name.substr(dot));
  return found != wildcards.end() ? found->second : 0;
}

std::uint32_t Content::policy_for(std::string_view name) const {
  std::uint32_t best = 0;
  std::size_t best_size = 0;
  for (std::uint32_t i = 1; i < policies.size(); ++i) {
    const std::string_view hostname = policies[i].policy.hostname;
    if (hostname == name && !name.empty()) return i;
    const bool covers =
        hostname.empty() || (hostname.starts_with("*.") && name.size() >= hostname.size() &&
                             name.ends_with(hostname.substr(1)));
    if (!covers || (best != 0 && hostname.size() <= best_size)) continue;
    best = i;
    best_size = hostname.size();
  }
  return best;
}

CertificateStore::CertificateStore() : state_{std::make_unique<State>()} {}
CertificateStore::~CertificateStore() = default;

void CertificateStore::forget_unused() {
  std::erase_if(state_->entries, [](const auto& named) { return named.second.expired(); });
}

Result<ServerFiles> ServerFiles::load(const ServerOptions& options, CertificateStore& store,
                                      std::time_t now) {
  // The machine's openssl.cnf is not read: what a listener accepts is written in one place.
  OPENSSL_init_ssl(OPENSSL_INIT_NO_LOAD_CONFIG, nullptr);
  if (options.certificates.empty())
    return Error{ErrorCode::kInvalid, "a TLS listener without a certificate",
                 "name at least one certificate file"};
  auto content = std::make_shared<Content>();
  content->options = options;
  auto protocols = alpn_wire_format(options.protocols);
  if (!protocols) return std::move(protocols).error();
  content->protocols = std::move(*protocols);
  Loader loader{*content, store.state(), now};
  if (auto begun = loader.begin(); !begun) return std::move(begun).error();
  for (const control::CertificateRef& ref : options.certificates)
    if (auto added = loader.add_pair(ref); !added) return std::move(added).error();
  if (auto finished = loader.finish(); !finished) return std::move(finished).error();
  if (auto added = add_policies(*content); !added) return std::move(added).error();
  return ServerFiles{std::move(content)};
}

std::vector<const CertificateSummary*> ServerFiles::certificates() const {
  std::vector<const CertificateSummary*> summaries;
  for (const auto& entry : content_->entries)
    summaries.push_back(&entry->summary);
  return summaries;
}

bool ServerFiles::serves(std::string_view name) const {
  return content_->groups[content_->group_for(name)].covers(name);
}

}  // namespace weir::tls
