#pragma once

#include <arpa/inet.h>
#include <fmt/format.h>

#include <array>
#include <cstddef>
#include <cstring>
#include <string_view>

#include "l4/wire/address.h"

namespace weir::proxy {

/// An address or an endpoint as text without the heap.
class AddressText {
 public:
  explicit AddressText(const wire::Endpoint& endpoint) {
    const bool is_v4 = endpoint.address.is_v4();
    if (!is_v4) text_[length_++] = '[';
    write(endpoint.address);
    if (!is_v4) text_[length_++] = ']';
    write(fmt::format_to(end(), ":{}", endpoint.port.value()));
  }
  explicit AddressText(const wire::IpAddress& address) { write(address); }
  [[nodiscard]] std::string_view view() const { return {text_.data(), length_}; }

 private:
  [[nodiscard]] char* end() { return text_.data() + length_; }
  void write(const char* new_end) { length_ = static_cast<std::size_t>(new_end - text_.data()); }
  void write(const wire::IpAddress& address) {
    const auto& b = address.bytes;
    if (address.is_v4()) {
      write(fmt::format_to(end(), "{}.{}.{}.{}", b[12], b[13], b[14], b[15]));
      return;
    }
    inet_ntop(AF_INET6, b.data(), end(), INET6_ADDRSTRLEN);  // RFC 5952, section 4
    length_ += std::strlen(end());
  }

  std::array<char, 64> text_{};
  std::size_t length_ = 0;
};

}  // namespace weir::proxy
