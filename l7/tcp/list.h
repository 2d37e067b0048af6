#pragma once

namespace weir::tcp {

/// A place in one IntrusiveList. Destroying a linked object takes it out.
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
  template <typename T, ListLink T::*>
  friend class IntrusiveList;
  ListLink* next_ = nullptr;
  ListLink* previous_ = nullptr;
  void* owner_ = nullptr;  // set when linked; spares the arithmetic from member to object
};

/// First in, first out, without allocation. An object is in it at most once.
template <typename T, ListLink T::*Link>
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
    ListLink& link = object.*Link;
    if (link.linked()) return;
    link.owner_ = &object;
    link.previous_ = head_.previous_;
    link.next_ = &head_;
    head_.previous_->next_ = &link;
    head_.previous_ = &link;
  }

  /// The oldest object, taken out; nullptr when empty.
  T* pop() {
    if (empty()) return nullptr;
    ListLink* link = head_.next_;
    link->unlink();
    return static_cast<T*>(link->owner_);  // push() stored a T*
  }

 private:
  ListLink head_;
};

}  // namespace weir::tcp
