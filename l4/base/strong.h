#pragma once

#include <compare>
#include <cstddef>
#include <functional>

namespace weir {

/// A number that does not mix with other numbers: `using VipId = Strong<std::uint32_t, struct
/// VipIdTag>;`. Construction and access are both explicit.
template <typename Value, typename Tag>
class Strong {
 public:
  using value_type = Value;

  constexpr Strong() = default;
  explicit constexpr Strong(Value value) : value_{value} {}
  [[nodiscard]] constexpr Value value() const { return value_; }
  friend constexpr auto operator<=>(const Strong&, const Strong&) = default;

 private:
  Value value_{};
};

}  // namespace weir

template <typename Value, typename Tag>
struct std::hash<weir::Strong<Value, Tag>> {
  std::size_t operator()(const weir::Strong<Value, Tag>& id) const noexcept {
    return std::hash<Value>{}(id.value());
  }
};
