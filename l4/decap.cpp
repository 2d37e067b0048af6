#include "l4/decap.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <memory>

#include "l4/bpf_map.h"
#include "l4/decap_attach.h"
#include "l4/decap_host.h"
#include "l4/decap_program.h"
#include "l4/kernel_objects.h"

namespace weir::l4 {
namespace {

namespace fs = std::filesystem;

constexpr const char* kStateMap = "weir_decap_state";

/// Pinned beside the maps: under which contract, for whom, and with which settings.
struct PinnedState {
  std::uint32_t abi_version;
  std::uint32_t verdicts;  ///< how many there are to count: another release may have more
  std::uint64_t network_namespace;
  std::uint16_t gue_port;
  std::uint8_t mode;
  std::uint8_t hook;
  std::uint8_t any_source;
  std::uint8_t any_vip;
  std::uint8_t foreign;
  std::uint8_t reserved;
};
static_assert(sizeof(PinnedState) == 24);

using SourcesMap = Map<weir_address, std::uint32_t>;
using VipsMap = Map<weir_decap_vip_key, std::uint32_t>;
using StateMap = Map<std::uint32_t, PinnedState>;

std::string pin_place_of(const std::string& pin_directory, std::uint32_t ifindex) {
  return fmt::format("{}/{}", pin_directory, ifindex);
}

/// The inode that names this process's network namespace.
std::uint64_t network_namespace() {
  struct stat info {};
  return ::stat("/proc/self/ns/net", &info) == 0 ? info.st_ino : 0;
}

wire::IpAddress address_of(const weir_address& address) {
  wire::IpAddress out;
  std::ranges::copy(address.bytes, out.bytes.begin());
  return out;
}

Result<UniqueFd> open_pin(const std::string& place, const char* name) {
  UniqueFd fd{::bpf_obj_get(fmt::format("{}/{}", place, name).c_str())};
  if (!fd) return Error::from_errno(fmt::format("opening {}/{}", place, name));
  return fd;
}

/// One writer at a time; released when the descriptor is closed.
Result<UniqueFd> lock(const std::string& pin_directory) {
  UniqueFd directory{::open(pin_directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  if (!directory || ::flock(directory.get(), LOCK_EX) != 0)
    return Error::from_errno(fmt::format("locking {}", pin_directory));
  return directory;
}

Result<void> remove_place(const std::string& place) {
  std::error_code error;
  fs::remove_all(place, error);
  if (error) return Error::from_errno(fmt::format("removing {}", place), error.value());
  return {};
}

// ---- what is pinned ---------------------------------------------------------------------------

struct Existing {
  PinnedState state{};
  DecapAttachment attachment;
  std::uint32_t program_id = 0;
};

Result<PinnedState> read_state(const std::string& place) {
  Result<UniqueFd> fd = open_pin(place, kStateMap);
  if (!fd) return std::move(fd).error();
  bpf_map_info info{};
  std::uint32_t size = sizeof(info);
  if (::bpf_obj_get_info_by_fd(fd->get(), &info, &size) != 0)
    return Error::from_errno(fmt::format("examining {}/{}", place, kStateMap));
  PinnedState state{};
  if (info.value_size == sizeof(state)) {
    Result<std::optional<PinnedState>> read = StateMap{*std::move(fd), kStateMap}.get(0);
    if (!read) return std::move(read).error();
    state = read->value_or(state);
  }
  if (state.abi_version != WEIR_ABI_VERSION)
    return Error{ErrorCode::kUnsupported,
                 fmt::format("{} was pinned under ABI version {}, this program speaks {}", place,
                             state.abi_version, WEIR_ABI_VERSION),
                 "unload with the release that loaded it"};
  if (state.network_namespace != network_namespace())
    return Error{ErrorCode::kConflict,
                 fmt::format("{} belongs to another network namespace", place),
                 "give each namespace a directory of its own with --pin-dir"};
  return state;
}

/// What runs on the device by our pins. Pins of what is gone are removed.
Result<std::optional<Existing>> find_existing(const std::string& pin_directory,
                                              std::uint32_t ifindex) {
  const std::string place = pin_place_of(pin_directory, ifindex);
  std::error_code error;
  if (!fs::exists(place, error)) return std::optional<Existing>{};
  Result<PinnedState> state = read_state(place);
  if (!state) return std::move(state).error();
  Existing existing{*state, {}, 0};
  existing.attachment.hook = static_cast<DecapHook>(state->hook);
  existing.attachment.mode = static_cast<DecapMode>(state->mode);
  if (existing.attachment.hook != DecapHook::kClsact) {
    Result<UniqueFd> link = open_pin(place, "link");
    if (!link) return std::move(link).error();
    existing.attachment.link = *std::move(link);
  }
  Result<std::optional<std::uint32_t>> running = attached_program(existing.attachment, ifindex);
  if (!running) return std::move(running).error();
  if (*running) {
    existing.program_id = **running;
    return std::optional<Existing>{std::move(existing)};
  }
  if (Result<void> removed = remove_place(place); !removed) return std::move(removed).error();
  return std::optional<Existing>{};
}

Result<DecapSettings> read_settings(const std::string& place, const PinnedState& state) {
  DecapSettings settings{.sources = {},
                         .any_source = state.any_source != 0,
                         .vips = {},
                         .any_vip = state.any_vip != 0,
                         .gue_port = state.gue_port,
                         .foreign = static_cast<Foreign>(state.foreign)};
  Result<UniqueFd> sources = open_pin(place, kDecapSourcesMap);
  if (!sources) return std::move(sources).error();
  auto addresses =
      SourcesMap{*std::move(sources), kDecapSourcesMap}.entries(WEIR_DECAP_SOURCES_MAX);
  if (!addresses) return std::move(addresses).error();
  for (const auto& [address, unused] : *addresses)
    settings.sources.push_back(address_of(address));
  Result<UniqueFd> vips = open_pin(place, kDecapVipsMap);
  if (!vips) return std::move(vips).error();
  auto prefixes = VipsMap{*std::move(vips), kDecapVipsMap}.entries(WEIR_DECAP_VIPS_MAX);
  if (!prefixes) return std::move(prefixes).error();
  for (const auto& [key, unused] : *prefixes) {
    const wire::IpAddress address = address_of(key.address);
    const auto bits = static_cast<std::uint8_t>(key.prefix_bits);
    settings.vips.push_back(
        {address, static_cast<std::uint8_t>(address.is_v4() ? bits - kDecapMappedBits : bits)});
  }
  std::ranges::sort(settings.sources);
  std::ranges::sort(settings.vips);
  return settings;
}

// ---- making it --------------------------------------------------------------------------------

PinnedState state_of(const DecapSettings& settings, const DecapAttachment& attachment) {
  return {.abi_version = WEIR_ABI_VERSION,
          .verdicts = WEIR_DECAP_VERDICT_COUNT,
          .network_namespace = network_namespace(),
          .gue_port = settings.gue_port,
          .mode = static_cast<std::uint8_t>(attachment.mode),
          .hook = static_cast<std::uint8_t>(attachment.hook),
          .any_source = settings.any_source ? std::uint8_t{1} : std::uint8_t{0},
          .any_vip = settings.any_vip ? std::uint8_t{1} : std::uint8_t{0},
          .foreign = static_cast<std::uint8_t>(settings.foreign),
          .reserved = 0};
}

/// All but the link and the state, which depend on what the device admits.
Result<void> pin_object(const DecapProgram& loaded, const std::string& place) {
  if (Result<void> removed = remove_place(place); !removed) return removed;
  if (Result<void> made = make_directory(place); !made) return made;
  for (const char* name : {kDecapSourcesMap, kDecapVipsMap, kDecapCountersMap}) {
    if (Result<void> pinned = pin(loaded.map(name), fmt::format("{}/{}", place, name)); !pinned)
      return pinned;
  }
  return pin(loaded.program, place + "/program");
}

Result<void> pin_attachment(const DecapAttachment& attachment, const DecapSettings& settings,
                            const std::string& place) {
  UniqueFd fd{::bpf_map_create(BPF_MAP_TYPE_ARRAY, kStateMap, sizeof(std::uint32_t),
                               sizeof(PinnedState), 1, nullptr)};
  if (!fd) return Error::from_errno(fmt::format("creating the map {}", kStateMap));
  if (Result<void> pinned = pin(fd.get(), fmt::format("{}/{}", place, kStateMap)); !pinned)
    return pinned;
  const StateMap state{std::move(fd), kStateMap};
  if (Result<void> set = state.set(0, state_of(settings, attachment)); !set) return set;
  return attachment.link ? pin(attachment.link.get(), place + "/link") : Result<void>{};
}

/// Puts the finished directory in the place of the one before, in one step.
Result<void> publish(const std::string& unfinished, const std::string& place, bool replaces) {
  const int done =
      replaces ? ::renameat2(AT_FDCWD, unfinished.c_str(), AT_FDCWD, place.c_str(), RENAME_EXCHANGE)
               : ::rename(unfinished.c_str(), place.c_str());
  if (done != 0) return Error::from_errno(fmt::format("renaming {} to {}", unfinished, place));
  return replaces ? remove_place(unfinished) : Result<void>{};
}

/// Where to, and with what.
struct DecapTarget {
  std::string place;
  std::string device;
  std::uint32_t ifindex;
  DecapMode mode;
  const DecapSettings& settings;
};

bool is_xdp(DecapMode mode) { return mode != DecapMode::kTc; }

/// Whether what is attached serves the mode that is asked for.
bool fits(const DecapAttachment& attachment, DecapMode mode) {
  if (is_xdp(attachment.mode) != is_xdp(mode)) return false;
  return mode == DecapMode::kAuto || mode == attachment.mode;
}

/// A device has one XDP program at a time, so that a change between native and generic cannot be
/// made without a moment of none. That is for the operator to choose.
Result<void> check_change(const DecapAttachment& attachment, const std::string& device,
                          DecapMode mode) {
  if (fits(attachment, mode) || is_xdp(attachment.mode) != is_xdp(mode)) return {};
  return Error{ErrorCode::kConflict,
               fmt::format("{} is loaded in {} mode, and cannot go over to {} without a gap",
                           device, text_of(attachment.mode), text_of(mode)),
               fmt::format("leave --mode out, or 'weir decap unload {}' first", device)};
}

/// Counters go on where they count the same.
UniqueFd counters_of(const std::optional<Existing>& existing, const std::string& place) {
  if (!existing || existing->state.verdicts != WEIR_DECAP_VERDICT_COUNT) return {};
  Result<UniqueFd> counters = open_pin(place, kDecapCountersMap);
  return counters ? *std::move(counters) : UniqueFd{};
}

/// What is finished in `unfinished` onto the device and into `place`. The steps before publish()
/// leave what was there before as it was.
Result<DecapAttachment> bring_up(std::optional<Existing>& existing, const DecapProgram& loaded,
                                 const DecapTarget& target) {
  const std::string unfinished = target.place + "-unfinished";
  if (Result<void> pinned = pin_object(loaded, unfinished); !pinned)
    return std::move(pinned).error();
  const bool exchanges = existing && fits(existing->attachment, target.mode);
  Result<DecapAttachment> attachment =
      exchanges ? Result<DecapAttachment>{std::move(existing->attachment)}
                : attach_decap(loaded.program, target.device, target.ifindex, target.mode);
  if (!attachment) return attachment;
  Result<void> done = pin_attachment(*attachment, target.settings, unfinished);
  if (done && exchanges)
    done = exchange_decap(*attachment, loaded.program, target.device, target.ifindex);
  if (done) done = publish(unfinished, target.place, existing.has_value());
  if (!done) {
    if (!exchanges) static_cast<void>(detach_decap(*attachment, target.device, target.ifindex));
    return std::move(done).error();
  }
  // The one before goes when the new one is there: XDP and tc can stand beside each other.
  if (existing && !exchanges) {
    done = detach_decap(existing->attachment, target.device, target.ifindex);
    if (!done) return std::move(done).error();
  }
  return attachment;
}

Result<DecapStatus> describe(const std::string& pin_directory, std::uint32_t ifindex,
                             const Existing& existing) {
  Result<DecapSettings> settings =
      read_settings(pin_place_of(pin_directory, ifindex), existing.state);
  if (!settings) return std::move(settings).error();
  return DecapStatus{device_name(ifindex),     ifindex,
                     existing.attachment.mode, existing.attachment.hook,
                     existing.program_id,      *std::move(settings)};
}

Result<DecapStatus> status_of(const std::string& pin_directory, std::uint32_t ifindex) {
  Result<std::optional<Existing>> existing = find_existing(pin_directory, ifindex);
  if (!existing) return std::move(existing).error();
  if (*existing) return describe(pin_directory, ifindex, **existing);
  const std::string device = device_name(ifindex);
  return Error{ErrorCode::kNotFound, fmt::format("{} carries no decapsulation program", device),
               fmt::format("'weir decap load {}' loads it", device)};
}

}  // namespace

std::string_view text_of(DecapMode mode) {
  switch (mode) {
    case DecapMode::kAuto:
      return "auto";
    case DecapMode::kNative:
      return "native";
    case DecapMode::kGeneric:
      return "generic";
    case DecapMode::kTc:
      return "tc";
  }
  return {};
}

std::string_view text_of(DecapHook hook) {
  switch (hook) {
    case DecapHook::kXdp:
      return "xdp";
    case DecapHook::kTcx:
      return "tcx";
    case DecapHook::kClsact:
      return "clsact";
  }
  return {};
}

std::string_view text_of(Foreign foreign) { return foreign == Foreign::kDrop ? "drop" : "pass"; }

Result<void> check_decap_settings(const DecapSettings& settings) {
  if (settings.sources.empty() != settings.any_source)
    return Error{ErrorCode::kInvalid,
                 settings.any_source ? "--any-source and a list of sources exclude each other"
                                     : "no balancer is listed, so that nothing would be taken",
                 "give --source ADDRESS once per balancer, or --any-source if the network filters "
                 "tunnel packets at its border"};
  if (settings.vips.empty() != settings.any_vip)
    return Error{ErrorCode::kInvalid,
                 settings.any_vip ? "--any-vip and a list of VIPs exclude each other"
                                  : "no VIP is listed, so that nothing would be taken",
                 "give --vip ADDRESS or --vip PREFIX once per VIP, or --any-vip"};
  if (settings.sources.size() > WEIR_DECAP_SOURCES_MAX)
    return Error{ErrorCode::kInvalid, fmt::format("{} sources, at most {}", settings.sources.size(),
                                                  WEIR_DECAP_SOURCES_MAX)};
  if (settings.vips.size() > WEIR_DECAP_VIPS_MAX)
    return Error{ErrorCode::kInvalid,
                 fmt::format("{} VIPs, at most {}", settings.vips.size(), WEIR_DECAP_VIPS_MAX)};
  return {};
}

Result<DecapLoaded> load_decap(const std::string& pin_directory, const std::string& device,
                               DecapMode mode, const DecapSettings& settings) {
  if (Result<void> sound = check_decap_settings(settings); !sound) return std::move(sound).error();
  Result<std::uint32_t> ifindex = device_index(device);
  if (!ifindex) return std::move(ifindex).error();
  if (Result<void> fine = check_is_ethernet(device); !fine) return std::move(fine).error();
  Result<void> ready = ensure_bpf_file_system(pin_directory);
  if (ready) ready = make_directory(pin_directory);
  if (!ready) return std::move(ready).error();
  Result<UniqueFd> locked = lock(pin_directory);
  if (!locked) return std::move(locked).error();
  Result<std::optional<Existing>> existing = find_existing(pin_directory, *ifindex);
  if (!existing) return std::move(existing).error();
  if (*existing) {
    if (Result<void> may = check_change((*existing)->attachment, device, mode); !may)
      return std::move(may).error();
  }
  const std::string place = pin_place_of(pin_directory, *ifindex);
  const UniqueFd counters = counters_of(*existing, place);
  Result<DecapProgram> loaded = load_decap_program(mode, settings, counters.get());
  if (!loaded) return std::move(loaded).error();
  Result<DecapAttachment> attachment =
      bring_up(*existing, *loaded, {place, device, *ifindex, mode, settings});
  if (!attachment) {
    static_cast<void>(remove_place(place + "-unfinished"));
    return std::move(attachment).error();
  }
  Result<DecapStatus> status = status_of(pin_directory, *ifindex);
  if (!status) return std::move(status).error();
  DecapLoaded done{*std::move(status), decap_host_warnings(device, settings)};
  if (!attachment->reason.empty()) done.warnings.push_back(std::move(attachment->reason));
  return done;
}

Result<void> unload_decap(const std::string& pin_directory, const std::string& device) {
  Result<std::uint32_t> ifindex = device_index(device);
  if (!ifindex) return std::move(ifindex).error();
  std::error_code error;
  if (!fs::exists(pin_directory, error)) return status_of(pin_directory, *ifindex).error();
  Result<UniqueFd> locked = lock(pin_directory);
  if (!locked) return std::move(locked).error();
  Result<std::optional<Existing>> existing = find_existing(pin_directory, *ifindex);
  if (!existing) return std::move(existing).error();
  if (!*existing) return status_of(pin_directory, *ifindex).error();
  if (Result<void> gone = detach_decap((*existing)->attachment, device, *ifindex); !gone)
    return gone;
  return remove_place(pin_place_of(pin_directory, *ifindex));
}

Result<std::vector<DecapStatus>> decap_status(const std::string& pin_directory,
                                              const std::optional<std::string>& device) {
  std::vector<DecapStatus> found;
  if (device) {
    Result<std::uint32_t> ifindex = device_index(*device);
    if (!ifindex) return std::move(ifindex).error();
    Result<DecapStatus> status = status_of(pin_directory, *ifindex);
    if (!status) return std::move(status).error();
    found.push_back(*std::move(status));
    return found;
  }
  std::error_code error;
  if (!fs::exists(pin_directory, error)) return found;
  Result<std::vector<std::uint32_t>> indexes = pinned_indexes(pin_directory);
  if (!indexes) return std::move(indexes).error();
  std::ranges::sort(*indexes);
  for (const std::uint32_t ifindex : *indexes) {
    Result<std::optional<Existing>> existing = find_existing(pin_directory, ifindex);
    if (!existing) return std::move(existing).error();
    if (!*existing) continue;
    Result<DecapStatus> status = describe(pin_directory, ifindex, **existing);
    if (!status) return std::move(status).error();
    found.push_back(*std::move(status));
  }
  return found;
}

Result<std::vector<DecapCounter>> decap_counters(const std::string& pin_directory,
                                                 std::uint32_t ifindex) {
  static constexpr auto kNames = std::to_array<std::array<std::string_view, 3>>({
#define WEIR_DECAP_VERDICT(symbol, action, label, sentence) {label, #action, sentence},
#include "bpf/decap_verdicts.def"
#undef WEIR_DECAP_VERDICT
  });
  static_assert(kNames.size() == WEIR_DECAP_VERDICT_COUNT);
  Result<UniqueFd> fd = open_pin(pin_place_of(pin_directory, ifindex), kDecapCountersMap);
  if (!fd) return std::move(fd).error();
  const PerCpuMap<std::uint32_t, weir_counter> map{*std::move(fd), kDecapCountersMap};
  std::vector<DecapCounter> rows;
  for (std::uint32_t index = 0; index < kNames.size(); ++index) {
    Result<std::vector<weir_counter>> values = map.get(index);
    if (!values) return std::move(values).error();
    const auto& [label, action, sentence] = kNames[index];
    DecapCounter row{label, action == "PASS" ? "pass" : "drop", sentence, {}};
    for (const weir_counter& value : *values) {
      row.counter.packets += value.packets;
      row.counter.bytes += value.bytes;
    }
    rows.push_back(row);
  }
  return rows;
}

}  // namespace weir::l4
