#include "tests/support/tcp_script.h"

#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstring>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <sstream>
#include <utility>
#include <vector>

#include "l4/wire/headers.h"
#include "tests/support/script_segment.h"
#include "tests/support/stack_entry.h"

namespace weir::testing {
namespace {

using wire::TcpHeader;

constexpr std::uint16_t kListenPort = 80;
constexpr std::int64_t kToleranceUs = 1000;          // of an `out` line
constexpr std::int64_t kSleepMaxUs = 4'000'000'000;  // a useconds_t ends not far behind it
constexpr std::int64_t kEpochUs = 1'000'000'000;
constexpr std::int64_t kSequenceTickUs = 4;  // RFC 9293, section 3.4.1

std::byte peer_byte(std::uint64_t offset) {
  return static_cast<std::byte>(offset * 7 + (offset >> 8) + 3);
}
std::byte stack_byte(std::uint64_t offset) {
  return static_cast<std::byte>(offset * 13 + (offset >> 8) + 5);
}

/// The words of one line.
class Words {
 public:
  explicit Words(const std::string& line) : in_{line} {}
  std::string next() {
    std::string word;
    in_ >> word;
    return word;
  }
  /// Modulo 2^32, so that -1 is the number before 0.
  std::uint32_t number() { return parse(next()); }
  std::uint32_t parse(std::string_view word) {
    std::int64_t value = 0;
    const auto end = word.data() + word.size();
    if (word.empty() || std::from_chars(word.data(), end, value).ptr != end) bad = true;
    return static_cast<std::uint32_t>(value);
  }
  std::pair<std::uint32_t, std::uint32_t> pair(char separator) {
    const std::string word = next();
    const std::size_t at = word.find(separator, 1);  // behind a sign
    if (at == std::string::npos) {
      bad = true;
      return {};
    }
    return {parse(std::string_view{word}.substr(0, at)),
            parse(std::string_view{word}.substr(at + 1))};
  }
  bool bad = false;

 private:
  std::istringstream in_;
};

/// One half of `ts v:e`.
struct Stamp {
  enum class Kind : std::uint8_t { kRelative, kAny, kZero };
  Kind kind = Kind::kRelative;
  std::uint32_t value = 0;
};

/// A segment as a line describes it, in relative numbers.
struct Described {
  std::uint8_t flags = 0;
  bool mentions_push = false;
  bool twice = false;
  std::uint32_t seq = 0;
  std::uint32_t end = 0;
  std::optional<std::uint32_t> ack;
  std::optional<std::uint16_t> window;
  std::optional<std::uint16_t> mss;
  std::optional<std::uint8_t> window_scale;
  bool sack_permitted = false;
  bool no_stamps = false;
  bool no_window_scale = false;
  bool no_sack_permitted = false;
  std::uint16_t urgent = 0;
  std::optional<net::Ecn> ecn;
  std::optional<std::pair<Stamp, Stamp>> stamps;
  std::vector<std::pair<std::uint32_t, std::uint32_t>> sack;
  std::vector<std::byte> raw_options;
};

constexpr std::array<std::pair<char, std::uint8_t>, 8> kFlagLetters{{{'S', TcpHeader::kSyn},
                                                                     {'F', TcpHeader::kFin},
                                                                     {'R', TcpHeader::kRst},
                                                                     {'P', TcpHeader::kPsh},
                                                                     {'U', TcpHeader::kUrg},
                                                                     {'E', TcpHeader::kEce},
                                                                     {'W', TcpHeader::kCwr},
                                                                     {'.', TcpHeader::kAck}}};

std::optional<std::uint8_t> flags_of(const std::string& text) {
  std::uint8_t flags = 0;
  if (text == "-") return flags;  // none at all
  for (const char letter : text) {
    const auto known =
        std::ranges::find(kFlagLetters, letter, &std::pair<char, std::uint8_t>::first);
    if (known == kFlagLetters.end()) return std::nullopt;
    flags |= known->second;
  }
  return flags;
}

const std::map<std::string, net::Ecn> kEcn = {{"none", net::Ecn::kNotCapable},
                                              {"ect0", net::Ecn::kCapable0},
                                              {"ect1", net::Ecn::kCapable1},
                                              {"ce", net::Ecn::kCongested}};

Stamp stamp_of(Words& words, std::string_view text) {
  if (text == "*") return {Stamp::Kind::kAny, 0};
  if (text == "-") return {Stamp::Kind::kZero, 0};
  return {Stamp::Kind::kRelative, words.parse(text)};
}

std::vector<std::byte> hex_of(Words& words) {
  const std::string digits = words.next();
  std::vector<std::byte> bytes;
  for (std::size_t at = 0; at + 2 <= digits.size(); at += 2) {
    unsigned value = 0;
    const char* const from = digits.data() + at;
    if (std::from_chars(from, from + 2, value, 16).ptr != from + 2) words.bad = true;
    bytes.push_back(static_cast<std::byte>(value));
  }
  if (digits.empty() || digits.size() % 2 != 0) words.bad = true;
  return bytes;
}

/// False for a word that no segment has.
bool describe_word(Words& words, const std::string& word, Described& result) {
  if (word == "ack") {
    result.ack = words.number();
  } else if (word == "win") {
    result.window = static_cast<std::uint16_t>(words.number());
  } else if (word == "mss") {
    result.mss = static_cast<std::uint16_t>(words.number());
  } else if (word == "ws") {
    result.window_scale = static_cast<std::uint8_t>(words.number());
  } else if (word == "sackok") {
    result.sack_permitted = true;
  } else if (word == "sack") {
    result.sack.push_back(words.pair('-'));
  } else if (word == "nots") {
    result.no_stamps = true;
  } else if (word == "nows") {
    result.no_window_scale = true;
  } else if (word == "nosackok") {
    result.no_sack_permitted = true;
  } else if (word == "urg") {
    result.urgent = static_cast<std::uint16_t>(words.number());
  } else if (word == "opt") {
    result.raw_options = hex_of(words);
  } else if (word == "dup") {
    result.twice = true;
  } else if (word == "ecn") {
    const auto known = kEcn.find(words.next());
    if (known == kEcn.end()) return false;
    result.ecn = known->second;
  } else if (word == "ts") {
    const std::string stamps = words.next();
    const std::size_t colon = stamps.find(':');
    if (colon == std::string::npos) return false;
    const std::string_view view{stamps};
    result.stamps = {stamp_of(words, view.substr(0, colon)),
                     stamp_of(words, view.substr(colon + 1))};
  } else {
    return false;
  }
  return true;
}

std::optional<Described> describe(Words& words) {
  Described result;
  const std::string flags = words.next();
  const auto parsed = flags_of(flags);
  if (!parsed) return std::nullopt;
  result.flags = *parsed;
  result.mentions_push = flags.find('P') != std::string::npos;
  std::tie(result.seq, result.end) = words.pair(':');
  for (std::string word = words.next(); !word.empty(); word = words.next())
    if (!describe_word(words, word, result)) return std::nullopt;
  if (words.bad) return std::nullopt;
  return result;
}

/// What the harness knows about one of the peer's ports.
struct Flow {
  std::uint16_t local_port = kListenPort;
  std::uint32_t stack_isn = 0;
  bool isn_known = false;
  std::uint32_t stack_clock = 0;  ///< the stack's time stamps at time 0
  bool clock_known = false;
  int fd = -1;
  std::uint64_t bytes_written = 0;
  std::uint64_t bytes_read = 0;
  std::size_t last_write = 0;
};

const std::map<std::string, int> kFailures = {
    {"none", 0},
    {"refused", ECONNREFUSED},
    {"reset", ECONNRESET},
    {"timed-out", ETIMEDOUT},
    {"unreachable", EHOSTUNREACH},
};

const std::map<std::string, std::pair<int, int>> kSocketOptions = {
    {"nodelay", {IPPROTO_TCP, TCP_NODELAY}},   {"keepalive", {SOL_SOCKET, SO_KEEPALIVE}},
    {"keepidle", {IPPROTO_TCP, TCP_KEEPIDLE}}, {"keepinterval", {IPPROTO_TCP, TCP_KEEPINTVL}},
    {"keepcount", {IPPROTO_TCP, TCP_KEEPCNT}}, {"user_timeout", {IPPROTO_TCP, TCP_USER_TIMEOUT}},
};

/// Type and code of an ICMP error in both families (RFC 792, RFC 1122, section 3.2.2.1; RFC 4443).
/// IPv6 has no "protocol unreachable" of its own; "unrecognized next header" is what says it.
struct IcmpError {
  std::uint8_t type_v4, code_v4, type_v6, code_v6;
};
const std::map<std::string, IcmpError> kIcmpErrors = {
    {"net", {3, 0, 1, 0}},      {"unreachable", {3, 1, 1, 3}}, {"protocol", {3, 2, 4, 1}},
    {"port", {3, 3, 1, 4}},     {"toobig", {3, 4, 2, 0}},      {"admin", {3, 13, 1, 1}},
    {"exceeded", {11, 0, 3, 0}}};

constexpr std::array<std::pair<unsigned, const char*>, 6> kNews{
    {{WEIR_STACK_ACCEPTED, "accepted"},
     {WEIR_STACK_CONNECTED, "connected"},
     {WEIR_STACK_READABLE, "readable"},
     {WEIR_STACK_WRITABLE, "writable"},
     {WEIR_STACK_CLOSED, "closed"},
     {WEIR_STACK_RESET, "reset"}}};

std::optional<std::int64_t> us_of(const std::string& ms) {
  double value = 0;
  const char* const end = ms.data() + ms.size();
  if (ms.empty() || std::from_chars(ms.data(), end, value).ptr != end) return std::nullopt;
  return std::llround(value * 1000);
}
double ms_of(std::int64_t us) { return static_cast<double>(us) / 1000.0; }

class Player {
 public:
  Player(const ScriptSetting& setting, const std::string& flags, std::int64_t start_us);
  ~Player() { table_.free(table_.userdata); }
  Player(const Player&) = delete;
  Player& operator=(const Player&) = delete;

  std::string play(std::string_view script);

  /// The initial sequence number that a connection opened right now would get.
  std::uint32_t probe_isn(bool active);
  [[nodiscard]] bool works() const { return table_.userdata != nullptr; }

 private:
  struct Sent {
    std::int64_t at_us;  // since the start
    std::vector<std::byte> bytes;
  };

  std::string play_timed(const std::string& line);
  std::string play_line(Words& words, const std::string& verb);
  std::string play_user(Words& words, const std::string& verb);
  std::string play_socket(Words& words, const std::string& verb);
  std::string play_question(Words& words, const std::string& verb);
  std::string advance_to(std::int64_t target_us);
  void end_turn();
  void fetch();
  void learn_from(const ScriptSegment& sent, std::int64_t at_us);
  void inject(const Described& segment);
  std::string expect(const Described& wanted, std::int64_t from_us, std::int64_t until_us);
  std::string allow(const Described& wanted, std::int64_t until_us);
  std::string compare(const Described& wanted, const ScriptSegment& got);
  std::string compare_options(const Described& wanted, const ScriptSegment& got);
  [[nodiscard]] bool stamp_fits(const Stamp& wanted, std::uint32_t got, std::uint32_t base,
                                std::uint32_t slack) const;
  std::string wait_for_output(std::int64_t until_us);
  std::string skip(Words& words);
  std::string expect_news(Words& words);
  std::string expect_silence();
  std::string expect_count(Words& words);
  std::string listen();
  std::string connect();
  std::string read(const std::string& count);
  std::string write(std::size_t count);
  std::string abort();
  std::string icmp(Words& words);
  std::string print(const ScriptSegment& segment, bool from_stack);
  void record(std::string_view direction, std::int64_t at_us, const std::string& text);
  [[nodiscard]] sockaddr_storage address(const wire::IpAddress& ip, std::uint16_t port) const;
  Flow& flow() { return flows_[port_]; }

  ScriptSetting setting_;
  weir_stack_entry table_{};
  const weir_stack_extras& extras_ = *weir_stack_entry_extras();
  std::int64_t start_us_;
  std::int64_t now_us_ = 0;   // since the start
  std::int64_t last_us_ = 0;  // of the last line
  wire::IpAddress local_;
  wire::IpAddress remote_;
  socklen_t address_size_ = 0;
  std::uint16_t port_ = 40000;
  int listener_ = -1;
  bool turn_is_open_ = false;  // the user has acted; close_turn() ends the turn
  std::deque<Sent> sent_;
  std::map<std::uint16_t, Flow> flows_;
  std::string trace_;
};

constexpr const char* kLocalV4 = "192.0.2.1";
constexpr const char* kLocalV6 = "2001:db8::1";

Player::Player(const ScriptSetting& setting, const std::string& flags, std::int64_t start_us)
    : setting_{setting}, start_us_{start_us} {
  const bool v4 = setting.family == wire::Family::kIpv4;
  local_ = *wire::IpAddress::parse(v4 ? kLocalV4 : kLocalV6);
  remote_ = *wire::IpAddress::parse(v4 ? "198.51.100.7" : "2001:db8:7::7");
  address_size_ = v4 ? sizeof(sockaddr_in) : sizeof(sockaddr_in6);
  const std::string all = fmt::format(
      "local={},start_us={},receive_wait_us=0,early_write=1,connections_max=16,"
      "time_wait_max=16,buffer_pool_bytes=4194304,pacing=0{}",
      local_.text(), start_us, flags);
  packetdrill_interface_init(all.c_str(), &table_);
}

sockaddr_storage Player::address(const wire::IpAddress& ip, std::uint16_t port) const {
  sockaddr_storage storage{};
  if (ip.is_v4()) {
    sockaddr_in in{};
    in.sin_family = AF_INET;
    in.sin_port = htons(port);
    std::memcpy(&in.sin_addr, ip.v4_octets().data(), sizeof(in.sin_addr));
    std::memcpy(&storage, &in, sizeof(in));
  } else {
    sockaddr_in6 in{};
    in.sin6_family = AF_INET6;
    in.sin6_port = htons(port);
    std::memcpy(&in.sin6_addr, ip.bytes.data(), sizeof(in.sin6_addr));
    std::memcpy(&storage, &in, sizeof(in));
  }
  return storage;
}

std::uint32_t Player::probe_isn(bool active) {
  if (active) {
    static_cast<void>(connect());
  } else {
    static_cast<void>(listen());
    Described syn;
    syn.flags = TcpHeader::kSyn;
    inject(syn);
  }
  fetch();
  return decode_segment(sent_.front().bytes)->seq;
}

// ---- what is written into the trace -------------------------------------------------------------

void Player::record(std::string_view direction, std::int64_t at_us, const std::string& text) {
  trace_ += fmt::format("  {:>10.1f} {} {}\n", ms_of(at_us), direction, text);
}

std::string Player::print(const ScriptSegment& segment, bool from_stack) {
  const Flow& of = flow();
  const std::uint32_t own = from_stack ? of.stack_isn : setting_.peer_isn;
  const std::uint32_t other = from_stack ? setting_.peer_isn : of.stack_isn;
  const auto relative = [](std::uint32_t number, std::uint32_t base) {
    return static_cast<std::int32_t>(number - base);
  };
  std::string text;
  for (const auto& [letter, flag] : kFlagLetters)
    if ((segment.flags & flag) != 0) text += letter;
  const std::int64_t seq = relative(segment.seq, own);
  text += fmt::format(" {}:{}", seq, seq + static_cast<std::int64_t>(segment.text.size()));
  if ((segment.flags & TcpHeader::kAck) != 0)
    text += fmt::format(" ack {}", relative(segment.ack, other));
  text += fmt::format(" win {}", segment.window);
  if (segment.mss) text += fmt::format(" mss {}", *segment.mss);
  if (segment.window_scale) text += fmt::format(" ws {}", *segment.window_scale);
  if (segment.sack_permitted) text += " sackok";
  for (const auto& [start, end] : segment.sack)
    text += fmt::format(" sack {}-{}", relative(start, other), relative(end, other));
  if (segment.stamps) {
    const std::uint32_t clock = from_stack ? of.stack_clock : setting_.peer_clock;
    const std::uint32_t echoed = from_stack ? setting_.peer_clock : of.stack_clock;
    text += fmt::format(" ts {}:{}", relative(segment.stamps->first, clock),
                        relative(segment.stamps->second, echoed));
  }
  if (segment.ecn != net::Ecn::kNotCapable)
    for (const auto& [name, value] : kEcn)
      if (value == segment.ecn) text += " ecn " + name;
  return text;
}

// ---- time ---------------------------------------------------------------------------------------

void Player::fetch() {
  for (;;) {
    std::vector<std::byte> packet(2048);
    std::size_t size = packet.size();
    long long at_us = 0;
    if (table_.netdev_receive(table_.userdata, packet.data(), &size, &at_us) != 0 || size == 0)
      return;
    packet.resize(size);
    sent_.push_back({at_us - start_us_, std::move(packet)});
  }
}

std::string Player::advance_to(std::int64_t target_us) {
  end_turn();
  while (target_us > now_us_) {
    const std::int64_t step = std::min(target_us - now_us_, kSleepMaxUs);
    // The field's name is in parentheses for the check that no test sleeps: this is no sleep.
    if ((table_.usleep)(table_.userdata, static_cast<useconds_t>(step)) != 0)
      return "the stack does not come to rest";
    now_us_ += step;
  }
  fetch();
  return {};
}

void Player::end_turn() {
  if (std::exchange(turn_is_open_, false)) extras_.close_turn(table_.userdata);
  fetch();
}

// ---- segments -----------------------------------------------------------------------------------

void Player::inject(const Described& segment) {
  const Flow& of = flow();
  const auto stamp = [](const Stamp& wanted, std::uint32_t base) {
    return wanted.kind == Stamp::Kind::kRelative ? base + wanted.value : 0;
  };
  ScriptSegment sent{.source = {remote_, wire::Port{port_}},
                     .destination = {local_, wire::Port{of.local_port}},
                     .seq = setting_.peer_isn + segment.seq,
                     .flags = segment.flags,
                     .window = segment.window.value_or(65535),
                     .urgent = segment.urgent,
                     .ecn = segment.ecn.value_or(net::Ecn::kNotCapable),
                     .mss = segment.mss,
                     .window_scale = segment.window_scale,
                     .sack_permitted = segment.sack_permitted,
                     .raw_options = segment.raw_options};
  const std::uint32_t stack_isn = of.isn_known ? of.stack_isn : setting_.stack_isn;
  if (segment.ack) sent.ack = stack_isn + *segment.ack;
  for (const auto& [start, end] : segment.sack)
    sent.sack.emplace_back(stack_isn + start, stack_isn + end);
  if (segment.stamps)
    sent.stamps = {stamp(segment.stamps->first, setting_.peer_clock),
                   stamp(segment.stamps->second, of.stack_clock)};
  sent.text.resize(segment.end - segment.seq);
  for (std::size_t i = 0; i < sent.text.size(); ++i)
    sent.text[i] = peer_byte(std::uint64_t{segment.seq} + i - 1);
  const auto packet = encode_segment(sent);
  for (int copies = segment.twice ? 2 : 1; copies > 0; --copies) {
    record("in ", now_us_, print(sent, false));
    table_.netdev_send(table_.userdata, packet.data(), packet.size());
  }
  fetch();
}

void Player::learn_from(const ScriptSegment& sent, std::int64_t at_us) {
  Flow& of = flow();
  if ((sent.flags & TcpHeader::kSyn) != 0) {
    of.stack_isn = sent.seq;
    of.isn_known = true;
  } else if (!of.isn_known) {
    of.stack_isn = setting_.stack_isn;
  }
  if (sent.stamps && !of.clock_known) {
    of.clock_known = true;
    of.stack_clock = sent.stamps->first - static_cast<std::uint32_t>(at_us / 1000);
  }
}

bool Player::stamp_fits(const Stamp& wanted, std::uint32_t got, std::uint32_t base,
                        std::uint32_t slack) const {
  switch (wanted.kind) {
    case Stamp::Kind::kAny:
      return true;
    case Stamp::Kind::kZero:
      return got == 0;
    case Stamp::Kind::kRelative:
      return got - (base + wanted.value) <= slack;
  }
  return false;
}

std::string Player::compare_options(const Described& wanted, const ScriptSegment& got) {
  if (wanted.mss && got.mss != wanted.mss) return "another mss";
  if (wanted.window_scale && got.window_scale != wanted.window_scale) return "another window scale";
  if (wanted.sack_permitted && !got.sack_permitted) return "no sackok";
  if (wanted.no_sack_permitted && got.sack_permitted) return "an unexpected sackok";
  if (wanted.no_window_scale && got.window_scale) return "an unexpected window scale";
  if (wanted.no_stamps && got.stamps) return "unexpected time stamps";
  if (wanted.stamps) {
    if (!got.stamps) return "no time stamps";
    if (!stamp_fits(wanted.stamps->first, got.stamps->first, flow().stack_clock, 1) ||
        !stamp_fits(wanted.stamps->second, got.stamps->second, setting_.peer_clock, 0))
      return "other time stamps";
  }
  if (wanted.sack.size() != got.sack.size()) return "another number of sack blocks";
  for (std::size_t i = 0; i < got.sack.size(); ++i)
    if (got.sack[i].first != setting_.peer_isn + wanted.sack[i].first ||
        got.sack[i].second != setting_.peer_isn + wanted.sack[i].second)
      return "other sack blocks";
  return {};
}

std::string Player::compare(const Described& wanted, const ScriptSegment& got) {
  std::uint8_t mask = 0xff;
  if (!wanted.mentions_push) mask &= static_cast<std::uint8_t>(~TcpHeader::kPsh);
  const std::uint32_t seq = got.seq - flow().stack_isn;
  if ((got.flags & mask) != wanted.flags) return "other flags";
  if (seq != wanted.seq || seq + got.text.size() != wanted.end) return "another range";
  if (wanted.ack && got.ack != setting_.peer_isn + *wanted.ack) return "another ack";
  if (wanted.window && got.window != *wanted.window) return "another window";
  if (wanted.ecn && got.ecn != *wanted.ecn) return "other ECN bits";
  if (std::string error = compare_options(wanted, got); !error.empty()) return error;
  for (std::size_t i = 0; i < got.text.size(); ++i)
    if (got.text[i] != stack_byte(std::uint64_t{seq} + i - 1)) return "other text";
  return {};
}

/// Moves the clock until something has been sent, at most to `until_us`.
std::string Player::wait_for_output(std::int64_t until_us) {
  end_turn();
  while (sent_.empty() && now_us_ < until_us) {
    const std::int64_t step = std::min(until_us, now_us_ + kToleranceUs);
    if (std::string error = advance_to(step); !error.empty()) return error;
  }
  return {};
}

std::string Player::expect(const Described& wanted, std::int64_t from_us, std::int64_t until_us) {
  if (std::string error = wait_for_output(until_us); !error.empty()) return error;
  if (sent_.empty()) return "nothing was sent";
  const Sent sent = std::move(sent_.front());
  sent_.pop_front();
  const auto segment = decode_segment(sent.bytes);
  if (!segment) return "a malformed packet was sent";
  learn_from(*segment, sent.at_us);
  const std::string text = print(*segment, true);
  record("out", sent.at_us, text);
  if (sent.at_us < from_us || sent.at_us > until_us)
    return fmt::format("sent at {:.1f} ms instead: {}", ms_of(sent.at_us), text);
  if (segment->destination != wire::Endpoint{remote_, wire::Port{port_}} ||
      segment->source != wire::Endpoint{local_, wire::Port{flow().local_port}})
    return fmt::format("sent from {} to {}", segment->source.text(), segment->destination.text());
  const std::string difference = compare(wanted, *segment);
  return difference.empty() ? std::string{} : fmt::format("{}: {}", difference, text);
}

/// Takes the segment away when it is there.
std::string Player::allow(const Described& wanted, std::int64_t until_us) {
  if (std::string error = wait_for_output(until_us); !error.empty()) return error;
  if (sent_.empty() || sent_.front().at_us > until_us) return {};
  const auto segment = decode_segment(sent_.front().bytes);
  if (!segment) return "a malformed packet was sent";
  learn_from(*segment, sent_.front().at_us);
  if (!compare(wanted, *segment).empty()) return {};
  record("out", sent_.front().at_us, print(*segment, true));
  sent_.pop_front();
  return {};
}

std::string Player::expect_silence() {
  fetch();
  if (sent_.empty()) return {};
  const Sent& sent = sent_.front();
  const auto segment = decode_segment(sent.bytes);
  if (segment) learn_from(*segment, sent.at_us);
  return fmt::format("unexpected at {:.1f} ms: {}", ms_of(sent.at_us),
                     segment ? print(*segment, true) : "malformed");
}

// ---- the user's side ----------------------------------------------------------------------------

std::string Player::listen() {
  const int domain = local_.is_v4() ? AF_INET : AF_INET6;
  listener_ = table_.socket(table_.userdata, domain, SOCK_STREAM | SOCK_NONBLOCK, IPPROTO_TCP);
  const sockaddr_storage own = address(local_, kListenPort);
  if (table_.bind(table_.userdata, listener_, reinterpret_cast<const sockaddr*>(&own),
                  address_size_) != 0)
    return fmt::format("bind: {}", std::strerror(errno));
  if (table_.listen(table_.userdata, listener_, 16) != 0)
    return fmt::format("listen: {}", std::strerror(errno));
  return {};
}

std::string Player::connect() {
  const int domain = local_.is_v4() ? AF_INET : AF_INET6;
  Flow& opened = flow();
  opened = Flow{};
  opened.fd = table_.socket(table_.userdata, domain, SOCK_STREAM | SOCK_NONBLOCK, IPPROTO_TCP);
  const sockaddr_storage peer = address(remote_, port_);
  const int result = table_.connect(table_.userdata, opened.fd,
                                    reinterpret_cast<const sockaddr*>(&peer), address_size_);
  if (result == 0 || errno != EINPROGRESS) return fmt::format("connect: {}", std::strerror(errno));
  opened.local_port = static_cast<std::uint16_t>(extras_.local_port(table_.userdata, opened.fd));
  return {};
}

std::string Player::read(const std::string& count) {
  Flow& reading = flow();
  std::size_t wanted = count.empty() ? SIZE_MAX : std::stoul(count);
  while (wanted > 0) {
    std::array<std::byte, 16384> piece{};
    const ssize_t got = table_.recv(table_.userdata, reading.fd, piece.data(),
                                    std::min(wanted, piece.size()), MSG_DONTWAIT);
    if (got <= 0 && count.empty()) return {};
    if (got <= 0) return fmt::format("{} bytes too few to read", wanted);
    for (ssize_t i = 0; i < got; ++i)
      if (piece[static_cast<std::size_t>(i)] != peer_byte(reading.bytes_read++))
        return "other text was received";
    wanted -= static_cast<std::size_t>(got);
  }
  return {};
}

std::string Player::write(std::size_t count) {
  Flow& writing = flow();
  std::vector<std::byte> bytes(count);
  for (std::size_t i = 0; i < count; ++i)
    bytes[i] = stack_byte(writing.bytes_written + i);
  const ssize_t taken = table_.send(table_.userdata, writing.fd, bytes.data(), count, MSG_DONTWAIT);
  if (taken < 0 && errno != EAGAIN) return fmt::format("send: {}", std::strerror(errno));
  writing.last_write = taken < 0 ? 0 : static_cast<std::size_t>(taken);
  writing.bytes_written += writing.last_write;
  return {};
}

std::string Player::abort() {
  const linger at_once{.l_onoff = 1, .l_linger = 0};
  table_.setsockopt(table_.userdata, flow().fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
  table_.close(table_.userdata, flow().fd);
  return {};
}

std::string Player::icmp(Words& words) {
  const auto known = kIcmpErrors.find(words.next());
  if (known == kIcmpErrors.end()) return "unknown ICMP error";
  const IcmpError& error = known->second;
  ScriptSegment quoted{.source = {local_, wire::Port{flow().local_port}},
                       .destination = {remote_, wire::Port{port_}},
                       .flags = TcpHeader::kAck};
  quoted.seq = flow().stack_isn + words.number();
  const std::uint32_t mtu = known->first == "toobig" ? words.number() : 0;
  const bool v4 = local_.is_v4();
  const auto packet = encode_icmp_error(remote_, quoted, v4 ? error.type_v4 : error.type_v6,
                                        v4 ? error.code_v4 : error.code_v6, mtu);
  table_.netdev_send(table_.userdata, packet.data(), packet.size());
  return words.bad ? "not an ICMP error" : "";
}

std::string Player::play_socket(Words& words, const std::string& verb) {
  if (verb == "listen") return listen();
  if (verb == "connect") return connect();
  if (verb == "unlisten") {
    table_.close(table_.userdata, listener_);
    return {};
  }
  if (verb == "abort") return abort();
  if (verb == "write") return write(words.number());
  if (verb == "read") return read(words.next());
  if (verb == "close") {
    table_.shutdown(table_.userdata, flow().fd, SHUT_WR);
    return {};
  }
  if (verb == "release") {
    table_.close(table_.userdata, flow().fd);
    return {};
  }
  if (verb == "buffers") {
    extras_.set_buffers(table_.userdata, words.next() == "on" ? 1 : 0);
    return {};
  }
  if (verb == "option") {
    const auto known = kSocketOptions.find(words.next());
    if (known == kSocketOptions.end()) return "unknown option";
    const auto value = static_cast<int>(words.number());
    const auto [level, name] = known->second;
    const int result =
        table_.setsockopt(table_.userdata, flow().fd, level, name, &value, sizeof(value));
    return result == 0 ? "" : fmt::format("setsockopt: {}", std::strerror(errno));
  }
  return "unknown verb";
}

std::string Player::play_user(Words& words, const std::string& verb) {
  if (verb == "icmp") {
    end_turn();
    return icmp(words);
  }
  if (!std::exchange(turn_is_open_, true)) extras_.open_turn(table_.userdata);
  return play_socket(words, verb);
}

// ---- questions ----------------------------------------------------------------------------------

std::string Player::expect_news(Words& words) {
  std::set<std::string> wanted;
  for (std::string word = words.next(); !word.empty(); word = words.next())
    wanted.insert(word);
  weir_stack_news news{};
  std::set<std::string> got;
  if (extras_.news(table_.userdata, &news) == 1) {
    for (const auto& [flag, name] : kNews)
      if ((news.flags & flag) != 0) got.insert(name);
    if (news.remote_port != 0 && news.remote_port != port_)
      return fmt::format("news of port {}", news.remote_port);
    if (got.contains("accepted"))
      flow().fd = table_.accept(table_.userdata, listener_, nullptr, nullptr);
  } else {
    got.insert("none");
  }
  if (got == wanted) return {};
  std::string text = "news:";
  for (const std::string& word : got)
    text += " " + word;
  return text;
}

std::string Player::expect_count(Words& words) {
  const std::string name = words.next();
  const std::uint64_t wanted = words.number();
  std::uint64_t got = 0;
  if (extras_.counter(table_.userdata, name.c_str(), &got) != 0) return "unknown counter";
  return got == wanted ? "" : fmt::format("{} is {}", name, got);
}

std::string Player::play_question(Words& words, const std::string& verb) {
  if (verb == "news") return expect_news(words);
  if (verb == "count") return expect_count(words);
  if (verb == "eof") {
    std::byte piece{};
    const ssize_t got = table_.recv(table_.userdata, flow().fd, &piece, 1, MSG_PEEK | MSG_DONTWAIT);
    return got == 0 ? "" : "not at the end of the stream";
  }
  if (verb == "gone")
    return extras_.exists(table_.userdata, flow().fd) == 0 ? "" : "the connection exists";
  if (verb == "wrote") {
    const std::size_t wanted = words.number();
    return flow().last_write == wanted ? "" : fmt::format("wrote {}", flow().last_write);
  }
  const auto wanted = kFailures.find(words.next());
  if (wanted == kFailures.end()) return "unknown kind of failure";
  int error = 0;
  socklen_t size = sizeof(error);
  if (table_.getsockopt(table_.userdata, flow().fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0)
    return "no such socket";
  return error == wanted->second ? "" : fmt::format("another failure: {}", std::strerror(error));
}

// ---- lines --------------------------------------------------------------------------------------

std::string Player::skip(Words& words) {
  end_turn();
  const std::string limit = words.next();
  bool any_below = limit.empty();
  for (const Sent& sent : std::exchange(sent_, {})) {
    const auto segment = decode_segment(sent.bytes);
    if (!segment) return "a malformed packet was sent";
    learn_from(*segment, sent.at_us);
    record("out", sent.at_us, print(*segment, true) + " (skipped)");
    if (!limit.empty() && !segment->text.empty() && segment->text.size() < words.parse(limit))
      any_below = true;
  }
  return any_below ? "" : "no text of fewer bytes";
}

std::string Player::play_line(Words& words, const std::string& verb) {
  static const std::set<std::string> questions = {"news",    "eof",   "gone",
                                                  "failure", "count", "wrote"};
  if (questions.contains(verb)) return play_question(words, verb);
  if (verb == "skip") return skip(words);
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

std::string Player::play_timed(const std::string& line) {
  Words words{line};
  const std::string time = words.next();
  const std::size_t dash = time.find('-');
  const auto from = us_of(time.substr(0, dash));
  const auto until = dash == std::string::npos ? from : us_of(time.substr(dash + 1));
  if (!from || !until) return "not a time";
  const std::int64_t at_us = *from;
  const std::int64_t until_us = dash == std::string::npos ? at_us + kToleranceUs : *until;
  if (at_us < last_us_) return "time runs backwards";
  last_us_ = at_us;
  const std::string verb = words.next();
  // A wait for a timer may have moved the clock by up to a millisecond already.
  if (at_us > now_us_) {
    if (std::string error = advance_to(at_us); !error.empty()) return error;
    if (verb != "skip" && !sent_.empty() && sent_.front().at_us < at_us) return expect_silence();
  }
  if (verb != "out" && verb != "may") return play_line(words, verb);
  const auto segment = describe(words);
  if (!segment) return "not a segment";
  return verb == "out" ? expect(*segment, at_us, until_us) : allow(*segment, until_us);
}

std::string without_comment(const std::string& line) { return line.substr(0, line.find('#')); }

std::string Player::play(std::string_view script) {
  std::istringstream lines{std::string{script}};
  std::string line;
  while (std::getline(lines, line)) {
    const std::string code = without_comment(line);
    Words words{code};
    const std::string first = words.next();
    if (first.empty() || first == "set") continue;
    if (const std::string why = play_timed(code); !why.empty())
      return fmt::format("{}\n  at: {}\n{}", why, line, trace_);
  }
  end_turn();
  const std::string why = expect_silence();
  return why.empty() ? "" : fmt::format("{}\n  at: the end\n{}", why, trace_);
}

/// All `set` lines as flags, each with a comma in front.
std::string flags_of_script(std::string_view script) {
  std::istringstream lines{std::string{script}};
  std::string line;
  std::string flags;
  while (std::getline(lines, line)) {
    const std::string code = without_comment(line);
    Words words{code};
    if (words.next() != "set") continue;
    const std::string name = words.next();
    flags += fmt::format(",{}={}", name, words.next());
  }
  return flags;
}

}  // namespace

std::string play_tcp_script(std::string_view script, const ScriptSetting& setting) {
  const std::string flags = flags_of_script(script);
  // Initial sequence numbers are a secret plus a clock of 4 µs ticks: start the clock where the
  // wanted number comes out.
  const bool active = script.find(" connect") != std::string_view::npos;
  Player probe{setting, flags, kEpochUs};
  if (!probe.works()) return fmt::format("the stack does not take the settings{}", flags);
  const std::uint32_t ticks = setting.stack_isn - probe.probe_isn(active);
  return Player{setting, flags, kEpochUs + kSequenceTickUs * ticks}.play(script);
}

}  // namespace weir::testing
