#pragma once

#include <cstdint>
#include <string>

#include "l4/base/fd.h"
#include "l4/base/result.h"

namespace weir::bench {

/// A network namespace of its own for the calling thread, with a pair of veth devices in it on
/// which the kernel says nothing. Both go with the object, for nothing else keeps the namespace.
class OwnVeth {
 public:
  [[nodiscard]] static Result<OwnVeth> create();
  OwnVeth(OwnVeth&&) = default;
  OwnVeth& operator=(OwnVeth&&) = delete;
  ~OwnVeth();

  struct End {
    std::string device;
    std::uint32_t ifindex = 0;
  };
  [[nodiscard]] const End& balancer() const { return balancer_; }
  [[nodiscard]] const End& sender() const { return sender_; }

 private:
  explicit OwnVeth(UniqueFd original) : original_{std::move(original)} {}

  UniqueFd original_;  // the namespace that the thread came from
  End balancer_;
  End sender_;
};

}  // namespace weir::bench
