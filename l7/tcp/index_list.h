#pragma once

#include <cstdint>
#include <span>

namespace weir::tcp {

/// "No object", where objects are named by their place in a table.
inline constexpr std::uint32_t kNoIndex = UINT32_MAX;

/// An object's neighbours in one IndexList.
struct IndexLinks {
  std::uint32_t older = kNoIndex;
  std::uint32_t newer = kNoIndex;
};

/// First in, first out, with removal from the middle, for objects that lie in one table and are
/// named by 32-bit numbers: half the size of pointers, and still right when the table has moved.
/// The table is an argument because several lists may share it; an object is in at most one.
template <typename Object, IndexLinks Object::*Links>
class IndexList {
 public:
  [[nodiscard]] bool empty() const { return oldest_ == kNoIndex; }
  [[nodiscard]] std::uint32_t oldest() const { return oldest_; }

  void append(std::span<Object> objects, std::uint32_t index) {
    objects[index].*Links = {.older = newest_, .newer = kNoIndex};
    (newest_ == kNoIndex ? oldest_ : (objects[newest_].*Links).newer) = index;
    newest_ = index;
  }

  void unlink(std::span<Object> objects, std::uint32_t index) {
    const IndexLinks links = objects[index].*Links;
    (links.older == kNoIndex ? oldest_ : (objects[links.older].*Links).newer) = links.newer;
    (links.newer == kNoIndex ? newest_ : (objects[links.newer].*Links).older) = links.older;
  }

 private:
  std::uint32_t oldest_ = kNoIndex;
  std::uint32_t newest_ = kNoIndex;
};

}  // namespace weir::tcp
