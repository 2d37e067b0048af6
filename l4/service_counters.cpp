#include "l4/service_counters.h"

#include <algorithm>
#include <utility>

namespace weir::l4 {

Result<ServiceCounters> ServiceCounters::read(const Plane& plane) {
  std::uint32_t vips = 0;
  std::uint32_t backends = 0;
  for (const auto& [key, installed] : plane.installed()) {
    vips = std::max(vips, installed.id.value() + 1);
    for (const InstalledBackend& entry : installed.backends)
      backends = std::max(backends, entry.id.value() + 1);
  }
  const KernelTables& tables = plane.datapath().tables();
  Result<std::vector<weir_service_counter>> of_vips = read_vip_counters(tables, vips);
  if (!of_vips) return std::move(of_vips).error();
  Result<std::vector<weir_service_counter>> of_backends = read_backend_counters(tables, backends);
  if (!of_backends) return std::move(of_backends).error();
  return ServiceCounters{*std::move(of_vips), *std::move(of_backends)};
}

}  // namespace weir::l4
