#include "l4/datapath.h"

#include <sys/random.h>

#include <algorithm>
#include <filesystem>
#include <iterator>
#include <string_view>

#include "l4/chain.h"
#include "l4/flow_table.h"
#include "l4/kernel_clock.h"
#include "l4/kernel_objects.h"
#include "l4/nat_table.h"
#include "l4/program_settings.h"
#include "weir_l7_return.skel.h"
#include "weir_lb.skel.h"

namespace weir::l4 {
namespace {

namespace fs = std::filesystem;

constexpr const char* kProgram = "weir_lb";
constexpr const char* kReturnProgram = "weir_l7_return";
constexpr const char* kStateMap = "weir_state";
constexpr const char* kNatMaps[] = {"weir_nat_flows", "weir_nat_index"};
constexpr const char* kBesideOthers = "load with --chain";

/// Pinned beside the maps: under which contract and with which settings they were made.
///
/// A program and its settings are two pins, which no one step replaces. So a reload says first
/// that it is under way, then renames the new program into place, then writes the new settings.
/// Whoever finds `reloading` set knows that the pinned program is the old one or the new one, that
/// no link has been moved yet, and that the settings here are those of the program that runs. The
/// maps of a NAT table that is made then come between the two; a program without one has no use for
/// either pair.
struct PinnedState {
  std::uint32_t abi_version;
  std::uint32_t l7_workers;
  std::uint64_t hash_seed[2];
  std::uint32_t flows_max;
  std::uint32_t reloading;  // 0 or 1
  std::uint32_t answers_per_s;
  std::uint32_t ticks_per_s;
  std::uint32_t nat_flows_max;
  std::uint16_t snat_port_first;
  std::uint16_t snat_port_last;
  std::uint64_t flow_secret[2];  // never changes
};
static_assert(sizeof(PinnedState) == 64);

struct DestroyBalancer {
  void operator()(weir_lb* skeleton) const { ::weir_lb__destroy(skeleton); }
};
struct DestroyReturn {
  void operator()(weir_l7_return* skeleton) const { ::weir_l7_return__destroy(skeleton); }
};
using Balancer = std::unique_ptr<weir_lb, DestroyBalancer>;
using Return = std::unique_ptr<weir_l7_return, DestroyReturn>;

std::string maps_of(const std::string& directory) { return directory + "/maps"; }
std::string programs_of(const std::string& directory) { return directory + "/programs"; }
std::string links_of(const std::string& directory) { return directory + "/links"; }
std::string chained_of(const std::string& directory) { return directory + "/chained"; }
// Names by index: the BPF file system admits no dots, which device names may have.
std::string link_pin(const std::string& directory, std::uint32_t ifindex) {
  return fmt::format("{}/{}", links_of(directory), ifindex);
}

/// Where the maps of a program come from.
struct MapSource {
  std::optional<std::string> pinned;  ///< the directory whose maps are used; nothing: all are new
  bool has_new_nat_table = false;     ///< but those of the NAT table are
};

Result<DatapathConstants> find_constants() {
  Result<Ticks> ticks = measure_kernel_ticks();
  if (!ticks) return std::move(ticks).error();
  DatapathConstants constants{.ticks = *ticks, .flow_secret = {}};
  auto& words = constants.flow_secret.words;
  if (::getrandom(words.data(), sizeof(words), 0) != static_cast<ssize_t>(sizeof(words)))
    return Error::from_errno("drawing the secret of the flow table");
  return constants;
}

/// Points every map of an object that is pinned already at its pin.
Result<void> reuse_pinned_maps(bpf_object* object, const std::string& directory,
                               bool has_new_nat_table) {
  bpf_map* map = nullptr;
  bpf_object__for_each_map(map, object) {
    if (::bpf_map__is_internal(map)) continue;  // settings belong to the program, not to the maps
    const bool is_of_nat =
        std::ranges::find(kNatMaps, std::string_view{::bpf_map__name(map)}) != std::end(kNatMaps);
    if (has_new_nat_table && is_of_nat) continue;
    const std::string path = fmt::format("{}/{}", maps_of(directory), ::bpf_map__name(map));
    const UniqueFd fd{::bpf_obj_get(path.c_str())};
    if (!fd) return Error::from_errno(fmt::format("opening the pinned map {}", path));
    if (const int error = ::bpf_map__reuse_fd(map, fd.get()); error != 0)
      return libbpf_error(fmt::format("using the pinned map {}", path), error);
  }
  return {};
}

/// A table has a record a flow and two entries a record.
Result<void> size_nat_table(weir_lb& skeleton, std::uint32_t records) {
  if (records == 0) return {};
  int error = ::bpf_map__set_max_entries(skeleton.maps.weir_nat_flows, records);
  if (error == 0) error = ::bpf_map__set_max_entries(skeleton.maps.weir_nat_index, 2 * records);
  return error == 0 ? Result<void>{} : libbpf_error("sizing the NAT table", error);
}

Result<Balancer> open_balancer(const DatapathSettings& settings, const DatapathConstants& constants,
                               const MapSource& maps) {
  collect_libbpf_words();
  Balancer skeleton{::weir_lb__open()};
  if (!skeleton) return libbpf_error("opening weir_lb", errno);
  write_settings(*skeleton->rodata, settings, constants);
  if (!maps.pinned || maps.has_new_nat_table) {
    if (Result<void> sized = size_nat_table(*skeleton, settings.nat_flows_max); !sized)
      return std::move(sized).error();
  }
  if (maps.pinned) {
    Result<void> reused = reuse_pinned_maps(skeleton->obj, *maps.pinned, maps.has_new_nat_table);
    if (!reused) return std::move(reused).error();
    return skeleton;
  }
  const int error =
      ::bpf_map__set_max_entries(skeleton->maps.weir_flows, flow_sets(settings.flows_max));
  if (error != 0) return libbpf_error("sizing the flow table", error);
  return skeleton;
}

Result<Balancer> load_balancer(const DatapathSettings& settings, const DatapathConstants& constants,
                               const MapSource& maps) {
  Result<Balancer> skeleton = open_balancer(settings, constants, maps);
  if (!skeleton) return skeleton;
  if (const int error = ::weir_lb__load(skeleton->get()); error != 0)
    return libbpf_error("loading weir_lb into the kernel", error);
  return skeleton;
}

Result<Return> load_return() {
  collect_libbpf_words();
  Return skeleton{::weir_l7_return__open_and_load()};
  if (!skeleton) return libbpf_error("loading weir_l7_return into the kernel", errno);
  return skeleton;
}

Result<void> pin_maps(bpf_object* object, const std::string& directory) {
  bpf_map* map = nullptr;
  bpf_object__for_each_map(map, object) {
    if (::bpf_map__is_internal(map)) continue;
    const std::string path = fmt::format("{}/{}", maps_of(directory), ::bpf_map__name(map));
    if (Result<void> pinned = pin(::bpf_map__fd(map), path); !pinned) return pinned;
  }
  return {};
}

enum class Progress { kSettled, kReloading };

PinnedState pinned_state(const DatapathSettings& settings, const DatapathConstants& constants,
                         Progress progress) {
  return {.abi_version = WEIR_ABI_VERSION,
          .l7_workers = settings.l7_workers,
          .hash_seed = {settings.hash_seed.words[0], settings.hash_seed.words[1]},
          .flows_max = settings.flows_max,
          .reloading = progress == Progress::kReloading ? 1U : 0U,
          .answers_per_s = settings.answers_per_s,
          .ticks_per_s = constants.ticks.per_s,
          .nat_flows_max = settings.nat_flows_max,
          .snat_port_first = settings.snat_ports.first.value(),
          .snat_port_last = settings.snat_ports.last.value(),
          .flow_secret = {constants.flow_secret.words[0], constants.flow_secret.words[1]}};
}

Result<void> pin_new_map(const std::string& directory, const char* name, std::uint32_t value_size,
                         std::uint32_t entries) {
  const UniqueFd map{::bpf_map_create(BPF_MAP_TYPE_ARRAY, name, sizeof(std::uint32_t), value_size,
                                      entries, nullptr)};
  if (!map) return Error::from_errno(fmt::format("creating the map {}", name));
  return pin(map.get(), fmt::format("{}/{}", maps_of(directory), name));
}

Result<Map<std::uint32_t, PinnedState>> open_state(const std::string& directory) {
  const std::string path = fmt::format("{}/{}", maps_of(directory), kStateMap);
  UniqueFd fd{::bpf_obj_get(path.c_str())};
  if (!fd) return Error::from_errno(fmt::format("opening {}", path));
  bpf_map_info info{};
  std::uint32_t size = sizeof(info);
  if (::bpf_obj_get_info_by_fd(fd.get(), &info, &size) != 0)
    return Error::from_errno(fmt::format("examining {}", path));
  if (info.value_size != sizeof(PinnedState))
    return Error{ErrorCode::kUnsupported, fmt::format("{} has another layout", path)};
  return Map<std::uint32_t, PinnedState>{std::move(fd), kStateMap};
}

Result<void> write_state(const std::string& directory, const DatapathSettings& settings,
                         const DatapathConstants& constants, Progress progress) {
  Result<Map<std::uint32_t, PinnedState>> map = open_state(directory);
  if (!map) return std::move(map).error();
  return map->set(0, pinned_state(settings, constants, progress));
}

Result<PinnedState> read_state(const std::string& directory) {
  constexpr const char* kRemedy =
      "take the old datapath down with 'weir unload', which stops its traffic, then load again";
  Result<Map<std::uint32_t, PinnedState>> map = open_state(directory);
  if (!map) return std::move(map).error().with_remedy(kRemedy);
  Result<std::optional<PinnedState>> state = map->get(0);
  if (!state) return std::move(state).error();
  const PinnedState found = state->value_or(PinnedState{});
  if (found.abi_version != WEIR_ABI_VERSION)
    return Error{ErrorCode::kUnsupported,
                 fmt::format("the datapath in {} was pinned under ABI version {}, this daemon "
                             "speaks {}",
                             directory, found.abi_version, WEIR_ABI_VERSION),
                 kRemedy};
  return found;
}

/// Everything below `directory` that keeps kernel objects alive. Links go first, so that no
/// program runs over maps that are being taken away.
Result<void> remove_pins(const std::string& directory) {
  std::error_code error;
  for (const std::string& part : {links_of(directory), directory}) {
    fs::remove_all(part, error);
    if (error)
      return Error::from_errno(fmt::format("removing the pins in {}", part), error.value());
  }
  return {};
}

Result<void> pin_everything(const std::string& directory, const Balancer& balancer,
                            const Return& way_back, const DatapathSettings& settings,
                            const DatapathConstants& constants) {
  for (const std::string& part : {directory, maps_of(directory), programs_of(directory),
                                  links_of(directory), chained_of(directory)}) {
    if (Result<void> made = make_directory(part); !made) return made;
  }
  if (Result<void> step = pin_maps(balancer->obj, directory); !step) return step;
  if (Result<void> step = pin_maps(way_back->obj, directory); !step) return step;
  Result<void> step = pin_new_map(directory, kKeysMap, sizeof(KeyRecord), WEIR_VIPS_MAX);
  if (!step) return step;
  step = pin_new_map(directory, kStateMap, sizeof(PinnedState), 1);
  if (!step) return step;
  step = write_state(directory, settings, constants, Progress::kSettled);
  if (!step) return step;
  step = pin(::bpf_program__fd(balancer->progs.weir_lb),
             fmt::format("{}/{}", programs_of(directory), kProgram));
  if (!step) return step;
  return pin(::bpf_program__fd(way_back->progs.weir_l7_return),
             fmt::format("{}/{}", programs_of(directory), kReturnProgram));
}

/// The place of a pin that will be put in the place of `path`.
std::string beside(const std::string& path) { return path + "_new"; }

/// Whatever an unfinished attempt has left there goes.
Result<void> pin_beside(int fd, const std::string& path) {
  std::error_code ignored;
  fs::remove(beside(path), ignored);
  return pin(fd, beside(path));
}

Result<void> put_in_place(const std::string& path) {
  if (::rename(beside(path).c_str(), path.c_str()) == 0) return {};
  return Error::from_errno(fmt::format("renaming {} to {}", beside(path), path));
}

/// Puts the maps of a new NAT table in the places of those that the pins lead to.
Result<void> replace_nat_maps(bpf_object* object, const std::string& directory) {
  for (const char* name : kNatMaps) {
    const std::string path = fmt::format("{}/{}", maps_of(directory), name);
    const bpf_map* map = ::bpf_object__find_map_by_name(object, name);
    WEIR_ASSERT(map != nullptr);  // they are in bpf/maps.h
    if (Result<void> pinned = pin_beside(::bpf_map__fd(map), path); !pinned) return pinned;
    if (Result<void> placed = put_in_place(path); !placed) return placed;
  }
  return {};
}

Result<UniqueFd> open_program(const std::string& directory, const char* name) {
  const std::string path = fmt::format("{}/{}", programs_of(directory), name);
  UniqueFd fd{::bpf_obj_get(path.c_str())};
  if (!fd) return Error::from_errno(fmt::format("opening the pinned program {}", path));
  return fd;
}

}  // namespace

Result<Datapath> Datapath::open(const std::string& pin_directory) {
  Result<PinnedState> state = read_state(pin_directory);
  if (!state) return std::move(state).error();
  Result<KernelTables> tables = KernelTables::open(maps_of(pin_directory));
  if (!tables) return std::move(tables).error();
  Datapath datapath{pin_directory, std::make_unique<KernelTables>(*std::move(tables))};
  datapath.settings_ = {
      .hash_seed = {{state->hash_seed[0], state->hash_seed[1]}},
      .l7_workers = state->l7_workers,
      .answers_per_s = state->answers_per_s,
      .flows_max = state->flows_max,
      .nat_flows_max = state->nat_flows_max,
      .snat_ports = {wire::Port{state->snat_port_first}, wire::Port{state->snat_port_last}}};
  datapath.constants_ = {.ticks = {.per_s = state->ticks_per_s},
                         .flow_secret = {{state->flow_secret[0], state->flow_secret[1]}}};
  datapath.settled_ = state->reloading == 0;
  return datapath;
}

Result<std::optional<Datapath>> Datapath::adopt(const std::string& pin_directory) {
  std::error_code error;
  if (!fs::exists(maps_of(pin_directory), error)) return std::optional<Datapath>{};
  Result<Datapath> datapath = open(pin_directory);
  if (!datapath) return std::move(datapath).error();
  if (Result<void> cleaned = datapath->forget_dead_links(); !cleaned)
    return std::move(cleaned).error();
  // A daemon that ended late in a reload left links on the program before. One that ended earlier
  // left them where they belong until the reload is done again.
  if (datapath->settled()) {
    if (Result<void> moved = datapath->move_links(); !moved) return std::move(moved).error();
  }
  return std::optional<Datapath>{*std::move(datapath)};
}

Result<Datapath> Datapath::load(const std::string& pin_directory, const DatapathSettings& wanted) {
  DatapathSettings settings = wanted;
  settings.flows_max = flow_entries(wanted.flows_max);
  settings.nat_flows_max = nat_records(wanted.nat_flows_max);
  if (Result<void> mounted = ensure_bpf_file_system(pin_directory); !mounted)
    return std::move(mounted).error();
  Result<DatapathConstants> constants = find_constants();
  if (!constants) return std::move(constants).error();
  Result<Balancer> balancer = load_balancer(settings, *constants, {});
  if (!balancer) return std::move(balancer).error();
  Result<Return> way_back = load_return();
  if (!way_back) return std::move(way_back).error();
  // Beside its place and renamed: whoever looks after a crash finds all pins or none.
  const std::string unfinished = pin_directory + "-unfinished";
  if (Result<void> removed = remove_pins(unfinished); !removed) return std::move(removed).error();
  Result<void> pinned = pin_everything(unfinished, *balancer, *way_back, settings, *constants);
  if (pinned && ::rename(unfinished.c_str(), pin_directory.c_str()) != 0)
    pinned = Error::from_errno(fmt::format("renaming {} to {}", unfinished, pin_directory));
  if (!pinned) {
    static_cast<void>(remove_pins(unfinished));
    return std::move(pinned).error();
  }
  return open(pin_directory);
}

Result<void> Datapath::reload(const DatapathSettings& wanted) {
  DatapathSettings settings = wanted;
  settings.flows_max = settings_.flows_max;
  const bool makes_nat_table = settings_.nat_flows_max == 0 && wanted.nat_flows_max != 0;
  settings.nat_flows_max =
      makes_nat_table ? nat_records(wanted.nat_flows_max) : settings_.nat_flows_max;
  Result<Balancer> balancer = load_balancer(
      settings, constants_, {.pinned = pin_directory_, .has_new_nat_table = makes_nat_table});
  if (!balancer) return std::move(balancer).error();
  const std::string path = fmt::format("{}/{}", programs_of(pin_directory_), kProgram);
  Result<void> pinned = pin_beside(::bpf_program__fd((*balancer)->progs.weir_lb), path);
  if (!pinned) return pinned;
  settled_ = false;
  Result<void> saved = write_state(pin_directory_, settings_, constants_, Progress::kReloading);
  if (!saved) return saved;
  if (makes_nat_table) {
    Result<void> replaced = replace_nat_maps((*balancer)->obj, pin_directory_);
    if (replaced) replaced = tables_->reopen_nat_flows(maps_of(pin_directory_));
    if (!replaced) return replaced;
  }
  if (Result<void> placed = put_in_place(path); !placed) return placed;
  saved = write_state(pin_directory_, settings, constants_, Progress::kSettled);
  if (!saved) return saved;
  settings_ = settings;
  settled_ = true;
  return move_links();
}

Result<void> Datapath::forget_dead_links() const {
  for (const std::string& directory : {links_of(pin_directory_), chained_of(pin_directory_)}) {
    Result<std::vector<std::uint32_t>> indexes = pinned_indexes(directory);
    if (!indexes) return std::move(indexes).error();
    for (const std::uint32_t ifindex : *indexes) {
      const std::string path = fmt::format("{}/{}", directory, ifindex);
      bool alive = !device_name(ifindex).empty();
      if (alive && directory == links_of(pin_directory_)) {
        const UniqueFd link{::bpf_obj_get(path.c_str())};
        const Result<bpf_link_info> info = link ? link_info(link.get()) : bpf_link_info{};
        alive = info && info->xdp.ifindex == ifindex;
      }
      std::error_code error;
      if (!alive) fs::remove(path, error);
      if (error) return Error::from_errno(fmt::format("removing {}", path), error.value());
    }
  }
  return {};
}

Result<void> Datapath::move_links() {
  Result<UniqueFd> program = open_program(pin_directory_, kProgram);
  if (!program) return std::move(program).error();
  Result<bpf_prog_info> wanted = program_info(program->get());
  if (!wanted) return std::move(wanted).error();
  Result<std::vector<Attachment>> attached = attachments();
  if (!attached) return std::move(attached).error();
  for (const Attachment& attachment : *attached) {
    if (attachment.program_id == wanted->id) continue;
    if (attachment.chained) {
      // libxdp cannot exchange one member of a chain: leave it and join again.
      if (Result<void> left = detach(attachment); !left) return left;
      Result<Attachment> joined =
          attach_in_chain(attachment.device, attachment.ifindex, attachment.mode);
      if (!joined) return std::move(joined).error();
      continue;
    }
    const std::string path = link_pin(pin_directory_, attachment.ifindex);
    const UniqueFd link{::bpf_obj_get(path.c_str())};
    if (!link) return Error::from_errno(fmt::format("opening {}", path));
    if (::bpf_link_update(link.get(), program->get(), nullptr) != 0)
      return Error::from_errno(fmt::format("{}: exchanging the program", attachment.device));
  }
  return {};
}

Result<void> Datapath::check_device(const std::string& device, bool chain) {
  Result<std::uint32_t> ifindex = device_index(device);
  if (!ifindex) return std::move(ifindex).error();
  return chain ? Result<void>{} : check_free(device, *ifindex, kBesideOthers);
}

Result<Attachment> Datapath::attach(const std::string& device, control::XdpMode mode, bool chain) {
  Result<std::uint32_t> ifindex = device_index(device);
  if (!ifindex) return std::move(ifindex).error();
  if (Result<void> cleaned = forget_dead_links(); !cleaned) return std::move(cleaned).error();
  Result<std::vector<Attachment>> attached = attachments();
  if (!attached) return std::move(attached).error();
  for (const Attachment& existing : *attached) {
    if (existing.ifindex != *ifindex) continue;
    const bool mode_fits = mode == control::XdpMode::kAuto || mode == existing.mode;
    if (mode_fits && existing.chained == chain) return existing;
    if (Result<void> detached = detach(existing); !detached) return std::move(detached).error();
  }
  // A device that frames come in on is one that replies may be sent out of.
  if (Result<void> allowed = tables_->allow_device(*ifindex); !allowed)
    return std::move(allowed).error();
  return chain ? attach_in_chain(device, *ifindex, mode) : attach_link(device, *ifindex, mode);
}

Result<Attachment> Datapath::attach_link(const std::string& device, std::uint32_t ifindex,
                                         control::XdpMode mode) {
  if (Result<void> free = check_free(device, ifindex, kBesideOthers); !free)
    return std::move(free).error();
  Result<UniqueFd> program = open_program(pin_directory_, kProgram);
  if (!program) return std::move(program).error();
  Result<bpf_prog_info> info = program_info(program->get());
  if (!info) return std::move(info).error();
  Result<CreatedLink> link = create_link_in_mode(program->get(), device, ifindex, mode);
  if (!link) return std::move(link).error();
  // Without a pin the link would end with this process, and its traffic with it.
  if (Result<void> pinned = pin(link->fd.get(), link_pin(pin_directory_, ifindex)); !pinned)
    return std::move(pinned).error();
  return Attachment{.device = device,
                    .ifindex = ifindex,
                    .mode = link->mode,
                    .reason = std::move(link->reason),
                    .chained = false,
                    .program_id = info->id};
}

Result<Attachment> Datapath::attach_in_chain(const std::string& device, std::uint32_t ifindex,
                                             control::XdpMode mode) {
  Result<Balancer> balancer = open_balancer(settings_, constants_, {.pinned = pin_directory_});
  if (!balancer) return std::move(balancer).error();
  Result<Chained> chained = attach_chained((*balancer)->obj, kProgram, device, ifindex, mode);
  if (!chained) return std::move(chained).error();
  Result<bpf_prog_info> info = program_info(chained->program.get());
  if (!info) return std::move(info).error();
  const std::string mark = fmt::format("{}/{}", chained_of(pin_directory_), ifindex);
  if (Result<void> pinned = pin(chained->program.get(), mark); !pinned)
    return std::move(pinned).error();
  return Attachment{.device = device,
                    .ifindex = ifindex,
                    .mode = chained->mode,
                    .reason = {},
                    .chained = true,
                    .program_id = info->id};
}

Result<void> Datapath::detach(const Attachment& attachment) {
  std::error_code error;
  if (attachment.chained) {
    Result<void> left = detach_chained(kProgram, attachment.device, attachment.ifindex);
    if (!left) return left;
    fs::remove(fmt::format("{}/{}", chained_of(pin_directory_), attachment.ifindex), error);
  } else {
    const std::string path = link_pin(pin_directory_, attachment.ifindex);
    // Explicitly: the pin's removal would free the link only some time later.
    const UniqueFd link{::bpf_obj_get(path.c_str())};
    if (link && ::bpf_link_detach(link.get()) != 0)
      return Error::from_errno(fmt::format("{}: detaching", attachment.device));
    fs::remove(path, error);
  }
  if (error)
    return Error::from_errno(fmt::format("{}: removing the pin", attachment.device), error.value());
  return {};
}

Result<std::vector<Attachment>> Datapath::attachments() const {
  std::vector<Attachment> found;
  Result<UniqueFd> way_back = open_program(pin_directory_, kReturnProgram);
  if (!way_back) return std::move(way_back).error();
  Result<bpf_prog_info> way_back_info = program_info(way_back->get());
  if (!way_back_info) return std::move(way_back_info).error();
  Result<std::vector<std::uint32_t>> links = pinned_indexes(links_of(pin_directory_));
  if (!links) return std::move(links).error();
  for (const std::uint32_t ifindex : *links) {
    const UniqueFd link{::bpf_obj_get(link_pin(pin_directory_, ifindex).c_str())};
    if (!link) continue;
    Result<bpf_link_info> info = link_info(link.get());
    if (!info) return std::move(info).error();
    // Index 0: the device is gone. The return program's links are the carrier's affair.
    if (info->xdp.ifindex == 0 || info->prog_id == way_back_info->id) continue;
    found.push_back({.device = device_name(ifindex),
                     .ifindex = ifindex,
                     .mode = mode_on(ifindex),
                     .reason = {},
                     .chained = false,
                     .program_id = info->prog_id});
  }
  Result<std::vector<std::uint32_t>> chained = pinned_indexes(chained_of(pin_directory_));
  if (!chained) return std::move(chained).error();
  for (const std::uint32_t ifindex : *chained) {
    const std::string mark = fmt::format("{}/{}", chained_of(pin_directory_), ifindex);
    const UniqueFd program{::bpf_obj_get(mark.c_str())};
    if (!program) continue;
    Result<bpf_prog_info> info = program_info(program.get());
    if (!info) return std::move(info).error();
    found.push_back({.device = device_name(ifindex),
                     .ifindex = ifindex,
                     .mode = mode_on(ifindex),
                     .reason = {},
                     .chained = true,
                     .program_id = info->id});
  }
  return found;
}

Result<void> Datapath::attach_return(const std::string& device, control::XdpMode mode) {
  Result<std::uint32_t> ifindex = device_index(device);
  if (!ifindex) return std::move(ifindex).error();
  if (Result<void> cleaned = forget_dead_links(); !cleaned) return cleaned;
  const std::string path = link_pin(pin_directory_, *ifindex);
  if (const UniqueFd existing{::bpf_obj_get(path.c_str())}; existing) {
    if (mode == control::XdpMode::kAuto || mode_on(*ifindex) == mode) return {};
    if (Result<void> detached = detach({.device = device, .ifindex = *ifindex, .reason = {}});
        !detached)
      return detached;
  }
  if (Result<void> free = check_free(device, *ifindex, kBesideOthers); !free) return free;
  Result<UniqueFd> program = open_program(pin_directory_, kReturnProgram);
  if (!program) return std::move(program).error();
  Result<CreatedLink> link = create_link_in_mode(program->get(), device, *ifindex, mode);
  if (!link) return std::move(link).error();
  return pin(link->fd.get(), path);
}

std::optional<std::uint64_t> Datapath::program_runs() const {
  const Result<UniqueFd> program = open_program(pin_directory_, kProgram);
  if (!program) return std::nullopt;
  const Result<bpf_prog_info> info = program_info(program->get());
  // The kernel counts only when told to, and the first packet of any device is a run.
  if (!info || info->run_cnt == 0) return std::nullopt;
  return info->run_cnt;
}

Result<void> Datapath::unload(const std::string& pin_directory) {
  std::error_code error;
  if (!fs::exists(pin_directory, error)) return {};
  Result<std::vector<std::uint32_t>> chained = std::vector<std::uint32_t>{};
  if (fs::exists(chained_of(pin_directory), error))
    chained = pinned_indexes(chained_of(pin_directory));
  if (!chained) return std::move(chained).error();
  for (const std::uint32_t ifindex : *chained) {
    Result<void> left = detach_chained(kProgram, device_name(ifindex), ifindex);
    if (!left) return left;
  }
  if (fs::exists(links_of(pin_directory), error)) {
    Result<std::vector<std::uint32_t>> links = pinned_indexes(links_of(pin_directory));
    if (!links) return std::move(links).error();
    for (const std::uint32_t ifindex : *links) {
      const UniqueFd link{::bpf_obj_get(link_pin(pin_directory, ifindex).c_str())};
      if (link && ::bpf_link_detach(link.get()) != 0)
        return Error::from_errno(fmt::format("{}: detaching", device_name(ifindex)));
    }
  }
  return remove_pins(pin_directory);
}

}  // namespace weir::l4
