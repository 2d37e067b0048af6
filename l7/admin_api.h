#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "l4/base/clock.h"
#include "l4/base/result.h"
#include "l4/control/admin.h"
#include "l4/control/config_partial.h"
#include "l4/control/lane.h"
#include "l4/control/model.h"
#include "l4/control/reload_status.h"
#include "l7/endpoint_health.h"
#include "l7/endpoint_names.h"
#include "l7/net/interface.h"
#include "l7/proxy/worker.h"
#include "l7/watched_process.h"

namespace weir::l7 {

/// What the L7 plane of a model means for the network interface of a worker. All workers have the
/// same addresses; the first speaks for them.
net::InterfaceConfig interface_config(const control::Model& model, std::size_t worker);

/// The control side of weir-l7: the configuration in use, its revision, what names of endpoints
/// lead to, and the admin API over it. Workers get what they need through their mailboxes.
class AdminApi {
 public:
  /// `state_file` keeps the configuration that was applied last, for the next start; `device` is
  /// what the names of the workers' devices begin with, `lane` the one that they are in.
  AdminApi(std::filesystem::path state_file, std::string device, control::Lane lane,
           ResolverOptions resolver = {});

  /// The configuration that a start without --config goes on with, if there is one.
  [[nodiscard]] Result<std::optional<control::ConfigSubmission>> read_state() const;

  /// Checks a configuration, certificates included, and builds everything that goes live with it.
  /// The number of workers is that of the first one; one with another number is refused.
  struct Prepared {
    control::Model model;
    std::shared_ptr<const proxy::Snapshot> snapshot;
    proxy::TlsFiles files;
    std::vector<std::unique_ptr<proxy::Generation>> generations;  ///< one per worker
    std::vector<control::LeftOut> left_out = {};                  ///< of a partial submission
    std::vector<control::Service> services = {};  ///< with addresses in place of names
    LeftOutAddresses addresses_left_out = {};     ///< of those
  };
  struct Refused {
    std::vector<control::Diagnostic> diagnostics;
    std::optional<Error> error;
    [[nodiscard]] std::vector<std::string> lines() const;
    [[nodiscard]] std::string text() const;
  };
  enum class Names : std::uint8_t {
    kAsKnown,
    kLookUp,  ///< those that are new are waited for, but not for long
  };
  [[nodiscard]] std::variant<Prepared, Refused> prepare(const control::ConfigSubmission& submission,
                                                        Names names = Names::kAsKnown);

  /// From here on requests are served with these workers, one for each prepared generation. They
  /// outlive the API. Nothing is written yet.
  Result<void> start(Prepared prepared, control::ConfigSubmission submission,
                     std::vector<proxy::Worker*> workers);

  /// Writes what is in force to the state file, as every apply does from then on.
  Result<void> keep_state();

  control::AdminReply handle(const control::AdminRequest& request);
  /// Applies the file, which has changed; whether it could be applied is in the log, and in
  /// status() from then on. False where nothing may be changed now: try again.
  [[nodiscard]] bool follow_file(const std::string& file);
  /// Goes on with looking names up, and gives workers the addresses that have changed. To be called
  /// again and again, by the control thread; while a request is being answered it does nothing.
  void follow_names(Instant now);
  /// Of the endpoints that are served; to be called again and again, from any thread.
  EndpointHealth& health() { return health_; }

  /// How long connections may last now that another process has taken over; nothing before that.
  [[nodiscard]] std::optional<Duration> retirement() const;

  /// Everything that handle() can do.
  static std::span<const control::AdminOperation> operations();

 private:
  control::AdminReply answer(const control::AdminRequest& request);
  control::AdminReply status();
  /// Of every worker.
  [[nodiscard]] Result<std::vector<proxy::WorkerReport>> reports() const;
  control::AdminReply stats();
  control::AdminReply routes(const control::AdminRequest& request);
  /// What is in force, in the form that apply() takes: for whoever may have to go back to it.
  control::AdminReply config();
  control::AdminReply metrics();
  control::AdminReply check(const control::AdminRequest& request);
  control::AdminReply apply(const control::AdminRequest& request);
  control::AdminReply retire(const control::AdminRequest& request);
  /// Another process is about to take over.
  control::AdminReply hold(const control::AdminRequest& request);
  /// Why nothing is changed now.
  [[nodiscard]] std::optional<Error> held();
  struct Applied {
    std::vector<std::string> changes;
    std::vector<control::LeftOut> left_out;
  };
  enum class Source : std::uint8_t { kCommand, kFollowedFile };
  std::variant<Applied, Refused> put_in_force(control::ConfigSubmission submission, Source source);
  /// What a person would want to read of it, one line each.
  [[nodiscard]] std::vector<std::string> changes_to(const Prepared& prepared) const;
  /// The generations: everything that is read from files.
  Result<void> build(Prepared& prepared);
  Result<void> install(Prepared prepared, control::ConfigSubmission submission);
  void use(std::shared_ptr<const proxy::Snapshot> snapshot);
  void install_endpoints(const control::Model& addressed, Instant now);
  Result<void> make_live(Prepared prepared, control::ConfigSubmission submission);
  [[nodiscard]] Result<void> write_state(const control::ConfigSubmission& submission) const;

  std::filesystem::path state_file_;
  std::string device_;
  control::Lane lane_;
  std::atomic<std::int64_t> retirement_s_{-1};  // written by a thread of the server
  std::mutex in_use_;                           // all below, but what has its own
  Instant started_;
  std::optional<WatchedProcess> holder_;  // is about to take over
  std::vector<proxy::Worker*> workers_;   // by number; none before start()
  proxy::EndpointBook book_;
  tls::CertificateStore certificates_;
  EndpointHealth health_;
  std::shared_ptr<const proxy::Snapshot> snapshot_;  // what is in force
  proxy::TlsFiles files_;                            // of it
  std::uint64_t revision_ = 0;
  control::ReloadStatus reload_;          // of the file that is followed
  control::ConfigSubmission submission_;  // partial: something was left out, and is again
  control::Model model_;
  EndpointNames names_;
  std::uint64_t names_version_ = 0;         // of what services_ have
  std::vector<control::Service> services_;  // of model_, with addresses in place of names
  std::vector<std::weak_ptr<const proxy::Snapshot>> given_out_;  // to workers
  Instant next_endpoints_{};                                     // may be given to them
};

}  // namespace weir::l7
