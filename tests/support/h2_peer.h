#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tests/support/h2_frames.h"
#include "tests/support/proxy_world.h"

namespace weir::testing {

/// A client of HTTP/2 on a connection of the world, frame by frame. Opens its windows as it is
/// told.
class H2Client {
 public:
  /// Sends the preface and SETTINGS with these words, as in "4=1000000".
  explicit H2Client(Peer& peer, std::string_view settings = "");

  /// A line of h2_frames.h.
  void send(std::string_view frame) { peer_.send(h2_bytes(frame)); }
  /// Takes what has come, and acknowledges SETTINGS.
  H2Reader& read();
  [[nodiscard]] Peer& peer() { return peer_; }
  /// "200" of a stream; empty while there is none.
  [[nodiscard]] std::string status(std::uint32_t stream);

 private:
  Peer& peer_;
  H2Reader reader_;
  std::size_t acknowledged_ = 0;
};

/// What a backend of HTTP/2 makes of a request, once its head has come; and again with every frame.
/// Returns lines to send, with '#' for the stream.
struct H2Request {
  const H2Reader& reader;
  std::uint32_t stream;
  std::size_t calls;  ///< before this one
  [[nodiscard]] bool ended() const { return reader.ended(stream); }
};
using H2Answer = std::function<std::vector<std::string>(const H2Request&)>;

/// A backend that speaks HTTP/2 by prior knowledge.
class H2Backend {
 public:
  explicit H2Backend(H2Answer answer, std::string settings = "")
      : answer_{std::move(answer)}, settings_{std::move(settings)} {}
  /// Given to a Backend. The object outlives it.
  [[nodiscard]] Handler handler() {
    return [this](Peer& peer) { serve(peer); };
  }
  /// Of all connections, in the order in which they came.
  [[nodiscard]] H2Reader& reader(std::size_t connection = 0) { return *readers_[connection]; }
  [[nodiscard]] Peer& peer(std::size_t connection = 0) { return *peers_[connection]; }
  [[nodiscard]] std::size_t connections() const { return readers_.size(); }

 private:
  void serve(Peer& peer);

  H2Answer answer_;
  std::string settings_;
  std::vector<Peer*> peers_;
  std::vector<std::unique_ptr<H2Reader>> readers_;
  std::map<std::pair<std::size_t, std::uint32_t>, std::size_t> calls_;
};

/// Answers a request that is complete with these frames.
H2Answer h2_answering(std::vector<std::string> frames);

}  // namespace weir::testing
