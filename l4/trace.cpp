#include "l4/trace.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/bpf.h>

#include <algorithm>
#include <array>
#include <memory>
#include <set>
#include <string_view>
#include <utility>

#include "l4/base/fd.h"
#include "l4/kernel_objects.h"
#include "l4/mapped_array.h"
#include "l4/program_settings.h"
#include "weir_lb_trace.skel.h"

namespace weir::l4 {
namespace {

/// Maps that programs only read: those that run, themselves.
constexpr std::array<std::string_view, 13> kShared{
    "weir_filter", "weir_addresses", "weir_prefixes",  "weir_services", "weir_ranges",
    "weir_vips",   "weir_members",   "weir_tables",    "weir_backends", "weir_lists",
    "weir_quic",   "weir_devices",   "weir_l7_workers"};

/// Maps that a run would change and whose content decides nothing: empty, and small. Whatever is in
/// neither list is copied, so that a map that is added later is safe.
constexpr std::array<std::string_view, 8> kEmpty{
    "weir_counters",     "weir_vip_counters",   "weir_backend_counters", "weir_flow_counters",
    "weir_nat_counters", "weir_monitor_filter", "weir_monitor",          "weir_source_limits"};

template <std::size_t size>
bool is_in(const std::array<std::string_view, size>& names, const char* name) {
  return std::ranges::find(names, std::string_view{name}) != names.end();
}

struct DestroySkeleton {
  void operator()(weir_lb_trace* skeleton) const { ::weir_lb_trace__destroy(skeleton); }
};
using Skeleton = std::unique_ptr<weir_lb_trace, DestroySkeleton>;

Result<bpf_map_info> map_info(int fd, std::string_view name) {
  bpf_map_info info{};
  std::uint32_t size = sizeof(info);
  if (::bpf_obj_get_info_by_fd(fd, &info, &size) != 0)
    return Error::from_errno(fmt::format("examining map {}", name));
  return info;
}

/// All entries of a hash or an array, in batches.
Result<void> copy_entries(int from, int to, const bpf_map_info& info) {
  constexpr std::uint32_t kBatch = 4096;  // must hold the fullest bucket of a hash
  std::vector<std::byte> keys(std::size_t{kBatch} * info.key_size);
  std::vector<std::byte> values(std::size_t{kBatch} * info.value_size);
  std::vector<std::byte> cursor(std::max<std::size_t>(info.key_size, sizeof(std::uint64_t)));
  bool is_last = false;
  for (bool is_first = true; !is_last; is_first = false) {
    std::uint32_t count = kBatch;
    const int outcome =
        ::bpf_map_lookup_batch(from, is_first ? nullptr : cursor.data(), cursor.data(), keys.data(),
                               values.data(), &count, nullptr);
    is_last = outcome != 0;
    if (is_last && errno != ENOENT) return Error::from_errno(fmt::format("reading {}", info.name));
    if (count == 0) continue;
    if (::bpf_map_update_batch(to, keys.data(), values.data(), &count, nullptr) != 0)
      return Error::from_errno(fmt::format("copying {}", info.name));
  }
  return {};
}

/// An array with one value per CPU.
Result<void> copy_values_per_cpu(int from, int to, const bpf_map_info& info) {
  const int cpus = ::libbpf_num_possible_cpus();
  if (cpus <= 0) return Error::from_errno("counting CPUs", -cpus);
  const std::size_t rounded = (info.value_size + 7) / 8 * 8;
  std::vector<std::byte> values(rounded * static_cast<std::size_t>(cpus));
  for (std::uint32_t index = 0; index < info.max_entries; ++index) {
    if (::bpf_map_lookup_elem(from, &index, values.data()) != 0 ||
        ::bpf_map_update_elem(to, &index, values.data(), BPF_ANY) != 0)
      return Error::from_errno(fmt::format("copying {}", info.name));
  }
  return {};
}

/// The large tables of flows, which the program writes meanwhile, a word at a time.
Result<void> copy_mapped(int from, int to, std::string_view name) {
  auto source = MappedArray<std::uint64_t>::open(from, name);
  if (!source) return std::move(source).error();
  auto target = MappedArray<std::uint64_t>::open(to, name);
  if (!target) return std::move(target).error();
  WEIR_ASSERT(source->values().size() == target->values().size());  // made so
  std::ranges::transform(source->values(), target->values().begin(),
                         [](std::uint64_t& word) { return read_now(word); });
  return {};
}

Result<void> copy_map(int from, int to, std::string_view name) {
  Result<bpf_map_info> info = map_info(from, name);
  if (!info) return std::move(info).error();
  if ((info->map_flags & BPF_F_MMAPABLE) != 0) return copy_mapped(from, to, name);
  if (info->type == BPF_MAP_TYPE_PERCPU_ARRAY) return copy_values_per_cpu(from, to, *info);
  return copy_entries(from, to, *info);
}

/// One tracing program with its maps, from load to end.
class Tracer {
 public:
  static Result<Tracer> load(const std::string& pin_directory, const Datapath& datapath) {
    collect_libbpf_words();
    Tracer tracer{pin_directory, Skeleton{::weir_lb_trace__open()}};
    if (!tracer.skeleton_) return libbpf_error("opening weir_lb_trace", errno);
    write_settings(*tracer.skeleton_->rodata, datapath.settings(), datapath.constants());
    if (Result<void> done = tracer.prepare_maps(); !done) return std::move(done).error();
    if (const int error = ::weir_lb_trace__load(tracer.skeleton_.get()); error != 0)
      return libbpf_error("loading the tracing program into the kernel", error);
    if (Result<void> done = tracer.copy_state(); !done) return std::move(done).error();
    return tracer;
  }

  /// The rates of these services' sources.
  Result<void> copy_source_limits(const KernelTables& tables,
                                  const std::set<std::uint32_t>& vip_ids) {
    for (const std::uint32_t vip_id : vip_ids) {
      if (Result<void> done = copy_source_limits(tables, vip_id); !done) return done;
    }
    return {};
  }

  struct Run {
    TracedPacket packet;
    bool came_in_by_device = true;  ///< as Traced's
  };

  Result<Run> run(std::span<const std::byte> frame, std::uint32_t ifindex) {
    skeleton_->bss->weir_trace = {};
    Run run;
    TracedPacket& packet = run.packet;
    packet.output.resize(kTracedBytesMax + 512);  // an answer or an outer header may be longer
    xdp_md context{};
    context.data_end = static_cast<std::uint32_t>(frame.size());
    context.ingress_ifindex = ifindex;
    LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = frame.data(),
                .data_out = packet.output.data(),
                .data_size_in = static_cast<std::uint32_t>(frame.size()),
                .data_size_out = static_cast<std::uint32_t>(packet.output.size()),
                .ctx_in = &context, .ctx_size_in = sizeof(context));
    const int program = ::bpf_program__fd(skeleton_->progs.weir_lb);
    int outcome = ::bpf_prog_test_run_opts(program, &options);
    if (outcome == -EINVAL) {
      run.came_in_by_device = false;
      options.ctx_in = nullptr;
      options.ctx_size_in = 0;
      options.data_size_out = static_cast<std::uint32_t>(packet.output.size());
      outcome = ::bpf_prog_test_run_opts(program, &options);
    }
    if (outcome != 0) return Error::from_errno("running the program over a packet", -outcome);
    packet.output.resize(options.data_size_out);
    packet.trace = skeleton_->bss->weir_trace;
    return run;
  }

 private:
  Tracer(std::string pin_directory, Skeleton skeleton)
      : pin_directory_{std::move(pin_directory)}, skeleton_{std::move(skeleton)} {}

  Result<UniqueFd> open_live(std::string_view name) const {
    const std::string path = fmt::format("{}/maps/{}", pin_directory_, name);
    UniqueFd fd{::bpf_obj_get(path.c_str())};
    if (!fd) return Error::from_errno(fmt::format("opening the pinned map {}", path));
    return fd;
  }

  Result<void> prepare_maps() {
    bpf_map* map = nullptr;
    bpf_object__for_each_map(map, skeleton_->obj) {
      const char* name = ::bpf_map__name(map);
      if (::bpf_map__is_internal(map)) continue;
      if (is_in(kEmpty, name)) {
        // The program passes over what a counter's map does not have.
        if (::bpf_map__type(map) == BPF_MAP_TYPE_PERCPU_ARRAY) ::bpf_map__set_max_entries(map, 1);
        continue;
      }
      Result<UniqueFd> live = open_live(name);
      if (!live) return std::move(live).error();
      if (is_in(kShared, name)) {
        if (const int error = ::bpf_map__reuse_fd(map, live->get()); error != 0)
          return libbpf_error(fmt::format("using the map {}", name), error);
        continue;
      }
      Result<bpf_map_info> info = map_info(live->get(), name);
      if (!info) return std::move(info).error();
      ::bpf_map__set_max_entries(map, info->max_entries);
    }
    return {};
  }

  Result<void> copy_state() {
    bpf_map* map = nullptr;
    bpf_object__for_each_map(map, skeleton_->obj) {
      const char* name = ::bpf_map__name(map);
      if (::bpf_map__is_internal(map) || is_in(kEmpty, name) || is_in(kShared, name)) continue;
      Result<UniqueFd> live = open_live(name);
      if (!live) return std::move(live).error();
      if (Result<void> copied = copy_map(live->get(), ::bpf_map__fd(map), name); !copied)
        return copied;
    }
    return {};
  }

  Result<void> copy_source_limits(const KernelTables& tables, std::uint32_t vip_id) {
    Result<std::optional<UniqueFd>> live = tables.open_sources(VipId{vip_id});
    if (!live) return std::move(live).error();
    if (!live->has_value()) return {};
    Result<UniqueFd> copy = KernelTables::make_sources();
    if (!copy) return std::move(copy).error();
    Result<void> copied = copy_map((*live)->get(), copy->get(), "weir_sources");
    if (!copied) return copied;
    const int outer = ::bpf_map__fd(skeleton_->maps.weir_source_limits);
    const int inner = copy->get();
    if (::bpf_map_update_elem(outer, &vip_id, &inner, BPF_ANY) != 0)
      return Error::from_errno("placing a copy of the sources' rates");
    return {};
  }

  std::string pin_directory_;
  Skeleton skeleton_;
};

/// Services of these packets that have rates for each source, as far as a run without them tells.
Result<std::set<std::uint32_t>> limited_per_source(const Datapath& datapath,
                                                   const std::vector<TracedPacket>& packets) {
  Result<std::vector<weir_vip>> vips = datapath.tables().read_vips();
  if (!vips) return std::move(vips).error();
  std::set<std::uint32_t> found;
  for (const TracedPacket& packet : packets) {
    const std::uint32_t count = std::min<std::uint32_t>(packet.trace.count, WEIR_TRACE_STEPS_MAX);
    for (const weir_trace_step& step : std::span{packet.trace.steps}.first(count)) {
      if (step.step != WEIR_STEP_VIP_BY_FLOW && step.step != WEIR_STEP_VIP_BY_PORT &&
          step.step != WEIR_STEP_VIP_BY_RANGE)
        continue;
      if (step.a >= vips->size()) continue;
      const weir_limits& limits = (*vips)[step.a].limits;
      if (limits.new_flows_per_source != 0 || limits.packets_per_source != 0)
        found.insert(static_cast<std::uint32_t>(step.a));
    }
  }
  return found;
}

/// Frames to be run, and what of the datapath they are run over.
struct Task {
  const std::string& pin_directory;
  const Datapath& datapath;
  std::uint32_t ifindex;
  std::span<const std::vector<std::byte>> frames;
};

/// By a tracer of its own, whose copies of the tables are gone at the end: they may be as large as
/// those that run, and two of each might be more than there is room for.
Result<Traced> run_all(const Task& task, const std::set<std::uint32_t>& limited) {
  Result<Tracer> tracer = Tracer::load(task.pin_directory, task.datapath);
  if (!tracer) return std::move(tracer).error();
  if (Result<void> done = tracer->copy_source_limits(task.datapath.tables(), limited); !done)
    return std::move(done).error();
  Traced traced;
  for (const std::vector<std::byte>& frame : task.frames) {
    Result<Tracer::Run> run = tracer->run(frame, task.ifindex);
    if (!run) return std::move(run).error();
    traced.came_in_by_device = traced.came_in_by_device && run->came_in_by_device;
    traced.packets.push_back(std::move(run->packet));
  }
  return traced;
}

}  // namespace

Result<Traced> trace_packets(const std::string& pin_directory, const Datapath& datapath,
                             std::uint32_t ifindex,
                             std::span<const std::vector<std::byte>> frames) {
  const Task task{pin_directory, datapath, ifindex, frames};
  Result<Traced> without_rates = run_all(task, {});
  if (!without_rates) return without_rates;
  Result<std::set<std::uint32_t>> limited = limited_per_source(datapath, without_rates->packets);
  if (!limited) return std::move(limited).error();
  if (limited->empty()) return without_rates;
  // Copies of all sources of all services would be too many; those that matter are known now.
  return run_all(task, *limited);
}

}  // namespace weir::l4
