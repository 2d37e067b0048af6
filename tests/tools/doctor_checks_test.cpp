#include "tools/weir/doctor_checks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>

namespace weir::cli {
namespace {

using ::testing::HasSubstr;

DeviceFacts good_device() {
  DeviceFacts device;
  device.name = "eth0";
  device.ifindex = 2;
  device.mtu = 1500;
  device.is_up = true;
  device.has_carrier = true;
  device.driver = "ice";
  device.queues = 8;
  device.queues_max = 64;
  device.hashes_udp_ports = true;
  device.offloads = {{"rx-lro", false}, {"rx-gro-hw", false}, {"rx-vlan-hw-parse", true}};
  device.rp_filter = 0;
  return device;
}

WantedVip vip_of(std::string mode, std::string_view backend, std::string next_hop = "resolved") {
  return {"203.0.113.80:80/tcp",
          std::move(mode),
          {{*wire::IpAddress::parse(backend), std::move(next_hop), "no answer to ARP"}}};
}

/// A machine with nothing wrong.
DoctorFacts good_machine() {
  DoctorFacts facts;
  facts.rights.is_root = true;
  facts.kernel = {.major = 6,
                  .minor = 1,
                  .release = "6.1.0-18-amd64",
                  .loads_xdp = true,
                  .maps_missing = {},
                  .maps_seen = true,
                  .has_btf = true,
                  .has_tcx = false,
                  .extends_programs = true,
                  .has_af_xdp = true,
                  .jit = 1};
  facts.memory = {2 << 20, 256, 256, true, std::nullopt};
  facts.clock = {true, "tsc"};
  facts.has_bpffs = true;
  facts.directories = {{"/var/lib/weir", true, true, false, std::uint64_t{1} << 30}};
  facts.forwards_ipv4 = false;
  facts.cpus = 8;
  facts.devices = {good_device()};
  facts.l4.answers = true;
  return facts;
}

struct Case {
  std::string_view name;
  std::function<void(DoctorFacts&)> change;  ///< of the good machine
  std::string_view check;                    ///< that it moves
  Verdict verdict;
  std::string_view found;   ///< is part of the value
  std::string_view remedy;  ///< is part of it; empty: there is none
};

DeviceFacts& device(DoctorFacts& facts) { return facts.devices.front(); }

const Case kCases[] = {
    {"AMissingRightIsNamed", [](auto& f) { f.rights.missing = {"CAP_BPF"}; }, "rights",
     Verdict::kWarn, "CAP_BPF", "sudo"},
    {"AnOldKernelFails",
     [](auto& f) { f.kernel.major = 5, f.kernel.minor = 4, f.kernel.release = "5.4"; }, "kernel",
     Verdict::kFail, "5.4", "linux-image"},
    {"AKernelThatNobodyTestsWarns",
     [](auto& f) { f.kernel.major = 5, f.kernel.minor = 19, f.kernel.release = "5.19"; }, "kernel",
     Verdict::kWarn, "5.19", "linux-image"},
    {"AKernelWithoutXdpFails", [](auto& f) { f.kernel.loads_xdp = false; }, "xdp", Verdict::kFail,
     "no", "CONFIG_BPF_SYSCALL"},
    {"XdpThatRightsHideIsSaid", [](auto& f) { f.kernel.loads_xdp = std::nullopt; }, "xdp",
     Verdict::kWarn, "not seen", "sudo"},
    {"AMissingTypeOfMapIsNamed", [](auto& f) { f.kernel.maps_missing = {"ringbuf"}; }, "bpf maps",
     Verdict::kFail, "ringbuf", "CONFIG"},
    {"MapsThatRightsHideAreSaid", [](auto& f) { f.kernel.maps_seen = false; }, "bpf maps",
     Verdict::kWarn, "not seen", "sudo"},
    {"MissingBtfWarns", [](auto& f) { f.kernel.has_btf = false; }, "btf", Verdict::kWarn, "no",
     "CONFIG_DEBUG_INFO_BTF"},
    {"MissingTcxIsFineBeforeLinux6_6", [](auto& f) { f.kernel.has_tcx = false; }, "tcx",
     Verdict::kOk, "no", ""},
    {"MissingProgramExtensionIsFineWithoutChains",
     [](auto& f) { f.kernel.extends_programs = false; }, "program extension", Verdict::kOk, "no",
     ""},
    {"ProgramExtensionFrom6_12OnSaysWhatItIsNotGoodFor", [](auto& f) { f.kernel.minor = 12; },
     "program extension", Verdict::kOk, "libxdp 1.3", ""},
    {"AnInterpreterWarns", [](auto& f) { f.kernel.jit = 0; }, "bpf jit", Verdict::kWarn, "off",
     "sysctl -w net.core.bpf_jit_enable=1"},
    {"NoBpfFileSystemFails", [](auto& f) { f.has_bpffs = false; }, "bpffs", Verdict::kFail, "none",
     "mount -t bpf bpf /sys/fs/bpf"},
    {"LockedMemoryCountsBeforeLinux5_11",
     [](auto& f) { f.kernel.major = 5, f.kernel.minor = 10, f.memory.locked_bytes_max = 65536; },
     "memlock", Verdict::kWarn, "64 KiB", "ulimit -l unlimited"},
    {"LockedMemoryCountsNoMore", [](auto& f) { f.memory.locked_bytes_max = 65536; }, "memlock",
     Verdict::kOk, "does not count", ""},
    {"HugePagesAreWantedForGateways",
     [](auto& f) { f.wants_l7 = true, f.memory.huge_pages_free = 100; }, "huge pages",
     Verdict::kFail, "100 of 256", "vm.nr_hugepages=284"},
    {"HugePagesAreNotWantedWithoutGateways", [](auto& f) { f.memory.huge_pages_free = 0; },
     "huge pages", Verdict::kOk, "0 of 256", ""},
    {"HugePagesOfARunningDaemonAreTaken",
     [](auto& f) { f.wants_l7 = f.l7.answers = true, f.memory.huge_pages_free = 0; }, "huge pages",
     Verdict::kOk, "has its own", ""},
    {"AfXdpIsWantedForGateways", [](auto& f) { f.wants_l7 = true, f.kernel.has_af_xdp = false; },
     "af_xdp", Verdict::kFail, "no", "CONFIG_XDP_SOCKETS"},
    {"AReadOnlyStateDirectoryFails", [](auto& f) { f.directories[0].is_read_only = true; },
     "/var/lib/weir", Verdict::kFail, "read-only", "remount,rw"},
    {"AFullDiskWarns", [](auto& f) { f.directories[0].free_bytes = 5 << 20; }, "/var/lib/weir",
     Verdict::kWarn, "5 MiB", "make room"},
    {"ADirectoryThatRootCannotWriteToFails", [](auto& f) { f.directories[0].is_writable = false; },
     "/var/lib/weir", Verdict::kFail, "not writable", "chmod"},
    {"ADirectoryThatIsNotThereYetIsFine", [](auto& f) { f.directories[0].exists = false; },
     "/var/lib/weir", Verdict::kOk, "not there yet", ""},
    {"AClockThatRunsFreeWarns", [](auto& f) { f.clock.is_synchronised = false; }, "clock",
     Verdict::kWarn, "not synchronised", "chrony"},
    {"ASlowClockWarns", [](auto& f) { f.clock.source = "hpet"; }, "clock source", Verdict::kWarn,
     "hpet", "current_clocksource"},
    {"ADeviceThatIsDownFails", [](auto& f) { device(f).is_up = false; }, "eth0 link",
     Verdict::kFail, "down", "ip link set eth0 up"},
    {"ADeviceWithoutCarrierFails", [](auto& f) { device(f).has_carrier = false; }, "eth0 link",
     Verdict::kFail, "without carrier", "connect"},
    {"AnUnknownDriverWarns", [](auto& f) { device(f).driver = "e1000e"; }, "eth0 driver",
     Verdict::kWarn, "e1000e", "card"},
    {"ADriverThatIsSilentWarns", [](auto& f) { device(f).driver = ""; }, "eth0 driver",
     Verdict::kWarn, "does not tell", "--mode auto"},
    {"AnothersProgramFails",
     [](auto& f) {
       device(f).programs = {{41, "native", "foo"}};
     },
     "eth0 xdp", Verdict::kFail, "foo (id 41, native)", "ip link set dev eth0 xdpdrv off"},
    {"AnothersGenericProgramIsTakenOffAsSuch",
     [](auto& f) {
       device(f).programs = {{41, "generic", ""}};
     },
     "eth0 xdp", Verdict::kFail, "id 41", "xdpgeneric off"},
    {"OurProgramIsFine",
     [](auto& f) {
       device(f).programs = {{7, "native", "weir_lb"}}, f.own_programs = {7};
     },
     "eth0 xdp", Verdict::kOk, "ours", ""},
    {"OurProgramInGenericModeWarnsWhereNativeCanBeHad",
     [](auto& f) {
       device(f).programs = {{7, "generic", "weir_lb"}}, f.own_programs = {7};
     },
     "eth0 xdp", Verdict::kWarn, "generic", "--mode native"},
    {"ABalancerWithoutDaemonWarns",
     [](auto& f) {
       device(f).programs = {{7, "native", "weir_lb"}};
     },
     "eth0 xdp", Verdict::kWarn, "no daemon", "systemctl start weir-l4"},
    {"FewerQueuesThanCpusWarn", [](auto& f) { device(f).queues = 2; }, "eth0 queues",
     Verdict::kWarn, "2 for 8 CPUs", "ethtool -L eth0 combined 8"},
    {"AllQueuesThatACardHasAreEnough", [](auto& f) { device(f).queues = device(f).queues_max = 4; },
     "eth0 queues", Verdict::kOk, "4 for 8 CPUs", ""},
    {"QueuesOfAVethAreSetByDirection",
     [](auto& f) { device(f).driver = "veth", device(f).queues = 1; }, "eth0 queues",
     Verdict::kWarn, "1 for 8", "ethtool -L eth0 rx 8 tx 8"},
    {"RssWithoutPortsWarns", [](auto& f) { device(f).hashes_udp_ports = false; }, "eth0 rss of udp",
     Verdict::kWarn, "addresses alone", "rx-flow-hash udp4 sdfn"},
    {"AnMtuWithoutRoomForIpipWarns", [](auto& f) { f.vips = {vip_of("ipip", "10.0.0.1")}; },
     "eth0 mtu", Verdict::kWarn, "1500", "mtu 1520"},
    {"AnMtuWithoutRoomForGueInIpv6Warns", [](auto& f) { f.vips = {vip_of("gue", "2001:db8::1")}; },
     "eth0 mtu", Verdict::kWarn, "1500", "mtu 1548"},
    {"AnMtuWithRoomIsFine",
     [](auto& f) { f.vips = {vip_of("ipip", "10.0.0.1")}, device(f).mtu = 1520; }, "eth0 mtu",
     Verdict::kOk, "1520", ""},
    {"L2NeedsNoRoom", [](auto& f) { f.vips = {vip_of("l2", "10.0.0.1")}; }, "eth0 mtu",
     Verdict::kOk, "1500", ""},
    {"AJumboMtuWarns", [](auto& f) { device(f).mtu = 9000; }, "eth0 mtu", Verdict::kWarn, "9000",
     "mtu 3498"},
    {"LroWarns", [](auto& f) { device(f).offloads["rx-lro"] = true; }, "eth0 offloads",
     Verdict::kWarn, "rx-lro", "ethtool -K eth0 lro off"},
    {"GroInHardwareWarns", [](auto& f) { device(f).offloads["rx-gro-hw"] = true; }, "eth0 offloads",
     Verdict::kWarn, "rx-gro-hw", "rx-gro-hw off"},
    {"TagsThatTheCardTakesOffWarnBelowVlans", [](auto& f) { device(f).carries_vlans = true; },
     "eth0 offloads", Verdict::kWarn, "rx-vlan-hw-parse", "rxvlan off"},
    {"AStrictReversePathFilterWarns", [](auto& f) { device(f).rp_filter = 1; }, "eth0 rp_filter",
     Verdict::kWarn, "strict", "sysctl -w net.ipv4.conf.eth0.rp_filter=2"},
    {"ALooseReversePathFilterIsFine", [](auto& f) { device(f).rp_filter = 2; }, "eth0 rp_filter",
     Verdict::kOk, "loose", ""},
    {"NatWithoutForwardingWarns", [](auto& f) { f.vips = {vip_of("nat", "10.0.0.1")}; },
     "ip_forward", Verdict::kWarn, "off", "net.ipv4.ip_forward=1"},
    {"ADeviceThatIsNotThereFails", [](auto& f) { f.absent_devices = {"eth7"}; }, "eth7 link",
     Verdict::kFail, "no such device", "ip -br link"},
    {"ABackendWithoutNextHopFails",
     [](auto& f) { f.vips = {vip_of("l2", "10.0.0.9", "unreachable")}; }, "neighbours",
     Verdict::kFail, "10.0.0.9 (no answer to ARP)", "ping -c1 10.0.0.9"},
    {"ADaemonThatDoesNotRunFails",
     [](auto& f) {
       f.l4 = {false, "is not running", {}};
     },
     "weir-l4", Verdict::kFail, "is not running", "systemctl start weir-l4"},
    {"TheOtherDaemonMayBeAbsentWithoutGateways",
     [](auto& f) {
       f.l7 = {false, "no", {}};
     },
     "weir-l7", Verdict::kOk, "does not run", ""},
    {"TheOtherDaemonIsWantedForGateways",
     [](auto& f) {
       f.wants_l7 = true, f.l7 = {false, "is not running", {}};
     },
     "weir-l7", Verdict::kFail, "is not running", "systemctl start weir-l7"},
    {"AWarningOfADaemonIsPassedOn", [](auto& f) { f.l4.warnings = {"the seed is public"}; },
     "weir-l4 warning", Verdict::kWarn, "the seed is public", "weir status"},
};

class Doctor : public ::testing::TestWithParam<Case> {};

TEST_P(Doctor, FindsIt) {
  DoctorFacts facts = good_machine();
  GetParam().change(facts);
  const std::vector<Finding> findings = examine(facts);
  const auto found = std::ranges::find(findings, GetParam().check, &Finding::check);
  ASSERT_NE(found, findings.end());
  EXPECT_EQ(found->verdict, GetParam().verdict);
  EXPECT_THAT(found->found, HasSubstr(GetParam().found));
  EXPECT_FALSE(found->why.empty());
  if (GetParam().remedy.empty()) {
    EXPECT_EQ(found->remedy, "");
  } else {
    EXPECT_THAT(found->remedy, HasSubstr(GetParam().remedy));
  }
}

INSTANTIATE_TEST_SUITE_P(, Doctor, ::testing::ValuesIn(kCases),
                         [](const auto& check_info) { return std::string{check_info.param.name}; });

TEST(DoctorReport, HasNothingToSayAboutAGoodMachine) {
  for (const Finding& finding : examine(good_machine())) {
    EXPECT_EQ(finding.verdict, Verdict::kOk) << finding.check << ": " << finding.found;
    EXPECT_EQ(finding.remedy, "") << finding.check;
  }
  EXPECT_EQ(exit_status_of(examine(good_machine())), 0);
}

TEST(DoctorReport, GivesARemedyForWhateverIsNotFine) {
  for (const Case& one : kCases) {
    DoctorFacts facts = good_machine();
    one.change(facts);
    for (const Finding& finding : examine(facts))
      EXPECT_EQ(finding.remedy.empty(), finding.verdict == Verdict::kOk)
          << one.name << ": " << finding.check;
  }
}

TEST(DoctorReport, HasTheExitStatusOfItsWorstLine) {
  DoctorFacts facts = good_machine();
  facts.devices.front().rp_filter = 1;
  EXPECT_EQ(exit_status_of(examine(facts)), 1);
  facts.has_bpffs = false;
  EXPECT_EQ(exit_status_of(examine(facts)), 2);
}

TEST(DoctorReport, NamesFiveOfManyLostBackends) {
  DoctorFacts facts = good_machine();
  for (int i = 1; i <= 7; ++i)
    facts.vips.push_back(vip_of("l2", "10.0.0." + std::to_string(i), "unreachable"));
  const std::vector<Finding> findings = examine_services(facts);
  ASSERT_EQ(findings.size(), 1U);
  EXPECT_THAT(findings.front().found, HasSubstr("7 of 7"));
  EXPECT_THAT(findings.front().found, HasSubstr("10.0.0.5"));
  EXPECT_THAT(findings.front().found, ::testing::Not(HasSubstr("10.0.0.6")));
}

}  // namespace
}  // namespace weir::cli
