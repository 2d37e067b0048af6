#include <linux/bpf.h>
#include <linux/btf.h>
#include <net/if.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <span>
#include <utility>

#include "l4/base/fd.h"
#include "tools/weir/doctor_facts.h"

/// What the kernel's BPF can do, tried out by bpf(2) itself: `weir` goes without libbpf.
namespace weir::cli {
namespace {

constexpr std::uint32_t kTcxIngress = 46;  // BPF_TCX_INGRESS of Linux 6.6, in no header of 6.1

// Where the kernel takes addresses as numbers (bpf(2)).
std::uint64_t address_of(const void* pointer) { return reinterpret_cast<std::uintptr_t>(pointer); }

long bpf(bpf_cmd command, bpf_attr& attributes) {
  return ::syscall(SYS_bpf, command, &attributes, sizeof(attributes));
}

bpf_attr no_attributes() {
  bpf_attr attributes;
  std::memset(&attributes, 0, sizeof(attributes));  // the kernel wants zeros in what is not used
  return attributes;
}

/// r0 = XDP_PASS; exit
constexpr std::array<bpf_insn, 2> kPass{
    {{.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = XDP_PASS},
     {.code = BPF_JMP | BPF_EXIT, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = 0}}};

bpf_attr pass_program(bpf_prog_type type) {
  static constexpr char kLicence[] = "GPL";
  bpf_attr attributes = no_attributes();
  attributes.prog_type = type;
  attributes.insns = address_of(kPass.data());
  attributes.insn_cnt = kPass.size();
  attributes.license = address_of(kLicence);
  return attributes;
}

/// Nothing where only rights are missing.
std::optional<bool> answer_of(long result) {
  if (result >= 0) {
    ::close(static_cast<int>(result));
    return true;
  }
  if (errno == EPERM || errno == EACCES) return std::nullopt;
  return false;
}

struct MapType {
  bpf_map_type type;
  const char* name;
  std::uint32_t key_bytes;
  std::uint32_t value_bytes;
  std::uint32_t entries;
  std::uint32_t flags;
};
/// Every type in bpf/maps.h but arrays of maps, which take a map to be made; and XSKMAP, DPDK's.
constexpr std::array<MapType, 9> kMapTypes{
    {{BPF_MAP_TYPE_ARRAY, "array", 4, 8, 1, 0},
     {BPF_MAP_TYPE_PERCPU_ARRAY, "percpu_array", 4, 8, 1, 0},
     {BPF_MAP_TYPE_HASH, "hash", 4, 8, 1, 0},
     {BPF_MAP_TYPE_LRU_HASH, "lru_hash", 4, 8, 1, 0},
     {BPF_MAP_TYPE_LPM_TRIE, "lpm_trie", 8, 8, 1, BPF_F_NO_PREALLOC},
     {BPF_MAP_TYPE_RINGBUF, "ringbuf", 0, 0, 65536, 0},
     {BPF_MAP_TYPE_DEVMAP, "devmap", 4, 8, 1, 0},
     {BPF_MAP_TYPE_DEVMAP_HASH, "devmap_hash", 4, 8, 1, 0},
     {BPF_MAP_TYPE_XSKMAP, "xskmap", 4, 4, 1, 0}}};

void try_maps(KernelFacts& kernel) {
  for (const MapType& map : kMapTypes) {
    bpf_attr attributes = no_attributes();
    attributes.map_type = map.type;
    attributes.key_size = map.key_bytes;
    attributes.value_size = map.value_bytes;
    attributes.max_entries = map.entries;
    attributes.map_flags = map.flags;
    const std::optional<bool> answer = answer_of(bpf(BPF_MAP_CREATE, attributes));
    if (!answer) return;
    if (!*answer) kernel.maps_missing.emplace_back(map.name);
  }
  kernel.maps_seen = true;
}

/// Asks what is attached to loopback: a kernel without tcx does not know the question.
std::optional<bool> try_tcx() {
  bpf_attr attributes = no_attributes();
  // A union with target_ifindex, which headers of 6.1 do not name.
  attributes.query.target_fd = ::if_nametoindex("lo");
  attributes.query.attach_type = kTcxIngress;
  if (bpf(BPF_PROG_QUERY, attributes) == 0) return true;
  if (errno == EPERM || errno == EACCES) return std::nullopt;
  return errno == ENOENT;  // known, and nothing is there
}

/// "int main(struct xdp_md *ctx)" in BTF: what a program has to say about itself so that another
/// may replace it.
class MainType {
 public:
  static constexpr std::uint32_t kFunction = 5;  ///< its id

  static UniqueFd load() {
    constexpr std::string_view kStrings{"\0int\0xdp_md\0ctx\0main\0", 21};
    constexpr std::uint32_t kInt = 1, kXdpMd = 5, kCtx = 12, kMain = 16;  // offsets in it
    const std::array<std::uint32_t, 18> types{kInt,   info(BTF_KIND_INT, 0),
                                              4,      BTF_INT_SIGNED << 24 | 32,  // 1: int
                                              kXdpMd, info(BTF_KIND_STRUCT, 0),
                                              0,  // 2: struct xdp_md
                                              0,      info(BTF_KIND_PTR, 0),
                                              2,  // 3: struct xdp_md *
                                              0,      info(BTF_KIND_FUNC_PROTO, 1),
                                              1,      kCtx,
                                              3,  // 4: int (… *ctx)
                                              kMain,  info(BTF_KIND_FUNC, BTF_FUNC_GLOBAL),
                                              4};  // 5: main
    const btf_header header{.magic = BTF_MAGIC,
                            .version = BTF_VERSION,
                            .flags = 0,
                            .hdr_len = sizeof(btf_header),
                            .type_off = 0,
                            .type_len = sizeof(types),
                            .str_off = sizeof(types),
                            .str_len = kStrings.size()};
    std::array<std::byte, sizeof(header) + sizeof(types) + kStrings.size()> blob;
    std::memcpy(blob.data(), &header, sizeof(header));
    std::memcpy(blob.data() + sizeof(header), types.data(), sizeof(types));
    std::memcpy(blob.data() + sizeof(header) + sizeof(types), kStrings.data(), kStrings.size());
    bpf_attr attributes = no_attributes();
    attributes.btf = address_of(blob.data());
    attributes.btf_size = blob.size();
    return UniqueFd{static_cast<int>(bpf(BPF_BTF_LOAD, attributes))};
  }

 private:
  static constexpr std::uint32_t info(std::uint32_t kind, std::uint32_t count) {
    return kind << 24 | count;
  }
};

/// Replaces a program that is attached to nothing by another, for a moment.
std::optional<bool> try_extension() {
  const UniqueFd types = MainType::load();
  if (!types) return errno == EPERM ? std::nullopt : std::optional{false};
  const bpf_func_info function{.insn_off = 0, .type_id = MainType::kFunction};
  const auto typed = [&](bpf_prog_type type) {
    bpf_attr attributes = pass_program(type);
    attributes.prog_btf_fd = static_cast<std::uint32_t>(types.get());
    attributes.func_info_rec_size = sizeof(function);
    attributes.func_info = address_of(&function);
    attributes.func_info_cnt = 1;
    return attributes;
  };
  bpf_attr target_attributes = typed(BPF_PROG_TYPE_XDP);
  const UniqueFd target{static_cast<int>(bpf(BPF_PROG_LOAD, target_attributes))};
  if (!target) return false;
  bpf_attr attributes = typed(BPF_PROG_TYPE_EXT);
  attributes.attach_prog_fd = static_cast<std::uint32_t>(target.get());
  attributes.attach_btf_id = MainType::kFunction;
  const UniqueFd extension{static_cast<int>(bpf(BPF_PROG_LOAD, attributes))};
  if (!extension) return false;
  // A kernel may take the program and still not be able to put it in place.
  bpf_attr place = no_attributes();
  place.raw_tracepoint.prog_fd = static_cast<std::uint32_t>(extension.get());
  return answer_of(bpf(BPF_RAW_TRACEPOINT_OPEN, place));
}

}  // namespace

void read_bpf_features(KernelFacts& kernel) {
  bpf_attr program = pass_program(BPF_PROG_TYPE_XDP);
  kernel.loads_xdp = answer_of(bpf(BPF_PROG_LOAD, program));
  if (!kernel.loads_xdp) return;  // the rest takes the same rights
  try_maps(kernel);
  kernel.has_tcx = try_tcx();
  kernel.extends_programs = try_extension();
  kernel.has_af_xdp = answer_of(::socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0));
}

std::string program_name(std::uint32_t id) {
  bpf_attr by_id = no_attributes();
  by_id.prog_id = id;
  const UniqueFd program{static_cast<int>(bpf(BPF_PROG_GET_FD_BY_ID, by_id))};
  if (!program) return {};
  bpf_prog_info info;
  std::memset(&info, 0, sizeof(info));
  bpf_attr attributes = no_attributes();
  attributes.info.bpf_fd = static_cast<std::uint32_t>(program.get());
  attributes.info.info_len = sizeof(info);
  attributes.info.info = address_of(&info);
  if (bpf(BPF_OBJ_GET_INFO_BY_FD, attributes) != 0) return {};
  return {info.name, ::strnlen(info.name, sizeof(info.name))};
}

}  // namespace weir::cli
