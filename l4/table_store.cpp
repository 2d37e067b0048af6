#include "l4/table_store.h"

#include <algorithm>
#include <numeric>
#include <span>
#include <string_view>

#include "l4/base/siphash.h"
#include "l4/inner_map.h"

namespace weir::l4 {
namespace {

constexpr const char* kTableName = "weir_table";
constexpr const char* kNoneName = "weir_no_table";
constexpr std::size_t kReadLatelyMax = 16;

void add_lines(std::vector<weir_table_line>& lines, std::span<const MemberNumber> slots) {
  const std::size_t first = lines.size();
  lines.resize(first + weir_lines_of(static_cast<std::uint32_t>(slots.size())));
  for (std::size_t slot = 0; slot < slots.size(); ++slot)
    lines[first + slot / WEIR_LINE_SLOTS].slots[slot % WEIR_LINE_SLOTS] = slots[slot].value();
}

std::vector<weir_table_line> lines_of(const Table& table) {
  std::vector<weir_table_line> lines(1);
  lines[0].size = static_cast<std::uint32_t>(table.current.size());
  lines[0].previous_size = static_cast<std::uint32_t>(table.previous.size());
  add_lines(lines, table.current);
  add_lines(lines, table.previous);
  return lines;
}

std::vector<MemberNumber> slots_of(std::span<const weir_table_line> lines, std::uint32_t size) {
  std::vector<MemberNumber> slots(size);
  for (std::size_t slot = 0; slot < size; ++slot)
    slots[slot] = MemberNumber{lines[slot / WEIR_LINE_SLOTS].slots[slot % WEIR_LINE_SLOTS]};
  return slots;
}

std::uint64_t digest_of(std::span<const weir_table_line> lines) {
  // What tables hold is chosen by the operator, whom it would only harm to make two of one digest.
  constexpr SipKey kKey{{0x77656972, 0x7461626c6573}};
  return siphash(kKey, std::as_bytes(lines));
}

Result<UniqueFd> create_table(const char* name, std::span<const weir_table_line> lines) {
  Result<UniqueFd> fd = create_inner_map({.type = BPF_MAP_TYPE_ARRAY,
                                          .name = name,
                                          .key_bytes = sizeof(std::uint32_t),
                                          .value_bytes = sizeof(weir_table_line),
                                          .entries = static_cast<std::uint32_t>(lines.size()),
                                          .flags = BPF_F_INNER_MAP});
  if (!fd) return fd;
  Map<std::uint32_t, weir_table_line> table{*std::move(fd), name};
  std::vector<std::uint32_t> keys(lines.size());
  std::iota(keys.begin(), keys.end(), 0U);
  if (Result<void> filled = table.set_all(keys, lines); !filled) return std::move(filled).error();
  return std::move(table).release();
}

Result<bpf_map_info> info_of(const UniqueFd& map) {
  bpf_map_info info{};
  std::uint32_t size = sizeof(info);
  if (::bpf_obj_get_info_by_fd(map.get(), &info, &size) != 0)
    return Error::from_errno("examining a Maglev table");
  return info;
}

}  // namespace

Result<TableStore::SharedFd> TableStore::make(VipId vip, const Table& table) {
  const std::vector<weir_table_line> lines = lines_of(table);
  const Digest digest = digest_of(lines);
  const auto known = shared_.find(digest);
  if (known != shared_.end()) {
    if (SharedFd fd = open(known->second)) {
      use(vip, digest);
      return fd;
    }
  }
  Result<UniqueFd> made = create_table(kTableName, lines);
  if (!made) return std::move(made).error();
  Result<bpf_map_info> info = info_of(*made);
  if (!info) return std::move(info).error();
  auto fd = std::make_shared<const UniqueFd>(*std::move(made));
  shared_[digest].map_id = info->id;
  shared_[digest].staged = fd;
  use(vip, digest);
  return fd;
}

Result<TableStore::SharedFd> TableStore::none() {
  if (none_) return none_;
  const std::vector<weir_table_line> lines(2);  // of size 0; its one line has no backend
  Result<UniqueFd> made = create_table(kNoneName, lines);
  if (!made) return std::move(made).error();
  none_ = std::make_shared<const UniqueFd>(*std::move(made));
  return none_;
}

bool TableStore::is_none(VipId vip, std::uint32_t map_id) const {
  if (digests_.contains(vip)) return false;  // it was read, or made
  const UniqueFd map{::bpf_map_get_fd_by_id(map_id)};
  if (!map) return false;
  const Result<bpf_map_info> info = info_of(map);
  return info && std::string_view{info->name} == kNoneName;
}

Result<Table> TableStore::read(VipId vip, std::uint32_t map_id) {
  const auto known = std::ranges::find(read_lately_, map_id, &Read::map_id);
  if (known != read_lately_.end()) {
    use(vip, known->digest);
    return known->table;
  }
  UniqueFd fd{::bpf_map_get_fd_by_id(map_id)};
  if (!fd) return Error::from_errno(fmt::format("opening the table of VIP id {}", vip.value()));
  const Result<bpf_map_info> info = info_of(fd);
  if (!info) return info.error();
  const Map<std::uint32_t, weir_table_line> map{std::move(fd), kTableName};
  auto entries = map.entries(info->max_entries);
  if (!entries) return std::move(entries).error();
  std::vector<weir_table_line> lines;
  for (const auto& [index, line] : *entries)
    lines.push_back(line);
  const weir_table_line sizes = lines.at(0);
  const std::size_t second = 1 + std::size_t{weir_lines_of(sizes.size)};
  if (lines.size() < second + weir_lines_of(sizes.previous_size))
    return Error{ErrorCode::kInternal,
                 fmt::format("the table of VIP id {} has {} lines, too few for {} and {} slots",
                             vip.value(), lines.size(), sizes.size, sizes.previous_size)};
  const std::span all{lines};
  Table table{.current = slots_of(all.subspan(1), sizes.size),
              .previous = slots_of(all.subspan(second), sizes.previous_size)};
  if (table.current.empty()) return table;  // none()
  const Digest digest = digest_of(lines);
  shared_[digest].map_id = map_id;
  use(vip, digest);
  read_lately_.push_back({map_id, digest, table});
  if (read_lately_.size() > kReadLatelyMax) read_lately_.pop_front();
  return table;
}

void TableStore::use(VipId vip, Digest digest) {
  const auto known = digests_.find(vip);
  if (known != digests_.end() && known->second == digest) return;
  forget(vip);
  digests_[vip] = digest;
  ++shared_[digest].vips;
}

void TableStore::forget(VipId vip) {
  const auto known = digests_.find(vip);
  if (known == digests_.end()) return;
  const auto shared = shared_.find(known->second);
  if (shared != shared_.end() && --shared->second.vips == 0) shared_.erase(shared);
  digests_.erase(known);
}

/// Nothing where the map is gone: a change that was not published had made it.
TableStore::SharedFd TableStore::open(Shared& shared) {
  if (SharedFd staged = shared.staged.lock()) return staged;
  UniqueFd fd{::bpf_map_get_fd_by_id(shared.map_id)};
  if (!fd) return nullptr;
  auto opened = std::make_shared<const UniqueFd>(std::move(fd));
  shared.staged = opened;
  return opened;
}

}  // namespace weir::l4
