#pragma once

#include <cstdint>
#include <string>

#include "tests/fuzz/balancer_world.h"
#include "tests/fuzz/decoded.h"

namespace weir::testing {

/// A frame and what came out for it.
struct Passage {
  FrameView in;
  FrameView out;
  Decoded before;
  Decoded after;
};

// Each says what is wrong, or nothing.

/// IP in IP and GUE: outer lengths and checksums, the packet inside as it was.
std::string check_tunnel(const Passage& passage, bool is_gue);
/// Only the link layer and the hop limit are others.
std::string check_rewritten_macs(const Passage& passage);
/// Addresses, ports, hop limit and checksums; sums stay what they were.
std::string check_translated(const Passage& passage);
std::string check_echo_reply(const Passage& passage);
/// ICMP errors and RSTs: to who sent the packet, from whom he sent it to.
std::string check_icmp_error(const Passage& passage, std::uint8_t type4, std::uint8_t type6);
std::string check_refusal(const Passage& passage);
/// An answer's or a reply's MAC addresses are the frame's exchanged, its tags the same.
std::string check_way_back(const Passage& passage);
std::string check_way_to_backend(const Passage& passage);

}  // namespace weir::testing
