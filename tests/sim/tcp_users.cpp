#include "tests/sim/tcp_users.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace weir::testing {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;

/// Users who leave without a reason do so in the first seconds, when there is most to disturb.
constexpr std::uint32_t kLeavesWithinMs = 3'000;

/// What a user may be sent after an early release without a reset; see Stack::release().
constexpr std::uint64_t kHeardOutBytes = 1'000;

/// The text of all streams: a stream begins somewhere in it and goes round. The length is a prime,
/// so that a stream shifted by any power of two shows.
constexpr std::size_t kTextBytes = 65'521;
const std::vector<std::byte>& text_table() {
  static const std::vector<std::byte> table = [] {
    std::vector<std::byte> bytes(kTextBytes);
    Random random{0x74657874};
    for (std::byte& byte : bytes)
      byte = static_cast<std::byte>(random.next());
    return bytes;
  }();
  return table;
}

/// A piece of the text that `side` sends over `connection`, at most `longest` bytes from `offset`.
std::span<const std::byte> text(unsigned connection, Side side, std::uint64_t offset,
                                std::size_t longest) {
  const std::uint64_t start = connection * 7'919ULL + static_cast<std::uint64_t>(side) * 104'729ULL;
  const std::size_t at = (start + offset) % kTextBytes;
  return std::span{text_table()}.subspan(at, std::min(longest, kTextBytes - at));
}

constexpr Side other(Side side) { return side == Side::kA ? Side::kB : Side::kA; }

}  // namespace

TcpUsers::TcpUsers(const TcpConditions& conditions, std::array<TcpHost*, 2> hosts,
                   std::array<wire::IpAddress, 2> addresses, Random random, Instant start)
    : conditions_{conditions}, hosts_{hosts}, addresses_{addresses}, random_{random} {
  for (unsigned i = 0; i < conditions.connections; ++i) {
    std::array<std::uint64_t, 2> bytes{};
    for (std::uint64_t& count : bytes)
      count = random_.chance(0.2) ? 0 : random_.below(std::max(conditions.bytes_max, 1U));
    // All at once, or one after the other.
    const Instant opens_at =
        start + milliseconds{i == 0 || random_.chance(0.5) ? 0 : random_.below(300)};
    for (const Side side : {Side::kA, Side::kB}) {
      TcpUser user;
      user.connection = i;
      user.side = side;
      user.to_send = bytes[static_cast<std::size_t>(side)];
      user.to_receive = bytes[static_cast<std::size_t>(other(side))];
      user.waits_for_closed = random_.chance(0.7);
      // Who lets go early must not be sent more than is heard out afterwards.
      user.releases_early = random_.chance(0.2) && user.to_receive < kHeardOutBytes;
      if (side == Side::kA || conditions.plot == Plot::kCrossing) user.opens_at = opens_at;
      if (!conditions.must_complete()) plan_departure(user, start);
      users_.push_back(user);
    }
  }
}

void TcpUsers::plan_departure(TcpUser& user, Instant start) {
  user.leaves_at = start + kPatience;
  user.aborts = true;
  if (conditions_.plot != Plot::kTrouble) return;
  if (random_.chance(0.5)) user.leaves_at = start + milliseconds{random_.below(kLeavesWithinMs)};
  user.aborts = random_.chance(0.5);
  user.deaf = random_.chance(0.1);
}

void TcpUsers::violate(const TcpUser& user, std::string_view what) {
  if (violation_.empty())
    violation_ = fmt::format("connection {}, side {}: {}", user.connection,
                             user.side == Side::kA ? "A" : "B", what);
}

TcpUser& TcpUsers::peer_of(const TcpUser& user) {
  return users_[user.connection * 2 + static_cast<std::size_t>(other(user.side))];
}

Duration TcpUsers::pause() {
  Duration length{};
  if (conditions_.pause_max > microseconds{1})
    length = microseconds{
        1 + random_.below(static_cast<std::uint32_t>(conditions_.pause_max / microseconds{1}))};
  if (random_.chance(conditions_.long_pause))
    length += milliseconds{
        random_.below(static_cast<std::uint32_t>(conditions_.long_pause_max / milliseconds{1}))};
  paused_ += length;
  return length;
}

// ---- turns --------------------------------------------------------------------------------------

void TcpUsers::turn(Side side, Instant now) {
  for (TcpUser& user : users_)
    if (user.side == side && user.opens_at <= now) open(user, now);
  while (const auto news = host(side).stack().poll())
    on_news(side, *news, now);
  for (TcpUser& user : users_) {
    if (user.side != side || !user.open) continue;
    if (user.leaves_at <= now) leave(user, now);
    if (user.open && user.next_action <= now) act(user, now);
  }
}

Instant TcpUsers::next_action() const {
  Instant next = kNever;
  for (const TcpUser& user : users_) {
    next = std::min(next, user.opens_at);
    if (user.open) next = std::min({next, user.next_action, user.leaves_at});
  }
  return next;
}

bool TcpUsers::all_finished() const {
  return std::ranges::all_of(users_, [&](const TcpUser& user) {
    if (user.finished) return true;
    // Who has not been called on need not come, once the caller has given up.
    const TcpUser& caller = users_[user.connection * 2];
    return !user.open && user.opens_at == kNever && !conditions_.must_complete() &&
           caller.finished && user.side == Side::kB;
  });
}

const TcpUser* TcpUsers::find(Side side, std::uint16_t local, std::uint16_t remote) const {
  const auto found = connection_of_port_.find(side == Side::kA ? local : remote);
  if (found == connection_of_port_.end()) return nullptr;
  const TcpUser& user = users_[found->second * 2 + static_cast<std::size_t>(side)];
  return user.open ? &user : nullptr;
}

std::string TcpUsers::unfinished() const {
  std::string text;
  for (const TcpUser& user : users_)
    if (!user.finished)
      text +=
          fmt::format(" [{}{} sent {}/{} received {}/{}{}{}{}]", user.connection,
                      user.side == Side::kA ? "A" : "B", user.sent, user.to_send, user.received,
                      user.to_receive, user.open ? "" : ", not open",
                      user.saw_end ? ", saw the end" : "", user.closed_write ? ", has closed" : "");
  return text;
}

void TcpUsers::open(TcpUser& user, Instant now) {
  user.opens_at = kNever;
  const bool crossing = conditions_.plot == Plot::kCrossing;
  const std::uint16_t port =
      crossing ? kCrossingPorts[static_cast<std::size_t>(other(user.side))] : kPort;
  TcpHost& here = host(user.side);
  const auto id = here.stack().connect(
      addresses_[static_cast<std::size_t>(user.side)],
      {addresses_[static_cast<std::size_t>(other(user.side))], wire::Port{port}}, user.connection,
      here.clock(now));
  if (!id) return violate(user, id.error().text());
  if (user.side == Side::kA)
    connection_of_port_[here.stack().local(*id).port.value()] = user.connection;
  user.id = *id;
  user.open = true;
  // Bytes may be written, and even the end, before the connection stands.
  if (random_.chance(0.2)) user.next_action = now;
}

void TcpUsers::on_news(Side side, const tcp::Readiness& news, Instant now) {
  tcp::Stack& stack = host(side).stack();
  unsigned connection = static_cast<unsigned>(news.user);
  if (news.accepted) {
    connection = connection_of_port_.at(stack.remote(news.connection).port.value());
    TcpUser& user = users_[connection * 2 + 1];
    if (user.open || user.finished) return violate(user, "accepted twice");
    user.id = news.connection;
    user.open = true;
    stack.set_user(news.connection, connection);
  }
  TcpUser& user = users_[connection * 2 + static_cast<std::size_t>(side)];
  if (!user.open) return violate(user, "news about a connection that was let go");
  if (news.accepted || news.connected) user.connected = true;
  if (news.closed) user.saw_closed = true;
  if (news.reset) {
    if (conditions_.must_complete())
      violate(user, fmt::format("reset ({})", static_cast<int>(stack.failure(news.connection))));
    return finish(user);
  }
  // Often at once, sometimes later.
  user.next_action = std::min(user.next_action, random_.chance(0.7) ? now : now + pause());
}

// ---- what one user does -------------------------------------------------------------------------

void TcpUsers::act(TcpUser& user, Instant now) {
  const bool more_to_read = read(user);
  const bool more_to_write = write(user);
  // Whoever has nothing to do waits for news and for nothing else: news that do not come show.
  user.next_action =
      more_to_read || more_to_write ? now + std::max<Duration>(pause(), microseconds{1}) : kNever;
  settle(user);
}

bool TcpUsers::read(TcpUser& user) {
  tcp::Stack& stack = host(user.side).stack();
  if (conditions_.sabotage == Sabotage::kDeafUser && user.received > 5'000) user.deaf = true;
  if (user.deaf) return false;
  std::size_t budget = random_.chance(0.5) ? 10'000'000 : random_.below(8'000);
  bool moved = false;
  while (budget > 0) {
    const auto piece = stack.peek(user.id);
    if (piece.empty()) break;
    const auto expected =
        text(user.connection, other(user.side), user.received, std::min(budget, piece.size()));
    if (!std::ranges::equal(expected, piece.first(expected.size())))
      violate(user, fmt::format("wrong bytes from {} on", user.received));
    stack.consume(user.id, expected.size());
    user.received += expected.size();
    budget -= expected.size();
    moved = true;
  }
  if (moved && on_read) on_read(user);
  if (user.received > peer_of(user).sent) violate(user, "more bytes than were sent");
  if (stack.at_end(user.id) && !user.saw_end) {
    user.saw_end = true;
    if (user.received != peer_of(user).sent)
      violate(user, fmt::format("the end after {} of {} bytes", user.received, peer_of(user).sent));
  }
  return stack.readable_bytes(user.id) > 0;
}

bool TcpUsers::write(TcpUser& user) {
  tcp::Stack& stack = host(user.side).stack();
  if (user.sent < user.to_send) {
    const std::size_t wanted =
        std::min<std::uint64_t>(user.to_send - user.sent, 1 + random_.below(20'000));
    const std::uint64_t skip =
        conditions_.sabotage == Sabotage::kMissingByte && user.sent > 1'000 ? 1 : 0;
    const auto piece = text(user.connection, user.side, user.sent + skip, wanted);
    std::size_t written = 0;
    if (conditions_.sabotage == Sabotage::kWrongByte && user.sent > 1'000) {
      std::vector<std::byte> wrong{piece.begin(), piece.end()};
      wrong.back() ^= std::byte{0x10};
      written = stack.write(user.id, wrong);
    } else {
      written = stack.write(user.id, piece);
    }
    user.sent += written;
    if (written < piece.size()) return false;  // it will say when there is room
  }
  if (user.sent < user.to_send) return true;
  if (!std::exchange(user.closed_write, true)) stack.close_write(user.id);
  return false;
}

void TcpUsers::settle(TcpUser& user) {
  // Who lets go before a connection stands gives up what he has written.
  if (!user.connected) return;
  const bool at_the_end = user.saw_end && (user.saw_closed || !user.waits_for_closed);
  if (!user.closed_write || !(user.releases_early || at_the_end)) return;
  if (user.saw_end) ++completed_;
  finish(user);
}

void TcpUsers::leave(TcpUser& user, Instant now) {
  if (user.aborts)
    host(user.side).stack().abort(user.id, host(user.side).clock(now));
  else
    host(user.side).stack().release(user.id);
  user.open = false;
  user.finished = true;
}

void TcpUsers::finish(TcpUser& user) {
  user.finished = true;
  user.next_action = kNever;
  if (conditions_.sabotage == Sabotage::kKeptConnection) return;
  host(user.side).stack().release(user.id);
  user.open = false;
}

}  // namespace weir::testing
