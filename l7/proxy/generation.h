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

/// The certificates of a snapshot, read once for all workers; by bind. Those that the store has are
/// not read again.
struct TlsFiles {
  std::vector<std::optional<tls::ServerFiles>> binds;

  [[nodiscard]] static Result<TlsFiles> load(const Snapshot& snapshot,
                                             tls::CertificateStore& store);
};

class Generation;

/// Keeps a generation from being retired. Copied and dropped on the worker's core only.
class GenerationRef {
 public:
  GenerationRef() = default;
  explicit GenerationRef(Generation& generation);
  GenerationRef(const GenerationRef& other);
  GenerationRef(GenerationRef&& other) noexcept
      : generation_{std::exchange(other.generation_, nullptr)} {}
  GenerationRef& operator=(GenerationRef other) noexcept {
    std::swap(generation_, other.generation_);
    return *this;
  }
  ~GenerationRef();

  explicit operator bool() const { return generation_ != nullptr; }
  Generation& operator*() const { return *generation_; }
  Generation* operator->() const { return generation_; }

 private:
  Generation* generation_ = nullptr;
};

/// One snapshot as one worker uses it: with that worker's own TLS contexts and balancing cursors.
/// Made by the control thread, handed over through the mailbox, and handed back for destruction
/// when the last connection and exchange that refer to it are gone.
///
/// Where names of endpoints have got other addresses, the configuration stays: such a generation
/// stands on the one that the configuration came with, its base, and uses that one's TLS contexts.
/// Connections belong to the base, which makes no difference between the two; only exchanges, which
/// choose endpoints, belong to the later one.
class Generation {
 public:
  /// With what `files` holds of the same snapshot, so that workers share it. Slow; never on a
  /// worker.
  [[nodiscard]] static Result<std::unique_ptr<Generation>> create(
      std::shared_ptr<const Snapshot> snapshot, const TlsFiles& files);
  /// Reads the certificates by itself.
  [[nodiscard]] static Result<std::unique_ptr<Generation>> create(
      std::shared_ptr<const Snapshot> snapshot);
  /// For a snapshot of the same configuration with other endpoints; the worker gives it its base.
  [[nodiscard]] static std::unique_ptr<Generation> of_same_configuration(
      std::shared_ptr<const Snapshot> snapshot);

  /// What connections belong to: the generation itself, unless it stands on another.
  [[nodiscard]] Generation& base() { return base_ ? *base_ : *this; }
  [[nodiscard]] const Generation& base() const { return base_ ? *base_ : *this; }
  void stand_on(Generation& other) { base_ = GenerationRef{other.base()}; }
  /// The entry of the base that is the service of this snapshot: it has the same place.
  [[nodiscard]] const ServiceEntry& in_base(const ServiceEntry& service) const {
    const auto index = static_cast<std::size_t>(&service - snapshot_->services.data());
    return base().snapshot().services[index];
  }

  [[nodiscard]] const Snapshot& snapshot() const { return *snapshot_; }
  /// The TLS context of a bind, or nullptr for a plain one.
  [[nodiscard]] tls::ServerContext* tls_context(std::size_t bind) {
    std::optional<tls::ServerContext>& context = base().contexts_[bind];
    return context ? &*context : nullptr;
  }
  /// What endpoints of a service are spoken to with, or nullptr for the clear.
  [[nodiscard]] const tls::ClientContext* upstream_context(const ServiceEntry& service) const {
    return service.tls ? &base().trusts_[service.trust] : nullptr;
  }
  /// Tickets are sealed with these, which outlive the generation.
  void use_ticket_keys(const tls::TicketKeySet* keys) {
    for (std::optional<tls::ServerContext>& context : contexts_)
      if (context) context->use_ticket_keys(keys);
  }
  void leave_base() { base_ = {}; }
  /// On the worker's thread, before the generation is handed on to be destroyed.
  void leave_thread() {
    leave_base();
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
  GenerationRef base_;                                       // none: it is its own
  std::optional<tls::Library> library_;                      // of all contexts; none without TLS
  std::vector<std::optional<tls::ServerContext>> contexts_;  // by bind
  std::vector<tls::ClientContext> trusts_;                   // by Snapshot::trusts
  std::vector<std::uint32_t> turns_;                         // by service
  TrafficCounters traffic_;
  std::uint32_t users_ = 0;  // GenerationRefs; one core, no atomics
};

inline GenerationRef::GenerationRef(Generation& generation) : generation_{&generation} {
  ++generation_->users_;
}
inline GenerationRef::GenerationRef(const GenerationRef& other) : generation_{other.generation_} {
  if (generation_ != nullptr) ++generation_->users_;
}
inline GenerationRef::~GenerationRef() {
  if (generation_ != nullptr) --generation_->users_;
}

}  // namespace weir::proxy
