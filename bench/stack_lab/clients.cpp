#include "bench/stack_lab/clients.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "l4/base/bytes.h"

namespace weir::bench {
namespace {

constexpr std::uint32_t kOpeningMax = 512;  // SYNs without an answer; a listener's queue is finite
constexpr std::uint32_t kAskedMax = 256;    // questions to idle connections without an answer
constexpr std::size_t kWriteBytes = 64 * 1024;
constexpr Duration kAnswerMax = std::chrono::seconds{10};
constexpr Duration kQuiet = std::chrono::milliseconds{50};  // nothing more belongs to a reply
constexpr Duration kLook = std::chrono::milliseconds{20};   // between two looks for late attempts

}  // namespace

// ---- what all have ------------------------------------------------------------------------------

Client::Client(Transport& transport, const LoadOptions& options)
    : transport_{transport},
      options_{options},
      measurement_{options},
      reply_bytes_{options.reply_bytes},
      request_(options.request_bytes, std::byte{'q'}),
      slots_(std::size_t{options.connections} + options.idle) {
  const auto say = [&](std::string_view text) {
    request_.assign(as_bytes(text).begin(), as_bytes(text).end());
  };
  if (options.websocket) say(websocket_frame(options.request_bytes, true));
  if (options.http) say(http_request());
}

bool Client::open(std::uint32_t slot, Instant now) {
  const std::uint32_t port = options_.peer.port.value() + next_port_++ % options_.ports;
  const wire::Endpoint peer{options_.peer.address, wire::Port{static_cast<std::uint16_t>(port)}};
  if (!transport_.connect(slot, peer, now)) return false;
  slots_[slot] = {.since = now, .state = State::kOpening};
  ++opening_;
  return true;
}

void Client::open_more(Instant now) {
  // The first one finds the way: only a few packets may wait for a neighbour's address.
  const std::uint32_t opening_max = started_ > opening_ ? kOpeningMax : 1;
  while (started_ < slots_.size() && opening_ < opening_max && open(started_, now))
    ++started_;
}

void Client::advance(Instant now) {
  measurement_.advance(now);
  if (measurement_.has_begun()) return;
  open_more(now);
  if (started_ < slots_.size() || opening_ > 0) return;
  measurement_.begin(now);
  begin(now);
}

void Client::on_connected(std::uint32_t slot, Instant now) {
  --opening_;
  slots_[slot].state = State::kOpen;
  opened(slot, now);
}

void Client::on_lost(std::uint32_t slot, Instant now) {
  if (slots_[slot].state == State::kOpening) --opening_;
  slots_[slot].state = State::kNone;
  measurement_.add_failure();
  if (!finished_) lost(slot, now);
}

void Client::opened(std::uint32_t, Instant) {}

void Client::lost(std::uint32_t slot, Instant now) {
  // What could not be opened is opened again, so that a lost SYN does not end a whole run.
  if (!measurement_.has_begun() && measurement_.failures() <= slots_.size()) open(slot, now);
}

void Client::send_request(std::uint32_t slot, Instant now) {
  slots_[slot].since = now;
  slots_[slot].received = 0;
  // Cannot come up short: the send buffer was empty and is larger than any request.
  transport_.write(slot, request_);
}

bool Client::read_reply(std::uint32_t slot) {
  slots_[slot].received += static_cast<std::uint32_t>(transport_.discard(slot));
  return slots_[slot].received >= reply_bytes_;
}

nlohmann::ordered_json Client::report() const { return measurement_.report(); }

void Client::close() {
  finished_ = true;
  for (std::uint32_t slot = 0; slot < slots_.size(); ++slot)
    if (std::exchange(slots_[slot].state, State::kNone) != State::kNone) transport_.close(slot);
}

// ---- rr -----------------------------------------------------------------------------------------

void RequestClient::begin(Instant now) {
  began_ = now;
  for (std::uint32_t slot = 0; slot < options_.connections; ++slot) {
    if (options_.rate_per_s > 0)
      free_.push_back(slot);
    else
      send_request(slot, now);
  }
}

void RequestClient::opened(std::uint32_t slot, Instant now) {
  if (!options_.websocket && !options_.http) return;
  // Open once it is answered: nothing else comes before the first request.
  slots_[slot] = {.since = now, .state = State::kOpening};
  ++opening_;
  if (options_.http)
    transport_.write(slot, request_);
  else
    transport_.write(slot, as_bytes(websocket_request()));
}

void RequestClient::finish_opening(std::uint32_t slot) {
  slots_[slot].state = State::kOpen;
  --opening_;
}

void RequestClient::learn_replies(Instant now) {
  for (std::uint32_t slot = 0; slot < slots_.size(); ++slot) {
    const Slot& one = slots_[slot];
    if (one.state != State::kOpening || one.received == 0 || now - one.since < kQuiet) continue;
    if (!has_learnt_) reply_bytes_ = one.received;
    has_learnt_ = true;
    if (one.received != reply_bytes_) measurement_.add_failure();
    finish_opening(slot);
  }
}

void RequestClient::on_readable(std::uint32_t slot, Instant now) {
  if (slots_[slot].state == State::kOpening) {
    slots_[slot].received += static_cast<std::uint32_t>(transport_.discard(slot));
    slots_[slot].since = now;
    if (options_.websocket) finish_opening(slot);
    return;
  }
  if (!read_reply(slot)) return;
  measurement_.add_operation(now - slots_[slot].since);
  if (options_.rate_per_s == 0) return send_request(slot, now);
  free_.push_back(slot);
  ask_due(now);
}

Instant RequestClient::due(std::uint64_t number) const {
  const double seconds = static_cast<double>(number) / options_.rate_per_s;
  return began_ + std::chrono::duration_cast<Duration>(std::chrono::duration<double>{seconds});
}

void RequestClient::ask_due(Instant now) {
  for (; !free_.empty() && due(asked_) <= now; ++asked_) {
    const std::uint32_t slot = free_.back();
    free_.pop_back();
    send_request(slot, due(asked_));
  }
}

Instant RequestClient::next_deadline() const {
  if (!measurement_.has_begun() && options_.http) return slots_[0].since + kQuiet;
  const bool waits = options_.rate_per_s > 0 && measurement_.has_begun() && !free_.empty();
  return waits ? std::min(Client::next_deadline(), due(asked_)) : Client::next_deadline();
}

void RequestClient::advance(Instant now) {
  if (options_.http && !measurement_.has_begun()) learn_replies(now);
  Client::advance(now);
  if (measurement_.is_over()) return finish();
  if (options_.rate_per_s > 0 && measurement_.has_begun()) ask_due(now);
}

// ---- crr ----------------------------------------------------------------------------------------

ConnectClient::ConnectClient(Transport& transport, const LoadOptions& options)
    : Client{transport, options} {
  for (std::uint32_t slot = options.connections; slot > 0; --slot)
    free_.push_back(slot - 1);
}

void ConnectClient::advance(Instant now) {
  if (!measurement_.has_begun()) {  // nothing to be opened first: opening is the load
    measurement_.begin(now);
    began_ = now;
  }
  measurement_.advance(now);
  if (options_.count > 0 && attempts_ >= options_.count && free_.size() == slots_.size())
    measurement_.end(now);
  if (measurement_.is_over()) return finish();
  start_due(now);
  if (now >= next_look_) give_up_late(now);
}

Instant ConnectClient::next_deadline() const {
  const Instant own = std::min(measurement_.next_deadline(), next_look_);
  if (options_.rate_per_s == 0) return own;
  const Duration period = Duration{std::chrono::seconds{1}} / options_.rate_per_s;
  return std::min(own, began_ + period * static_cast<Duration::rep>(attempts_));
}

void ConnectClient::start_due(Instant now) {
  std::uint64_t due = options_.count > 0 ? options_.count : UINT64_MAX;
  if (options_.rate_per_s > 0) {
    const double elapsed = std::chrono::duration<double>(now - began_).count();
    due = std::min(due, static_cast<std::uint64_t>(elapsed * options_.rate_per_s) + 1);
  }
  while (!free_.empty() && attempts_ < due) {
    if (!open(free_.back(), now)) return;
    free_.pop_back();
    ++attempts_;
  }
}

void ConnectClient::give_up_late(Instant now) {
  next_look_ = now + kLook;
  for (std::uint32_t slot = 0; slot < slots_.size(); ++slot) {
    if (slots_[slot].state == State::kNone || now - slots_[slot].since <= options_.patience)
      continue;
    transport_.abort(slot, now);
    on_lost(slot, now);
  }
}

void ConnectClient::opened(std::uint32_t slot, Instant) {
  send_request(slot, slots_[slot].since);  // the latency is that of the whole
}

void ConnectClient::on_readable(std::uint32_t slot, Instant now) {
  if (!read_reply(slot)) return;
  measurement_.add_operation(now - slots_[slot].since);
  transport_.close(slot);
  again(slot);
}

void ConnectClient::lost(std::uint32_t slot, Instant) { again(slot); }

void ConnectClient::again(std::uint32_t slot) {
  slots_[slot] = {};
  free_.push_back(slot);
}

nlohmann::ordered_json ConnectClient::report() const {
  nlohmann::ordered_json report = Client::report();
  report["attempts"] = attempts_;
  return report;
}

// ---- bulk ---------------------------------------------------------------------------------------

BulkClient::BulkClient(Transport& transport, const LoadOptions& options)
    : Client{transport, options}, text_(kWriteBytes, std::byte{'b'}) {}

void BulkClient::begin(Instant) {
  if (options_.receive) return;
  for (std::uint32_t slot = 0; slot < options_.connections; ++slot)
    on_writable(slot);
}

void BulkClient::on_writable(std::uint32_t slot) {
  if (options_.receive || !measurement_.has_begun()) return;
  while (true) {
    const std::size_t taken = transport_.write(slot, text_);
    written_ += taken;
    if (taken < text_.size()) return;
  }
}

void BulkClient::on_readable(std::uint32_t slot, Instant) {
  measurement_.add_bytes(transport_.discard(slot));
}

std::uint64_t BulkClient::acknowledged() const {
  std::uint64_t waiting = 0;
  for (std::uint32_t slot = 0; slot < slots_.size(); ++slot)
    if (slots_[slot].state == State::kOpen) waiting += transport_.unacknowledged(slot);
  return written_ - waiting;
}

void BulkClient::advance(Instant now) {
  const bool was_counting = measurement_.is_counting();
  // Added while it still counts.
  if (was_counting && now >= measurement_.next_deadline() && !options_.receive)
    measurement_.add_bytes(acknowledged() - acknowledged_before_);
  Client::advance(now);
  if (!was_counting && measurement_.is_counting()) acknowledged_before_ = acknowledged();
  if (measurement_.is_over()) finish();
}

// ---- idle ---------------------------------------------------------------------------------------

void IdleClient::advance(Instant now) {
  Client::advance(now);
  if (!measurement_.is_over()) return;
  if (give_up_ == kNever) give_up_ = now + kAnswerMax;
  const auto all = static_cast<std::uint32_t>(slots_.size());
  for (; asked_ < all && asked_ - answered_ < kAskedMax; ++asked_)
    send_request(asked_, now);
  if (answered_ == all || now >= give_up_) finish();
}

void IdleClient::on_readable(std::uint32_t slot, Instant) {
  if (read_reply(slot)) ++answered_;
}

nlohmann::ordered_json IdleClient::report() const {
  nlohmann::ordered_json report = Client::report();
  report["answered"] = answered_;
  return report;
}

// ---- choice -------------------------------------------------------------------------------------

std::unique_ptr<Client> make_client(Transport& transport, const LoadOptions& options) {
  switch (options.role) {
    case Role::kRequests:
      return std::make_unique<RequestClient>(transport, options);
    case Role::kConnects:
      return std::make_unique<ConnectClient>(transport, options);
    case Role::kBulk:
      return std::make_unique<BulkClient>(transport, options);
    case Role::kIdle:
      return std::make_unique<IdleClient>(transport, options);
    case Role::kEcho:
    case Role::kSink:
    case Role::kSource:
    case Role::kHttp:
    case Role::kRelay:
      break;
  }
  return nullptr;
}

}  // namespace weir::bench
