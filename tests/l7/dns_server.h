#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "l4/base/fd.h"
#include "l4/wire/address.h"

namespace weir::testing {

/// What a server says to a question; the first thing that is set holds.
struct DnsReply {
  enum class Kind : std::uint8_t {
    kAnswer,  ///< the addresses, none of them too
    kNoName,  ///< NXDOMAIN
    kServFail,
    kRefused,
    kSilence,
    kGarbage,    ///< bytes that are no message, behind the right id
    kCutShort,   ///< an answer that ends in the middle of an address
    kOtherId,    ///< the answer to somebody else's question
    kOnlyByTcp,  ///< by UDP an answer that is marked as truncated
    kHangsUp,    ///< likewise, and TCP is closed without a word
  };
  Kind kind = Kind::kAnswer;
  std::vector<wire::IpAddress> addresses = {};
  std::uint32_t ttl_s = 60;
  std::string alias_of = {};  ///< a CNAME in front of the addresses, which are of this name
  std::uint32_t alias_ttl_s = 60;
};

/// A small DNS server on one port of a loopback address, UDP and TCP, with a thread of its own. It
/// says what it was told to say, and NXDOMAIN to everything else.
class DnsServer {
 public:
  /// 127.0.0.1, and any port that is free.
  DnsServer() : DnsServer{wire::IpAddress::v4(127, 0, 0, 1), wire::Port{0}} {}
  DnsServer(const wire::IpAddress& address, wire::Port port);
  ~DnsServer();
  DnsServer(const DnsServer&) = delete;
  DnsServer& operator=(const DnsServer&) = delete;

  /// "127.0.0.1:40053"
  [[nodiscard]] std::string address() const;
  [[nodiscard]] wire::Port port() const { return port_; }
  void set(const std::string& name, wire::Family family, DnsReply reply);
  /// Both families: the addresses of each to questions for it.
  void set(const std::string& name, DnsReply reply);
  struct Asked {
    std::size_t udp = 0;
    std::size_t tcp = 0;
  };
  [[nodiscard]] Asked asked(const std::string& name, wire::Family family) const;

 private:
  using Key = std::pair<std::string, wire::Family>;
  void run();
  void serve_udp();
  void serve_tcp();
  /// Empty: nothing is said.
  std::string reply_to(std::string_view message, bool by_tcp);

  wire::IpAddress address_;
  UniqueFd udp_;
  UniqueFd tcp_;
  wire::Port port_{0};
  mutable std::mutex mutex_;
  std::map<Key, DnsReply> replies_;
  std::map<Key, Asked> asked_;
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

}  // namespace weir::testing
