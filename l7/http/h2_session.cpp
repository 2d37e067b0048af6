#include "l7/http/h2_session.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "l4/base/assert.h"
#include "l4/base/bytes.h"
#include "l7/http/h2_session_state.h"

namespace weir::http {
namespace {

/// An empty queue keeps no more than this.
constexpr std::size_t kKeptBytes = 4 * 1024;
/// Which PING asks whether the client has heard of the shutdown.
constexpr std::array<std::uint8_t, 8> kDrainPing{'w', 'e', 'i', 'r', 'd', 'r', 'a', 'i'};

// nghttp2 allocates through these; in front of each block stands its size.
constexpr std::size_t kBlockHeader = alignof(std::max_align_t);

void* with_size(void* block, std::size_t size) {
  if (block == nullptr) return nullptr;
  std::memcpy(block, &size, sizeof(size));
  return static_cast<std::byte*>(block) + kBlockHeader;  // within the block: it is that much longer
}
void* block_of(void* memory) { return static_cast<std::byte*>(memory) - kBlockHeader; }
std::size_t size_of(void* memory) {
  std::size_t size = 0;
  std::memcpy(&size, block_of(memory), sizeof(size));
  return size;
}

/// What the peer hears when nghttp2 can go on no more.
H2Code code_of(int error) {
  switch (error) {
    case NGHTTP2_ERR_BAD_CLIENT_MAGIC:
      return H2Code::kProtocolError;
    case NGHTTP2_ERR_NOMEM:
    case NGHTTP2_ERR_FLOODED:
    case NGHTTP2_ERR_TOO_MANY_CONTINUATIONS:
    case NGHTTP2_ERR_CALLBACK_FAILURE:
      return H2Code::kEnhanceYourCalm;
    default:
      return H2Code::kInternalError;
  }
}

std::optional<H2Abuse> abuse_of(int error) {
  if (error == NGHTTP2_ERR_NOMEM) return H2Abuse::kMemory;
  if (error == NGHTTP2_ERR_FLOODED) return H2Abuse::kQueue;
  if (error == NGHTTP2_ERR_TOO_MANY_CONTINUATIONS) return H2Abuse::kContinuation;
  return std::nullopt;
}

}  // namespace

void H2Bytes::append(std::span<const std::byte> bytes) {
  // What was consumed is dropped before the queue would grow, at most once per half of it.
  if (begin_ > bytes_.size() / 2) {
    bytes_.erase(bytes_.begin(), bytes_.begin() + static_cast<std::ptrdiff_t>(begin_));
    begin_ = 0;
  }
  bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
}

void H2Bytes::consume(std::size_t count) {
  WEIR_ASSERT(count <= size());
  begin_ += count;
  if (!empty()) return;
  begin_ = 0;
  bytes_.clear();
  if (bytes_.capacity() > kKeptBytes) bytes_ = std::vector<std::byte>{};
}

// ---- memory ------------------------------------------------------------------------------------

bool H2Session::State::charge(std::size_t bytes) {
  H2Counters& counters = shared.counters_;
  if (memory + bytes > kSessionMemoryMax) return false;
  if (counters.memory_bytes + bytes > shared.memory_max_) return false;
  memory += bytes;
  counters.memory_bytes += bytes;
  return true;
}

void H2Session::State::credit(std::size_t bytes) {
  WEIR_ASSERT(bytes <= memory);  // what is given back was charged
  memory -= bytes;
  shared.counters_.memory_bytes -= bytes;
}

bool H2Session::State::hold(H2Bytes& bytes, std::span<const std::byte> more) {
  if (!charge(more.size())) return false;
  bytes.append(more);
  return true;
}

void H2Session::State::let_go(H2Bytes& bytes, std::size_t count) {
  bytes.consume(count);
  credit(count);
}

namespace {

/// Calls of nghttp2 for memory, on behalf of a session's account.
template <typename Account>
nghttp2_mem memory_of(Account& account) {
  return {
      .mem_user_data = &account,
      .malloc = [](std::size_t size, void* self) -> void* {
        if (!static_cast<Account*>(self)->charge(size)) return nullptr;
        return with_size(std::malloc(size + kBlockHeader), size);
      },
      .free =
          [](void* memory, void* self) {
            if (memory == nullptr) return;
            static_cast<Account*>(self)->credit(size_of(memory));
            std::free(block_of(memory));
          },
      .calloc = [](std::size_t count, std::size_t size, void* self) -> void* {
        // Its sizes are those of its own structures and tables: no overflow.
        if (!static_cast<Account*>(self)->charge(count * size)) return nullptr;
        return with_size(std::calloc(1, count * size + kBlockHeader), count * size);
      },
      .realloc = [](void* memory, std::size_t size, void* self) -> void* {
        auto* const account_of_it = static_cast<Account*>(self);
        const std::size_t before = memory == nullptr ? 0 : size_of(memory);
        if (!account_of_it->charge(size)) return nullptr;
        void* const block = memory == nullptr ? nullptr : block_of(memory);
        void* const grown = with_size(std::realloc(block, size + kBlockHeader), size);
        account_of_it->credit(grown == nullptr ? size : before);
        return grown;
      },
  };
}

}  // namespace

// ---- life --------------------------------------------------------------------------------------

H2Session::State::State(const H2Options& with, H2Shared& with_shared, Instant at)
    : options{with}, shared{with_shared}, heads{is_server() ? kH2Preface.size() : 0}, now{at} {
  nghttp2_mem mem = memory_of(*this);
  nghttp2_session_callbacks* callbacks = nullptr;
  nghttp2_option* option = nullptr;
  WEIR_ASSERT(nghttp2_session_callbacks_new(&callbacks) == 0);  // only memory can be missing
  WEIR_ASSERT(nghttp2_option_new(&option) == 0);
  set_input_callbacks(callbacks);
  set_output_callbacks(callbacks);
  // Windows open as the owner consumes.
  nghttp2_option_set_no_auto_window_update(option, 1);
  nghttp2_option_set_no_closed_streams(option, 1);
  nghttp2_option_set_max_outbound_ack(option, 100);
  nghttp2_option_set_max_continuations(option, kContinuationPiecesMax);
  nghttp2_option_set_peer_max_concurrent_streams(option, options.streams_max);
  // Ours counts; theirs would read the clock.
  nghttp2_option_set_stream_reset_rate_limit(option, 1U << 30, 1U << 30);
  // Frames of other types are to be ignored, but not without being counted.
  for (unsigned type = NGHTTP2_CONTINUATION + 1; type <= UINT8_MAX; ++type)
    nghttp2_option_set_user_recv_extension_type(option, static_cast<std::uint8_t>(type));
  const auto create = is_server() ? nghttp2_session_server_new3 : nghttp2_session_client_new3;
  if (create(&session, callbacks, this, option, &mem) != 0) broken = true;
  nghttp2_option_del(option);
  nghttp2_session_callbacks_del(callbacks);
  ++shared.counters_.sessions_opened;
  ++shared.counters_.sessions;
  if (!broken) submit_settings();
}

H2Session::State::~State() {
  while (!streams.empty())
    erase(streams.begin()->second);
  nghttp2_session_del(session);
  --shared.counters_.sessions;
}

void H2Session::State::submit_settings() {
  std::vector<nghttp2_settings_entry> entries{
      {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, options.stream_window},
      {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, options.limits.header_bytes},
  };
  if (is_server()) {
    entries.push_back({NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, options.streams_max});
    entries.push_back({NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL, 1});
    entries.push_back({NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1});
  } else {
    entries.push_back({NGHTTP2_SETTINGS_ENABLE_PUSH, 0});
  }
  const bool submitted =
      nghttp2_submit_settings(session, NGHTTP2_FLAG_NONE, entries.data(), entries.size()) == 0 &&
      nghttp2_session_set_local_window_size(session, NGHTTP2_FLAG_NONE, 0,
                                            static_cast<std::int32_t>(options.session_window)) == 0;
  if (!submitted) broken = true;
}

void H2Session::State::fail(int error) {
  if (failure) return;
  if (!abuse) abuse = abuse_of(error);
  if (abuse) ++shared.counters_.abuse[static_cast<std::size_t>(*abuse)];
  failure = abuse ? H2Code::kEnhanceYourCalm : escalation.value_or(code_of(error));
  if (nghttp2_session_terminate_session(session, static_cast<std::uint32_t>(*failure)) != 0)
    broken = true;
}

H2Stream* H2Session::State::find(std::int32_t id) {
  const auto found = streams.find(id);
  return found == streams.end() ? nullptr : &found->second;
}

void H2Session::State::mark(H2Stream& stream) {
  if (stream.ready) return;
  stream.ready = true;
  ready.push_back(stream.id);
}

void H2Session::State::erase(H2Stream& stream) {
  out_bytes -= stream.out.size();
  let_go(stream.out, stream.out.size());
  let_go(stream.in, stream.in.size());
  --shared.counters_.streams;
  streams.erase(stream.id);
}

H2Session::H2Session(const H2Options& options, H2Shared& shared, Instant now)
    : state_{std::make_unique<State>(options, shared, now)} {}
H2Session::~H2Session() = default;

void H2Session::receive(std::span<const std::byte> bytes, Instant now) {
  State& s = *state_;
  s.now = now;
  if (s.failure || s.broken) return;
  std::size_t fed = 0;
  for (std::size_t at = 0; at < bytes.size();) {
    at += s.heads.advance(bytes.subspan(at));
    if (!s.heads.complete() || s.heads.type() != NGHTTP2_DATA) continue;
    // All but its last byte, so that streams are what they are when it comes.
    if (!s.feed(bytes.subspan(fed, at - 1 - fed))) return;
    fed = at - 1;
    if (s.is_over(s.heads.stream()) && s.refuse_late_frame(s.heads.stream()) != 0)
      return s.fail(NGHTTP2_ERR_NOMEM);
  }
  if (s.feed(bytes.subspan(fed)) && nghttp2_session_get_outbound_queue_size(s.session) > kQueueMax)
    s.fail(NGHTTP2_ERR_FLOODED);
}

bool H2Session::State::feed(std::span<const std::byte> bytes) {
  // nghttp2 reads octets, which bytes are.
  const auto* const octets = reinterpret_cast<const std::uint8_t*>(bytes.data());
  const ssize_t taken = nghttp2_session_mem_recv(session, octets, bytes.size());
  if (taken < 0) fail(static_cast<int>(taken));
  return taken >= 0;
}

std::size_t H2FrameHeads::advance(std::span<const std::byte> bytes) {
  if (complete()) size_ = 0;
  const std::size_t skipped = std::min(skip_, bytes.size());
  skip_ -= skipped;
  const std::size_t more = std::min(head_.size() - size_, bytes.size() - skipped);
  std::copy_n(bytes.begin() + static_cast<std::ptrdiff_t>(skipped), more,
              head_.begin() + static_cast<std::ptrdiff_t>(size_));
  size_ += more;
  if (complete()) skip_ = number_at(0, 3);
  return skipped + more;
}

H2Stream* H2Session::next_ready() {
  State& s = *state_;
  while (!s.ready.empty()) {
    H2Stream* const stream = s.find(s.ready.front());
    s.ready.pop_front();
    if (stream == nullptr) continue;
    stream->ready = false;
    stream->known = true;
    return stream;
  }
  return nullptr;
}

void H2Session::remind(H2Stream& stream) { state_->mark(stream); }

H2Stream* H2Session::find(std::int32_t id) { return state_->find(id); }

std::size_t H2Session::streams() const { return state_->streams.size(); }

bool H2Session::within_head() const { return state_->head_open != 0; }

H2Stream* H2Session::begun() {
  H2Stream* const stream = state_->find(state_->head_open);
  return stream == nullptr || stream->head_complete ? nullptr : stream;
}

std::optional<H2Code> H2Session::goaway() const { return state_->goaway_received; }

std::optional<H2Code> H2Session::failure() const { return state_->failure; }

bool H2Session::draining() const {
  return state_->draining || state_->goaway_received || state_->failure || state_->broken;
}

bool H2Session::over() const {
  const State& s = *state_;
  if (s.broken) return true;
  return nghttp2_session_want_read(s.session) == 0 && nghttp2_session_want_write(s.session) == 0;
}

void H2Session::drain() {
  State& s = *state_;
  if (s.failure || s.broken) return;
  const bool again = std::exchange(s.draining, true);
  if (!s.is_server() || again) {
    s.submit_goaway();
    return;
  }
  // Whoever answers the PING has read the notice before it: what comes then came knowingly.
  const bool submitted = nghttp2_submit_shutdown_notice(s.session) == 0 &&
                         nghttp2_submit_ping(s.session, NGHTTP2_FLAG_NONE, kDrainPing.data()) == 0;
  if (!submitted) s.broken = true;
}

void H2Session::State::submit_goaway() {
  if (std::exchange(goaway_sent, true)) return;
  const std::int32_t last = nghttp2_session_get_last_proc_stream_id(session);
  if (nghttp2_submit_goaway(session, NGHTTP2_FLAG_NONE, last, NGHTTP2_NO_ERROR, nullptr, 0) != 0)
    broken = true;
}

void H2Session::terminate(H2Code code) {
  State& s = *state_;
  if (s.failure || s.broken) return;
  s.failure = code;
  if (nghttp2_session_terminate_session(s.session, static_cast<std::uint32_t>(code)) != 0)
    s.broken = true;
}

}  // namespace weir::http
