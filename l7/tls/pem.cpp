#include "l7/tls/pem.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <openssl/ocsp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <ctime>

#include "l4/base/bytes.h"
#include "l4/base/fd.h"
#include "l4/control/model.h"

namespace weir::tls {

namespace {

/// Chains are a few KiB; a larger file is a mistake.
constexpr std::size_t kFileBytesMax = 1024 * 1024;
constexpr std::size_t kChainLengthMax = 16;
constexpr std::size_t kAuthoritiesMax = 1024;

/// The bytes of a file that may hold a private key: wiped before the memory is returned.
class SecretText {
 public:
  explicit SecretText(std::size_t size) : bytes_(size) {}
  SecretText(SecretText&&) = default;
  SecretText& operator=(SecretText&&) = delete;
  ~SecretText() { OPENSSL_cleanse(bytes_.data(), bytes_.size()); }

  [[nodiscard]] std::span<char> space() { return bytes_; }
  /// A reader over the bytes, which must outlive it.
  [[nodiscard]] UniqueBio reader(std::size_t size) const {
    return UniqueBio{BIO_new_mem_buf(bytes_.data(), static_cast<int>(size))};
  }

 private:
  std::vector<char> bytes_;
};

struct FileContent {
  SecretText text;
  std::size_t size;
  [[nodiscard]] UniqueBio reader() const { return text.reader(size); }
};

Result<FileContent> read_file(std::string_view what, const std::string& path) {
  const UniqueFd fd{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  if (!fd)
    return Error::from_errno(fmt::format("{} {}", what, path))
        .with_remedy("give the path of a file that this process may read");
  struct stat status {};
  if (::fstat(fd.get(), &status) != 0) return Error::from_errno(fmt::format("{} {}", what, path));
  if (!S_ISREG(status.st_mode))
    return Error{ErrorCode::kInvalid, fmt::format("{} {}: not a regular file", what, path),
                 "give the path of a file"};
  if (status.st_size == 0 || static_cast<std::uint64_t>(status.st_size) > kFileBytesMax)
    return Error{ErrorCode::kInvalid,
                 fmt::format("{} {}: {} bytes long", what, path, status.st_size),
                 fmt::format("give a file of at most {} bytes", kFileBytesMax)};
  FileContent content{SecretText{static_cast<std::size_t>(status.st_size)}, 0};
  const auto space = content.text.space();
  while (content.size < space.size()) {
    const ssize_t count =
        ::read(fd.get(), space.data() + content.size, space.size() - content.size);
    if (count < 0) return Error::from_errno(fmt::format("{} {}", what, path));
    if (count == 0) break;  // it became shorter; the parser will say what is missing
    content.size += static_cast<std::size_t>(count);
  }
  return content;
}

}  // namespace

std::optional<std::vector<PemBlock>> read_pem_blocks(const std::string& path) {
  const auto content = read_file("file", path);
  if (!content) return std::nullopt;
  const UniqueBio reader = content->reader();
  std::vector<PemBlock> blocks;
  constexpr std::size_t kBlocksMax = 2 * kChainLengthMax;
  while (blocks.size() <= kBlocksMax) {
    char* name = nullptr;
    char* headers = nullptr;
    unsigned char* der = nullptr;
    long size = 0;
    if (PEM_read_bio(reader.get(), &name, &headers, &der, &size) != 1) {
      const bool is_end = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
      ERR_clear_error();
      return is_end ? std::optional{std::move(blocks)} : std::nullopt;
    }
    const bool is_bare = *headers == '\0';
    blocks.push_back({name, SecretBytes{std::span{der, static_cast<std::size_t>(size)}}});
    OPENSSL_free(name);
    OPENSSL_free(headers);
    OPENSSL_clear_free(der, static_cast<std::size_t>(size));
    if (!is_bare) return std::nullopt;
  }
  return std::nullopt;
}

Result<Chain> read_chain(const std::string& path) {
  auto content = read_file("certificate file", path);
  if (!content) return std::move(content).error();
  const UniqueBio reader = content->reader();
  Chain chain;
  for (std::size_t count = 0; count < kChainLengthMax; ++count) {
    X509* certificate = X509_new();
    if (PEM_read_bio_X509(reader.get(), &certificate, nullptr, nullptr) == nullptr) {
      X509_free(certificate);
      const bool is_end = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
      const std::string_view reason = take_openssl_reason();
      if (is_end && chain.leaf) return chain;
      if (is_end)
        return Error{ErrorCode::kInvalid,
                     fmt::format("certificate file {}: no certificate in it", path),
                     "expected a block that starts with -----BEGIN CERTIFICATE-----"};
      return Error{ErrorCode::kInvalid,
                   fmt::format("certificate file {}: certificate number {} cannot be read: {}",
                               path, count + 1, reason),
                   "write the file again from what the issuer delivered"};
    }
    if (!chain.leaf)
      chain.leaf.reset(certificate);
    else
      chain.issuers.emplace_back(certificate);
  }
  return Error{ErrorCode::kInvalid,
               fmt::format("certificate file {}: more than {} certificates", path, kChainLengthMax),
               "keep the server's certificate and its issuers"};
}

namespace {

/// Called by OpenSSL when a key is encrypted; the default would ask on the terminal.
int refuse_passphrase(char*, int, int, void* asked) {
  *static_cast<bool*>(asked) = true;
  return -1;
}

}  // namespace

Result<UniqueKey> read_key(const std::string& path) {
  auto content = read_file("key file", path);
  if (!content) return std::move(content).error();
  const UniqueBio reader = content->reader();
  bool is_encrypted = false;
  UniqueKey key{PEM_read_bio_PrivateKey(reader.get(), nullptr, refuse_passphrase, &is_encrypted)};
  const std::string_view reason = take_openssl_reason();
  if (key) return key;
  if (is_encrypted)
    return Error{ErrorCode::kInvalid,
                 fmt::format("key file {}: the private key is encrypted", path),
                 "store it without a passphrase (openssl pkey -in FILE -out NEW), readable only by "
                 "the user of this process"};
  const std::string_view text{content->text.space().data(), content->size};
  if (text.find("PRIVATE KEY-----") == std::string_view::npos)
    return Error{ErrorCode::kInvalid, fmt::format("key file {}: no private key in it", path),
                 "expected a block that starts with -----BEGIN PRIVATE KEY-----"};
  return Error{ErrorCode::kInvalid,
               fmt::format("key file {}: the private key cannot be read: {}", path, reason),
               "write the file again from the original key"};
}

std::int64_t seconds_of(const ASN1_TIME* time) {
  std::tm broken_down{};
  return ASN1_TIME_to_tm(time, &broken_down) == 1 ? timegm(&broken_down) : 0;
}

namespace {

std::string date_text(const ASN1_TIME* time) {
  std::tm t{};
  if (ASN1_TIME_to_tm(time, &t) != 1) return "an unreadable date";
  return fmt::format("{:04}-{:02}-{:02} {:02}:{:02}:{:02} UTC", t.tm_year + 1900, t.tm_mon + 1,
                     t.tm_mday, t.tm_hour, t.tm_min, t.tm_sec);
}

}  // namespace

Result<void> check_dates(const X509* certificate, const std::string& path) {
  const ASN1_TIME* const not_before = X509_get0_notBefore(certificate);
  const ASN1_TIME* const not_after = X509_get0_notAfter(certificate);
  // 0 is OpenSSL's answer for a time it cannot read; that one is refused as well.
  if (X509_cmp_current_time(not_after) <= 0)
    return Error{ErrorCode::kInvalid,
                 fmt::format("certificate file {}: expired on {}", path, date_text(not_after)),
                 "renew the certificate; clients would refuse it"};
  if (X509_cmp_current_time(not_before) >= 0)
    return Error{
        ErrorCode::kInvalid,
        fmt::format("certificate file {}: not valid before {}", path, date_text(not_before)),
        "check the clock of this machine, or wait"};
  return {};
}

std::string to_lower(std::string_view text) {
  std::string lower{text};
  for (char& c : lower)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return lower;
}

namespace {

/// A name that can be compared with an SNI: characters of host names, and '*' only as the whole
/// first label with at least two labels behind it. Everything else is ignored, above all a NUL,
/// behind which other software sees no more.
bool is_usable_name(std::string_view name) {
  if (name.starts_with("*.")) {
    name.remove_prefix(2);
    if (name.find('.') == std::string_view::npos) return false;
  }
  return !name.empty() && name.front() != '.' && std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.';
  });
}

}  // namespace

UniqueAlternatives alternatives_of(const X509* certificate) {
  UniqueAlternatives alternatives{static_cast<GENERAL_NAMES*>(
      X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr))};
  ERR_clear_error();  // no such extension is no failure
  return alternatives;
}

/// The common name is not used: clients stopped looking at it (RFC 9525).
std::vector<std::string> dns_names(const GENERAL_NAMES* alternatives) {
  std::vector<std::string> names;
  const int count = alternatives != nullptr ? sk_GENERAL_NAME_num(alternatives) : 0;
  for (int i = 0; i < count; ++i) {
    const GENERAL_NAME* const alternative = sk_GENERAL_NAME_value(alternatives, i);
    if (alternative->type != GEN_DNS) continue;
    // With its length: the string may hold NUL bytes.
    const ASN1_IA5STRING* const text = alternative->d.dNSName;
    const std::string name = to_lower(as_text(std::as_bytes(std::span{
        ASN1_STRING_get0_data(text), static_cast<std::size_t>(ASN1_STRING_length(text))})));
    if (is_usable_name(name)) names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
  return names;
}

std::string subject_text(const X509_NAME* subject) {
  const UniqueBio out{BIO_new(BIO_s_mem())};
  if (!out) return {};
  X509_NAME_print_ex(out.get(), subject, 0, XN_FLAG_RFC2253);
  const char* text = nullptr;
  const long size = BIO_get_mem_data(out.get(), &text);
  return {text, static_cast<std::size_t>(std::max(size, 0L))};
}

std::string common_name(const X509_NAME* subject) {
  const int index = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
  if (index < 0) return {};
  const ASN1_STRING* const value = X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, index));
  unsigned char* utf8 = nullptr;
  const int size = ASN1_STRING_to_UTF8(&utf8, value);
  if (size < 0) return {};
  std::string name{as_text(std::as_bytes(std::span{utf8, static_cast<std::size_t>(size)}))};
  OPENSSL_free(utf8);
  return name;
}

std::vector<std::string> address_names(const GENERAL_NAMES* alternatives) {
  std::vector<std::string> addresses;
  const int count = alternatives != nullptr ? sk_GENERAL_NAME_num(alternatives) : 0;
  for (int i = 0; i < count; ++i) {
    const GENERAL_NAME* const alternative = sk_GENERAL_NAME_value(alternatives, i);
    if (alternative->type != GEN_IPADD) continue;
    const ASN1_OCTET_STRING* const bytes = alternative->d.iPAddress;
    const int size = ASN1_STRING_length(bytes);
    if (size != 4 && size != 16) continue;  // RFC 5280, section 4.2.1.6
    char text[INET6_ADDRSTRLEN];
    const int family = size == 4 ? AF_INET : AF_INET6;
    if (::inet_ntop(family, ASN1_STRING_get0_data(bytes), text, sizeof text) == nullptr) continue;
    if (const auto address = wire::IpAddress::parse(text)) addresses.push_back(address->text());
  }
  std::sort(addresses.begin(), addresses.end());
  return addresses;
}

std::string der_of(const X509* certificate) {
  unsigned char* der = nullptr;
  const int size = i2d_X509(certificate, &der);
  if (size <= 0) return {};
  std::string text{as_text(std::as_bytes(std::span{der, static_cast<std::size_t>(size)}))};
  OPENSSL_free(der);
  return text;
}

UniqueCertificate certificate_from(OSSL_LIB_CTX* library, std::string_view der) {
  X509* certificate = X509_new_ex(library, nullptr);
  const auto* at = reinterpret_cast<const unsigned char*>(der.data());  // chars as bytes
  // On failure d2i frees what it was given.
  if (certificate != nullptr &&
      d2i_X509(&certificate, &at, static_cast<long>(der.size())) == nullptr)
    return nullptr;
  return UniqueCertificate{certificate};
}

Result<std::vector<std::string>> read_authorities(const std::string& path) {
  auto content = read_file("CA file", path);
  if (!content) return std::move(content).error();
  const UniqueBio reader = content->reader();
  std::vector<std::string> authorities;
  while (authorities.size() <= kAuthoritiesMax) {
    const UniqueCertificate certificate{PEM_read_bio_X509(reader.get(), nullptr, nullptr, nullptr)};
    if (certificate) {
      authorities.push_back(der_of(certificate.get()));
      continue;
    }
    const bool is_end = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
    const std::string_view reason = take_openssl_reason();
    if (is_end && !authorities.empty()) return authorities;
    if (is_end)
      return Error{ErrorCode::kInvalid, fmt::format("CA file {}: no certificate in it", path),
                   "expected a block that starts with -----BEGIN CERTIFICATE-----"};
    return Error{ErrorCode::kInvalid,
                 fmt::format("CA file {}: certificate number {} cannot be read: {}", path,
                             authorities.size() + 1, reason),
                 "write the file again from what the authority gave out"};
  }
  return Error{ErrorCode::kInvalid,
               fmt::format("CA file {}: more than {} certificates", path, kAuthoritiesMax),
               "keep the authorities that are meant"};
}

namespace {

using UniqueResponse = std::unique_ptr<OCSP_RESPONSE, FreeWith<&OCSP_RESPONSE_free>>;
using UniqueBasic = std::unique_ptr<OCSP_BASICRESP, FreeWith<&OCSP_BASICRESP_free>>;
using UniqueCertId = std::unique_ptr<OCSP_CERTID, FreeWith<&OCSP_CERTID_free>>;

Error ocsp_error(const std::string& path, std::string_view problem) {
  ERR_clear_error();
  return Error{ErrorCode::kInvalid, fmt::format("OCSP file {}: {}", path, problem),
               "fetch the response again for this certificate (openssl ocsp -issuer ISSUER -cert "
               "CERTIFICATE -url URL -respout FILE)"};
}

/// The authority's signature, or that of a responder it has delegated to (RFC 6960, 4.2.2.2).
bool is_signed_by(OCSP_BASICRESP* basic, X509* issuer) {
  const UniqueStack issuers{sk_X509_new_null()};
  const UniqueStore store{X509_STORE_new()};
  if (!issuers || !store || sk_X509_push(issuers.get(), issuer) == 0 ||
      X509_STORE_add_cert(store.get(), issuer) != 1)
    return false;
  // The issuer is trusted here although it may be no root: the file says that it is ours.
  X509_STORE_set_flags(store.get(), X509_V_FLAG_PARTIAL_CHAIN);
  const bool good = OCSP_basic_verify(basic, issuers.get(), store.get(), 0) == 1;
  ERR_clear_error();
  return good;
}

}  // namespace

Result<OcspResponse> read_ocsp_response(const std::string& path, const Chain& chain) {
  auto content = read_file("OCSP file", path);
  if (!content) return std::move(content).error();
  const UniqueBio reader = content->reader();
  const UniqueResponse response{d2i_OCSP_RESPONSE_bio(reader.get(), nullptr)};
  if (!response) return ocsp_error(path, "not an OCSP response in DER");
  if (const int status = OCSP_response_status(response.get());
      status != OCSP_RESPONSE_STATUS_SUCCESSFUL)
    return ocsp_error(
        path, fmt::format("the responder has answered \"{}\"", OCSP_response_status_str(status)));
  const UniqueBasic basic{OCSP_response_get1_basic(response.get())};
  if (!basic) return ocsp_error(path, "not a basic OCSP response");
  if (chain.issuers.empty())
    return ocsp_error(path, "the certificate file has no issuer to hold it against");
  X509* const issuer = chain.issuers.front().get();
  ASN1_GENERALIZEDTIME* this_update = nullptr;
  ASN1_GENERALIZEDTIME* next_update = nullptr;
  int status = -1;
  bool found = false;
  for (const EVP_MD* digest : {EVP_sha1(), EVP_sha256()}) {
    const UniqueCertId id{OCSP_cert_to_id(digest, chain.leaf.get(), issuer)};
    if (!found && id)
      found = OCSP_resp_find_status(basic.get(), id.get(), &status, nullptr, nullptr, &this_update,
                                    &next_update) == 1;
  }
  if (!found) return ocsp_error(path, "it is about another certificate");
  if (status != V_OCSP_CERTSTATUS_GOOD)
    return ocsp_error(
        path, fmt::format("it says that the certificate is {}", OCSP_cert_status_str(status)));
  if (!is_signed_by(basic.get(), issuer))
    return ocsp_error(path, "its signature is not that of the certificate's issuer");
  if (next_update == nullptr) return ocsp_error(path, "it does not say until when it holds");
  return OcspResponse{std::string{content->text.space().data(), content->size},
                      seconds_of(next_update)};
}

}  // namespace weir::tls
