#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "l7/http/message.h"

namespace weir::http::testing {

/// One request head and what the parser must say about it.
struct RequestVector {
  std::string_view name;  ///< a sentence; becomes the test's name
  std::string input;
  std::optional<Status> refusal;  ///< nothing: the head is complete (or not yet, see below)
  std::size_t left_over = 0;      ///< bytes at the end of the input that are not the head's
  bool incomplete = false;        ///< the input ends within the head
};

/// Shared by the parser's tests and the comparison with llhttp.
std::vector<RequestVector> request_vectors();

}  // namespace weir::http::testing
