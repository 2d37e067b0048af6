#include <fmt/chrono.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <ctime>
#include <memory>

#include "l4/base/clock.h"
#include "l4/control/json_text.h"
#include "tools/weir/answers.h"
#include "tools/weir/capture_file.h"
#include "tools/weir/packet_text.h"

namespace weir::cli {
namespace {

constexpr int kConflict = 409;
constexpr int kAttempts = 4;
constexpr int kAttemptIntervalMs = 150;

std::atomic<bool> is_interrupted{false};

void interrupt(int /*signal*/) { is_interrupted.store(true); }

/// SIGINT and SIGTERM end the watching, not the program: what was lost remains to be said.
void take_interrupts() {
  struct sigaction action {};
  action.sa_handler = interrupt;
  action.sa_flags = static_cast<int>(SA_RESTART | SA_RESETHAND);  // a second one ends it at once
  ::sigaction(SIGINT, &action, nullptr);
  ::sigaction(SIGTERM, &action, nullptr);
}

struct CloseFile {
  void operator()(std::FILE* file) const {
    if (file != stdout) std::fclose(file);
  }
};
using File = std::unique_ptr<std::FILE, CloseFile>;

Result<File> open_output(const std::string& capture) {
  if (capture.empty() || capture == "-") return File{stdout};
  File file{std::fopen(capture.c_str(), "wb")};
  if (!file) return Error::from_errno(fmt::format("writing {}", capture));
  return file;
}

std::int64_t number_at(const Json& object, const char* key) {
  const Json value = at(object, key);
  return value.is_number_integer() ? value.get<std::int64_t>() : 0;
}

std::string local_time(std::int64_t time_ns) {
  const auto seconds = static_cast<std::time_t>(time_ns / 1'000'000'000);
  return fmt::format("{:%H:%M:%S}.{:06}", fmt::localtime(seconds), time_ns % 1'000'000'000 / 1000);
}

/// A thing by its name, or its address where it has none.
std::string named(const Json& event, const std::string& member) {
  const std::string name = text_at(event, member + "_name");
  const std::string address = text_at(event, member);
  if (!name.empty()) return name;
  return address.empty() ? "-" : address;
}

/// Takes the daemon's lines and writes what the person asked for. The file is opened with the
/// daemon's first one: a capture that is there already is not given up for one that never begins.
class Watch {
 public:
  Watch(const MonitorOptions& options, OutputFormat format) : options_{options}, format_{format} {
    if (options.seconds) end_ = monotonic_now() + std::chrono::seconds{*options.seconds};
  }

  /// False: it is enough.
  bool take(std::string_view piece) {
    rest_ += piece;
    std::size_t start = 0;
    for (std::size_t end = rest_.find('\n'); end != std::string::npos && !is_enough();
         end = rest_.find('\n', start)) {
      take_line(std::string_view{rest_}.substr(start, end - start));
      start = end + 1;
    }
    rest_.erase(0, start);
    flush();
    return !is_enough();
  }

  /// What is to be said at the end; writes the end of a capture.
  Outcome finish() {
    if (failure_) return failure_of(*failure_);
    if (!has_begun_) return Report{};
    if (is_capture()) {
      timespec now{};
      ::clock_gettime(CLOCK_REALTIME, &now);
      write(writer_.tail(lost_, static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 +
                                    static_cast<std::uint64_t>(now.tv_nsec)));
    }
    flush();
    std::string summary = fmt::format("{} packet{} shown", events_, events_ == 1 ? "" : "s");
    if (lost_ > 0)
      summary += fmt::format(
          ", {} lost because they came too fast; watch fewer: --vip, --verdict, "
          "--every",
          lost_);
    std::fprintf(stderr, "weir: %s\n", summary.c_str());
    if (is_closed_ && !is_interrupted && options_.capture != "-" && is_capture())
      return Failure{{}, fmt::format("{} could not be written", options_.capture)};
    if (!last_words_.empty()) return Failure{{}, last_words_};
    return Report{};
  }

 private:
  [[nodiscard]] bool is_capture() const { return !options_.capture.empty(); }
  [[nodiscard]] bool is_enough() const {
    return is_interrupted || is_closed_ || failure_ || !last_words_.empty() ||
           (options_.count && events_ >= *options_.count) || (end_ && monotonic_now() >= *end_);
  }

  void flush() {
    if (file_ && std::fflush(file_.get()) != 0) is_closed_ = true;
  }

  void write(std::string_view text) {
    if (!file_) return;  // the daemon says that it has begun before all else
    if (std::fwrite(text.data(), 1, text.size(), file_.get()) != text.size()) is_closed_ = true;
  }

  void take_line(std::string_view line) {
    const Json json = Json::parse(line, nullptr, false);
    if (!json.is_object()) return;
    if (json.contains("verdict")) {
      take_event(json);
    } else if (json.contains("end")) {
      last_words_ = text_at(json, "end");
    } else {
      if (!has_begun_) begin();
      lost_ = static_cast<std::uint64_t>(number_at(json, "lost"));
    }
  }

  void begin() {
    Result<File> file = open_output(options_.capture);
    if (!file) {
      failure_ = std::move(file).error();
      return;
    }
    file_ = *std::move(file);
    has_begun_ = true;
    std::fputs("weir: watching; end with Ctrl-C\n", stderr);
    if (is_capture()) write(writer_.head());
  }

  void take_event(const Json& event) {
    ++events_;
    const auto frame = bytes_of_hex(text_at(event, "frame")).value_or(std::vector<std::byte>{});
    if (is_capture()) {
      write(writer_.packet(
          {.time_ns = static_cast<std::uint64_t>(number_at(event, "time_ns")),
           .device = text_at(event, "device"),
           .kept = frame,
           .frame_bytes = static_cast<std::uint32_t>(number_at(event, "frame_bytes")),
           .comment = fmt::format("verdict {} vip {} backend {}", text_at(event, "verdict"),
                                  named(event, "vip"), named(event, "backend"))}));
      return;
    }
    const std::string packet = packet_text(frame);
    if (format_ == OutputFormat::kJson) {
      Json line = event;
      line["packet"] = packet;
      write(control::json_text(line) + "\n");
      return;
    }
    write(fmt::format("{} {} {:<16} {} {}  {}\n", local_time(number_at(event, "time_ns")),
                      text_at(event, "device"), text_at(event, "verdict"), named(event, "vip"),
                      named(event, "backend"), packet));
  }

  const MonitorOptions& options_;
  OutputFormat format_;
  File file_;
  CaptureWriter writer_{"weir " WEIR_VERSION};
  std::string rest_;  // the beginning of a line whose end has not come yet
  std::optional<Instant> end_;
  std::uint64_t events_ = 0;
  std::uint64_t lost_ = 0;
  std::string last_words_;
  std::optional<Error> failure_;
  bool has_begun_ = false;
  bool is_closed_ = false;
};

std::string path_of(const MonitorOptions& options) {
  std::string path =
      fmt::format("/v1/monitor?every={}&snap_bytes={}", options.every, options.snap_bytes);
  if (options.vip) path += "&vip=" + control::percent_encoded(control::vip_text(*options.vip));
  if (!options.verdicts.empty())
    path += "&verdicts=" +
            control::percent_encoded(fmt::format("{}", fmt::join(options.verdicts, ",")));
  if (!options.source.empty()) path += "&source=" + control::percent_encoded(options.source);
  return path;
}

Result<control::AdminReply> follow(const control::AdminClient& daemon,
                                   const MonitorOptions& options, Watch& watch) {
  return daemon.stream(path_of(options), [&](std::string_view piece) { return watch.take(piece); });
}

}  // namespace

Outcome monitor(const Daemons& daemons, const MonitorOptions& options, OutputFormat format) {
  if (options.capture == "-" && ::isatty(STDOUT_FILENO) == 1)
    return failure_of({ErrorCode::kInvalid, "standard output is a terminal, which shows no pcapng",
                       "pipe it: weir monitor --pcap - | tshark -r -"});
  take_interrupts();
  Watch watch{options, format};
  Result<control::AdminReply> reply = follow(daemons.l4, options, watch);
  // That the one before has ended is noticed by the daemon a moment later.
  for (int attempt = 1; attempt < kAttempts && reply && reply->status == kConflict; ++attempt) {
    ::poll(nullptr, 0, kAttemptIntervalMs);
    reply = follow(daemons.l4, options, watch);
  }
  if (reply && reply->status >= 400) return failure_of(control::refusal_of(*reply).error);
  Outcome outcome = watch.finish();
  if (!reply) return failure_of(reply.error());
  return outcome;
}

}  // namespace weir::cli
