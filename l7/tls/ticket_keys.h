#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "l4/base/result.h"

namespace weir::tls {

/// A key is replaced after this time. It still opens tickets until two others have followed it, so
/// that a ticket lives between 12 and 18 hours; kTicketLifetimeS promises the shorter one.
inline constexpr std::int64_t kTicketKeyTimeS = 6 * 3600;
inline constexpr std::size_t kTicketKeysMax = 3;
inline constexpr std::int64_t kTicketLifetimeS = 12 * 3600;

/// Seals session tickets (RFC 5077, section 4): AES-256-CBC and HMAC-SHA256.
struct TicketKey {
  std::array<unsigned char, 16> name{};  ///< travels in the clear, to find the key again
  std::array<unsigned char, 32> cipher{};
  std::array<unsigned char, 32> mac{};
  std::int64_t created_s = 0;  ///< seconds since 1970
};

/// The newest first: that one seals, all of them open. Plain values, copied to every worker, so
/// that a ticket of one is good with the others. Wiped when it goes.
struct TicketKeySet {
  TicketKeySet() = default;
  TicketKeySet(const TicketKeySet&) = default;
  TicketKeySet& operator=(const TicketKeySet&) = default;
  ~TicketKeySet();

  std::array<TicketKey, kTicketKeysMax> keys{};
  std::size_t count = 0;
};

/// The keys of this node in a file of mode 0600, so that clients resume after a restart. Belongs to
/// the control thread: it rotates by the clock and hands copies to the workers.
class TicketKeyFile {
 public:
  /// Reads the file, or makes it where there is none. A file that others may read or that is
  /// damaged is an error: whoever knows a key reads recorded TLS 1.2 connections. Drops keys whose
  /// time is over.
  [[nodiscard]] static Result<TicketKeyFile> open(std::string path, std::int64_t now_s);

  [[nodiscard]] const TicketKeySet& keys() const { return keys_; }
  [[nodiscard]] bool is_due(std::int64_t now_s) const;
  /// A new key in front, on disk before it is used. When that fails, the old keys go on.
  [[nodiscard]] Result<void> rotate(std::int64_t now_s);

 private:
  TicketKeyFile(std::string path, const TicketKeySet& keys) : path_{std::move(path)}, keys_{keys} {}

  std::string path_;
  TicketKeySet keys_;
};

}  // namespace weir::tls
