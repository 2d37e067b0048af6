#pragma once

namespace weir::tcp {

/// A place in one IntrusiveList: a base of the object, one for each list that it may be in, told
/// apart by `Tag`. Destroying a linked object takes it out.
template <typename Tag>
class ListLink {
 public:
  ListLink() = default;
  ListLink(const ListLink&) = delete;
  ListLink& operator=(const ListLink&) = delete;
  ~ListLink() { unlink(); }

  [[nodiscard]] bool linked() const { return next_ != nullptr; }
  void unlink() {
    if (next_ == nullptr) return;
    next_->previous_ = previous_;
    previous_->next_ = next_;
    next_ = previous_ = nullptr;
  }

 private:
  template <typename T, typename ListTag>
  friend class IntrusiveList;
  ListLink* next_ = nullptr;
  ListLink* previous_ = nullptr;
};

/// First in, first out, without allocation. An object is in it at most once.
template <typename T, typename Tag>
class IntrusiveList {
 public:
  IntrusiveList() { head_.next_ = head_.previous_ = &head_; }
  ~IntrusiveList() {
    while (pop() != nullptr) {
    }
    head_.next_ = head_.previous_ = nullptr;
  }

  [[nodiscard]] bool empty() const { return head_.next_ == &head_; }

  /// Does nothing when the object is in the list already.
  void push(T& object) {
    ListLink<Tag>& link = object;
    if (link.linked()) return;
    link.previous_ = head_.previous_;
    link.next_ = &head_;
    head_.previous_->next_ = &link;
    head_.previous_ = &link;
  }

  /// The oldest object; nullptr when empty.
  [[nodiscard]] T* front() const { return empty() ? nullptr : static_cast<T*>(head_.next_); }

  /// The oldest object, taken out; nullptr when empty.
  T* pop() {
    if (empty()) return nullptr;
    ListLink<Tag>* link = head_.next_;
    link->unlink();
    return static_cast<T*>(link);  // push() took it from a T
  }

 private:
  ListLink<Tag> head_;
};

}  // namespace weir::tcp
