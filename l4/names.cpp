#include "l4/names.h"

namespace weir::l4 {

Names Names::of(const Plane& plane) {
  Names names;
  names.revision = plane.desired().revision;
  for (const auto& [key, installed] : plane.installed()) {
    names.vips[installed.id.value()] = {control::vip_text(key), installed.vip.name};
    for (const InstalledBackend& entry : installed.backends)
      names.backends[entry.id.value()] = {entry.backend.address.text(), entry.backend.name};
  }
  return names;
}

}  // namespace weir::l4
