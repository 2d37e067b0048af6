#include <openssl/pem.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <ctime>
#include <string>
#include <string_view>

#include "l4/base/assert.h"
#include "l4/base/bytes.h"
#include "l4/base/fd.h"
#include "l7/tls/pair.h"
#include "l7/tls/state.h"

/// Files of certificates and keys: what the quick reader takes, OpenSSL takes as well, and both say
/// the same about it. The first byte says what the rest is: a file as it stands, or (so that DER is
/// changed and not its letters) two bytes with the length of a certificate, the certificate, and
/// its key.
namespace {

using namespace weir;
using namespace weir::tls;

constexpr std::array<const char*, 3> kKeyNames{"PRIVATE KEY", "EC PRIVATE KEY", "RSA PRIVATE KEY"};

std::string pem_block(const char* name, std::string_view der) {
  const UniqueBio out{BIO_new(BIO_s_mem())};
  PEM_write_bio(out.get(), name, "",
                reinterpret_cast<const unsigned char*>(der.data()),  // chars as bytes
                static_cast<long>(der.size()));
  const char* data = nullptr;
  const long size = BIO_get_mem_data(out.get(), &data);
  return {data, static_cast<std::size_t>(size)};
}

/// The file that an input means.
std::string file_of(std::string_view input) {
  const auto kind = static_cast<unsigned char>(input.front());
  input.remove_prefix(1);
  if (kind % 4 == 3 || input.size() < 2) return std::string{input};
  const std::size_t wanted = std::size_t{static_cast<unsigned char>(input[0])} << 8 |
                             std::size_t{static_cast<unsigned char>(input[1])};
  input.remove_prefix(2);
  const std::size_t leaf_size = std::min(wanted, input.size());
  return pem_block("CERTIFICATE", input.substr(0, leaf_size)) +
         pem_block(kKeyNames[kind % 4], input.substr(leaf_size));
}

/// A file in memory, under a path.
class MemoryFile {
 public:
  void write(std::string_view text) const {
    WEIR_ASSERT(::ftruncate(fd_.get(), 0) == 0);
    WEIR_ASSERT(::pwrite(fd_.get(), text.data(), text.size(), 0) ==
                static_cast<ssize_t>(text.size()));
  }
  [[nodiscard]] control::CertificateRef ref() const {
    const std::string path = "/proc/self/fd/" + std::to_string(fd_.get());
    return {path, path};
  }

 private:
  UniqueFd fd_{::memfd_create("pair", MFD_CLOEXEC)};
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const MemoryFile file;
  static const control::CertificateRef ref = file.ref();
  static const UniqueContext trial = std::move(*make_base_context(nullptr, TLS_server_method()));
  if (size == 0) return 0;
  file.write(file_of(as_text(std::as_bytes(std::span{data, size}))));
  const auto quick = read_plain_pair(ref, std::time(nullptr));
  if (!quick) return 0;
  const auto slow = read_pair(ref, trial.get());
  // Whoever has issuers that OpenSSL has not read byte for byte goes to it with all of them.
  if (!quick->issuers.empty() && (!slow || slow->issuers != quick->issuers)) return 0;
  if (!slow) std::fprintf(stderr, "%s\n", slow.error().text().c_str());
  WEIR_ASSERT(slow);
  WEIR_ASSERT(quick->leaf == slow->leaf);
  WEIR_ASSERT(quick->kind == slow->kind && quick->key_type == slow->key_type);
  WEIR_ASSERT(quick->names == slow->names && quick->addresses == slow->addresses);
  WEIR_ASSERT(quick->subject == slow->subject && quick->common_name == slow->common_name);
  WEIR_ASSERT(quick->not_after == slow->not_after);
  return 0;
}
