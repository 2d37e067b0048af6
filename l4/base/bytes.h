#pragma once

#include <cstddef>
#include <cstring>
#include <optional>
#include <span>
#include <string_view>
#include <type_traits>

namespace weir {

/// The only cursor over untrusted bytes: every read is checked, a short read returns nothing and
/// leaves the position where it was.
class ByteReader {
 public:
  explicit ByteReader(std::span<const std::byte> bytes) : rest_{bytes} {}

  [[nodiscard]] std::size_t remaining() const { return rest_.size(); }
  [[nodiscard]] std::span<const std::byte> rest() const { return rest_; }

  /// A copy of the next sizeof(T) bytes. T is a wire structure: trivially copyable, no padding.
  template <typename T>
  [[nodiscard]] std::optional<T> take() {
    static_assert(std::is_trivially_copyable_v<T> && alignof(T) == 1);
    if (rest_.size() < sizeof(T)) return std::nullopt;
    T value;
    std::memcpy(&value, rest_.data(), sizeof(T));
    rest_ = rest_.subspan(sizeof(T));
    return value;
  }

  [[nodiscard]] std::optional<std::span<const std::byte>> take_bytes(std::size_t count) {
    if (rest_.size() < count) return std::nullopt;
    const auto taken = rest_.first(count);
    rest_ = rest_.subspan(count);
    return taken;
  }

 private:
  std::span<const std::byte> rest_;
};

/// Copies a wire structure to the front of `out`, which the caller has made large enough.
template <typename T>
void store(std::span<std::byte> out, const T& value) {
  static_assert(std::is_trivially_copyable_v<T> && alignof(T) == 1);
  std::memcpy(out.first(sizeof(T)).data(), &value, sizeof(T));
}

/// Text as bytes and back; both are views.
inline std::span<const std::byte> as_bytes(std::string_view text) {
  return std::as_bytes(std::span{text.data(), text.size()});
}
inline std::string_view as_text(std::span<const std::byte> bytes) {
  // char may alias anything, and the view does not outlive the span it came from.
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace weir
