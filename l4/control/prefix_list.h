#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "l4/base/result.h"
#include "l4/wire/address.h"

/// Files with one address or prefix per line, as block lists are published: '#' begins a comment,
/// empty lines mean nothing.
namespace weir::control {

/// In file order. An error names the first wrong line as `path`:LINE and says how many there are.
Result<std::vector<wire::Prefix>> parse_prefix_list(std::string_view text, const std::string& path);

/// Reads a regular file of at most kPrefixesPerListMax prefixes.
Result<std::vector<wire::Prefix>> read_prefix_list(const std::string& path);

}  // namespace weir::control
