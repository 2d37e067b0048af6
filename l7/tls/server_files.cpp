#include <fmt/format.h>
#include <openssl/evp.h>

#include <algorithm>

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

std::optional<std::size_t> kind_of(const EVP_PKEY* key) {
  switch (EVP_PKEY_get_base_id(key)) {
    case EVP_PKEY_RSA:
      return 0;
    case EVP_PKEY_RSA_PSS:
      return 1;
    case EVP_PKEY_EC:
      return 2;
    case EVP_PKEY_ED25519:
      return 3;
    case EVP_PKEY_ED448:
      return 4;
    default:
      return std::nullopt;
  }
}

SecretBytes pkcs8_of(EVP_PKEY* key) {
  using UniqueInfo = std::unique_ptr<PKCS8_PRIV_KEY_INFO, FreeWith<&PKCS8_PRIV_KEY_INFO_free>>;
  const UniqueInfo info{EVP_PKEY2PKCS8(key)};
  unsigned char* der = nullptr;
  const int size = info ? i2d_PKCS8_PRIV_KEY_INFO(info.get(), &der) : 0;
  if (size <= 0) return {};
  SecretBytes bytes{std::span{der, static_cast<std::size_t>(size)}};
  OPENSSL_clear_free(der, static_cast<std::size_t>(size));
  return bytes;
}

Error unusable(const std::string& file, std::string_view reason) {
  return Error{ErrorCode::kInvalid,
               fmt::format("certificate file {}: cannot be used: {}", file, reason),
               "use a certificate with an RSA key of at least 2048 bits or an EC key"};
}

/// Reads the pairs one after the other and puts them into a Content.
class Loader {
 public:
  explicit Loader(Content& content) : content_{content} {}

  Result<void> begin() {
    // Never serves anybody: it knows what OpenSSL objects to in a certificate or a key.
    auto trial = make_base_context(nullptr, TLS_server_method());
    if (!trial) return std::move(trial).error();
    trial_ = std::move(*trial);
    return {};
  }

  Result<void> add_pair(const control::CertificateRef& ref) {
    auto chain = read_chain(ref.certificate_file);
    if (!chain) return std::move(chain).error();
    auto key = read_key(ref.key_file);
    if (!key) return std::move(key).error();
    X509* const leaf = chain->leaf.get();
    const bool fits = X509_check_private_key(leaf, key->get()) == 1;
    ERR_clear_error();
    if (!fits)
      return Error{
          ErrorCode::kInvalid,
          fmt::format("key file {}: the key does not belong to the first certificate of {}",
                      ref.key_file, ref.certificate_file),
          "give the key that the certificate was issued for; the server's own certificate "
          "comes first, its issuers after it"};
    if (auto dates = check_dates(leaf, ref.certificate_file); !dates)
      return std::move(dates).error();
    if (auto tried = try_out(*chain, key->get(), ref.certificate_file); !tried) return tried;
    return keep(*chain, key->get(), ref);
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

  Result<void> try_out(const Chain& chain, EVP_PKEY* key, const std::string& file) {
    const UniqueStack issuers{sk_X509_new_null()};
    if (!issuers) return openssl_error("TLS chain");
    for (const UniqueCertificate& issuer : chain.issuers)
      if (sk_X509_push(issuers.get(), issuer.get()) == 0) return openssl_error("TLS chain");
    constexpr int kReplace = 1;
    if (SSL_CTX_use_cert_and_key(trial_.get(), chain.leaf.get(), key, issuers.get(), kReplace) == 1)
      return {};
    return unusable(file, take_openssl_reason());
  }

  Result<void> keep(const Chain& chain, EVP_PKEY* key, const control::CertificateRef& ref) {
    const X509* const leaf = chain.leaf.get();
    CertificateEntry entry;
    const auto kind = kind_of(key);
    if (!kind) return unusable(ref.certificate_file, "a kind of key that is not known");
    entry.kind = *kind;
    entry.leaf = der_of(leaf);
    for (const UniqueCertificate& issuer : chain.issuers)
      entry.issuers.push_back(der_of(issuer.get()));
    entry.key = pkcs8_of(key);
    entry.names = dns_names(leaf);
    entry.addresses = address_names(leaf);
    entry.display_name = common_name(leaf);
    if (entry.display_name.empty() && !entry.names.empty())
      entry.display_name = entry.names.front();
    if (!ref.ocsp_file.empty()) {
      auto ocsp = read_ocsp_response(ref.ocsp_file, chain);
      if (!ocsp) return std::move(ocsp).error();
      entry.ocsp = std::move(*ocsp);
    }
    content_.summaries.push_back({.file = ref.certificate_file,
                                  .subject = subject_text(leaf),
                                  .names = entry.names,
                                  .key_type = EVP_PKEY_get0_type_name(key),
                                  .not_after = seconds_of(X509_get0_notAfter(leaf))});
    const auto number = static_cast<std::uint32_t>(content_.entries.size()) + 1;
    // The first certificate with a name keeps it: the order in the configuration decides.
    for (const std::string& name : entry.names)
      if (std::uint32_t& place = entries_of_name_[name][entry.kind]; place == 0) place = number;
    content_.entries.push_back(std::move(entry));
    return {};
  }

  /// A second certificate of the same kind for the same names would never be used.
  Result<void> check_double(std::uint32_t index) {
    const CertificateEntry& entry = content_.entries[index];
    const auto [first, is_first] = by_names_.emplace(std::pair{entry.names, entry.kind}, index);
    if (is_first) return {};
    return Error{ErrorCode::kConflict,
                 fmt::format("certificate file {}: an earlier certificate of this listener has the "
                             "same names and kind of key",
                             content_.summaries[index].file),
                 fmt::format("remove it or {}", content_.summaries[first->second].file)};
  }

  /// The first certificate and those of another kind with the same names.
  [[nodiscard]] Entries default_entries() const {
    Entries entries{};
    const std::vector<std::string>& names = content_.entries.front().names;
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
      const CertificateEntry& entry = content_.entries[number - 1];
      keep_common(group.names, entry.names, is_first);
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
  UniqueContext trial_;
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

Result<ServerFiles> ServerFiles::load(const ServerOptions& options) {
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
  Loader loader{*content};
  if (auto begun = loader.begin(); !begun) return std::move(begun).error();
  for (const control::CertificateRef& ref : options.certificates)
    if (auto added = loader.add_pair(ref); !added) return std::move(added).error();
  if (auto finished = loader.finish(); !finished) return std::move(finished).error();
  if (auto added = add_policies(*content); !added) return std::move(added).error();
  return ServerFiles{std::move(content)};
}

const std::vector<CertificateSummary>& ServerFiles::certificates() const {
  return content_->summaries;
}

}  // namespace weir::tls
