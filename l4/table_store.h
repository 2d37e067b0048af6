#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <unordered_map>
#include <vector>

#include "l4/base/fd.h"
#include "l4/base/result.h"
#include "l4/bpf_map.h"
#include "l4/tables.h"

namespace weir::l4 {

/// Maglev tables as maps of the kernel: one for each content, however many VIPs have it. A table is
/// never written again, so that what was read once stays true.
class TableStore {
 public:
  using SharedFd = std::shared_ptr<const UniqueFd>;

  /// The map for a VIP's next table.
  Result<SharedFd> make(VipId vip, const Table& table);
  /// The table that leads nowhere; in the place of a VIP's that is removed.
  Result<SharedFd> none();
  /// Whether what a VIP id has in the kernel is that.
  [[nodiscard]] bool is_none(VipId vip, std::uint32_t map_id) const;
  /// What a VIP has in the kernel.
  Result<Table> read(VipId vip, std::uint32_t map_id);
  void forget(VipId vip);

 private:
  using Digest = std::uint64_t;
  struct Shared {
    std::uint32_t map_id = 0;
    std::uint32_t vips = 0;
    std::weak_ptr<const UniqueFd> staged = {};  // while it is held open
  };
  struct Read {
    std::uint32_t map_id = 0;
    Digest digest = 0;
    Table table;
  };
  void use(VipId vip, Digest digest);
  SharedFd open(Shared& shared);

  std::unordered_map<Digest, Shared> shared_;
  std::unordered_map<VipId, Digest> digests_;
  std::deque<Read> read_lately_;  // the oldest first
  SharedFd none_;
};

}  // namespace weir::l4
