#include "l7/proxy/mirror.h"

#include <algorithm>

#include "l4/base/assert.h"

namespace weir::proxy {

BodyPiece MirrorLeg::read(std::size_t most) {
  const auto rest = body_.bytes().subspan(taken_);
  if (rest.empty()) return {.state = BodyPiece::State::kEnd};
  const auto piece = rest.first(std::min(rest.size(), most));
  return {BodyPiece::State::kPayload, piece, piece.size(), true};
}

MirrorRequest* MirrorPool::take() {
  if (free_.empty()) {
    if (all_.size() == kMirrorsMax) return nullptr;
    free_.push_back(all_.emplace_back(std::make_unique<MirrorRequest>(buffers_)).get());
  }
  MirrorRequest* const mirror = free_.back();
  free_.pop_back();
  return mirror;
}

void MirrorPool::give_back(MirrorRequest& mirror) {
  mirror.rule = nullptr;
  mirror.body.clear();
  mirror.is_too_large = false;
  mirror.exchange = {};
  free_.push_back(&mirror);
}

MirrorRequest& MirrorPool::of(ExchangeId exchange) {
  const auto found =
      std::ranges::find_if(all_, [&](const auto& mirror) { return mirror->exchange == exchange; });
  WEIR_ASSERT(found != all_.end());  // it has one until it is given back
  return **found;
}

std::vector<ExchangeId> MirrorPool::under_way() const {
  std::vector<ExchangeId> ids;
  for (const auto& mirror : all_)
    if (mirror->exchange) ids.push_back(mirror->exchange);
  return ids;
}

}  // namespace weir::proxy
