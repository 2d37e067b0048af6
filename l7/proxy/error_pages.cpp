#include "l7/proxy/error_pages.h"

#include <algorithm>

#include "l7/http/characters.h"
#include "l7/http/semantics.h"

namespace weir::proxy {
namespace {

constexpr int kWhole = 1000;

/// The type without its parameters.
std::string_view essence(std::string_view type) {
  return http::trim_white_space(type.substr(0, type.find(';')));
}

/// "0.5" as 500; what is no qvalue counts as 1, so that nobody is refused for a slip.
int quality_of(std::string_view text) {
  if (text.size() < 2 || text[1] != '.') return text == "0" ? 0 : kWhole;
  if (text[0] != '0') return kWhole;
  int quality = 0;
  int unit = 100;
  for (const char digit : text.substr(2, 3)) {
    if (!http::is_digit(digit)) return kWhole;
    quality += unit * (digit - '0');
    unit /= 10;
  }
  return quality;
}

/// The weight of one element of Accept; parameters other than q are not compared.
int weight_of(std::string_view element) {
  for (std::size_t at = element.find(';'); at != std::string_view::npos;
       at = element.find(';', at + 1)) {
    const std::string_view parameter =
        http::trim_white_space(element.substr(at + 1, element.find(';', at + 1) - at - 1));
    if (parameter.starts_with("q=") || parameter.starts_with("Q="))
      return quality_of(parameter.substr(2));
  }
  return kWhole;
}

/// How exactly a range names a type: 3, 2 for its kind, 1 for anything, 0 not at all.
int exactness(std::string_view range, std::string_view type) {
  if (http::equals_ignoring_case(range, type)) return 3;
  if (range == "*/*") return 1;
  if (!range.ends_with("/*")) return 0;
  const std::string_view kind = range.substr(0, range.size() - 1);
  return http::equals_ignoring_case(kind, type.substr(0, kind.size())) ? 2 : 0;
}

bool covers(const ErrorPage& page, int status, bool by_class) {
  return std::ranges::any_of(page.statuses, [&](const control::StatusMatch& match) {
    return match.is_class() == by_class && match.covers(status);
  });
}

}  // namespace

int accepted_quality(const http::HeaderList& fields, std::string_view type) {
  int quality = 0;
  int best = 0;
  bool says = false;
  for (const http::Field field : fields.find_all("accept"))
    http::for_each_list_element(field.value, [&](std::string_view element) {
      says = true;
      const int exact = exactness(essence(element), essence(type));
      if (exact <= best) return;
      best = exact;
      quality = weight_of(element);
    });
  return says ? quality : kWhole;
}

ErrorPages::ErrorPages(const std::vector<ErrorPage>& pages) {
  if (!pages.empty()) pages_ = std::make_shared<const std::vector<ErrorPage>>(pages);
}

const ErrorPage* ErrorPages::find(int status, const http::HeaderList* fields) const {
  if (pages_ == nullptr || status < 400) return nullptr;
  for (const bool by_class : {false, true}) {
    const ErrorPage* found = nullptr;
    int liked = 0;
    for (const ErrorPage& page : *pages_) {
      if (!covers(page, status, by_class)) continue;
      const int quality = fields != nullptr ? accepted_quality(*fields, page.content_type) : kWhole;
      if (found != nullptr && quality <= liked) continue;
      found = &page;
      liked = quality;
    }
    if (found != nullptr) return found;
  }
  return nullptr;
}

}  // namespace weir::proxy
