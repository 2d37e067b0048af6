#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "l4/base/file.h"
#include "l4/base/result.h"
#include "l4/control/model.h"
#include "l4/control/overrides.h"

namespace weir::l4 {

/// Where the XDP program shall run.
struct LoadSettings {
  std::vector<std::string> devices;  ///< empty: nowhere
  control::XdpMode mode = control::XdpMode::kAuto;
  bool chain = false;  ///< through libxdp's dispatcher, beside other programs
  friend bool operator==(const LoadSettings&, const LoadSettings&) = default;
};

/// Everything that people have asked of this plane.
struct DesiredState {
  std::uint64_t revision = 0;  ///< counts changes; 0: nothing was ever asked
  std::string file;            ///< the file that was applied; empty: none
  control::Model model;        ///< what that file says
  std::vector<control::Vip> manual_vips;
  LoadSettings load;
  std::vector<control::BackendOverride> overrides = {};  ///< sorted; of backends that exist
  friend bool operator==(const DesiredState&, const DesiredState&) = default;
};

std::string to_json(const DesiredState& state);
Result<DesiredState> desired_state_from_json(std::string_view text);

/// The desired state on disk, one file, replaced whole: whoever reads it after a crash at any
/// moment finds the old state or the new one. Mode 0600, because it holds the hash seed.
class Store {
 public:
  static Result<Store> open(std::string directory);

  /// The state of revision 0 if nothing was ever written. A file that cannot be understood is an
  /// error: guessing would take VIPs away from running traffic.
  [[nodiscard]] Result<DesiredState> read() const;
  /// Takes its place with commit(), before which there is time to do what the state says. What is
  /// short on the disk is short here already.
  [[nodiscard]] Result<StagedFile> stage(const DesiredState& state) const;

  [[nodiscard]] const std::string& directory() const { return directory_; }

 private:
  explicit Store(std::string directory) : directory_{std::move(directory)} {}
  [[nodiscard]] std::string path() const { return directory_ + "/state.json"; }
  std::string directory_;
};

}  // namespace weir::l4
