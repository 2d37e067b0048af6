#include "tests/fuzz/balancer_properties.h"

#include <fmt/format.h>
#include <linux/bpf.h>
#include <netinet/in.h>

#include <algorithm>

#include "tests/fuzz/sent_frames.h"
#include "tests/support/packet_builder.h"

namespace weir::testing {
namespace {

using Tuple = TranslatedFlows::Tuple;

constexpr std::array<int, WEIR_VERDICT_COUNT> kActions{
#define WEIR_VERDICT(symbol, action, label, sentence) XDP_##action,
#include "bpf/verdicts.def"
#undef WEIR_VERDICT
};
constexpr std::array<std::string_view, WEIR_VERDICT_COUNT> kLabels{
#define WEIR_VERDICT(symbol, action, label, sentence) label,
#include "bpf/verdicts.def"
#undef WEIR_VERDICT
};

/// The first ticks of an input; bucket and flow times are counted from anywhere.
constexpr std::uint64_t kFirstTick = 1'000'000;

constexpr std::size_t kTransportBytes = 8;  ///< the least: UDP's, and an ICMP error's

enum class Owner { kNobody, kVip, kL7 };

bool contains(FrameView frame, std::span<const std::uint8_t> bytes) {
  const auto wanted = std::as_bytes(bytes);
  return std::search(frame.begin(), frame.end(), wanted.begin(), wanted.end()) != frame.end();
}

/// Whose the destination is, by address alone. Neighbour messages are L7's if they may ask for one
/// of its addresses.
Owner owner_of_frame(const World& world, FrameView frame, const std::optional<Decoded>& packet) {
  if (!packet) {
    const bool names_l7 = contains(frame, kWorldL7Own.v4.v4_octets());
    return names_l7 && contains(frame, std::array<std::uint8_t, 2>{0x08, 0x06}) ? Owner::kL7
                                                                                : Owner::kNobody;
  }
  // IPv4 in the mapped form never stands on the wire: it is no VIP of IPv4's.
  if (!packet->is_v4 && packet->destination.is_v4()) return Owner::kNobody;
  if (world.is_vip(packet->destination)) return Owner::kVip;
  if (packet->destination == kWorldL7Own.of(packet->is_v4)) return Owner::kL7;
  const bool is_group = !packet->is_v4 && packet->destination.bytes[0] == 0xff;
  return is_group && contains(frame, kWorldL7Own.v6.bytes) ? Owner::kL7 : Owner::kNobody;
}

wire::Endpoint endpoint(const wire::IpAddress& address, std::uint16_t port) {
  return {address, wire::Port{port}};
}

/// The flow that a packet belongs to, in its direction: an ICMP error's is that of the packet that
/// would have come back, and a later fragment's may be one of several.
std::vector<Tuple> tuples_of(FrameView frame, const Decoded& packet, const TranslatedFlows& flows) {
  if (!packet.is_whole) return {};
  if (is_icmp_error(frame, packet)) {
    const auto quoted = decode_ip(frame, packet.l4_at + 8, packet.is_v4);
    if (!quoted || quoted->is_later_fragment) return {};
    const auto ports = ports_of(frame, *quoted);
    if (!ports) return {};
    return {Tuple{quoted->protocol, endpoint(quoted->destination, ports->destination),
                  endpoint(quoted->source, ports->source)}};
  }
  if (packet.protocol != IPPROTO_TCP && packet.protocol != IPPROTO_UDP) return {};
  std::vector<PortPair> candidates;
  if (packet.is_later_fragment)
    candidates = flows.ports_of_fragment(packet);
  else if (const auto ports = ports_of(frame, packet))
    candidates.push_back(*ports);
  std::vector<Tuple> tuples;
  for (const PortPair& ports : candidates)
    tuples.push_back({packet.protocol, endpoint(packet.source, ports.source),
                      endpoint(packet.destination, ports.destination)});
  return tuples;
}

bool is_sent_to_backend(std::uint32_t verdict) {
  switch (verdict) {
    case WEIR_TX_IPIP:
    case WEIR_REDIRECT_IPIP:
    case WEIR_TX_GUE:
    case WEIR_REDIRECT_GUE:
    case WEIR_TX_L2:
    case WEIR_REDIRECT_L2:
    case WEIR_TX_NAT:
    case WEIR_REDIRECT_NAT:
      return true;
    default:
      return false;
  }
}

weir_forward_mode mode_of(std::uint32_t verdict) {
  switch (verdict) {
    case WEIR_TX_IPIP:
    case WEIR_REDIRECT_IPIP:
      return WEIR_MODE_IPIP;
    case WEIR_TX_GUE:
    case WEIR_REDIRECT_GUE:
      return WEIR_MODE_GUE;
    case WEIR_TX_L2:
    case WEIR_REDIRECT_L2:
      return WEIR_MODE_L2;
    default:
      return WEIR_MODE_NAT;
  }
}

bool has(const std::vector<wire::IpAddress>& addresses, const wire::IpAddress& wanted) {
  return std::ranges::find(addresses, wanted) != addresses.end();
}

/// One frame, what came out, and what is known about it.
class FrameCheck {
 public:
  FrameCheck(const World& world, FrameView frame, const ReplayResult& result,
             TranslatedFlows& flows)
      : world_{world}, frame_{frame}, result_{result}, flows_{flows}, packet_{decode(frame)} {
    if (!packet_) return;
    for (const Tuple& tuple : tuples_of(frame, *packet_, flows)) {
      tuple_ = tuple;
      reply_ = flows.reply(tuple);
      service_ = world.service_at(tuple.destination, tuple.protocol);
      if (explains()) return;
    }
  }

  std::string check() {
    std::string found = check_count();
    if (found.empty()) found = check_owner();
    if (found.empty() && (is_passed() || is_handed_over())) found = check_untouched();
    if (found.empty() && is_sent()) found = check_sent();
    if (found.empty()) note();
    return found;
  }

 private:
  [[nodiscard]] bool is_passed() const { return result_.action == XDP_PASS; }
  [[nodiscard]] bool is_handed_over() const {
    return result_.verdict == WEIR_REDIRECT_L7 || result_.verdict == WEIR_REDIRECT_L7_LOCAL;
  }
  [[nodiscard]] bool is_sent() const {
    return (result_.action == XDP_TX || result_.action == XDP_REDIRECT) && !is_handed_over();
  }

  /// Whether the flow that was found fits the verdict, so that no other one is looked for.
  [[nodiscard]] bool explains() const {
    if (is_sent_to_backend(result_.verdict))
      return service_ != nullptr && service_->vip.mode == mode_of(result_.verdict);
    return reply_.has_value();
  }

  [[nodiscard]] std::string check_count() const {
    if (result_.verdict_count != 1)
      return fmt::format("{} verdicts were counted", result_.verdict_count);
    if (result_.counted_bytes != frame_.size())
      return fmt::format("{} bytes were counted for {}", result_.counted_bytes, frame_.size());
    if (result_.action != kActions[result_.verdict])
      return fmt::format("the action is {}", result_.action);
    if (result_.verdict == WEIR_DROP_INTERNAL) return "something that must exist is missing";
    return {};
  }

  [[nodiscard]] std::string check_untouched() const {
    return std::ranges::equal(frame_, result_.output) ? "" : "the frame was changed";
  }

  [[nodiscard]] std::string check_owner() const {
    const bool is_unknown =
        result_.verdict == WEIR_PASS_NOT_A_VIP || result_.verdict == WEIR_PASS_NOT_IP;
    const bool is_for_many = !frame_.empty() && (std::to_integer<int>(frame_[0]) & 1) != 0;
    if (is_for_many && is_sent()) return "what the whole link got was sent on";
    if (result_.verdict == WEIR_PASS_GROUP) return is_for_many ? "" : "it is for one machine";
    switch (owner_of_frame(world_, frame_, packet_)) {
      case Owner::kNobody:
        return is_unknown || reply_ ? "" : "it is for no VIP";
      case Owner::kVip:
        return is_unknown ? "it is for a VIP" : "";
      case Owner::kL7:
        return is_unknown || result_.verdict == WEIR_REDIRECT_L7_LOCAL ? "" : "it is L7's own";
    }
    return {};
  }

  std::string check_sent() {
    if (!packet_ || !packet_->is_whole) return "a broken packet was sent on";
    const auto after = decode(result_.output);
    if (!after || !after->is_whole) return "what was sent is no whole IP packet";
    if (!after->is_later_fragment && after->l4_at + kTransportBytes > after->ip_end())
      return "what was sent has no whole transport header";
    const Passage passage{frame_, result_.output, *packet_, *after};
    if (is_sent_to_backend(result_.verdict)) return check_forwarded(passage);
    switch (result_.verdict) {
      case WEIR_TX_NAT_REPLY:
      case WEIR_REDIRECT_NAT_REPLY:
        return check_reply(passage);
      case WEIR_TX_ECHO_REPLY:
        return both(check_way_back(passage), check_echo_reply(passage));
      case WEIR_TX_TOO_BIG:
        return both(check_way_back(passage), check_icmp_error(passage, 3, 2));
      case WEIR_TX_TTL_EXCEEDED:
        return both(check_way_back(passage), check_icmp_error(passage, 11, 3));
      case WEIR_TX_REFUSED:
        return both(check_way_back(passage), check_refusal(passage));
      default:
        return "no rule of the test's says what was sent";
    }
  }

  static std::string both(std::string first, std::string second) {
    return first.empty() ? second : first;
  }

  std::string check_forwarded(const Passage& passage) {
    const weir_forward_mode mode = mode_of(result_.verdict);
    if (!service_ || service_->vip.mode != mode) return "it is for no service of this mode";
    if (auto found = check_way_to_backend(passage); !found.empty()) return found;
    if (mode != WEIR_MODE_L2 && !has(service_->backends, passage.after.destination))
      return "it was sent to no backend of its service";
    switch (mode) {
      case WEIR_MODE_IPIP:
        return check_tunnel(passage, false);
      case WEIR_MODE_GUE:
        return check_tunnel(passage, true);
      case WEIR_MODE_L2:
        return check_rewritten_macs(passage);
      default:
        return both(check_translated(passage), check_translation(passage));
    }
  }

  /// Of what was sent.
  [[nodiscard]] std::optional<Tuple> tuple_of(const Passage& passage) const {
    const auto tuples = tuples_of(passage.out, passage.after, flows_);
    if (tuples.empty()) return std::nullopt;
    return tuples.front();
  }

  /// Addresses and ports of what goes to a backend; its replies are expected from here on.
  std::string check_translation(const Passage& passage) {
    if (is_icmp_error(frame_, *packet_) || packet_->is_later_fragment) return {};
    const auto after = tuple_of(passage);
    if (!after) return "a translated packet without ports";
    const bool is_snat = (service_->vip.flags & WEIR_VIP_SNAT) != 0;
    const wire::IpAddress& source =
        is_snat ? kWorldNode.of(packet_->is_v4) : tuple_->source.address;
    if (after->source.address != source) return "another source than the service's";
    const std::uint16_t port =
        service_->backend_port != 0 ? service_->backend_port : tuple_->destination.port.value();
    if (after->destination.port.value() != port) return "another port than the backend's";
    flows_.note(*tuple_, *after);
    return {};
  }

  std::string check_reply(const Passage& passage) {
    if (!reply_) return "a reply of no flow";
    if (auto found = check_translated(passage); !found.empty()) return found;
    if (!reply_->exactly) return {};
    const bool has_ports = !is_icmp_error(frame_, *packet_) && !packet_->is_later_fragment;
    if (passage.after.destination != reply_->exactly->destination.address)
      return "a reply to another client";
    if (!has_ports) return {};
    const auto after = tuple_of(passage);
    return after == reply_->exactly ? "" : "a reply with other addresses or ports";
  }

  /// What later frames may refer to.
  void note() {
    if (!packet_ || !tuple_) return;
    if (packet_->is_first_fragment)
      if (const auto ports = ports_of(frame_, *packet_)) flows_.note_fragment(*packet_, *ports);
    const bool is_nat = service_ != nullptr && service_->vip.mode == WEIR_MODE_NAT;
    if (is_nat && !is_sent_to_backend(result_.verdict)) flows_.note_possible(*tuple_, *service_);
  }

  const World& world_;
  FrameView frame_;
  const ReplayResult& result_;
  TranslatedFlows& flows_;
  std::optional<Decoded> packet_;
  std::optional<Tuple> tuple_;
  std::optional<TranslatedFlows::Expected> reply_;
  const WorldService* service_ = nullptr;
};

}  // namespace

void TranslatedFlows::note(const Tuple& before, const Tuple& after) {
  replies_[{after.protocol, after.destination, after.source}] = {before.protocol,
                                                                 before.destination, before.source};
}

void TranslatedFlows::note_possible(const Tuple& before, const WorldService& service) {
  const bool is_snat = (service.vip.flags & WEIR_VIP_SNAT) != 0;
  for (const wire::IpAddress& backend : service.backends) {
    const auto port =
        service.backend_port != 0 ? wire::Port{service.backend_port} : before.destination.port;
    const wire::Endpoint source =
        is_snat ? endpoint(kWorldNode.of(backend.is_v4()), 0) : before.source;
    possible_.push_back({before.protocol, {backend, port}, source});
  }
}

std::optional<TranslatedFlows::Expected> TranslatedFlows::reply(const Tuple& tuple) const {
  Tuple any_port = tuple;
  any_port.destination.port = wire::Port{0};
  if (std::ranges::find(possible_, tuple) != possible_.end() ||
      std::ranges::find(possible_, any_port) != possible_.end())
    return Expected{};
  const auto found = replies_.find(tuple);
  if (found == replies_.end()) return std::nullopt;
  return Expected{found->second};
}

void TranslatedFlows::note_fragment(const Decoded& first, const PortPair& ports) {
  auto& candidates = fragments_[key_of(first)];
  candidates.insert(candidates.begin(), ports);  // the newest is the likeliest
}

std::vector<PortPair> TranslatedFlows::ports_of_fragment(const Decoded& later) const {
  const auto found = fragments_.find(key_of(later));
  return found == fragments_.end() ? std::vector<PortPair>{} : found->second;
}

std::string broken_property(const World& world, FrameView frame, const ReplayResult& result,
                            TranslatedFlows& flows) {
  return FrameCheck{world, frame, result, flows}.check();
}

BalancerProperties::Node::Node(const WorldOptions& options)
    : world{make_world(options)}, engine{settings_of(world)} {
  fill(engine, world);
  engine.seal();
}

BalancerProperties::BalancerProperties() {
  for (const bool has_prefixes : {false, true})
    for (const bool is_stateless : {false, true})
      nodes_.push_back(std::make_unique<Node>(WorldOptions{has_prefixes, is_stateless}));
}

std::string BalancerProperties::check(std::span<const std::uint8_t> bytes) {
  const BalancerInput input = read_input(bytes);
  const WorldOptions options = input.world_options();
  Node& node = *nodes_[(options.has_prefixes ? 2 : 0) + (options.is_stateless ? 1 : 0)];
  TranslatedFlows flows;
  std::uint64_t ticks = kFirstTick;
  std::string found;
  for (std::size_t i = 0; i < input.frames.size() && found.empty(); ++i) {
    const InputFrame& frame = input.frames[i];
    ticks += frame.advance_ticks();
    node.engine.set_ticks(ticks);
    const ReplayResult result = node.engine.run(frame.bytes, frame.ingress());
    ++frames_;
    if (result.verdict < WEIR_VERDICT_COUNT) ++verdicts_[result.verdict];
    found = broken_property(node.world, frame.bytes, result, flows);
    if (!found.empty())
      found =
          fmt::format("frame {} of {}: {} ({})\nin\n{}\nout\n{}", i + 1, input.frames.size(), found,
                      kLabels[result.verdict], hexdump(frame.bytes), hexdump(result.output));
  }
  if (found.empty()) found = node.engine.broken();
  node.engine.reset();
  return found;
}

}  // namespace weir::testing
