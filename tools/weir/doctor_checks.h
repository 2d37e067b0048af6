#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tools/weir/doctor_facts.h"

/// What `weir doctor` makes of the facts. Pure: equal facts, equal findings.
namespace weir::cli {

enum class Verdict : std::uint8_t { kOk, kWarn, kFail };
std::string_view text_of(Verdict verdict);

/// One line of the report.
struct Finding {
  Verdict verdict = Verdict::kOk;
  std::string check;   ///< stable, for programs: "kernel", "eth0 mtu"
  std::string found;   ///< the value
  std::string why;     ///< what it is needed for, or what it does where it is wrong
  std::string remedy;  ///< a command, or what else to do; empty where all is well
};

/// All findings, in the order of the report: machine, devices, services, daemons.
std::vector<Finding> examine(const DoctorFacts& facts);

// The parts of it.
std::vector<Finding> examine_machine(const DoctorFacts& facts);
std::vector<Finding> examine_device(const DeviceFacts& device, const DoctorFacts& facts);
std::vector<Finding> examine_services(const DoctorFacts& facts);
std::vector<Finding> examine_daemons(const DoctorFacts& facts);

/// The worst of them as an exit status: 0 ok, 1 warnings, 2 failures.
int exit_status_of(const std::vector<Finding>& findings);

}  // namespace weir::cli
