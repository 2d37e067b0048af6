#pragma once

#include <cstddef>
#include <span>

namespace weir::testing {

/// What must hold for any bytes that a client sends through a whole worker to an endpoint that
/// speaks either version of HTTP. The first byte chooses both versions (bit 0: the client's is
/// HTTP/2, whose preface is put in front; bit 1: both are the same) and whether the client aborts
/// (bit 2), the second how the rest is cut. Ends the program when something does not hold:
///
/// - what the endpoint receives reads strictly (bridging_messages.h);
/// - it receives the requests that the client's bytes mean, in order, each at most once, with their
///   method, target, host, fields and body, and none besides: nothing is smuggled;
/// - a request that is complete is answered, and with the answer to it and to no other one;
/// - when the client is gone nothing is left of it.
void check_bridging_input(std::span<const std::byte> input);

}  // namespace weir::testing
