#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "bpf/abi.h"
#include "l4/base/result.h"
#include "l4/wire/address.h"

/// The decapsulation programs of a backend: loads, attaches, replaces, looks, takes down. There is
/// no daemon: everything is pinned, and the kernel keeps it alive.
///
///   <pin directory>/<ifindex>/weir_decap_*  maps: the lists, the counters, the state (settings)
///   <pin directory>/<ifindex>/program
///   <pin directory>/<ifindex>/link          none where tc has no links (before Linux 6.6)
///
/// Indexes of devices mean something within one network namespace only, so a pin directory belongs
/// to one.
namespace weir::l4 {

inline constexpr const char* kDecapPinDirectoryDefault = "/sys/fs/bpf/weir-decap";

/// Auto is native, or generic where the driver refuses; tc is chosen by name alone.
enum class DecapMode : std::uint8_t { kAuto, kNative, kGeneric, kTc };
std::string_view text_of(DecapMode mode);

/// Where in the kernel the program hangs.
enum class DecapHook : std::uint8_t { kXdp, kTcx, kClsact };
std::string_view text_of(DecapHook hook);

/// What is foreign: of an unlisted source, for an unlisted VIP, or a fragment.
enum class Foreign : std::uint8_t { kPass, kDrop };
std::string_view text_of(Foreign foreign);

struct DecapSettings {
  std::vector<wire::IpAddress> sources;
  bool any_source = false;  ///< without a list
  std::vector<wire::Prefix> vips;
  bool any_vip = false;                          ///< without a list
  std::uint16_t gue_port = WEIR_DECAP_GUE_PORT;  ///< 0: no GUE
  Foreign foreign = Foreign::kPass;
};

struct DecapStatus {
  std::string device;  ///< empty: it is gone, and its pins are left over
  std::uint32_t ifindex = 0;
  DecapMode mode = DecapMode::kNative;  ///< never kAuto
  DecapHook hook = DecapHook::kXdp;
  std::uint32_t program_id = 0;
  DecapSettings settings;
};

struct DecapLoaded {
  DecapStatus status;
  std::vector<std::string> warnings;  ///< what will keep it from working, with the remedy
};

struct DecapCounter {
  std::string_view verdict;
  std::string_view action;
  std::string_view sentence;
  weir_counter counter;
};

/// What must hold of settings alone, apart from any device.
Result<void> check_decap_settings(const DecapSettings& settings);

/// Replaces what is on the device: new lists and a new program are made ready, then one link is
/// moved to them, so that no packet is missed and none sees half a list. Counters go on. Only a
/// change between native and generic takes a moment without a program.
Result<DecapLoaded> load_decap(const std::string& pin_directory, const std::string& device,
                               DecapMode mode, const DecapSettings& settings);
Result<void> unload_decap(const std::string& pin_directory, const std::string& device);

/// Every device's, or one's: that it is not loaded there is an error then.
Result<std::vector<DecapStatus>> decap_status(const std::string& pin_directory,
                                              const std::optional<std::string>& device);
/// One row per verdict, in the order of bpf/decap_verdicts.def.
Result<std::vector<DecapCounter>> decap_counters(const std::string& pin_directory,
                                                 std::uint32_t ifindex);

}  // namespace weir::l4
