#include "l4/control/process_facts.h"

#include <fmt/format.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <sstream>
#include <string_view>

#include "l4/control/units.h"

namespace weir::control {
namespace {

std::string text_of(const char* path) {
  std::ifstream file{path};
  return {std::istreambuf_iterator<char>{file}, {}};
}

/// The word at `index` of words that blanks separate, as a number; 0 where there is none.
std::uint64_t number_in(std::string_view text, std::size_t index) {
  std::istringstream words{std::string{text}};
  std::string word;
  for (std::size_t i = 0; i <= index; ++i)
    words >> word;
  return words ? decimal(word).value_or(0) : 0;
}

/// When a process began, in ticks since the machine did: field 22 of its stat (proc(5)). The
/// second field, the program's name, may hold blanks and parentheses, but nothing after it does.
std::uint64_t start_ticks() {
  const std::string stat = text_of("/proc/self/stat");
  const std::size_t end_of_name = stat.rfind(')');
  if (end_of_name == std::string::npos) return 0;
  constexpr std::size_t kStartAfterName = 19;
  return number_in(std::string_view{stat}.substr(end_of_name + 1), kStartAfterName);
}

double boot_unix_s() {
  const std::string stat = text_of("/proc/stat");
  const std::size_t at = stat.find("\nbtime ");
  return at == std::string::npos
             ? 0
             : static_cast<double>(number_in(std::string_view{stat}.substr(at + 1), 1));
}

double seconds_of(const timeval& time) {
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
}

}  // namespace

ProcessFacts read_process_facts() {
  ProcessFacts facts{.pid = ::getpid()};
  facts.resident_bytes =
      number_in(text_of("/proc/self/statm"), 1) * static_cast<std::uint64_t>(::getpagesize());
  rusage usage{};
  if (::getrusage(RUSAGE_SELF, &usage) == 0)
    facts.cpu_s = seconds_of(usage.ru_utime) + seconds_of(usage.ru_stime);
  const double ticks_per_s = static_cast<double>(::sysconf(_SC_CLK_TCK));
  facts.start_unix_s = boot_unix_s() + static_cast<double>(start_ticks()) / ticks_per_s;
  std::error_code error;
  for (std::filesystem::directory_iterator fd{"/proc/self/fd", error}, end; !error && fd != end;
       fd.increment(error))
    ++facts.descriptors;
  if (facts.descriptors > 0) --facts.descriptors;  // the one that this was read through
  utsname system{};
  if (::uname(&system) == 0) facts.kernel = fmt::format("{} {}", system.release, system.machine);
  return facts;
}

}  // namespace weir::control
