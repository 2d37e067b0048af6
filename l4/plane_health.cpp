// The plane's part in health checks: what is asked, by which way, and what becomes of the answers.

#include "l4/base/log.h"
#include "l4/plane.h"

namespace weir::l4 {

void Plane::open_probe_path() {
  Result<ProbePath> path = ProbePath::open();
  if (path) {
    probe_path_.emplace(*std::move(path));
    return;
  }
  log_warning("health checks ask backends at their own addresses, not at the VIPs on them: {}",
              path.error().text());
}

void Plane::set_targets() {
  if (!prober_ || (!board_.take_targets_changed() && !probes_are_stale_)) return;
  publish_targets();
}

void Plane::publish_targets() {
  probes_are_stale_ = false;
  probe_warning_.clear();
  std::vector<ProbeWays::Wish> wishes;
  std::vector<control::VipKey> keys;  // of the targets, in their order
  std::vector<control::ProbeTarget> targets =
      board_.targets([&](const control::Vip& vip, const control::ProbeTarget& target) {
        const control::VipKey key = vip.key();
        if (keys.empty() || keys.back() != key)
          wishes.push_back(
              {.vip = key, .mode = vip.mode, .gue_port = vip.gue_port, .backends = {}});
        keys.push_back(key);
        wishes.back().backends.push_back(target.backend);
        const auto reason = why_not_through(vip.address, target.backend, vip.mode);
        if (reason && vip.mode != control::ForwardMode::kNat && probe_warning_.empty())
          probe_warning_ =
              fmt::format("health checks of backend {} of {} ask it at its own address: {}",
                          target.backend.text(), control::vip_text(key), *reason);
      });
  if (probe_path_) {
    probe_ways_.set_wishes(wishes);
    for (std::size_t i = 0; i < targets.size(); ++i)
      targets[i].mark = probe_ways_.mark_of(keys[i], targets[i].backend);
    set_probe_ways();
  }
  prober_->set_targets(std::move(targets));
}

void Plane::set_probe_ways() {
  const std::vector<ProbeVia> ways =
      probe_ways_.resolve([this](const wire::IpAddress& backend, control::ForwardMode mode) {
        return next_hops_.resolve(backend, mode == control::ForwardMode::kL2);
      });
  std::vector<std::uint32_t> receiving;
  const Result<std::vector<Attachment>> attached = attachments();
  if (attached && !ways.empty()) {
    for (const Attachment& attachment : *attached)
      receiving.push_back(attachment.ifindex);
  }
  Result<void> set = probe_path_->set_paths(ways, receiving);
  if (set) return;
  probe_warning_ = fmt::format("the way of health checks: {}", set.error().text());
  log_error("{}", probe_warning_);
}

Instant Plane::next_health_event() const { return programmer_ ? board_.next_event() : kNever; }

void Plane::on_health(Instant now) {
  if (prober_) board_.take_results(prober_->take_results(), now);
  set_targets();
  if (!programmer_ || failed_) return;  // on_tick() brings the kernel to what the board says
  std::vector<control::Operation> operations;
  for (control::Vip& vip : board_.take_due(now)) {
    const auto installed = programmer_->vips().find(vip.key());
    if (installed == programmer_->vips().end() || installed->second.vip == vip) continue;
    operations.push_back(
        {control::OperationKind::kUpdateVip, installed->second.vip, std::move(vip)});
  }
  if (operations.empty()) return;
  Result<void> done = programmer_->apply(operations);
  if (done) return;
  log_error("following the health of backends: {}", done.error().text());
  failed_ = std::move(done).error();
  next_attempt_ = Instant{};  // try on the next tick
}

}  // namespace weir::l4
