#include "l4/control/admin_connection.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <exception>
#include <utility>
#include <variant>
#include <vector>

namespace weir::control {
namespace {

constexpr std::size_t kReadBytes = 16 * 1024;

Instant soon(Instant last) { return std::min(last, monotonic_now() + kIdleTimeout); }

/// The part of a total that this connection holds; given back at its end.
class Reservation {
 public:
  explicit Reservation(std::atomic<std::size_t>& total) : total_{total} {}
  Reservation(const Reservation&) = delete;
  Reservation& operator=(const Reservation&) = delete;
  ~Reservation() { total_ -= held_; }

  [[nodiscard]] bool grow_by(std::size_t bytes) {
    held_ += bytes;
    return (total_ += bytes) <= kBodyBytesTotalMax;
  }

 private:
  std::atomic<std::size_t>& total_;
  std::size_t held_ = 0;
};

/// Nothing where the client went away or said nothing: there is nobody to answer.
using MaybeHead = std::variant<std::monostate, RequestHead, AdminReply>;

class Conversation {
 public:
  Conversation(AdminChannel& channel, AdminService* service)
      : channel_{channel}, service_{service} {}

  MaybeHead read_head() {
    const Instant deadline = monotonic_now() + kHeadTimeout;
    std::array<char, kReadBytes> bytes;
    for (std::size_t searched = 0;;) {  // ends with the bytes, or with the deadline
      const std::size_t end = pending_.find("\r\n\r\n", searched);
      if (end != std::string::npos && end + 4 <= kHeadBytesMax) {
        const std::string text = pending_.substr(0, end + 4);
        pending_.erase(0, end + 4);
        auto parsed = parse_request_head(text);
        if (auto* refusal = std::get_if<AdminReply>(&parsed)) return std::move(*refusal);
        return std::move(std::get<RequestHead>(parsed));
      }
      if (pending_.size() >= kHeadBytesMax) {
        return http_problem_reply(
            431, Error{ErrorCode::kInvalid,
                       fmt::format("the request's fields are more than {} bytes", kHeadBytesMax)});
      }
      searched = pending_.size() < 3 ? 0 : pending_.size() - 3;
      const ssize_t count = channel_.read_some(bytes, deadline);
      if (count <= 0) {
        if (pending_.empty() || count == 0) return std::monostate{};
        return late("the request");
      }
      pending_.append(bytes.data(), static_cast<std::size_t>(count));
    }
  }

  /// Fills in the body. What is returned is why not.
  std::optional<AdminReply> read_body(RequestHead& head, Reservation& reservation) {
    if (!head.has_body()) return std::nullopt;
    if (!reservation.grow_by(head.content_length)) return busy();
    if (head.expects_continue && pending_.empty() &&
        !channel_.write_all("HTTP/1.1 100 Continue\r\n\r\n", monotonic_now() + kIdleTimeout))
      return late("the body");
    auto refusal = head.is_chunked ? read_chunks(head, reservation) : read_length(head);
    if (!refusal && is_nested_too_deep(head.request.body)) {
      refusal = error_reply(
          Error{ErrorCode::kInvalid,
                fmt::format("the body is nested deeper than {} levels", kBodyDepthMax)});
    }
    return refusal;
  }

  void answer(AdminReply reply, bool body_is_wanted, bool is_http_1_0) {
    if (!reply.more || !body_is_wanted) {
      std::string bytes = response_head(reply, reply.more ? Framing::kClose : Framing::kLength);
      if (body_is_wanted) bytes += reply.body;
      write(bytes);
      return;
    }
    const bool chunks = !is_http_1_0;
    if (!write(response_head(reply, chunks ? Framing::kChunks : Framing::kClose))) return;
    while (!service_->is_stopping) {
      const std::optional<std::string> piece = reply.more();
      if (!piece) {
        if (chunks) write("0\r\n\r\n");
        return;
      }
      if (piece->empty()) continue;  // in chunks it would be the end
      if (!write(chunks ? fmt::format("{:x}\r\n{}\r\n", piece->size(), *piece) : *piece)) return;
    }
  }

 private:
  static AdminReply late(std::string_view what) {
    return http_problem_reply(
        408, Error{ErrorCode::kInvalid, fmt::format("{} did not come in time", what)});
  }
  static AdminReply busy() {
    return error_reply(
        Error{ErrorCode::kUnavailable, "too many large requests at once", "try again in a moment"});
  }

  bool write(std::string_view bytes) {
    constexpr std::size_t kPieceBytes = 16 * 1024;
    Instant last = kNever;    // once the server ends, nobody waits long for a slow reader
    while (!bytes.empty()) {  // the deadline is one of each piece: progress, not speed
      if (last == kNever && service_ != nullptr && service_->is_stopping)
        last = monotonic_now() + kLingerTimeout;
      const std::string_view piece = bytes.substr(0, kPieceBytes);
      if (!channel_.write_all(piece, soon(last))) return false;
      bytes.remove_prefix(piece.size());
    }
    return true;
  }

  std::optional<AdminReply> read_length(RequestHead& head) {
    const Instant deadline = monotonic_now() + kBodyTimeout;
    std::string body = std::move(pending_);
    if (body.size() > head.content_length) body.resize(head.content_length);
    std::array<char, kReadBytes> bytes;
    while (body.size() < head.content_length) {
      const std::size_t wanted = std::min(bytes.size(), head.content_length - body.size());
      const ssize_t count = channel_.read_some(std::span{bytes}.first(wanted), soon(deadline));
      if (count <= 0) return late("the body");
      body.append(bytes.data(), static_cast<std::size_t>(count));
    }
    head.request.body = std::move(body);
    return std::nullopt;
  }

  std::optional<AdminReply> read_chunks(RequestHead& head, Reservation& reservation) {
    const Instant deadline = monotonic_now() + kBodyTimeout;
    ChunkedBody chunked;
    std::array<char, kReadBytes> bytes;
    std::string_view next = pending_;
    for (;;) {  // ends with the body's limit, or with the deadline
      switch (chunked.take(next)) {
        case ChunkedBody::State::kMore:
          break;
        case ChunkedBody::State::kDone:
          head.request.body = chunked.take_body();
          return std::nullopt;
        case ChunkedBody::State::kBroken:
          return http_problem_reply(400, Error{ErrorCode::kInvalid, "the body's chunks are wrong"});
        case ChunkedBody::State::kTooLarge:
          return http_problem_reply(
              413, Error{ErrorCode::kInvalid,
                         fmt::format("the body is larger than {} bytes", kRequestBytesMax)});
      }
      if (!reservation.grow_by(next.size())) return busy();
      const ssize_t count = channel_.read_some(bytes, soon(deadline));
      if (count <= 0) return late("the body");
      next = {bytes.data(), static_cast<std::size_t>(count)};
    }
  }

  AdminChannel& channel_;
  AdminService* service_;
  std::string pending_;  // read, but not used yet
};

AdminReply handled(AdminService& service, const AdminRequest& request) {
  try {
    const std::lock_guard lock{service.one_at_a_time};
    return service.handler(request);
  } catch (const std::exception&) {
    return error_reply(Error{ErrorCode::kInternal, "the request could not be handled"});
  }
}

/// Before the body is read: what a scraper sends is of no use to anybody.
std::optional<AdminReply> out_of_scope(const RequestHead& head, AdminScope scope) {
  if (scope == AdminScope::kEverything) return std::nullopt;
  if (head.has_body())
    return http_problem_reply(413, Error{ErrorCode::kInvalid, "nothing here takes a body"});
  if (head.request.method == "GET" && head.request.path == "/metrics") return std::nullopt;
  return http_problem_reply(404,
                            Error{ErrorCode::kNotFound, "there is nothing here but GET /metrics"});
}

}  // namespace

void serve_admin_client(AdminChannel& channel, AdminService& service, AdminScope scope) {
  Conversation conversation{channel, &service};
  MaybeHead read = conversation.read_head();
  if (auto* refusal = std::get_if<AdminReply>(&read)) {
    conversation.answer(std::move(*refusal), true, false);
  } else if (auto* head = std::get_if<RequestHead>(&read)) {
    Reservation reservation{service.body_bytes};
    auto problem = out_of_scope(*head, scope);
    if (!problem) problem = conversation.read_body(*head, reservation);
    conversation.answer(problem ? *std::move(problem) : handled(service, head->request),
                        head->body_is_wanted, head->is_http_1_0);
  } else {
    return;
  }
  end_admin_client(channel);
}

void end_admin_client(AdminChannel& channel) {
  const Instant deadline = monotonic_now() + kLingerTimeout;
  channel.end_writing(deadline);
  std::array<char, kReadBytes> bytes;
  for (std::size_t count = 0; count < kRequestBytesMax;) {
    const ssize_t got = channel.read_some(bytes, deadline);
    if (got <= 0) return;
    count += static_cast<std::size_t>(got);
  }
}

void refuse_admin_client(AdminChannel& channel, const AdminReply& refusal) {
  Conversation conversation{channel, nullptr};
  if (std::holds_alternative<std::monostate>(conversation.read_head())) return;
  conversation.answer(refusal, true, false);
  end_admin_client(channel);
}

}  // namespace weir::control
