#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string>

#include "l4/control/admin.h"
#include "l4/control/admin_channel.h"
#include "l4/control/admin_message.h"

/// One request over one connection, read and answered within bounds.
namespace weir::control {

inline constexpr auto kHeadTimeout = std::chrono::seconds{5};   ///< from the first byte to the last
inline constexpr auto kBodyTimeout = std::chrono::seconds{30};  ///< all of the body
inline constexpr auto kIdleTimeout = std::chrono::seconds{5};   ///< between two bytes of either way
inline constexpr auto kLingerTimeout = std::chrono::seconds{1};
/// Bodies that all connections together may have read at one time.
inline constexpr std::size_t kBodyBytesTotalMax = 4 * kRequestBytesMax;

/// What all connections of a server share. Outlives them.
struct AdminService {
  AdminServer::Handler handler;
  std::mutex one_at_a_time = {};            // the handler's turn
  std::atomic<bool> is_stopping = false;    // ends replies that have no end
  std::atomic<std::size_t> body_bytes = 0;  // of kBodyBytesTotalMax
};

/// What a client may ask for.
enum class AdminScope : std::uint8_t { kEverything, kMetrics };

/// Reads a request from the channel, has it answered, and says that no more will come.
void serve_admin_client(AdminChannel& channel, AdminService& service,
                        AdminScope scope = AdminScope::kEverything);

/// Ends a connection so that what was written arrives: closing over bytes that nobody read would
/// reset a TCP connection.
void end_admin_client(AdminChannel& channel);

/// For a client who may not ask: reads the request's head and answers `refusal`.
void refuse_admin_client(AdminChannel& channel, const AdminReply& refusal);

}  // namespace weir::control
