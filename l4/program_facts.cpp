#include "l4/program_facts.h"

#include <fmt/format.h>

#include <algorithm>
#include <ctime>
#include <filesystem>
#include <span>
#include <system_error>

#include "l4/base/clock.h"
#include "l4/base/fd.h"
#include "l4/base/hex.h"
#include "l4/kernel_objects.h"

namespace weir::l4 {
namespace {

/// Since the kernel's start, suspended time included.
std::int64_t uptime_s() {
  timespec now{};
  ::clock_gettime(CLOCK_BOOTTIME, &now);  // cannot fail for this clock
  return now.tv_sec;
}

}  // namespace

Result<std::vector<ProgramFacts>> read_programs(const std::string& pin_directory) {
  std::vector<ProgramFacts> programs;
  std::error_code error;
  const std::string directory = pin_directory + "/programs";
  for (std::filesystem::directory_iterator pin{directory, error}, end; !error && pin != end;
       pin.increment(error)) {
    const UniqueFd fd{::bpf_obj_get(pin->path().c_str())};
    if (!fd) return Error::from_errno(fmt::format("opening {}", pin->path().string()));
    const Result<bpf_prog_info> info = program_info(fd.get());
    if (!info) return info.error();
    const std::int64_t age_s =
        uptime_s() - static_cast<std::int64_t>(info->load_time / 1'000'000'000);
    programs.push_back({.name = pin->path().filename().string(),
                        .id = info->id,
                        .tag = hex_of(std::as_bytes(std::span{info->tag})),
                        .loaded_unix_s = unix_now_s() - age_s});
  }
  if (error && error != std::errc::no_such_file_or_directory)  // before the first load
    return Error::from_errno(fmt::format("reading {}", directory), error.value());
  std::ranges::sort(programs, {}, &ProgramFacts::name);
  return programs;
}

}  // namespace weir::l4
