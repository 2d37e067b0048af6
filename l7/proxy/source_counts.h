#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <unordered_map>
#include <utility>

#include "l4/base/assert.h"
#include "l4/base/siphash.h"
#include "l4/wire/address.h"

namespace weir::proxy {

/// How many connections each source has to each address and port of a gateway, at one worker. A
/// source is an IPv4 address, or an IPv6 network of 64 bits: who has one address of that has all of
/// them (RFC 4291, section 2.5.4); a larger site counts as several. As large as there are clients;
/// a source without connections has no entry.
class SourceCounts {
  struct Key {
    wire::IpAddress source;
    wire::Endpoint at;
    friend bool operator==(const Key&, const Key&) = default;
  };

 public:
  explicit SourceCounts(const SipKey& key) : counts_{0, Hash{key}} {}

  /// Whoever holds one takes part in the count. Moved with its connection; zero: counted nowhere.
  class Ticket {
   public:
    Ticket() = default;
    Ticket(Ticket&& other) noexcept
        : counts_{std::exchange(other.counts_, nullptr)}, key_{other.key_} {}
    Ticket& operator=(Ticket&& other) noexcept {
      std::swap(counts_, other.counts_);
      std::swap(key_, other.key_);
      return *this;
    }
    ~Ticket() {
      if (counts_ != nullptr) counts_->leave(key_);
    }
    explicit operator bool() const { return counts_ != nullptr; }

   private:
    friend class SourceCounts;
    Ticket(SourceCounts& counts, const Key& key) : counts_{&counts}, key_{key} {}
    SourceCounts* counts_ = nullptr;
    Key key_{};
  };

  /// One more connection of that client there, or nothing where it has as many as it may; 0: no
  /// limit.
  [[nodiscard]] Ticket enter(const wire::IpAddress& client, const wire::Endpoint& at,
                             std::uint32_t most) {
    const Key key{source_of(client), at};
    std::uint32_t& count = counts_[key];
    if (most != 0 && count >= most) return {};
    ++count;
    return {*this, key};
  }

  [[nodiscard]] std::size_t sources() const { return counts_.size(); }
  [[nodiscard]] std::uint32_t count(const wire::IpAddress& client, const wire::Endpoint& at) const {
    const auto found = counts_.find(Key{source_of(client), at});
    return found == counts_.end() ? 0 : found->second;
  }

 private:
  static wire::IpAddress source_of(wire::IpAddress client) {
    if (!client.is_v4()) std::fill(client.bytes.begin() + 8, client.bytes.end(), std::uint8_t{0});
    return client;
  }
  void leave(const Key& key) {
    const auto found = counts_.find(key);
    WEIR_ASSERT(found != counts_.end() && found->second > 0);  // the ticket has counted it
    if (--found->second == 0) counts_.erase(found);
  }

  /// Clients choose their addresses; they must not choose their places.
  struct Hash {
    SipKey key;
    std::size_t operator()(const Key& of) const {
      std::array<std::byte, 34> bytes;
      std::memcpy(bytes.data(), of.source.bytes.data(), 16);
      std::memcpy(bytes.data() + 16, of.at.address.bytes.data(), 16);
      const std::uint16_t port = of.at.port.value();
      std::memcpy(bytes.data() + 32, &port, sizeof(port));
      return siphash<1, 3>(key, bytes);
    }
  };
  std::unordered_map<Key, std::uint32_t, Hash> counts_;
};

}  // namespace weir::proxy
