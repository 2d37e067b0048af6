#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "l4/wire/address.h"

namespace weir::control {

/// What is asked of a backend to learn whether it works.
enum class ProbeKind : std::uint8_t {
  kTcp,    ///< a connection is accepted
  kHttp,   ///< HTTP/1.1 GET is answered with an expected status
  kHttps,  ///< the same within TLS
  kUdp,    ///< a datagram is answered; without `expect`, not refused by ICMP
  kGrpc,   ///< grpc.health.v1.Health/Check says SERVING, over HTTP/2 without TLS
  kIcmp,   ///< an echo request is answered
};

/// Both ends included.
struct StatusRange {
  std::uint16_t first = 200;
  std::uint16_t last = 399;
  friend bool operator==(const StatusRange&, const StatusRange&) = default;
};

/// The health section of a VIP. Which fields count depends on `kind`.
struct HealthCheck {
  ProbeKind kind = ProbeKind::kTcp;
  /// Without one the port that clients' packets arrive on at the backend: the backend's own in mode
  /// nat, else the VIP's, which then has one port only. kIcmp has none.
  std::optional<wire::Port> port = {};

  std::uint32_t interval_ms = 2'000;  ///< between the starts of two probes of one backend
  std::uint32_t timeout_ms = 1'000;   ///< for all of a probe; not longer than the interval
  std::uint32_t rise = 2;             ///< successes in a row that make a backend healthy
  std::uint32_t fall = 3;             ///< failures in a row that make it unhealthy
  /// Flaps: a backend that went down so often within ten minutes stays down twice as long with each
  /// further time, up to ten minutes. 0: not dampened.
  std::uint32_t flaps_max = 5;

  /// How long flows of a backend that is down stay with it, in case it comes back: after that they
  /// are spread over the others. 0: at once.
  std::uint32_t grace_ms = 30'000;
  /// With fewer healthy backends than this share of those that take traffic, all of them take it
  /// (fail open): probes that fail everywhere say more about the prober. 0: never.
  std::uint32_t fail_open_percent = 0;
  /// How long a backend that came back takes to reach its weight, in steps. 0: at once.
  std::uint32_t slow_start_ms = 0;

  std::string path = "/";                    ///< kHttp, kHttps
  std::string host = {};                     ///< Host and SNI; empty: the VIP's address
  std::vector<StatusRange> statuses = {{}};  ///< kHttp, kHttps; never empty
  bool verify = true;                        ///< kHttps: the certificate's chain and name
  std::string ca_file = {};                  ///< kHttps: empty: the system's
  std::string send = {};                     ///< kUdp: bytes of the datagram
  std::string expect = {};                   ///< kUdp: what the answer begins with; empty: anything
  std::string grpc_service = {};             ///< kGrpc: empty: the server as a whole

  friend bool operator==(const HealthCheck&, const HealthCheck&) = default;
};

}  // namespace weir::control
