#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "l7/proxy/channel.h"
#include "l7/proxy/exchange.h"
#include "l7/proxy/leg.h"
#include "l7/proxy/snapshot.h"
#include "l7/proxy/upstream_pool.h"

namespace weir::proxy {

/// Requests that were to be mirrored. All but `sent` were not.
struct MirrorCounters {
  std::uint64_t sent = 0;
  std::uint64_t answered = 0;   ///< of those sent, whatever the answer was
  std::uint64_t failed = 0;     ///< of those sent
  std::uint64_t too_large = 0;  ///< their bodies
  std::uint64_t cut = 0;        ///< the request itself has ended before its body
  std::uint64_t crowded = 0;    ///< as many as may be were under way
};

/// The client's side of an exchange that has no client: a body out of memory, and an answer that
/// nobody reads.
class MirrorLeg final : public Leg {
 public:
  explicit MirrorLeg(const ByteBuffer& body) : body_{body} {}

  bool fill(std::size_t) override { return false; }
  bool flush() override { return false; }
  [[nodiscard]] bool failed() const override { return false; }
  HeadState read_head(std::string_view) override { return HeadState::kNothingYet; }
  http::ResponseHead& response() override { return response_; }
  [[nodiscard]] http::ResponseFraming framing() const override { return {}; }
  void begin_body(http::BodyFraming) override { taken_ = 0; }
  BodyPiece read(std::size_t most) override;
  void taken(const BodyPiece& piece) override { taken_ += piece.consumed; }
  [[nodiscard]] const http::HeaderList& trailers() const override { return trailers_; }
  [[nodiscard]] std::string_view why() const override { return {}; }
  [[nodiscard]] bool input_empty() const override { return taken_ == body_.bytes().size(); }
  [[nodiscard]] bool peer_is_done() const override { return false; }
  [[nodiscard]] std::uint64_t promised() const override { return 0; }
  bool head_room() override { return true; }
  bool send_request(const http::RequestHead&, http::BodyFraming) override { return false; }
  void send_interim(const http::ResponseHead&) override {}
  void send_response(const http::ResponseHead&, http::BodyFraming) override {}
  std::size_t room() override { return kBufferBytes; }
  void write(std::span<const std::byte>) override {}
  bool finish(const http::HeaderList&, const TrailerRule&) override { return true; }
  [[nodiscard]] bool delivered() const override { return true; }
  [[nodiscard]] bool has_unsent() const override { return false; }
  void begin_tunnel() override {}

 private:
  const ByteBuffer& body_;
  std::size_t taken_ = 0;
  http::HeaderList trailers_;
  http::ResponseHead response_;
};

/// A copy of a request, from when the original leaves until somebody has answered it, or until it
/// turns out that it cannot be sent. It keeps its memory for the next one.
struct MirrorRequest {
  explicit MirrorRequest(BufferPool& buffers) : body{buffers, tcp::ConnectionId{}}, leg{body} {}

  /// More of the body; what goes beyond the rule's bound makes it useless.
  void add(std::span<const std::byte> payload) {
    if (is_too_large || payload.size() > std::min(body_max - body.bytes().size(), body.room()))
      is_too_large = true;
    else
      body.append(payload);
  }

  const MirrorRule* rule = nullptr;  ///< of the generation of the exchange
  http::RequestHead head;
  http::RequestFraming framing;
  ByteBuffer body;
  std::size_t body_max = 0;
  bool is_too_large = false;
  ClientFacts facts;
  MirrorLeg leg;
  ExchangeId exchange;  ///< that sends it, once it is sent
};

/// Those of one worker: so many at once, lest a service that is slow takes the memory that clients
/// need. Further ones are not mirrored.
class MirrorPool {
 public:
  static constexpr std::size_t kMirrorsMax = 256;
  explicit MirrorPool(BufferPool& buffers) : buffers_{buffers} {}

  /// Empty; or nothing.
  [[nodiscard]] MirrorRequest* take();
  void give_back(MirrorRequest& mirror);
  /// That an exchange sends; it is one that does.
  [[nodiscard]] MirrorRequest& of(ExchangeId exchange);
  [[nodiscard]] std::vector<ExchangeId> under_way() const;
  /// What a mirror's facts point at instead of the client's listener, which may be gone.
  [[nodiscard]] const Bind& nowhere() const { return nowhere_; }

 private:
  BufferPool& buffers_;
  Bind nowhere_;
  std::vector<std::unique_ptr<MirrorRequest>> all_;
  std::vector<MirrorRequest*> free_;
};

}  // namespace weir::proxy
