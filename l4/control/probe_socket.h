#pragma once

#include <string>

#include "l4/base/fd.h"
#include "l4/control/prober.h"

/// Non-blocking sockets of probes, connected to the backend, with the target's mark.
namespace weir::control {

struct ProbeSocket {
  UniqueFd fd;
  int error = 0;        ///< an errno value; 0: it is connected, or being so
  bool is_raw = false;  ///< of echo requests, where ping sockets are not allowed
};

ProbeSocket open_stream_socket(const ProbeTarget& target);
ProbeSocket open_datagram_socket(const ProbeTarget& target);
ProbeSocket open_echo_socket(const ProbeTarget& target);

/// The error that waits at a socket, 0 for none; asking takes it away.
int pending_error(const UniqueFd& socket);

/// Whether this node is short of something, so that nothing is said about the backend.
bool is_shortage(int error);
/// "connection refused"
std::string error_text(int error);

}  // namespace weir::control
