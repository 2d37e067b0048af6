#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "l7/proxy/snapshot.h"
#include "l7/proxy/traffic_counters.h"
#include "l7/tls/context.h"

namespace weir::proxy {

/// The certificates of a snapshot, read once for all workers; by bind.
struct TlsFiles {
  std::vector<std::optional<tls::ServerFiles>> binds;

  [[nodiscard]] static Result<TlsFiles> load(const Snapshot& snapshot);
};

/// One snapshot as one worker uses it: with that worker's own TLS contexts and balancing cursors.
/// Made by the control thread, handed over through the mailbox, and handed back for destruction
/// when the last connection and exchange that refer to it are gone.
class Generation {
 public:
  /// With what `files` holds of the same snapshot, so that workers share it. Slow; never on a
  /// worker.
  [[nodiscard]] static Result<std::unique_ptr<Generation>> create(
      std::shared_ptr<const Snapshot> snapshot, const TlsFiles& files);
  /// Reads the certificates by itself.
  [[nodiscard]] static Result<std::unique_ptr<Generation>> create(
      std::shared_ptr<const Snapshot> snapshot);

  [[nodiscard]] const Snapshot& snapshot() const { return *snapshot_; }
  /// The TLS context of a bind, or nullptr for a plain one.
  [[nodiscard]] tls::ServerContext* tls_context(std::size_t bind) {
    return contexts_[bind] ? &*contexts_[bind] : nullptr;
  }
  /// What endpoints of a service are spoken to with, or nullptr for the clear.
  [[nodiscard]] const tls::ClientContext* upstream_context(const ServiceEntry& service) const {
    return service.tls ? &trusts_[service.trust] : nullptr;
  }
  /// Tickets are sealed with these, which outlive the generation.
  void use_ticket_keys(const tls::TicketKeySet* keys) {
    for (std::optional<tls::ServerContext>& context : contexts_)
      if (context) context->use_ticket_keys(keys);
  }
  /// On the worker's thread, before the generation is handed on to be destroyed.
  void leave_thread() {
    if (library_) library_->leave_thread();
  }
  /// To be counted in by the worker, which takes them, and leaves what it has counted in before.
  [[nodiscard]] TrafficCounters& traffic() { return traffic_; }
  /// Round-robin position of a service.
  [[nodiscard]] std::uint32_t next_turn(ServiceIndex service) { return turns_[service]++; }

  [[nodiscard]] std::uint32_t users() const { return users_; }

 private:
  friend class GenerationRef;
  explicit Generation(std::shared_ptr<const Snapshot> snapshot);

  std::shared_ptr<const Snapshot> snapshot_;
  std::optional<tls::Library> library_;                      // of all contexts; none without TLS
  std::vector<std::optional<tls::ServerContext>> contexts_;  // by bind
  std::vector<tls::ClientContext> trusts_;                   // by Snapshot::trusts
  std::vector<std::uint32_t> turns_;                         // by service
  TrafficCounters traffic_;
  std::uint32_t users_ = 0;  // GenerationRefs; one core, no atomics
};

/// Keeps a generation from being retired. Copied and dropped on the worker's core only.
class GenerationRef {
 public:
  GenerationRef() = default;
  explicit GenerationRef(Generation& generation) : generation_{&generation} {
    ++generation_->users_;
  }
  GenerationRef(const GenerationRef& other) : generation_{other.generation_} {
    if (generation_ != nullptr) ++generation_->users_;
  }
  GenerationRef(GenerationRef&& other) noexcept
      : generation_{std::exchange(other.generation_, nullptr)} {}
  GenerationRef& operator=(GenerationRef other) noexcept {
    std::swap(generation_, other.generation_);
    return *this;
  }
  ~GenerationRef() {
    if (generation_ != nullptr) --generation_->users_;
  }

  explicit operator bool() const { return generation_ != nullptr; }
  Generation& operator*() const { return *generation_; }
  Generation* operator->() const { return generation_; }

 private:
  Generation* generation_ = nullptr;
};

}  // namespace weir::proxy
