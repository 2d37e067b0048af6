#pragma once

#include <linux/netlink.h>
#include <linux/rtnetlink.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "l4/base/fd.h"
#include "l4/base/result.h"
#include "l4/wire/address.h"

/// rtnetlink(7) by hand: the few messages that this plane needs do not pay for a library.
namespace weir::l4 {

/// One message under construction: fixed part, then attributes.
class NetlinkRequest {
 public:
  NetlinkRequest(std::uint16_t type, std::uint16_t flags);

  template <typename T>
  NetlinkRequest& fixed(const T& value) {
    static_assert(std::is_trivially_copyable_v<T>);
    append(std::as_bytes(std::span{&value, 1}));
    return *this;
  }
  NetlinkRequest& attribute(std::uint16_t type, std::span<const std::byte> value);
  template <typename T>
  requires std::is_integral_v<T> NetlinkRequest& attribute(std::uint16_t type, T value) {
    return attribute(type, std::as_bytes(std::span{&value, 1}));
  }
  NetlinkRequest& attribute(std::uint16_t type, std::string_view text);  ///< adds the final zero
  NetlinkRequest& attribute(std::uint16_t type, const wire::IpAddress& address);
  NetlinkRequest& attribute(std::uint16_t type, const wire::MacAddress& mac);

  /// Everything that `fill` adds lies inside attribute `type`.
  NetlinkRequest& nested(std::uint16_t type, const std::function<void(NetlinkRequest&)>& fill);

  /// The finished message. The sequence number is the socket's business.
  [[nodiscard]] std::span<const std::byte> finish(std::uint32_t sequence);

 private:
  void append(std::span<const std::byte> bytes);
  std::vector<std::byte> bytes_;
};

/// A message as received: its type and what follows the header. A view.
struct NetlinkMessage {
  std::uint16_t type = 0;
  std::uint32_t sequence = 0;
  std::span<const std::byte> body;

  /// The fixed part that the type promises; nothing if the message is too short.
  template <typename T>
  [[nodiscard]] std::optional<T> fixed() const {
    static_assert(std::is_trivially_copyable_v<T>);
    if (body.size() < sizeof(T)) return std::nullopt;
    T value;
    std::memcpy(&value, body.data(), sizeof(T));
    return value;
  }
};

/// Calls `visit` for each whole message; stops at the first that claims more than there is.
void for_each_message(std::span<const std::byte> bytes,
                      const std::function<void(const NetlinkMessage&)>& visit);

/// The attributes behind a fixed part of `fixed_size` bytes, or inside another attribute.
class NetlinkAttributes {
 public:
  NetlinkAttributes(std::span<const std::byte> bytes, std::size_t fixed_size);

  /// The value of the last attribute of this type.
  [[nodiscard]] std::optional<std::span<const std::byte>> find(std::uint16_t type) const;
  [[nodiscard]] std::optional<std::uint16_t> u16(std::uint16_t type) const;
  [[nodiscard]] std::optional<std::uint32_t> u32(std::uint16_t type) const;
  [[nodiscard]] std::optional<wire::IpAddress> address(std::uint16_t type) const;
  [[nodiscard]] std::optional<wire::MacAddress> mac(std::uint16_t type) const;
  [[nodiscard]] std::string text(std::uint16_t type) const;

 private:
  template <typename T>
  [[nodiscard]] std::optional<T> number(std::uint16_t type) const;
  std::vector<std::pair<std::uint16_t, std::span<const std::byte>>> values_;
};

/// 4 or 16 bytes of a netlink address as one of ours.
std::optional<wire::IpAddress> address_of(std::span<const std::byte> bytes);

/// A route netlink socket in the network namespace of the thread that opened it.
class NetlinkSocket {
 public:
  /// `groups` are RTNLGRP_* numbers whose notifications are wanted.
  static Result<NetlinkSocket> open(std::span<const unsigned> groups = {});

  /// Sends and waits for the kernel's acknowledgement, which is immediate. The kernel's
  /// refusal is the Error; its own words are added where it gives any.
  Result<void> execute(NetlinkRequest& request, std::string_view doing);

  using Visitor = std::function<void(const NetlinkMessage&)>;
  /// The same for a request with answers: one, or with NLM_F_DUMP many.
  Result<void> query(NetlinkRequest& request, std::string_view doing, const Visitor& visit);

  /// Takes all waiting notifications without blocking. False: the kernel had to drop some, and
  /// whoever keeps a copy of its state must read it again.
  Result<bool> drain(const Visitor& visit);

  [[nodiscard]] int fd() const { return fd_.get(); }

 private:
  explicit NetlinkSocket(UniqueFd fd) : fd_{std::move(fd)} {}
  Result<std::span<const std::byte>> receive(int flags);

  UniqueFd fd_;
  std::uint32_t sequence_ = 0;
  std::vector<std::byte> buffer_;
};

}  // namespace weir::l4
