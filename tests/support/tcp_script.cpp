#include "tests/support/tcp_script.h"

#include <algorithm>
#include <charconv>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <sstream>
#include <utility>
#include <vector>

#include "l7/port/heap_pool.h"
#include "l7/tcp/segment.h"

namespace weir::testing {
namespace {

using std::chrono::duration_cast;
using std::chrono::microseconds;
using std::chrono::milliseconds;
using tcp::Seq;
using wire::TcpHeader;

constexpr std::uint16_t kListenPort = 80;
constexpr std::uint16_t kSegmentSizeV4 = 1500 - 20;
constexpr std::uint16_t kSegmentSizeV6 = 1500 - 40;

std::byte peer_byte(std::uint64_t offset) {
  return static_cast<std::byte>(offset * 7 + (offset >> 8) + 3);
}
std::byte stack_byte(std::uint64_t offset) {
  return static_cast<std::byte>(offset * 13 + (offset >> 8) + 5);
}

struct SentSegment {
  Instant at;
  wire::IpAddress destination;
  std::vector<std::byte> bytes;
};

/// Collects what the stack sends.
class Wire final : public net::SegmentOutput {
 public:
  port::Packet allocate() override {
    return buffers_on ? pool_.allocate(kSegmentSizeV4) : port::Packet{};
  }
  void send(port::Packet segment, const wire::IpAddress&, const wire::IpAddress& destination,
            Instant now) override {
    const auto bytes = std::as_const(segment).bytes();
    sent.push_back({now, destination, {bytes.begin(), bytes.end()}});
  }
  std::uint16_t segment_size(const wire::IpAddress& destination) const override {
    return destination.is_v4() ? kSegmentSizeV4 : kSegmentSizeV6;
  }
  port::Packet packet() { return pool_.allocate(kSegmentSizeV4 + 60); }

  bool buffers_on = true;
  std::deque<SentSegment> sent;

 private:
  port::HeapPool pool_{4096};
};

/// The words of one line.
class Words {
 public:
  explicit Words(const std::string& line) : in_{line} {}
  std::string next() {
    std::string word;
    in_ >> word;
    return word;
  }
  std::uint64_t number() {
    const std::string word = next();
    std::uint64_t value = 0;
    const auto end = word.data() + word.size();
    if (word.empty() || std::from_chars(word.data(), end, value).ptr != end) bad = true;
    return value;
  }
  bool bad = false;

 private:
  std::istringstream in_;
};

/// A segment as a line describes it, in relative numbers.
struct Described {
  std::uint8_t flags = 0;
  bool mentions_push = false;
  std::uint32_t seq = 0;
  std::uint32_t end = 0;
  std::optional<std::uint32_t> ack;
  std::optional<std::uint16_t> window;
  std::optional<std::uint16_t> mss;
  std::optional<std::uint8_t> window_scale;
  bool sack_permitted = false;
  std::vector<std::pair<std::uint32_t, std::uint32_t>> sack;
};

std::optional<std::uint8_t> flags_of(const std::string& text) {
  std::uint8_t flags = 0;
  for (const char letter : text) {
    switch (letter) {
      case 'S':
        flags |= TcpHeader::kSyn;
        break;
      case 'F':
        flags |= TcpHeader::kFin;
        break;
      case 'R':
        flags |= TcpHeader::kRst;
        break;
      case 'P':
        flags |= TcpHeader::kPsh;
        break;
      case '.':
        flags |= TcpHeader::kAck;
        break;
      default:
        return std::nullopt;
    }
  }
  return flags;
}

bool split_pair(const std::string& word, char separator, std::uint32_t& first,
                std::uint32_t& second) {
  const std::size_t at = word.find(separator);
  if (at == std::string::npos) return false;
  const char* const middle = word.data() + at;
  const char* const end = word.data() + word.size();
  return std::from_chars(word.data(), middle, first).ptr == middle &&
         std::from_chars(middle + 1, end, second).ptr == end;
}

std::optional<Described> describe(Words& words) {
  Described result;
  const std::string flags = words.next();
  const auto parsed = flags_of(flags);
  if (!parsed || !split_pair(words.next(), ':', result.seq, result.end)) return std::nullopt;
  result.flags = *parsed;
  result.mentions_push = flags.find('P') != std::string::npos;
  for (std::string word = words.next(); !word.empty(); word = words.next()) {
    if (word == "ack") {
      result.ack = static_cast<std::uint32_t>(words.number());
    } else if (word == "win") {
      result.window = static_cast<std::uint16_t>(words.number());
    } else if (word == "mss") {
      result.mss = static_cast<std::uint16_t>(words.number());
    } else if (word == "ws") {
      result.window_scale = static_cast<std::uint8_t>(words.number());
    } else if (word == "sackok") {
      result.sack_permitted = true;
    } else if (word == "sack") {
      std::pair<std::uint32_t, std::uint32_t> block;
      if (!split_pair(words.next(), '-', block.first, block.second)) return std::nullopt;
      result.sack.push_back(block);
    } else {
      return std::nullopt;
    }
  }
  if (words.bad) return std::nullopt;
  return result;
}

/// What the harness knows about one of the peer's ports.
struct Flow {
  std::uint16_t local_port = kListenPort;
  Seq stack_isn;
  bool isn_known = false;
  tcp::ConnectionId id;
  std::uint64_t bytes_written = 0;
  std::uint64_t bytes_read = 0;
  std::size_t last_write = 0;
};

const std::map<std::string, std::uint64_t tcp::StackCounters::*> kCounters64 = {
    {"bytes_received", &tcp::StackCounters::bytes_received},
    {"bytes_sent", &tcp::StackCounters::bytes_sent},
    {"retransmitted_segments", &tcp::StackCounters::retransmitted_segments},
    {"fast_retransmits", &tcp::StackCounters::fast_retransmits},
    {"retransmission_timeouts", &tcp::StackCounters::retransmission_timeouts},
    {"duplicate_segments", &tcp::StackCounters::duplicate_segments},
    {"out_of_order_segments", &tcp::StackCounters::out_of_order_segments},
    {"dropped_malformed", &tcp::StackCounters::dropped_malformed},
    {"dropped_no_memory", &tcp::StackCounters::dropped_no_memory},
    {"dropped_backlog", &tcp::StackCounters::dropped_backlog},
    {"resets_sent", &tcp::StackCounters::resets_sent},
    {"resets_received", &tcp::StackCounters::resets_received},
    {"challenge_acks", &tcp::StackCounters::challenge_acks},
    {"accepted", &tcp::StackCounters::accepted},
    {"connected", &tcp::StackCounters::connected},
    {"failed_connects", &tcp::StackCounters::failed_connects},
    {"time_wait_evicted", &tcp::StackCounters::time_wait_evicted},
};
const std::map<std::string, std::uint32_t tcp::StackCounters::*> kCounters32 = {
    {"connections", &tcp::StackCounters::connections},
    {"half_open", &tcp::StackCounters::half_open},
    {"time_wait", &tcp::StackCounters::time_wait},
};
const std::map<std::string, tcp::Failure> kFailures = {
    {"none", tcp::Failure::kNone},
    {"refused", tcp::Failure::kRefused},
    {"reset", tcp::Failure::kReset},
    {"timed-out", tcp::Failure::kTimedOut},
    {"unreachable", tcp::Failure::kUnreachable},
};

class Player {
 public:
  explicit Player(const ScriptSetting& setting, Instant start)
      : setting_{setting},
        start_{start},
        now_{start},
        stack_{setting.options, wire_, Random{kSeed}, start} {
    const bool v4 = setting.family == wire::Family::kIpv4;
    local_ = *wire::IpAddress::parse(v4 ? "192.0.2.1" : "2001:db8::1");
    remote_ = *wire::IpAddress::parse(v4 ? "198.51.100.7" : "2001:db8:7::7");
  }

  std::string play(std::string_view script);

  /// The initial sequence number that a connection opened right now would get.
  Seq probe_isn(bool active);

 private:
  static constexpr std::uint64_t kSeed = 42;

  std::string play_line(Words& words, const std::string& verb);
  std::string play_user(Words& words, const std::string& verb);
  std::string play_question(Words& words, const std::string& verb);
  std::string advance_to(Instant target);
  void end_turn();
  void learn_isn(const tcp::SegmentView& sent);
  void inject(const Described& segment);
  std::string expect(const Described& wanted, Instant at);
  std::string compare(const Described& wanted, const tcp::SegmentView& got);
  std::string expect_news(Words& words);
  std::string expect_silence();
  std::string read(std::size_t count);
  void write(std::size_t count);
  void icmp(Words& words);
  std::string print(const tcp::SegmentView& segment, Seq own, Seq other) const;
  void record(std::string_view direction, const std::string& text);
  [[nodiscard]] Seq peer_isn() const { return Seq{setting_.peer_isn}; }
  Flow& flow() { return flows_[port_]; }

  ScriptSetting setting_;
  Instant start_;
  Instant now_;
  Wire wire_;
  tcp::Stack stack_;
  wire::IpAddress local_;
  wire::IpAddress remote_;
  std::uint16_t port_ = 40000;
  bool turn_is_open_ = false;  // the user has acted; flush() ends the turn
  std::map<std::uint16_t, Flow> flows_;
  std::string trace_;
};

Seq Player::probe_isn(bool active) {
  if (active) {
    static_cast<void>(stack_.connect(local_, {remote_, wire::Port{port_}}, 0, now_));
  } else {
    stack_.listen({local_, wire::Port{kListenPort}}, 0);
    Described syn;
    syn.flags = TcpHeader::kSyn;
    inject(syn);
  }
  stack_.flush(now_);
  return tcp::parse_segment(wire_.sent.front().bytes)->seq;
}

void Player::record(std::string_view direction, const std::string& text) {
  trace_ +=
      fmt::format("  {:>10.1f} {} {}\n",
                  static_cast<double>(duration_cast<microseconds>(now_ - start_).count()) / 1000.0,
                  direction, text);
}

std::string Player::print(const tcp::SegmentView& segment, Seq own, Seq other) const {
  std::string flags;
  if (segment.syn()) flags += 'S';
  if (segment.fin()) flags += 'F';
  if (segment.rst()) flags += 'R';
  if ((segment.flags & TcpHeader::kPsh) != 0) flags += 'P';
  if (segment.has_ack()) flags += '.';
  const std::uint32_t seq = own.distance_to(segment.seq);
  std::string text = fmt::format("{} {}:{}", flags, seq, seq + segment.payload.size());
  if (segment.has_ack()) text += fmt::format(" ack {}", other.distance_to(segment.ack));
  text += fmt::format(" win {}", segment.window);
  if (segment.options.mss) text += fmt::format(" mss {}", *segment.options.mss);
  if (segment.options.window_scale) text += fmt::format(" ws {}", *segment.options.window_scale);
  if (segment.options.sack_permitted) text += " sackok";
  for (std::size_t i = 0; i < segment.options.sack_count; ++i)
    text += fmt::format(" sack {}-{}", other.distance_to(segment.options.sack[i].start),
                        other.distance_to(segment.options.sack[i].end));
  return text;
}

std::string Player::advance_to(Instant target) {
  constexpr int kTurnsMax = 1'000'000;  // a stack that never comes to rest
  end_turn();
  for (int turns = 0; turns < kTurnsMax; ++turns) {
    const Instant next = stack_.next_deadline();
    if (next > target) break;
    now_ = std::max(now_, next);
    stack_.advance(now_);
    stack_.flush(now_);
    if (turns + 1 == kTurnsMax) return "the stack does not come to rest";
  }
  now_ = std::max(now_, target);
  stack_.advance(now_);
  stack_.flush(now_);
  return {};
}

void Player::inject(const Described& segment) {
  tcp::SegmentHeader header;
  header.source_port = port_;
  header.destination_port = flow().local_port;
  header.seq = peer_isn() + segment.seq;
  header.flags = segment.flags;
  if (segment.ack)
    header.ack = (flow().isn_known ? flow().stack_isn : Seq{setting_.stack_isn}) + *segment.ack;
  header.window = segment.window.value_or(65535);
  header.options.mss = segment.mss;
  header.options.window_scale = segment.window_scale;
  header.options.sack_permitted = segment.sack_permitted;
  port::Packet packet = wire_.packet();
  const auto text = tcp::build_segment(packet, header, segment.end - segment.seq);
  for (std::size_t i = 0; i < text.size(); ++i)
    text[i] = peer_byte(std::uint64_t{segment.seq} + i - 1);
  record("in ", print(*tcp::parse_segment(packet.bytes()), peer_isn(), flow().stack_isn));
  stack_.input({remote_, local_, wire::IpProtocol::kTcp, std::move(packet)}, now_);
  stack_.flush(now_);
}

std::string Player::compare(const Described& wanted, const tcp::SegmentView& got) {
  std::uint8_t mask = 0xff;
  if (!wanted.mentions_push) mask &= static_cast<std::uint8_t>(~TcpHeader::kPsh);
  const std::uint32_t seq = flow().stack_isn.distance_to(got.seq);
  if ((got.flags & mask) != wanted.flags) return "other flags";
  if (seq != wanted.seq || seq + got.payload.size() != wanted.end) return "another range";
  if (wanted.ack && got.ack != peer_isn() + *wanted.ack) return "another ack";
  if (wanted.window && got.window != *wanted.window) return "another window";
  if (wanted.mss && got.options.mss != wanted.mss) return "another mss";
  if (wanted.window_scale && got.options.window_scale != wanted.window_scale)
    return "another window scale";
  if (wanted.sack_permitted && !got.options.sack_permitted) return "no sackok";
  if (!wanted.sack.empty() || got.options.sack_count > 0) {
    if (wanted.sack.size() != got.options.sack_count) return "another number of sack blocks";
    for (std::size_t i = 0; i < wanted.sack.size(); ++i)
      if (got.options.sack[i].start != peer_isn() + wanted.sack[i].first ||
          got.options.sack[i].end != peer_isn() + wanted.sack[i].second)
        return "other sack blocks";
  }
  for (std::size_t i = 0; i < got.payload.size(); ++i)
    if (got.payload[i] != stack_byte(std::uint64_t{seq} + i - 1)) return "other text";
  return {};
}

void Player::learn_isn(const tcp::SegmentView& sent) {
  Flow& of = flow();
  if (sent.syn()) {
    of.stack_isn = sent.seq;
    of.isn_known = true;
  } else if (!of.isn_known) {
    of.stack_isn = Seq{setting_.stack_isn};
  }
}

std::string Player::expect(const Described& wanted, Instant at) {
  end_turn();
  if (wire_.sent.empty())
    if (std::string error = advance_to(at + milliseconds{1}); !error.empty()) return error;
  if (wire_.sent.empty()) return "nothing was sent";
  const SentSegment sent = std::move(wire_.sent.front());
  wire_.sent.pop_front();
  const auto view = tcp::parse_segment(sent.bytes);
  if (!view) return "a malformed segment was sent";
  learn_isn(*view);
  const std::string text = print(*view, flow().stack_isn, peer_isn());
  record("out", text);
  if (sent.at < at || sent.at > at + milliseconds{1})
    return fmt::format(
        "sent at {:.1f} ms instead: {}",
        static_cast<double>(duration_cast<microseconds>(sent.at - start_).count()) / 1000.0, text);
  if (view->destination_port != port_)
    return fmt::format("sent to port {}", view->destination_port);
  const std::string difference = compare(wanted, *view);
  return difference.empty() ? std::string{} : fmt::format("{}: {}", difference, text);
}

std::string Player::expect_silence() {
  if (wire_.sent.empty()) return {};
  const SentSegment& sent = wire_.sent.front();
  const auto view = tcp::parse_segment(sent.bytes);
  if (view) learn_isn(*view);
  return fmt::format(
      "unexpected at {:.1f} ms: {}",
      static_cast<double>(duration_cast<microseconds>(sent.at - start_).count()) / 1000.0,
      view ? print(*view, flow().stack_isn, peer_isn()) : "malformed");
}

std::string Player::expect_news(Words& words) {
  std::set<std::string> wanted;
  for (std::string word = words.next(); !word.empty(); word = words.next())
    wanted.insert(word);
  const auto readiness = stack_.poll();
  std::set<std::string> got;
  if (readiness) {
    if (readiness->accepted) got.insert("accepted");
    if (readiness->connected) got.insert("connected");
    if (readiness->readable) got.insert("readable");
    if (readiness->writable) got.insert("writable");
    if (readiness->closed) got.insert("closed");
    if (readiness->reset) got.insert("reset");
    flow().id = readiness->connection;
  } else {
    got.insert("none");
  }
  if (got == wanted) return {};
  std::string text = "news:";
  for (const std::string& word : got)
    text += " " + word;
  return text;
}

std::string Player::read(std::size_t count) {
  Flow& reading = flow();
  while (count > 0) {
    const auto piece = stack_.peek(reading.id);
    const std::size_t take = std::min(piece.size(), count);
    if (take == 0) return fmt::format("{} bytes too few to read", count);
    for (std::size_t i = 0; i < take; ++i)
      if (piece[i] != peer_byte(reading.bytes_read + i)) return "other text was received";
    stack_.consume(reading.id, take);
    reading.bytes_read += take;
    count -= take;
  }
  return {};
}

void Player::write(std::size_t count) {
  std::vector<std::byte> bytes(count);
  for (std::size_t i = 0; i < count; ++i)
    bytes[i] = stack_byte(flow().bytes_written + i);
  flow().last_write = stack_.write(flow().id, bytes);
  flow().bytes_written += flow().last_write;
}

void Player::icmp(Words& words) {
  net::TransportError error;
  const std::string kind = words.next();
  if (kind == "unreachable") error.kind = net::TransportError::Kind::kUnreachable;
  if (kind == "exceeded") error.kind = net::TransportError::Kind::kTimeExceeded;
  if (kind == "toobig") error.kind = net::TransportError::Kind::kPacketTooBig;
  error.local = {local_, wire::Port{flow().local_port}};
  error.remote = {remote_, wire::Port{port_}};
  error.sequence = (flow().stack_isn + static_cast<std::uint32_t>(words.number())).value();
  if (kind == "toobig") error.mtu = static_cast<std::uint16_t>(words.number());
  stack_.error(error, now_);
}

std::string Player::play_user(Words& words, const std::string& verb) {
  if (verb == "listen") {
    stack_.listen({local_, wire::Port{kListenPort}}, 7);
  } else if (verb == "unlisten") {
    stack_.stop_listening({local_, wire::Port{kListenPort}});
  } else if (verb == "connect") {
    const auto id = stack_.connect(local_, {remote_, wire::Port{port_}}, 7, now_);
    if (!id) return id.error().text();
    flow().id = *id;
    flow().local_port = stack_.local(*id).port.value();
  } else if (verb == "write") {
    write(words.number());
  } else if (verb == "read") {
    const std::string count = words.next();
    const std::size_t all = stack_.readable_bytes(flow().id);
    if (std::string error = read(count.empty() ? all : std::stoul(count)); !error.empty())
      return error;
  } else if (verb == "close") {
    stack_.close_write(flow().id);
  } else if (verb == "release") {
    stack_.release(flow().id);
  } else if (verb == "abort") {
    stack_.abort(flow().id, now_);
  } else if (verb == "icmp") {
    icmp(words);
  } else if (verb == "buffers") {
    wire_.buffers_on = words.next() == "on";
  } else {
    return "unknown verb";
  }
  turn_is_open_ = true;
  return {};
}

/// Nothing when the verb is not a question.
std::string Player::play_question(Words& words, const std::string& verb) {
  if (verb == "news") return expect_news(words);
  if (verb == "eof") return stack_.at_end(flow().id) ? "" : "not at the end of the stream";
  if (verb == "gone") return stack_.exists(flow().id) ? "the connection exists" : "";
  if (verb == "wrote") {
    const std::size_t wanted = words.number();
    return flow().last_write == wanted ? "" : fmt::format("wrote {}", flow().last_write);
  }
  if (verb == "failure") {
    const auto wanted = kFailures.find(words.next());
    if (wanted == kFailures.end()) return "unknown kind of failure";
    return stack_.failure(flow().id) == wanted->second ? "" : "another failure";
  }
  const std::string name = words.next();
  const std::uint64_t wanted = words.number();
  std::uint64_t got = 0;
  if (const auto found = kCounters64.find(name); found != kCounters64.end()) {
    got = stack_.counters().*found->second;
  } else if (const auto narrow = kCounters32.find(name); narrow != kCounters32.end()) {
    got = stack_.counters().*narrow->second;
  } else {
    return "unknown counter";
  }
  return got == wanted ? "" : fmt::format("{} is {}", name, got);
}

void Player::end_turn() {
  if (std::exchange(turn_is_open_, false)) stack_.flush(now_);
}

std::string Player::play_line(Words& words, const std::string& verb) {
  static const std::set<std::string> questions = {"news",    "eof",   "gone",
                                                  "failure", "count", "wrote"};
  if (questions.contains(verb)) return play_question(words, verb);
  if (std::string error = expect_silence(); !error.empty()) return error;
  if (verb == "in") {
    end_turn();
    if (std::string error = expect_silence(); !error.empty()) return error;
    const auto segment = describe(words);
    if (!segment) return "not a segment";
    inject(*segment);
    return {};
  }
  if (verb == "peer") {
    port_ = static_cast<std::uint16_t>(words.number());
    return {};
  }
  return play_user(words, verb);
}

std::string Player::play(std::string_view script) {
  std::istringstream lines{std::string{script}};
  std::string line;
  Instant last = start_;
  const auto failed = [&](const std::string& why) {
    return fmt::format("{}\n  at: {}\n{}", why, line, trace_);
  };
  while (std::getline(lines, line)) {
    const std::string code = line.substr(0, line.find('#'));
    Words words{code};
    const std::string time = words.next();
    if (time.empty()) continue;
    const Instant at = start_ + milliseconds{std::stoll(time)};
    if (at < last) return failed("time runs backwards");
    last = at;
    const std::string verb = words.next();
    // A wait for a timer may have moved the clock by up to a millisecond already.
    if (at > now_) {
      if (std::string error = advance_to(at); !error.empty()) return failed(error);
      if (!wire_.sent.empty() && wire_.sent.front().at < at) return failed(expect_silence());
    }
    if (verb == "out") {
      const auto segment = describe(words);
      if (!segment) return failed("not a segment");
      if (std::string error = expect(*segment, at); !error.empty()) return failed(error);
      continue;
    }
    if (std::string error = play_line(words, verb); !error.empty()) return failed(error);
  }
  line = "the end";
  end_turn();
  if (std::string error = expect_silence(); !error.empty()) return failed(error);
  return {};
}

}  // namespace

std::string play_tcp_script(std::string_view script, const ScriptSetting& setting) {
  // Initial sequence numbers are a secret plus a clock of 4 µs ticks: start the clock where the
  // wanted number comes out.
  const Instant epoch{std::chrono::seconds{1000}};
  const bool active = script.find(" connect") != std::string_view::npos;
  const Seq unshifted = Player{setting, epoch}.probe_isn(active);
  const std::uint32_t ticks = unshifted.distance_to(Seq{setting.stack_isn});
  const auto shift = microseconds{4} * static_cast<std::int64_t>(ticks);
  return Player{setting, epoch + shift}.play(script);
}

}  // namespace weir::testing
