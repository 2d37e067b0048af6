#include "bench/own_veth.h"

#include <fcntl.h>
#include <sched.h>

#include "l4/carrier.h"
#include "l4/kernel_objects.h"

namespace weir::bench {

Result<OwnVeth> OwnVeth::create() {
  UniqueFd original{::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC)};
  if (!original) return Error::from_errno("opening this thread's network namespace");
  if (::unshare(CLONE_NEWNET) != 0)
    return Error::from_errno("making a network namespace").with_remedy("run it as root");
  OwnVeth made{std::move(original)};
  // The way to an L7 worker is all that is wanted: a pair, up, without ARP and IPv6.
  Result<l4::NetlinkSocket> netlink = l4::NetlinkSocket::open();
  if (!netlink) return std::move(netlink).error();
  Result<std::vector<l4::WorkerPair>> pairs =
      l4::ensure_carrier(*netlink, {.workers = 1, .mac = {{2, 0, 0, 0, 0, 1}}, .mtu = 1500});
  if (!pairs) return std::move(pairs).error();
  WEIR_ASSERT(!pairs->empty());  // one in each lane, of which one does
  const l4::WorkerPair& pair = pairs->front();
  Result<std::uint32_t> sender = l4::device_index(pair.worker_end);
  if (!sender) return std::move(sender).error();
  made.balancer_ = {pair.balancer_end, pair.balancer_ifindex};
  made.sender_ = {pair.worker_end, *sender};
  return made;
}

OwnVeth::~OwnVeth() {
  if (original_) static_cast<void>(::setns(original_.get(), CLONE_NEWNET));
}

}  // namespace weir::bench
