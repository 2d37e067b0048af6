#include "l7/proxy/generation.h"

#include <algorithm>

namespace weir::proxy {

Result<TlsFiles> TlsFiles::load(const Snapshot& snapshot, tls::CertificateStore& store) {
  TlsFiles files;
  for (const Bind& bind : snapshot.binds) {
    files.binds.emplace_back();
    if (!bind.tls) continue;
    Result<tls::ServerFiles> loaded = tls::ServerFiles::load(bind.tls_options, store);
    if (!loaded) return std::move(loaded).error();
    files.binds.back() = std::move(*loaded);
  }
  return files;
}

Generation::Generation(std::shared_ptr<const Snapshot> snapshot)
    : snapshot_{std::move(snapshot)},
      contexts_(snapshot_->binds.size()),
      turns_(snapshot_->services.size(), 0),
      traffic_{*snapshot_} {}

std::unique_ptr<Generation> Generation::of_same_configuration(
    std::shared_ptr<const Snapshot> snapshot) {
  return std::unique_ptr<Generation>{new Generation{std::move(snapshot)}};
}

Result<std::unique_ptr<Generation>> Generation::create(std::shared_ptr<const Snapshot> snapshot) {
  tls::CertificateStore store;
  const Result<TlsFiles> files = TlsFiles::load(*snapshot, store);
  if (!files) return Error{files.error()};
  return create(std::move(snapshot), *files);
}

Result<std::unique_ptr<Generation>> Generation::create(std::shared_ptr<const Snapshot> snapshot,
                                                       const TlsFiles& files) {
  std::unique_ptr<Generation> generation{new Generation{std::move(snapshot)}};
  const Snapshot& compiled = generation->snapshot();
  const bool any_tls = std::any_of(compiled.binds.begin(), compiled.binds.end(),
                                   [](const Bind& bind) { return bind.tls; });
  if (!any_tls && compiled.trusts.empty()) return generation;
  Result<tls::Library> library = tls::Library::create();
  if (!library) return std::move(library).error();
  generation->library_ = *library;
  for (std::size_t i = 0; i < compiled.binds.size(); ++i) {
    if (!files.binds[i]) continue;
    Result<tls::ServerContext> context = tls::ServerContext::create(*files.binds[i], *library);
    if (!context) return std::move(context).error();
    generation->contexts_[i] = std::move(*context);
  }
  for (const UpstreamTrust& trust : compiled.trusts) {
    Result<tls::ClientContext> context =
        tls::ClientContext::create(trust.tls, {trust.h2 ? "h2" : "http/1.1"}, *library);
    if (!context) return std::move(context).error();
    generation->trusts_.push_back(std::move(*context));
  }
  library->leave_thread();  // this one may outlive the generation
  return generation;
}

}  // namespace weir::proxy
