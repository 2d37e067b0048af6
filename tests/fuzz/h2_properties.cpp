#include "tests/fuzz/h2_properties.h"

#include <algorithm>
#include <vector>

#include "l4/base/assert.h"
#include "l4/base/bytes.h"
#include "l7/http/h1.h"
#include "l7/http/h2_session.h"
#include "tests/support/h2_frames.h"

namespace weir::testing {
namespace {

using http::BodyFraming;
using http::BodyKind;
using http::H2Role;
using http::H2Session;
using http::H2Stream;
using Outcome = http::ParseResult::Outcome;

constexpr Instant kNow{std::chrono::seconds{1000}};
constexpr std::size_t kMemoryMax = 24UL << 20;
/// Larger than anything that a head of ours becomes.
constexpr http::HeadLimits kWide{
    .header_bytes = 256 * 1024, .fields_max = 400, .target_bytes = 64 * 1024};

/// As the proxy writes it to an endpoint of HTTP/1.
void check_request(H2Stream& stream) {
  http::RequestHead head = stream.request;
  http::RequestUri uri;
  if (stream.refusal || uri.resolve(head)) return;
  if (head.method == "CONNECT") return;  // its endpoint is sent no head
  http::remove_hop_by_hop(head.fields);
  head.fields.remove("Expect");
  head.fields.set("Host", uri.authority());
  head.target = uri.target();
  std::vector<std::byte> out;
  const BodyFraming body = stream.request_framing.body;
  http::append_request_head(out, head, body);
  http::RequestParser next{kWide};
  const http::ParseResult result = next.parse(out);
  WEIR_ASSERT(result.outcome == Outcome::kComplete && result.consumed == out.size());
  WEIR_ASSERT(next.framing().body == body);
  WEIR_ASSERT(next.head().method == head.method && next.head().target == head.target);
  http::RequestUri again;
  WEIR_ASSERT(!again.resolve(next.head()));
  WEIR_ASSERT(again.host() == uri.host() && again.target() == uri.target());
}

void check_response(const H2Stream& stream) {
  http::ResponseHead head = stream.response;
  http::remove_hop_by_hop(head.fields);
  BodyFraming body = stream.response_framing.body;
  std::vector<std::byte> out;
  http::append_response_head(out, head, body);
  http::ResponseParser next{kWide};
  const http::ParseResult result = next.parse(out, "GET");
  WEIR_ASSERT(result.outcome == Outcome::kComplete && result.consumed == out.size());
  WEIR_ASSERT(next.head().status == head.status);
  // Without a word about its length a body would go on until the connection ends.
  if (body.kind == BodyKind::kNone) return;
  WEIR_ASSERT(next.framing().body == body);
}

/// The owner of a session, who does something else with each stream.
class Owner {
 public:
  Owner(H2Role role, http::H2Shared& shared)
      : shared_{shared}, role_{role}, session_{{.role = role, .streams_max = 8}, shared, kNow} {
    if (role == H2Role::kServer) return;
    reader_.expect_preface();
    http::RequestHead head;
    head.method = "GET";
    head.target = "/";
    head.fields.add("Host", "a.example");
    for (int i = 0; i < 3; ++i)
      static_cast<void>(
          session_.open(head, i == 0 ? BodyFraming{} : BodyFraming{BodyKind::kChunked, 0}));
  }

  void receive(std::span<const std::byte> bytes) {
    const std::vector<std::byte> exact{bytes.begin(), bytes.end()};  // to see who reads further
    session_.receive(exact, kNow);
    for (int i = 0; i < 100; ++i) {
      H2Stream* const stream = session_.next_ready();
      if (stream == nullptr) break;
      look(*stream);
    }
    send();
    WEIR_ASSERT(shared_.counters().memory_bytes <= kMemoryMax);
  }

 private:
  void look(H2Stream& stream) {
    const bool is_new = stream.owner == 0;
    if (stream.head_complete && is_new) {
      stream.owner = 1;
      if (role_ == H2Role::kServer)
        check_request(stream);
      else
        check_response(stream);
      if (role_ == H2Role::kServer) answer(stream);
    }
    for (const http::Field field : stream.trailers)
      WEIR_ASSERT(http::is_token(field.name) && http::is_field_value(field.value));
    const auto readable = H2Session::readable(stream);
    if (stream.id % 3 != 0) session_.consume(stream, std::min<std::size_t>(readable.size(), 5000));
    if (stream.closed || (stream.sent_all && stream.peer_ended) || stream.id % 16 == 7)
      session_.release(stream);
  }

  void answer(H2Stream& stream) {
    http::ResponseHead head;
    head.status = http::Status::kOk;
    head.fields.add("Server", "x");
    const bool empty = stream.id % 4 == 3;
    session_.send_head(stream, head, empty ? BodyFraming{} : BodyFraming{BodyKind::kChunked, 0});
    if (empty) return;
    session_.write(stream, std::vector<std::byte>(session_.room(stream)));
    http::HeaderList trailers;
    if (stream.id % 8 == 1) trailers.add("x-sum", "1");
    session_.finish(stream, trailers);
  }

  void send() {
    for (auto piece = session_.output(kNow); !piece.empty(); piece = session_.output(kNow)) {
      WEIR_ASSERT(piece.size() <= H2Session::kPieceMax);
      reader_.feed(as_text(piece));  // ends the program at what is no frame
    }
    for (const H2Frame& frame : reader_.frames)
      WEIR_ASSERT(frame.type <= 9 && frame.payload.size() <= 16384);
    reader_.frames.clear();
  }

  http::H2Shared& shared_;
  H2Role role_;
  H2Session session_;
  H2Reader reader_;
};

}  // namespace

void check_h2_input(std::span<const std::byte> input) {
  if (input.size() < 2) return;
  const bool is_server = (std::to_integer<unsigned>(input[0]) & 1) == 0;
  const std::size_t piece = std::to_integer<std::size_t>(input[1]) * 4 + 1;
  http::H2Shared shared{kMemoryMax};
  {
    Owner owner{is_server ? H2Role::kServer : H2Role::kClient, shared};
    // What every peer says first costs a fuzzer too long to find.
    if (is_server) owner.receive(as_bytes(kH2ClientPreface));
    for (std::size_t at = 2; at < input.size(); at += piece)
      owner.receive(input.subspan(at, std::min(piece, input.size() - at)));
  }
  WEIR_ASSERT(shared.counters().memory_bytes == 0);
  WEIR_ASSERT(shared.counters().streams == 0 && shared.counters().sessions == 0);
}

}  // namespace weir::testing
