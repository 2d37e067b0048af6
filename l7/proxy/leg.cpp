#include "l7/proxy/leg.h"

#include <algorithm>
#include <array>
#include <string>
#include <utility>

namespace weir::proxy {
namespace {

/// Room that a piece of payload needs beside itself: chunk size line, CRLF, last chunk.
constexpr std::size_t kFramingBytes = 64;

}  // namespace

// ---- HTTP/1 ------------------------------------------------------------------------------------

HeadState H1Leg::read_head(std::string_view request_method) {
  if (std::exchange(interim_read_, false)) parser_->reset();
  const http::ParseResult parsed = parser_->parse(channel_->input(), request_method);
  switch (parsed.outcome) {
    case http::ParseResult::Outcome::kIncomplete:
      return channel_->input_ended() ? HeadState::kCut : HeadState::kNothingYet;
    case http::ParseResult::Outcome::kError:
      why_ = parsed.refusal.reason;
      return HeadState::kMalformed;
    case http::ParseResult::Outcome::kComplete:
      break;
  }
  channel_->consume(parsed.consumed);
  interim_read_ = parser_->framing().interim;
  return interim_read_ ? HeadState::kInterim : HeadState::kFinal;
}

BodyPiece H1Leg::read(std::size_t most) {
  const auto input = channel_->input();
  const auto step = reads_.decode(input.first(std::min(input.size(), most)));
  BodyPiece piece{.payload = step.payload, .consumed = step.consumed, .moved = step.consumed > 0};
  if (step.state == http::BodyDecoder::State::kPayload) {
    piece.state = BodyPiece::State::kPayload;
    return piece;
  }
  channel_->consume(step.consumed);
  switch (step.state) {
    case http::BodyDecoder::State::kPayload:
    case http::BodyDecoder::State::kNeedMore:
      // Where the body ends with the connection, the end of the stream is its end.
      if (channel_->input_ended() && channel_->input().empty())
        piece.state = reads_.may_close_here() ? BodyPiece::State::kEnd : BodyPiece::State::kCut;
      break;
    case http::BodyDecoder::State::kDone:
      piece.state = BodyPiece::State::kEnd;  // asked again, the decoder says the same
      break;
    case http::BodyDecoder::State::kError:
      piece.state = BodyPiece::State::kMalformed;
      why_ = step.reason;
      break;
  }
  return piece;
}

bool H1Leg::send_request(const http::RequestHead& head, http::BodyFraming body) {
  scratch_.clear();
  http::append_request_head(scratch_, head, body);
  channel_->output().append(scratch_);
  writes_ = body.kind;
  return true;
}

void H1Leg::send_interim(const http::ResponseHead& head) {
  scratch_.clear();
  http::append_response_head(scratch_, head, {});
  channel_->output().append(scratch_);
}

void H1Leg::send_response(const http::ResponseHead& head, http::BodyFraming body) {
  scratch_.clear();
  http::append_response_head(scratch_, head, body);
  channel_->output().append(scratch_);
  writes_ = body.kind;
}

std::size_t H1Leg::room() {
  const std::size_t room = channel_->output().room();
  return room > kFramingBytes ? room - kFramingBytes : 0;
}

void H1Leg::write(std::span<const std::byte> payload) {
  ByteBuffer& output = channel_->output();
  if (writes_ != http::BodyKind::kChunked) {
    output.append(payload);
    return;
  }
  scratch_.clear();
  http::append_chunk_header(scratch_, payload.size());
  output.append(scratch_);
  output.append(payload);
  scratch_.clear();
  http::append_chunk_end(scratch_);
  output.append(scratch_);
}

bool H1Leg::finish(const http::HeaderList& trailers, const TrailerRule& rule) {
  // A FIN has to wait until what was written is with TCP.
  if (tunnel_) return channel_->drained() && channel_->close_output();
  if (writes_ != http::BodyKind::kChunked) return true;
  ByteBuffer& output = channel_->output();
  const std::size_t needed = rule.announced.empty() ? kFramingBytes : http::kLastChunkBytesMax;
  if (output.room() < needed) return false;
  scratch_.clear();
  http::append_last_chunk(scratch_, trailers, rule.announced);
  output.append(scratch_);
  return true;
}

void H1Leg::begin_tunnel() {
  tunnel_ = true;
  writes_ = http::BodyKind::kUntilClose;
  reads_.begin({http::BodyKind::kUntilClose, 0});
}

// ---- HTTP/2 ------------------------------------------------------------------------------------

namespace {

constexpr auto kCodes = std::to_array<std::string_view>(
    {"NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT",
     "STREAM_CLOSED", "FRAME_SIZE_ERROR", "REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR",
     "CONNECT_ERROR", "ENHANCE_YOUR_CALM", "INADEQUATE_SECURITY", "HTTP_1_1_REQUIRED",
     "with another code"});
using CodeTexts = std::array<std::string, kCodes.size()>;

CodeTexts texts_with(std::string_view prefix) {
  CodeTexts texts;
  for (std::size_t i = 0; i < kCodes.size(); ++i)
    texts[i].append(prefix).append(kCodes[i]);
  return texts;
}

std::string_view text_of(const CodeTexts& texts, http::H2Code code) {
  return texts[std::min<std::size_t>(static_cast<std::size_t>(code), texts.size() - 1)];
}

}  // namespace

std::string_view H2Leg::why() const {
  using http::H2Code;
  static const CodeTexts kOurs = texts_with("HTTP/2: ");
  static const CodeTexts kGoaways = texts_with("GOAWAY ");
  static const CodeTexts kResets = texts_with("RST_STREAM ");
  if (session_->was_wronged()) return text_of(kOurs, *session_->failure());
  if (stream_ != nullptr && stream_->malformed) return text_of(kOurs, H2Code::kProtocolError);
  const bool is_closed = stream_ != nullptr && stream_->closed && !stream_->peer_ended;
  const auto goaway = session_->goaway();
  const bool left_out = is_closed && stream_->close_code == H2Code::kRefusedStream;
  if (goaway && (left_out || *goaway != H2Code::kNoError)) return text_of(kGoaways, *goaway);
  return is_closed ? text_of(kResets, stream_->close_code) : std::string_view{};
}

void H2Leg::release(http::H2Code code) {
  http::H2Stream* const stream = std::exchange(stream_, nullptr);
  if (stream != nullptr) session_->release(*stream, code);
}

HeadState H2Leg::read_head(std::string_view) {
  if (interim_at_ < stream_->interim.size()) {
    head_ = &stream_->interim[interim_at_++];
    return HeadState::kInterim;
  }
  head_ = &stream_->response;
  if (stream_->head_complete) return HeadState::kFinal;
  if (stream_->malformed) return HeadState::kMalformed;
  return stream_->closed ? HeadState::kCut : HeadState::kNothingYet;
}

BodyPiece H2Leg::read(std::size_t most) {
  const auto payload = http::H2Session::readable(*stream_);
  const auto piece = payload.first(std::min(payload.size(), most));
  if (!piece.empty()) return {BodyPiece::State::kPayload, piece, piece.size(), true};
  if (!payload.empty()) return {};
  if (stream_->malformed) return {.state = BodyPiece::State::kMalformed};
  if (stream_->peer_ended) return {.state = BodyPiece::State::kEnd};
  return {.state = stream_->closed ? BodyPiece::State::kCut : BodyPiece::State::kNothingYet};
}

bool H2Leg::send_request(const http::RequestHead& head, http::BodyFraming body) {
  stream_ = session_->open(head, body);
  interim_at_ = 0;
  if (stream_ != nullptr) stream_->owner = owner_;
  return stream_ != nullptr;
}

void H2Leg::send_interim(const http::ResponseHead& head) { session_->send_interim(*stream_, head); }

void H2Leg::send_response(const http::ResponseHead& head, http::BodyFraming body) {
  session_->send_head(*stream_, head, body);
}

bool H2Leg::finish(const http::HeaderList& trailers, const TrailerRule& rule) {
  http::HeaderList sent;
  for (const auto [name, value] : trailers)
    if (rule.all ? http::may_be_trailer(name) : http::list_contains(rule.announced, name))
      sent.add(name, value);
  session_->finish(*stream_, sent);
  return true;
}

}  // namespace weir::proxy
