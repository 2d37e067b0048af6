#include "l7/proxy/endpoint_state.h"

namespace weir::proxy {
namespace {

template <typename State>
std::shared_ptr<State> shared(std::weak_ptr<State>& known) {
  if (auto state = known.lock()) return state;
  auto state = std::make_shared<State>();
  known = state;
  return state;
}

}  // namespace

std::shared_ptr<ServiceState> EndpointBook::service(const std::string& name) {
  return shared(services_[name]);
}

std::shared_ptr<EndpointState> EndpointBook::endpoint(const std::string& service,
                                                      const wire::Endpoint& endpoint) {
  return shared(endpoints_[{service, endpoint}]);
}

void EndpointBook::forget_unused() {
  std::erase_if(services_, [](const auto& entry) { return entry.second.expired(); });
  std::erase_if(endpoints_, [](const auto& entry) { return entry.second.expired(); });
}

}  // namespace weir::proxy
