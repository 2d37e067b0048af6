#include "bench/stack_lab/servers.h"

#include <algorithm>

namespace weir::bench {
namespace {

constexpr std::size_t kWriteBytes = 64 * 1024;

}  // namespace

void listen_all(tcp::Stack& stack, const LoadOptions& options) {
  for (std::uint32_t i = 0; i < options.ports; ++i)
    stack.listen({options.local, wire::Port{static_cast<std::uint16_t>(options.port + i)}}, 0);
}

// ---- replies ------------------------------------------------------------------------------------

ReplyServer::ReplyServer(tcp::Stack& stack, const LoadOptions& options)
    : stack_{stack},
      options_{options},
      reply_{options.role == Role::kHttp ? http_reply(options.reply_bytes)
                                         : std::string(options.reply_bytes, 'w')} {
  do {
    for (const char letter : reply_)
      replies_.push_back(std::byte(letter));
  } while (replies_.size() < kWriteBytes);
}

void ReplyServer::start(Instant) { listen_all(stack_, options_); }

void ReplyServer::on_ready(const tcp::Readiness& ready, Instant) {
  if (ready.reset || ready.closed) return stack_.release(ready.connection);
  Progress progress = Progress::from(ready.user);
  read(ready.connection, progress);
  if (progress.owed == 0 && stack_.at_end(ready.connection))
    return stack_.release(ready.connection);
  if (progress.user() != ready.user) stack_.set_user(ready.connection, progress.user());
}

void ReplyServer::read(tcp::ConnectionId id, Progress& progress) {
  // Who does not take replies gets no further request read, and its window closes.
  while (pay(id, progress)) {
    const auto bytes = stack_.peek(id);
    if (bytes.empty()) return;
    const std::uint32_t requests = take_requests(bytes, progress);
    requests_ += requests;
    progress.owed += std::uint64_t{requests} * reply_.size();
    stack_.consume(id, bytes.size());
  }
}

bool ReplyServer::pay(tcp::ConnectionId id, Progress& progress) {
  while (progress.owed > 0) {
    // The end of what is owed is the end of a reply, which tells where in a reply we are.
    const std::size_t skip = (reply_.size() - progress.owed % reply_.size()) % reply_.size();
    const std::size_t length = std::min<std::size_t>(progress.owed, replies_.size() - skip);
    const std::size_t taken = stack_.write(id, std::span{replies_}.subspan(skip, length));
    progress.owed -= taken;
    if (taken < length) return progress.owed == 0;
  }
  return true;
}

std::uint32_t ReplyServer::take_requests(std::span<const std::byte> bytes, Progress& progress) {
  if (options_.role == Role::kHttp) {
    HeadEnds ends{static_cast<std::uint8_t>(progress.partial)};
    const std::uint32_t count = ends.count(bytes);
    progress.partial = ends.matched();
    return count;
  }
  const std::size_t total = progress.partial + bytes.size();
  progress.partial = static_cast<std::uint32_t>(total % options_.request_bytes);
  return static_cast<std::uint32_t>(total / options_.request_bytes);
}

// ---- streams ------------------------------------------------------------------------------------

StreamServer::StreamServer(tcp::Stack& stack, const LoadOptions& options)
    : stack_{stack}, options_{options}, text_(kWriteBytes, std::byte{0x77}) {}

void StreamServer::start(Instant) { listen_all(stack_, options_); }

void StreamServer::on_ready(const tcp::Readiness& ready, Instant) {
  if (ready.reset || ready.closed) return stack_.release(ready.connection);
  discard(ready.connection);
  if (stack_.at_end(ready.connection)) return stack_.release(ready.connection);
  if (options_.role == Role::kSource && (ready.accepted || ready.writable)) {
    const std::uint64_t all = options_.bytes > 0 ? options_.bytes : UINT64_MAX;
    supply(ready.connection, ready.accepted ? all : ready.user);
  }
}

void StreamServer::discard(tcp::ConnectionId id) {
  for (auto bytes = stack_.peek(id); !bytes.empty(); bytes = stack_.peek(id)) {
    bytes_ += bytes.size();
    stack_.consume(id, bytes.size());
  }
}

void StreamServer::supply(tcp::ConnectionId id, std::uint64_t left) {
  while (left > 0) {
    const std::size_t length = std::min<std::size_t>(left, text_.size());
    const std::size_t taken = stack_.write(id, std::span{text_}.first(length));
    left -= taken;
    bytes_ += taken;
    if (taken < length) return stack_.set_user(id, left);
  }
  stack_.close_write(id);
}

// ---- relay --------------------------------------------------------------------------------------

Relay::Relay(tcp::Stack& stack, const LoadOptions& options, std::uint32_t pairs_max)
    : stack_{stack}, options_{options}, pairs_{pairs_max} {
  WEIR_ASSERT(pairs_max < kOpenedSide);  // a constant of the program that starts us
}

void Relay::start(Instant) { listen_all(stack_, options_); }

void Relay::on_ready(const tcp::Readiness& ready, Instant now) {
  if (ready.accepted) {  // its user is the listener's, and no pair
    if (!ready.reset) return accept(ready.connection, now);
    ++broken_;
    return stack_.release(ready.connection);
  }
  const unsigned side = (ready.user & kOpenedSide) != 0 ? 1 : 0;
  const PairId id = PairId::from_raw(ready.user & ~kOpenedSide);
  Pair* pair = pairs_.get(id);
  if (pair == nullptr) return stack_.release(ready.connection);
  if (ready.reset) {
    ++broken_;
    return drop(id, now);
  }
  if (ready.connected) pair->sides[side].is_open = true;
  move(*pair, side);
  move(*pair, 1 - side);
  if (pair->sides[0].has_ended && pair->sides[1].has_ended) {
    stack_.release(pair->sides[0].connection);
    stack_.release(pair->sides[1].connection);
    pairs_.erase(id);
  }
}

void Relay::accept(tcp::ConnectionId accepted, Instant now) {
  const PairId id = pairs_.emplace(Pair{});
  if (!id) {
    ++refused_;
    return stack_.abort(accepted, now);
  }
  const auto opened = stack_.connect(options_.local, options_.peer, id.raw() | kOpenedSide, now);
  if (!opened) {
    ++refused_;
    pairs_.erase(id);
    return stack_.abort(accepted, now);
  }
  stack_.set_user(accepted, id.raw());
  Pair& pair = *pairs_.get(id);
  pair.sides[0] = {.connection = accepted, .is_open = true};
  pair.sides[1] = {.connection = *opened};
}

void Relay::move(Pair& pair, unsigned from) {
  Side& source = pair.sides[from];
  const Side& target = pair.sides[1 - from];
  if (!source.is_open || !target.is_open || source.has_ended) return;
  for (auto bytes = stack_.peek(source.connection); !bytes.empty();
       bytes = stack_.peek(source.connection)) {
    const std::size_t taken = stack_.write(target.connection, bytes);
    bytes_ += taken;
    stack_.consume(source.connection, taken);
    if (taken < bytes.size()) return;  // the target's `writable` brings us back
  }
  if (!stack_.at_end(source.connection)) return;
  source.has_ended = true;
  stack_.close_write(target.connection);
}

void Relay::drop(PairId id, Instant now) {
  // The one that is reset already is forgotten by the same call.
  for (const Side& side : pairs_.get(id)->sides)
    stack_.abort(side.connection, now);
  pairs_.erase(id);
}

}  // namespace weir::bench
