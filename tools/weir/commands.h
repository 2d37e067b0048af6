#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "l4/control/admin.h"
#include "l4/control/model.h"
#include "tools/weir/render.h"

/// The verbs. They speak to the daemons' admin APIs and never to a plane itself; only check() and
/// doctor() work without a daemon.
namespace weir::cli {

/// Why a command did nothing, or not everything. At least one of the two is there.
struct Failure {
  std::vector<std::string> diagnostics;  ///< complete lines about a configuration
  std::string message;                   ///< what they do not say, or the sum of several
  Report partial = {};                   ///< what was done all the same
  int exit_code = 1;                     ///< one of those below, or of main.cpp
  bool is_open = false;                  ///< asked, but not answered: it may have been done
};

// Exit statuses that mean something else than done (0), failed (1) and wrong usage (2).
inline constexpr int kPartly = 3;    ///< apply --partial left something out
inline constexpr int kDiffSome = 1;  ///< as diff(1) has them
inline constexpr int kDiffTrouble = 2;

using Outcome = std::variant<Report, Failure>;

struct Daemons {
  control::AdminClient l4;
  control::AdminClient l7;
};

struct LoadOptions {
  std::vector<std::string> devices;
  std::string mode = "auto";
  bool chain = false;
};
Outcome load(const Daemons& daemons, const LoadOptions& options);
Outcome unload(const Daemons& daemons);

Outcome status(const Daemons& daemons);

struct ExplainOptions {
  std::string method;
  std::string url;
  std::vector<std::string> headers;  ///< "Name: value"
  std::string vip;                   ///< ADDRESS:PORT, of several listeners with that port
};
Outcome explain(const Daemons& daemons, const ExplainOptions& options);
Outcome routes(const Daemons& daemons);
/// Those of one service, or all.
Outcome endpoints(const Daemons& daemons, const std::string& service);
/// `expiring_days`: those alone that end within so many days; nothing: all.
Outcome certs(const Daemons& daemons, std::optional<std::uint32_t> expiring_days);

struct VipOptions {
  control::VipKey key;
  std::string mode = "ipip";
  std::string name;
  std::uint32_t table_size = 0;  ///< 0: by the number of backends
  std::optional<std::uint16_t> gue_port;
  std::optional<std::string> snat;
  std::optional<std::string> when_empty;
  std::optional<std::string> hash;
  std::optional<std::uint32_t> affinity_timeout_s;
  std::vector<std::string> allow;
  std::vector<std::string> deny;
  std::map<std::string, std::uint32_t> limits;  ///< in the API's words, per second
  std::optional<std::uint32_t> quic_server_id_length;
  std::uint32_t quic_config_rotation = 0;
  std::optional<std::string> health;  ///< kind of probe; what follows needs one
  std::optional<std::uint16_t> health_port;
  std::optional<std::string> health_path;
  std::optional<std::uint32_t> health_interval_ms;
};
Outcome vip_add(const Daemons& daemons, const VipOptions& options);
Outcome vip_del(const Daemons& daemons, const control::VipKey& key);
Outcome vip_list(const Daemons& daemons);
Outcome vip_show(const Daemons& daemons, const control::VipKey& key);

struct BackendOptions {
  control::VipKey vip;
  wire::IpAddress address;
  std::optional<wire::Port> port;  ///< for mode nat
  std::optional<std::uint32_t> weight;
  std::optional<std::string> name;
  std::optional<std::string> state;      ///< "active" or "draining"
  std::optional<std::string> server_id;  ///< hexadecimal
};
Outcome backend_add(const Daemons& daemons, const BackendOptions& options);
Outcome backend_set(const Daemons& daemons, const BackendOptions& options);
Outcome backend_del(const Daemons& daemons, const BackendOptions& options);
Outcome backend_list(const Daemons& daemons, const control::VipKey& key);

/// Exit status of a wait that was in vain.
inline constexpr int kDeadlinePassed = 3;

struct BackendStateOptions {
  control::VipKey vip;
  wire::IpAddress address;
  std::string state;  ///< "active", "draining" or "maintenance"
  bool wait = false;  ///< until it has no flows
  std::uint32_t timeout_ms = 0;
};
Outcome backend_state(const Daemons& daemons, const BackendStateOptions& options);

struct StatsOptions {
  std::optional<control::VipKey> vip;
  std::uint32_t interval_ms = 500;  ///< between the two readings that rates are made of
  std::uint64_t count = 1;
  bool total_only = false;  ///< one reading, no rates
};
/// Of several reports it writes each as it comes, and returns an empty one.
Outcome stats(const Daemons& daemons, const StatsOptions& options, OutputFormat format);

struct FlowsOptions {
  std::string source;  ///< ADDRESS or ADDRESS:PORT
  std::optional<control::VipKey> vip;
  std::string backend;
  bool wants_nat = false;
  std::uint32_t limit = 100;
};
/// With a source and a VIP, and not wants_nat: where that one flow is.
Outcome flows(const Daemons& daemons, const FlowsOptions& options);

struct MonitorOptions {
  std::optional<control::VipKey> vip;
  std::vector<std::string> verdicts;  ///< labels, or kinds: pass, drop, tx, redirect
  std::string source;
  std::uint32_t every = 1;
  std::uint32_t snap_bytes = kSnapBytesMax;
  std::optional<std::uint64_t> count;
  std::optional<std::uint32_t> seconds;
  std::string capture;  ///< a file to write pcapng to; -: standard output
  static constexpr std::uint32_t kSnapBytesMin = 14;
  static constexpr std::uint32_t kSnapBytesMax = 256;  ///< what the program keeps at most
};
/// Writes events as they come, until it has enough of them or a signal ends it.
Outcome monitor(const Daemons& daemons, const MonitorOptions& options, OutputFormat format);

struct TraceOptions {
  std::vector<std::byte> frame;
  std::string capture;  ///< a file to read frames from; instead of `frame`
  std::string device;   ///< that they come in by; empty: the balancer's first
};
/// The report's one note is the whole answer, in the format asked for: to be shown as it is.
Outcome trace(const Daemons& daemons, const TraceOptions& options, OutputFormat format);

struct CheckOptions {
  std::string file;
  bool against_host = true;
};
Outcome check(const CheckOptions& options);

enum class ApplyTo : std::uint8_t { kBoth, kL4, kL7 };
struct ApplyOptions {
  std::string file;
  ApplyTo to = ApplyTo::kBoth;
  bool dry_run = false;
  bool partial = false;
};
/// Both daemons check before either applies, and where the second fails all the same, the first
/// gets again what it had. weir-l7 is asked when it runs or when it alone is meant.
Outcome apply(const Daemons& daemons, const ApplyOptions& options);

struct DoctorOptions {
  std::vector<std::string> devices;
  std::string file;
};
/// Examines the machine; what the daemons say is added where they answer. The report's exit status
/// is that of the worst finding.
Outcome doctor(const Daemons& daemons, const DoctorOptions& options, OutputFormat format);

struct DiffOptions {
  std::string file;                       ///< empty: the one that was applied last
  std::optional<std::uint64_t> revision;  ///< instead of a file
  ApplyTo to = ApplyTo::kBoth;
  bool partial = false;
};
/// Ends as diff(1) does.
Outcome diff(const Daemons& daemons, const DiffOptions& options);

Outcome history(const Daemons& daemons, OutputFormat format);

struct RollbackOptions {
  std::uint64_t revision = 0;
  ApplyTo to = ApplyTo::kBoth;
};
/// A new revision with the state of an earlier one. weir-l7, if it runs, gets the configuration
/// text that this one was applied from.
Outcome rollback(const Daemons& daemons, const RollbackOptions& options);

/// The report's one note is the file.
Outcome export_config(const Daemons& daemons);

}  // namespace weir::cli
