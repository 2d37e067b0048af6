#pragma once

#include <sys/types.h>

#include <string>

#include "l4/base/fd.h"
#include "l4/base/result.h"
#include "l4/wire/address.h"

/// Sockets of the admin API: who may connect, and what is left of others.
namespace weir::control {

/// Success when somebody accepts connections on the unix socket.
Result<void> try_to_connect(const std::string& path);

/// A unix socket that listens; its file has the mode (0600 …) and the group (empty: the process's
/// own) before anybody can connect. Takes the place of a socket that nobody listens on.
Result<UniqueFd> listen_on_unix_socket(const std::string& path, unsigned mode,
                                       const std::string& group, int backlog);

Result<UniqueFd> listen_on_tcp(const wire::Endpoint& where, int backlog);

}  // namespace weir::control
