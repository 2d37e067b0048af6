#include "l4/plane.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <iterator>
#include <set>

#include "l4/base/bytes.h"
#include "l4/base/log.h"
#include "l4/control/change_text.h"
#include "l4/control/diff.h"
#include "l4/control/host_facts.h"
#include "l4/flow_table.h"
#include "l4/nat_table.h"

namespace weir::l4 {
namespace {

constexpr Duration kProbeInterval = std::chrono::seconds{1};
constexpr Duration kAttemptInterval = std::chrono::seconds{5};

std::uint32_t workers_of(const DesiredState& state) {
  return state.model.gateways.empty() ? 0 : state.model.node.l7.workers;
}

/// One daemon per pin directory. The lock file stands in /run, because the BPF file system has no
/// files; its name is the directory's.
std::string lock_path(const PlaneOptions& options) {
  std::string name = options.pin_directory;
  std::ranges::replace(name, '/', '_');
  return fmt::format("/run/weir-l4{}.lock", name);
}

Result<UniqueFd> lock_pins(const PlaneOptions& options) {
  const std::string path = lock_path(options);
  // A daemon that ends removes its file: whoever opened it just before holds a lock on nothing.
  constexpr int kAttemptsMax = 10;
  for (int attempt = 0; attempt < kAttemptsMax; ++attempt) {
    UniqueFd fd{::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, S_IRUSR | S_IWUSR)};
    if (!fd) return Error::from_errno(fmt::format("opening {}", path));
    if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
      if (errno != EWOULDBLOCK) return Error::from_errno(fmt::format("locking {}", path));
      break;
    }
    struct stat held {};
    struct stat named {};
    if (::fstat(fd.get(), &held) == 0 && ::stat(path.c_str(), &named) == 0 &&
        held.st_ino == named.st_ino && held.st_dev == named.st_dev)
      return fd;
  }
  return Error{ErrorCode::kConflict,
               fmt::format("another weir-l4 is the writer of {}", options.pin_directory),
               "stop it first, or give this one a --pin-dir of its own"};
}

/// The same for the state on disk: two pin directories may name one state directory by mistake.
Result<UniqueFd> lock_state(const std::string& directory) {
  if (Result<void> made = Store::make_directory(directory); !made) return std::move(made).error();
  UniqueFd fd{::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  if (!fd) return Error::from_errno(fmt::format("opening {}", directory));
  if (::flock(fd.get(), LOCK_EX | LOCK_NB) == 0) return fd;
  return Error{ErrorCode::kConflict, fmt::format("another weir-l4 is the writer of {}", directory),
               "stop it first, or give this one a --state-dir of its own"};
}

Result<void> check_duplicates(const DesiredState& state) {
  std::set<control::VipKey> keys;
  const ServiceView services{state};
  for (const control::Vip* vip : services.of_file())
    keys.insert(vip->key());
  for (const control::Vip& vip : state.manual_vips) {
    if (keys.insert(vip.key()).second) continue;
    return Error{
        ErrorCode::kConflict,
        fmt::format("VIP {} is in {} and was added by hand too", control::vip_text(vip.key()),
                    state.file.empty() ? "the configuration" : state.file),
        fmt::format("remove it (weir vip del {}), or give it the same values in the file, whose it "
                    "then becomes",
                    control::vip_text(vip.key()))};
  }
  return {};
}

bool has_nat(const DesiredState& state) {
  const ServiceView services{state};
  return std::ranges::any_of(services.all(), [](const control::Vip* vip) {
    return vip->mode == control::ForwardMode::kNat;
  });
}

/// Whether nobody could tell them apart: a text that says the same in other words is no change.
bool same_wish(const DesiredState& left, const DesiredState& right) {
  return left.file == right.file && left.load == right.load && left.overrides == right.overrides &&
         left.manual_vips == right.manual_vips && left.model == right.model;
}

/// What only loads or unloads, or says something of backends, is written as that.
std::optional<StateChange> small_change(const DesiredState& have, const DesiredState& next) {
  if (have.file != next.file || have.text != next.text || have.manual_vips != next.manual_vips ||
      have.model != next.model)
    return std::nullopt;
  return StateChange{.set = {}, .removed = {}, .load = next.load, .overrides = next.overrides};
}

/// VIPs that are in both states and change their owner.
std::vector<std::string> owner_changes(const DesiredState& have, const DesiredState& next) {
  std::vector<std::string> lines;
  const auto add = [&](const DesiredState& by_hand, const DesiredState& by_file,
                       std::string_view words) {
    if (by_hand.manual_vips.empty()) return;
    std::set<control::VipKey> keys;
    const ServiceView services{by_file};
    for (const control::Vip* vip : services.of_file())
      keys.insert(vip->key());
    for (const control::Vip& vip : by_hand.manual_vips) {
      if (keys.contains(vip.key()))
        lines.push_back(fmt::format("vip {}: owner {}", control::vip_text(vip.key()), words));
    }
  };
  add(have, next, "manual → file");
  add(next, have, "file → manual");
  return lines;
}

}  // namespace

Revision next_revision(const DesiredState& last, std::string cause,
                       std::vector<std::string> changes) {
  return {last.revision + 1, unix_now_s(), std::move(cause), std::move(changes)};
}

Result<std::unique_ptr<Plane>> Plane::open(const PlaneOptions& options) {
  Result<UniqueFd> pins_lock = lock_pins(options);
  if (!pins_lock) return std::move(pins_lock).error();
  // Before the store is opened, which mends what a killed writer has left.
  Result<UniqueFd> state_lock = lock_state(options.state_directory);
  if (!state_lock) return std::move(state_lock).error();
  Result<Store> store = Store::open(options.state_directory, options.revisions_max);
  if (!store) return std::move(store).error();
  Result<NetlinkSocket> netlink = NetlinkSocket::open();
  if (!netlink) return std::move(netlink).error();
  Result<NextHops> hops = NextHops::open();
  if (!hops) return std::move(hops).error();
  std::unique_ptr<Plane> plane{new Plane{options, *std::move(pins_lock), *std::move(store),
                                         *std::move(netlink), *std::move(hops)}};
  plane->state_lock_ = *std::move(state_lock);
  if (Result<void> started = plane->start(); !started) return std::move(started).error();
  Result<control::Prober> prober = control::Prober::start();
  if (!prober) return std::move(prober).error();
  plane->prober_.emplace(*std::move(prober));
  plane->open_probe_path();
  plane->set_targets();
  return plane;
}

Plane::~Plane() {
  if (lock_) ::unlink(lock_path(options_).c_str());  // while the lock is held
}

Result<void> Plane::start() {
  Result<DesiredState> stored = store_.read();
  if (!stored) return std::move(stored).error();
  desired_ = *std::move(stored);
  if (Result<void> adopted = adopt(); !adopted) {
    log_error("{}", adopted.error().text());
    refused_ = std::move(adopted).error();
    return {};
  }
  if (desired_.revision == 0 && datapath_) {
    import_pinned_vips();
    return refresh_next_hops();
  }
  if (Result<void> done = reconcile(desired_); !done) {
    log_error("bringing the kernel to revision {}: {}", desired_.revision, done.error().text());
    failed_ = std::move(done).error();
  }
  return {};
}

Result<void> Plane::adopt() {
  programmer_.reset();
  datapath_.reset();
  Result<std::optional<Datapath>> adopted = Datapath::adopt(options_.pin_directory);
  if (!adopted) return std::move(adopted).error();
  if (!adopted->has_value()) return {};
  datapath_.emplace(std::move(**adopted));
  // A daemon that was killed while somebody watched has left a ring that nobody empties.
  if (watcher_.expired()) {
    if (Result<void> removed = remove_stale_ring(datapath_->tables()); !removed) return removed;
  }
  return adopt_programmer();
}

Result<std::shared_ptr<Monitor>> Plane::watch(const weir_monitor_filter& filter) {
  if (!datapath_)
    return Error{ErrorCode::kUnavailable,
                 "the balancer is loaded on no device, so there is nothing to watch",
                 "load it: weir load DEVICE"};
  if (!watcher_.expired())
    return Error{ErrorCode::kConflict, "somebody is watching already, and only one can at a time",
                 "end the other 'weir monitor' first"};
  Result<Monitor> monitor = Monitor::start(datapath_->tables(), filter);
  if (!monitor) return std::move(monitor).error();
  auto watcher = std::make_shared<Monitor>(*std::move(monitor));
  watcher_ = watcher;
  return watcher;
}

Result<void> Plane::adopt_programmer() {
  programmer_.reset();
  const ProgrammerSettings settings{.seed = datapath_->settings().hash_seed,
                                    .ticks = datapath_->constants().ticks};
  Result<Programmer> programmer =
      Programmer::adopt(datapath_->tables(), settings,
                        [this](const wire::IpAddress& address, control::ForwardMode mode) {
                          return next_hops_.resolve(address, mode == control::ForwardMode::kL2);
                        });
  if (!programmer) {
    datapath_.reset();
    return std::move(programmer).error();
  }
  programmer_.emplace(*std::move(programmer));
  return {};
}

/// What is pinned was given up where a failure could not be taken back; pins that were refused wait
/// for unload(), and until then nothing can be wanted that is loaded somewhere.
Result<void> Plane::ensure_adopted(const LoadSettings& wanted) {
  if (refused_ && !wanted.devices.empty()) return *refused_;
  if (datapath_ || refused_) return {};
  return adopt();
}

/// Pins without any state on disk: the disk was lost, or the state directory is another one. What
/// runs stays as it is; it becomes the desired state with the next change.
void Plane::import_pinned_vips() {
  for (control::Vip& vip : programmer_->installed()) {
    if (vip.mode != control::ForwardMode::kL7) desired_.manual_vips.push_back(std::move(vip));
  }
  desired_.model.node.block_list = programmer_->node().block_list;
  desired_.model.node.icmp.echo = programmer_->node().answers_echo;
  desired_.model.node.icmp.rate_per_s = datapath_->settings().answers_per_s;
  desired_.model.node.l4.flows_max = datapath_->settings().flows_max;
  desired_.model.node.l4.snat_ports = datapath_->settings().snat_ports;
  if (datapath_->settings().nat_flows_max != 0)
    desired_.model.node.l4.nat_flows_max = datapath_->settings().nat_flows_max;
  Result<std::vector<Attachment>> attached = datapath_->attachments();
  if (attached) {
    for (const Attachment& attachment : *attached) {
      desired_.load.devices.push_back(attachment.device);
      desired_.load.chain = desired_.load.chain || attachment.chained;
    }
  }
  log_warning(
      "{} holds a running datapath, but {} holds no state: its {} VIPs were taken over by address, "
      "with names and weights lost; apply the configuration again",
      options_.pin_directory, store_.directory(), desired_.manual_vips.size());
}

Result<void> Plane::validate(const DesiredState& next) {
  if (Result<void> ready = ensure_adopted(next.load); !ready) return ready;
  if (Result<void> distinct = check_duplicates(next); !distinct) return distinct;
  const ServiceView services{next};
  if (Result<void> fits = Programmer::check_capacity(services.all()); !fits) return fits;
  Result<std::vector<Attachment>> attached = attachments();
  if (!attached) return std::move(attached).error();
  for (const std::string& device : next.load.devices) {
    const bool ours = std::ranges::find(*attached, device, &Attachment::device) != attached->end();
    if (ours || is_away(device)) continue;
    if (Result<void> usable = Datapath::check_device(device, next.load.chain); !usable)
      return usable;
  }
  return {};
}

std::vector<std::string> Plane::preview(const DesiredState& next) const {
  std::vector<std::string> changes;
  for (const std::string& device : desired_.load.devices) {
    if (std::ranges::find(next.load.devices, device) == next.load.devices.end())
      changes.push_back(fmt::format("unload {}", device));
  }
  for (const control::Operation& operation :
       control::diff_vips(services_of(desired_), services_of(next)))
    std::ranges::move(control::change_lines(operation), std::back_inserter(changes));
  std::ranges::move(owner_changes(desired_, next), std::back_inserter(changes));
  for (const std::string& device : next.load.devices) {
    if (std::ranges::find(desired_.load.devices, device) == desired_.load.devices.end())
      changes.push_back(fmt::format("load {} ({})", device, control::text_of(next.load.mode)));
  }
  if (workers_of(desired_) != workers_of(next))
    changes.push_back(
        fmt::format("L7 workers: {} instead of {}", workers_of(next), workers_of(desired_)));
  if (desired_.model.node.hash_seed != next.model.node.hash_seed) {
    const bool remembers_flows = !datapath_ || datapath_->settings().flows_max != 0;
    changes.push_back(fmt::format("change the hash seed: {} flows are spread anew",
                                  remembers_flows ? "new" : "all"));
  }
  const bool is_new_nat = has_nat(next) && !has_nat(desired_);
  if (is_new_nat && (!datapath_ || datapath_->settings().nat_flows_max == 0))
    changes.push_back(fmt::format("make a NAT table of {} records",
                                  nat_records(next.model.node.l4.nat_flows_max)));
  std::ranges::move(control::node_changes(desired_.model.node, next.model.node),
                    std::back_inserter(changes));
  return changes;
}

Result<std::vector<std::string>> Plane::change(DesiredState next, const std::string& cause) {
  if (!next.overrides.empty()) control::drop_stale_overrides(next.overrides, services_of(next));
  std::vector<std::string> changes;
  if (same_wish(next, desired_) && !failed_) return changes;
  if (Result<void> valid = validate(next); !valid) return std::move(valid).error();
  changes = preview(next);
  next.revision = desired_.revision + 1;
  // A full disk is found out before the kernel is touched; not all steps can be taken back.
  Result<Store::Pending> staged =
      store_.stage(next_revision(desired_, cause, changes), next, small_change(desired_, next));
  if (!staged) return std::move(staged).error();
  Result<void> done = reconcile(next);
  // On disk before anybody is told that it was done. A crash before this line brings the kernel
  // back to the old revision at the next start.
  if (done) done = staged->commit();
  if (!done) {
    restore();
    return std::move(done).error();
  }
  failed_.reset();
  desired_ = std::move(next);
  set_targets();
  log_info("revision {}: {}", desired_.revision, cause);
  return changes;
}

/// After a failure: read back what is in the kernel, whatever the step was, and go to the state
/// before.
void Plane::restore() {
  Result<void> done = adopt();
  if (done) done = reconcile(desired_);
  if (done) return;
  log_error("going back to revision {}: {}", desired_.revision, done.error().text());
  failed_ = std::move(done).error();
}

Result<void> Plane::unload() {
  DesiredState next = desired_;
  next.load.devices.clear();
  std::optional<Store::Pending> staged;
  if (next.load != desired_.load) {
    ++next.revision;
    Result<Store::Pending> written =  // before the traffic is stopped
        store_.stage(next_revision(desired_, "unload", preview(next)), next,
                     small_change(desired_, next));
    if (!written) return std::move(written).error();
    staged.emplace(*std::move(written));
  }
  if (Result<void> down = take_down(); !down) {
    if (!refused_) restore();
    return down;
  }
  if (staged) {
    if (Result<void> written = staged->commit(); !written) {
      restore();
      return written;
    }
    desired_ = std::move(next);
    log_info("revision {}: unload", desired_.revision);
  }
  refused_.reset();
  failed_.reset();
  return {};
}

Result<void> Plane::take_down() {
  programmer_.reset();
  datapath_.reset();
  board_.set_wishes({}, {}, monotonic_now());
  set_targets();
  reasons_.clear();
  if (Result<void> unloaded = Datapath::unload(options_.pin_directory); !unloaded) return unloaded;
  return remove_carrier(netlink_);
}

/// Fill, then publish, then attach. Idempotent: what is right already is left alone.
Result<void> Plane::reconcile(const DesiredState& next) {
  if (next.load.devices.empty()) return datapath_ ? take_down() : Result<void>{};
  // What is waiting to be read already may be what the new VIPs need.
  const Result<bool> followed = next_hops_.follow();
  if (!followed) return followed.error();
  if (*followed) probes_are_stale_ = true;
  if (Result<void> step = ensure_datapath(next); !step) return step;
  if (Result<void> step = ensure_workers(next); !step) return step;
  next_hops_.forget_watched();
  const Instant now = monotonic_now();
  const std::vector<control::Vip> wishes = services_of(next);
  board_.set_wishes(wishes, programmer_->vips(), now);
  if (Result<void> step = programmer_->apply(
          control::diff_vips(programmer_->installed(), board_.effective(wishes, now)));
      !step)
    return step;
  if (Result<void> step = programmer_->refresh_next_hops(); !step) return step;
  if (Result<void> step = ensure_attached(next); !step) return step;
  return ensure_returns(next);
}

Result<void> Plane::ensure_datapath(const DesiredState& next) {
  const DatapathSettings wanted{
      .hash_seed = control::seed_of(next.model.node.hash_seed),
      .l7_workers = workers_of(next),
      .answers_per_s = next.model.node.icmp.rate_per_s,
      .flows_max = next.model.node.l4.flows_max,
      // Memory only for who translates: the first VIP in mode nat brings
      // the table, without a packet missed, and it stays until unload.
      .nat_flows_max = has_nat(next) ? next.model.node.l4.nat_flows_max : 0,
      .snat_ports = next.model.node.l4.snat_ports};
  if (!datapath_) {
    Result<Datapath> fresh = Datapath::load(options_.pin_directory, wanted);
    if (!fresh) return std::move(fresh).error();
    datapath_.emplace(*std::move(fresh));
    return adopt_programmer();
  }
  const DatapathSettings& present = datapath_->settings();
  const bool settled = datapath_->settled();
  const bool seed_changes = !(present.hash_seed == wanted.hash_seed);
  const bool needs_nat_table = present.nat_flows_max == 0 && wanted.nat_flows_max != 0;
  if (settled && !seed_changes && !needs_nat_table && present.l7_workers == wanted.l7_workers &&
      present.answers_per_s == wanted.answers_per_s && present.snat_ports == wanted.snat_ports)
    return {};
  if (Result<void> reloaded = datapath_->reload(wanted); !reloaded) return reloaded;
  // Tables are built with the seed: forget the present ones, so that all are compared again.
  return seed_changes ? adopt_programmer() : Result<void>{};
}

Result<void> Plane::ensure_workers(const DesiredState& next) {
  KernelTables& tables = datapath_->tables();
  const std::uint32_t workers = workers_of(next);
  if (workers == 0) {
    if (Result<void> set = set_node_rules(next); !set) return set;
    return remove_carrier(netlink_);
  }
  const std::string& device = next.load.devices.front();
  const auto nic = link_named(device);
  if (nic == links().end())
    return Error{ErrorCode::kNotFound, fmt::format("there is no network device {}", device)};
  Result<std::vector<WorkerPair>> pairs = ensure_carrier(
      netlink_, {.workers = workers, .mac = nic->second.mac, .mtu = nic->second.mtu});
  if (!pairs) return std::move(pairs).error();
  if (Result<void> set = set_workers(*pairs, lane_of(*pairs)); !set) return set;
  for (const WorkerPair& pair : *pairs) {
    for (const WorkerPair& beside : *pairs) {
      if (beside.index != pair.index || beside.lane == pair.lane) continue;
      Result<void> set = tables.set_other_lane(pair.balancer_ifindex, beside.balancer_ifindex);
      if (!set) return set;
    }
  }
  if (Result<void> set = tables.set_return_device(nic->first); !set) return set;
  return set_node_rules(next);
}

/// The kernel's tables say which lane is in use, so that a new daemon knows.
Lane Plane::lane_of(const std::vector<WorkerPair>& pairs) {
  const auto first = datapath_->tables().worker(0);
  if (!first) return Lane::kBlue;
  const auto found = std::ranges::find(pairs, first->value_or(0), &WorkerPair::balancer_ifindex);
  return found == pairs.end() ? Lane::kBlue : found->lane;
}

Result<void> Plane::set_workers(const std::vector<WorkerPair>& pairs, Lane lane) {
  for (const WorkerPair& pair : pairs) {
    if (pair.lane != lane) continue;
    Result<void> set = datapath_->tables().set_worker(pair.index, pair.balancer_ifindex);
    if (!set) return set;
  }
  return {};
}

Result<std::vector<WorkerPair>> Plane::carrier_in_use() {
  Result<std::vector<WorkerPair>> pairs = workers();
  if (!pairs || (datapath_ && !pairs->empty())) return pairs;
  return Error{ErrorCode::kConflict, "there are no devices that lead to weir-l7",
               "apply a configuration with a gateway, and load the balancer"};
}

Result<Lane> Plane::lane() {
  const Result<std::vector<WorkerPair>> pairs = carrier_in_use();
  if (!pairs) return pairs.error();
  return lane_of(*pairs);
}

Result<void> Plane::use_lane(Lane lane) {
  const Result<std::vector<WorkerPair>> pairs = carrier_in_use();
  if (!pairs) return pairs.error();
  const Lane before = lane_of(*pairs);
  Result<void> set = set_workers(*pairs, lane);
  if (set && lane != before) log_info("packets for weir-l7 go into the {} lane now", text_of(lane));
  return set;
}

Result<void> Plane::set_node_rules(const DesiredState& next) {
  NodeRules rules{.answers_echo = next.model.node.icmp.echo,
                  .block_list = next.model.node.block_list,
                  .l7_addresses = {},
                  .snat_addresses = next.model.node.l4.snat_addresses};
  if (workers_of(next) > 0) {
    for (const wire::Prefix& prefix : next.model.node.l7.addresses)
      rules.l7_addresses.push_back(prefix.address);
  }
  return programmer_->set_node(rules);
}

Result<void> Plane::ensure_attached(const DesiredState& next) {
  for (const std::string& device : next.load.devices) {
    if (is_away(device)) continue;
    Result<Attachment> attached = datapath_->attach(device, next.load.mode, next.load.chain);
    if (!attached) return std::move(attached).error();
    if (!attached->reason.empty()) {
      log_warning("{}; generic mode is slower", attached->reason);
      reasons_[device] = attached->reason;
    }
  }
  Result<std::vector<Attachment>> all = datapath_->attachments();
  if (!all) return std::move(all).error();
  for (const Attachment& attachment : *all) {
    const auto& wanted = next.load.devices;
    if (std::ranges::find(wanted, attachment.device) != wanted.end()) continue;
    if (Result<void> detached = datapath_->detach(attachment); !detached) return detached;
  }
  return {};
}

/// After the devices, because the way back must run in the mode that the NIC got: a driver that
/// refuses native programs takes no redirected frames either, and only generic mode sends by skb.
Result<void> Plane::ensure_returns(const DesiredState& next) {
  if (workers_of(next) == 0) return {};
  Result<std::vector<Attachment>> attached = datapath_->attachments();
  if (!attached) return std::move(attached).error();
  const auto nic = std::ranges::find(*attached, next.load.devices.front(), &Attachment::device);
  WEIR_ASSERT(nic != attached->end());  // ensure_attached() has just put it there
  for (std::uint32_t worker = 0; worker < workers_of(next); ++worker) {
    for (const Lane lane : control::kLanes) {
      Result<void> done = datapath_->attach_return(balancer_end_of(worker, lane), nic->mode);
      if (!done) return done;
    }
  }
  return {};
}

Result<std::vector<Attachment>> Plane::attachments() const {
  if (!datapath_) return std::vector<Attachment>{};
  Result<std::vector<Attachment>> found = datapath_->attachments();
  if (!found) return found;
  for (Attachment& attachment : *found) {
    const auto reason = reasons_.find(attachment.device);
    if (reason != reasons_.end()) attachment.reason = reason->second;
  }
  return found;
}

Result<std::vector<WorkerPair>> Plane::workers() { return find_carrier(netlink_); }

const std::map<control::VipKey, InstalledVip>& Plane::installed() const {
  static const std::map<control::VipKey, InstalledVip> kNone;
  return programmer_ ? programmer_->vips() : kNone;
}

std::vector<std::string> Plane::warnings() const {
  std::vector<std::string> out;
  if (refused_) out.push_back(refused_->text());
  if (failed_) out.push_back(failed_->text());
  if (desired_.revision == 0 && !desired_.manual_vips.empty())
    out.emplace_back(
        "there was no state on disk: what runs was taken over, with names, weights and health "
        "checks lost; apply the configuration again");
  if (desired_.model.node.hash_seed.empty())
    out.emplace_back(
        "node.hashSeed is not set: the built-in seed is public, so that clients can "
        "aim flows at one backend");
  for (const auto& [device, reason] : reasons_)
    out.push_back(reason);
  for (const std::string& device : desired_.load.devices) {
    if (is_away(device))
      out.push_back(fmt::format(
          "device {} is not there; the balancer is loaded on it again when it returns", device));
  }
  const std::uint32_t flows_wanted = desired_.model.node.l4.flows_max;
  if (datapath_ && datapath_->settings().flows_max != flow_entries(flows_wanted))
    out.push_back(fmt::format(
        "node.l4.flows is {}, but the running flow table has {} entries: its size changes when "
        "the balancer is unloaded and loaded again",
        flows_wanted, datapath_->settings().flows_max));
  for (std::string& warning : nat_warnings())
    out.push_back(std::move(warning));
  if (!probe_warning_.empty()) out.push_back(probe_warning_);
  return out;
}

std::vector<std::string> Plane::nat_warnings() const {
  std::vector<std::string> out;
  if (!datapath_ || !has_nat(desired_)) return out;
  const std::uint32_t records = datapath_->settings().nat_flows_max;
  const std::uint32_t wanted = desired_.model.node.l4.nat_flows_max;
  if (records != 0 && records != nat_records(wanted))
    out.push_back(fmt::format(
        "node.l4.natFlows is {}, but the running NAT table has {} records: its size changes when "
        "the balancer is unloaded and loaded again",
        wanted, records));
  const Result<std::vector<Attachment>> attached = attachments();
  if (!attached) return out;
  for (const auto& [key, installed] : programmer_->vips()) {
    if (installed.vip.mode != control::ForwardMode::kNat) continue;
    for (const InstalledBackend& entry : installed.backends) {
      const std::uint32_t egress = entry.entry.egress_ifindex;
      if (egress == 0 ||
          std::ranges::find(*attached, egress, &Attachment::ifindex) != attached->end())
        continue;
      out.push_back(fmt::format(
          "VIP {}: replies of backend {} come in by {}, where the balancer is not loaded, and stay "
          "untranslated: weir load {}",
          control::vip_text(key), entry.backend.address.text(), device_of(egress),
          device_of(egress)));
    }
  }
  return out;
}

std::map<std::uint32_t, Link>::const_iterator Plane::link_named(const std::string& device) const {
  return std::ranges::find(links(), device, [](const auto& entry) { return entry.second.name; });
}

std::string Plane::device_of(std::uint32_t ifindex) const {
  const auto link = links().find(ifindex);
  return link == links().end() ? fmt::format("device {}", ifindex) : link->second.name;
}

std::uint64_t Plane::seed_digest() const {
  const SipKey seed = control::seed_of(desired_.model.node.hash_seed);
  return siphash(seed, as_bytes("digest"));
}

/// One that the balancer was to be loaded on before, and that is not there now: no reason to refuse
/// changes. It is loaded again when it returns.
bool Plane::is_away(const std::string& device) const {
  return std::ranges::find(desired_.load.devices, device) != desired_.load.devices.end() &&
         link_named(device) == links().end();
}

/// Devices come and go under a running balancer; a link dies with its device.
bool Plane::has_all_devices() {
  const Result<std::vector<Attachment>> attached = attachments();
  if (!attached) return false;
  const bool attached_everywhere =
      std::ranges::all_of(desired_.load.devices, [&](const std::string& device) {
        return is_away(device) ||
               std::ranges::find(*attached, device, &Attachment::device) != attached->end();
      });
  const Result<std::vector<WorkerPair>> pairs = workers();
  return attached_everywhere && pairs &&
         pairs->size() == control::kLanes.size() * workers_of(desired_);
}

Result<void> Plane::refresh_next_hops() {
  next_hops_.forget_watched();
  return programmer_->refresh_next_hops();
}

void Plane::on_network_change() {
  Result<bool> changed = next_hops_.follow();
  if (!changed) log_error("{}", changed.error().text());
  if (changed && *changed && programmer_) after_network_change();
}

void Plane::after_network_change() {
  if (!failed_ && !has_all_devices()) {
    failed_.emplace(ErrorCode::kUnavailable, "a device that carries the balancer went away");
    next_attempt_ = Instant{};  // try on the next tick
  }
  if (Result<void> refreshed = refresh_next_hops(); !refreshed)
    log_error("refreshing next hops: {}", refreshed.error().text());
  probes_are_stale_ = true;
}

void Plane::on_tick(Instant now) {
  if (failed_ && !refused_ && now >= next_attempt_) {
    next_attempt_ = now + kAttemptInterval;
    Result<void> done = adopt();
    if (done) done = reconcile(desired_);
    if (done) {
      log_info("the kernel is in revision {} again", desired_.revision);
      failed_.reset();
    } else {
      if (done.error().text() != failed_->text())
        log_error("bringing the kernel to revision {}: {}", desired_.revision, done.error().text());
      failed_ = std::move(done).error();
    }
  }
  if (!programmer_ || now < next_probe_) return;
  next_probe_ = now + kProbeInterval;
  if (Result<void> probed = next_hops_.probe(); !probed)
    log_error("probing neighbours: {}", probed.error().text());
}

}  // namespace weir::l4
