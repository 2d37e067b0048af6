#include "tools/weir/top.h"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <clocale>
#include <condition_variable>
#include <cstdlib>
#include <ctime>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include "l4/base/fd.h"
#include "l4/base/signals.h"
#include "l4/control/units.h"
#include "tools/weir/answers.h"
#include "tools/weir/top_terminal.h"
#include "tools/weir/top_view.h"

namespace weir::cli {
namespace {

using std::chrono::milliseconds;

/// The second reading makes rates of the first, so that nobody should wait long for it.
constexpr milliseconds kFirstInterval{300};
constexpr int kTickMs = 1000;
constexpr std::size_t kWidthDefault = 80;
constexpr std::size_t kWidthMax = 1000;

const control::AdminClient& daemon_of(const Daemons& daemons, TopOptions::Of of) {
  switch (of) {
    case TopOptions::Of::kL4:
      return daemons.l4;
    case TopOptions::Of::kL7:
      return daemons.l7;
  }
  return daemons.l4;
}

std::string path_for(const TopSubject& subject, const std::string& open) {
  if (open.empty()) return std::string{subject.list_path};
  return std::string{subject.opened_path} + control::percent_encoded(open);
}

/// What a request brought: a reading, or why there is none.
struct Fetched {
  std::string open;
  TopReading reading;
  std::string trouble;
};

/// Asks the daemon again and again, on a thread of its own: a daemon that is busy for a minute must
/// not keep the keys waiting. What thread and owner share outlives both, since a request in
/// progress cannot be given up; the thread is left to it.
class Fetcher {
 public:
  Fetcher(const control::AdminClient& client, const TopOptions& options, UniqueFd ready)
      : shared_{std::make_shared<Shared>(client, options, std::move(ready))} {
    std::thread{[shared = shared_] { run(*shared); }}.detach();
  }
  Fetcher(const Fetcher&) = delete;
  Fetcher& operator=(const Fetcher&) = delete;
  ~Fetcher() {
    const std::lock_guard lock{shared_->mutex};
    shared_->is_over = true;
    shared_->changed.notify_all();
  }

  /// Readable when there is something to take.
  [[nodiscard]] int fd() const { return shared_->ready.get(); }

  std::optional<Fetched> take() {
    std::uint64_t count = 0;
    [[maybe_unused]] const auto read = ::read(fd(), &count, sizeof(count));
    const std::lock_guard lock{shared_->mutex};
    return std::exchange(shared_->fetched, std::nullopt);
  }

  void ask_for(const std::string& open) {
    const std::lock_guard lock{shared_->mutex};
    if (shared_->open == open) return;
    shared_->open = open;
    shared_->changed.notify_all();
  }

 private:
  struct Shared {
    Shared(const control::AdminClient& the_client, const TopOptions& options, UniqueFd the_ready)
        : client{the_client},
          subject{subject_of(options.of)},
          interval{options.interval},
          ready{std::move(the_ready)},
          open{options.open} {}
    const control::AdminClient client;
    const TopSubject& subject;
    const milliseconds interval;
    const UniqueFd ready;
    std::mutex mutex;
    std::condition_variable changed;
    std::string open;
    std::optional<Fetched> fetched;
    bool is_over = false;
  };

  static void run(Shared& shared) {
    std::unique_lock lock{shared.mutex};
    std::string open = shared.open;
    Json before;
    while (!shared.is_over) {
      lock.unlock();
      Answer answer = ask(shared.client, "GET", path_for(shared.subject, open));
      Fetched fetched{open, {}, {}};
      const bool is_first = before.is_null();
      if (auto* json = std::get_if<Json>(&answer)) {
        fetched.reading = shared.subject.reading(before, *json, open);
        before = std::move(*json);
      } else {
        fetched.trouble = std::get<Failure>(answer).message;
      }
      lock.lock();
      shared.fetched = std::move(fetched);
      const std::uint64_t one = 1;
      [[maybe_unused]] const auto written = ::write(shared.ready.get(), &one, sizeof(one));
      const milliseconds pause =
          is_first ? std::min(kFirstInterval, shared.interval) : shared.interval;
      shared.changed.wait_for(lock, pause, [&] { return shared.is_over || shared.open != open; });
      if (shared.open != open) before = nullptr;
      open = shared.open;
    }
  }

  std::shared_ptr<Shared> shared_;
};

std::string clock_text() { return fmt::format("{:%H:%M:%S}", fmt::localtime(std::time(nullptr))); }

void take(Fetcher& fetcher, TopView& view) {
  std::optional<Fetched> fetched = fetcher.take();
  if (!fetched) return;
  if (fetched->trouble.empty()) {
    view.take(std::move(fetched->reading), fetched->open);
  } else {
    view.set_trouble("reconnecting: " + fetched->trouble);
  }
}

/// Until a key, a signal or the end of the terminal.
Result<void> show(Terminal& terminal, Fetcher& fetcher, TopView& view, const UniqueFd& signals) {
  while (!view.is_over()) {
    const auto [height, width] = terminal.size();
    terminal.draw(view.lines(height, width, clock_text()));
    std::array<pollfd, 3> watched{pollfd{STDIN_FILENO, POLLIN, 0}, pollfd{signals.get(), POLLIN, 0},
                                  pollfd{fetcher.fd(), POLLIN, 0}};
    if (::poll(watched.data(), watched.size(), kTickMs) < 0 && errno != EINTR)
      return Error::from_errno("waiting for keys");
    if (watched[1].revents != 0) return {};
    if (watched[2].revents != 0) take(fetcher, view);
    while (const auto press = terminal.key())
      view.press(press->key, press->character, TopView::rows_on(height));
    if ((watched[0].revents & (POLLHUP | POLLERR | POLLNVAL)) != 0) return {};
    fetcher.ask_for(view.open());
  }
  return {};
}

TopView view_for(const TopOptions& options) {
  TopView view{subject_of(options.of), options.open};
  view.sort_by(options.sort);
  view.filter_by(options.filter);
  return view;
}

std::size_t output_width() {
  winsize size{};
  if (::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
  const char* columns = std::getenv("COLUMNS");
  const auto wanted = columns == nullptr ? std::nullopt : control::decimal(columns);
  return wanted && *wanted > 0 && *wanted <= kWidthMax ? static_cast<std::size_t>(*wanted)
                                                       : kWidthDefault;
}

Outcome once(const control::AdminClient& daemon, const TopOptions& options) {
  const TopSubject& subject = subject_of(options.of);
  const std::string path = path_for(subject, options.open);
  Answer first = ask(daemon, "GET", path);
  if (auto* failure = std::get_if<Failure>(&first)) return std::move(*failure);
  std::this_thread::sleep_for(options.interval);
  Answer second = ask(daemon, "GET", path);
  if (auto* failure = std::get_if<Failure>(&second)) return std::move(*failure);
  TopView view = view_for(options);
  view.take(subject.reading(std::get<Json>(first), std::get<Json>(second), options.open),
            options.open);
  std::string text = view.text(output_width());
  text.pop_back();  // the report ends the line
  return note(std::move(text));
}

}  // namespace

const TopSubject& subject_of(TopOptions::Of of) {
  switch (of) {
    case TopOptions::Of::kL4:
      return top_of_l4();
    case TopOptions::Of::kL7:
      return top_of_l7();
  }
  return top_of_l4();
}

Outcome top(const Daemons& daemons, const TopOptions& options) {
  std::setlocale(LC_ALL, "");
  const control::AdminClient& daemon = daemon_of(daemons, options.of);
  if (options.is_once) return once(daemon, options);
  // Who asks in vain at the start should read why, and keep the line; later it is waited for.
  if (Answer first = ask(daemon, "GET", path_for(subject_of(options.of), options.open));
      std::holds_alternative<Failure>(first))
    return std::get<Failure>(std::move(first));
  const Result<UniqueFd> signals = take_signals({SIGINT, SIGTERM, SIGHUP});
  if (!signals) return failure_of(signals.error());
  UniqueFd ready{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
  if (!ready) return failure_of(Error::from_errno("opening an event descriptor"));
  Fetcher fetcher{daemon, options, std::move(ready)};
  TopView view = view_for(options);
  Result<void> shown;
  {
    Result<Terminal> terminal = Terminal::open();
    if (!terminal) return failure_of(terminal.error());
    shown = show(*terminal, fetcher, view, *signals);
  }
  if (!shown) return failure_of(shown.error());
  return Report{};
}

}  // namespace weir::cli
