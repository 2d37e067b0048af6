#include <algorithm>
#include <iterator>

#include "l4/control/config_parser.h"
#include "l4/control/prefix_list.h"

/// Who may speak to a VIP, and how much: `sources` and `limits` of a VIP, `sources` of the node.
namespace weir::control {
namespace {

/// Of all lists in one file. The saved state holds them all, and a daemon reads it when it starts.
constexpr std::size_t kPrefixesMax = 2 * kPrefixesPerListMax;

}  // namespace

std::vector<wire::Prefix> ConfigParser::read_prefixes(const Fields& fields,
                                                      std::string_view list_key,
                                                      std::string_view file_key) {
  std::vector<wire::Prefix> prefixes;
  const std::string what = fields.label(list_key);
  const auto read = [&](const YamlNode& item, std::size_t) {
    return reader_.network(item, "a prefix in " + what);
  };
  read_list(fields, list_key, "prefixes", kPrefixesPerListMax, read, prefixes);
  Position at = fields.at();
  if (const YamlNode* file = fields.find(file_key)) {
    at = file->at;
    if (const auto name = reader_.text(*file, fields.label(file_key), "a file name")) {
      Result<std::vector<wire::Prefix>> more = read_prefix_list(resolved(*name));
      if (!more) {
        reader_.report(file->at, fmt::format("{}: {}", fields.label(file_key), more.error().text()),
                       "a file with one address or prefix per line");
        return {};
      }
      prefixes.insert(prefixes.end(), more->begin(), more->end());
    }
  }
  std::ranges::sort(prefixes);
  const auto repeated = std::ranges::unique(prefixes);
  prefixes.erase(repeated.begin(), repeated.end());
  prefixes_ += prefixes.size();
  const bool list_full = prefixes.size() > kPrefixesPerListMax;
  if (list_full || prefixes_ > kPrefixesMax) {
    reader_.report(
        at,
        list_full ? fmt::format("{} and {} have {} prefixes", what, file_key, prefixes.size())
                  : fmt::format("with {} the file has {} prefixes of sources", what, prefixes_),
        fmt::format("at most {}", list_full ? kPrefixesPerListMax : kPrefixesMax));
    return {};
  }
  return prefixes;
}

void ConfigParser::parse_sources(const YamlNode& node, const std::string& owner,
                                 SourceRules& rules) {
  Fields fields{reader_,
                node,
                fmt::format("sources of {}", owner),
                {{"allow", "deny", "allowFile", "denyFile"}}};
  rules.allow = read_prefixes(fields, "allow", "allowFile");
  rules.deny = read_prefixes(fields, "deny", "denyFile");
  std::vector<wire::Prefix> both;
  std::ranges::set_intersection(rules.allow, rules.deny, std::back_inserter(both));
  if (both.empty()) return;
  reader_.report(node.at,
                 fmt::format("{} allow and deny {}{}", fields.owner(), both.front().text(),
                             both.size() > 1 ? fmt::format(" and {} more", both.size() - 1) : ""),
                 "each prefix in one of the two");
}

void ConfigParser::parse_block_list(const YamlNode& node) {
  constexpr std::string_view kReason =
      "would turn everybody else away from every VIP: allow sources where they are served, at the "
      "vips";
  Fields fields{reader_,
                node,
                "node.sources",
                {{"deny", "denyFile"}, {}, {{"allow", kReason}, {"allowFile", kReason}}}};
  model_.node.block_list = read_prefixes(fields, "deny", "denyFile");
}

void ConfigParser::parse_vip_limits(const YamlNode& node, const std::string& owner,
                                    VipLimits& limits) {
  Fields fields{reader_,
                node,
                fmt::format("limits of {}", owner),
                {{"newFlowsPerSource", "packetsPerSource", "newFlows", "packets"}}};
  const auto read = [&](std::string_view key) -> std::uint32_t {
    const YamlNode* value = fields.find(key);
    return value == nullptr ? 0 : reader_.rate(*value, fields.label(key), kRateMax).value_or(0);
  };
  limits.new_flows_per_source = read("newFlowsPerSource");
  limits.packets_per_source = read("packetsPerSource");
  limits.new_flows = read("newFlows");
  limits.packets = read("packets");
}

}  // namespace weir::control
