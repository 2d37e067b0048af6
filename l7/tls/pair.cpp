#include "l7/tls/pair.h"

#include <fmt/format.h>
#include <openssl/ec.h>
#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <string_view>

#include "l4/base/bytes.h"
#include "l4/base/log.h"

namespace weir::tls {
namespace {

std::optional<KeyKind> kind_of(const EVP_PKEY* key) {
  switch (EVP_PKEY_get_base_id(key)) {
    case EVP_PKEY_RSA:
      return KeyKind::kRsa;
    case EVP_PKEY_RSA_PSS:
      return KeyKind::kRsaPss;
    case EVP_PKEY_EC:
      return KeyKind::kEc;
    case EVP_PKEY_ED25519:
      return KeyKind::kEd25519;
    case EVP_PKEY_ED448:
      return KeyKind::kEd448;
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

Result<void> try_out(SSL_CTX* trial, const Chain& chain, EVP_PKEY* key, const std::string& file) {
  const UniqueStack issuers{sk_X509_new_null()};
  if (!issuers) return openssl_error("TLS chain");
  for (const UniqueCertificate& issuer : chain.issuers)
    if (sk_X509_push(issuers.get(), issuer.get()) == 0) return openssl_error("TLS chain");
  constexpr int kReplace = 1;
  if (SSL_CTX_use_cert_and_key(trial, chain.leaf.get(), key, issuers.get(), kReplace) == 1)
    return {};
  return unusable(file, take_openssl_reason());
}

}  // namespace

Result<Pair> read_pair(const control::CertificateRef& ref, SSL_CTX* trial) {
  auto chain = read_chain(ref.certificate_file);
  if (!chain) return std::move(chain).error();
  auto key = read_key(ref.key_file);
  if (!key) return std::move(key).error();
  X509* const leaf = chain->leaf.get();
  const bool fits = X509_check_private_key(leaf, key->get()) == 1;
  ERR_clear_error();
  if (!fits)
    return Error{ErrorCode::kInvalid,
                 fmt::format("key file {}: the key does not belong to the first certificate of {}",
                             ref.key_file, ref.certificate_file),
                 "give the key that the certificate was issued for; the server's own certificate "
                 "comes first, its issuers after it"};
  // No reason to serve nobody: one of many may have expired when the process is started again.
  if (auto dates = check_dates(leaf, ref.certificate_file); !dates)
    log_warning("{}", dates.error().text());
  if (auto tried = try_out(trial, *chain, key->get(), ref.certificate_file); !tried)
    return std::move(tried).error();
  const auto kind = kind_of(key->get());
  if (!kind) return unusable(ref.certificate_file, "a kind of key that is not known");
  const UniqueAlternatives alternatives = alternatives_of(leaf);
  Pair pair{.leaf = der_of(leaf),
            .issuers = {},
            .key = pkcs8_of(key->get()),
            .kind = *kind,
            .key_type = EVP_PKEY_get0_type_name(key->get()),
            .names = dns_names(alternatives.get()),
            .addresses = address_names(alternatives.get()),
            .subject = subject_text(leaf),
            .common_name = common_name(leaf),
            .not_after = seconds_of(X509_get0_notAfter(leaf)),
            .ocsp = {}};
  for (const UniqueCertificate& issuer : chain->issuers)
    pair.issuers.push_back(der_of(issuer.get()));
  if (ref.ocsp_file.empty()) return pair;
  auto ocsp = read_ocsp_response(ref.ocsp_file, *chain);
  if (!ocsp) return std::move(ocsp).error();
  pair.ocsp = std::move(*ocsp);
  return pair;
}

// ---- the common kinds ---------------------------------------------------------------------------

namespace {

constexpr unsigned kInteger = 0x02;
constexpr unsigned kBitString = 0x03;
constexpr unsigned kOctetString = 0x04;
constexpr unsigned kObjectId = 0x06;
constexpr unsigned kUtcTime = 0x17;
constexpr unsigned kGeneralizedTime = 0x18;
constexpr unsigned kSequence = 0x30;
constexpr unsigned kContext0 = 0xa0;
constexpr unsigned kContext1 = 0xa1;
constexpr unsigned kContext3 = 0xa3;

/// Elements of DER, one after the other (X.690). What is not as expected breaks it for good.
class Der {
 public:
  explicit Der(std::string_view bytes) : rest_{bytes} {}

  [[nodiscard]] bool next_is(unsigned tag) const {
    return !rest_.empty() && static_cast<unsigned char>(rest_.front()) == tag;
  }
  /// The next element, header and all, which must have that tag; empty when it is broken.
  std::string_view element(unsigned tag) { return take(tag, true); }
  std::string_view content(unsigned tag) { return take(tag, false); }
  /// A bit string of whole bytes.
  std::string_view bits() {
    const std::string_view text = content(kBitString);
    if (text.empty() || text.front() != 0) broken_ = true;
    return broken_ ? std::string_view{} : text.substr(1);
  }
  /// An INTEGER that is not negative, as it stands; and in the shortest form.
  std::string_view number() {
    const std::string_view text = content(kInteger);
    const auto at = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
    if (text.empty() || at(0) >= 0x80 || (text.size() > 1 && at(0) == 0 && at(1) < 0x80))
      broken_ = true;
    return text;
  }
  /// An OBJECT IDENTIFIER, whose arcs are whole and in the shortest form.
  std::string_view object_id() {
    const std::string_view text = content(kObjectId);
    bool is_start = true;
    for (const char c : text) {
      const auto byte = static_cast<unsigned char>(c);
      if (is_start && byte == 0x80) broken_ = true;
      is_start = byte < 0x80;
    }
    if (text.empty() || !is_start) broken_ = true;
    return text;
  }
  void expect(unsigned tag, std::string_view wanted) {
    if (content(tag) != wanted) broken_ = true;
  }
  /// Everything was as expected, and there is no more.
  [[nodiscard]] bool complete() const { return !broken_ && rest_.empty(); }
  [[nodiscard]] bool broken() const { return broken_; }
  [[nodiscard]] bool empty() const { return rest_.empty(); }

 private:
  std::string_view take(unsigned tag, bool whole) {
    const auto at = [&](std::size_t i) { return static_cast<unsigned char>(rest_[i]); };
    if (!next_is(tag) || rest_.size() < 2) broken_ = true;
    if (broken_) return {};
    std::size_t header = 2;
    std::size_t size = at(1);
    std::size_t shortest = 0;
    if (size == 0x81 && rest_.size() >= 3) {
      header = 3;
      size = at(2);
      shortest = 0x80;
    } else if (size == 0x82 && rest_.size() >= 4) {  // longer than 64 KiB is nothing common
      header = 4;
      size = std::size_t{at(2)} << 8 | at(3);
      shortest = 0x100;
    } else if (size >= 0x80) {
      broken_ = true;
    }
    if (broken_ || size < shortest || rest_.size() - header < size) {
      broken_ = true;
      return {};
    }
    const std::string_view taken = rest_.substr(whole ? 0 : header, size + (whole ? header : 0));
    rest_.remove_prefix(header + size);
    return taken;
  }

  std::string_view rest_;
  bool broken_ = false;
};

using namespace std::string_view_literals;

constexpr std::string_view kVersion3 = "\x02\x01\x02"sv;
constexpr std::string_view kSubjectAltName = "\x55\x1d\x11"sv;
constexpr std::string_view kRsaKey = "\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00"sv;
constexpr std::string_view kEcKey = "\x06\x07\x2a\x86\x48\xce\x3d\x02\x01"sv;

struct Curve {
  std::string_view id;  // element
  std::size_t size;     // of a coordinate
  int number;           // OpenSSL's
};
constexpr std::array<Curve, 2> kCurves{{
    {"\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07"sv, 32, NID_X9_62_prime256v1},
    {"\x06\x05\x2b\x81\x04\x00\x22"sv, 48, NID_secp384r1},
}};

using UniqueGroup = std::unique_ptr<EC_GROUP, FreeWith<&EC_GROUP_free>>;
using UniquePoint = std::unique_ptr<EC_POINT, FreeWith<&EC_POINT_free>>;

/// Whether a point in uncompressed form lies on its curve; OpenSSL refuses others as it reads them.
bool is_on(const Curve& curve, std::string_view point) {
  static const std::array<UniqueGroup, kCurves.size()> kGroups{
      UniqueGroup{EC_GROUP_new_by_curve_name(kCurves[0].number)},
      UniqueGroup{EC_GROUP_new_by_curve_name(kCurves[1].number)}};
  const EC_GROUP* const group = kGroups[static_cast<std::size_t>(&curve - kCurves.data())].get();
  const UniquePoint result{group != nullptr ? EC_POINT_new(group) : nullptr};
  const auto* const bytes = reinterpret_cast<const unsigned char*>(point.data());  // chars as bytes
  const bool good =
      result && EC_POINT_oct2point(group, result.get(), bytes, point.size(), nullptr) == 1;
  ERR_clear_error();
  return good;
}

/// ECDSA and RSA (PKCS #1) with SHA-256, -384, -512: content of an AlgorithmIdentifier.
constexpr std::array<std::string_view, 6> kSignatures{
    "\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02"sv,
    "\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x03"sv,
    "\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x04"sv,
    "\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b\x05\x00"sv,
    "\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0c\x05\x00"sv,
    "\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0d\x05\x00"sv};

/// What must be the same in a certificate and in its key.
struct PublicKey {
  const Curve* curve = nullptr;  // none: RSA
  std::string_view one;          // the point, or the modulus
  std::string_view two;          // the exponent
  friend bool operator==(const PublicKey&, const PublicKey&) = default;
};

std::optional<PublicKey> read_public(std::string_view algorithm, std::string_view key) {
  if (algorithm == kRsaKey) {
    Der outer{key};
    Der inner{outer.content(kSequence)};
    const PublicKey rsa{nullptr, inner.number(), inner.number()};
    constexpr std::size_t kModulusMin = 1 + 256;  // a zero in front, since its first bit is set
    const bool good = outer.complete() && inner.complete() && rsa.one.size() >= kModulusMin;
    return good ? std::optional{rsa} : std::nullopt;
  }
  if (!algorithm.starts_with(kEcKey)) return std::nullopt;
  for (const Curve& curve : kCurves) {
    if (algorithm.substr(kEcKey.size()) != curve.id) continue;
    constexpr char kUncompressed = 4;
    if (key.size() == 1 + 2 * curve.size && key.front() == kUncompressed && is_on(curve, key))
      return PublicKey{&curve, key, {}};
  }
  return std::nullopt;
}

struct Facts {
  PublicKey key;
  std::string_view subject;       // element
  std::string_view issuer;        // element
  std::string_view not_before;    // element
  std::string_view not_after;     // element
  std::string_view alternatives;  // content of the extension; empty: none
};

/// RFC 5280, section 4.1.
std::optional<Facts> read_certificate(std::string_view der) {
  Der outer{der};
  Der certificate{outer.content(kSequence)};
  Der body{certificate.content(kSequence)};
  const std::string_view signature = certificate.content(kSequence);
  certificate.bits();
  body.expect(kContext0, kVersion3);
  body.number();  // serial
  const bool signatures_agree = body.content(kSequence) == signature;
  Facts facts;
  facts.issuer = body.element(kSequence);
  Der validity{body.content(kSequence)};
  facts.not_before = validity.element(validity.next_is(kUtcTime) ? kUtcTime : kGeneralizedTime);
  facts.not_after = validity.element(validity.next_is(kUtcTime) ? kUtcTime : kGeneralizedTime);
  facts.subject = body.element(kSequence);
  Der key_info{body.content(kSequence)};
  const std::string_view algorithm = key_info.content(kSequence);
  const auto key = read_public(algorithm, key_info.bits());
  Der wrapped{body.empty() ? std::string_view{} : body.content(kContext3)};
  Der extensions{wrapped.empty() ? std::string_view{} : wrapped.content(kSequence)};
  while (!extensions.empty() && !extensions.broken()) {
    Der extension{extensions.content(kSequence)};
    const std::string_view id = extension.object_id();
    constexpr unsigned kBoolean = 0x01;
    if (extension.next_is(kBoolean)) extension.expect(kBoolean, "\xff"sv);
    const std::string_view value = extension.content(kOctetString);
    if (!extension.complete()) return std::nullopt;
    if (id != kSubjectAltName) continue;
    if (!facts.alternatives.empty() || value.empty()) return std::nullopt;
    facts.alternatives = value;
  }
  const bool known =
      std::find(kSignatures.begin(), kSignatures.end(), signature) != kSignatures.end();
  const bool good = outer.complete() && certificate.complete() && body.complete() &&
                    validity.complete() && key_info.complete() && wrapped.complete() &&
                    extensions.complete() && signatures_agree && known && key;
  if (!good) return std::nullopt;
  facts.key = *key;
  return facts;
}

/// RFC 5915; in PKCS #8 the curve stands outside and may be left out here.
std::optional<PublicKey> read_ec_key(std::string_view der, const Curve* outside) {
  Der outer{der};
  Der key{outer.content(kSequence)};
  key.expect(kInteger, "\x01"sv);
  const std::size_t secret_size = key.content(kOctetString).size();
  const Curve* curve = outside;
  if (key.next_is(kContext0)) {
    const std::string_view id = key.content(kContext0);
    const auto found = std::find_if(kCurves.begin(), kCurves.end(),
                                    [&](const Curve& known) { return known.id == id; });
    if (found == kCurves.end() || (outside != nullptr && outside != &*found)) return std::nullopt;
    curve = &*found;
  }
  Der wrapped{key.content(kContext1)};
  const PublicKey result{curve, wrapped.bits(), {}};
  const bool good = outer.complete() && key.complete() && wrapped.complete() && curve != nullptr &&
                    secret_size == curve->size;
  return good ? std::optional{result} : std::nullopt;
}

/// RFC 8017, appendix A.1.2.
std::optional<PublicKey> read_rsa_key(std::string_view der) {
  Der outer{der};
  Der key{outer.content(kSequence)};
  key.expect(kInteger, "\x00"sv);
  const PublicKey result{nullptr, key.number(), key.number()};
  constexpr int kSecretNumbers = 6;
  for (int i = 0; i < kSecretNumbers; ++i)
    key.number();
  return outer.complete() && key.complete() ? std::optional{result} : std::nullopt;
}

/// RFC 5208, section 5.
std::optional<PublicKey> read_pkcs8(std::string_view der) {
  Der outer{der};
  Der info{outer.content(kSequence)};
  info.expect(kInteger, "\x00"sv);
  const std::string_view algorithm = info.content(kSequence);
  const std::string_view inner = info.content(kOctetString);
  if (!outer.complete() || !info.complete()) return std::nullopt;
  if (algorithm == kRsaKey) return read_rsa_key(inner);
  for (const Curve& curve : kCurves)
    if (algorithm.starts_with(kEcKey) && algorithm.substr(kEcKey.size()) == curve.id)
      return read_ec_key(inner, &curve);
  return std::nullopt;
}

std::string_view text_of(const PemBlock& block) {
  return as_text(std::as_bytes(block.der.bytes()));
}

std::optional<PublicKey> read_key_block(const PemBlock& block) {
  if (block.name == "PRIVATE KEY") return read_pkcs8(text_of(block));
  if (block.name == "EC PRIVATE KEY") return read_ec_key(text_of(block), nullptr);
  if (block.name == "RSA PRIVATE KEY") return read_rsa_key(text_of(block));
  return std::nullopt;
}

bool is_key(const PemBlock& block) { return block.name.ends_with("PRIVATE KEY"); }

/// A part of a certificate by OpenSSL's decoder for it, which must take all of it.
template <auto kDecode, typename Unique>
Unique decode(std::string_view der) {
  const auto* at = reinterpret_cast<const unsigned char*>(der.data());  // chars as bytes
  const auto* const end = at + der.size();
  Unique decoded{kDecode(nullptr, &at, static_cast<long>(der.size()))};
  ERR_clear_error();
  return at == end ? std::move(decoded) : Unique{};
}

using UniqueName = std::unique_ptr<X509_NAME, FreeWith<&X509_NAME_free>>;
using UniqueTime = std::unique_ptr<ASN1_TIME, FreeWith<&ASN1_TIME_free>>;

/// What is left to say once the bytes are in place; false where OpenSSL does not understand them,
/// or it is not their time.
bool describe(const Facts& facts, std::int64_t now_s, Pair& pair) {
  const auto subject = decode<&d2i_X509_NAME, UniqueName>(facts.subject);
  const auto issuer = decode<&d2i_X509_NAME, UniqueName>(facts.issuer);
  const auto not_before = decode<&d2i_ASN1_TIME, UniqueTime>(facts.not_before);
  const auto not_after = decode<&d2i_ASN1_TIME, UniqueTime>(facts.not_after);
  if (!subject || !issuer || !not_before || !not_after) return false;
  UniqueAlternatives alternatives;
  if (!facts.alternatives.empty()) {
    alternatives = decode<&d2i_GENERAL_NAMES, UniqueAlternatives>(facts.alternatives);
    if (!alternatives) return false;
  }
  pair.names = dns_names(alternatives.get());
  pair.addresses = address_names(alternatives.get());
  pair.subject = subject_text(subject.get());
  pair.common_name = common_name(subject.get());
  pair.not_after = seconds_of(not_after.get());
  const std::int64_t begin_s = seconds_of(not_before.get());
  return begin_s != 0 && begin_s < now_s && now_s < pair.not_after;
}

}  // namespace

std::optional<Pair> read_plain_pair(const control::CertificateRef& ref, std::int64_t now_s) {
  if (!ref.ocsp_file.empty()) return std::nullopt;
  auto blocks = read_pem_blocks(ref.certificate_file);
  if (!blocks) return std::nullopt;
  const bool one_file = ref.key_file == ref.certificate_file;
  if (!one_file) {
    auto others = read_pem_blocks(ref.key_file);
    if (!others || std::any_of(blocks->begin(), blocks->end(), is_key) ||
        !std::all_of(others->begin(), others->end(), is_key))
      return std::nullopt;
    std::move(others->begin(), others->end(), std::back_inserter(*blocks));
  }
  Pair pair;
  std::optional<Facts> facts;
  std::optional<PublicKey> key;
  for (PemBlock& block : *blocks) {
    if (is_key(block)) {
      if (key || !(key = read_key_block(block))) return std::nullopt;
      pair.key = SecretBytes{block.der.bytes()};
    } else if (block.name != "CERTIFICATE") {
      return std::nullopt;
    } else if (!facts) {
      pair.leaf = text_of(block);
      if (!(facts = read_certificate(pair.leaf))) return std::nullopt;
    } else {
      pair.issuers.emplace_back(text_of(block));
    }
  }
  // The key's view is of `blocks`, which are still there.
  if (!facts || !key || !(facts->key == *key)) return std::nullopt;
  pair.kind = key->curve != nullptr ? KeyKind::kEc : KeyKind::kRsa;
  pair.key_type = key->curve != nullptr ? "EC" : "RSA";
  if (!describe(*facts, now_s, pair)) return std::nullopt;
  return pair;
}

}  // namespace weir::tls
