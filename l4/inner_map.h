#pragma once

#include <bpf/bpf.h>
#include <fmt/format.h>

#include <cstdint>

#include "l4/base/fd.h"
#include "l4/base/result.h"

namespace weir::l4 {

/// What an inner map is created as; it has to be what bpf/maps.h says of its outer map.
struct InnerMap {
  bpf_map_type type;
  const char* name;
  std::uint32_t key_bytes;
  std::uint32_t value_bytes;
  std::uint32_t entries;
  std::uint32_t flags;
};

inline Result<UniqueFd> create_inner_map(const InnerMap& map) {
  LIBBPF_OPTS(bpf_map_create_opts, options, .map_flags = map.flags);
  UniqueFd fd{
      ::bpf_map_create(map.type, map.name, map.key_bytes, map.value_bytes, map.entries, &options)};
  if (!fd) return Error::from_errno(fmt::format("creating a map {}", map.name));
  return fd;
}

}  // namespace weir::l4
