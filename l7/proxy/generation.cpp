#include "l7/proxy/generation.h"

namespace weir::proxy {

Generation::Generation(std::shared_ptr<const Snapshot> snapshot)
    : snapshot_{std::move(snapshot)},
      contexts_(snapshot_->binds.size()),
      turns_(snapshot_->services.size(), 0) {}

Result<std::unique_ptr<Generation>> Generation::create(std::shared_ptr<const Snapshot> snapshot) {
  std::unique_ptr<Generation> generation{new Generation{std::move(snapshot)}};
  const std::vector<Bind>& binds = generation->snapshot().binds;
  for (std::size_t i = 0; i < binds.size(); ++i) {
    if (!binds[i].tls) continue;
    Result<tls::ServerContext> context = tls::ServerContext::create(binds[i].tls_options);
    if (!context) return std::move(context).error();
    generation->contexts_[i] = std::move(*context);
  }
  return generation;
}

}  // namespace weir::proxy
